"""Cases taken from a test-suite hold when run, ask about one function, and need nothing else."""

from __future__ import annotations

import ast

import pytest

from helpers.code.functions import extract_functions
from helpers.data.corpus import load_corpus
from helpers.data.tasks.execution import execution_context, program
from helpers.data.tasks.ground_truth import verify_functions
from helpers.data.tasks.suite_cases import TestSuite
from helpers.data.tasks.suite_rewriting import CLOSE, bound_names, needed_names, statements_for, touched_names
from helpers.data.tasks.test_sets import draw_up_tests
from helpers.sandbox.api import run_program

MODULE = '''"""A module."""


def mean(values):
    """Return the mean of `values`."""
    if not values:
        raise ValueError("no values")
    total = 0
    for value in values:
        total += value
    return total / len(values)


def doubled(values):
    """Return each of `values` twice as large."""
    out = []
    for value in values:
        out.append(2 * value)
    return out


def nothing(values):
    """Return nothing that is tested."""
    return None
'''

SUITE = """import numpy as np
import pytest

import stats
from stats import doubled

BASE = [1, 2]


def helper(values):
    return [value + 1 for value in values]


def fixture_like():
    return 1


@pytest.fixture
def given():
    return [1]


def test_plain():
    unused = [9, 9]
    values = [1, 2, 3]
    values.append(6)
    assert stats.mean(values) == 3


def test_through_a_variable():
    result = doubled(helper(BASE))
    expected = [4, 6]
    assert result == expected


def test_approx_and_loop():
    got = stats.mean([0.1, 0.2])
    assert got == pytest.approx(0.15, abs=1e-7)
    for one in (1, 2):
        assert doubled([one]) == [2 * one]


def test_raises():
    with pytest.raises(ValueError):
        stats.mean([])
    pytest.raises(TypeError, stats.mean, [None])


def test_two_functions():
    assert stats.mean(doubled([1])) == 2
    assert stats.mean([1]) == doubled([1])[0] - 1


def test_wrong_on_purpose():
    assert stats.mean([1, 2]) == 7


def test_numpy():
    assert stats.mean(np.ones(3)) == 1


def test_fixture(given):
    assert stats.mean(given) == 1


@pytest.mark.parametrize("values, expected", [([2, 4], 3), ([5], 5)])
def test_rows(values, expected):
    assert stats.mean(values) == expected


@pytest.mark.skip
def test_skipped():
    assert stats.mean([8]) == 8


class TestDoubled:
    factor = 2

    def setup_method(self):
        self.values = [3]

    def test_it(self):
        assert doubled(self.values) == [3 * self.factor]
"""


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    root = tmp_path_factory.mktemp("repo")
    (root / "stats.py").write_text(MODULE + "# padding\n" * 20)
    (root / "tests").mkdir()
    (root / "tests" / "test_stats.py").write_text(SUITE)
    (root / "tests" / "test_broken.py").write_text("def test_x(:\n")
    corpus = load_corpus(f"path:{root}")
    functions = extract_functions(corpus)
    return corpus, {f.name: f for f in functions}, TestSuite(corpus, functions)


def test_each_case_holds_alone_and_only_the_wrong_one_does_not(read) -> None:
    corpus, functions, suite = read
    path = execution_context(corpus).python_path
    failed = []
    for name in ("mean", "doubled"):
        cases = suite.cases(functions[name], 50)
        assert cases
        for case in cases:
            tests = CLOSE + case.body
            asked = program(functions[name], functions[name].code, tests)
            outcome = run_program(asked.candidate, tests, entry_point=name, python_path=path)
            if not outcome.passed:
                failed.append(case.origin)
    assert [origin.rpartition(":")[0] for origin in failed] == ["tests/test_stats.py::test_wrong_on_purpose"]


def test_a_case_is_the_assertion_and_what_it_rests_on(read) -> None:
    _, functions, suite = read
    by_test = {
        case.origin.split("::")[1].split(":")[0]: case.body for case in suite.cases(functions["mean"], 50)
    }
    assert by_test["test_plain"] == "values = [1, 2, 3]\nvalues.append(6)\nassert mean(values) == 3"
    assert by_test["test_approx_and_loop"] == "got = mean([0.1, 0.2])\nassert close(got, 0.15, abs=1e-07)"
    assert {"test_numpy", "test_fixture", "test_skipped"}.isdisjoint(by_test)
    by_test = {
        case.origin.split("::")[1].split(":")[0]: case.body for case in suite.cases(functions["doubled"], 50)
    }
    assert "def helper(values)" in by_test["test_through_a_variable"]
    assert by_test["TestDoubled.test_it"] == (
        "self_factor = 2\nself_values = [3]\nassert doubled(self_values) == [3 * self_factor]"
    )
    assert suite.cases(functions["nothing"], 50) == ()


def test_exceptions_are_expected_and_parameters_filled_in(read) -> None:
    _, functions, suite = read
    bodies = [case.body for case in suite.cases(functions["mean"], 50)]
    assert sum(body.startswith("try:\n    mean(") for body in bodies) == 2
    assert any(body.startswith("values, expected = ([2, 4], 3)") for body in bodies)
    assert len(suite.cases(functions["mean"], 3)) == 3
    assert suite.counts["asks about several functions"] == 1  # mean(doubled(...)) asks only about mean
    assert suite.counts["test files"] == 1  # the broken file is not read


def test_cases_make_the_tests_stronger_and_a_wrong_one_is_dropped(read) -> None:
    corpus, functions, suite = read
    context = execution_context(corpus)
    wanted = list(functions.values())
    found = draw_up_tests(wanted, "", context, suite, seed=1, workers=2)
    drawn = {one.function.name: one.tests for one in found}
    assert drawn["mean"].sources["test-suite"] == 5  # six were requested, including the wrong one
    assert "test_wrong_on_purpose" not in drawn["mean"].text
    assert "def close(" in drawn["mean"].text
    assert drawn["nothing"] is not None
    truths, *_ = verify_functions(wanted, corpus, wanted=3, seed=1, workers=2, suite=suite)
    mean = next(truth for truth in truths if truth.function.name == "mean")
    assert (
        any("raise ValueError" in b.source and "if values" in b.source for b in mean.mutants) or mean.mutants
    )


@pytest.mark.parametrize(
    ("source", "binds", "needs", "touches"),
    [
        ("x = y + 1", {"x"}, {"y"}, set()),
        ("import a.b, c as d", {"a", "d"}, set(), set()),
        ("G.add_edge(0, n)", set(), {"G", "n"}, {"G", "n"}),
        ("d['k'] = v", set(), {"d", "v"}, {"d"}),
        ("t += 1", {"t"}, {"t"}, set()),
        ("s = sum(i for i in z)", {"s", "i"}, {"sum", "z"}, set()),
        ("def f(p):\n    q = p\n    return q + r", {"f"}, {"r"}, set()),
        ("for k in ks:\n    w = k\n    print(w)", {"k", "w"}, {"ks", "print"}, {"print", "w"}),
    ],
)
def test_names_of_statements(source, binds, needs, touches) -> None:
    statement = ast.parse(source).body[0]
    assert bound_names(statement) == binds
    assert needed_names(statement) == needs
    assert touched_names(statement) == touches


def test_only_the_set_up_that_assertions_rest_on_is_kept() -> None:
    setup = "import math\nimport json\na = 1\nb = a + 1\nc = json.loads('1')\nb = b + 1\nprint(c)"
    kept = statements_for(setup, ["assert math.sqrt(b) > 0"])
    assert kept == ["import math", "a = 1", "b = a + 1", "b = b + 1"]
