"""`python -m helpers run`: execute the notebook headless, export it, and publish the reports.

It runs what a person runs cell by cell. Reports are published once the last cell and the export have
succeeded; until then the `metrics.json`, data card and exports of an earlier run stay in place.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat

from helpers.bootstrap import suite_file
from helpers.data.corpus_spec import check_place, split_revision
from helpers.models.gguf.sources import FILE
from helpers.paths import expanded
from helpers.profiles import RunRequest, resolve_profile
from helpers.report.execute import execute_notebook
from helpers.report.export import page_in_any_case, without_passwords
from helpers.run.calibration import estimate_here, minutes_text
from helpers.run.folder import PACKAGE, choose_run, publish_reports, with_profile_named
from helpers.run.second_copy import SecondCopy
from helpers.run.workspace import WorkspaceError, check_writable, read_json, write_json, write_text

NOTEBOOK = suite_file("ML_Assignment_Part2.ipynb")
CONTENTS = {
    "adapters": "track_[ab]/train/adapter",
    "index": "track_c/index_after",
    "pairs": "track_[bc]/data",
    "scores of each item": "track_[abc]/*.jsonl",
}
FOLDER = PACKAGE.parent  # where the notebook runs: in a checkout its own folder


def run_suite(request: RunRequest) -> None:
    """Execute the notebook for `request`, export it, publish the reports, and print the summary table.

    Raises:
        SettingsError, CorpusError, WorkspaceError: before anything is executed.
        CellFailure: if a cell that the whole run depends on fails; nothing is published then.
    """
    check_place(request.corpus)
    out, resume, keep = Path(request.out), request.resume, request.second_copy
    request = _seen_from_the_notebook(request)
    profile = resolve_profile(with_profile_named(request))
    suffix = "" if profile.is_full_run else f".{profile.name}"
    for published in (f"metrics{suffix}.json", f"exports/{NOTEBOOK.stem}{suffix}.html"):
        try:  # before there is a run folder, which --resume would take up
            check_writable(out / published)
        except WorkspaceError as error:
            raise WorkspaceError(f"{error}; choose another folder with --out") from error
    chosen, run_folder = choose_run(replace(request, out=out, second_copy=keep))
    request = replace(request, profile=chosen.name, seed=chosen.seed, run_id=run_folder.name)
    estimate, why = estimate_here(chosen, run_folder, resume=resume)
    print(f"{NOTEBOOK.name}, profile {chosen.name}, about {minutes_text(estimate.left(0.0))} {why}")
    notebook = execute_notebook(NOTEBOOK, form_values(request), cwd=FOLDER, estimate=estimate)
    report = run_folder / "report"
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
    from helpers.report.tables_completion import summary_cells

    print_summary(metrics, beside=[summary_cells(metrics["completion"])])
    for path in published:
        print(f"  {os.path.relpath(path)}")
    print(f"  {os.path.relpath(run_folder)}/  {contents_of(run_folder)}")


def contents_of(run_folder: Path) -> str:
    """Name what a person may look for in a run's folder, as far as it is there: tracks can be left out."""
    found = [name for name, pattern in CONTENTS.items() if any(run_folder.glob(pattern))]
    return ", ".join(found) or "the report alone"


def form_values(request: RunRequest) -> dict[str, Any]:
    """Return the values of the notebook's form for `request`; the notebook itself is to publish nothing."""
    return {
        "PROFILE": request.profile,
        "CORPUS": request.corpus,
        "CAUSAL_LM": request.causal_lm,
        "CHAT_LM": request.chat_lm,
        "EMBEDDER": request.embedder,
        "NF4": request.nf4,
        "LANGUAGE": request.language,
        "BENCHMARKS": list(request.benchmarks),
        "SEED": request.seed,
        "OUT": str(request.out),
        "RUN_ID": request.run_id,
        "RESUME": request.resume,
        "SETTINGS": list(request.changed_settings),
        "DRIVE": str(request.second_copy),
        "KEEP_ON_DRIVE": bool(request.second_copy),
        "PUBLISH": False,
    }


def _seen_from_the_notebook(request: RunRequest) -> RunRequest:
    """Turn paths relative to the caller's folder into paths relative to the notebook's, which is `FOLDER`."""
    return replace(
        request,
        corpus=_corpus_seen(request.corpus),
        causal_lm=_model_seen(request.causal_lm),
        chat_lm=_model_seen(request.chat_lm),
        embedder=_model_seen(request.embedder),
        language=_language_seen(request.language),
        benchmarks=tuple(map(_relative, request.benchmarks)),
        changed_settings=tuple(map(_setting_seen, request.changed_settings)),
        out=_relative(request.out),
        second_copy=request.second_copy and _relative(request.second_copy),
    )


def _relative(path: str | Path) -> str:
    return os.path.relpath(expanded(path), FOLDER)


def _corpus_seen(spec: str) -> str:
    kind, _, place = spec.partition(":")
    if kind in ("path", "zip"):
        return f"{kind}:{_relative(place)}"
    address, revision = split_revision(place) if kind == "git" else ("", "")
    if address and "://" not in address and os.path.isdir(expanded(address)):
        return f"git:{_relative(address)}{f'@{revision}' if revision else ''}"
    return spec


def _language_seen(language: str) -> str:
    """Return who writes prose, a chat model's folder as the notebook sees it."""
    kind, _, model = language.partition(":")
    return f"{kind}:{_model_seen(model)}" if kind == "chat" and model else language


def _model_seen(model: str) -> str:
    """Return a model's folder or file as the notebook sees it; hub names and the suite's own models stay."""
    if model.startswith(FILE):
        return f"{FILE}{_relative(model.removeprefix(FILE))}"
    is_elsewhere = Path.cwd() != FOLDER and not model.startswith("helpers/")
    return _relative(model) if model and is_elsewhere and os.path.isdir(expanded(model)) else model


def _setting_seen(change: str) -> str:
    """Return NAME=VALUE with the paths in VALUE as the notebook sees them."""
    name, sign, value = (part.strip() for part in change.partition("="))
    if name == "corpus.spec":
        value = _corpus_seen(value)
    elif name.startswith("track_") and name.endswith(".model"):
        value = _model_seen(value)
    elif name == "track_b.language":
        value = _language_seen(value)
    elif name == "track_b.benchmarks":
        value = "|".join(_relative(part.strip()) for part in value.split("|") if part.strip())
    else:
        return change
    return f"{name}{sign}{value}"
