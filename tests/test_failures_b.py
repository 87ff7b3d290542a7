"""Track B's failure cases: each diagnosis says what is wrong with that answer."""

import pytest

from helpers.eval.failures_b import outcome, track_b_failures
from helpers.records import ResponseScore, Task

BUGGY = "def area(width, height):\n    total = width + height\n    return total\n"
FIXED = "def area(width, height):\n    total = width * height\n    return total\n"
WRONG_VALUE = "the tests: line 1, 'assert (area(2, 3)) == 6': AssertionError"
RAISED = "the tests: line 1, 'assert (area(2, 3)) == 6': NameError: name 'x' is not defined"


def fence(code):
    return f"```python\n{code}```"


def failed(response, status="failed", *, kind="fix_bug", reference=fence(FIXED), task_detail=(), **fields):
    detail = {"given": BUGGY, "code": FIXED, "line": "2", **dict(task_detail)}
    task = Task("t1", kind, "m.py::area", "m.py", f"Do it.\n\n{BUGGY}", reference, "area", "", "", 1, detail)
    values = {"style": None, "style_findings": (), "invented_names": (), "detail": ""} | fields
    score = ResponseScore("t1", kind, "m.py::area", 0, response, status, False, **values)
    (failure,) = track_b_failures([score], [task])
    return failure


@pytest.mark.parametrize(
    ("response", "status", "category", "evidence"),
    [
        ("  \n", "empty", "empty answer", "nothing but white space"),
        ("def area(\n" + "    x = 1\n" * 9, "unparsable", "repeats itself", "9 times the same line: `x = 1`"),
        ("```python\ndef area(" + "a, " * 300, "unparsable", "cut off before the end", "never closes"),
        ("def area(:", "unparsable", "does not parse", "line 1, `def area(:`"),
        (fence(BUGGY), "failed", "returned the input unchanged", "`-    total = width + height`"),
        (fence(BUGGY.replace("height\n ", "height  # bug\n ")), "failed", "returned the input unchanged", "Missing"),
        (fence(FIXED), "timeout", "timeout", "100% the reference's"),
        (fence("def volume(a):\n    return a\n"), "failed", "function missing", "does not define `area`"),
        (fence(FIXED).replace("return total", "return width"), "failed", "lost its way while copying",
         "as far as line 3, which reads `return width`; the code given has `return total`"),
        (fence(FIXED.replace("*", "-")), "crashed", "crashed", "`total = width - height`"),
    ],
)  # fmt: skip
def test_categories_of_whole_answers(response, status, category, evidence):
    failure = failed(response, status)
    assert failure.category == category
    assert evidence in failure.diagnosis
    assert failure.expected == fence(FIXED)


def test_a_round_of_several_lines_is_a_loop_even_if_the_last_is_cut():
    text = (
        'def area(width):\n    """Do.\n'
        + "    nodes : list\n        The nodes in the graph.\n" * 6
        + "    nodes : li"
    )
    failure = failed(text, "unparsable", kind="docstring")
    assert failure.category == "repeats itself"
    assert "6 times the same 2 lines: `nodes : list / The nodes in the graph.`" in failure.diagnosis
    assert "From line 3 on" in failure.diagnosis
    once = failed("def area(\n    a\n    b\n    a\n    b\n", "unparsable")
    assert once.category == "does not parse"


def test_a_right_answer_that_does_not_stop():
    failure = failed(FIXED + "    return total\n" * 7 + "    return to", "unparsable")
    assert failure.category == "right, then does not stop"
    assert "8 times the same line: `return total`" in failure.diagnosis


def test_a_wrong_value_tells_what_was_expected():
    wrong = failed("def area(a, b):\n    return a\n", kind="implement", detail=WRONG_VALUE)
    assert wrong.category == "wrong value"
    assert "Expected of `area(2, 3)`: `6`; got another value." in wrong.diagnosis
    raised = failed("def area(a, b):\n    return x\n", kind="implement", detail=RAISED)
    assert raised.category == "raises NameError"
    assert "got NameError: name 'x' is not defined" in raised.diagnosis
    assert raised.diagnosis.endswith(f"Scorer: {RAISED}")


LINE = {"form": "line"}


@pytest.mark.parametrize(
    ("response", "fields", "category", "evidence"),
    [
        ("total = width + height  # bug", {}, "returned the input unchanged", "the repair needs `+` → `*`"),
        ("total = width - height", {"detail": WRONG_VALUE}, "wrong value",
         "the repair needs `+` → `*`; of this the answer makes nothing, and changes `+` → `-`. Expected of"),
        ("total = x * height\nreturn 3", {"detail": RAISED}, "raises NameError",
         "of this the answer makes `+` → `*`, and changes `width` → `x`"),
        ("total = (width", {"status": "unparsable"}, "does not parse", "'(' was never closed"),
        ("total = width * hite", {"invented_names": ("hite",)}, "invented names", "1 name that does not exist: `hite`"),
    ],
)  # fmt: skip
def test_answers_of_one_line(response, fields, category, evidence):
    failure = failed(response, reference="total = width * height", task_detail=LINE, **fields)
    assert failure.category == category
    assert evidence in failure.diagnosis


