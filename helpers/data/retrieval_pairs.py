"""Queries and documents for retrieval, made from a code base's own functions.

A document is a function's code without any docstring; every function of the corpus is one. A query
is made from the first sentence of a docstring, so that the author's words ask for the author's code.
Four kinds: the sentence itself, "how do I ...", a rewording by synonyms, and "where is ...". All
four are answered by the function (for "where is" its path names the file; `file_level` in
`helpers.eval.retrieval` scores those by file). One query per function where functions suffice.
"""

from __future__ import annotations

import ast
import dataclasses
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from helpers.data.query_wording import (
    FILLER_WORDS,
    HOW_TO,
    SYNONYMS,
    WHERE_IS,
    as_question,
    core_words,
    first_sentence,
    name_words,
    paraphrase,
    stem,
    words_of,
)
from helpers.records import Document, Function, InsufficientDataError, Query, SplitName, Splits
from helpers.settings import TrackCSettings

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
KIND_SHARES = {"docstring_sentence": 0.40, "how_to": 0.25, "paraphrase": 0.20, "where_is": 0.15}
MIN_WORDS, MAX_WORDS = 4, 40  # below: says too little to find anything; above: no query is so long
MAX_EQUAL_SENTENCES = 5  # a sentence shared by more functions points at none of them
MIN_TRAIN, MIN_TEST = 8, 5  # fewer queries than this neither train nor measure anything


class RetrievalDataError(ValueError):
    """A query leaks between splits or into a document."""


@dataclass(frozen=True)
class RetrievalData:
    """Queries by split, the documents they are searched in, and what was counted on the way."""

    train: tuple[Query, ...]
    validation: tuple[Query, ...]
    test: tuple[Query, ...]
    documents: tuple[Document, ...]
    train_documents: tuple[str, ...]  # ids of the documents that training may see, as negatives too
    report: dict


@dataclass(frozen=True)
class _Source:
    """A function whose docstring may ask, with every function that answers it equally well."""

    function: Function
    sentence: str
    relevant: tuple[str, ...]  # the function itself first


def build_retrieval_data(
    functions: Sequence[Function], splits: Splits, settings: TrackCSettings, seed: int
) -> RetrievalData:
    """Make documents of all functions, and queries of each split's own functions.

    Args:
        functions: every function of the corpus.
        splits: which file belongs where; `excluded_functions` ask nothing but stay documents.
        settings: numbers of training pairs, validation pairs and test queries wanted.
        seed: decides which functions ask, which kind each is and by which template.

    Raises:
        InsufficientDataError: if too few functions carry a usable docstring.
        RetrievalDataError: if a query of one split stands in another or in a document.
    """
    documents = tuple(Document(f.id, document_text(f), f.path) for f in functions)
    text_of = {document.id: document.text for document in documents}
    sources, filters = _sources(functions, splits, text_of)
    numbers = (settings.train_pairs, settings.validation_pairs, settings.test_queries)
    wanted = dict(zip(SPLITS, numbers, strict=True))
    queries = {}
    for split in SPLITS:
        mine = [source for source in sources if splits.split_of[source.function.path] == split]
        queries[split] = _draw(mine, wanted[split], random.Random(f"{seed}:retrieval {split}"))
    _require(queries, sources, splits)
    check_leaks(queries, documents, splits)
    report = _report(documents, queries, wanted, filters, seed)
    seen = tuple(f.id for f in functions if splits.split_of[f.path] == "train")
    return RetrievalData(**queries, documents=documents, train_documents=seen, report=report)


def document_text(function: Function) -> str:
    """What is indexed: the function's place and name, then its code without docstrings.

    The first line names the dotted place of the function, as any code search shows it. Docstrings
    of functions nested inside are removed too: they may be asked for.
    """
    return f"# {function.module}.{function.qualname}\n{strip_nested_docstrings(function.code)}"


def strip_nested_docstrings(code: str) -> str:
    """`code` without the docstrings of functions and classes defined inside it."""
    if '"""' not in code and "'''" not in code and code.count("def ") + code.count("class ") < 2:
        return code
    try:
        tree = ast.parse(code)
    except SyntaxError:  # a body that was nothing but its docstring leaves no valid code behind
        return code
    lines = code.splitlines(keepends=True)
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        first = node.body[0]
        if ast.get_docstring(node, clean=False) is not None and first.lineno > node.lineno:
            for line in range(first.lineno - 1, first.end_lineno):
                lines[line] = ""
    return "".join(lines)


