"""Lines: numbered as Python's parser numbers them, wherever a line is looked up by its number."""

from __future__ import annotations

import ast
import io
import tokenize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.code.docstrings import docstring_of, same_code, with_docstring
from helpers.code.edits import SourceText
from helpers.code.functions import functions_of_file, without_docstring
from helpers.code.near_duplicates import python_tokens
from helpers.code.style import style_scores
from helpers.data.queries.documents import document_text, short_form, strip_nested_docstrings
from helpers.data.tasks.bugs import make_bugs
from helpers.data.tasks.execution import strip_decorators
from helpers.data.tasks.phrasings import BUG_MARK, NEXT_LINE_MARK, mark_line, spliced
from helpers.data.tasks.worsening import worsened_versions
from helpers.eval.token_roles import character_roles
from helpers.lines import bare_lines, indented, lines_of, with_newlines
from helpers.records import Function, SourceFile
from helpers.sandbox.judge import failure_line
from helpers.tools.complete import prompt_from

ENDS = ("\n", "\r", "\r\n")
# Where str.splitlines breaks and Python's parser does not. In code outside strings and comments Python
# allows only the form feed.
NO_ENDS = ("\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
TEXT = st.text(st.sampled_from(("a", " ", "é", "\n", "\r", *NO_ENDS)), max_size=30)


def number_by_parser(text: str) -> int:
    """Return the line on which Python sees a name that follows `text` in a comment on its line."""
    commented = "".join(f"#{line}" for line in lines_of(text))
    if text and text[-1] not in "\r\n":
        commented += "\n"
    return ast.parse(f"{commented}here").body[0].lineno


@given(TEXT)
def test_lines_are_the_parsers(text):
    lines = lines_of(text)
    assert "".join(lines) == text
    assert number_by_parser(text) == len(lines) + 1
    assert bare_lines(text) == bare_lines(with_newlines(text))
    assert with_newlines(text).split("\n")[: len(lines)] == bare_lines(text)


@given(TEXT)
def test_indenting_adds_nothing_but_the_margin(text):
    lines = lines_of(indented(text, "  "))
    assert [line.removeprefix("  ") if line.strip() else line for line in lines] == lines_of(text)


def module(odd: str, end: str) -> str:
    """Return a module that holds `odd` in comments, docstrings, strings and, if allowed, between lines."""
    between = odd if odd == "\x0c" else ""
    lines = [
        f"# top{odd}of the file",
        between,
        f"def outer(value, limit=3):  # a{odd}b",
        f'    """Return the {odd} total."""',
        "    def inner(part):",
        f'        """Secret{odd}words.',
        "",
        f"        More{odd}of them.",
        '        """',
        "        return part + 1",
        f"    text = 'x{odd}y'  # c{odd}d",
        "    if value > limit:",
        "        value -= limit",
        "    return inner(value), text",
        "",
    ]
    return end.join(lines)


ODD = st.lists(st.sampled_from(NO_ENDS), max_size=3).map("".join)


def outer_of(text: str) -> Function:
    return functions_of_file(SourceFile("m.py", text, "", len(text)), "m")[0]


@settings(deadline=None)
@given(ODD, st.sampled_from(ENDS))
def test_readers_cut_where_the_parser_does(odd, end):
    text = module(odd, end)
    function = outer_of(text)
    assert (function.start_line, function.end_line) == (3, 14)
    assert function.source == "".join(lines_of(text)[2:])
    assert function.code == without_docstring(function.source)
    assert ast.unparse(ast.parse(function.code)) == ast.unparse(ast.parse(with_newlines(function.code)))
    searched = document_text(function)
    assert "Secret" not in searched
    assert "More" not in searched
    assert "def inner(part):" in searched
    assert searched.split("\n")[1].startswith("def outer(value, limit=3):")
    assert "def inner" in strip_nested_docstrings(function.code)
    assert short_form(searched).split("\n")[1].startswith("def outer(")
    assert strip_decorators(f"@cache{end}{function.code}") == function.code


@settings(deadline=None, max_examples=40)
@given(ODD, st.sampled_from(ENDS))
def test_edits_fall_on_the_line_that_is_named(odd, end):
    code = outer_of(module(odd, end)).code
    source = SourceText(code)
    for node in source.nodes:
        if isinstance(node, ast.Name):
            assert source.code(node) == node.id
    bugs = make_bugs(code)
    assert {"flip_comparison", "wrong_update", "off_by_one"} <= {bug.operator for bug in bugs}
    for bug in bugs:
        both = zip(lines_of(code), lines_of(bug.source), strict=False)
        changed = [number for number, (old, new) in enumerate(both, 1) if old != new]
        assert bug.line == min(changed, default=bug.line)
        marked = bare_lines(mark_line(bug.source, bug.line))
        assert [n for n, line in enumerate(marked, 1) if line.endswith(BUG_MARK)] == [bug.line]
        above = bare_lines(mark_line(bug.source, bug.line, above=True))
        assert above.pop(bug.line - 1).strip() == NEXT_LINE_MARK
        assert above == bare_lines(bug.source)
        if len(lines_of(bug.source)) == len(lines_of(code)):
            original = bare_lines(code)[bug.line - 1].strip()
            whole = spliced(bug.source, bug.line, original)
            assert bare_lines(whole)[bug.line - 1] == bare_lines(code)[bug.line - 1]
    for worse in worsened_versions(code):
        ast.parse(worse.source)
    documented = with_docstring(code, f"Do {odd} it.\n\nParameters\n----------\nvalue : int")
    assert docstring_of(documented).startswith(f"Do {odd} it.")
    assert same_code(documented, code)


@settings(deadline=None, max_examples=40)
@given(ODD, st.sampled_from(ENDS))
def test_roles_and_tokens_do_not_depend_on_line_ends(odd, end):
    text = module(odd, end)
    of_role = {
        role: "".join(c for c, r in zip(text, character_roles(text), strict=True) if r == role)
        for role in ("comment", "docstring")
    }
    assert of_role["comment"] == f"# top{odd}of the file# a{odd}b# c{odd}d"
    assert of_role["docstring"].startswith(f'"""Return the {odd} total.""""""Secret')
    assert with_newlines(of_role["docstring"]).endswith('of them.\n        """')
    assert python_tokens(text) == python_tokens(with_newlines(text))


@pytest.mark.parametrize("odd", NO_ENDS)
def test_a_completion_is_asked_for_up_to_the_line_that_python_counts(tmp_path, odd):
    file = tmp_path / "m.py"
    file.write_bytes(module(odd, "\n").encode())
    assert prompt_from(None, file, 4).endswith(f'"""Return the {odd} total."""\n')
    file.write_bytes(module(odd, "\r").encode())
    assert prompt_from(None, file, 3).endswith(f"# a{odd}b\n")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("odd", NO_ENDS)
def test_a_failed_test_is_told_with_its_own_line(odd, end):
    tests = end.join([f"text = 'a{odd}b'", "assert text == 'right'", "done = True"])
    with pytest.raises(AssertionError) as raised:
        exec(compile(tests, "<tests>", "exec"), {})
    assert failure_line(raised.value, tests).startswith("line 2, \"assert text == 'right'\"")


def test_style_is_rated_by_the_lines_of_the_code():
    code = "def f(x):\n    y = 1\n    return x\n"
    scores = {style_scores([with_newlines(code).replace("\n", end)])[0].score for end in ENDS}
    assert len(scores) == 1
    assert scores != {1.0}


def test_the_tokenizer_sees_one_line_where_the_parser_does():
    for end in ENDS:
        rows = [t.start[0] for t in tokenize.generate_tokens(io.StringIO(f"a{end}b", newline=None).readline)]
        assert rows[:3] == [1, 1, 2]
