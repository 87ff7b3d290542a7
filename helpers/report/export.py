"""Export the executed notebook as one self-contained HTML page that needs no script and no network.

nbconvert renders the cells with a template of our own, `cells.html.j2`: its own templates load scripts from
the web and lose the alternative text of figures. `page.html.j2` puts the first screen, the essays on the
tracks and the navigation around them.
"""

from __future__ import annotations

import copy
import functools
import html
import json
import re
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from bs4 import BeautifulSoup, Tag
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from helpers.error_text import told
from helpers.escaping import visible
from helpers.report.deciding import ROW_GROUPS
from helpers.report.essay import track_essays
from helpers.report.even_tables import even_tables
from helpers.report.first_screen import first_screen
from helpers.report.sections import page_sections
from helpers.settings import public_spec

FOLDER = Path(__file__).parent
# The folders above the last part of a quoted path that leaves the checkout.
OUTSIDE = re.compile(r"(?<=[':,])(?:\.\./|~/|/(?!/))[^',]*?(?=[^/',]*[',])")
# What a page without scripts and network access may not hold. A link is followed by a person only.
ACTIVE = {"script", "iframe", "frame", "object", "embed", "applet", "base", "meta", "link", "form"}
ADDRESSED = ("src", "srcset", "href", "xlink:href", "poster", "background", "data", "action", "formaction")
HARMLESS_ADDRESS = re.compile(r"\s*(?:#|data:image/|$)", re.IGNORECASE)
HARMLESS_LINK = re.compile(r"\s*(?:#|$|https?:|mailto:|[\w./-]+(?:$|[#?]))", re.IGNORECASE)
LOADING_STYLE = re.compile(r"@import|url\(\s*[\"']?(?!data:|#)([^\"')\s]+)", re.IGNORECASE)


def page_in_any_case(notebook: nbformat.NotebookNode, metrics: dict[str, Any]) -> tuple[str, list[str]]:
    """Return `html_document`, or a page that says why it failed, and a line for each omission."""
    left_out: list[str] = []
    try:
        return visible(html_document(notebook, metrics, left_out)), left_out
    except Exception as error:
        line = f"the HTML page could not be rendered; metrics.json and data card are complete: {told(error)}"
        rows = html.escape(visible(json.dumps(metrics, indent=2, ensure_ascii=False)))
        page = f"<h1>{html.escape(_title(notebook))}</h1><p>{html.escape(line)}</p><pre>{rows}</pre>"
        return f'<!DOCTYPE html><html lang="en"><meta charset="utf-8">{page}</html>', [line]


def html_document(
    notebook: nbformat.NotebookNode, metrics: dict[str, Any], left_out: list[str] | None = None
) -> str:
    """Render an executed notebook under the first screen of its results, with an essay on each track.

    Args:
        notebook: executed copy; it is not changed.
        metrics: the run's metrics.json, the only source of the figures in first screen and essays.
        left_out: receives a line for everything that the page had to leave out.
    """
    lost: list[str] = [] if left_out is None else left_out
    values = {"essays": track_essays(metrics), "run": metrics["run"], "row_groups": ROW_GROUPS}
    return notebook_page(notebook, "run_page.html.j2", lost, first=first_screen(metrics), **values)


def notebook_page(
    notebook: nbformat.NotebookNode,
    template: str,
    left_out: list[str] | None = None,
    *,
    folder: Path = FOLDER,
    **values: Any,
) -> str:
    """Render an executed notebook into a page template.

    Cells that cannot be rendered, and anything that would be loaded from the web, are left out. The page
    says so in their place and at its top.

    Args:
        notebook: executed copy; it is not changed.
        left_out: receives a line for each omission.
        folder: where `template` lies; it may extend the templates of this package.
        values: what the template shows around the notebook; `essays` (anchor -> essay) replaces the
            beginning of the sections it names.
    """
    lost: list[str] = [] if left_out is None else left_out
    body = _without_foreign(_rendered(_without_noise(notebook), lost), lost)
    values.setdefault("essays", {})
    introduction, sections = page_sections(body, values["essays"])
    return filled_page(
        template,
        folder,
        title=_title(notebook),
        introduction=introduction,
        sections=sections,
        anchors={section.anchor for section in sections},
        left_out=lost,
        **values,
    )