def test_invented_names_are_named():
    failure = failed(fence(FIXED), invented_names=("nx.nope", "grid"), detail="NameError: grid")
    assert failure.category == "invented names"
    assert "2 names that do not exist: `nx.nope`, `grid`" in failure.diagnosis
    assert failure.diagnosis.endswith("Scorer: NameError: grid")


@pytest.mark.parametrize(
    ("kind", "response", "detail", "category"),
    [
        ("explain", "It adds two numbers.", "not mentioned: height", "parameters left out"),
        ("explain", "It adds.", "something new", "failed its checks"),
        ("docstring", fence(FIXED), "no docstring", "no docstring"),
        ("docstring", fence(FIXED.replace("* h", "/ h")), "the code itself was changed", "changed the code it was to document"),
        ("unit_tests", "assert area(0, 0) == 0", "kills 0 of 3 mutants", "tests that notice nothing"),
        ("unit_tests", "assert area(0, 0) == 1", "the tests: line 1: AssertionError", "asserts that do not hold"),
        ("unit_tests", "assert area('') == 1", """the tests: line 1, "assert area('') == 1": AssertionError""",
         "asserts that do not hold"),
        ("unit_tests", "assert area('') == 1", """the tests: line 1, "assert area('') == 1": TypeError: area() takes""",
         "tests that raise TypeError"),
        ("unit_tests", "class T: ...", "the tests: line 4, 'self.assertEqual(area(1), 2)': TypeError: area()",
         "tests that raise TypeError"),
        ("unit_tests", "area(0, 0)", "no assert about area", "no test of the function"),
        ("explain", "It calls `f.g`.", "not in the code: f.g", "names what the code does not use"),
        ("explain", "It calls `f`.", "not called: f", "names calls that the code does not make"),
        ("explain", "It is", "breaks off within a sentence", "cut off before the end"),
        ("explain", "It is. It is.", "says the same again and again", "says the same again and again"),
        ("explain", "It returns 1.", "said to return a value, but returns none", "return value made up"),
        ("improve", fence(FIXED), "no gain: as many findings", "no gain"),
    ],
)  # fmt: skip
def test_categories_of_answers_judged_by_checks(kind, response, detail, category):
    reference = "`area` multiplies `width` and `height`." if kind == "explain" else fence(FIXED)
    failure = failed(response, kind=kind, detail=detail, reference=reference)
    assert failure.category == category
    assert failure.diagnosis.count(detail) == 1


@pytest.mark.parametrize(
    ("detail", "category", "came_to"),
    [
        ("""the tests: line 1, "assert area('a') == 6": TypeError: no""", "raises TypeError", "error"),
        ("the tests: line 9, 'area(2, 3)': KeyError: 2", "raises KeyError", "error"),
        ("the program: NameError: name 'x' is not defined", "raises NameError", "error"),
        ("""the tests: line 1, "assert area('a') == 6": AssertionError""", "wrong value", "wrong"),
        ("the tests: line 9, \"raise AssertionError('an exception')\": AssertionError: an exception", "wrong value",
         "wrong"),
        ("the tests never called area", "wrong value", "wrong"),
    ],
)  # fmt: skip
def test_exceptions_are_told_from_wrong_values_whatever_the_line(detail, category, came_to):
    response = "def area(a, b):\n    return a\n"
    assert failed(response, kind="implement", detail=detail).category == category
    score = ResponseScore("t", "implement", "f", 0, response, "failed", False, None, (), (), detail)
    assert outcome(score) == came_to


def test_a_function_that_is_cut_off_is_there():
    failure = failed(
        "import math\n\ndef area(width, height):\n    return math.prod((width,", kind="implement"
    )
    assert failure.category == "cut off before the end"


def test_greedy_failures_only():
    task = Task("t1", "implement", "f", "m.py", "do", "ref", "area", "", "assert 1", 1)
    base = ("t1", "implement", "f")
    scores = [
        ResponseScore(*base, 0, "x", "passed", True, None, (), ()),
        ResponseScore(*base, 1, "x", "failed", False, None, (), ()),
        ResponseScore(*base, 0, "x", "infrastructure_error", False, None, (), ()),
    ]
    assert track_b_failures(scores, [task]) == []
