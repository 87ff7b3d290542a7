"""Scoring of responses: what passes, what fails, and why, for every kind of task."""

import dataclasses
import json

import pytest

from helpers.data.tasks.execution import ExecutionContext
from helpers.data.tasks.generated_tests import asserts_about, without_definition
from helpers.data.tasks.phrasings import fenced_python
from helpers.eval.response_scoring import _judge_tests, copy_input_responses, score_responses
from helpers.records import Task
from helpers.sandbox.api import Outcome

CONTEXT = ExecutionContext((), ())
GOOD = "def add(a, b):\n    return a + b\n"
BAD = "def add(a, b):\n    return a - b\n"
WORSE = "def add(a, b):\n    result = a + b\n    return result\n"
DOCUMENTED = '''def add(a, b):
    """Return the sum of two numbers.

    Parameters
    ----------
    a : int
        The first.
    b : int
        The second.

    Returns
    -------
    int
        The sum.
    """
    return a + b
'''
TESTS = "assert add(1, 2) == 3\nassert add(0, 0) == 0\n"


def task(kind, given, reference, **detail):
    detail = {"given": given, "code": GOOD, "parameters": json.dumps(["a", "b"]), **detail}
    return Task(kind, kind, "a.py::add", "a.py", f"Do it.\n{given}", reference, "add", "", TESTS, 2, detail)


TASKS = {
    "fix_bug": task("fix_bug", BAD, fenced_python(GOOD)),
    "implement": task("implement", "def add(a, b):", fenced_python(GOOD)),
    "improve": task("improve", WORSE, fenced_python(GOOD)),
    "docstring": task("docstring", GOOD, fenced_python(DOCUMENTED)),
    "unit_tests": task(
        "unit_tests",
        GOOD,
        fenced_python("assert add(1, 2) == 3"),
        mutants=json.dumps([BAD, "def add(a, b):\n    return a\n"]),
    ),
    "explain": task("explain", GOOD, "`add` returns the sum of its two numbers, `a` and `b`."),
}


def score(kind, *texts):
    return score_responses([TASKS[kind]], {kind: list(texts)}, context=CONTEXT, workers=2)


def test_references_pass_and_copies_do_not():
    tasks = list(TASKS.values())
    scored = score_responses(tasks, {task.id: [task.reference] for task in tasks}, context=CONTEXT, workers=2)
    assert [s.status for s in scored] == ["passed"] * len(tasks), scored
    copied = score_responses(tasks, copy_input_responses(tasks), context=CONTEXT, workers=2)
    assert not any(s.passed for s in copied)


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_empty_truncated_and_foreign_answers_never_pass(kind):
    truncated = "```python\ndef add(a, b):\n    return (a +"
    for result in score(kind, "", "   \n", truncated, "Sure! Here it is:", "import os\nos._exit(0)"):
        assert not result.passed
        assert result.status != "infrastructure_error"
    assert score(kind, "")[0].status == "empty"


def test_chatter_around_code_is_handled_and_samples_are_numbered():
    results = score("fix_bug", f"Sure!\n\n{fenced_python(GOOD)}\n\nThis adds.", GOOD, fenced_python(BAD))
    assert [r.status for r in results] == ["passed", "passed", "failed"]
    assert [r.sample for r in results] == [0, 1, 2]
    assert all(r.style is not None for r in results)


def test_improving_needs_both_behaviour_and_gain():
    kept, broken, better = score("improve", WORSE, BAD, GOOD)
    assert (kept.status, broken.status, better.status) == ("failed", "failed", "passed")
    assert "no gain" in kept.detail


def test_docstring_must_leave_the_code_and_name_the_right_parameters():
    changed = DOCUMENTED.replace("a + b", "b + a")
    foreign = DOCUMENTED.replace("    b : int\n", "    b : int\n        X.\n    c : int\n")
    partial = DOCUMENTED.replace("    b : int\n        The second.\n", "")
    silent = DOCUMENTED[: DOCUMENTED.index("    Returns")] + '    """\n    return a + b\n'
    details = [r.detail for r in score("docstring", changed, foreign, partial, silent)]
    assert "changed" in details[0]
    assert "no such parameter: c" in details[1]
    assert "not described: b" in details[2]
    assert "return value" in details[3]


