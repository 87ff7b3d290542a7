"""Intervals and tests: how uncertain a figure is, and whether a change exceeds chance.

Every comparison is paired: the same items before and after. The bootstrap resamples the independent unit (a
file, a function, a query) with all its items, never single tokens or samples, because tokens of one file
and samples of one task are correlated.

All bootstrap functions here share these rules:

* Interval: 95% percentile bootstrap (Efron & Tibshirani 1993, ch. 13). Plain percentiles are too narrow
  for few groups, so each tail is cut at `Φ(−sqrt(G / (G − 1)) t(.975, G − 1))` for G groups instead of
  2.5% (Hesterberg 2015, "expanded percentile"): 2.3% at G = 100, 1.6% at G = 20.
* Two-sided p-value: with B resamples of the difference, `min(1, 2 (b + 1) / (B + 1))`, where b is
  the number of resamples at or below zero, or at or above it, whichever is smaller (Davison & Hinkley
  1997, eq. 4.11, doubled). It is never 0.
* Few groups: with G groups, even a unanimous change has an exact two-sided sign test of at least
  `2 · 0.5**G`, so p is never reported below that. Where this floor is above .05 (G < 6), the interval
  of a difference is also widened to include zero: five files cannot prove anything.
* One group: the interval of a single value collapses onto the value; read it with its `n` of 1.
* No items, unequal lengths, NaN or infinity: ValueError.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import binomtest, norm, t
from statsmodels.stats.proportion import proportion_confint

Verdict = Literal["improved", "no_detectable_difference", "regressed"]

ALPHA = 0.05
ROUNDING = 1e-12  # relative; a smaller difference is summation noise
CHUNK_CELLS = 4_000_000  # resample counts held at once: 32 MB


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval; `n` counts the items it was computed from."""

    value: float
    ci95: tuple[float, float]
    n: int


@dataclass(frozen=True)
class Delta:
    """After minus before, with its 95% interval, two-sided p-value and the name of the test."""

    value: float
    ci95: tuple[float, float]
    p_value: float
    test: str


@dataclass(frozen=True)
class McNemarResult:
    """Discordant pairs of a before/after pass/fail comparison and the exact two-sided p-value."""

    gained: int  # failed before, passed after
    lost: int  # passed before, failed after
    p_value: float


