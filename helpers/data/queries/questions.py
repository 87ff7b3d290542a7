"""Choose which functions of a code base ask, and in which words: the queries of one split.

A function's query comes from the first sentence of its docstring, if that is prose of a usable length, and
the function is the answer. KIND_SHARES sets how often each kind occurs; every filter counts what came in and
went out. Files in languages other than Python are also asked for by name (`draw_file_queries`).
"""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from helpers.data.queries.letters import WORD, same_form, separate
from helpers.data.queries.wording import (
    FILLER_WORDS,
    HOW_TO,
    WHERE_IS,
    as_question,
    core_words,
    first_sentence,
    name_words,
    paraphrase,
    stem,
    words_of,
)
from helpers.records import Function, Query, SplitName, Splits

KIND_SHARES = {"docstring_sentence": 0.40, "how_to": 0.25, "paraphrase": 0.20, "where_is": 0.15}
FILE_SHARE = 0.1  # of all queries, at most
FILE_LOCATION = ("how to open {file}", "Where is {file}?", "open the file {file}", "what is in {file}")
MIN_WORDS, MAX_WORDS = 4, 40  # fewer words find nothing; nobody types more
_WORD = re.compile(WORD)
EXAMPLES = 2  # rejected functions kept for each filter
EXAMPLE_CHARS = 80  # of a docstring without a usable sentence
MAX_EQUAL_SENTENCES = 5  # a sentence that more functions share points at none of them


@dataclass(frozen=True)
class QuerySource:
    """A function that may ask with its docstring, and all functions that answer equally well."""

    function: Function
    sentence: str
    relevant: tuple[str, ...]  # the function itself first


# --- which functions may ask ----------------------------------------------------------------------


def asking_functions(
    functions: Sequence[Function], splits: Splits, text_of: Mapping[str, str]
) -> tuple[list[QuerySource], list[dict]]:
    """Return the functions that may ask, and for each filter what came in, what went out and two examples."""
    filters: list[dict] = []

    def keep(name: str, items: Sequence[Any], test: Callable[[Any], bool]) -> list[Any]:
        passed = [test(item) for item in items]
        kept = list(itertools.compress(items, passed))
        rejected = [item for item, is_kept in zip(items, passed, strict=True) if not is_kept]
        filters.append(_filter_row(name, len(items), len(kept), rejected[:EXAMPLES]))
        return kept

    asking = keep("has a docstring", functions, lambda f: bool(f.docstring))
    name = "is no near-duplicate of a function in another split"
    asking = keep(name, asking, lambda f: f.id not in splits.excluded_functions)
    pairs = [(f, first_sentence(f.docstring)) for f in asking]
    pairs = keep("the docstring opens with a sentence of prose", pairs, lambda p: bool(p[1]))
    name = f"the sentence has {MIN_WORDS} to {MAX_WORDS} words"
    pairs = keep(name, pairs, lambda p: MIN_WORDS <= len(words_of(p[1])) <= MAX_WORDS)
    name = "the sentence does not stand in the function's code"
    pairs = keep(name, pairs, lambda p: squeezed(p[1]) not in squeezed(text_of[p[0].id]))
    by_sentence: dict[str, list[Function]] = {}
    for function in functions:  # an excluded or short one may still be a correct answer
        if sentence := first_sentence(function.docstring):
            by_sentence.setdefault(_key(sentence), []).append(function)
    name = f"at most {MAX_EQUAL_SENTENCES} functions share the sentence"
    pairs = keep(name, pairs, lambda p: len(by_sentence[_key(p[1])]) <= MAX_EQUAL_SENTENCES)
    name = "no function of another split has the same sentence"
    pairs = keep(name, pairs, lambda p: len({splits.split_of[f.path] for f in by_sentence[_key(p[1])]}) == 1)
    by_code: dict[str, list[str]] = {}
    for function in functions:
        by_code.setdefault(" ".join(function.code.split()), []).append(function.id)
    sources = []
    asked: set[str] = set()
    silent = []
    for function, sentence in sorted(pairs, key=lambda p: p[0].id):
        if _key(sentence) in asked:  # the first function asks for all that share the sentence
            silent.append((function, sentence))
            continue
        asked.add(_key(sentence))
        same = [f.id for f in by_sentence[_key(sentence)]] + by_code[" ".join(function.code.split())]
        relevant = (function.id, *dict.fromkeys(i for i in same if i != function.id))
        sources.append(QuerySource(function, sentence, relevant))
    filters.append(_filter_row("one function asks per sentence", len(pairs), len(sources), silent[:EXAMPLES]))
    return sources, filters


