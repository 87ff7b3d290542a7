"""Profile a slow script in this process: who called what for how long, as a tree that can be drawn."""

from __future__ import annotations

import contextlib
import cProfile
import io
import pstats
import runpy
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from helpers.profiling_lab.problem import Problem

LEAST = 0.01  # share of the whole below which a call is left out
DEEPEST = 6


@dataclass(frozen=True)
class Frame:
    """One call in the tree: where it starts and how wide it is, as shares of the whole."""

    name: str
    depth: int
    start: float
    width: float


def profile_slow_training(problem: Problem, rows: int, seed: int = 1) -> pstats.Stats:
    """Return cProfile's statistics of the slow script's `train` on `rows` examples, run in this process."""
    slow = runpy.run_path(str(problem.baseline), run_name="slow_script")
    data = problem.task.draw(seed, rows, seed)
    profile = cProfile.Profile()
    with contextlib.redirect_stdout(io.StringIO()):
        profile.runcall(slow["train"], data, seed)
    return pstats.Stats(profile)


def call_tree(stats: pstats.Stats, root: str = "train") -> list[Frame]:
    """Return the frames below the function `root`, each as wide as its share of the root's time.

    cProfile keeps pairs of caller and callee, not whole stacks: the time of a function with several callers
    is divided by those pairs, and a recursion is drawn once.
    """
    entries: dict[Any, Any] = stats.stats  # type: ignore[attr-defined]
    below: dict[Any, list[tuple[Any, float]]] = {}
    for callee, (_, _, _, _, callers) in entries.items():
        for caller, (_, _, _, cumulative) in callers.items():
            below.setdefault(caller, []).append((callee, cumulative))
    first = next(key for key in entries if key[2] == root)
    frames: list[Frame] = []

    def add(key: Any, start: float, width: float, path: tuple[Any, ...]) -> None:
        frames.append(Frame(_name(key), len(path), start, width))
        own = entries[key][3] or 1.0
        for callee, seconds in sorted(below.get(key, ()), key=lambda pair: -pair[1]):
            part = width * seconds / own
            if part >= LEAST and callee not in path and callee != key and len(path) < DEEPEST:
                add(callee, start, part, (*path, key))
                start += part

    add(first, 0.0, 1.0, ())
    return frames


def _name(key: tuple[str, int, str]) -> str:
    file, _, name = key
    return name if file == "~" or PurePath(file).name == "baseline.py" else f"{Path(file).stem}.{name}"


def operator_rows(problem: Problem, rows: int, seed: int = 1, most: int = 8) -> list[dict[str, Any]]:
    """Return torch.profiler's costliest operators of the slow script's `train` on `rows` examples."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    slow = runpy.run_path(str(problem.baseline), run_name="slow_script")
    data = problem.task.draw(seed, rows, seed)
    quiet = contextlib.redirect_stdout(io.StringIO())  # it prints every epoch
    with torch.random.fork_rng(), profile(activities=[ProfilerActivity.CPU]) as traced, quiet:
        slow["train"](data, seed)
    events = sorted(traced.key_averages(), key=lambda event: -event.self_cpu_time_total)
    return [
        {"Operator": event.key, "Calls": event.count,
         "Own time (ms)": round(event.self_cpu_time_total / 1000, 1),
         "Per call (µs)": round(event.self_cpu_time_total / event.count, 1)}
        for event in events[:most]
    ]  # fmt: skip
