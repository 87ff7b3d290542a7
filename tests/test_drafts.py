"""Drafts are made only where the tests notice the trivial answer."""

from __future__ import annotations

import ast
import calendar
import inspect
import statistics
import textwrap
from dataclasses import replace

import pytest

from helpers.code.docstrings import docstring_of
from helpers.code.extraction import extract_code
from helpers.code.functions import without_docstring
from helpers.data.tasks.branches import marked_branches
from helpers.data.tasks.bugs import Bug, make_bugs
from helpers.data.tasks.choosing import choose_drafts
from helpers.data.tasks.draft import pair_of, without_fences
from helpers.data.tasks.drafts import executable_drafts
from helpers.data.tasks.execution import ExecutionContext, strip_decorators
from helpers.data.tasks.ground_truth import GroundTruth
from helpers.data.tasks.implementations import implementations
from helpers.data.tasks.phrasings import mark_line, spliced, unfenced
from helpers.data.tasks.repairs import told_and_fixed
from helpers.data.tasks.suite_cases import SuiteCase
from helpers.data.tasks.test_sets import TestSet
from helpers.profiles import RunRequest, resolve_profile
from helpers.records import Function
from helpers.run.workspace import write_jsonl
from helpers.sandbox.api import run_program
from helpers.tools.verify_pairs import verify_saved_pairs

WANTED = {"fix_bug": 4, "implement": 2, "improve": 0, "unit_tests": 0}


def truth(code: str, asserts: tuple[str, ...], summary: str = "Do it.") -> GroundTruth:
    name = code[4 : code.index("(")]
    tests = "\n".join(asserts) + "\n"
    mutants = tuple(b for b in make_bugs(code) if not run_program(b.source, tests, entry_point=name).passed)
    function = Function(
        id=f"m.py::{name}", path="m.py", module="m", qualname=name, name=name, source=code, code=code,
        docstring=summary, doctests=0, parameters=("x",), start_line=1, end_line=9, is_method=False,
        is_nested=False, is_async=False,
    )  # fmt: skip
    test_set = TestSet("", asserts, (), (False,) * len(asserts))
    return GroundTruth(function, code, "pass\n", test_set, mutants, len(mutants), len(mutants))


def drafts(known: GroundTruth, form: str = "line"):
    context = ExecutionContext((), ())
    return executable_drafts([known], context, wanted=WANTED, repair_form=form, seed=1, workers=1)


GUARDED = "def guarded(x):\n    if x < 0:\n        raise ValueError(x)\n    return x + 1\n"


def test_a_repair_is_asked_for_only_where_removing_the_line_is_noticed() -> None:
    """The guard is not tested: `if False:` in its place passes, so repairing it would prove nothing."""
    untested = truth(GUARDED, ("assert guarded(1) == 2", "assert guarded(5) == 6"))
    assert {bug.line for bug in untested.mutants} >= {2, 4}  # faults in the guard can fail the tests ...
    lines = {d.detail["line"] for d in drafts(untested) if d.kind == "fix_bug"}
    assert lines == {"4"}  # ... yet only the return is asked for
    caught = "try:\n    guarded(-1)\n    assert False\nexcept ValueError:\n    pass"
    tested = truth(GUARDED, ("assert guarded(1) == 2", caught))
    assert {d.detail["line"] for d in drafts(tested) if d.kind == "fix_bug"} == {"2", "4"}


@pytest.mark.parametrize("form", ["line", "function"])
def test_every_repair_given_fails_and_its_answer_passes(form) -> None:
    known = truth("def add(x, y=2):\n    return x + y\n", ("assert add(1) == 3", "assert add(4, 4) == 8"))
    repairs = [d for d in drafts(known, form) if d.kind == "fix_bug"]
    assert repairs
    for draft in repairs:
        assert not run_program(draft.given, known.tests, entry_point="add").passed
        marked = mark_line(draft.given, int(draft.detail["line"]), above=form == "function")
        assert marked.strip() in draft.instruction
        line = int(draft.detail["line"])
        by_line = form == "line"
        whole = spliced(draft.given, line, draft.response) if by_line else extract_code(draft.response)
        assert run_program(whole, known.tests, entry_point="add").passed


