"""Retrieval measures over ranked lists, as trec_eval defines them.

A *run* maps query id -> {document id: score}; *qrels* map query id -> {document id: grade}. The measures
depend on scores and ids only, never on insertion order: ties are broken by document id, descending, as in
trec_eval. A scorer that gives every document the same score therefore gains nothing from the order in which
the documents were indexed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from helpers.eval.vector_index import RetrievalError

Run = dict[str, dict[str, float]]  # query id -> document id -> score, higher is better
Qrels = dict[str, dict[str, int]]  # query id -> document id -> grade; above 0 is relevant


def score_run(
    run: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, int]], k: int = 10
) -> dict[str, dict[str, float]]:
    """Score every query of `qrels` at cut-off `k`, as trec_eval does.

    `mrr@k` is 1 / rank of the first relevant document within k, else 0. `recall@k` divides by the
    number of relevant documents. `ndcg@k` sums the gain (the grade itself) over log2(rank + 1) and
    divides by the same sum for the best possible ranking of *all* judged documents, cut at k
    (Järvelin & Kekäläinen 2002, `ndcg_cut` in trec_eval). Documents are ranked by score, then by
    document id, both descending. Grades of 0 and below are not relevant and gain nothing.

    A query of `qrels` that `run` lacks scores 0, and so does one without relevant documents. A
    query of `run` that `qrels` lacks is not scored. A document whose id equals its query's is
    treated like any other.

    Returns:
        query id -> {"mrr@k": ..., "ndcg@k": ..., "recall@k": ...}, each in [0, 1].

    Raises:
        RetrievalError: if `k` is below 1 or a score is NaN.
    """
    if isinstance(k, bool) or k != int(k) or k < 1:
        raise RetrievalError(f"the cut-off k must be a whole number of at least 1, not {k!r}")
    scored = {}
    for query_id, grades in qrels.items():
        ranked = ranking(run.get(query_id, {}))[:k]
        gains = [max(0, grades.get(document_id, 0)) for document_id in ranked]
        ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
        first = next((rank for rank, gain in enumerate(gains, 1) if gain), None)
        scored[query_id] = {
            f"mrr@{k}": 1.0 / first if first else 0.0,
            f"ndcg@{k}": _discounted(gains) / _discounted(ideal[:k]) if ideal else 0.0,
            f"recall@{k}": sum(gain > 0 for gain in gains) / len(ideal) if ideal else 0.0,
        }
    return scored


def score_measures(
    run: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, float]]:
    """Compute the reported measures: `score_run` at 10, plus recall at 1 and 5."""
    scored = score_run(run, qrels, 10)
    for k in (1, 5):
        for query_id, row in score_run(run, qrels, k).items():
            scored[query_id][f"recall@{k}"] = row[f"recall@{k}"]
    return scored


def ranking(scores: Mapping[str, float]) -> list[str]:
    """Order document ids best first: by score, then by id, both descending (trec_eval's tie rule).

    Raises:
        RetrievalError: if a score is NaN, which cannot be ordered.
    """
    bad = [document_id for document_id, score in scores.items() if math.isnan(score)]
    if bad:
        raise RetrievalError(f"the score of document {bad[0]!r} is NaN; the model or index is broken")
    return sorted(scores, key=lambda document_id: (scores[document_id], document_id), reverse=True)


def _discounted(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def mean_scores(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Average each measure over queries; empty for no queries."""
    rows = list(scores.values())
    return {name: math.fsum(row[name] for row in rows) / len(rows) for name in rows[0]} if rows else {}


def first_relevant_ranks(
    run: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, int]]
) -> dict[str, int | None]:
    """Return, for each query of `qrels`, the 1-based rank of its first relevant document.

    The rank is None if the run lists no relevant document. For ranks over the whole corpus, the run must
    hold every document (`retrieve` without `depth`).
    """
    ranks: dict[str, int | None] = {}
    for query_id, grades in qrels.items():
        order = ranking(run.get(query_id, {}))
        ranks[query_id] = next((r for r, d in enumerate(order, 1) if grades.get(d, 0) > 0), None)
    return ranks
