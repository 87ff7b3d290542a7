"""Build queries and documents for retrieval from a code base's own functions.

Every function of the corpus is a document: its code without any docstring. A query is made from the first
sentence of a docstring, in one of four kinds: the sentence itself, "how do I ...", a rewording by synonyms,
and "where is ...". Files in languages other than Python are also asked for by name. The answers are always
functions; `file_level` in `helpers.eval.retrieval` scores "where is" queries by their file. Each function
asks one query, unless there are too few functions.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from helpers.data.queries.documents import document_text
from helpers.data.queries.questions import (
    FILE_LOCATION,
    KIND_SHARES,
    MIN_WORDS,
    QuerySource,
    asking_functions,
    draw_file_queries,
    draw_queries,
    squeezed,
    wordings_of,
)
from helpers.data.queries.wording import HOW_TO, SYNONYMS, WHERE_IS, core_words, words_of
from helpers.errors import InsufficientDataError, SuiteError
from helpers.records import Document, Function, Query, SplitName, Splits
from helpers.settings import TrackCSettings

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
MIN_TRAIN, MIN_TEST = 8, 5  # fewer queries are too few to train on or to measure with


class RetrievalDataError(SuiteError, ValueError):
    """A query leaks between splits or into a document."""


@dataclass(frozen=True)
class RetrievalData:
    """Queries by split, the documents they are searched in, and the report on how they were made."""

    train: tuple[Query, ...]
    validation: tuple[Query, ...]
    test: tuple[Query, ...]
    documents: tuple[Document, ...]
    train_documents: tuple[str, ...]  # ids of the documents that training may use, also as negatives
    rewordings: dict[str, tuple[str, ...]]  # training query id -> its question in other words
    report: dict


def build_retrieval_data(
    functions: Sequence[Function], splits: Splits, settings: TrackCSettings, seed: int
) -> RetrievalData:
    """Make documents of all functions, and queries of each split's own functions.

    Args:
        functions: every function of the corpus.
        splits: the split of each file; `excluded_functions` do not ask but stay documents.
        seed: decides which functions ask, with which kind of query and which template.

    Raises:
        InsufficientDataError: if too few functions have a usable docstring.
        RetrievalDataError: if a query of one split occurs in another split or in a document.
    """
    documents = tuple(Document(f.id, document_text(f), f.path) for f in functions)
    text_of = {document.id: document.text for document in documents}
    sources, filters = asking_functions(functions, splits, text_of)
    numbers = (settings.train_pairs, settings.validation_pairs, settings.test_queries)
    wanted = dict(zip(SPLITS, numbers, strict=True))
    queries = {}
    for split in SPLITS:
        mine = [source for source in sources if splits.split_of[source.function.path] == split]
        drawn = draw_queries(mine, wanted[split], random.Random(f"{seed}:retrieval {split}"))
        rng = random.Random(f"{seed}:files {split}")
        files = draw_file_queries(functions, splits, split, len(drawn), rng)
        queries[split] = drawn[: wanted[split] - len(files)] + files
    _require(queries, sources, splits, filters)
    others = _rewordings(queries["train"], sources, seed)
    asked = [dataclasses.replace(q, text=text) for q in queries["train"] for text in others[q.id]]
    check_leaks({**queries, "train": (*queries["train"], *asked)}, documents, splits)
    report = _report(documents, queries, wanted, filters, seed)
    report["rewordings"] = sum(map(len, others.values()))
    seen = tuple(f.id for f in functions if splits.split_of[f.path] == "train")
    return RetrievalData(
        **queries, documents=documents, train_documents=seen, rewordings=others, report=report
    )


def check_leaks(
    queries: Mapping[str, Sequence[Query]], documents: Sequence[Document], splits: Splits
) -> None:
    """Raise RetrievalDataError if a query crosses splits or one of its answers contains its text."""
    home: dict[str, str] = {}
    texts: dict[str, str] = {}
    offending = []
    for split, members in queries.items():
        for query in members:
            text = " ".join(core_words(query.text))
            source = next(iter(query.relevant))
            crosses = texts.setdefault(text, split) != split or home.setdefault(source, split) != split
            if crosses or splits.split_of[query.path] != split or source in splits.excluded_functions:
                offending.append(query.id)
    plain = {document.id: squeezed(document.text) for document in documents}
    for query in itertools.chain.from_iterable(queries.values()):
        asked = squeezed(query.text)
        if len(asked.split()) > MIN_WORDS and any(asked in plain[d] for d in query.relevant):
            offending.append(query.id)
    if offending:
        raise RetrievalDataError(f"{len(offending)} queries leak, such as: {', '.join(offending[:5])}")


def shuffled_pairs(data: RetrievalData, seed: int) -> RetrievalData:
    """Pair every training query with another query's function, as a negative control.

    A model trained on these has seen the same texts for the same number of steps, but no true pair.
    """
    order = list(range(len(data.train)))
    random.Random(f"{seed}:shuffled pairs").shuffle(order)
    train = list(data.train)
    # One cycle, so no query keeps its own function.
    for row, other in zip(order, order[1:] + order[:1], strict=True):
        train[row] = dataclasses.replace(train[row], relevant=dict(data.train[other].relevant))
    return dataclasses.replace(data, train=tuple(train))


# --- rewordings and limits -----------------------------------------------------------------------


def _rewordings(
    queries: Sequence[Query], sources: Sequence[QuerySource], seed: int
) -> dict[str, tuple[str, ...]]:
    """Return query id -> the other wordings of its docstring sentence, in seeded order."""
    source_of = {source.function.id: source for source in sources}
    others = {}
    for query in queries:
        if query.kind == "file_location":
            name = PurePosixPath(query.path).name
            texts = [template.format(file=name) for template in FILE_LOCATION]
        else:
            rng = random.Random(f"{seed}:rewordings {query.id}")
            texts = list(wordings_of(source_of[next(iter(query.relevant))], rng).values())
            rng.shuffle(texts)
        others[query.id] = tuple(text for text in texts if text != query.text)
    return others


def _require(
    queries: Mapping[str, Sequence[Query]],
    sources: Sequence[QuerySource],
    splits: Splits,
    filters: Sequence[Mapping[str, Any]],
) -> None:
    for split, least in (("train", MIN_TRAIN), ("test", MIN_TEST)):
        if len(queries[split]) < least:
            usable = Counter(splits.split_of[source.function.path] for source in sources)
            hardest = max(filters, key=lambda row: row["in"] - row["out"])
            why = f"The filter {hardest['filter']!r} drops most: {hardest['out']} of {hardest['in']} pass. "
            if hardest["out"] == hardest["in"]:
                why = f"The {len(sources)} that can ask lie in files of other splits. "
            raise InsufficientDataError(
                f"only {usable[split]} functions in {split} files have a docstring that can ask for them; "
                f"retrieval needs at least {least}, and about 200 in total to train well. {why}"
                "Add docstrings or more files."
            )


# --- report for the data card --------------------------------------------------------------------


def _report(
    documents: Sequence[Document],
    queries: Mapping[str, Sequence[Query]],
    wanted: Mapping[str, int],
    filters: Sequence[Mapping[str, Any]],
    seed: int,
) -> dict[str, Any]:
    every = [query for split in SPLITS for query in queries[split]]
    examples: dict[str, Any] = dict.fromkeys((*KIND_SHARES, "file_location"))
    for query in reversed(every):
        examples[query.kind] = {"text": query.text, "answer": next(iter(query.relevant))}
    templates = {"how_to": list(HOW_TO), "where_is": list(WHERE_IS)}
    if examples["file_location"]:
        templates["file_location"] = list(FILE_LOCATION)
    return {
        "seed": seed,
        "documents": len(documents),
        "document_form": "name and place in words, then the code from def on, without any docstring",
        "filters": {row["filter"]: {"in": row["in"], "out": row["out"]} for row in filters},
        "rejected_examples": {row["filter"]: row["examples"] for row in filters if row["examples"]},
        "wanted": dict(wanted),
        "drawn": {split: len(queries[split]) for split in SPLITS},
        "functions_asking": {name: len({next(iter(q.relevant)) for q in queries[name]}) for name in SPLITS},
        "by_kind": {split: dict(sorted(Counter(q.kind for q in queries[split]).items())) for split in SPLITS},
        "kind_shares": dict(KIND_SHARES),
        "several_relevant": {split: sum(len(q.relevant) > 1 for q in queries[split]) for split in SPLITS},
        "name_only": {split: sum(q.name_overlap >= 1 for q in queries[split]) for split in SPLITS},
        "templates": templates,
        "synonyms": ", ".join(f"{word} -> {other}" for word, other in SYNONYMS.items()),
        "examples": examples,
        "distributions": {
            "query_words": _quartiles([len(words_of(q.text)) for q in every]),
            "document_characters": _quartiles([len(d.text) for d in documents]),
            "name_overlap": _quartiles([q.name_overlap for q in every]),
        },
    }


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    places = {"min": 0.0, "p25": 0.25, "median": 0.5, "p75": 0.75, "max": 1.0}
    return {name: ordered[round(place * (len(ordered) - 1))] for name, place in places.items()}
