"""The failure gallery: its counts are those of all failures, and each case shows all that is known of it."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from helpers.eval.failures import select_failures
from helpers.eval.failures_b import outcome, track_b_failures
from helpers.records import Failure, ResponseScore, Task
from helpers.report.export import html_document
from helpers.report.gallery import FOLDER, Evidence, answer_evidence, gallery, query_evidence
from helpers.run.workspace import read_json

ROOT = Path(__file__).parents[1]
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>"
CLASSES = {
    ("track_a", "got worse: prose"): 2,
    ("track_b", "wrong value"): 7,
    ("track_b", "does not parse"): 3,
    ("track_c", "lexical gap"): 5,
}
EVERYTHING = [
    Failure(
        track,
        name,
        f"{track}/{name}/{n}",
        f"asked {n}",
        "return a + b\nx = 1",
        "return a - b\nx = 1",
        "because",
    )
    for (track, name), count in CLASSES.items()
    for n in range(count)
]


def page(cases, everything, evidence=None) -> BeautifulSoup:
    return BeautifulSoup(gallery(cases, everything, evidence).data, "html.parser")


def case_of(failure: Failure, **known) -> BeautifulSoup:
    evidence = {(failure.track, failure.item_id): Evidence(**known)}
    return page([failure], [failure], evidence).find(class_="case")


def task(name: str, kind: str) -> Task:
    return Task(
        name, kind, "m.py::f", "m.py", "ask", "def f():\n    return 1", "f", "", "assert f() == 1", {}
    )


def score(
    name: str, status: str, *, kind="implement", response="def f():\n    return 2", sample=0, detail=""
) -> ResponseScore:
    return ResponseScore(
        name, kind, "m.py::f", sample, response, status, status == "passed", None, (), (), detail
    )


def test_the_table_counts_every_failure_and_not_only_those_shown() -> None:
    cases = select_failures(EVERYTHING, 10, seed=1)
    soup = page(cases, EVERYTHING)
    shown = Counter((case.track, case.category) for case in cases)
    found = {
        (row.td.get_text(), *(int(cell.get_text()) for cell in row.find_all(class_="number")))
        for row in soup.table.find_all("tr")
        if row.td
    }
    assert found == {(name, n, shown[track, name]) for (track, name), n in CLASSES.items()} | {
        ("all", 17, 10)
    }
    assert len(soup.find_all(class_="case")) == 10


def test_each_track_s_failures_are_counted_by_the_rules_that_draw_the_cases() -> None:
    """Three greedy answers fail, one passes, one could not be judged; a second sample is no item of its own."""
    scores = [score("1", "passed"), score("2", "failed"), score("3", "unparsable", response="def f(:"),
              score("4", "infrastructure_error"), score("5", "empty", response=" "),
              score("1", "failed", sample=1)]  # fmt: skip
    failures = track_b_failures(scores, [task(str(n), "implement") for n in range(1, 6)])
    soup = page(select_failures(failures, 10, seed=0), failures)
    assert soup.tfoot.find(class_="number").get_text() == "3"
    assert {row.td.get_text() for row in soup.tbody.find_all("tr") if row.td} == {
        "wrong value", "does not parse", "empty answer"}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "detail", "expected"),
    [
        ("passed", "", "passed"),
        ("failed", "the tests: line 1, 'assert f() == 1': AssertionError", "wrong"),
        ("failed", "the tests: line 1, 'assert f() == 1': ValueError: no", "error"),
        ("crashed", "", "error"),
        ("timeout", "", "timeout"),
        ("unparsable", "", "no code"),
        ("infrastructure_error", "", ""),
    ],
)
def test_an_outcome_follows_from_status_and_detail(status, detail, expected) -> None:
    assert outcome(score("1", status, detail=detail)) == expected


def test_cases_are_grouped_by_track_and_diagnosis_with_an_anchor_each() -> None:
    soup = page(EVERYTHING, EVERYTHING)
    assert [h.get_text()[0] for h in soup.find_all("h3")] == ["A", "B", "C"]
    assert [h.get_text() for h in soup.find_all("h4")] == [
        "got worse: prose: 2 of 2 shown", "wrong value: 7 of 7 shown", "does not parse: 3 of 3 shown",
        "lexical gap: 5 of 5 shown"]  # fmt: skip
    anchors = [tag["id"] for tag in soup.find_all(class_="case")]
    assert len(set(anchors)) == len(EVERYTHING)
    assert {tag["href"] for tag in soup.find_all("a")} == {f"#{anchor}" for anchor in anchors}


def test_a_case_shows_input_expected_got_and_diagnosis() -> None:
    shown = case_of(Failure("track_b", "c", "t-1", "the input", "the expected", "the got", "look at `name`"))
    panels = {p.strong.get_text(): p.pre.get_text() for p in shown.find_all(class_="panel")}
    assert panels == {"Input": "the input", "Expected": "the expected", "Got": "the got"}
    assert "look at name" in shown.get_text()


def test_the_diff_marks_the_lines_and_words_that_differ() -> None:
    failure = Failure(
        "track_b", "c", "t-1", "i", "def f(a):\n    return a + 1", "def f(a):\n    return a - 1\n    x", "d"
    )
    shown = case_of(failure, is_code=True)
    assert [tag.get_text() for tag in shown.find_all("del")] == ["−    return a + 1"]
    assert [tag.get_text() for tag in shown.find_all("ins")] == ["+    return a - 1", "+    x"]
    assert [tag.get_text() for tag in shown.find_all(class_="d")] == ["+", "-"]
    assert "k" in {name for tag in shown.find_all("span") for name in tag.get("class", ())}
    same = case_of(Failure("track_b", "c", "t-1", "i", "x = 1", "x = 1", "d"), is_code=True)
    assert not same.find_all(["del", "ins"])
    assert not case_of(failure).find_all(["del", "ins"])  # prose is not compared line by line


def test_failing_test_output_and_results_are_shown_where_they_are_known() -> None:
    scores = [
        score("t-1", "failed", detail="line 1, 'assert f() == 1': AssertionError"),
        score("t-1", "passed", sample=1),
    ]
    known = answer_evidence(scores, [task("t-1", "implement")])["track_b", "t-1"]
    shown = case_of(Failure("track_b", "c", "t-1", "i", "e", "g", "d"), **vars(known)).get_text()
    for part in ("implement: m.py::f", "line 1, 'assert f() == 1': AssertionError", "assert f() == 1"):
        assert part in shown
    row = {"id": "q", "text": "how to", "path": "a.py", "relevant": {"a.py::g": 1},
           "top3_after": ["b.py::x", "a.py::g"], "top3_scores_after": [0.75, 0.5]}  # fmt: skip
    for one, expected in ((row, ["b.py::x, cosine 0.750", "a.py::g, cosine 0.500 (right)"]),
                          ({**row, "top3_scores_after": None}, ["b.py::x", "a.py::g (right)"])):  # fmt: skip
        known = query_evidence([one])["track_c", "q"]
        shown = case_of(Failure("track_c", "c", "q", "i", "e", "g", "d"), **vars(known))
        assert [item.get_text() for item in shown.find_all("li")] == expected
    assert query_evidence([{"id": "q"}])["track_c", "q"].results == ()


def test_no_text_of_a_model_becomes_markup() -> None:
    failure = Failure(
        "track_b", HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE + "\x1b[31m", f"`{HOSTILE}` {HOSTILE}"
    )
    known = Evidence(HOSTILE, True, HOSTILE, HOSTILE, HOSTILE, ((HOSTILE, 0.5, True),))
    soup = page([failure], [failure], {("track_b", HOSTILE): known})
    assert len(soup.find_all("script")) == 1
    assert not soup.find_all("img")
    assert "\x1b" not in str(soup)
    assert soup.find(class_="panel").pre.get_text() == HOSTILE


def test_without_scripts_everything_is_there_and_the_filter_is_not() -> None:
    soup = page(EVERYTHING, EVERYTHING)
    assert soup.find(class_="controls").has_attr("hidden")
    assert not [
        tag
        for tag in soup.find_all(True)
        if tag.has_attr("hidden") and "controls" not in tag.get("class", ())
    ]
    assert all(tag.name == "details" and tag.summary for tag in soup.find_all(class_="case"))


def test_the_exported_page_keeps_the_gallery_s_script_and_no_other() -> None:
    shown = gallery(EVERYTHING, EVERYTHING).data
    for own, others in ((shown, 0), (shown.replace("const cases", "const other"), 1)):
        lost: list[str] = []
        output = nbformat.v4.new_output("display_data", data={"text/html": own})
        cell = nbformat.v4.new_code_cell("f()", outputs=[output])
        page = html_document(nbformat.v4.new_notebook(cells=[cell]), read_json(ROOT / "metrics.json"), lost)
        assert len(lost) == others
        assert ("told.textContent" in page) is not bool(others)


def test_no_failure_is_a_sentence() -> None:
    assert gallery([], []) == "No item failed: there is nothing to show."


def test_a_run_with_failures_of_one_track_alone() -> None:
    only = [failure for failure in EVERYTHING if failure.track == "track_c"]
    assert [h.get_text()[0] for h in page(only, only).find_all("h3")] == ["C"]


def test_style_and_script_are_shipped_with_the_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = settings["tool"]["setuptools"]["package-data"]["*"]
    for kind in ("css", "js"):
        assert (FOLDER / f"gallery.{kind}").is_file()
        assert f"*.{kind}" in shipped