def filled_page(template: str, folder: Path = FOLDER, **values: Any) -> str:
    """Fill a template that extends `page.html.j2`, with the style and the script that all pages share.

    Args:
        folder: where `template` lies; it may extend the templates of this package.
        values: what the template shows.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        css=(FOLDER / "page.css").read_text(encoding="utf-8"),
        script=(FOLDER / "page.js").read_text(encoding="utf-8"),
        light=HtmlFormatter(style="default").get_style_defs(".highlight"),
        dark=HtmlFormatter(style="github-dark").get_style_defs(".highlight"),
        **values,
    )


def _rendered(notebook: nbformat.NotebookNode, lost: list[str]) -> str:
    """Render the cells as HTML; replace each cell that the exporter fails on by a sentence."""
    exporter = HTMLExporter(template_name="base")
    exporter.raw_template = (FOLDER / "cells.html.j2").read_text(encoding="utf-8")
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = exporter.exclude_anchor_links = True
    exporter.register_filter("even_tables", even_tables)
    try:
        return exporter.from_notebook_node(notebook)[0]
    except Exception:
        for place, cell in enumerate(notebook.cells):
            alone = nbformat.v4.new_notebook(cells=[cell], metadata=notebook.metadata)
            try:
                exporter.from_notebook_node(alone)
            except Exception as error:
                line = f"cell {place + 1} cannot be rendered and is left out of the page: {told(error)}"
                notebook.cells[place] = nbformat.v4.new_markdown_cell(f"*{html.escape(line)}*")
                lost.append(line)
        return exporter.from_notebook_node(notebook)[0]


def _without_foreign(body: str, lost: list[str]) -> str:
    """Replace every element that would run code or load something by what it would have done.

    A body without such elements is returned as it is.
    """
    soup = BeautifulSoup(body, "html.parser")
    found = [(element, why) for element in soup.find_all(True) if (why := _forbidden(element))]
    for element, why in found:
        line = f"left out: the page would {why}; embed it instead"
        lost.append(line)
        note = soup.new_tag("em")
        note.string = f"[{line}]"
        element.replace_with(note)
    return str(soup) if found else body


def _forbidden(element: Tag) -> str:
    """Return what an element would do that the page must not; "" for most elements."""
    styles = [str(element.get("style", "")), element.get_text() if element.name == "style" else ""]
    if loading := next(filter(None, map(LOADING_STYLE.search, styles)), None):
        return f"load {loading[1] or 'a style sheet'} from the web"
    harmless = HARMLESS_LINK if element.name in ("a", "area") else HARMLESS_ADDRESS
    for name in ADDRESSED:
        address = str(element.get(name, ""))
        if not harmless.match(address):
            runs = element.name in ("a", "area")
            return f"follow the link {address[:80]}" if runs else f"load {address} from the web"
    if element.name == "script" and not element.attrs and element.get_text() in _own_scripts():
        return ""
    if element.name in ACTIVE:
        return f"hold an active element <{element.name}>"
    handlers = [name for name in element.attrs if name.lower().startswith("on")]
    return f"run code ({handlers[0]} of <{element.name}>)" if handlers else ""


@functools.cache
def _own_scripts() -> frozenset[str]:
    """Return the scripts of this package: a cell's output may hold one of them, word for word."""
    return frozenset(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.js"))


def open_notebook() -> nbformat.NotebookNode | None:
    """Return the notebook open in Colab, with its outputs so far; None anywhere else."""
    try:
        from google.colab import _message
    except ImportError:
        return None
    answer = _message.blocking_request("get_ipynb", timeout_sec=60)
    return nbformat.reads(json.dumps(answer["ipynb"]), as_version=4) if answer else None


def without_passwords(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a copy without user names and passwords in a corpus's address."""
    copied = copy.deepcopy(notebook)
    for cell in copied.cells:
        if cell.cell_type == "code":
            cell.source = public_spec(cell.source)
    return copied


def _title(notebook: nbformat.NotebookNode) -> str:
    first = next((c.source for c in notebook.cells if c.cell_type == "markdown"), "")
    match = re.search(r"^# (.+)$", first, re.MULTILINE)
    return match[1].strip() if match else "Notebook"


def _without_noise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a copy fit for a reader elsewhere.

    It lacks progress bars (stderr), widget state and badges loaded from the web. Values given on the command
    line lose this machine's folders: `'../../home/me/results'` becomes `'…/results'`.
    """
    cleaned = without_passwords(notebook)
    cleaned.metadata.pop("widgets", None)  # nbconvert fails on Colab's widgets (nbconvert #1731)
    for cell in cleaned.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\[!\[[^\]]*\]\(https?://[^)]*\)\]\([^)]*\)\n*", "", cell.source)
        else:
            if "injected-parameters" in cell.metadata.get("tags", []):
                cell.source = OUTSIDE.sub("…/", cell.source)
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    return cleaned
