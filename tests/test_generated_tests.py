"""Tests that a model wrote are run in whatever style, and only failing ones kill a mutant."""

import pytest

from helpers.data.tasks.generated_tests import asserts_about, generated_test_program
from helpers.sandbox.api import Program, run_programs

RIGHT, MUTANT = "def add(a, b):\n    return a + b\n", "def add(a, b):\n    return a - b\n"
WRITTEN = {
    "statements": "assert add(1, 2) == 3",
    "function": "def test_add():\n    assert add(1, 2) == 3",
    "unittest": "import unittest\nclass TestAdd(unittest.TestCase):\n    def test_a(self): self.assertEqual(add(1, 2), 3)",
    "class": "class TestAdd:\n    def test_a(self): assert add(1, 2) == 3",
    "pytest": "import pytest\ndef test_add():\n    assert add(.1, .2) == pytest.approx(.3)\n    with pytest.raises(TypeError): add(1, 'a')",
}  # fmt: skip
WORTHLESS = {
    "nothing": "",
    "always true": "assert add or True",
    "never run": "def helper():\n    assert add(1, 2) == 3",
    "needs a fixture": "def test_add(case):\n    assert add(1, 2) == 3",
    "swallowed": "try:\n    assert add(1, 2) == 3\nexcept AssertionError:\n    pass",
}
BROKEN = {
    "wrong": "assert add(1, 2) == 4",
    "exit": "raise SystemExit(0)",
    "syntax": "assert (",
    "os": "import os\nos._exit(0)",
}


def verdicts(tests):
    """Return (passes on the right function, passes on the mutant) for each."""
    programs = [
        Program(*generated_test_program("", code, text), 2.0, 512)
        for text in tests.values()
        for code in (RIGHT, MUTANT)
    ]
    outcomes = [outcome.passed for outcome in run_programs(programs, workers=2)]
    return dict(zip(tests, zip(outcomes[::2], outcomes[1::2], strict=True), strict=True))


@pytest.mark.parametrize(
    ("tests", "expected"), [(WRITTEN, (True, False)), (WORTHLESS, (True, True)), (BROKEN, (False, False))]
)
def test_verdicts_on_the_function_and_on_a_mutant(tests, expected):
    assert verdicts(tests) == dict.fromkeys(tests, expected)


@pytest.mark.parametrize(
    ("tests", "checks"),
    [
        ("assert f(1) == 2", 1),
        ("x = f(1)\nassert x == 2", 1),
        ("G, H = (f(i) for i in (1, 2))\nassert not same(G, H)", 1),
        ("x = f(1)\nfor y in x:\n    z = y + 1\n    assert z", 1),
        ("try:\n    f(-1)\nexcept ValueError:\n    pass\nelse:\n    raise AssertionError('none')", 1),
        ("class T(TestCase):\n    def test(self):\n        self.assertEqual(f(1), 2)", 1),
        ("with pytest.raises(ValueError):\n    f(-1)", 1),
        ("f(1)\nassert True", 0),
        ("x = g(1)\nassert x == 2", 0),
        ("x = f(1)\ny = g(1)\nassert y == 2", 0),
        ("try:\n    f(-1)\nexcept ValueError:\n    pass", 0),
        ("assert f(", 0),
    ],
)
def test_only_checks_of_what_the_function_gives_count(tests, checks):
    assert asserts_about(tests, "f") == checks
