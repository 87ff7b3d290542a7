"""Time two programs in alternation, and decide whether one is faster by a given factor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import t as student

FEWEST, MOST = 5, 20  # pairs
LEVEL = 0.95


@dataclass(frozen=True)
class Ratio:
    """The geometric mean of the pairs' ratios, with its interval and the pairs behind it, in seconds."""

    value: float
    interval: tuple[float, float]
    pairs: tuple[tuple[float, float], ...]  # slow, fast


def ratio_of(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """Return how many times slower the first of each pair is, with a 95% interval.

    The interval is Student's over the logarithms of the pairs' ratios: pairs are independent, and what slows
    the machine for a while slows both of a pair.

    Raises:
        ValueError: for fewer than two pairs, or a time that is not positive and finite.
    """
    if len(pairs) < 2:
        raise ValueError(f"an interval needs at least two pairs, got {len(pairs)}")
    if not all(math.isfinite(seconds) and seconds > 0 for pair in pairs for seconds in pair):
        raise ValueError("a time is zero, negative or not a number")
    logs = [math.log(slow / fast) for slow, fast in pairs]
    half = float(student.ppf((1 + LEVEL) / 2, len(logs) - 1)) * stdev(logs) / math.sqrt(len(logs))
    middle = fmean(logs)
    return Ratio(math.exp(middle), (math.exp(middle - half), math.exp(middle + half)), tuple(pairs))


def time_pairs(run_pair: Callable[[int], tuple[float, float]], bar: float, most: int = MOST) -> Ratio:
    """Run pairs until the interval lies on one side of `bar`: at least `FEWEST`, at most `most`.

    Args:
        run_pair: runs pair number n, and returns the seconds of the slow and the fast program.
        bar: ratio to decide about.
        most: pairs after which the interval is taken as it is.
    """
    pairs = [run_pair(number) for number in range(FEWEST)]
    while True:
        ratio = ratio_of(pairs)
        low, high = ratio.interval
        if low >= bar or high < bar or len(pairs) >= most:
            return ratio
        pairs.append(run_pair(len(pairs)))
