"""`python -m helpers report`: rebuild a run's reports from its folder, without a model, a GPU or the corpus.

Figures come from the per-item rows, the data card from the facts that the run kept, the page from the
executed notebook. So a report takes on a better page or another table without repeating the run.
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat

from helpers.data.card.page import BESIDE_DATA, FACTS, render_data_card, with_tasks_set_aside
from helpers.report.export import page_in_any_case
from helpers.report.metrics import MetricsError, metrics_file, rebuilt_metrics
from helpers.run.workspace import read_json, write_json, write_text

PAGE = "ML_Assignment_Part2"
EXECUTED = "executed.ipynb"


def rebuild_report(run_folder: Path) -> list[str]:
    """Rebuild metrics.json, data card and page in `<run_folder>/report`.

    Returns:
        A line for each file that was written, and for each part that the folder is too old to rebuild.

    Raises:
        MetricsError: if the folder is not that of a finished run, or its rows are missing or broken.
    """
    run_folder = Path(run_folder)
    if not run_folder.is_dir():
        raise MetricsError(f"there is no folder {run_folder}; give --run a folder below runs/")
    file = metrics_file(run_folder)
    metrics = rebuilt_metrics(run_folder)
    write_json(file, metrics)
    suffix = file.name.removeprefix("metrics").removesuffix(".json")
    lines = [_shown(file)]
    if (run_folder / FACTS).is_file():
        card = file.parent / f"data_card{suffix}.md"
        rendered = with_tasks_set_aside(render_data_card(read_json(run_folder / FACTS)), metrics)
        for path in (card, run_folder / BESIDE_DATA):
            write_text(path, rendered)
        lines.append(_shown(card))
    else:
        lines.append(
            f"the data card stays as it is: {run_folder} holds no {FACTS}, as runs of older versions"
        )
    executed = run_folder / EXECUTED
    if executed.is_file():
        page = file.parent / "exports" / f"{PAGE}{suffix}.html"
        html, left_out = page_in_any_case(nbformat.read(executed, as_version=4), metrics)
        write_text(page, html)
        lines += [_shown(page), *(f"Warning: {line}" for line in left_out)]
    else:
        lines.append(f"no page: {run_folder} holds no {EXECUTED}, which `python -m helpers run` keeps")
    return lines


def _shown(path: Path) -> str:
    return os.path.relpath(path)