def check_leaks(
    queries: Mapping[str, Sequence[Query]], documents: Sequence[Document], splits: Splits
) -> None:
    """Raise if a query crosses splits or its words stand in a document as a docstring would.

    Raises:
        RetrievalDataError: naming up to five offending query ids.
    """
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
    plain = {document.id: _squeezed(document.text) for document in documents}
    for query in (query for members in queries.values() for query in members):
        asked = _squeezed(query.text)
        if len(asked.split()) > MIN_WORDS and any(asked in plain[d] for d in query.relevant):
            offending.append(query.id)
    if offending:
        raise RetrievalDataError(f"{len(offending)} queries leak, such as: {', '.join(offending[:5])}")


def shuffled_pairs(data: RetrievalData, seed: int) -> RetrievalData:
    """Negative control: every training query paired with another query's function.

    A model trained on it has seen the same texts for the same number of steps but no true pair.
    """
    order = list(range(len(data.train)))
    random.Random(f"{seed}:shuffled pairs").shuffle(order)
    partner = dict(zip(order, order[1:] + order[:1], strict=True))  # one cycle: nobody keeps its own
    train = tuple(
        dataclasses.replace(query, relevant=dict(data.train[partner[row]].relevant))
        for row, query in enumerate(data.train)
    )
    return dataclasses.replace(data, train=train)


# --- which functions may ask ----------------------------------------------------------------------


def _sources(
    functions: Sequence[Function], splits: Splits, text_of: Mapping[str, str]
) -> tuple[list[_Source], list[dict]]:
    """Functions that may ask, and per filter how many came in and went out."""
    filters: list[dict] = []

    def keep(name: str, items: list, test) -> list:
        kept = [item for item in items if test(item)]
        filters.append({"filter": name, "in": len(items), "out": len(kept)})
        return kept

    asking = keep("has a docstring", list(functions), lambda f: bool(f.docstring))
    asking = keep(
        "is no near-duplicate of a function in another split",
        asking,
        lambda f: f.id not in splits.excluded_functions,
    )
    pairs = [(f, first_sentence(f.docstring)) for f in asking]
    pairs = keep("the docstring opens with a sentence of prose", pairs, lambda p: bool(p[1]))
    pairs = keep(
        f"the sentence has {MIN_WORDS} to {MAX_WORDS} words",
        pairs,
        lambda p: MIN_WORDS <= len(words_of(p[1])) <= MAX_WORDS,
    )
    pairs = keep(
        "the sentence does not stand in the function's code",
        pairs,
        lambda p: _squeezed(p[1]) not in _squeezed(text_of[p[0].id]),
    )
    by_sentence: dict[str, list[Function]] = {}
    for function in functions:  # an excluded or short one may still be a right answer
        if sentence := first_sentence(function.docstring):
            by_sentence.setdefault(_key(sentence), []).append(function)
    pairs = keep(
        f"at most {MAX_EQUAL_SENTENCES} functions share the sentence",
        pairs,
        lambda p: len(by_sentence[_key(p[1])]) <= MAX_EQUAL_SENTENCES,
    )
    pairs = keep(
        "no function of another split has the same sentence",
        pairs,
        lambda p: len({splits.split_of[f.path] for f in by_sentence[_key(p[1])]}) == 1,
    )
    by_code: dict[str, list[str]] = {}
    for function in functions:
        by_code.setdefault(" ".join(function.code.split()), []).append(function.id)
    sources = []
    asked: set[str] = set()
    for function, sentence in sorted(pairs, key=lambda p: p[0].id):
        if _key(sentence) in asked:  # the first function asks for all that share the sentence
            continue
        asked.add(_key(sentence))
        same = [f.id for f in by_sentence[_key(sentence)]] + by_code[" ".join(function.code.split())]
        relevant = (function.id, *dict.fromkeys(i for i in same if i != function.id))
        sources.append(_Source(function, sentence, relevant))
    filters.append({"filter": "one function asks per sentence", "in": len(pairs), "out": len(sources)})
    return sources, filters


