"""Tests that a model wrote are run in whatever style, and only failing ones kill a mutant."""

import pytest

from helpers.data.tasks import execution
from helpers.data.tasks.aiming import aimed_at
from helpers.data.tasks.generated_tests import asserts_about, generated_test_program, told_of_tests
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
        ("assert m.f(1) == 2", 0),
        ("x = m.sub.f(1)\nassert x == 2", 0),
        ("f(1)\nassert True", 0),
        ("x = g(1)\nassert x == 2", 0),
        ("x = f(1)\ny = g(1)\nassert y == 2", 0),
        ("try:\n    f(-1)\nexcept ValueError:\n    pass", 0),
        ("assert f(", 0),
    ],
)
def test_only_checks_of_what_the_function_gives_count(tests, checks):
    assert asserts_about(tests, "f") == checks


PRELUDE = execution.PRELUDE.format(module="statistics", top="statistics", name="fmean")
RIGHT_MEAN = "def fmean(data):\n    return sum(data) / len(data)\n"
WRONG_MEAN = "def fmean(data):\n    return sum(data)\n"
AIMED = {
    "bare": "assert fmean([2, 4]) == 3",
    "from the library": "from statistics import fmean\nassert fmean([2, 4]) == 3",
    "with another name": "from statistics import fmean, mean\nassert fmean([2, 4]) == mean([2, 4])",
    "under another name": "from statistics import fmean as average\nassert average([2, 4]) == 3",
    "from a placeholder": "from your_module import fmean\nassert fmean([2, 4]) == 3",
    "from a file beside it": "from .solution import fmean\nassert fmean([2, 4]) == 3",
    "placeholder of that name": "import fmean\nassert fmean([2, 4]) == 3",
    "in a function": "def test_it():\n    from solution import fmean\n    assert fmean([2, 4]) == 3",
    "only an import": "try:\n    from solution import fmean\nexcept ImportError:\n    pass\nassert fmean([2, 4]) == 3",
    "through the library": "import statistics\nassert statistics.fmean([2, 4]) == 3",
    "through an alias": "import statistics as st\nassert st.fmean([2, 4]) == st.mean([2, 4])",
    "through a placeholder": "import solution\nassert solution.fmean([2, 4]) == 3",
    "all of a placeholder": "from solution import *\nassert fmean([2, 4]) == 3",
    "a placeholder for nothing": "import solution\nassert fmean([2, 4]) == 3",
    "taken from a module": "import statistics\ndef test_it():\n    fmean = statistics.fmean\n    assert fmean([2, 4]) == 3",
}  # fmt: skip


def test_however_tests_name_the_function_they_test_the_one_in_question():
    programs = [
        Program(*generated_test_program(PRELUDE, code, aimed_at(tests, "fmean", PRELUDE)), 2.0, 512)
        for tests in AIMED.values()
        for code in (RIGHT_MEAN, WRONG_MEAN)
    ]
    outcomes = [outcome.passed for outcome in run_programs(programs, workers=2)]
    by_style = dict(zip(AIMED, zip(outcomes[::2], outcomes[1::2], strict=True), strict=True))
    assert by_style == dict.fromkeys(AIMED, (True, False))
    assert all(asserts_about(aimed_at(tests, "fmean", PRELUDE), "fmean") for tests in AIMED.values())


@pytest.mark.parametrize(
    "tests",
    [
        "assert gcd(4, 6) == 2  # as it stands",
        "import math\nassert gcd(4, 6) == math.gcd(4, 6)",  # another package's: to compare with
        "from math import gcd as expected\nassert gcd(4, 6) == expected(4, 6)",
        "G = graph()\nassert G.gcd == gcd(4, 6)",  # an attribute of a value
        "def helper(nx):\n    return nx.gcd\nassert helper(G) == gcd(4, 6)",
        "assert gcd(",
        "import math\nassert gcd(4, 6)" + ".real" * 400,  # as models do that never come to an end
    ],
)
def test_what_is_not_the_function_stays(tests):
    assert aimed_at(tests, "gcd", PRELUDE) == tests


def test_a_module_of_the_same_name_elsewhere_is_another_one():
    prelude = execution.PRELUDE.format(module="pkg.statistics", top="pkg", name="fmean")
    tests = "from statistics import fmean as expected\nassert fmean([2, 4]) == expected([2, 4])"
    assert aimed_at(tests, "fmean", prelude) == tests
    assert (
        aimed_at("from pkg import fmean\nassert fmean([2]) == 2", "fmean", prelude)
        == "pass\nassert fmean([2]) == 2"
    )


def test_other_names_of_an_import_stay():
    aimed = aimed_at("from statistics import fmean, mean\nassert fmean([mean([1])])", "fmean", PRELUDE)
    assert aimed == "from statistics import mean\nassert fmean([mean([1])])"


@pytest.mark.parametrize(
    ("tests", "told"),
    [
        ("x = 1\nassert add(1, 2) == 4", "line 2, 'assert add(1, 2) == 4': AssertionError"),
        ("assert add(1, 2) == 4, 'no sum'", "AssertionError: no sum"),
        ("assert add(1, None) == 4", "line 1, 'assert add(1, None) == 4': TypeError: unsupported operand"),
        ("def test_a():\n    assert add('a', 'b') == 'b'",
         """line 2, "assert add('a', 'b') == 'b'": AssertionError"""),
        ("import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(add(1, 2), 4)",
         "line 4, 'self.assertEqual(add(1, 2), 4)': AssertionError: 3 != 4"),
        ("import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        with self.subTest():\n            self.fail()",
         "line 5, 'self.fail()': AssertionError"),
        ("import nowhere_at_all", "line 1, 'import nowhere_at_all': ModuleNotFoundError: No module named"),
        ("return 3\nassert add(1, 2) == 3", "SyntaxError: 'return' outside function"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_line_and_exception(tests, told):
    (outcome,) = run_programs([Program(*generated_test_program("", RIGHT, tests), 2.0, 512)], workers=1)
    detail = told_of_tests(outcome.detail)
    assert outcome.status == "failed"
    assert detail.startswith("the tests: ")
    assert told in detail
    assert "verdict" not in detail
