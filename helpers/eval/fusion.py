"""Combine two rankings of the same documents, by rank or by weighted score.

Reciprocal rank fusion needs no setting but gives a weak ranking as much influence as a strong one. A
weighted sum of scores does better once a few judged queries have set the weight (Bruch, Gai & Ingber 2023,
"An analysis of fusion functions for hybrid retrieval", ACM TOIS 42).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helpers.eval.ranking import Qrels, Run, mean_scores, ranking, score_run

RRF_K = 60  # the constant of Cormack, Clarke & Büttcher (SIGIR 2009)
WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)  # of the normalised BM25 score, on the cosine scale
CHOSEN_AT = 10  # cut-off of the MRR that chooses the weight

Scores = Mapping[str, Mapping[str, float]]  # a read-only Run


def fuse_runs(*runs: Scores, k: int = RRF_K) -> Run:
    """Fuse by reciprocal rank: a document scores the sum over runs of 1 / (k + rank)."""
    fused: Run = {}
    for query_id in dict.fromkeys(query_id for run in runs for query_id in run):
        scores: dict[str, float] = {}
        for run in runs:
            for rank, document_id in enumerate(ranking(run.get(query_id, {})), 1):
                scores[document_id] = scores.get(document_id, 0.0) + 1.0 / (k + rank)
        fused[query_id] = scores
    return fused


def add_words(dense: Mapping[str, float], words: Mapping[str, float], weight: float) -> dict[str, float]:
    """Return cosine + `weight` * BM25 / (the query's best BM25) for every document of `dense`.

    >>> add_words({"a": 0.5, "b": 0.25}, {"a": 2.0, "b": 8.0}, 0.5)
    {'a': 0.625, 'b': 0.75}
    """
    best = max(words.values(), default=0.0)
    if best <= 0:
        return dict(dense)
    return {name: score + weight * words.get(name, 0.0) / best for name, score in dense.items()}


def weighted_runs(dense: Scores, words: Scores, weight: float) -> Run:
    """Apply `add_words` to every query of `dense`."""
    return {query: add_words(scores, words.get(query, {}), weight) for query, scores in dense.items()}


def choose_weight(
    dense: Scores, words: Scores, qrels: Qrels, weights: Sequence[float] = WEIGHTS
) -> dict[str, Any]:
    """Choose the weight with the best MRR@10 on these queries; of equals, the smallest.

    Returns:
        `weight`, and under `tried` the {"weight", "mrr@10"} of each candidate.
    """
    measure = f"mrr@{CHOSEN_AT}"
    tried = [
        {
            "weight": weight,
            measure: mean_scores(score_run(weighted_runs(dense, words, weight), qrels, CHOSEN_AT))[measure],
        }
        for weight in sorted(weights)
    ]
    return {"weight": max(tried, key=lambda row: row[measure])["weight"], "tried": tried}
