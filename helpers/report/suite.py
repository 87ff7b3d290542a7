"""`python -m helpers run`: the notebook itself, executed headless, then exported and published.

There is no other orchestration: what this runs is what a person runs cell by cell. Reports are
published only after the last cell and the export have succeeded; until then an earlier run's
`metrics.json`, data card and exports stay as they are.
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat

from helpers.report.execute import execute_notebook
from helpers.report.export import page_in_any_case, without_passwords
from helpers.run.calibration import estimate_here, minutes_text
from helpers.run.folder import PACKAGE, choose_run, publish_reports
from helpers.run.second_copy import SecondCopy
from helpers.run.workspace import read_json, write_json, write_text

NOTEBOOK = PACKAGE.parent / "ML_Assignment_Part2.ipynb"


def run_suite(
    *,
    profile: str,
    corpus: str,
    out: Path,
    resume: bool,
    seed: int | None,
    causal_lm: str,
    chat_lm: str,
    embedder: str,
    nf4: bool,
    keep: str = "",
    changes: str = "",
    language: str = "",
    benchmarks: str = "",
) -> None:
    """Execute, export, publish, and print the summary table (see `session.open_session`).

    Raises:
        SettingsError, WorkspaceError: before anything is executed.
        CellFailure: when a cell fails that the whole run rests on; nothing is published then.
    """
    models = {"causal_lm": causal_lm, "chat_lm": chat_lm, "embedder": embedder, "nf4": nf4}
    corpus = _relative_to_notebook(corpus)
    benchmarks = ",".join(os.path.relpath(path, NOTEBOOK.parent) for path in benchmarks.split(",") if path)
    chosen, run_folder = choose_run(
        profile,
        out=out,
        resume=resume,
        corpus=corpus,
        seed=seed,
        keep=keep,
        changes=changes,
        language=language,
        benchmarks=benchmarks,
        **models,
    )
    parameters = {
        "PROFILE": chosen.name,
        "CORPUS": corpus,
        "CAUSAL_LM": causal_lm,
        "CHAT_LM": chat_lm,
        "EMBEDDER": embedder,
        "NF4": nf4,
        "LANGUAGE": language,
        "BENCHMARKS": benchmarks,
        "SEED": chosen.seed,
        "OUT": os.path.relpath(out, NOTEBOOK.parent),
        "RUN_ID": run_folder.name,
        "RESUME": resume,
        "SETTINGS": changes,
        "DRIVE": keep and os.path.relpath(keep, NOTEBOOK.parent),
        "KEEP_ON_DRIVE": bool(keep),
        "PUBLISH": False,
    }
    estimate, why = estimate_here(chosen, run_folder, resume=resume)
    print(f"{NOTEBOOK.name}, profile {chosen.name}, about {minutes_text(estimate.left(0.0))} {why}")
    notebook = execute_notebook(NOTEBOOK, parameters, cwd=NOTEBOOK.parent, estimate=estimate)
    report = run_folder / "report"
    suffix = "" if chosen.is_full_run else f".{chosen.name}"
    metrics = read_json(report / f"metrics{suffix}.json")
    exported = report / "exports" / f"{NOTEBOOK.stem}{suffix}.html"
    page, left_out = page_in_any_case(notebook, metrics)
    write_text(exported, page)
    if left_out:
        metrics["run"]["warnings"] += left_out
        write_json(report / f"metrics{suffix}.json", metrics)
    write_text(run_folder / "executed.ipynb", nbformat.writes(without_passwords(notebook)) + "\n")
    published = publish_reports(run_folder, out, SecondCopy(Path(keep), run_folder.name) if keep else None)

    from helpers.report.tables import print_summary

    print_summary(metrics)
    for path in published:
        print(f"  {os.path.relpath(path)}")
    print(f"  {os.path.relpath(run_folder)}/  adapters, index, pairs and per-item scores")


def _relative_to_notebook(corpus: str) -> str:
    """A `path:` or `zip:` spec given from the caller's folder, as seen from the notebook's."""
    kind, _, place = corpus.partition(":")
    if kind not in ("path", "zip"):
        return corpus
    return f"{kind}:{os.path.relpath(Path(place).expanduser(), NOTEBOOK.parent)}"
