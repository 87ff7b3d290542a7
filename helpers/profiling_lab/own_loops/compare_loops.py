"""The command `python -m helpers profiling own-loops`: time both trainings of a track, score both results."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from helpers.errors import SuiteError
from helpers.machine.hardware import detect_runtime, hardware_facts
from helpers.profiling_lab.own_loops.forked_run import run_forked
from helpers.profiling_lab.own_loops.loop_data import LoopData, loop_profile, make_loop_data
from helpers.profiling_lab.own_loops.loops import LOOPS, Loop
from helpers.profiling_lab.pair_timing import MOST, Ratio, time_pairs
from helpers.run.folder import code_revision
from helpers.run.workspace import check_writable, write_json

RESULT = "own_loops.json"
EVEN = 1.0  # the ratio to decide about: is ours faster at all?


class OwnLoopsError(SuiteError, ValueError):
    """What is to be compared does not exist."""


@dataclass(frozen=True)
class LoopGrade:
    """One track's verdict.

    `speedup` is the library's processor seconds over ours, the geometric mean over the pairs, `interval` its
    95% interval. `ours` and `usual` are means of the figure over the pairs.
    """

    track: str
    library: str
    verdict: str  # "faster", "slower", "no difference shown" or "worse result"
    speedup: float
    interval: tuple[float, float]
    figure: str
    ours: float
    usual: float
    pairs: tuple[tuple[float, float], ...]  # processor seconds: the library's, ours
    scores: tuple[tuple[float, float], ...]  # the figure: the library's, ours


def compare_own_loops(out: Path, tracks: Sequence[str], most_pairs: int = MOST) -> list[LoopGrade]:
    """Compare the training of the named tracks, print a line each, write all to `exports/own_loops.json`.

    Args:
        out: folder that holds or gets `exports`.
        tracks: of "A", "B", "C".
        most_pairs: pairs after which an undecided ratio counts as no difference.

    Raises:
        OwnLoopsError: if there is no such track.
        ForkedRunError: if a training fails.
        WorkspaceError: if the result could not be written; nothing is trained then.
    """
    if unknown := sorted(set(tracks) - set("ABC")):
        raise OwnLoopsError(f"there is no track {', '.join(unknown)}: choose from A, B and C")
    check_writable(out / "exports" / RESULT)
    grades: list[LoopGrade] = []
    with tempfile.TemporaryDirectory(prefix="own-loops-") as name:
        folder = Path(name)
        facts = run_forked(lambda: hardware_facts(detect_runtime()), folder).value
        found = {"machine": f"{facts['name']}, one of {facts['cores']} cores", "commit": code_revision()}
        data = _loop_data(folder)
        for loop in LOOPS:
            if loop.track in tracks:
                grades.append(grade_loop(loop, data, folder, most_pairs))
                print(loop_line(grades[-1]), flush=True)
                write_json(out / "exports" / RESULT, found | {"grades": [asdict(grade) for grade in grades]})
    print(f"  {os.path.relpath(out / 'exports' / RESULT)}")
    return grades


def grade_loop(loop: Loop, data: LoopData, folder: Path, most_pairs: int = MOST) -> LoopGrade:
    """Time both trainings of one track in turn, each in a process of its own, and score what each saved."""
    scores: list[tuple[float, float]] = []

    def run_pair(number: int) -> tuple[float, float]:
        order = [("usual", loop.usual), ("ours", loop.ours)]
        seconds: dict[str, float] = {}
        figures: dict[str, float] = {}
        for way, train in order if number % 2 == 0 else order[::-1]:
            with tempfile.TemporaryDirectory(dir=folder) as name:
                trained = Path(name)
                seconds[way] = run_forked(partial(train, data, number, trained), trained).cpu_s
                figures[way] = run_forked(partial(loop.score, data, trained), trained).value
        scores.append((figures["usual"], figures["ours"]))
        return seconds["usual"], seconds["ours"]

    return judge_loop(loop, time_pairs(run_pair, EVEN, most_pairs), scores)


def judge_loop(loop: Loop, ratio: Ratio, scores: Sequence[tuple[float, float]]) -> LoopGrade:
    """Return the verdict: a result that is worse by more than the tolerance counts before any speed."""
    usual, ours = (fmean(figures) for figures in zip(*scores, strict=True))
    worse = ours - usual if loop.lower_is_better else usual - ours
    low, high = ratio.interval
    if not worse <= loop.tolerance:  # also where it is NaN
        verdict = "worse result"
    elif low > EVEN:
        verdict = "faster"
    else:
        verdict = "slower" if high < EVEN else "no difference shown"
    return LoopGrade(
        loop.track, loop.library, verdict, ratio.value, ratio.interval, loop.figure, ours, usual, ratio.pairs,
        tuple(scores),
    )  # fmt: skip


def loop_line(grade: LoopGrade) -> str:
    """State one verdict in a line."""
    low, high = grade.interval
    return (
        f"Track {grade.track}: {grade.verdict}; {grade.speedup:.1f} times as fast as {grade.library}'s "
        f"defaults (95% interval {low:.1f} to {high:.1f}, {len(grade.pairs)} pairs); {grade.figure} "
        f"{grade.ours:.3f}, library {grade.usual:.3f}"
    )


def _loop_data(folder: Path) -> LoopData:
    """Make the data in another process: its tokenizers start threads, which do not survive a fork."""
    path = folder / "data.pickle"
    run_forked(lambda: path.write_bytes(pickle.dumps(make_loop_data(loop_profile()))), folder)
    return pickle.loads(path.read_bytes())
