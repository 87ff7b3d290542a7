"""Intervals and tests against hand-computed values, known tables and simulated coverage."""

import math

import numpy as np
import pytest

from helpers.eval.statistics import (
    Delta,
    bootstrap_mean,
    bootstrap_ratio,
    exact_mcnemar,
    paired_bootstrap,
    paired_ratio_bootstrap,
    proportion,
    verdict,
    wilson_interval,
)


def wilson_by_hand(successes, n, z=1.959963984540054):
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return centre - half, centre + half


@pytest.mark.parametrize(("successes", "n"), [(10, 20), (1, 7), (30, 60), (82, 164), (3, 164)])
def test_wilson_equals_its_formula(successes, n):
    assert wilson_interval(successes, n) == pytest.approx(wilson_by_hand(successes, n), abs=1e-12)


@pytest.mark.parametrize(("n", "points"), [(20, 0.20), (60, 0.12), (100, 0.096), (164, 0.076)])
def test_wilson_half_width_of_a_half(n, points):
    low, high = wilson_interval(n // 2, n)
    assert (high - low) / 2 == pytest.approx(points, abs=0.005)


def test_wilson_edges():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    low, high = wilson_interval(0, 50)
    assert low == 0.0
    assert high == pytest.approx(3.841458820694124 / 53.841458820694124)  # z² / (n + z²)
    assert wilson_interval(50, 50) == (pytest.approx(1 - high), 1.0)
    for bad in [(3, 2), (-1, 5), (0, -1)]:
        with pytest.raises(ValueError, match="successes"):
            wilson_interval(*bad)


def test_wilson_covers():
    """Exact coverage over the binomial distribution, p from .02 to .98, n = 60: no simulation."""
    from scipy.stats import binom

    n = 60
    intervals = [wilson_interval(k, n) for k in range(n + 1)]
    coverage = [
        sum(binom.pmf(k, n, p) for k, (low, high) in enumerate(intervals) if low <= p <= high)
        for p in np.linspace(0.02, 0.98, 49)
    ]
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.01)
    assert min(coverage) > 0.88


def test_proportion_counts_true_outcomes():
    estimate = proportion([True, False, True, True])
    assert (estimate.value, estimate.n) == (0.75, 4)
    assert estimate.ci95 == wilson_interval(3, 4)
    with pytest.raises(ValueError, match="at least one"):
        proportion([])


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    [
        (6, 0, 2 / 2**6),
        (5, 0, 2 / 2**5),
        (10, 2, 2 * (1 + 12 + 66) / 2**12),
        (9, 2, 2 * (1 + 11 + 55) / 2**11),
        (15, 5, 2 * (1 + 20 + 190 + 1140 + 4845 + 15504) / 2**20),
        (2, 10, 2 * (1 + 12 + 66) / 2**12),
        (4, 4, 1.0),
        (0, 0, 1.0),
    ],
)
@pytest.mark.parametrize("concordant", [0, 31])
def test_mcnemar_table(gained, lost, p_value, concordant):
    before = [False] * gained + [True] * lost + [True] * concordant
    after = [True] * gained + [False] * lost + [True] * concordant
    result = exact_mcnemar(before, after)
    assert (result.gained, result.lost) == (gained, lost)
    assert result.p_value == pytest.approx(p_value)
    assert (p_value < 0.05) == ((gained, lost) in {(6, 0), (10, 2), (15, 5), (2, 10)})


def test_mcnemar_needs_pairs():
    with pytest.raises(ValueError, match="pair up"):
        exact_mcnemar([True], [True, False])


def test_bootstrap_by_hand_on_two_items():
    """Two items 0 and 1: a resample's mean is 0, ½ or 1 with chances ¼, ½, ¼."""
    estimate = bootstrap_mean([0.0, 1.0], samples=4_000)
    assert estimate.value == 0.5
    assert estimate.ci95 == (0.0, 1.0)


