"""Notebook display: nothing is cut off, and nothing breaks the page."""

from __future__ import annotations

import pandas as pd

from helpers.data.card.page import render_data_card
from helpers.escaping import code_block
from helpers.report import display


def test_long_cells_are_shown_whole_and_escaped() -> None:
    page = display.table(pd.DataFrame({"a": ["x" * 200, "<b>\n&"]}, index=pd.Index([1, 2], name="k"))).data
    assert "x" * 200 in page
    assert "&lt;b&gt;<br>&amp;" in page
    assert page.count("<tr") == 3  # one heading row, two of data


def test_fence_is_longer_than_any_in_the_text() -> None:
    shown = code_block("before\n````python\nx\n````\n", "text")
    assert shown.startswith("`````text\n")
    assert shown.endswith("\n`````")


def test_card_keeps_its_header_and_lowers_its_headings() -> None:
    page = display.card(render_data_card({"profile": "smoke"})).data
    assert "<h1" not in page
    assert "<h3" in page
    assert "annotations_creators" in page


def test_searches_show_files_without_folders_and_both_ranks() -> None:
    row = {
        "text": "how to", "why": "gained", "relevant": {"a/b/c.py::f": 1}, "rank_before": None,
        "rank_after": 2, "top3_before": ["a/x.py::g"], "top3_after": ["a/y.py::h", "a/b/c.py::f"],
    }  # fmt: skip
    page = display.searches([row]).data
    assert "c.py::f" in page
    assert "a/b/c.py" not in page
    assert "none → 2" in page
    assert "y.py::h<br>c.py::f" in page
