"""The commands `python -m helpers pretrain` and `python -m helpers lab`.

`lab` executes the notebook that a person would run cell by cell, and publishes nothing until the last cell
and the export have succeeded.
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat

from helpers.bootstrap import suite_file
from helpers.fixed_budget.budget_report import write_report
from helpers.fixed_budget.experiment import choose_scale, open_experiment, runs_root
from helpers.fixed_budget.lab_tables import RUN_HEADER, conclusion, run_rows
from helpers.fixed_budget.recipes import find_recipe
from helpers.fixed_budget.results import BudgetRun, read_run
from helpers.fixed_budget.rungs import Comparison
from helpers.fixed_budget.train_recipe import ComparisonSettings, run_recipe
from helpers.machine.hardware import detect_runtime
from helpers.paths import expanded
from helpers.report.execute import execute_notebook
from helpers.report.export import notebook_page
from helpers.run.folder import PACKAGE
from helpers.run.workspace import check_writable, read_json, write_text

LAB_NOTEBOOK = suite_file("labs/Fixed_Budget_Pretraining.ipynb")
# The notebook runs in its own folder; a copy that is shipped inside the package runs beside the package.
FOLDER = PACKAGE.parent if PACKAGE in LAB_NOTEBOOK.parents else LAB_NOTEBOOK.parent


def pretrain_titles(
    data: str, recipe: str, scale: str, *, seed: int, spread: bool, resume: bool, out: Path
) -> BudgetRun:
    """Run one recipe and print its result; see `run_recipe` for arguments and errors."""
    chosen = find_recipe(recipe)
    shared = ComparisonSettings(data, choose_scale(scale), runs_root(out), resume)
    run = run_recipe(chosen, shared, detect_runtime(), seed=seed, spread=spread)
    score = run.score
    marks = "".join(
        f" [{mark}]"
        for mark, holds in (
            ("the challenge", run.is_challenge), ("spread", run.is_spread),
            (f"{run.scale} scale", run.scale != "full"),
        ) if holds
    )  # fmt: skip
    print(
        f"{run.name}, seed {run.seed}, {run.data['spec']}, {run.data['titles']:,} titles{marks}\n"
        f"  full coverage   {score.full_nats_per_character:.4f} nats per character\n"
        f"  frozen metric   {score.frozen_nats_per_character:.4f} at {score.coverage:.1%} coverage\n"
        f"  {run.parameters / 1e6:.2f} M parameters, {run.steps:,} steps, {run.tokens:,} targets, "
        f"{run.seconds:,.1f} s, {run.tokens_per_second:,.0f} tokens/s, {run.precision}"
    )
    return run


def run_lab(
    *, data: str, scale: str, seeds: str, ladder: bool, out: Path, resume: bool, jobs: int = 1
) -> None:
    """Execute the lab's notebook; publish its page `exports/Fixed_Budget_Pretraining*.html` and the report.

    With `ladder`, every rung of the ladder runs too. The other arguments and most errors are those of
    `open_experiment`. If a cell fails, CellFailure is raised and nothing is published.
    """
    experiment = open_experiment(data, scale, seeds=seeds, out=out, resume=resume, jobs=jobs)
    kind, _, path = data.partition(":")
    if kind == "file":
        data = f"file:{os.path.relpath(expanded(path), FOLDER)}"
    parameters = {
        "DATA": data,
        "SCALE": experiment.scale.name,
        "SEEDS": ",".join(map(str, experiment.seeds)),
        "LADDER": ladder,
        "OUT": os.path.relpath(out, FOLDER),
        "RESUME": resume,
        "JOBS": jobs,
    }
    titles = experiment.titles
    print(f"{LAB_NOTEBOOK.name}: {titles.spec}, {len(titles.titles):,} titles, {experiment.scale.name} scale")
    exports = out / "exports"
    suffix = "" if experiment.scale.name == "full" else f".{experiment.scale.name}"
    page = exports / f"{LAB_NOTEBOOK.stem}{suffix}.html"
    check_writable(page)
    notebook = execute_notebook(LAB_NOTEBOOK, parameters, cwd=FOLDER)
    write_text(page, lab_page(notebook, exports / f"fixed_budget_report{suffix}.json"))
    nbformat.write(notebook, experiment.runs / "executed.ipynb")
    for written in (page, *sorted(exports.glob(f"fixed_budget_report{suffix}.[hpj]*"))):
        print(f"  {os.path.relpath(written)}")


def report_finished(*, data: str, scale: str, out: Path) -> None:
    """Write the report on the finished runs alone, for example if the ladder was interrupted.

    The errors are those of `open_experiment` and `Experiment.load_finished`.
    """
    comparison, rungs = open_experiment(data, scale, out=out).load_finished()
    print(conclusion(comparison))
    for path in write_report(comparison, rungs, out / "exports"):
        print(f"  {os.path.relpath(path)}")


def lab_page(notebook: nbformat.NotebookNode, report: Path) -> str:
    """Render the executed notebook as one page, under a banner with the figures of `report`."""
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