def follow(told: str, given: str, line: int) -> list[str]:
    """Return the words of `given` changed as a repair's first sentence says."""
    lines = given.splitlines()
    quoted = told.split("`")[1]
    if told.startswith("The marked line must be"):
        lines[line - 1] = quoted
    else:
        assert told.endswith("is missing.")
        lines.insert(line - 1 if told.startswith("Before") else line, quoted)
    return "\n".join(lines).split()


def without_block(told: str, code: str, line: int) -> list[list[str]]:
    """Return `code` without the header that is told and one line of its block, two lines, and so on."""
    lines = code.splitlines()
    start = line - 1 if told.startswith("Before") else line
    assert lines[start].strip() == told.split("`")[1]
    return [lines[:start] + lines[end:] for end in range(start + 2, len(lines) + 1)]


LIMITED = "def limited(x):\n    if x > 3:\n        return 3\n    x += 1\n    return x\n"
LIMITED_TESTS = tuple(f"assert limited({n}) == {min(n + 1, 3) if n < 4 else 3}" for n in (0, 1, 5, 9))


@pytest.mark.parametrize(
    ("operator", "told"),
    [
        ("flip_comparison", "The marked line must be `if x > 3:`."),
        ("lost_return", "The marked line must be `return x`."),
        ("dropped_branch", "Before the marked line, `if x > 3:` and its block are missing."),
    ],
)
def test_a_repair_says_what_was_wrong_before_it_gives_the_function(operator, told) -> None:
    known = truth(LIMITED, LIMITED_TESTS)
    made = [d for d in drafts(known, "function") if d.kind == "fix_bug" and d.detail["operator"] == operator]
    assert [d.response.partition("\n\n")[0] for d in made].count(told) == 1
    for draft in made:
        assert without_fences(draft).response == LIMITED.rstrip()  # else the sentence would pass for code


def test_a_saved_repair_is_checked_for_what_it_says(tmp_path) -> None:
    known = truth(LIMITED, LIMITED_TESTS)
    made = [d for d in drafts(known, "function") if d.kind == "fix_bug"]
    told = [d for d in made if d.response.startswith("The marked line must be")]
    false = replace(told[0], response=told[0].response.replace("must be `", "must be `return ", 1))
    pairs = [pair_of(draft, f"train-{place}") for place, draft in enumerate([*made, false])]
    for name, rows in (("train", pairs), ("validation", []), ("tasks", [])):
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    found = verify_saved_pairs(tmp_path, ExecutionContext((), ()), workers=1)
    assert [line.partition(": ")[2] for line in found.problems] == [
        "what the answer says of the marked line is not so"
    ]


SPREAD = """def spread(x, y=2):
    for item in x:
        if item > y:
            return item
    x.append(y)
    x.append(y)
    total = sum(
        x,
        y,
    )
    if total > 3:
        total -= 1
    # otherwise
    else:
        total += 1
    return (
        total and y
    )
"""


@pytest.mark.parametrize("module", [statistics, textwrap, calendar, None])
def test_what_a_repair_says_turns_the_given_code_into_the_right_one(module) -> None:
    """Also where a fault spans lines, lines repeat, or difflib could align them in several ways."""
    codes = [SPREAD] if module is None else [
        textwrap.dedent(inspect.getsource(value)) for value in vars(module).values()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    ]  # fmt: skip
    said = 0
    for code in map(strip_decorators, map(without_docstring, codes)):
        for bug in make_bugs(code):
            told, _, function = told_and_fixed(code, bug).rpartition("```python\n")
            assert function == code.rstrip() + "\n```"
            if told.endswith("and its block are missing.\n\n"):
                assert bug.source.splitlines() in without_block(told, code, bug.line), (bug, told)
            elif told:
                assert follow(told.strip(), bug.source, bug.line) == code.split(), (bug, told)
            said += bool(told)
    assert said


FOUND = "def f(x):\n    for i in x:\n        if i:\n            return i\n    return 0\n"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("def f(x):\n    for i in x:\n        pass\n", 3),  # stands for two lines
        ("def f(x):\n    for i in x:\n        if i:\n            g(\n", 4),
        (FOUND, 9),  # a spoilt pair
    ],
)
def test_nothing_is_said_of_a_repair_that_one_sentence_cannot_say(given, line) -> None:
    bug = Bug("dropped_branch", given, line, "", "")
    assert told_and_fixed(FOUND, bug) == f"```python\n{FOUND.rstrip()}\n```"


