"""What EvalPlus' own file of MBPP+ leaves unsaid: arguments that JSON cannot hold, and other equalities.

JSON has no tuples, sets and complex numbers. EvalPlus restores them from the number of the problem
(`evalplus/data/mbpp.py`), and compares the answers of some problems as sets, or by whether there is any
(`evalplus/eval/__init__.py`, version 0.3.1). Both tables are stated here.
"""

from __future__ import annotations

from typing import Any

# Paths of lists that are tuples; * stands for every place. "0/*" means each item of the first argument.
TUPLES = {
    ("*",): {2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740,
             744, 809},
    ("*/*",): {63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780},
    ("0/*",): {75, 413, 444, 722, 753},
    ("0",): {250, 307, 405, 446, 617, 720, 763, 808},
    ("1",): {106, 750},
    ("*", "*/*"): {259, 278, 401, 445},
    ("**",): {580, 615, 791},
}  # fmt: skip
SETS, COMPLEX = {115}, {124, 252}
AS_SETS = {
    "similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum",
    "intersection_array", "find_dissimilar", "Diff",
}  # fmt: skip
BY_PRESENCE = {"check_str", "text_match_three", "text_starta_endb"}  # a match, or None


def restored(task_id: Any, inputs: list[list]) -> list[list]:
    """Return the arguments of a problem as EvalPlus passes them; those of other benchmarks as they are.

    >>> restored("Mbpp/2", [[[3, 4], [5]]])
    [[(3, 4), (5,)]]

    Raises:
        ValueError: for a text that should be a number.
    """
    name, _, number = str(task_id).partition("/")
    if name != "Mbpp" or not number.isdigit():
        return inputs
    task = int(number)
    if task in COMPLEX:  # a float before it, if any
        return [[*map(float, given[:-1]), *map(complex, given[-1:])] for given in inputs]
    if task in SETS:
        return [[[set(item) if item else {} for item in items] for items in given] for given in inputs]
    patterns = next((paths for paths, tasks in TUPLES.items() if task in tasks), ())
    return [[_tuples(each, (str(at),), patterns) for at, each in enumerate(given)] for given in inputs]


def equality(task_id: Any, entry_point: str) -> str:
    """Return the expression that says whether `got` is right, given what the reference returned."""
    if str(task_id).startswith("Mbpp/") and entry_point in AS_SETS:
        return "set(got) == set(expected)"
    if str(task_id).startswith("Mbpp/") and entry_point in BY_PRESENCE:
        return "(got if isinstance(got, bool) else got is not None) == (expected is not None)"
    return "got == expected"


def _tuples(value: Any, path: tuple[str, ...], patterns: tuple[str, ...]) -> Any:
    """Return a value with tuples for the lists whose path one of the patterns fits."""
    if isinstance(value, dict):
        return {key: _tuples(each, (*path, str(key)), patterns) for key, each in value.items()}
    if not isinstance(value, list):
        return value
    items = [_tuples(each, (*path, str(at)), patterns) for at, each in enumerate(value)]
    return tuple(items) if any(_fits(path, pattern) for pattern in patterns) else items


def _fits(path: tuple[str, ...], pattern: str) -> bool:
    parts = pattern.split("/")
    return pattern == "**" or (
        len(parts) == len(path) and all(part in ("*", at) for part, at in zip(parts, path, strict=True))
    )
