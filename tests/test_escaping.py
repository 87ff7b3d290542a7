"""Nothing in a repository's text is read as Markdown or HTML, and none of it is lost."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nbconvert.filters import markdown2html

from helpers.escaping import cell, code_block, code_span, html_text, inline, visible

RENDERERS = [markdown2html, MarkdownIt("gfm-like", {"linkify": False}).render]
BADGE = "[![License: T](https://img.example.org/badge/a--b.svg)](https://example.org/l)"
HOSTILE = [
    BADGE, '<p align="center"><img src="https://example.org/logo.png"></p>', "a`b <img src=x>", "![a](b) `x`",
    "$a_1$ and $$b$$", r"\begin{x} \end{x} \(a\) \$", "&lt;b&gt; &copy &#36;", "# title", "~~gone~~ ~~~",
    "a|b", "1. item", "- [ ] item", "> said", "---", "===", "two\nlines\r\n\n# of text", "[a]: https://x.org",
    "[a][b] [a](b)", "*x* **y** _z_ __w__ a_b", "``` x", "`` ` ``", "`a``b`", "\\", "\\|", "`\\|`", "|",
    "www.example.org https://a_b.org/_c_", "<!-- x", "<https://x.org>", "<?x", "    indented", "a  \nb", "é_ß",
    "[^1]: x", ":x:", "+", "a\\", "(`code`) (<b>)", "`python -m x` is kept", "![", "](", "a@b.org",
]  # fmt: skip
texts = st.lists(st.sampled_from([*HOSTILE, " ", "\n", "x"]), max_size=4).map("".join) | st.text(
    alphabet="ab `*_<>[]()!|\\$~#&;:/-+=.\n1\t", max_size=24
)


def read_back(page: str, inside: str = "p") -> tuple[str, set[str]]:
    """Return the text that a page shows, and the names of its tags."""
    soup = BeautifulSoup(page, "html.parser")
    shown = soup.find(inside)
    return shown.get_text() if shown else "", {tag.name for tag in soup.find_all(True)}


def words_of(text: str) -> str:
    """Return words without the backticks of code spans, which a renderer does not show."""
    return " ".join(text.replace("`", "").split())


@settings(max_examples=400, deadline=None, derandomize=True)
@given(texts)
def test_a_line_shows_every_word_and_is_nothing_else(text: str) -> None:
    for render in RENDERERS:
        for strict in (False, True):
            shown, tags = read_back(render(inline(text, names_as_code=strict)))
            assert words_of(shown) == words_of(text)
            assert tags <= {"p", "code"}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(texts, texts)
def test_a_cell_stays_in_its_table(one: str, other: str) -> None:
    for render in RENDERERS:
        page = render(f"| k | v |\n| --- | --- |\n| {cell(one)} | {cell(other)} |\n| last | row |")
        rows = BeautifulSoup(page, "html.parser").find_all("tr")
        cells = [[words_of(entry.get_text()) for entry in row.find_all(["td", "th"])] for row in rows]
        assert cells == [["k", "v"], [words_of(one), words_of(other)], ["last", "row"]]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(texts)
def test_a_block_shows_every_character(text: str) -> None:
    for render in RENDERERS:
        page = BeautifulSoup(render(f"before\n\n{code_block(text)}\n\nafter"), "html.parser")
        wanted = text.replace("\r\n", "\n").replace("\r", "\n").rstrip()
        assert page.find("pre").get_text().strip("\n") == wanted.strip("\n")
        assert [p.get_text() for p in page.find_all("p")] == ["before", "after"]
        assert {tag.name for tag in page.find_all(True)} <= {"p", "pre", "code", "div", "span"}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_code_span_shows_every_character(text: str) -> None:
    for render in RENDERERS:
        page = BeautifulSoup(render(f"x {code_span(text)} y"), "html.parser")
        assert page.find("code").get_text().split() == text.split()
        assert {tag.name for tag in page.find_all(True)} == {"p", "code"}


def test_what_cannot_be_seen_or_stored_is_written_out() -> None:
    assert visible("a\x1b[31m\0\ud800\u202e") == r"a\x1b[31m\x00\ud800\u202e"
    assert visible("größe\tß\n é\u200dक") == "größe\tß\n é\u200dक"
    inline("\ud800").encode()


def test_figures_and_names_stay_readable() -> None:
    for text in (
        "+0.118 [+0.072,\N{NO-BREAK SPACE}+0.166]",
        "p < .001",
        "a_name of b.py",
        "`code` of ours",
        "–",
    ):
        assert inline(text) == text
    assert inline("a_name and <b>, _x_", names_as_code=True) == "`a_name` and `<b>`, `_x_`"


def test_html_keeps_line_ends_and_backslashes() -> None:
    assert html_text('<b "x">\n\\n') == "&lt;b &quot;x&quot;&gt;<br>\\n"