def test_unit_tests_must_hold_and_kill():
    weak = "assert add(0, 0) == 0"
    wrong = "assert add(1, 2) == 4"
    silent = "x = add(1, 2)"
    cheat = "def add(a, b):\n    return 3\n\nassert add(1, 2) == 3"
    as_functions = "def test_add():\n    assert add(1, 2) == 3\n"
    swallow = "try:\n    assert add(1, 2) == 4\nexcept AssertionError:\n    pass"
    results = score("unit_tests", weak, wrong, silent, cheat, as_functions, swallow)
    assert [r.passed for r in results] == [False, False, False, True, True, False]
    assert without_definition(cheat, "add") == "assert add(1, 2) == 3"
    assert asserts_about("assert add(1) and x", "add") == 1
    assert asserts_about("assert (", "add") == 0


def test_killed_mutants_are_counted():
    half = "assert add(0, 5) == 5"  # the second mutant gives 0 here, the first -5
    one = "assert add(4, 0) == 4"  # both mutants give 4
    results = score("unit_tests", half, one, "nothing")
    assert [r.status for r in results] == ["passed", "failed", "unparsable"]
    assert [r.killed_mutants for r in results] == [1.0, 0.0, 0.0]
    assert score("fix_bug", GOOD)[0].killed_mutants is None


def test_a_mutant_that_could_not_be_run_is_not_killed():
    passed, broken, fallen = (
        Outcome("passed"),
        Outcome("infrastructure_error", "no worker"),
        Outcome("failed"),
    )
    assert _judge_tests([passed], [broken, passed])[0] == "infrastructure_error"
    assert _judge_tests([passed], [broken, fallen]) == ("passed", "kills 1 of 2 mutants", 0.5)


def test_tests_that_fail_on_the_reference_once_earn_nothing():
    """Chance would otherwise look like a killed mutant."""
    passed, fallen = Outcome("passed"), Outcome("failed", "AssertionError")
    assert _judge_tests([passed, fallen, passed], [fallen]) == ("failed", "AssertionError", 0.0)


def test_explanations_name_every_parameter_and_need_not_repeat_the_name():
    few, missing, unnamed = score(
        "explain",
        "`add` adds `a` and `b`.",
        "`add` returns the sum of two numbers that it is given.",
        "This function takes two numbers, `a` and `b`, and returns their sum.",
    )
    assert "fewer" in few.detail
    assert "not mentioned: a, b" in missing.detail
    assert unnamed.passed


SHOWN = """def grow(self, G, *nodes):
    for node in nodes:
        if node not in G.adj:
            self.pending.append(node)
            G.add_node(node)
        logging.info("%s is a node", next(iter(nodes)))
"""
TAKES = "It takes `G` and `nodes` and adds every one of them to the graph."


def explained(text, code=SHOWN):
    given = task("explain", code, "", parameters=json.dumps(["self", "G", "nodes"]))
    given = dataclasses.replace(given, entry_point="grow")
    return score_responses([given], {"explain": [f"{TAKES} {text}"]}, context=CONTEXT, workers=1)[0]


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("It calls `G.add_node` and `G.add_edges_from`.", "not in the code: G.add_edges_from"),
        ("It reads `G.degree` for this.", "not in the code: G.degree"),
        ("Then `tree.get(node)` finds it.", "not in the code: tree.get"),
        ("Then `nodes.next()` finds it.", "not in the code: nodes.next"),
        ("It uses `for v in nx.isolates(G):` here.", "not in the code: nx.isolates"),
        ("It calls `isolates`, `append` and `self.grow`.", "not called: isolates, self.grow"),
        ("It calls `nodes.next` and `node.iter`.", "not called: nodes.next, node.iter"),
        ("It returns a dictionary keyed by node.", "said to return a value"),
        ("\nReturns the graph.", "said to return a value"),
        ("\n- Returns: the graph.", "said to return a value"),
        ("`grow` returns True if a node is added.", "said to return a value"),
        ("The function `grow` then returns `G`.", "said to return a value"),
        ("This method takes nodes and returns a list of them.", "said to return a value"),
    ],
)
def test_false_statements_fail_where_code_can_tell(text, detail):
    result = explained(text)
    assert not result.passed
    assert detail in result.detail


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (
            "It returns a function that returns " + "a function that returns a function that returns " * 3,
            "again",
        ),
        ("Each node that is not in the graph is added. " * 4, "again"),
        ("Each node that is not in the graph is", "breaks off"),
        ("\n- `G`: a graph.\n\nThe function then goes through all of the", "breaks off"),
        ("Each node is added to the graph `G", "breaks off"),
        ("Each node that is not in the graph is added. " * 3, ""),
        ("Each node that is not in the graph is added", ""),
        ("Then it is done\n\n- `G`: a graph\n- `nodes`: what to add", ""),
        ("What is known of `nodes` (see `grow`)", ""),
        ("As in\n\n```python\nx = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\n```", ""),
    ],
)
def test_an_explanation_comes_to_an_end_and_does_not_repeat_itself(text, detail):
    assert explained(text).passed is (detail == "")
    assert detail in explained(text).detail


