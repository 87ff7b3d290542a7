"""`python -m helpers lab`: the lab's notebook executed headless, its page and short report published.

As for the suite, there is no other orchestration: what this runs is what a person runs cell by cell,
and nothing is published before the last cell and the export have succeeded.
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat

from helpers.fixed_budget.lab import open_lab
from helpers.fixed_budget.ladder import Comparison
from helpers.fixed_budget.run import read_run
from helpers.fixed_budget.short_report import write_report
from helpers.fixed_budget.tables import RUN_HEADER, conclusion, run_rows
from helpers.report.execute import execute_notebook
from helpers.report.export import notebook_page
from helpers.run.folder import PACKAGE
from helpers.run.workspace import read_json, write_text

NOTEBOOK = PACKAGE.parent / "labs" / "Fixed_Budget_Pretraining.ipynb"


def run_lab(
    *, data: str, scale: str, seeds: str, ladder: bool, out: Path, resume: bool, jobs: int = 1
) -> None:
    """Execute the lab's notebook, publish `exports/Fixed_Budget_Pretraining*.html` and the report.

    Raises:
        TitleSetError, RecipeError: before anything is executed.
        CellFailure: when a cell fails; nothing is published then.
    """
    lab = open_lab(data, scale, seeds=seeds, out=out, resume=resume, jobs=jobs)
    kind, _, place = data.partition(":")
    if kind == "file":
        data = f"file:{os.path.relpath(Path(place).expanduser(), NOTEBOOK.parent)}"
    parameters = {
        "DATA": data,
        "SCALE": lab.scale.name,
        "SEEDS": ",".join(map(str, lab.seeds)),
        "LADDER": ladder,
        "OUT": os.path.relpath(out, NOTEBOOK.parent),
        "RESUME": resume,
        "JOBS": jobs,
    }
    print(f"{NOTEBOOK.name}: {lab.titles.spec}, {len(lab.titles.titles):,} titles, {lab.scale.name} scale")
    notebook = execute_notebook(NOTEBOOK, parameters, cwd=NOTEBOOK.parent)
    exports = out / "exports"
    suffix = "" if lab.scale.name == "full" else f".{lab.scale.name}"
    page = exports / f"{NOTEBOOK.stem}{suffix}.html"
    write_text(page, lab_page(notebook, exports / f"fixed_budget_report{suffix}.json"))
    nbformat.write(notebook, lab.runs / "executed.ipynb")
    for path in (page, *sorted(exports.glob(f"fixed_budget_report{suffix}.[hpj]*"))):
        print(f"  {os.path.relpath(path)}")


def report_finished(*, data: str, scale: str, out: Path) -> None:
    """Write the short report on the finished runs alone, as of a ladder that was not run to its end.

    Raises:
        TitleSetError, RecipeError: for what does not exist, a finished run of either recipe included.
    """
    lab = open_lab(data, scale, out=out)
    comparison, rungs = lab.finished()
    print(conclusion(comparison))
    for path in write_report(comparison, rungs, out / "exports"):
        print(f"  {os.path.relpath(path)}")


def lab_page(notebook: nbformat.NotebookNode, report: Path) -> str:
    """The executed notebook as one page under a banner of the report's figures."""
    summary = read_json(report)
    runs = [read_run(fields) for fields in (*summary["baseline"], *summary["improved"])]
    comparison = Comparison((runs[0],), tuple(runs[1:]))
    one = runs[0]
    return notebook_page(
        notebook,
        "lab_page.html.j2",
        folder=Path(__file__).parent,
        spec=one.data["spec"],
        titles=f"{one.data['titles']:,}",
        scale=one.scale,
        conclusion=conclusion(comparison),
        header=RUN_HEADER,
        rows=run_rows(runs),
        hardware=f"{one.hardware['name']}, {one.hardware['cores']} cores, {one.hardware['device']}",
        commit=one.commit,
    )
