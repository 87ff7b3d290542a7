"""Hard negatives for contrastive training: what the untouched model ranks high and is wrong.

Only functions of training files serve, and none that is likely right after all: a negative that is
really an answer teaches the opposite of what is wanted.
"""

from __future__ import annotations

import re
from collections import Counter

from sentence_transformers import SentenceTransformer

from helpers.data.queries.build import RetrievalData
from helpers.eval.lexical import search_terms
from helpers.eval.retrieval import VectorIndex, index_documents, ranking, retrieve
from helpers.machine.hardware import Runtime
from helpers.settings import TrackCSettings

FALSE_NEGATIVE_SHARE = 0.95  # a candidate this near to the positive's own score may well be right
LIKE_THE_POSITIVE = "scored_like_the_positive"
SAME_CODE = 0.7  # Jaccard similarity of token sets above which two functions are taken as twins


def mine_hard_negatives(
    model: SentenceTransformer,
    data: RetrievalData,
    settings: TrackCSettings,
    runtime: Runtime,
    index: VectorIndex | None = None,
) -> tuple[list[list[str]], dict[str, int]]:
    """Per training query the best-scored documents of training files that are not right answers.

    Passed over as likely right after all: a score within 5% of the positive's, the positive's own
    name elsewhere, and near-equal code. A query whose own function stands near the end of the
    ranking has too few others; the nearest ones passed over for their score fill its place.

    Returns:
        Ids per query, `settings.hard_negatives` for each pass over the pairs, the best ranked first;
        and how many were mined, filled and passed over for which reason.
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
    passed: Counter[str] = Counter()
    mined = []
    filled = 0
    for query in data.train:
        positive = next(iter(query.relevant))
        taken: list[str] = []
        near: list[str] = []  # passed over for their score alone, best first
        for candidate in ranking(run[query.id]):
            if candidate not in allowed or candidate in query.relevant:
                continue
            reason = _likely_right(candidate, positive, run[query.id], tokens)
            if reason:
                passed[reason] += 1
                if reason == LIKE_THE_POSITIVE:
                    near.append(candidate)
            else:
                taken.append(candidate)
            if len(taken) == wanted:
                break
        filled += len(taken) < wanted
        mined.append(taken + near[::-1][: wanted - len(taken)])
    counts = {"mined": sum(map(len, mined)), "queries_filled_with_near_scores": filled}
    return mined, counts | dict(sorted(passed.items()))


def _likely_right(
    candidate: str, positive: str, scores: dict[str, float], tokens: dict[str, frozenset]
) -> str:
    """Why `candidate` should not serve as a negative; "" where it may."""
    if _bare_name(candidate) == _bare_name(positive):
        return "same_name"
    union = len(tokens[candidate] | tokens[positive])
    if union and len(tokens[candidate] & tokens[positive]) / union >= SAME_CODE:
        return "near_equal_code"
    # An approximate index may not find the positive at all: then it ranks below whatever was found.
    if scores[candidate] >= FALSE_NEGATIVE_SHARE * scores.get(positive, -1.0):
        return LIKE_THE_POSITIVE
    return ""


def _bare_name(document_id: str) -> str:
    return re.split(r"::|\.", document_id)[-1].partition("#")[0]
