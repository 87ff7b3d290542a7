"""Hard negatives for contrastive training: wrong answers that the untouched model ranks high.

They come from training files only, and likely right answers are left out: a negative that really answers
the query teaches the opposite of what is wanted.
"""

from __future__ import annotations

import re
from collections import Counter

from sentence_transformers import SentenceTransformer

from helpers.data.queries.retrieval_data import RetrievalData
from helpers.eval.lexical import search_terms
from helpers.eval.retrieval import VectorIndex, index_documents, ranking, retrieve
from helpers.machine.hardware import Runtime
from helpers.settings import TrackCSettings

FALSE_NEGATIVE_SHARE = 0.95  # of the positive's score; a candidate that reaches it may be a right answer
LIKE_THE_POSITIVE = "scored_like_the_positive"
SAME_CODE = 0.7  # two functions whose token sets have this Jaccard similarity count as the same


def mine_hard_negatives(
    model: SentenceTransformer,
    data: RetrievalData,
    settings: TrackCSettings,
    runtime: Runtime,
    index: VectorIndex | None = None,
) -> tuple[list[list[str]], dict[str, int]]:
    """Return for each training query the best-ranked documents of training files that are wrong answers.

    A candidate is skipped as likely right if its score is within 5% of the positive's or above, if it has
    the positive's name, or if its code is nearly equal. If too few candidates remain, because a query's own
    function ranks near the end, those skipped for their score are added, the lowest scores first.

    Returns:
        Ids by query, `settings.hard_negatives` for each pass over the pairs, the best ranked first; and
        counts: ids mined, queries with added candidates, and candidates skipped for each reason.
    """
    wanted = settings.hard_negatives * settings.epochs
    if not wanted:
        return [[] for _ in data.train], {}
    allowed = set(data.train_documents)
    documents = {document.id: document for document in data.documents if document.id in allowed}
    sizes = {"batch_size": settings.encode_batch, "max_tokens": settings.max_tokens}
    index = index or index_documents(model, list(documents.values()), runtime, **sizes)
    run = retrieve(model, data.train, index, runtime, **sizes)
    tokens = {i: frozenset(search_terms(document.text)) for i, document in documents.items()}
    skipped: Counter[str] = Counter()
    mined = []
    filled = 0
    for query in data.train:
        positive = next(iter(query.relevant))
        taken: list[str] = []
        near: list[str] = []  # skipped for their score alone, best first
        for candidate in ranking(run[query.id]):
            if candidate not in allowed or candidate in query.relevant:
                continue
            if reason := _likely_right(candidate, positive, run[query.id], tokens):
                skipped[reason] += 1
                if reason == LIKE_THE_POSITIVE:
                    near.append(candidate)
            else:
                taken.append(candidate)
            if len(taken) == wanted:
                break
        filled += len(taken) < wanted
        mined.append(taken + near[::-1][: wanted - len(taken)])
    counts = {"mined": sum(map(len, mined)), "queries_filled_with_near_scores": filled}
    return mined, counts | dict(sorted(skipped.items()))


def _likely_right(
    candidate: str, positive: str, scores: dict[str, float], tokens: dict[str, frozenset]
) -> str:
    """Return why `candidate` may be a right answer after all; "" if it serves as a negative."""
    if _bare_name(candidate) == _bare_name(positive):
        return "same_name"
    union = len(tokens[candidate] | tokens[positive])
    if union and len(tokens[candidate] & tokens[positive]) / union >= SAME_CODE:
        return "near_equal_code"
    # If an approximate index misses the positive, the positive ranks below every document that was found.
    if scores[candidate] >= FALSE_NEGATIVE_SHARE * scores.get(positive, -1.0):
        return LIKE_THE_POSITIVE
    return ""


def _bare_name(document_id: str) -> str:
    return re.split(r"::|\.", document_id)[-1].partition("#")[0]
