"""Find functions that are twins of each other.

Kinds of twins, by what is compared (without docstrings, but for the last):

    same code             equal text once all whitespace is removed
    same but for names    equal syntax once every identifier is blanked, from MIN_TOKENS tokens on
                          (in languages other than Python: equal tokens)
    near duplicate        Jaccard similarity of 5-token shingles at or above the corpus's threshold
    same docstring start  equal first paragraph of at least MIN_WORDS words (it is a search query)

Below MIN_TOKENS every getter looks like every other (`def a(self): return self._b` has 10 tokens), so
blanked names prove nothing there. The other three comparisons are made at any size.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Hashable, Sequence

from helpers.code.languages import tokens_of
from helpers.code.near_duplicates import near_duplicates, python_tokens, shingles
from helpers.code.python_text import parse_or_reason
from helpers.machine.progress import progress
from helpers.records import Function

MIN_TOKENS = 20
MIN_WORDS = 5


def find_twins(functions: Sequence[Function], threshold: float) -> list[tuple[str, Sequence[int]]]:
    """Return (reason, indices) of functions that are twins of each other, the plainest reason first."""
    tokens = [function_tokens(function) for function in functions]
    shown = zip(progress(functions, "comparing functions"), tokens, strict=True)
    groups = {
        "same code": equal_groups(["".join(function.code.split()) for function in functions]),
        "same but for names": equal_groups([blanked(function, row) for function, row in shown]),
        "near duplicate": near_duplicates([shingles(row) for row in tokens], threshold),
        "same docstring start": equal_groups([docstring_start(function) for function in functions]),
    }
    return [(reason, members) for reason, found in groups.items() for members in found]


def equal_groups(keys: Sequence[Hashable | None]) -> list[list[int]]:
    """Return the indices that share a key, where there are at least two; None equals nothing."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        if key is not None:
            members[key].append(index)
    return [group for group in members.values() if len(group) > 1]


def function_tokens(function: Function) -> list[str]:
    """Return the tokens of a function's code without comments."""
    if function.language == "python":
        return python_tokens(function.code)
    return [token.text for token in tokens_of(function.code, function.language)]


def blanked(function: Function, tokens: Sequence[str]) -> str | None:
    """Return the syntax (or tokens) with every identifier blanked; None for tiny functions."""
    if len(tokens) < MIN_TOKENS:
        return None
    if function.language == "python":
        return blank_syntax(function.code)
    typed = tokens_of(function.code, function.language)
    return " ".join("_" if token.is_name else token.text for token in typed)


def blank_syntax(code: str) -> str | None:
    """Return the syntax tree as text, without layout and comments, with every identifier blanked."""
    tree = parse_or_reason(code)
    if isinstance(tree, str):
        return None
    for node in ast.walk(tree):
        for field in ("id", "arg", "attr", "name", "asname", "module", "rest"):
            if isinstance(getattr(node, field, None), str):
                setattr(node, field, "_")
        for field in ("names", "kwd_attrs"):
            values = getattr(node, field, None)
            if values and isinstance(values[0], str):
                setattr(node, field, ["_"] * len(values))
    return ast.dump(tree)


def docstring_start(function: Function) -> str | None:
    """Return the first paragraph in lower case with single spaces; None where it is too short."""
    words = function.docstring.partition("\n\n")[0].lower().split()
    return " ".join(words) if len(words) >= MIN_WORDS else None
