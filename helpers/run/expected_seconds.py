"""Expected seconds of each notebook section and each step in it, and the pace of the machine they hold for.

The seconds of a profile were measured on one machine, which the comments name. Work that is not a
stored step (imports, reading the corpus, splits, baselines, figures) is a section's `outside_stages`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from helpers.settings import Profile

PYTHON_STAGES = {  # limited by the interpreter and the sandbox, not by matrix products
    "track_a/exposure", "track_b/data", "track_b/references", "track_b/scored_before",
    "track_b/scored_after", "track_c/functions",
}  # fmt: skip
OPTIONAL: dict[str, Callable[[Profile], object]] = {  # stage -> whether the profile asks for it
    "track_a/before_float32": lambda profile: False,  # where the check of bfloat16 products fails
    "track_a/twin": lambda profile: profile.track_a.as_twin(),
    "track_a/completion": lambda profile: profile.completion.places,
    "track_b/rehearsal": lambda profile: profile.track_b.rehearsed_answers,
    "track_b/problems_before": lambda profile: profile.track_b.general_problems,
    "track_b/problems_after": lambda profile: profile.track_b.general_problems,
}
CONTROLS = {"track_a/foreign", "track_c/control_shuffled_pairs", "track_c/control_foreign_package"}


@dataclass(frozen=True)
class SectionSeconds:
    """One section: its heading, the seconds of its steps, and those outside them."""

    heading: str
    outside_stages: float
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Seconds of the whole section."""
        return self.outside_stages + sum(self.stages.values())


@dataclass(frozen=True)
class Pace:
    """How often per second a machine completes each of two fixed workloads."""

    training: float  # forward and backward pass of one small layer, as in the models of the CPU profiles
    python: float


# Seconds in the profiles cpu, smoke, t4 and laptop, each on the machine it is meant for.
#
# cpu and laptop: from whole runs on two quiet cores of an AMD EPYC that multiply bfloat16 at 865 GFLOP/s
# (laptop: exports/real/smollm2-135m-instruct.json; cpu: metrics.json). Steps that these runs left out, such
# as cpu's foreign training and scores in float32, are in proportion.
# smoke: the sections' totals come from a run on an idle machine. Their split among the steps, and the steps
# that the profile leaves out, come from runs on a busy Intel Xeon and are rough.
# t4: the repository has no full run on a T4. The tracks' totals are estimates, split among the steps in the
# proportions that `helpers.plan` gives. Making the pairs needs no GPU and takes as long as on two cores.
# The clean twin, the general problems and completion were timed in cpu and laptop alone: elsewhere their
# seconds are guesses.
_OUTSIDE_STAGES = {
    "Setup": (17.0, 17.0, 30.0, 17.0),
    "Corpus and data card": (21.0, 10.0, 60.0, 22.0),
    "Track A: extended pretraining": (2.0, 1.0, 20.0, 1.0),
    "Track B: instruction tuning": (7.0, 2.0, 20.0, 6.0),
    "Track C: embedding tuning": (11.0, 1.0, 20.0, 9.0),
    "Completion: tune, retrieve, or both?": (1.0, 0.5, 5.0, 1.0),
    "Error analysis": (1.0, 0.5, 10.0, 1.0),
    "Summary": (3.0, 1.0, 10.0, 3.0),
}
_STAGES = {
    "Corpus and data card": {
        "track_b/data": (181.0, 20.0, 346.0, 190.0),
        "track_b/rehearsal": (25.1, 2.1, 60.0, 26.6),
    },
    "Track A: extended pretraining": {
        "track_a/before": (55.1, 3.3, 35.0, 83.2),
        "track_a/before_float32": (150.0, 3.3, 35.0, 150.0),
        "track_a/train": (176.0, 5.5, 420.0, 540.0),
        "track_a/after": (56.3, 4.4, 35.0, 85.0),
        "track_a/foreign": (221.0, 6.0, 435.0, 639.0),
        "track_a/twin": (46.2, 3.3, 90.0, 108.0),
        "track_a/exposure": (14.5, 0.7, 5.0, 16.6),
    },
    "Track B: instruction tuning": {
        "track_b/references": (3.1, 0.7, 8.0, 2.9),
        "track_b/answers_before": (180.0, 2.6, 480.0, 217.0),
        "track_b/scored_before": (4.4, 0.8, 20.0, 5.4),
        "track_b/train": (438.0, 2.2, 145.0, 496.0),
        "track_b/answers_after": (136.0, 2.3, 480.0, 140.0),
        "track_b/scored_after": (4.1, 0.7, 20.0, 4.3),
        "track_b/problems_before": (17.0, 6.6, 60.0, 27.1),
        "track_b/problems_after": (14.1, 6.6, 60.0, 19.2),
    },
    "Track C: embedding tuning": {
        "track_c/index_before": (10.7, 1.4, 10.0, 10.7),
        "track_c/train": (127.0, 5.0, 170.0, 136.0),
        "track_c/index_after": (11.4, 1.4, 10.0, 10.7),
        "track_c/functions": (0.7, 0.5, 1.0, 0.6),
        "track_c/hybrid": (7.3, 1.1, 10.0, 7.3),
        "track_c/control_seed_*": (10.8, 0.5, 10.0, 11.8),
        "track_c/control_shuffled_pairs": (30.8, 2.0, 35.0, 32.8),
        "track_c/control_foreign_package": (10.1, 5.3, 14.0, 10.2),
    },
    "Completion: tune, retrieve, or both?": {"track_a/completion": (454.0, 7.6, 200.0, 1197.0)},
}


@dataclass(frozen=True)
class Expected:
    """A profile's seconds and, for a CPU profile, the pace of the machine they were measured on."""

    sections: tuple[SectionSeconds, ...]
    pace: Pace | None


def _column(place: int) -> tuple[SectionSeconds, ...]:
    """Return one profile's sections, from that place in the tuples above."""
    sections = []
    for heading, outside in _OUTSIDE_STAGES.items():
        stages = {stage: seconds[place] for stage, seconds in _STAGES.get(heading, {}).items()}
        sections.append(SectionSeconds(heading, outside[place], stages))
    return tuple(sections)


# The paces of the Xeon (smoke) and of the EPYC were measured.
EXPECTED = {
    "t4": Expected(_column(2), None),
    "cpu": Expected(_column(0), Pace(training=465.0, python=6000.0)),
    "laptop": Expected(_column(3), Pace(training=465.0, python=6000.0)),
    "smoke": Expected(_column(1), Pace(training=465.0, python=6000.0)),
}


def expected_sections(profile: Profile) -> tuple[SectionSeconds, ...]:
    """Return the sections with the steps that `profile` includes, on the machine it is meant for."""
    seeds = range(profile.seed, profile.seed + profile.track_c.seeds)

    def asked(stage: str) -> tuple[str, ...]:
        if stage.endswith("/control_seed_*"):
            return tuple(stage.replace("*", str(seed)) for seed in seeds) if len(seeds) > 1 else ()
        if stage in OPTIONAL:
            return (stage,) if OPTIONAL[stage](profile) else ()
        left_out = stage in CONTROLS and not getattr(profile, stage.split("/")[0]).controls
        return () if left_out else (stage,)

    return tuple(
        replace(section, stages={one: took for stage, took in section.stages.items() for one in asked(stage)})
        for section in EXPECTED[profile.name].sections
    )


def minutes_expected(profile: Profile) -> float:
    """Return the minutes that the whole notebook takes on the machine `profile` is meant for."""
    return round(sum(section.seconds for section in expected_sections(profile)) / 60, 1)
