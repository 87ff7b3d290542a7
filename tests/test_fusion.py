"""Combining two rankings: hand-computed values, limiting cases, and the choice of the weight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.eval.fusion import WEIGHTS, add_words, choose_weight, fuse_runs, weighted_runs
from helpers.eval.ranking import ranking

SCORES = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1), min_size=1)


def test_reciprocal_rank_fusion_by_hand():
    fused = fuse_runs({"q": {"a": 9.0, "b": 1.0}}, {"q": {"b": 0.2, "c": 0.1}})
    assert fused["q"] == pytest.approx({"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62})
    assert ranking(fused["q"]) == ["b", "a", "c"]


def test_the_best_word_score_counts_the_weight_and_others_their_share_of_it():
    added = add_words({"a": 0.5, "b": 0.4, "c": 0.1}, {"a": 1.0, "b": 4.0}, 0.2)
    assert added == pytest.approx({"a": 0.55, "b": 0.6, "c": 0.1})


@given(SCORES, SCORES)
def test_without_weight_or_words_the_cosines_stay(dense, words):
    assert add_words(dense, words, 0.0) == pytest.approx(dense)
    assert add_words(dense, dict.fromkeys(words, 0.0), 0.3) == dense


@given(SCORES, SCORES, st.floats(0.01, 1), st.floats(0.1, 100))
def test_the_unit_of_the_word_scores_does_not_matter(dense, words, weight, unit):
    scaled = {name: unit * score for name, score in words.items()}
    if max(words.values()) > 1e-6:
        assert add_words(dense, scaled, weight) == pytest.approx(add_words(dense, words, weight))


def test_the_smallest_of_the_best_weights_is_chosen():
    dense = {"q1": {"a": 0.62, "b": 0.50}, "q2": {"a": 0.50, "b": 0.30}}
    words = {"q1": {"b": 7.0}, "q2": {"a": 1.0, "b": 0.5}}
    chosen = choose_weight(dense, words, {"q1": {"b": 1}, "q2": {"a": 1}})
    # q1 turns where the weight exceeds .12, q2 never does
    assert chosen["weight"] == 0.15
    assert {row["weight"]: row["mrr@10"] for row in chosen["tried"]} == {
        weight: 1.0 if weight > 0.1 else 0.75 for weight in WEIGHTS
    }
    assert choose_weight(dense, words, {"q1": {"a": 1}, "q2": {"a": 1}})["weight"] == 0.0


def test_every_query_of_the_embedder_keeps_its_documents():
    dense = {"q1": {"a": 0.6}, "q2": {"a": 0.5, "b": 0.3}}
    joined = weighted_runs(dense, {"q2": {"b": 2.0}}, 0.5)
    assert joined == {"q1": {"a": 0.6}, "q2": {"a": 0.5, "b": 0.8}}