def to_write(*known: GroundTruth):
    return implementations(known, ExecutionContext((), ()), seed=1, workers=1)


@pytest.mark.parametrize(
    ("code", "asserts"),
    [
        ("def idle(x):\n    x.append\n", ("assert idle([]) is None",)),
        ("def same(x):\n    return x\n", ("assert same([]) == []", "assert same(1) == 1")),
        ("def busy(x):\n    return [x]\n", ("assert busy(1) == [1]",)),
        ("def busy(x):\n    return [x]\n", ("assert [1] == busy(1)",)),
        ("def busy(x):\n    return [x]\n", ("want = [1]\nassert busy(1) == want",)),
        ("def all_of(x):\n    return all(x)\n", ("assert all_of([]) is True", "assert all_of([1]) is True")),
    ],
    ids=["empty body", "argument", "expected value", "on the left", "with a name", "expected value of each"],
)
def test_nothing_is_to_be_implemented_that_a_body_without_thought_does(code, asserts) -> None:
    assert not to_write(truth(code, asserts))


BUSY = "def busy(x):\n    return [x] + [x + 1]\n"
ASSERTS = ("assert busy(1) == [1, 2]", "assert busy(5) == [5, 6]")
TOLD = "Return `x` and more.\n\nThe other one follows `x`.\n\nReturns\n-------\nlist of int\n"


def test_what_tests_of_an_implementation_ask_for_its_authors_wrote() -> None:
    """Recorded answers are used as far as functions with tests by their authors are too few."""
    recorded = truth(BUSY, ASSERTS)
    written = truth(BUSY.replace("busy", "own"), tuple(a.replace("busy", "own") for a in ASSERTS))
    both = replace(
        written.test_set, asserts=(*written.test_set.asserts, "assert own(7) == [7, 8]"),
        promised=(True, True, False),
    )  # fmt: skip
    written = replace(written, test_set=both)
    draft, spare = to_write(recorded, written)
    assert (spare.function.name, spare.is_spare, draft.is_spare) == ("busy", True, False)
    assert draft.function.name == "own"
    assert draft.truth.test_set.asserts == written.test_set.asserts[:2]
    assert "own(7)" not in pair_of(draft, "p").tests
    assert draft.verified[0] == "reference passes 2 tests by its authors"
    settings = replace(resolve_profile(RunRequest("smoke")).track_b, language_tasks=0)
    for wanted, names in ((1, ["own"]), (2, ["own", "busy"]), (9, ["own", "busy"])):
        chosen = choose_drafts([spare, draft], "test", replace(settings, executable_tasks=5 * wanted), seed=1)
        assert [d.function.name for d in chosen][:wanted] == names


def test_tests_by_authors_must_notice_as_many_bugs_as_others() -> None:
    code = "def sign(x):\n    if x < 0:\n        return -1\n    return 1 if x > 0 else 0\n"
    known = truth(
        code, ("assert sign(0) == 0", "assert sign(3) == 1", "assert sign(-3) == -1", "assert sign(-1) == -1")
    )
    weak = replace(known, test_set=replace(known.test_set, promised=(True, False, False, False)))
    (spare,) = to_write(weak)
    assert (spare.is_spare, spare.truth.n_cases) == (True, 4)
    strong = replace(known, test_set=replace(known.test_set, promised=(True, True, True, False)))
    (draft,) = to_write(strong)
    assert (draft.is_spare, draft.truth.n_cases) == (False, 3)


SIGN = "def sign(x):\n    return -1 if x < 0 else 1\n"
ALL_SIGNS = "assert [sign(x) for x in (-2, 0, 3)] == [-1, 1, 1]"
SAME_AGAIN = "assert [sign(x) for x in (-1, 5, 0)] == [-1, 1, 1]"


