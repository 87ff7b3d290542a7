"""A repository's texts may hold HTML, Markdown and formulas anywhere: all are shown, none is obeyed."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from nbconvert.filters import markdown2html
from rich.console import Console

from helpers.code.functions import extract_functions
from helpers.data.card.facts import corpus_facts
from helpers.data.card.page import missing_card, render_data_card, with_tasks_set_aside
from helpers.data.corpus import corpus_warnings, load_corpus
from helpers.data.leaks import check_splits
from helpers.data.queries.retrieval_data import build_retrieval_data
from helpers.data.splits import split_corpus
from helpers.profiles import SMOKE
from helpers.records import Failure, TaskSetAside
from helpers.report import display, tables, tables_c
from helpers.report.compare import comparison
from helpers.report.export import html_document, page_in_any_case
from helpers.report.figure_style import figure_html
from helpers.report.gallery import gallery
from helpers.report.metrics import assemble, not_run, run_section
from helpers.report.plots import before_after_dots
from helpers.run.workspace import write_json
from tests.test_plots import section

IMAGE = "https://example.org/planted.png"
PLANTED = (
    f"[![a]({IMAGE})]({IMAGE})", f"![a]({IMAGE})", f'<img src="{IMAGE}">', f"<script src={IMAGE}></script>",
    f"a`b <iframe src='{IMAGE}'>", "<b onclick=alert(1)>", "$a_1$", "a|b", "# heading", "~~gone~~", "*x* __y__",
    "&lt;b&gt;", "two\nlines", "[/b]", "```", "\\begin{x}", "\x1b[31m", "\u202egnp.exe", "</td></table>",
)  # fmt: skip
ALLOWED = {"br", "code", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "a", "li", "p", "pre", "span", "strong",
           "table", "tbody", "td", "th", "thead", "tr", "ul", "blockquote", "hr"}  # fmt: skip


def rendered(markdown: str) -> list[BeautifulSoup]:
    pages = [markdown2html(markdown), MarkdownIt("gfm-like", {"linkify": False}).render(markdown)]
    return [BeautifulSoup(page, "html.parser") for page in pages]


def assert_inert(page: BeautifulSoup) -> None:
    """Check that a page holds only the tags of plain text, and nothing that loads or runs."""
    assert {tag.name for tag in page.find_all(True)} <= ALLOWED
    for tag in page.find_all(True):
        assert not [name for name in tag.attrs if name.startswith("on") or name == "src"], tag
        assert tag.get("style", "text-align:").startswith("text-align:"), tag
        assert tag.get("href", "#").startswith("#"), tag


def assert_shown(page: BeautifulSoup, text: str) -> None:
    from helpers.escaping import visible

    wanted = "".join(visible(text).split())
    assert wanted in "".join(page.get_text().split()), text


def as_name(text: str) -> str:
    return text.replace("/", "\N{DIVISION SLASH}")[:200]


def hostile_repository(folder: Path) -> Path:
    """Plant texts in the names of folders and files, in licence, metadata and docstrings."""
    for place, text in enumerate(PLANTED):
        file = folder / as_name(text) / f"m{place}{as_name(text)}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        quoted = (
            text.replace("\\", "\\\\")
            .replace("\n", "\\n")
            .replace("\x1b", "\\x1b")
            .replace("\u202e", "\\u202e")
        )
        file.write_text("\n\n".join(
            f'def {verb}_{place}(value, width={place}):\n'
            f'    """{verb.capitalize()} the value beside {quoted} as wide as number {place}.\\ud800"""\n'
            f"    total = value * {place + 2}\n    return total + width * {number}\n"
            for number, verb in enumerate(("render", "escape", "join", "parse"))
        ))  # fmt: skip
    (folder / "LICENSE.md").write_text(f"{PLANTED[0]}\n\nMay be used by members of the team alone.\n")
    (folder / "pyproject.toml").write_text(
        f"[project]\nname = '{PLANTED[2]}'\nversion = '1|{PLANTED[3]}'\n", encoding="utf-8"
    )
    (folder / f"broken{as_name(PLANTED[2])}.py").write_text("def f(:\n" + "# x\n" * 200)
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / as_name(PLANTED[4])
    folder.mkdir()
    corpus = load_corpus(f"path:{hostile_repository(folder)}")
    functions = extract_functions(corpus)
    splits = split_corpus(corpus, functions, SMOKE.corpus, 0)
    return corpus, functions, splits


def metrics_of(spec: str, warnings: list[str], reason: str) -> dict:
    run = run_section(
        profile="smoke", run_id="smoke-1",
        corpus={"spec": spec, "version": PLANTED[3], "files": 3, "sha256": "0" * 64}, commit=PLANTED[2], seed=1,
        hardware={"device": "cpu", "name": PLANTED[2], "cores": 2, "memory_gib": 1.0, "precision": "float32"},
        versions={"python": "3.11"}, started="2026-01-01T00:00:00+00:00", seconds=61.0, warnings=warnings,
        settings_changed=[PLANTED[1]],
    )  # fmt: skip
    tracks = {
        t: not_run(t, reason, f"10 {PLANTED[2]}", model=PLANTED[13])
        for t in ("track_a", "track_b", "track_c")
    }
    return assemble(run=run, failures=[], **tracks)


HELD = {"track_b": {"data": {"counts": {"tasks_made": 99}}}}


def test_the_data_card_shows_every_planted_text(repository) -> None:
    corpus, functions, splits = repository
    assert len(functions) == 4 * len(PLANTED)
    leaks = check_splits(corpus, functions, splits, SMOKE.corpus)
    facts = {
        "profile": "smoke",
        "corpus": corpus_facts(corpus, functions, splits, settings=SMOKE.corpus, leaks=leaks),
        "instruct": {"status": "not_run", "reason": "; ".join(PLANTED)},
        "retrieval": {
            "examples": [{"id": text, "query": text, "code": f"{text}\n````\n" * 3} for text in PLANTED],
            "filters": {text: {"in": 2, "out": 1, "reason": text} for text in PLANTED},
            "templates": {text: [text] for text in PLANTED}, "kinds": dict.fromkeys(PLANTED, 1), "list": list(PLANTED),
        },
        "models": dict.fromkeys(PLANTED, PLANTED[2]), "limits": list(PLANTED),
    }  # fmt: skip
    aside = [{"task": text, "detail": text} for text in PLANTED]
    card = with_tasks_set_aside(render_data_card(facts), {"tasks_set_aside": aside, **HELD})
    card.encode()
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license_name"].startswith("[![a](https")
    body = card.split("\n---\n", 1)[1]
    for page in (*rendered(body), BeautifulSoup(display.card(card).data, "html.parser")):
        assert_inert(page)
        for text in (*PLANTED, corpus.name, corpus.licence, *(file.path for file in corpus.rejected)):
            assert_shown(page, text)
        assert (
            len({len(row.find_all(["td", "th"])) for row in page.find_all("table")[-1].find_all("tr")}) == 1
        )


def test_a_missing_card_shows_its_reason() -> None:
    for page in rendered(missing_card("; ".join(PLANTED)).split("\n---\n", 1)[1]):
        assert_inert(page)
        assert_shown(page, PLANTED[2])


def test_headings_inside_the_card_s_examples_stay() -> None:
    shown = display.card(render_data_card({"retrieval": {"examples": ["# a comment\nx = 1"]}})).data
    assert "# a comment" in BeautifulSoup(shown, "html.parser").get_text()
    assert "### a comment" not in BeautifulSoup(shown, "html.parser").get_text()


def test_what_the_notebook_displays_is_inert(repository) -> None:
    _, functions, splits = repository
    data = build_retrieval_data(functions, splits, SMOKE.track_c, 0)
    some = [*data.train, *data.test][:8]
    row = {"why": "x", "rank_before": None, "rank_after": 2}
    answers = [next(iter(query.relevant)) for query in some]
    searches = [
        row
        | {
            "text": query.text,
            "relevant": query.relevant,
            "top3_before": answers[:3],
            "top3_after": answers[:3],
        }
        for query in some
    ]
    aside = [TaskSetAside(text, "fix_bug", text, "failed", text) for text in PLANTED]
    shown = [
        display.queries(some), display.searches(searches), display.set_aside(aside, 40),
        display.counts(dict.fromkeys(PLANTED, 1), PLANTED[2], PLANTED[2]),
        display.table(pd.DataFrame({PLANTED[2]: PLANTED, "n": 1.5})),
    ]  # fmt: skip
    for output in shown:
        output.data.encode()
        assert_inert(BeautifulSoup(output.data, "html.parser"))
        assert "mathjax_ignore" in output.data
    for text in PLANTED:
        assert_shown(BeautifulSoup(shown[2].data, "html.parser"), text)
    cases = [
        Failure("track_c", text, text, text, text, text, f"Both are called `{text}`. {text}")
        for text in PLANTED
    ]
    for output in (display.pair(text, text) for text in PLANTED):
        for page in rendered(output.data):
            assert_inert(page)
    harmless = [Failure("track_c", f"x {n}", f"x {n}", *["x"] * 4) for n in range(len(cases))]
    soup, plain = (BeautifulSoup(gallery(some, some).data, "html.parser") for some in (cases, harmless))
    own = [Counter(tag.name for tag in page.find_all(True)) for page in (soup, plain)]
    for name in ("span", "code"):  # of lines, and of what stands between backticks
        assert own[0].pop(name)
        own[1].pop(name)
    assert own[0] == own[1]
    for tag in soup.find_all(True):
        assert not [name for name in tag.attrs if name.startswith("on") or name in ("src", "style")], tag
        assert tag.get("href", "#").startswith("#"), tag
    for text in PLANTED:
        assert_shown(soup, text)


def test_a_table_keeps_backslashes_apart_from_line_ends() -> None:
    page = display.table(pd.DataFrame({"a": ["C:\\new", "x\ny"]})).data
    assert "C:\\new" in page
    assert "x<br>y" in page


def test_sentences_and_tables_of_a_track_are_inert() -> None:
    track = not_run("track_b", "; ".join(PLANTED), PLANTED[2])
    texts = [tables.verdict_sentence(track)]
    metrics = metrics_of("path:x", [], "; ".join(PLANTED))
    texts.append(tables.verdict_sentences(metrics))
    control = section("mrr@10")["metrics"]["mrr@10"]
    foreign = {"controls": {"foreign_package": control}, "data": {"foreign_package": PLANTED[2]}}
    texts.append(tables_c.search_control_sentences(foreign))
    seen = {"controls": {}, "data": {"exposure_note": PLANTED[1]}, "metrics": {}, "cost": {}}
    texts.append(tables.pretraining_control_sentences(seen))
    frame = pd.DataFrame({"System": PLANTED, PLANTED[2]: PLANTED}).set_index("System")
    texts.append(tables.markdown(frame))
    for text in texts:
        for page in rendered(text):
            assert_inert(page)
    for page in rendered(tables.markdown(frame)):
        rows = page.find_all("tr")
        assert len(rows) == 1 + len(PLANTED)
        assert {len(row.find_all(["td", "th"])) for row in rows} == {2}


def test_the_final_table_prints_names_that_look_like_markup() -> None:
    stream = io.StringIO()
    metrics = metrics_of("path:my[/b]repo", [PLANTED[13]], "x [/b]")
    tables.print_summary(metrics, Console(file=stream, width=80))
    assert "my[/b]repo" in stream.getvalue()


def test_a_comparison_of_runs_with_such_names_is_inert(tmp_path) -> None:
    for number, text in enumerate(PLANTED[:4]):
        write_json(tmp_path / f"{number}.json", metrics_of(f"path:{text}", [], text))
    page = comparison([f"{as_name(text)}={tmp_path / str(n)}.json" for n, text in enumerate(PLANTED[:4])])
    for shown in rendered(page):
        assert_inert(shown)
        assert len(shown.find_all("tr")) == 1 + 3 * 4


def test_a_plot_takes_a_dollar_sign_for_itself() -> None:
    names = ["cost_in_$", "a$\\frac$", "$x^$"]
    track = section("pass@1")
    entry = track["metrics"]["pass@1"]
    track["metrics"] |= dict.fromkeys(names, entry)
    shown = figure_html(before_after_dots(track, names))
    assert all(f"{name} (n =" in shown for name in names[1:])


def test_the_page_shows_planted_texts_and_loads_nothing(repository) -> None:
    corpus = repository[0]
    metrics = metrics_of(corpus.spec, [*corpus_warnings(corpus), *PLANTED], "; ".join(PLANTED))
    printed = nbformat.v4.new_code_cell("f()")
    printed.outputs = [nbformat.v4.new_output("stream", name="stdout", text="\n".join(PLANTED))]
    cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        printed,
        nbformat.v4.new_markdown_cell(f"kept {PLANTED[2]}"),
    ]
    page, left_out = page_in_any_case(nbformat.v4.new_notebook(cells=cells), metrics)
    assert len(left_out) == 1  # of the cell's own HTML
    soup = BeautifulSoup(page, "html.parser")
    assert not soup.main.find_all(["img", "script", "iframe"])
    for text in PLANTED:
        assert_shown(soup, text.replace("\x1b[31m", ""))


@pytest.mark.parametrize("element", [
    f"<IMG SRC={IMAGE}>", "<img src=//example.org/a.png>", f"<img srcset='{IMAGE} 2x'>", "<img src='a.png'>",
    f"<video poster='{IMAGE}'></video>", f"<object data='{IMAGE}'></object>", f"<embed src='{IMAGE}'>",
    "<script>alert(1)</script>", "<svg onload=alert(1)></svg>", f"<svg><image href='{IMAGE}'/></svg>",
    "<a href='javascript:alert(1)'>x</a>", "<a href=' java\nscript:alert(1)'>x</a>", "<iframe srcdoc='x'></iframe>",
    f"<p style='background: url({IMAGE})'>x</p>", f"<style>@import '{IMAGE}';</style>", "<base href='//x.org'>",
    f"<style>p {{ background: url({IMAGE}) }}</style>", "<meta http-equiv='refresh' content='0;url=//x.org'>",
    f"<form action='{IMAGE}'><button>x</button></form>", f"<table background='{IMAGE}'></table>",
])  # fmt: skip
def test_elements_that_load_or_run_are_replaced_by_their_names(element) -> None:
    left_out: list[str] = []
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell(f"# T\n\nkept\n\n{element}\n\nlast")]
    )
    page = html_document(notebook, metrics_of("path:x", [], "x"), left_out)
    assert len(left_out) == 1, left_out
    main = BeautifulSoup(page, "html.parser").main
    assert main.get_text().count("left out: the page would") == 2  # in its place and at the top
    assert "kept" in main.get_text()
    assert "last" in main.get_text()
    assert not main.find_all(
        ["img", "script", "iframe", "video", "object", "embed", "style", "base", "meta", "form"]
    )


def test_images_links_and_styles_of_our_own_stay() -> None:
    own = (
        '<img src="data:image/png;base64,AAAA" alt="x" style="max-width:100%"> <a href="#T">x</a> '
        '<a href="https://example.org">y</a> <a href="docs/scoring.md#a">z</a>'
    )
    left_out: list[str] = []
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# T\n\n{own}")])
    page = BeautifulSoup(html_document(notebook, metrics_of("path:x", [], "x"), left_out), "html.parser").main
    assert page.img.attrs == {"src": "data:image/png;base64,AAAA", "alt": "x", "style": "max-width:100%"}
    assert [link["href"] for link in page.find_all("a") if not link.get("class")] == [
        "#T",
        "https://example.org",
        "docs/scoring.md#a",
    ]
    assert not left_out
