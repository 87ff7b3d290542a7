"""The command `python -m helpers profiling lab`: execute the notebook, publish its page and its grades."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from helpers.bootstrap import suite_file
from helpers.profiling_lab.example_grades import ExampleGrade
from helpers.report.execute import execute_notebook
from helpers.report.export import notebook_page
from helpers.run.folder import PACKAGE
from helpers.run.workspace import check_writable, read_json, write_json, write_text

STEM = "Training_Loop_Profiling"
GRADES = "training_loop_profiling.json"


def run_profiling_lab(out: Path) -> None:
    """Execute the lab's notebook, and write its page to `exports/` in `out`.

    Raises:
        CellFailure: if a cell fails; nothing is published then.
        WorkspaceError: if the page could not be written; nothing is executed then.
    """
    notebook_file = suite_file(f"labs/{STEM}.ipynb")
    # The notebook runs in its own folder; a copy that is shipped inside the package runs beside the package.
    folder = PACKAGE.parent if PACKAGE in notebook_file.parents else notebook_file.parent
    page = out / "exports" / f"{STEM}.html"
    check_writable(page)
    notebook = execute_notebook(notebook_file, {"OUT": os.path.relpath(out, folder)}, cwd=folder)
    write_text(page, profiling_page(notebook, read_json(out / "exports" / GRADES)))
    for written in (page, page.with_name(GRADES)):
        print(f"  {os.path.relpath(written)}")


def profiling_page(notebook: nbformat.NotebookNode, grades: Mapping[str, Any]) -> str:
    """Render the executed notebook as one page, under a banner with the references' grades."""
    return notebook_page(
        notebook, "profiling_page.html.j2", folder=Path(__file__).parent, conclusion=grades["conclusion"],
        rows=grades["references"], machine=grades["machine"],
    )  # fmt: skip


def save_grades(graded: Mapping[str, Sequence[ExampleGrade]], machine: str, folder: Path) -> str:
    """Write every grade to `training_loop_profiling.json` in `folder`, and return the conclusion."""
    conclusion = conclude(graded)
    every = [one for graded_here in graded.values() for one in graded_here]
    references = [
        {"problem": one.grade.problem, "name": one.example.name, "status": one.grade.status,
         "speedup": one.grade.speedup, "interval": one.grade.interval}
        for one in every if not one.example.fails
    ]  # fmt: skip
    grades = [
        {"name": one.example.name, "meant_to_fail": one.example.fails, "as_expected": one.as_expected}
        | one.grade.to_json()
        for one in every
    ]
    found = {"conclusion": conclusion, "machine": machine, "references": references, "grades": grades}
    write_json(folder / GRADES, found)
    return conclusion


def conclude(graded: Mapping[str, Sequence[ExampleGrade]]) -> str:
    """State how many references passed and how many cheats failed by the check meant for them."""
    every = [one for graded_here in graded.values() for one in graded_here]
    references = [one for one in every if not one.example.fails]
    cheats = [one for one in every if one.example.fails]
    passed = sum(one.grade.passed for one in references)
    caught = sum(one.as_expected for one in cheats)
    text = (
        f"{passed} of {len(references)} references passed; {caught} of {len(cheats)} cheats failed by the "
        f"check meant for them."
    )
    odd = [f"{one.example.name} ({one.grade.problem})" for one in every if not one.as_expected]
    return text + (f" Not as expected: {', '.join(odd)}." if odd else "")
