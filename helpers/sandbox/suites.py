"""The ways in which tests are written: functions, `unittest` cases, pytest's classes and parameter tables.

All of them must succeed, since the program could skip or stop one.
"""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from helpers.sandbox.parsed_tests import Tests


def run_suites(tests: Tests, values: dict[str, Any], entry_point: str) -> None:
    """Call what the tests define, after their top level has run in the namespace `values`."""
    for name, with_candidate in tests.calls:
        run_function(values[name], *([values[entry_point]] if with_candidate else []))
    for name in tests.classes:
        case = values.get(name)
        if not isinstance(case, type) or case.__module__ != "tests":
            continue
        if "unittest" in sys.modules and issubclass(case, sys.modules["unittest"].TestCase):
            _run_case(case)
        elif name.startswith("Test") and "__init__" not in vars(case):
            _run_class(case)


def run_function(function: Callable[..., Any], *args: Any) -> None:
    """Call one test function, once for each row of its parameter tables; await it if it is a coroutine."""
    for named in _rows(function):
        done = function(*args, **named)
        if isinstance(done, types.CoroutineType):
            import asyncio

            asyncio.run(done)


def _rows(function: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Yield the arguments that `pytest.mark.parametrize` gives a function; nothing else yields one row."""
    tables = []
    for mark in getattr(function, "pytestmark", ()):
        if mark.name == "parametrize":
            given = dict(zip(("argnames", "argvalues"), mark.args, strict=False)) | mark.kwargs
            names = given["argnames"]
            names = [each.strip() for each in names.split(",")] if isinstance(names, str) else list(names)
            rows = [getattr(row, "values", row) if _is_marked(row) else row for row in given["argvalues"]]
            single = len(names) == 1
            tables.append(
                [dict(zip(names, [row] if single and not _is_marked(raw) else row, strict=True))
                 for raw, row in zip(given["argvalues"], rows, strict=True)]
            )  # fmt: skip
    for rows in itertools.product(*tables):
        yield {name: value for row in rows for name, value in row.items()}


def _is_marked(row: Any) -> bool:
    """Return whether a row of a parameter table was written as `pytest.param(...)`."""
    return isinstance(row, tuple) and type(row).__name__ == "ParameterSet"


def _run_class(case: type) -> None:
    """Run the methods of a class in pytest's style, each on an object of its own."""
    _call(case, "setup_class")
    for name in [each for each in dir(case) if each.startswith("test") and callable(getattr(case, each))]:
        test = case()
        _call(test, "setup_method", getattr(test, name))
        try:
            run_function(getattr(test, name))
        finally:
            _call(test, "teardown_method", getattr(test, name))
    _call(case, "teardown_class")


def _call(owner: Any, name: str, *args: Any) -> None:
    """Call a set-up or tear-down method, if there is one; it may take the test or not."""
    method = getattr(owner, name, None)
    if method is not None:
        function = getattr(method, "__func__", method)
        method(*args[: function.__code__.co_argcount - (function is not method)])


def _run_case(case: Any) -> None:
    """Run one `unittest` case."""
    import unittest

    class Result(unittest.TestResult):
        succeeded = 0

        def addSuccess(self, test: unittest.TestCase) -> None:
            super().addSuccess(test)
            self.succeeded += 1

    result = Result()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    for _, text in (*result.failures, *result.errors):
        raise AssertionError(text.strip().splitlines()[-1])
    # A test may be left out, or fail, only where the tests themselves say so: the program could raise a skip.
    skipped = sum(_is_declared(test, "__unittest_skip__") for test, _ in result.skipped)
    expected = sum(
        _is_declared(test, "__unittest_expecting_failure__") for test, _ in result.expectedFailures
    )
    if result.succeeded + skipped + expected < result.testsRun:
        missing = result.testsRun - result.succeeded - skipped - expected
        raise AssertionError(f"{missing} tests did not run to their end")


def _is_declared(test: Any, mark: str) -> bool:
    """Return whether a decorator of `unittest` has marked a test or its class."""
    method = getattr(test, getattr(test, "_testMethodName", ""), None)
    return getattr(type(test), mark, False) is True or getattr(method, mark, False) is True
