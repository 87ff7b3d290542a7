"""Expected seconds of each notebook section and each step in it, and the pace of the machine they hold for.

The seconds of a profile were measured on one machine, which the comments name. Work that is not a
stored step (imports, reading the corpus, splits, baselines, figures) is a section's `outside_stages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from helpers.settings import Profile

PYTHON_STAGES = {  # limited by the interpreter and the sandbox, not by matrix products
    "track_a/exposure", "track_b/data", "track_b/references", "track_b/scored_before",
    "track_b/scored_after", "track_c/functions",
}  # fmt: skip
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


# The steps' seconds come from a full run on two cores of an AMD EPYC (metrics.json of 72e5b2c:
# `cost.seconds_by_stage`, `cost.controls_seconds`). In it, everything else took 38 of 1,286 seconds, and
# starting the kernel took another 10. track_b/data was measured apart, since it runs more programs than
# that run did: 281 seconds on two cores of an Intel Xeon, which are as fast in Python.
_CPU = (
    SectionSeconds("Setup", 10.0),
    SectionSeconds("Corpus and data card", 22.0, {"track_b/data": 281.0}),
    SectionSeconds(
        "Track A: extended pretraining",
        3.0,
        {
            "track_a/before": 21.6,
            "track_a/train": 275.8,
            "track_a/after": 21.8,
            "track_a/foreign": 303.8,
            "track_a/exposure": 1.0,
        },
    ),
    SectionSeconds(
        "Track B: instruction tuning",
        5.0,
        {
            "track_b/references": 3.0,
            "track_b/answers_before": 32.7,
            "track_b/scored_before": 1.8,
            "track_b/train": 103.0,
            "track_b/answers_after": 35.1,
            "track_b/scored_after": 3.2,
        },
    ),
    SectionSeconds(
        "Track C: embedding tuning",
        4.0,
        {
            "track_c/index_before": 9.9,
            "track_c/train": 187.7,
            "track_c/index_after": 10.3,
            "track_c/functions": 0.1,
            "track_c/hybrid": 2.6,
            "track_c/control_seed_*": 11.8,
            "track_c/control_shuffled_pairs": 37.0,
            "track_c/control_foreign_package": 10.3,
        },
    ),
    SectionSeconds("Error analysis", 1.0),
    SectionSeconds("Summary", 3.0),
)
# The sections' totals come from a smoke run on an idle machine. Their split among the steps, and the
# steps that the profile leaves out, come from runs on a busy Intel Xeon and are rough.
_SMOKE = (
    SectionSeconds("Setup", 8.0),
    SectionSeconds("Corpus and data card", 6.0, {"track_b/data": 9.0}),
    SectionSeconds(
        "Track A: extended pretraining",
        1.0,
        {
            "track_a/before": 2.5,
            "track_a/train": 6.0,
            "track_a/after": 2.5,
            "track_a/foreign": 9.0,
            "track_a/exposure": 0.4,
        },
    ),
    SectionSeconds(
        "Track B: instruction tuning",
        2.0,
        {
            "track_b/references": 0.5,
            "track_b/answers_before": 2.0,
            "track_b/scored_before": 0.3,
            "track_b/train": 2.0,
            "track_b/answers_after": 2.0,
            "track_b/scored_after": 0.3,
        },
    ),
    SectionSeconds(
        "Track C: embedding tuning",
        2.0,
        {
            "track_c/index_before": 0.5,
            "track_c/train": 3.0,
            "track_c/index_after": 0.5,
            "track_c/functions": 0.1,
            "track_c/hybrid": 0.2,
            "track_c/control_seed_*": 0.8,
            "track_c/control_shuffled_pairs": 3.0,
            "track_c/control_foreign_package": 8.0,
        },
    ),
    SectionSeconds("Error analysis", 0.5),
    SectionSeconds("Summary", 1.0),
)
# The repository has no full run on a T4: the tracks' totals are estimates, split among the steps in the
# proportions that `helpers.plan` gives for a T4. Making the pairs needs no GPU and takes as long as on
# two cores.
_T4 = (
    SectionSeconds("Setup", 30.0),
    SectionSeconds("Corpus and data card", 60.0, {"track_b/data": 280.0}),
    SectionSeconds(
        "Track A: extended pretraining",
        20.0,
        {
            "track_a/before": 35.0,
            "track_a/train": 420.0,
            "track_a/after": 35.0,
            "track_a/foreign": 435.0,
            "track_a/exposure": 5.0,
        },
    ),
    SectionSeconds(
        "Track B: instruction tuning",
        20.0,
        {
            "track_b/references": 8.0,
            "track_b/answers_before": 480.0,
            "track_b/scored_before": 20.0,
            "track_b/train": 180.0,
            "track_b/answers_after": 480.0,
            "track_b/scored_after": 20.0,
        },
    ),
    SectionSeconds(
        "Track C: embedding tuning",
        20.0,
        {
            "track_c/index_before": 10.0,
            "track_c/train": 170.0,
            "track_c/index_after": 10.0,
            "track_c/functions": 1.0,
            "track_c/hybrid": 10.0,
            "track_c/control_seed_*": 10.0,
            "track_c/control_shuffled_pairs": 35.0,
            "track_c/control_foreign_package": 14.0,
        },
    ),
    SectionSeconds("Error analysis", 10.0),
    SectionSeconds("Summary", 10.0),
)


@dataclass(frozen=True)
class Expected:
    """A profile's seconds and, for a CPU profile, the pace of the machine they were measured on."""

    sections: tuple[SectionSeconds, ...]
    pace: Pace | None = None


# The Intel Xeon's pace was measured. The AMD EPYC was not available, so its pace is inferred: 0.82 times
# the Xeon's in training, which is their ratio in scoring Track A's held-out tokens (21.6 s; 17.8 s,
# extrapolated from a ninth of them), and equal in Python, since reading the corpus took about as long.
CPU_PACE = Pace(training=250.0, python=3300.0)
SMOKE_PACE = Pace(training=305.0, python=3300.0)

EXPECTED = {
    "t4": Expected(_T4),
    "cpu": Expected(_CPU, CPU_PACE),
    "smoke": Expected(_SMOKE, SMOKE_PACE),
}


def expected_sections(profile: Profile) -> tuple[SectionSeconds, ...]:
    """Return the sections with the steps that `profile` includes, on the machine it is meant for."""
    tracks = {"track_a": profile.track_a, "track_c": profile.track_c}
    seeds = range(profile.seed, profile.seed + profile.track_c.seeds)

    def asked(stage: str) -> tuple[str, ...]:
        if stage.endswith("/control_seed_*"):
            return tuple(stage.replace("*", str(seed)) for seed in seeds) if len(seeds) > 1 else ()
        if stage in CONTROLS and not tracks[stage.split("/")[0]].controls:
            return ()
        return (stage,)

    return tuple(
        replace(
            section,
            stages={one: seconds for stage, seconds in section.stages.items() for one in asked(stage)},
        )
        for section in EXPECTED[profile.name].sections
    )


def minutes_expected(profile: Profile) -> float:
    """Return the minutes that the whole notebook takes on the machine `profile` is meant for."""
    return round(sum(section.seconds for section in expected_sections(profile)) / 60, 1)
