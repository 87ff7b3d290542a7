"""Tests written for problems that come as inputs and outputs: EvalPlus' own files, and LiveCodeBench.

The text runs in the judge, where expected values may be known. For EvalPlus, the reference computes them
there.
"""

from __future__ import annotations

import base64
import io
import json
import math
import pickle
import zlib
from typing import Any

from helpers.tools.answers import SCRIPT_ENTRY
from helpers.tools.mbpp_plus import equality, restored
from helpers.tools.score_rows import ScoreError

# Equality as EvalPlus defines it: floats may differ by 1e-6 if the problem states no tolerance.
EVALPLUS = """
import copy as _copy
import json as _json
from math import inf as _inf, nan as _nan

_INPUTS = {inputs}
_ATOL = {atol!r}
_reference = {{"__name__": "reference"}}
exec({reference!r}, _reference)


def _has_floats(value):
    if isinstance(value, (list, tuple)):
        return bool(value) and all(_has_floats(each) for each in value)
    return isinstance(value, float)


def _near(got, expected, atol):
    if isinstance(expected, (list, tuple)):
        alike = type(got) is type(expected) and len(got) == len(expected)
        return alike and all(_near(*pair, atol) for pair in zip(got, expected))
    return got == expected or abs(got - expected) <= atol + 1e-7 * abs(expected)


def check(candidate):
    for arguments in _INPUTS:
        expected = _reference[{entry_point!r}](*_copy.deepcopy(arguments))
        got = candidate(*_copy.deepcopy(arguments))
        atol = _ATOL or (1e-6 if _has_floats(expected) else 0)
        assert {equality} or (atol and _near(got, expected, atol)), arguments
"""
# find_zero has many right answers: EvalPlus puts the answer into the polynomial.
ROOT = """

def check(candidate):
    for arguments in _INPUTS:
        root = candidate(*_copy.deepcopy(arguments))
        assert abs(poly(*_copy.deepcopy(arguments), root)) <= _ATOL, arguments
"""
# LiveCodeBench's evaluation imports these before every answer.
HEADER = """import bisect, collections, copy, datetime, functools, heapq, itertools, json, math, operator
import random, re, statistics, string, sys, time
from bisect import *
from collections import *
from copy import *
from functools import *
from heapq import *
from itertools import *
from math import *
from operator import *
from typing import *
"""
CALLS = """
import json as _json

_CASES = _json.loads({cases!r})


def test_cases():
    for given, expected in _CASES:
        got = {call}(*given)
        got = list(got) if isinstance(got, tuple) else got
        assert got == expected, given
"""
SCRIPTS = """
import decimal as _decimal
import json as _json

_CASES = _json.loads({cases!r})


def _tokens(line):
    try:
        return [_decimal.Decimal(token) for token in line.split()]
    except _decimal.InvalidOperation:
        return line.split()


def _same(got, expected):
    got, expected = ([line.strip() for line in text.strip().split("\\n")] for text in (got, expected))
    pairs = zip(got, expected)
    return len(got) == len(expected) and all(a == b or _tokens(a) == _tokens(b) for a, b in pairs)


def test_cases():
    for given, expected in _CASES:
        assert _same({entry}(given), expected), given
"""


def evalplus_tests(where: str, row: dict[str, Any], entry_point: str, reference: str) -> str:
    """Return tests that compare the answers for `base_input` and `plus_input` with the reference's."""
    inputs = [*(row.get("base_input") or []), *(row.get("plus_input") or [])]
    if not inputs or not all(isinstance(each, list) for each in inputs):
        raise ScoreError(f"{where}: 'base_input' and 'plus_input' must be lists of argument lists, not empty")
    if not isinstance(row.get("atol", 0), int | float):
        raise ScoreError(f"{where}: 'atol' must be a number")
    try:
        values = restored(row.get("task_id"), inputs)
    except (TypeError, ValueError) as error:
        raise ScoreError(f"{where}: the inputs are not those of this problem of MBPP+ ({error})") from error
    source = f"_json.loads({json.dumps(inputs)!r})" if values == inputs else _literal(values)
    text = EVALPLUS.format(
        inputs=source, atol=row.get("atol", 0), reference=reference, entry_point=entry_point,
        equality=equality(row.get("task_id"), entry_point),
    )  # fmt: skip
    return text + (ROOT if entry_point == "find_zero" and "def poly(" in reference else "")


def _literal(value: Any) -> str:
    """Return source of a value; infinities and NaN, which JSON may hold, by the names `EVALPLUS` imports."""
    if isinstance(value, float) and not math.isfinite(value):
        return "_nan" if math.isnan(value) else "_inf" if value > 0 else "-_inf"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        opening, closing = "[]" if isinstance(value, list) else "()"
        return opening + "".join(f"{_literal(each)}, " for each in value) + closing
    return repr(value)


def livecodebench_tests(where: str, row: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return prompt, entry point, tests (of all public and private cases), and `Solution`'s method or ""."""
    cases = _cases(where, row, "public_test_cases") + _cases(where, row, "private_test_cases")
    if not cases:
        raise ScoreError(f"{where}: no test case in 'public_test_cases' and 'private_test_cases'")
    starter = row.get("starter_code") or ""
    try:
        kinds = {case.get("testtype", "functional" if starter else "stdin") for case in cases}
        pairs = [(case["input"], case["output"]) for case in cases]
        if not all(isinstance(each, str) for pair in pairs for each in pair):
            raise TypeError("'input' and 'output' must be strings")
        if kinds == {"stdin"}:
            return "", SCRIPT_ENTRY, SCRIPTS.format(cases=json.dumps(pairs), entry=SCRIPT_ENTRY), ""
        if kinds != {"functional"}:
            raise ScoreError(
                f"{where}: test cases of kinds {sorted(map(str, kinds))}; known: stdin, functional"
            )
        metadata = row.get("metadata") or "{}"
        name = (json.loads(metadata) if isinstance(metadata, str) else metadata)["func_name"]
        decoded = [
            ([json.loads(line) for line in given.split("\n") if line.strip()], json.loads(expected))
            for given, expected in pairs
        ]
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ScoreError(f"{where}: malformed test cases or metadata ({error!r})") from error
    in_class = "class Solution" in starter
    call = f"Solution().{name}" if in_class else name
    tests = CALLS.format(cases=json.dumps(decoded), call=call)
    return (HEADER, "Solution", tests, name) if in_class else (HEADER, name, tests, "")


class _OnlyData(pickle.Unpickler):
    """Reads pickled strings, numbers and containers; a pickle that names a class or function is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _cases(where: str, row: dict[str, Any], field: str) -> list[dict[str, Any]]:
    """Return the cases of a field: a list, a JSON text, or LiveCodeBench's packed form of that text."""
    value = row.get(field) or []
    if isinstance(value, str) and not value.lstrip().startswith("["):
        try:
            value = _OnlyData(io.BytesIO(zlib.decompress(base64.b64decode(value)))).load()
        except (ValueError, zlib.error, pickle.UnpicklingError, EOFError) as error:
            raise ScoreError(f"{where}: {field!r} is neither JSON nor LiveCodeBench's packed form") from error
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ScoreError(f"{where}: {field!r} is not JSON ({error})") from error
    if not isinstance(value, list) or not all(isinstance(case, dict) for case in value):
        raise ScoreError(f"{where}: {field!r} must be a list of test cases")
    return value