@pytest.mark.parametrize(
    "text",
    [
        "It calls `self.pending.append`, `G.add_node(node)` and `logging.info`.",
        "A caller writes `builder.grow(nx.path_graph(3), 4)`, then `builder.grow` goes on.",
        "`G` is a `networkx.Graph`, an `nx.DiGraph` or a `collections.deque`, as in `networkx.algorithms`.",
        "With `None`, `True`, `for`, `1.5`, `not in` and `if node not in G.adj:` nothing changes.",
        "Weights are found as `G.edges[u, v]['weight']`, settings in `settings.toml`.",
        "It returns nothing.",
        "It returns `None`.",
        "It returns early if a node is there.",
        "\nReturns:\nNone",
        "\n### Return Value\n\nThis function returns nothing.",
        "\n**Return type:**\nNone",
        "\n3. **Returns**:\n   - None",
        "It does not return a value.",
        "It calls `G.add_node`, which returns the node's number.",
        "It calls a method that adds and returns the node.",
    ],
)
def test_true_statements_and_what_cannot_be_decided_pass(text):
    assert explained(text).detail == ""


@pytest.mark.parametrize(
    "body",
    ["return nodes", "yield from nodes", "raise NotImplementedError", '"""Return the nodes."""'],
)
def test_functions_that_return_or_are_to_be_overridden_may_be_said_to_return(body):
    code = f"def grow(self, G, *nodes):\n    {body}\n"
    assert explained("It returns the nodes that it added.", code).passed


def test_a_function_that_is_there_but_cut_off_is_not_called_missing():
    cut = "import math\n\ndef add(a, b):\n    total = math.fsum((a,\n"
    other = "import math\n\ndef addition(a, b):\n    return a + b\n"
    details = [r.detail for r in score("implement", cut, f"```python\n{cut}", other, fenced_python(cut))]
    assert details == ["the function add is cut off"] * 2 + ["no function add"] * 2


def test_what_is_whole_before_the_cut_is_judged():
    results = score("fix_bug", f"{GOOD}\nprint(add(1,", f"```python\n{GOOD}", f"{fenced_python(GOOD)}\nIt ad")
    assert all(result.passed for result in results)


def test_tests_that_call_the_original_test_the_function_in_question():
    prelude = "import importlib as _i\nglobals().update(vars(_i.import_module('statistics')))\n"
    right, wrong = "def fmean(data):\n    return sum(data) / len(data)\n", "def fmean(data):\n    return 0\n"
    mean = dataclasses.replace(
        task("unit_tests", right, "", code=right, mutants=json.dumps([wrong])),
        entry_point="fmean",
        prelude=prelude,
    )
    answers = [
        "from statistics import fmean\nassert fmean([2, 4]) == 3",
        "import statistics\nassert statistics.fmean([2, 4]) == 3",
        "from your_module import fmean\nassert fmean([2, 4]) == 3",
        "import statistics\nassert statistics.fmean([2, 4]) == 4",
        "assert fmean(2) == 2",
    ]
    scored = score_responses([mean], {"unit_tests": answers}, context=CONTEXT, workers=1)
    assert [s.passed for s in scored] == [True, True, True, False, False]
    assert scored[3].detail == "the tests: line 2, 'assert fmean([2, 4]) == 4': AssertionError"
    assert scored[4].detail.startswith("the tests: line 1, 'assert fmean(2) == 2': TypeError: ")


def test_a_corrected_line_is_put_into_the_function():
    by_line = task("fix_bug", BAD, "return a + b", form="line", line="2")
    answers = [
        "return a + b",
        "  return a + b  # bug",
        "return a - b",
        "",
        "return (",
        "```python\nreturn a + b\n```",
        "The corrected line:\n\n```python\n    return a + b\n```\nIt adds.",
        "`return a + b`",
        "I cannot say.",
    ]
    scored = score_responses([by_line], {"fix_bug": answers}, context=CONTEXT, workers=1)
    assert [s.passed for s in scored] == [True, True, False, False, False, True, True, True, False]
    assert copy_input_responses([by_line]) == {"fix_bug": ["return a - b"]}


def test_verdicts_do_not_depend_on_the_number_of_workers():
    tasks = list(TASKS.values())
    responses = {t.id: [t.reference, fenced_python(BAD), "x"] for t in tasks}
    one = score_responses(tasks, responses, context=CONTEXT, workers=1)
    assert one == score_responses(tasks, responses, context=CONTEXT, workers=3)
