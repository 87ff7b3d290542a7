"""`python -m helpers report`: rebuild a run's reports from its folder, without a model, a GPU or the corpus.

Figures come from the per-item rows, the data card from the facts that the run kept, the page from the
executed notebook. So a report takes on a better page or another table without repeating the run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from helpers.data.card.page import BESIDE_DATA, FACTS, render_data_card, with_tasks_set_aside
from helpers.report.export import page_in_any_case
from helpers.report.metrics import MetricsError, metrics_file, rebuilt_metrics
from helpers.run.workspace import DamagedFileError, read_json, write_json, write_text

PAGE = "ML_Assignment_Part2"
EXECUTED = "executed.ipynb"


def rebuild_report(run_folder: Path) -> list[str]:
    """Rebuild metrics.json, data card and page in `<run_folder>/report`.

    Returns:
        A line for each file that was written, and for each part that the folder is too old to rebuild.

    Raises:
        MetricsError: if the folder is not that of a finished run, or its rows are missing or broken.
        DamagedFileError: if another file of it was cut short. Nothing is written then.
    """
    run_folder = Path(run_folder)
    if not run_folder.is_dir():
        raise MetricsError(f"there is no folder {run_folder}; give --run a folder below runs/")
    file = metrics_file(run_folder)
    metrics = rebuilt_metrics(run_folder)
    rendered = _data_card(run_folder / FACTS, metrics)
    executed = _notebook(run_folder / EXECUTED)
    write_json(file, metrics)
    suffix = file.name.removeprefix("metrics").removesuffix(".json")
    lines = [_shown(file)]
    if rendered is not None:
        card = file.parent / f"data_card{suffix}.md"
        for path in (card, run_folder / BESIDE_DATA):
            write_text(path, rendered)
        lines.append(_shown(card))
    else:
        lines.append(
            f"the data card stays as it is: {run_folder} holds no {FACTS}, as runs of older versions"
        )
    if executed is not None:
        page = file.parent / "exports" / f"{PAGE}{suffix}.html"
        html, left_out = page_in_any_case(executed, metrics)
        write_text(page, html)
        lines += [_shown(page), *(f"Warning: {line}" for line in left_out)]
    else:
        lines.append(f"no page: {run_folder} holds no {EXECUTED}, which `python -m helpers run` keeps")
    return lines


def _data_card(facts: Path, metrics: Mapping[str, Any]) -> str | None:
    """Return the data card; None for a run that kept no facts."""
    if not facts.is_file():
        return None
    try:
        return with_tasks_set_aside(render_data_card(read_json(facts)), metrics)
    except DamagedFileError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedFileError(facts, error) from error


def _notebook(file: Path) -> nbformat.NotebookNode | None:
    """Return the executed notebook; None for a run that kept none."""
    if not file.is_file():
        return None
    stored = read_json(file)
    is_notebook = isinstance(stored, dict) and isinstance(stored.get("cells"), list)
    if not is_notebook or stored.get("nbformat") != nbformat.current_nbformat:
        raise DamagedFileError(file, "it is no notebook")
    return nbformat.read(file, as_version=4)


def _shown(path: Path) -> str:
    return os.path.relpath(path)