def _key(sentence: str) -> str:
    return " ".join(core_words(sentence))


def _squeezed(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


# --- drawing ---------------------------------------------------------------------------------------


def _draw(sources: Sequence[_Source], wanted: int, rng: random.Random) -> tuple[Query, ...]:
    """Up to `wanted` queries, shared out by KIND_SHARES; a second kind only where functions run out."""
    order = sorted(sources, key=lambda source: source.function.id)
    rng.shuffle(order)
    counts: Counter[str] = Counter()
    drawn: list[Query] = []
    texts: set[str] = set()
    done: set[tuple[str, str]] = set()
    for _ in KIND_SHARES:
        for source in order:
            if len(drawn) == wanted:
                return tuple(drawn)
            wordings = _wordings(source, rng)
            open_kinds = [
                kind
                for kind, text in wordings.items()
                if (source.function.id, kind) not in done and text not in texts
            ]
            if not open_kinds:
                continue
            kind = max(open_kinds, key=lambda k: (len(drawn) + 1) * KIND_SHARES[k] - counts[k])
            counts[kind] += 1
            done.add((source.function.id, kind))
            texts.add(wordings[kind])
            drawn.append(_query(source, kind, wordings[kind]))
    return tuple(drawn)


def _wordings(source: _Source, rng: random.Random) -> dict[str, str]:
    """Every kind of query this sentence can become."""
    how, where = rng.choice(HOW_TO), rng.choice(WHERE_IS)
    texts = {
        "docstring_sentence": source.sentence,
        "how_to": as_question(source.sentence, how),
        "paraphrase": paraphrase(source.sentence),
        "where_is": as_question(source.sentence, where),
    }
    return {kind: text for kind, text in texts.items() if text}


def _query(source: _Source, kind: str, text: str) -> Query:
    return Query(
        id=f"{kind}/{source.function.id}",
        text=text,
        kind=kind,
        relevant=dict.fromkeys(source.relevant, 1),
        path=source.function.path,
        name_overlap=name_overlap(text, source.function.name),
    )


def name_overlap(text: str, name: str) -> float:
    """Share (0..1) of the query's content words, stemmed, that are words of the function's name."""
    name_stems = {stem(word) for word in name_words(name)}
    content = [stem(word) for word in words_of(text) if word not in FILLER_WORDS]
    return round(sum(word in name_stems for word in content) / len(content), 4) if content else 1.0


def _require(queries: Mapping[str, Sequence[Query]], sources: Sequence[_Source], splits: Splits) -> None:
    for split, least in (("train", MIN_TRAIN), ("test", MIN_TEST)):
        if len(queries[split]) < least:
            usable = Counter(splits.split_of[source.function.path] for source in sources)
            raise InsufficientDataError(
                f"only {usable[split]} functions in {split} files have a docstring that can ask for them; "
                f"retrieval needs at least {least} (some 200 in all train well). "
                "Add docstrings or more files."
            )


# --- what the data card tells ----------------------------------------------------------------------


def _report(documents, queries, wanted, filters, seed) -> dict:
    every = [query for split in SPLITS for query in queries[split]]
    return {
        "seed": seed,
        "documents": len(documents),
        "document_form": "a line '# module.qualname', then the code without any docstring",
        "filters": filters,
        "wanted": dict(wanted),
        "drawn": {split: len(queries[split]) for split in SPLITS},
        "functions_asking": {
            split: len({next(iter(q.relevant)) for q in queries[split]}) for split in SPLITS
        },
        "by_kind": {split: dict(sorted(Counter(q.kind for q in queries[split]).items())) for split in SPLITS},
        "kind_shares": dict(KIND_SHARES),
        "several_relevant": {split: sum(len(q.relevant) > 1 for q in queries[split]) for split in SPLITS},
        "name_only": {split: sum(q.name_overlap >= 1 for q in queries[split]) for split in SPLITS},
        "templates": {"how_to": list(HOW_TO), "where_is": list(WHERE_IS)},
        "synonyms": ", ".join(f"{word} -> {other}" for word, other in SYNONYMS.items()),
        "examples": {
            kind: next(
                ({"text": q.text, "answer": next(iter(q.relevant))} for q in every if q.kind == kind), None
            )
            for kind in KIND_SHARES
        },
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
