"""Docstrings: the summary is prose alone, and what the filter lets through the scorer accepts."""

from __future__ import annotations

import ast
import dataclasses

import docstring_parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.code.docstrings import beyond_summary, normal_docstring, read_docstring, stub, with_docstring
from helpers.code.functions import functions_of_file
from helpers.code.names.context import NameContext
from helpers.data.queries.wording import first_sentence
from helpers.data.tasks.draft import task_of
from helpers.data.tasks.execution import ExecutionContext
from helpers.data.tasks.filters import Filters
from helpers.data.tasks.prose_drafts import documented_drafts
from helpers.eval.references import score_references
from helpers.models.causal_lm import load_tokenizer
from helpers.profiles import PROFILES
from helpers.records import SourceFile
from helpers.settings import TINY_CODE_LM

EXAMPLES = (
    ">>> def incr(x): return x + 1\n>>> total(incr(2))\n4",
    ">>> import helperlib\n>>> helperlib.made_up(`no_such`)",
    "In [1]: made_up(2)\nOut[1]: 4",
    "```python\nmade_up(2)\n```",
    ".. math:: made_up(x)",
)
GAPS = ("\n", "\n\n", "\n    \n")
SECTION = "\n\nParameters\n----------\nvalue : int\n    The value{gap}{example}\n\nReturns\n-------\nint\n    The total{gap}{example}"


@pytest.mark.parametrize("sign", ["=", "-", "~", '"', "'"])
def test_lines_around_a_title_are_no_words_of_the_summary(sign):
    for text in (f"{sign * 9}\nThe total\n{sign * 9}\n\nMore.", f"The total\n{sign * 9}\n\nMore."):
        assert read_docstring(text).summary == "The total"


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("gap", GAPS)
def test_a_summary_ends_where_an_example_begins(example, gap):
    docstring = f" Return the total of a value{gap}{example}"
    assert read_docstring(docstring).summary == "Return the total of a value"
    assert first_sentence(docstring) == "Return the total of a value"
    facts = read_docstring(docstring + SECTION.format(gap="\n    ", example=example.replace("\n", "\n    ")))
    assert facts.summary == "Return the total of a value"
    assert [(p.name, p.description) for p in facts.parameters] == [("value", "The value")]
    assert facts.returns.description == "The total"


@pytest.mark.parametrize("line", ["-----", "=====", "~~~~~", "^^^^^"])
def test_a_summary_ends_at_an_underline(line):
    assert read_docstring(f"Total of it\n{line}\nMore to say.").summary == "Total of it"
    assert read_docstring(f"Total of it\n\nUsage here\n{line}\nMore to say.").summary == "Total of it"
    assert (
        read_docstring(f"Total of it\nall in all\nUsage\n{line}\nMore.").summary == "Total of it all in all"
    )


def test_prose_that_looks_a_little_like_an_example_stays():
    for text in ("Shift it by x >>> y places", "Give -- or take --- the rest", "Return `a`...and `b`"):
        assert read_docstring(text).summary == text


def test_a_docstring_of_an_example_alone_has_no_summary():
    facts = read_docstring(">>> total(2)\n4")
    assert facts.summary == ""
    assert normal_docstring(facts, ()) is None


WORDS = st.sampled_from(
    ("total", "`value`", "``value``", "made_up", "`made_up`", "`made_up(2)`", "LostError", "a (b)")
)
SENTENCE = st.lists(WORDS, min_size=1, max_size=5).map(" ".join)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TINY_CODE_LM)


@settings(deadline=None, max_examples=60)
@given(SENTENCE, st.sampled_from(("", *EXAMPLES)), st.sampled_from(GAPS), SENTENCE)
def test_what_the_filter_keeps_the_scorer_passes(tokenizer, sentence, example, gap, described):
    docstring = f"Return {sentence}{gap}{example}" + SECTION.format(gap=" ", example=described)
    lines = docstring.replace("\n", "\n    ")
    source = f'def total(value):\n    """{lines}\n    """\n    return value * 2\n'
    functions = functions_of_file(SourceFile("m.py", source, "", len(source)), "m")
    names = NameContext.from_functions(functions)
    track = dataclasses.replace(PROFILES["smoke"].track_b, max_prompt_tokens=2_000, max_new_tokens=2_000)
    check = Filters(track, tokenizer, names)
    drafts = documented_drafts(functions, seed=1)
    tasks = [task_of(draft, draft.kind) for draft in check.keep(drafts, is_task=True)]
    scores = score_references(tasks, context=ExecutionContext((), ()), workers=1, names=names)
    assert [(score.status, score.invented_names) for score in scores] == [("passed", ())] * len(tasks)
    assert drafts
    if "made_up" not in sentence + described and "LostError" not in sentence + described:
        assert {task.kind for task in tasks} == {"explain", "docstring"}


NUMPYDOC = """Return the paths that `G` has.

A table of them:

:node: one of `G`
:edge: two of them
:walk: some of them
:path: a walk without repetition
:loop: a walk that ends where it began

Parameters
----------
G : Graph
    The graph; default value is the empty one.
cutoff : int, optional (default=None)
    The longest path.

Returns
-------
paths : list
    All of them.
"""
GOOGLE = """Return the paths that `G` has.

Of each, only the ends are kept, as in
:class:`Ends`, :class:`Start` and
:class:`Finish`, or else in
:class:`Both`; see also
:class:`Neither` and
:class:`All`.

Args:
    G (Graph): The graph.
    cutoff (int): The longest path.

Returns:
    list: All of them.
"""


