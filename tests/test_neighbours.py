"""What a request to write a function shows of its file: most alike first of all, and nothing that uses it."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest

from helpers.data.tasks.neighbours import SAME_FILE, Neighbours, above, renamed, request_alone
from helpers.data.tasks.phrasings import unfenced
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
    return [code.partition("(")[0].removeprefix("def ") for code in neighbours.of(asked).codes]


def test_the_most_alike_of_the_file_are_shown_and_the_very_most_is_read_last() -> None:
    elsewhere = function("in_degree_too", IN_DEGREE.docstring, path="other.py")
    shown = Neighbours([PATHS, OUT_DEGREE, DEGREE, IN_DEGREE, elsewhere], len, 1_000)
    assert names(shown, IN_DEGREE) == ["degree_of_all", "out_degree"]
    assert names(shown, elsewhere) == []


def test_what_uses_the_function_is_not_there_before_it() -> None:
    user = function("in_degrees", IN_DEGREE.docstring, "return in_degree(graph)")
    alike = function("in_degree_2", "Return the degree.", "return my_in_degree(graph)")
    assert names(Neighbours([user, alike, IN_DEGREE], len, 1_000), IN_DEGREE) == ["in_degree_2"]


@pytest.mark.parametrize("kind", [{"is_method": True}, {"is_nested": True}])
def test_methods_and_nested_functions_are_not_shown(kind) -> None:
    assert Neighbours([function("out_degree", **kind), IN_DEGREE], len, 1_000).of(IN_DEGREE).codes == ()


def test_no_more_is_shown_than_there_is_room_for() -> None:
    long = function("in_degree_of_many", IN_DEGREE.docstring, "return " + "1 + " * 90 + "1")
    one = len(above(Neighbours([OUT_DEGREE], len, 1_000).of(IN_DEGREE).codes))
    for room, expected in ((0, []), (one - 1, []), (one, ["out_degree"]), (2 * one - 1, ["out_degree"])):
        shown = Neighbours([long, OUT_DEGREE, IN_DEGREE], len, room)
        assert names(shown, IN_DEGREE) == expected
    assert names(Neighbours([long, OUT_DEGREE], len, 1_000), IN_DEGREE) == ["out_degree", "in_degree_of_many"]


def test_each_is_shown_as_it_stands_with_its_summary_and_copied_without_decorators() -> None:
    plain = function("out_degree", "Return it.\n\nParameters\n----------\ngraph : Graph\n    One.\n")
    code = "@cached\n" + plain.code
    decorated = replace(plain, code=code, source=code)
    found = Neighbours([decorated], len, 1_000).of(IN_DEGREE)
    assert found.codes == ('@cached\ndef out_degree(graph):\n    """Return it."""\n    return 1\n',)
    assert found.copies == ("def in_degree(graph):\n    return 1\n",)


def test_only_what_may_be_run_is_copied() -> None:
    shown = Neighbours([OUT_DEGREE, DEGREE], len, 1_000, lambda one: one.name != "out_degree")
    found = shown.of(IN_DEGREE)
    assert len(found.codes) == 2
    assert [copy.partition("(")[0] for copy in found.copies] == ["def in_degree"]
    assert shown.copied == {DEGREE.id}


LONG = "total = 0\n    for node in graph:\n        total += graph[node] * 2\n    return total or None"


def test_twins_are_not_shown() -> None:
    asked, twin = (
        function("sum_of_all", "Sum.", LONG),
        function("total_of_all", "Sum.", LONG.replace("total", "s")),
    )
    other = function("other_of_all", "Sum.", LONG.replace("return total", "del total\n    return graph"))
    assert names(Neighbours([asked, twin, other], len, 1_000), asked) == ["other_of_all"]


def test_an_async_function_is_shown_with_async_ones_alone() -> None:
    late = replace(OUT_DEGREE, is_async=True, code="async " + OUT_DEGREE.code)
    assert Neighbours([late], len, 1_000).of(IN_DEGREE).codes == ()
    (copy,) = Neighbours([late], len, 1_000).of(replace(IN_DEGREE, is_async=True)).copies
    assert copy.startswith("async def in_degree(")


SPLIT = "gro\N{LATIN SMALL LETTER O}\N{COMBINING DIAERESIS}e"


@pytest.mark.parametrize("name", ["सीमा", SPLIT, "\N{LATIN SMALL LIGATURE FI}nd"])
def test_a_function_of_any_alphabet_is_never_shown_with_itself(name) -> None:
    own = replace(function(name, "Find it."), name=unicodedata.normalize("NFKC", name))
    again = replace(own, id=f"{own.id}#2")  # defined twice, as under `if` and `else`
    uses = function("other", "Find it.", f"return {name}(graph)")
    assert Neighbours([own, again, uses], len, 1_000).of(own).codes == ()
    assert renamed(own.code, "f") == "def f(graph):\n    return 1\n"


@pytest.mark.parametrize("body", ["...", "pass", '"""Only said."""', '"""Said."""\n    ...'])
def test_what_has_no_body_is_not_shown(body) -> None:
    assert Neighbours([function("out_degree", "", body)], len, 1_000).of(IN_DEGREE).codes == ()


@pytest.mark.parametrize("form", [str, unfenced])
def test_a_request_stands_below_what_it_shows(form) -> None:
    assert above([]) == ""
    found = Neighbours([OUT_DEGREE, DEGREE], len, 1_000).of(IN_DEGREE)
    text = form(above(found.codes) + "Write it.")
    assert text.startswith(SAME_FILE)
    assert text.index("def degree_of_all") < text.index("def out_degree") < text.index("Write it.")
    assert request_alone(text, found.detail) == "Write it."
    assert request_alone("Write it.", {}) == "Write it."


def test_a_copy_carries_the_name_that_was_asked_for() -> None:
    code = "async def out_degree(graph):\n    def inner(): return out_degree\n    return inner\n"
    assert renamed(code, "asked") == code.replace("def out_degree", "def asked")
