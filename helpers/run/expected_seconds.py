"""How long each section of the notebook and each step in it takes, and how fast a machine is beside that.

The seconds of a profile were measured on one machine, named beside them. Whatever is no step that the
run keeps (imports, reading the corpus, splits, baselines, figures) is the section's `beside`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from helpers.settings import Profile

PYTHON_STAGES = {  # wait for the interpreter and the sandbox, not for matrix products
    "track_a/exposure", "track_b/data", "track_b/references", "track_b/scored_before",
    "track_b/scored_after", "track_c/functions",
}  # fmt: skip
CONTROLS = {"track_a/foreign", "track_c/control_shuffled_pairs", "track_c/control_foreign_package"}


@dataclass(frozen=True)
class SectionSeconds:
    """One section: its heading, its steps, and what it takes beside them."""

    heading: str
    outside_stages: float
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.outside_stages + sum(self.stages.values())


@dataclass(frozen=True)
class Pace:
    """How often a machine does two fixed workloads in a second."""

    training: float  # forward and backward through one small layer, as a model of a CPU profile has it
    python: float


# The steps' seconds are those of the committed full run (metrics.json of 72e5b2c, two cores of an AMD
# EPYC: `cost.seconds_by_stage`, `cost.controls_seconds`), in which all else took 38 of 1,286 seconds, and
# starting the kernel 10 more.
_CPU = (
    SectionSeconds("Setup", 10.0),
    SectionSeconds("Corpus and data card", 22.0, {"track_b/data": 155.5}),
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
# The sections' totals are those of a smoke run with nothing beside it. Their shares among the steps, and the
# steps that the profile does not ask for, come from runs on a busy Intel Xeon and are rough.
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
# No full run on a T4 stands in the repository: the totals of the tracks are estimates, shared out among the
# steps as `helpers.plan` weighs them at a T4's speeds. Making the pairs needs no GPU and takes what it takes
# on two cores.
_T4 = (
    SectionSeconds("Setup", 30.0),
    SectionSeconds("Corpus and data card", 60.0, {"track_b/data": 150.0}),
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
    """A profile's seconds, and the pace of the machine they were measured on if it computes on a CPU."""

    sections: tuple[SectionSeconds, ...]
    pace: Pace | None = None


# The Intel Xeon's pace was measured. The AMD EPYC was not at hand: it is taken to train at 0.82 times that
# pace, as the two compare in scoring Track A's held-out tokens (21.6 s; 17.8 s, from a ninth of them), and to
# be as fast in Python, since reading the corpus took about as long.
CPU_PACE = Pace(training=250.0, python=3300.0)
SMOKE_PACE = Pace(training=305.0, python=3300.0)

EXPECTED = {
    "t4": Expected(_T4),
    "cpu": Expected(_CPU, CPU_PACE),
    "smoke": Expected(_SMOKE, SMOKE_PACE),
}


def expected_sections(profile: Profile) -> tuple[SectionSeconds, ...]:
    """Seconds of the steps that `profile` asks for, on the machine that it is meant for."""
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
    """Return the minutes that the whole notebook takes on the machine that `profile` is meant for."""
    return round(sum(section.seconds for section in expected_sections(profile)) / 60, 1)
