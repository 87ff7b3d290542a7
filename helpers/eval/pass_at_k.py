"""The unbiased pass@k estimator: the chance that one of k samples passes (Chen et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from helpers.eval.statistics import wilson_interval


def pass_at_k(n: int, c: int, k: int) -> float:
    """Return the probability that at least one of `k` samples drawn without replacement from `n` is right.

    `1 - C(n - c, k) / C(n, k)` (Chen et al. 2021, arXiv 2107.03374, eq. 1), in exact integers.

    Args:
        n: samples of the task.
        c: samples that passed.
        k: samples a user would draw.

    Raises:
        ValueError: for k > n, c > n, k < 1 or negative counts.
        TypeError: for numbers that are not whole.
    """
    for name, value in (("n", n), ("c", c), ("k", k)):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"{name} must be a whole number, not {value!r}")
    n, c, k = int(n), int(c), int(k)
    if n < 0 or c < 0 or k < 1:
        raise ValueError(f"pass@k needs n >= 0, c >= 0 and k >= 1, not n={n}, c={c}, k={k}")
    if c > n:
        raise ValueError(f"{c} of {n} samples cannot have passed")
    if k > n:
        raise ValueError(f"pass@{k} needs at least {k} samples, there are {n}")
    missed, ways = math.comb(n - c, k), math.comb(n, k)
    return (ways - missed) / ways


@dataclass(frozen=True)
class PassAtK:
    """Mean pass@k over tasks. `value` is None if a task has fewer than k samples; `reason` says so."""

    k: int
    value: float | None
    ci95: tuple[float, float] | None
    n_tasks: int
    reason: str = ""


def mean_pass_at_k(counts: Sequence[tuple[int, int]], k: int) -> PassAtK:
    """Return the mean of pass@k over tasks with a 95% Wilson interval.

    Tasks are the independent units: the interval is Wilson's for `n_tasks` trials, with the mean as the
    share of successes. It is exact in form for one sample per task and conservative for more.

    Args:
        counts: per task (samples, passed samples).
    """
    if not counts:
        return PassAtK(k, None, None, 0, "no task was scored")
    short = sum(n < k for n, _ in counts)
    if short:
        return PassAtK(k, None, None, len(counts), f"{short} of {len(counts)} tasks have under {k} samples")
    value = fmean(pass_at_k(n, c, k) for n, c in counts)
    interval = wilson_interval(min(value, 1.0) * len(counts), len(counts))
    return PassAtK(k, value, interval, len(counts))
