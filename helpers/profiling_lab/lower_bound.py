"""How fast could it get? Operations and bytes of the numpy problem's last version, over measured rates."""

from __future__ import annotations

import runpy
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from helpers.profiling_lab.problem import Arrays, Problem

PASSES = 6  # over the images in double precision: blocks, rows, columns, deviation, steps across and down


@dataclass(frozen=True)
class Part:
    """One part of the work: what it must do at least, at which rate this machine does that, in seconds."""

    name: str
    amount: float
    unit: str
    rate: float  # amounts a second
    at_least_s: float


def measured_rates(repeats: int = 5) -> tuple[float, float]:
    """Return bytes a second that numpy reads in a sum, and elements a second that it sorts.

    Each is the best of `repeats`: a bound must not rest on a moment when the machine was busy.
    """
    block = np.ones(4 * 2**20)
    values = np.random.default_rng(0).random((100, 800), dtype=np.float32)
    read = block.nbytes / _best(lambda: block.sum(), repeats)
    ordered = values.size / _best(lambda: np.sort(values, axis=1), repeats)
    return read, ordered


def forest_bound(problem: Problem, reference: str = "vectorised") -> list[Part]:
    """Return the least time of the features and of the forest, for a forest that the reference grows.

    Each image is read once as bytes and `PASSES` times in double precision. On each level of a tree, every
    row that is still there is ordered by √76 features.
    """
    script = runpy.run_path(str(problem.folder / "references" / f"{reference}.py"), run_name="reference")
    data = problem.task.draw(1, problem.rows, 1)
    result, _ = script["train"](data, 1)
    read, ordered = measured_rates()
    moved = data["images"].size * (1 + 8 * PASSES)
    compared = sorted_rows(result) * int(len(result["mean"]) ** 0.5)
    return [
        Part("features: bytes read", moved, "bytes", read, moved / read),
        Part("forest: elements sorted", compared, "elements", ordered, compared / ordered),
    ]


def sorted_rows(result: Arrays) -> int:
    """Return the rows that pass through all inner nodes of a saved forest: those that a split had to sort."""
    return int(result["counts"][result["left"] >= 0].sum())


def _best(work: Callable[[], object], repeats: int) -> float:
    def once() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return min(once() for _ in range(repeats))
