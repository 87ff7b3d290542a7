"""The HTML page is one file, loads nothing from the web, and leaves out noise."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter

from helpers.report import export
from helpers.report.export import html_document, open_notebook, page_in_any_case
from helpers.report.metrics import assemble, not_run, run_section

new_code, new_markdown = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell


@pytest.fixture
def metrics() -> dict:
    run = run_section(
        profile="smoke",
        run_id="smoke-1",
        corpus={"spec": "path:mine", "version": "", "files": 3, "sha256": "0" * 64},
        commit="abc",
        seed=1,
        hardware={"device": "cpu", "name": "x", "cores": 2, "memory_gib": 1.0, "precision": "float32"},
        versions={"python": "3.11"},
        started="2026-01-01T00:00:00+00:00",
        seconds=61.0,
    )
    tracks = {t: not_run(t, "no <docstrings>", "10 pairs") for t in ("track_a", "track_b", "track_c")}
    return assemble(run=run, failures=[], **tracks)


def notebook(*cells):
    return nbformat.v4.new_notebook(cells=[new_markdown("# Title\n\n## First"), *cells])


def test_progress_and_warnings_on_stderr_are_left_out(metrics) -> None:
    cell = new_code("f()")
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="\rtrain: 10%|#"),
        nbformat.v4.new_output("stream", name="stdout", text="kept"),
    ]
    source = notebook(cell)
    page = html_document(source, metrics)
    assert "kept" in page
    assert "train: 10%" not in page
    assert len(source.cells[-1].outputs) == 2  # the notebook itself is untouched


def test_widget_state_without_state_does_not_break_it(metrics) -> None:
    """Colab writes `metadata.widgets` in a form that makes nbconvert fail (KeyError: 'state')."""
    source = notebook()
    source.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"abc": {}}}
    assert "Title" in html_document(source, metrics)


def test_banner_comes_from_metrics_and_is_escaped(metrics) -> None:
    page = html_document(notebook(), metrics)
    banner = BeautifulSoup(page, "html.parser").find(class_="result").get_text()
    assert "profile smoke" in banner
    assert "No <docstrings>" in banner
    assert "A smoke run" in banner


@pytest.mark.parametrize(("given", "shown"), [
    ("'../../home/someone/results'", "'…/results'"),
    ("'path:/home/someone/my repo'", "'path:…/my repo'"),
    ("'../home/a.jsonl,~/home/b.jsonl'", "'…/a.jsonl,…/b.jsonl'"),
    ("'git:https://example.org/home/code@v1'", "'git:https://example.org/home/code@v1'"),
    ("'runs/home'", "'runs/home'"),
    ("'..'", "'..'"),
])  # fmt: skip
def test_values_given_on_the_command_line_show_no_folders_of_this_machine(metrics, given, shown) -> None:
    cell = new_code(f"OUT = {given}", metadata={"tags": ["injected-parameters"]})
    page = BeautifulSoup(html_document(notebook(cell), metrics), "html.parser")
    assert f"OUT = {shown}" in page.get_text()


def test_badges_are_dropped_and_foreign_images_left_out_by_name(metrics) -> None:
    badge = "[![Open](https://example.org/badge.svg)](https://example.org)\n\ntext"
    page = html_document(notebook(new_markdown(badge)), metrics)
    assert "badge.svg" not in page
    assert "text" in page
    left_out: list[str] = []
    page = html_document(notebook(new_markdown("kept ![x](https://example.org/a.png)")), metrics, left_out)
    assert len(left_out) == 1
    assert "would load https://example.org/a.png from the web" in left_out[0]
    assert "kept" in page
    assert "<img" not in page
    assert page.count("would load https://example.org/a.png") == 2  # in its place and at the top


def test_only_the_cell_that_cannot_be_rendered_is_left_out(metrics, monkeypatch) -> None:
    whole = HTMLExporter.from_notebook_node

    def fails(self, shown, *arguments, **options):
        assert not any("broken" in cell.source for cell in shown.cells)
        return whole(self, shown, *arguments, **options)

    monkeypatch.setattr(HTMLExporter, "from_notebook_node", fails)
    left_out: list[str] = []
    page = html_document(notebook(new_markdown("broken"), new_markdown("kept")), metrics, left_out)
    assert "kept" in page
    assert left_out[0].startswith("cell 2 cannot be rendered and is left out of the page: AssertionError")


def test_a_page_that_cannot_be_rendered_says_so_and_holds_the_figures(metrics, monkeypatch) -> None:
    def fails(*arguments):
        raise RuntimeError

    monkeypatch.setattr(export, "first_screen", fails)
    page, left_out = page_in_any_case(notebook(new_markdown("text")), metrics)
    assert "RuntimeError without a message" in left_out[0]
    assert "no &lt;docstrings&gt;" in page


def test_sections_are_listed(metrics) -> None:
    page = html_document(notebook(new_markdown("## Second & last")), metrics)
    nav = page[page.index("<nav") : page.index("</nav>")]
    assert "First" in nav
    assert "Second &amp; last" in nav


def test_only_colab_has_an_open_notebook(monkeypatch) -> None:
    assert open_notebook() is None
    written = json.loads(nbformat.writes(notebook(new_code("1"))))
    google, colab = ModuleType("google"), ModuleType("google.colab")
    colab._message = ModuleType("google.colab._message")
    colab._message.blocking_request = lambda request, timeout_sec: {"ipynb": written}
    google.colab = colab
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert open_notebook().cells[-1].source == "1"


def test_warnings_are_above_the_results_and_passwords_are_removed(metrics) -> None:
    metrics["run"]["warnings"] = ["No <licence> was found."]
    cell = new_code('CORPUS = "git:https://me:tr0ub4dor@host/o/r"')
    page = html_document(notebook(cell), metrics)
    assert page.index("No &lt;licence&gt; was found.") < page.index('class="cards"')
    assert "tr0ub4dor" not in page
