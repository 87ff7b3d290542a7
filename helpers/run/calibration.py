"""How long a run takes on this machine: a profile's expected seconds, calibrated.

The calibration uses the seconds that earlier runs here recorded, or else a measurement of half a second.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from helpers.run.earlier_runs import kept_stages, recorded_seconds
from helpers.run.expected_seconds import EXPECTED, PYTHON_STAGES, Pace, SectionSeconds, expected_sections
from helpers.run.stage_names import stage_kind
from helpers.run.time_left import TimeLeft
from helpers.settings import Profile

CALIBRATION_S = 0.25  # for each of the two workloads
ENOUGH_RECORDED = 0.1  # share of the time of similar steps that must be recorded to scale the rest


def estimate_here(profile: Profile, run_folder: Path, *, resume: bool) -> tuple[TimeLeft, str]:
    """Estimate the time that a run of `profile` in `run_folder` needs here, and say in words from what."""
    sections = expected_sections(profile)
    stages = [stage for section in sections for stage in section.stages]
    recorded = recorded_seconds(run_folder, profile, stages)
    pace = EXPECTED[profile.name].pace
    here = measured_pace() if pace and not torch.cuda.is_available() else None
    kept = kept_stages(run_folder, profile, stages, resume=resume)
    if recorded:
        why = "as earlier runs here took"
    else:
        why = "on this machine" if here else "on the machine it is meant for"
    if kept:
        why += f", {len(kept)} of {len(stages)} steps are kept from before"
    return TimeLeft(scaled(sections, pace=pace, recorded=recorded, here=here), kept), why


def minutes_text(seconds: float) -> str:
    """Format seconds as minutes for people, or as seconds below one minute.

    >>> minutes_text(45.2), minutes_text(100), minutes_text(1285)
    ('45 s', '1.7 min', '21 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 600 else f"{seconds / 60:.0f} min"


def scaled(
    sections: Sequence[SectionSeconds], *, pace: Pace | None, recorded: Mapping[str, float], here: Pace | None
) -> tuple[SectionSeconds, ...]:
    """Scale the seconds of `sections` to this machine.

    Args:
        sections: expected seconds on the machine that a profile is meant for.
        pace: pace of the machine that these seconds were measured on.
        recorded: step (`stage_kind`) -> seconds that it took on this machine before. These are used as
            they are, and their ratio to `sections` scales similar steps.
        here: this machine's pace, used if too little is recorded.
    """
    expected = {stage: took for section in sections for stage, took in section.stages.items()}
    known = {stage: recorded[stage_kind(stage)] for stage in expected if stage_kind(stage) in recorded}

    def ratio(stages: set[str], otherwise: float) -> float:
        """Return seconds here per expected second, over steps that are limited by the same thing."""
        known_expected = sum(expected[stage] for stage in stages & known.keys())
        if not known_expected or known_expected < ENOUGH_RECORDED * sum(expected[stage] for stage in stages):
            return otherwise
        return sum(known[stage] for stage in stages & known.keys()) / known_expected

    by_pace = (pace.training / here.training, pace.python / here.python) if pace and here else (1.0, 1.0)
    training = ratio(expected.keys() - PYTHON_STAGES, by_pace[0])
    python = ratio(expected.keys() & PYTHON_STAGES, by_pace[1])
    scale = {stage: python if stage in PYTHON_STAGES else training for stage in expected}
    here_s = {stage: known.get(stage, took * scale[stage]) for stage, took in expected.items()}
    return tuple(
        replace(
            section,
            outside_stages=section.outside_stages * python,
            stages={stage: here_s[stage] for stage in section.stages},
        )
        for section in sections
    )


def measured_pace() -> Pace:
    """Measure this machine's pace in half a second: one core, fastest repetition.

    Other load on the machine delays single repetitions, and all of them if two cores wait for each other.
    """
    layer = torch.nn.Sequential(
        torch.nn.Linear(256, 768), torch.nn.GELU(), torch.nn.Linear(768, 256), torch.nn.LayerNorm(256)
    )
    rows = torch.linspace(-1, 1, 64 * 256).reshape(64, 256)

    def training() -> None:
        for lower in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=lower):
                layer(rows).float().square().mean().backward()

    def python() -> None:
        counts: dict[int, int] = {}
        for number in range(2000):
            counts[number % 97] = counts.get(number % 97, 0) + len(str(number))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return Pace(_fastest(training), _fastest(python))
    finally:
        torch.set_num_threads(threads)


def _fastest(work: Callable[[], None]) -> float:
    """Return how often `work` runs per second, judged by its fastest repetition."""
    work()
    least, end = math.inf, time.perf_counter() + CALIBRATION_S
    while (start := time.perf_counter()) < end:
        work()
        least = min(least, time.perf_counter() - start)
    return 1 / least