def test_ratio_of_sums_is_weighted_by_size():
    """Bits per byte of 10 bits in 10 bytes and 60 bits in 30 bytes is 70 / 40, not a mean of ratios."""
    estimate = bootstrap_ratio([10, 60], [10, 30])
    assert estimate.value == 1.75
    assert estimate.ci95 == (1.0, 2.0)
    delta = paired_ratio_bootstrap([10, 60], [10, 30], [10, 30])
    assert delta.value == pytest.approx(40 / 40 - 70 / 40)


def test_perplexity_by_transform():
    nats, tokens = [2.0, 12.0, 7.0], [4, 8, 2]
    estimate = bootstrap_ratio(nats, tokens, transform=np.exp)
    assert estimate.value == pytest.approx(math.exp(21 / 14))
    delta = paired_ratio_bootstrap(nats, [n / 2 for n in nats], tokens, transform=np.exp)
    assert delta.value == pytest.approx(math.exp(10.5 / 14) - math.exp(21 / 14))


def test_resamples_with_nothing_to_divide_by_take_the_overall_ratio():
    estimate = bootstrap_ratio([1, 0, 0], [2, 0, 0], samples=500)
    assert estimate.value == 0.5
    assert estimate.ci95 == (0.5, 0.5)


def test_groups_move_together():
    """Items copied within their group add nothing: the interval stays that of the groups."""
    rng = np.random.default_rng(5)
    before, after = rng.random(30), rng.random(30)
    names = [f"f{i:02d}" for i in range(30)]
    alone = paired_bootstrap(before, after, groups=names, seed=3)
    copied = paired_bootstrap(np.repeat(before, 4), np.repeat(after, 4), groups=np.repeat(names, 4), seed=3)
    assert copied.value == pytest.approx(alone.value)
    assert copied.ci95 == pytest.approx(alone.ci95)
    assert copied.p_value == pytest.approx(alone.p_value)
    as_items = paired_bootstrap(np.repeat(before, 4), np.repeat(after, 4), seed=3)
    assert np.ptp(as_items.ci95) < 0.7 * np.ptp(alone.ci95)


def test_item_order_does_not_matter():
    rng = np.random.default_rng(6)
    before, after = rng.random(40), rng.random(40)
    groups = np.array([f"g{i % 13}" for i in range(40)])
    order = rng.permutation(40)
    first = paired_bootstrap(before, after, groups=groups, seed=1)
    second = paired_bootstrap(before[order], after[order], groups=groups[order], seed=1)
    assert first.ci95 == pytest.approx(second.ci95, rel=1e-12)
    assert first.p_value == second.p_value


def test_large_sample_agrees_with_the_normal_interval():
    """250 paired items: mean difference ± 1.96 standard errors, and the t test's p-value."""
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(11)
    before = rng.normal(0, 1, 250)
    after = before + rng.normal(0.08, 0.6, 250)
    delta = paired_bootstrap(before, after, samples=20_000)
    half = 1.96 * np.std(after - before, ddof=1) / math.sqrt(250)
    mean = np.mean(after - before)
    assert delta.ci95 == pytest.approx((mean - half, mean + half), abs=0.05 * half)
    assert delta.p_value == pytest.approx(ttest_rel(after, before).pvalue, abs=0.003)


def test_the_seed_determines_the_result():
    values = np.random.default_rng(0).random(50)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_chunking_does_not_change_the_resamples(monkeypatch):
    """The same resamples whether drawn at once or in pieces."""
    values = np.random.default_rng(0).random(20)
    whole = bootstrap_mean(values, samples=1000)
    monkeypatch.setattr("helpers.eval.statistics.CHUNK_CELLS", 100)
    assert bootstrap_mean(values, samples=1000).ci95 == pytest.approx(whole.ci95, rel=1e-12)


def test_nothing_changed():
    values = np.random.default_rng(2).random(37)
    delta = paired_bootstrap(values, values.copy())
    assert (delta.value, delta.ci95, delta.p_value) == (0.0, (0.0, 0.0), 1.0)
    assert verdict(delta, True) == "no_detectable_difference"


