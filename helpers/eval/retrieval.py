"""Dense retrieval: encode documents and queries, search, and build the rows that are kept and shown.

The measures live in `helpers.eval.ranking` and the vector store in `helpers.eval.vector_index`; both are
re-exported here. Lexical search is in `helpers.eval.lexical`, and the combination of both in
`helpers.eval.fusion`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from sentence_transformers import SentenceTransformer

from helpers.data.queries.documents import short_form
from helpers.data.queries.wording import FILLER_WORDS, stem, words_of
from helpers.eval.lexical import search_terms
from helpers.eval.ranking import (
    Qrels,
    Run,
    first_relevant_ranks,
    mean_scores,
    ranking,
    score_measures,
    score_run,
)
from helpers.eval.vector_index import (
    RetrievalError,
    VectorIndex,
    build_index,
    compare_kinds,
    load_index,
    nearest,
    save_index,
    vectors_of,
)
from helpers.machine.hardware import Runtime
from helpers.machine.usage import stopwatch
from helpers.models.embedder import encode
from helpers.records import Document, Query

__all__ = [
    "Qrels", "RetrievalError", "Run", "VectorIndex", "build_index", "compare_kinds", "file_level",
    "first_relevant_ranks", "index_documents", "index_facts", "load_index", "mean_scores", "nearest",
    "per_query_rows", "qrels_of", "query_groups", "ranking", "retrieve", "save_index", "score_measures",
    "score_run", "search_examples", "word_overlap",
]  # fmt: skip

TIMED_QUERIES = 30  # timed one by one, as a person would search


# --- queries and judgements ----------------------------------------------------------------------


def qrels_of(queries: Sequence[Query]) -> Qrels:
    """Collect the relevance judgements that the queries carry."""
    return {query.id: dict(query.relevant) for query in queries}


def file_level(
    run: Mapping[str, Mapping[str, float]], queries: Sequence[Query], documents: Sequence[Document]
) -> tuple[Run, Qrels]:
    """Collapse a run to files: a file scores as its best function and is relevant if it holds an answer.

    Use it for "where is ..." queries, which ask for a file. Pass the result to `score_run`.
    """
    path_of = {document.id: document.path for document in documents}
    files: Run = {query.id: {} for query in queries}
    for query_id, best in files.items():
        for document_id, score in run.get(query_id, {}).items():
            path = path_of[document_id]
            best[path] = max(score, best.get(path, -math.inf))
    qrels = {q.id: {path_of[d]: 1 for d, grade in q.relevant.items() if grade > 0} for q in queries}
    return files, qrels


def query_groups(queries: Sequence[Query], documents: Sequence[Document] = ()) -> dict[str, list[str]]:
    """Group query ids by kind and by word overlap with the answer's name or code.

    Overlap with the function's name: "overlap: none" (no word of it), "overlap: some" (below 0.5),
    "overlap: most" (0.5 and above) and "overlap: name only" (1.0: the query says nothing but the name).
    With `documents`, overlap with the answer's code too: "words in the code: few" (below a third of the
    query's content words occur in it), "half", and "most" (two thirds and above). "few" holds the
    queries that word matching cannot answer.
    """
    text_of = {document.id: document.text for document in documents}
    groups: dict[str, list[str]] = {}
    for query in queries:
        share = query.name_overlap
        bucket = "none" if share == 0 else "name only" if share >= 1 else "some" if share < 0.5 else "most"
        groups.setdefault(f"kind: {query.kind}", []).append(query.id)
        groups.setdefault(f"overlap: {bucket}", []).append(query.id)
        if text_of:
            shared = word_overlap(query.text, text_of[next(iter(query.relevant))])
            bucket = "few" if shared < 1 / 3 else "half" if shared < 2 / 3 else "most"
            groups.setdefault(f"words in the code: {bucket}", []).append(query.id)
    return dict(sorted(groups.items()))


def word_overlap(text: str, code: str) -> float:
    """Return the share (0..1) of the content words of `text`, stemmed, that occur in `code`.

    A part of an identifier counts as a word of the code.
    """
    found = {stem(token) for token in search_terms(code)}
    content = [stem(word) for word in words_of(text) if word not in FILLER_WORDS]
    return sum(word in found for word in content) / len(content) if content else 1.0


# --- dense retrieval -----------------------------------------------------------------------------


def index_documents(
    model: SentenceTransformer,
    documents: Sequence[Document],
    runtime: Runtime,
    *,
    kind: str = "flat",
    **encoding: int,
) -> VectorIndex:
    """Encode the short form of every document and index the vectors.

    Args:
        kind: as in `build_index`.
        encoding: `batch_size` and `max_tokens`, as `encode` takes them (the same in the functions below).
    """
    texts = [short_form(document.text) for document in documents]
    vectors = encode(model, texts, kind="document", runtime=runtime, **encoding)
    return build_index(vectors, [document.id for document in documents], kind)


def retrieve(
    model: SentenceTransformer,
    queries: Sequence[Query],
    index: VectorIndex,
    runtime: Runtime,
    *,
    depth: int | None = None,
    **encoding: int,
) -> Run:
    """Search `index` with `queries` and return a run of `depth` documents each; None means all documents.

    All documents is the default, because with a cut FAISS's own order would decide ties at the cut.
    """
    vectors = encode(model, [query.text for query in queries], kind="query", runtime=runtime, **encoding)
    found = nearest(index, vectors, depth or len(index.ids))
    return {query.id: hits for query, hits in zip(queries, found, strict=True)}


def index_facts(
    model: SentenceTransformer,
    queries: Sequence[Query],
    index: VectorIndex,
    runtime: Runtime,
    **encoding: int,
) -> dict:
    """Measure the milliseconds to encode one query, and `compare_kinds` on these vectors.

    Args:
        index: the documents, encoded by `model`.
    """
    texts = [query.text for query in queries]
    vectors = encode(model, texts, kind="query", runtime=runtime, **encoding)
    timed = texts[:TIMED_QUERIES]
    with stopwatch() as took:
        for text in timed:
            encode(model, [text], kind="query", runtime=runtime, **encoding)
    return {
        "kind": index.kind,
        "documents": len(index.ids),
        "encode_query_ms": 1000 * took["seconds"] / len(timed),
        "kinds": compare_kinds(vectors_of(index), index.ids, vectors),
    }


# --- rows to keep and to show ---------------------------------------------------------------------


def per_query_rows(
    queries: Sequence[Query],
    before: Mapping[str, Mapping[str, float]],
    after: Mapping[str, Mapping[str, float]],
) -> list[dict]:
    """Build one plain row per query: text, relevant documents, ranks and top threes before and after.

    `top3_scores_*` are the scores of the top three. `similarity_*` holds the scores of the best right and the
    best wrong document (cosines for dense runs), or None if one of them was not retrieved.
    """
    qrels = qrels_of(queries)
    rank_before, rank_after = (first_relevant_ranks(run, qrels) for run in (before, after))
    return [
        {
            "query_id": query.id,
            "text": query.text,
            "kind": query.kind,
            "path": query.path,
            "name_overlap": query.name_overlap,
            "relevant": dict(query.relevant),
            "rank_before": rank_before[query.id],
            "rank_after": rank_after[query.id],
            "top3_before": ranking(before.get(query.id, {}))[:3],
            "top3_after": ranking(after.get(query.id, {}))[:3],
            "top3_scores_before": _top_scores(before.get(query.id, {})),
            "top3_scores_after": _top_scores(after.get(query.id, {})),
            "similarity_before": _right_and_wrong(before.get(query.id, {}), query),
            "similarity_after": _right_and_wrong(after.get(query.id, {}), query),
        }
        for query in queries
    ]


def _top_scores(hits: Mapping[str, float]) -> list[float]:
    return [float(hits[document]) for document in ranking(hits)[:3]]


def _right_and_wrong(hits: Mapping[str, float], query: Query) -> list[float] | None:
    """Return the best score of a right and of a wrong document; None if one of the two was not found."""
    right = [score for document, score in hits.items() if query.relevant.get(document, 0) > 0]
    wrong = [score for document, score in hits.items() if query.relevant.get(document, 0) <= 0]
    return [float(max(right)), float(max(wrong))] if right and wrong else None


def search_examples(rows: Sequence[dict], *, n: int = 6, seed: int = 0) -> list[dict]:
    """Pick `n` rows of `per_query_rows` to show: a third gained most, a third lost most, the rest at random.

    Losses are shown as well as gains. If too few queries gained or lost, random ones fill the places.
    """
    unlisted = 10**9  # an answer that was not listed at all ranks below every listed one

    def shift(row: dict) -> int:
        return (row["rank_before"] or unlisted) - (row["rank_after"] or unlisted)

    ordered = sorted(rows, key=lambda row: (-shift(row), row["query_id"]))
    third = max(1, n // 3)
    gained = [{**row, "why": "gained"} for row in ordered[:third] if shift(row) > 0]
    lost = [{**row, "why": "lost"} for row in ordered[::-1][:third] if shift(row) < 0]
    shown = {row["query_id"] for row in gained + lost}
    others = [row for row in ordered if row["query_id"] not in shown]
    drawn = random.Random(f"{seed}:search examples").sample(others, max(0, min(n - len(shown), len(others))))
    return (gained + lost + [{**row, "why": "drawn"} for row in drawn])[:n]
