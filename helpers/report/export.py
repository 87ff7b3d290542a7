"""The executed notebook as one self-contained HTML page that needs neither scripts nor network.

nbconvert renders the cells; the page around them (result banner, section list, style) is ours,
because nbconvert's own page templates load their scripts from the web.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from helpers.data.sources import public_spec
from helpers.report.tables import summary_rows
from helpers.settings import PROFILES

FOLDER = Path(__file__).parent


def html_document(notebook: nbformat.NotebookNode, metrics: dict[str, Any]) -> str:
    """Render an executed notebook under a banner of its results.

    Args:
        notebook: executed copy; it is not changed.
        metrics: the run's metrics.json; the only source of the banner's figures.

    Raises:
        ValueError: if the page would load anything from elsewhere.
    """
    profile = PROFILES.get(metrics["run"]["profile"])
    return notebook_page(
        notebook,
        "page.html.j2",
        rows=summary_rows(metrics),
        run=metrics["run"],
        full_run=profile is None or profile.is_full_run,
        changed=metrics["run"].get("settings_changed", []),
    )


def notebook_page(notebook: nbformat.NotebookNode, template: str, **values: Any) -> str:
    """Render an executed notebook into a page template of this folder.

    Args:
        notebook: executed copy; it is not changed.
        values: what the template shows around the notebook.

    Raises:
        ValueError: if the page would load anything from elsewhere.
    """
    cleaned = _without_noise(notebook)
    exporter = HTMLExporter(template_name="basic")
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    body, _ = exporter.from_notebook_node(cleaned)
    soup = BeautifulSoup(body, "html.parser")
    headings = [
        (int(tag.name[1]), tag.get("id", ""), tag.get_text().replace("¶", "").strip())
        for tag in soup.find_all(["h2", "h3"])
        if not tag.find_parent(class_="card")
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template(template).render(
        title=_title(notebook),
        css=(FOLDER / "page.css").read_text(encoding="utf-8"),
        highlight_css=HtmlFormatter(style="default").get_style_defs(".highlight"),
        headings=headings,
        body=body,
        **values,
    )
    foreign = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(https?:[^\"'> ]+)", page)
    if foreign:
        raise ValueError(f"the export would load {foreign[0]} from the web; embed it instead")
    return page


def open_notebook() -> nbformat.NotebookNode | None:
    """The notebook that is open in Colab, with the outputs so far; None anywhere else."""
    try:
        from google.colab import _message
    except ImportError:
        return None
    answer = _message.blocking_request("get_ipynb", timeout_sec=60)
    if not answer:
        return None
    return nbformat.reads(json.dumps(answer["ipynb"]), as_version=4)


def without_passwords(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy whose cells hold no user name or password of a corpus' address."""
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
    """A copy without progress bars (stderr), widget state, and badges that live on the web."""
    cleaned = without_passwords(notebook)
    cleaned.metadata.pop("widgets", None)  # nbconvert fails on Colab's (nbconvert #1731)
    for cell in cleaned.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\[!\[[^\]]*\]\(https?://[^)]*\)\]\([^)]*\)\n*", "", cell.source)
        else:
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            cell.metadata["magics_language"] = "python"  # %%track cells are Python below their first line
    return cleaned