def test_p_value_is_never_zero():
    delta = paired_bootstrap(np.zeros(50), np.ones(50), samples=999)
    assert delta.p_value == pytest.approx(2 / 1000)
    assert "999 resamples of 50 groups" in delta.test


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_groups_prove_nothing(n):
    """Not even a unanimous change: the exact sign test of five is .0625."""
    delta = paired_bootstrap(np.zeros(n), np.ones(n))
    assert delta.p_value == pytest.approx(2 * 0.5**n)
    assert delta.ci95[0] == 0.0
    assert verdict(delta, True) == "no_detectable_difference"


def test_six_groups_can_show_a_difference():
    delta = paired_bootstrap(np.zeros(6), np.ones(6))
    assert delta.p_value == pytest.approx(2 / 64)
    assert verdict(delta, True) == "improved"


def test_one_group_has_no_width():
    assert bootstrap_mean([0.3]).ci95 == (0.3, 0.3)
    assert bootstrap_mean([0.3]).n == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [([], []), ([1.0], [1.0, 2.0]), ([1.0, math.nan], [1.0, 1.0]), ([1.0, math.inf], [1.0, 1.0])],
)
def test_bad_items_are_refused(before, after):
    with pytest.raises(ValueError, match=r"items|pair up|finite"):
        paired_bootstrap(before, after)


def test_bad_denominators_groups_and_samples_are_refused():
    with pytest.raises(ValueError, match="denominators"):
        bootstrap_ratio([1, 1], [0, 0])
    with pytest.raises(ValueError, match="denominators"):
        bootstrap_ratio([1, 1], [2, -1])
    with pytest.raises(ValueError, match="pair up"):
        bootstrap_mean([1, 2], groups=["a"])
    with pytest.raises(ValueError, match="samples"):
        bootstrap_mean([1, 2], samples=0)


@pytest.mark.parametrize(
    ("low", "high", "p_value", "higher_is_better", "expected"),
    [
        (0.1, 0.2, 0.01, True, "improved"),
        (0.1, 0.2, 0.01, False, "regressed"),
        (-0.2, -0.1, 0.01, False, "improved"),
        (-0.2, -0.1, 0.01, True, "regressed"),
        (-0.1, 0.2, 0.01, True, "no_detectable_difference"),
        (0.0, 0.2, 0.01, True, "no_detectable_difference"),
        (0.1, 0.2, 0.05, True, "no_detectable_difference"),
        (0.1, 0.2, 0.40, True, "no_detectable_difference"),
    ],
)
def test_verdict_needs_interval_and_p_value(low, high, p_value, higher_is_better, expected):
    assert verdict(Delta((low + high) / 2, (low, high), p_value, "any"), higher_is_better) == expected


@pytest.mark.parametrize("n_groups", [20, 50])
def test_intervals_cover_and_null_is_rarely_rejected(n_groups):
    """600 simulated experiments: skewed group effects, two items a group, true difference known."""
    rng = np.random.default_rng(7)
    covered = rejected = 0
    for trial in range(600):
        effect = rng.exponential(1.0, n_groups) - 1.0  # mean 0, skewed
        groups = np.repeat(np.arange(n_groups).astype(str), 2)
        before = rng.normal(0, 1, 2 * n_groups)
        after = before + np.repeat(effect, 2) + rng.normal(0, 0.2, 2 * n_groups)
        delta = paired_bootstrap(before, after, groups=groups, samples=600, seed=trial)
        covered += delta.ci95[0] <= 0.0 <= delta.ci95[1]
        rejected += verdict(delta, True) != "no_detectable_difference"
    assert 0.91 <= covered / 600 <= 0.98
    assert rejected / 600 <= 0.085


def test_bits_per_byte_interval_covers():
    """Files of very different size with one true rate: the ratio's interval finds it."""
    rng = np.random.default_rng(8)
    covered = 0
    for trial in range(400):
        size = rng.lognormal(8, 1, 40)
        bits = size * (1.2 + rng.normal(0, 0.15, 40))
        low, high = bootstrap_ratio(bits, size, samples=600, seed=trial).ci95
        covered += low <= 1.2 <= high
    assert 0.90 <= covered / 400 <= 0.985
