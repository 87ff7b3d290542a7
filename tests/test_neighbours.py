"""What a request to write a function shows of its file: most alike first of all, and nothing that uses it."""

from __future__ import annotations

import pytest

from helpers.data.tasks.neighbours import SAME_FILE, Neighbours, renamed, with_neighbours
from helpers.records import Function


def function(name: str, summary: str = "", body: str = "return 1", *, path: str = "m.py", **kind) -> Function:
    code = f"def {name}(graph):\n    {body}\n"
    return Function(
        id=f"{path}::{name}", path=path, module="m", qualname=name, name=name, source=code, code=code,
        docstring=summary, doctests=0, parameters=("graph",), start_line=1, end_line=2,
        is_method=kind.get("is_method", False), is_nested=kind.get("is_nested", False), is_async=False,
    )  # fmt: skip


IN_DEGREE = function("in_degree", "Return the degree of edges that come in.")
OUT_DEGREE = function("out_degree", "Return the degree of edges that go out.")
DEGREE = function("degree_of_all", "Return all.")
PATHS = function("write_paths", "Write paths to a file.")


def names(neighbours: Neighbours, asked: Function) -> list[str]:
    return [code.partition("(")[0].removeprefix("def ") for code in neighbours.of(asked)]


def test_the_most_alike_of_the_file_are_shown_and_the_very_most_is_read_last() -> None:
    elsewhere = function("in_degree_too", IN_DEGREE.docstring, path="other.py")
    shown = Neighbours([PATHS, OUT_DEGREE, DEGREE, IN_DEGREE, elsewhere], len, 1_000)
    assert names(shown, IN_DEGREE) == ["degree_of_all", "out_degree"]
    assert names(shown, elsewhere) == []


def test_what_uses_the_function_is_not_there_before_it() -> None:
    user = function("in_degrees", IN_DEGREE.docstring, "return in_degree(graph)")
    alike = function("in_degree_2", IN_DEGREE.docstring, "return my_in_degree(graph)")
    assert names(Neighbours([user, alike, IN_DEGREE], len, 1_000), IN_DEGREE) == ["in_degree_2"]


@pytest.mark.parametrize("kind", [{"is_method": True}, {"is_nested": True}])
def test_methods_and_nested_functions_are_not_shown(kind) -> None:
    assert Neighbours([function("out_degree", **kind), IN_DEGREE], len, 1_000).of(IN_DEGREE) == ()


def test_no_more_is_shown_than_there_is_room_for() -> None:
    long = function("in_degree_of_many", IN_DEGREE.docstring, "return " + "1 + " * 90 + "1")
    one = len(with_neighbours("", Neighbours([OUT_DEGREE], len, 1_000).of(IN_DEGREE))) - len(SAME_FILE) - 4
    for room, expected in ((0, []), (one - 1, []), (one, ["out_degree"]), (2 * one - 1, ["out_degree"])):
        shown = Neighbours([long, OUT_DEGREE, IN_DEGREE], len, room)
        assert names(shown, IN_DEGREE) == expected
    assert names(Neighbours([long, OUT_DEGREE], len, 1_000), IN_DEGREE) == ["out_degree", "in_degree_of_many"]


def test_each_is_shown_with_its_summary_and_without_decorators() -> None:
    decorated = function("out_degree", "Return it.\n\nParameters\n----------\ngraph : Graph\n    One.\n")
    code = "@cached\n" + decorated.code
    decorated = Function(**{**vars(decorated), "code": code, "source": code})
    expected = 'def out_degree(graph):\n    """Return it."""\n    return 1\n'
    assert Neighbours([decorated], len, 1_000).of(IN_DEGREE) == (expected,)


def test_a_request_stands_below_what_it_shows() -> None:
    assert with_neighbours("Write it.", []) == "Write it."
    text = with_neighbours("Write it.", ["def f(): pass\n", "def g(): pass\n"])
    blocks = "```python\ndef f(): pass\n```\n\n```python\ndef g(): pass\n```"
    assert text == f"{SAME_FILE}\n\n{blocks}\n\nWrite it."


def test_a_copy_carries_the_name_that_was_asked_for() -> None:
    code = "async def out_degree(graph):\n    def inner(): return out_degree\n    return inner\n"
    assert renamed(code, "asked") == code.replace("def out_degree", "def asked")