@pytest.mark.parametrize(
    ("asserts", "suite", "is_spare"),
    [
        ((ALL_SIGNS,), (), True),
        ((ALL_SIGNS, SAME_AGAIN), (), True),
        ((ALL_SIGNS, "assert sign(-1) == -1"), (), False),
        ((ALL_SIGNS,), ("t.py::test_a:3",), False),
        ((), ("t.py::test_a:3", "t.py::test_a:4"), True),
        ((ALL_SIGNS, SAME_AGAIN), ("t.py::test_b:9",), False),
    ],
)
def test_one_answer_that_authors_expect_is_too_few(asserts, suite, is_spare) -> None:
    """A function that is wrong everywhere else may give that one answer."""
    known = truth(SIGN, (ALL_SIGNS, "assert sign(-1) == -1"))
    cases = tuple(SuiteCase(origin, "assert sign(-3) < sign(0)") for origin in suite)
    rest = tuple(text for text in known.test_set.asserts if text not in asserts)
    promised = (True,) * len(asserts) + (False,) * len(rest)
    tests = replace(known.test_set, asserts=(*asserts, *rest), promised=promised, suite=cases)
    (draft,) = to_write(replace(known, test_set=tests))
    assert draft.is_spare == is_spare


def test_sizes_alone_are_too_little() -> None:
    """Any values of that number would pass."""
    code = "def first(x):\n    found = []\n    for y in range(x):\n        found.append(y * 2)\n    return found\n"
    sizes, value = ("assert len(first(0)) == 0", "assert len(first(3)) == 3"), "assert first(2) == [0, 2]"
    for asserts, is_spare in ((sizes, True), ((*sizes, value), False)):
        known = truth(code, asserts)
        by_authors = replace(known.test_set, promised=(True,) * len(asserts))
        (draft,) = to_write(replace(known, test_set=by_authors))
        assert draft.is_spare == is_spare


def test_a_request_to_implement_tells_what_the_docstring_tells() -> None:
    (draft,) = to_write(truth(BUSY, ASSERTS, TOLD))
    told = "The other one follows `x`.\n\nReturns: list of int."
    assert draft.instruction.endswith(f'''def busy(x):\n    """Return `x` and more."""\n```\n\n{told}''')
    (draft,) = to_write(truth(BUSY, ASSERTS))
    assert draft.instruction.endswith("```")


def test_an_implementation_keeps_the_docstring_that_was_shown() -> None:
    (draft,) = to_write(truth(BUSY, ASSERTS, TOLD))
    shown, answered = (docstring_of(code) for code in (draft.given + "    pass\n", unfenced(draft.response)))
    assert shown == "Return `x` and more."
    assert answered == shown


def test_an_improvement_is_asked_for_where_no_branch_could_be_left_out_unnoticed() -> None:
    """Those of other functions are spares."""
    code = "def named(x):\n    if x > 9:\n        return {}\n    name = x + 1\n    return name\n"
    some = truth(code, ("assert named(1) == 2", "assert named(5) == 6"))
    full = truth(code.replace("named", "own"), ("assert own(1) == 2", "assert own(10) == {}"))
    context, wanted = ExecutionContext((), ()), dict.fromkeys(WANTED, 0) | {"improve": 2}
    made = executable_drafts([some, full], context, wanted=wanted, seed=1, workers=1)
    known = [(d.function.name, d.is_spare, len(d.verified)) for d in made if d.kind == "improve"]
    assert set(known) == {("own", False, 3), ("named", True, 2)}
    assert all("branch" in d.verified[-1] for d in made if d.kind == "improve" and not d.is_spare)


@pytest.mark.parametrize(
    ("code", "branches"),
    [
        ("def f(x):\n    return x\n", 0),
        ("def f(x):\n    if x:\n        return 1\n    return 2\n", 2),
        ("def f(x):\n    if x: return 1\n    elif x is None: return 2\n    else: return 3\n", 4),
        ("def f(x):\n    for y in x:\n        x = y\n    else:\n        x = 1\n    return x\n", 2),
        (
            "def f(x):\n    try:\n        x()\n    except KeyError:\n        x = 1\n    finally:\n        x = 2\n",
            3,
        ),
        ("def f(x):\n    def g(y):\n        return y\n    return g(x)\n", 1),
        (
            "def f(x):\n    match x:\n        case 1:\n            return 2\n        case _:\n            return 3\n",
            2,
        ),
    ],
)
def test_each_branch_is_marked_once(code, branches) -> None:
    marked = list(marked_branches(code))
    assert len(set(marked)) == len(marked) == branches
    lines = [ast.dump(node) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.stmt)]
    for text in marked:
        kept = [ast.dump(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt)]
        assert len(kept) == len(lines) + 1