def wilson_interval(successes: float, n: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a proportion (Wilson 1927); (0, 1) for `n == 0`.

    Raises:
        ValueError: unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n, got {successes} of {n}")
    if n == 0:
        return 0.0, 1.0
    low, high = proportion_confint(successes, n, alpha=ALPHA, method="wilson")
    # at 0 of n and n of n rounding leaves 1e-18 where the formula gives exactly 0 and 1
    return (0.0 if successes == 0 else float(low)), (1.0 if successes == n else float(high))


def proportion(outcomes: Sequence[bool]) -> Estimate:
    """Return the share of true outcomes with its Wilson interval.

    Raises:
        ValueError: if there are no outcomes.
    """
    if len(outcomes) == 0:
        raise ValueError("a proportion needs at least one outcome")
    n, successes = len(outcomes), sum(map(bool, outcomes))
    return Estimate(successes / n, wilson_interval(successes, n), n)


def exact_mcnemar(before: Sequence[bool], after: Sequence[bool]) -> McNemarResult:
    """Test whether gains and losses among the changed items are equally likely (exact McNemar test).

    Two-sided binomial test of `gained` out of `gained + lost` at one half (McNemar 1947); p is 1 if
    nothing changed. p first falls below .05 at 6-0, 10-2 or 15-5 discordant pairs.
    """
    if len(before) != len(after):
        raise ValueError(f"before and after must pair up, got {len(before)} and {len(after)} items")
    gained = sum(bool(a) and not b for b, a in zip(before, after, strict=True))
    lost = sum(bool(b) and not a for b, a in zip(before, after, strict=True))
    p_value = float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    return McNemarResult(gained, lost, min(1.0, p_value))


def bootstrap_mean(values: Sequence[float], **options: Any) -> Estimate:
    """Return the mean over items, with the options of `bootstrap_ratio`."""
    return bootstrap_ratio(values, np.ones(len(values)), **options)


def paired_bootstrap(before: Sequence[float], after: Sequence[float], **options: Any) -> Delta:
    """Return the mean difference, after − before, over the same items (options as in `bootstrap_ratio`)."""
    return paired_ratio_bootstrap(before, after, np.ones(len(before)), **options)


def paired_share(before: Sequence[bool], after: Sequence[bool], **options: Any) -> Delta:
    """Return the difference of two shares of the same items: interval by bootstrap, p by McNemar's test.

    Options as in `bootstrap_ratio`.
    """
    interval = paired_bootstrap(before, after, **options)
    test = exact_mcnemar(before, after)
    name = f"exact McNemar, {test.gained} to {test.lost} discordant; interval by {interval.test}"
    return Delta(interval.value, interval.ci95, test.p_value, name)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm (1979): calling those below .05 real errs at all in 5% of cases.

    statsmodels' own collects garbage at every call, half a second once torch is loaded.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted.tolist()


def bootstrap_ratio(
    numerator: Sequence[float],
    denominator: Sequence[float] | np.ndarray,
    *,
    groups: Sequence[str] | None = None,
    transform: Callable[[np.ndarray], np.ndarray] = np.asarray,
    samples: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """Return `transform(sum(numerator) / sum(denominator))`; the interval resamples groups.

    Bits per byte is the sum of bits over the sum of bytes; perplexity is `np.exp` of the sum of nats over
    the sum of tokens. `n` is the number of items.

    Args:
        numerator, denominator: one value per item, same order.
        groups: the independent unit that each item belongs to (file, function, query). Units are
            resampled with all their items. Default: the item.
        samples: resamples drawn; 10,000 x 250 groups take about 0.2 s.
        seed: seed of numpy's default generator; the same seed gives the same interval.

    Raises:
        ValueError: for no items, unequal lengths, NaN or infinity.
    """
    numerators, denominators = _group_sums(groups, numerator, denominator)
    value = transform(numerators.sum() / denominators.sum())
    (resampled,) = _resampled_ratios([(numerators, denominators)], samples, seed)
    return Estimate(float(value), _interval(transform(resampled), len(numerators)), len(numerator))


def paired_ratio_bootstrap(
    numerator_before: Sequence[float],
    numerator_after: Sequence[float],
    denominator: Sequence[float] | np.ndarray,
    *,
    groups: Sequence[str] | None = None,
    transform: Callable[[np.ndarray], np.ndarray] = np.asarray,
    samples: int = 10_000,
    seed: int = 0,
) -> Delta:
    """Return the difference of two ratios of sums, after − before (options as in `bootstrap_ratio`)."""
    sums = _group_sums(groups, numerator_before, denominator, numerator_after, denominator)
    first, second = sums[:2], sums[2:]
    value_before, value_after = (transform(n.sum() / d.sum()) for n, d in (first, second))
    before, after = (transform(ratios) for ratios in _resampled_ratios([first, second], samples, seed))
    differences = after - before
    # equal items must give exactly zero, in whatever order a matrix product summed them
    differences[np.abs(differences) <= ROUNDING * np.abs(before)] = 0.0
    fewer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    n_groups = len(first[0])
    low, high = _interval(differences, n_groups)
    floor = 2 * 0.5**n_groups
    if floor >= ALPHA:
        low, high = min(low, 0.0), max(high, 0.0)
    p_value = min(1.0, max(2 * (fewer + 1) / (samples + 1), floor))
    name = f"paired bootstrap, {samples} resamples of {n_groups} groups"
    return Delta(float(value_after - value_before), (low, high), p_value, name)


def verdict(delta: Delta, higher_is_better: bool) -> Verdict:
    """Say what may be claimed: a direction only if the interval excludes zero **and** p < .05.

    Both are required because they can come from different tests: for pass@1 the interval resamples
    functions while p is McNemar's over tasks. Either alone can mislead: McNemar's test when one function
    has several tasks, the bootstrap when there are few discordant pairs.
    """
    low, high = delta.ci95
    if delta.p_value >= ALPHA or low <= 0.0 <= high:
        return "no_detectable_difference"
    return "improved" if (low > 0.0) == higher_is_better else "regressed"


def _interval(resampled: np.ndarray, n_groups: int) -> tuple[float, float]:
    """Return the expanded percentile interval; with one group its tails are empty."""
    tail = 0.0
    if n_groups > 1:
        tail = norm.cdf(-np.sqrt(n_groups / (n_groups - 1)) * t.ppf(1 - ALPHA / 2, n_groups - 1))
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def _group_sums(groups: Sequence[str] | None, *columns: Sequence[float] | np.ndarray) -> list[np.ndarray]:
    """Check the columns (numerator, denominator, ...) and sum each within groups, in order of group names."""
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    lengths = {len(array) for array in arrays} | ({len(groups)} if groups is not None else set())
    if len(lengths) != 1:
        raise ValueError(f"items must pair up, got columns of lengths {sorted(lengths)}")
    if not arrays[0].size:
        raise ValueError("there are no items to compute a figure from")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("values must be finite; NaN or infinity found")
    if any((array < 0).any() or array.sum() <= 0 for array in arrays[1::2]):
        raise ValueError("denominators must not be negative and not all zero")
    if groups is None:
        return arrays
    _, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    return [np.bincount(index, weights=array) for array in arrays]


def _resampled_ratios(pairs: Sequence[Sequence[np.ndarray]], samples: int, seed: int) -> list[np.ndarray]:
    """Return the resampled ratio of sums of each (numerator, denominator), over the same `samples` resamples.

    A resample is a row of counts, so one matrix product sums over it. If a resample drew only groups
    with a zero denominator, it has no ratio of its own and gets the overall one.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    n_groups = len(pairs[0][0])
    stacked = np.stack([column for pair in pairs for column in pair], axis=1)  # (groups, 2 * pairs)
    if n_groups * samples <= CHUNK_CELLS:
        sums = _all_counts(n_groups, samples, seed) @ stacked
    else:
        sums = np.concatenate([counts @ stacked for counts in _counts(n_groups, samples, seed)])
    totals = stacked.sum(axis=0)
    ratios = []
    for column in range(0, stacked.shape[1], 2):
        fallback = np.full(samples, totals[column] / totals[column + 1])
        below = sums[:, column + 1]
        ratios.append(np.divide(sums[:, column], below, out=fallback, where=below > 0))
    return ratios


def _counts(n_groups: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each group is drawn: float rows of n_groups draws, `samples` rows in chunks."""
    rng = np.random.default_rng(seed)
    shares = np.full(n_groups, 1 / n_groups)
    rows = max(1, CHUNK_CELLS // n_groups)
    for start in range(0, samples, rows):
        yield rng.multinomial(n_groups, shares, size=min(rows, samples - start)).astype(np.float64)


@functools.lru_cache(maxsize=2)
def _all_counts(n_groups: int, samples: int, seed: int) -> np.ndarray:
    """Return all rows of `_counts` at once, cached: all metrics of a track resample the same groups."""
    return np.concatenate(list(_counts(n_groups, samples, seed)))