@pytest.mark.parametrize("docstring", [NUMPYDOC, GOOGLE])
def test_sections_decide_the_style_and_not_a_colon_in_the_prose(docstring) -> None:
    """docstring_parser takes both for reST, in which they have no parameters."""
    assert not docstring_parser.parse(docstring).params
    facts = read_docstring(docstring)
    assert facts.summary == "Return the paths that `G` has."
    assert [item.name for item in facts.parameters] == ["G", "cutoff"]
    assert facts.parameters[1].description == "The longest path."
    assert facts.returns.type == "list" or facts.returns.name == "paths"


def test_rest_and_prose_keep_the_librarys_guess() -> None:
    facts = read_docstring("Return x.\n\n:param x: The value.\n:returns: It.\n:raises KeyError: never.\n")
    assert [item.name for item in facts.parameters] == ["x"]
    assert facts.raises == ("KeyError",)
    assert read_docstring("Returns\n-------\n").summary is not None
    assert read_docstring("See Args:\nnothing").parameters == ()


@pytest.mark.parametrize(
    "words", ["default value is 3", "Defaults to 3", "optional (default: 3)", "default=3"]
)
def test_a_default_is_shown_in_its_authors_words_or_not_at_all(words) -> None:
    """docstring_parser reads "default value is 3" as the default "value"."""
    facts = read_docstring(f"Return x.\n\nParameters\n----------\nx : int\n    The value; {words}.\n")
    (item,) = facts.parameters
    assert (item.type, item.description) == ("int", f"The value; {words}.")
    assert normal_docstring(facts, ("x",)).count("3") == 1


def test_a_stub_ends_before_the_first_statement_with_its_decorators():
    code = "def outer(g):\n    # why\n    @wraps(g)\n    @ cached\n    def inner(x):\n        return g(x)\n    return inner\n"
    assert stub(code, "Wrap it.") == 'def outer(g):\n    """Wrap it."""\n    # why\n'
    bracketed = "def outer(g):\n    @(\n        cached\n    )\n    def inner(x):\n        return g(x)\n    return inner\n"
    assert stub(bracketed, "Wrap it.") == 'def outer(g):\n    """Wrap it."""\n'
    one_line = "def f(a): return a\n"
    assert ast.parse(stub(one_line, "Give a.") + "    pass\n")
    assert ast.get_docstring(ast.parse(stub(one_line, "Give a.") + "    pass\n").body[0]) == "Give a."


@pytest.mark.parametrize(
    "head", ["def f(a)", "def f(\n    a,\n)", "def f(\n    a: int\n) -> int", "@cached\ndef f(a)"]
)
def test_a_body_on_the_line_of_the_signature_comes_after_the_docstring(head):
    written = with_docstring(f"{head}: return a\n", "Give a.")
    assert ast.get_docstring(ast.parse(written).body[0]) == "Give a."
    assert written.endswith('"""Give a."""\n    return a\n')


@pytest.mark.parametrize(
    "code",
    [
        "def f(a):\n\treturn a\n",
        "def f(a):\n  return a\n",
        "def f(a={\n    'k':\n    1}):\n    return a\n",
        "def f(*a: {\n    'k':\n    1}, **b):\n    return a\n",
        "def f(a, /, *, b=[\n    1][\n    0:\n    ]):\n    return a\n",
        "@cached(\n    x\n)\ndef f(a): return a\n",
    ],
)  # fmt: skip
def test_a_docstring_is_the_first_statement_however_the_function_is_written(code):
    tree = ast.parse(with_docstring(code, "Give a."))
    function = tree.body[-1]
    assert ast.get_docstring(function) == "Give a."
    assert ast.dump(ast.parse(code).body[-1].args) == ast.dump(function.args)


SECTIONS = """Return the flow from `s`.

The flow is **as large** as it can be. It may be 0.

Parameters
----------
s : node
    Where it comes from
t : node

Returns
-------
value : float
    Net outflow

Raises
------
ValueError
    If there is none
See also
--------
other_flow
"""


def test_beyond_its_summary_a_docstring_tells_prose_parameters_result_and_exceptions():
    prose = "The flow is **as large** as it can be. It may be 0."
    rest = "Returns: float, Net outflow.\n\nRaises: `ValueError`."
    listed = "Parameters: `s`: node, Where it comes from; `t`: node."
    assert beyond_summary(SECTIONS, 500) == f"{prose}\n\n{listed}\n\n{rest}"
    assert beyond_summary(SECTIONS, 110) == f"{prose}\n\n{rest}"  # the list of parameters goes first
    assert beyond_summary(SECTIONS, 50) == "The flow is **as large** as it can be."  # whole sentences
    assert beyond_summary("Return the flow.", 500) == ""
    assert beyond_summary("Return the flow. It is large.", 500) == "It is large."


@pytest.mark.parametrize(
    "fields",
    [
        "Args:\n    s (node): Where it comes from.\n\nReturns:\n    float: Net outflow.\n",
        ":param node s: Where it comes from.\n:returns: Net outflow.\n:rtype: float\n",
    ],
)
def test_sections_of_other_styles_are_told_once(fields):
    told = beyond_summary(f"Return the flow.\n\nIt may be 0.\n\n{fields}", 500)
    assert told.startswith("It may be 0.\n\nParameters: `s`: node, Where it comes from.\n\nReturns: ")
    assert told.count("Net outflow") == told.count("comes from") == 1


def test_a_heading_below_exceptions_is_none_of_them():
    assert read_docstring(SECTIONS).raises == ("ValueError",)