def _filter_row(name: str, came: int, went: int, rejected: Sequence[Any]) -> dict[str, Any]:
    """Return a filter's counts, and the rejected functions or (function, sentence) given as examples."""
    examples = []
    for item in rejected:
        function, sentence = item if isinstance(item, tuple) else (item, "")
        opening = sentence or function.docstring[:EXAMPLE_CHARS] or "(no docstring)"
        examples.append({"function": function.id, "docstring begins": opening})
    return {"filter": name, "in": came, "out": went, "examples": examples}


def _key(sentence: str) -> str:
    return " ".join(core_words(sentence))


def squeezed(text: str) -> str:
    """Return the letters and digits of `text` as lower-case words, whatever the punctuation."""
    return " ".join(part for word in _WORD.findall(same_form(text).lower()) for part in separate(word))


# --- drawing ---------------------------------------------------------------------------------------


def draw_queries(sources: Sequence[QuerySource], wanted: int, rng: random.Random) -> tuple[Query, ...]:
    """Draw up to `wanted` queries by KIND_SHARES; a function asks twice only if functions run out."""
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
            wordings = wordings_of(source, rng)
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
            relevant, text = dict.fromkeys(source.relevant, 1), wordings[kind]
            overlap = name_overlap(text, source.function.name)
            query = Query(f"{kind}/{source.function.id}", text, kind, relevant, source.function.path, overlap)
            drawn.append(query)
    return tuple(drawn)


def draw_file_queries(
    functions: Sequence[Function], splits: Splits, split: SplitName, others: int, rng: random.Random
) -> tuple[Query, ...]:
    """Return queries for whole files by name ("how to open custom_file.ts"), up to FILE_SHARE of all.

    Every function in the file is an answer. Only files in languages other than Python whose name no other
    file has are asked for. `others` is the number of queries of other kinds.
    """
    in_file: dict[str, list[Function]] = {}
    for function in functions:
        if function.language != "python":
            in_file.setdefault(function.path, []).append(function)
    names = Counter(PurePosixPath(path).name for path in in_file)
    queries = []
    for path, inside in sorted(in_file.items()):
        usable = [function.id for function in inside if function.id not in splits.excluded_functions]
        name = PurePosixPath(path).name
        if splits.split_of[path] == split and names[name] == 1 and usable:
            relevant = dict.fromkeys([*usable, *(function.id for function in inside)], 1)
            text = rng.choice(FILE_LOCATION).format(file=name)
            queries.append(Query(f"file_location/{path}", text, "file_location", relevant, path, 1.0))
    most = int(others * FILE_SHARE / (1 - FILE_SHARE))
    return tuple(rng.sample(queries, min(most, len(queries))))


def wordings_of(source: QuerySource, rng: random.Random) -> dict[str, str]:
    """Return kind -> query text, for every kind of query that this sentence can become."""
    how, where = rng.choice(HOW_TO), rng.choice(WHERE_IS)
    texts = {
        "docstring_sentence": source.sentence,
        "how_to": as_question(source.sentence, how),
        "paraphrase": paraphrase(source.sentence),
        "where_is": as_question(source.sentence, where),
    }
    return {kind: text for kind, text in texts.items() if text}


def name_overlap(text: str, name: str) -> float:
    """Return the share (0..1) of the query's content words, stemmed, that occur in the function's name."""
    name_stems = {stem(word) for word in name_words(name)}
    content = [stem(word) for word in words_of(text) if word not in FILLER_WORDS]
    return round(sum(word in name_stems for word in content) / len(content), 4) if content else 1.0
