"""pass@k against full enumeration and hand-computed values."""

import itertools

import numpy as np
import pytest

from helpers.eval.pass_at_k import mean_pass_at_k, pass_at_k


def test_equals_enumeration_of_all_draws():
    for n in range(1, 8):
        for c in range(n + 1):
            for k in range(1, n + 1):
                draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
                assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-15)


def test_known_values():
    assert pass_at_k(5, 1, 1) == 0.2
    assert pass_at_k(5, 1, 3) == 0.6
    assert pass_at_k(10, 0, 3) == 0.0
    assert pass_at_k(10, 8, 3) == 1.0
    assert pass_at_k(2000, 1, 1000) == 0.5
    assert pass_at_k(np.int64(4), np.int64(2), 2) == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("n", "c", "k"), [(2, 1, 3), (2, 3, 1), (-1, 0, 1), (3, -1, 1), (3, 1, 0), (3, 1, -2), (0, 0, 1)]
)
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(ValueError, match=r"pass@|passed"):
        pass_at_k(n, c, k)


def test_fractions_are_refused():
    with pytest.raises(TypeError, match="whole number"):
        pass_at_k(5, 2.5, 1)


def test_mean_with_wilson_interval_over_tasks():
    score = mean_pass_at_k([(1, 1)] * 8 + [(1, 0)] * 2, 1)
    assert score.value == 0.8
    assert score.ci95 == pytest.approx((0.4901625, 0.9433178), abs=1e-6)  # Wilson, 8 of 10
    assert score.n_tasks == 10


def test_too_few_samples_give_a_reason_instead_of_a_value():
    score = mean_pass_at_k([(3, 1), (1, 1)], 2)
    assert score.value is None
    assert score.ci95 is None
    assert "1 of 2 tasks" in score.reason
    assert mean_pass_at_k([], 1).value is None
