"""Compare several runs: what another base model, setting or code version changed.

Only their metrics.json is read. If corpus, seed or profile differ, or the held-out items of a track, the page
says that the figures cannot be compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.errors import SuiteError
from helpers.escaping import inline
from helpers.models.gguf.sources import FILE
from helpers.paths import below_home, expanded
from helpers.report.metrics import MetricsError, metrics_file
from helpers.report.tables import TRACK_NAMES, markdown, summary_rows
from helpers.run.workspace import DamagedFileError, read_json

COLUMNS = ("metric", "before", "after", "change", "p", "n", "verdict")
SAME: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "corpus": lambda run: run["corpus"]["sha256"],
    "seed": itemgetter("seed"),
    "profile": itemgetter("profile"),
}


class CompareError(SuiteError, ValueError):
    """A file that holds no metrics, or a run name used twice."""


def comparison(named: list[str]) -> str:
    """Return Markdown with the primary metric of every track, one row per run.

    Args:
        named: `NAME=FILE` or `FILE` each, a metrics.json or a run's folder; without a name, the run's id is
            used. A path may hold `=`: what names a file as a whole has no name, else the name ends at the
            first `=` that a file follows.

    Raises:
        CompareError: if a file can't be read as metrics, or two runs have the same name.
    """
    return comparison_text({name: metrics for name, (_, metrics) in read_runs(named).items()})


def read_runs(named: list[str]) -> dict[str, tuple[Path, Mapping[str, Any]]]:
    """Return name -> (metrics file, its content) of the runs to compare; arguments and errors as above."""
    runs: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for given in named:
        name, place = _name_and_file(given)
        if os.path.isdir(place):
            try:
                place = metrics_file(place)
            except MetricsError as error:
                raise CompareError(str(error)) from error
        metrics = _read(place)
        name = name or metrics["run"]["run_id"]
        if name in runs:
            raise CompareError(f"two runs are called {name}; give each a name: NAME=metrics.json")
        runs[name] = (place, metrics)
    return runs


def comparison_text(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the Markdown of `comparison` for name -> metrics."""
    return "\n\n".join([markdown(_rows(runs)), *_differences(runs), _origins(runs)]) + "\n"


def _name_and_file(given: str) -> tuple[str, Path]:
    """Split NAME=FILE; the name is "" where `given` is a path as a whole."""
    if os.path.exists(below_home(given)):
        return "", below_home(given)
    at = [place for place, sign in enumerate(given) if sign == "="]
    for place in at:
        if place and given[place + 1 :] and os.path.exists(below_home(given[place + 1 :])):
            return given[:place], below_home(given[place + 1 :])
    if not at:
        return "", below_home(given)
    tried = ", ".join(repr(given[place + 1 :]) for place in at)
    raise CompareError(f"no file {given!r}, nor one called {tried}: give each run as FILE or NAME=FILE")


def _rows(runs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    by_track = zip(*(summary_rows(metrics) for metrics in runs.values()), strict=True)
    rows = [
        {"Track": row["track"], "Run": name} | {column: row[column] for column in COLUMNS}
        for of_runs in by_track
        for name, row in zip(runs, of_runs, strict=True)
    ]
    return pd.DataFrame(rows).set_index("Track")


def _differences(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Write a sentence for each respect in which the runs are not comparable."""
    found = []
    for what, read in SAME.items():
        values = {name: read(metrics["run"]) for name, metrics in runs.items()}
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{inline(name)}: {inline(str(value)[:12])}" for name, value in values.items())
            found.append(f"**Not comparable:** the {what} differs ({listed}).")
    for name, title in TRACK_NAMES.items():
        ran = [metrics[name]["data"] for metrics in runs.values() if metrics[name]["verdict"] != "not_run"]
        if len({data["sha256"] for data in ran}) > 1:
            found.append(f"**Not comparable:** the held-out items of Track {title} differ.")
    return found


def _origins(runs: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, metrics in runs.items():
        run = metrics["run"]
        models = dict.fromkeys(public_model(metrics[track]["model"]) for track in TRACK_NAMES)
        changed = ", ".join(run.get("settings_changed", ()))
        said = f"{name}: run {run['run_id']}, code {run['commit']}, models {', '.join(models)}"
        lines.append(f"- {inline(f'{said}, with {changed}' if changed else said)}")
    return "\n".join(lines)


def public_model(model: str) -> str:
    """Return a hub name or relative path unchanged, and only the last part of an absolute path."""
    prefix, place = (FILE, model.removeprefix(FILE)) if model.startswith(FILE) else ("", model)
    return prefix + Path(place).name if expanded(place).is_absolute() else model


def _read(place: Path) -> Mapping[str, Any]:
    try:
        metrics = read_json(place)
        missing = [name for name in ("run", *TRACK_NAMES) if name not in metrics]
    except DamagedFileError as error:
        raise CompareError(f"{place} is no JSON file, or a damaged one: name a run's metrics.json") from error
    except (OSError, ValueError, TypeError) as error:
        why = getattr(error, "strerror", None) or error  # an OSError would name the file again
        raise CompareError(f"{place} can't be read as a run's metrics.json: {why}") from error
    if missing:
        raise CompareError(f"{place} is not the metrics.json of a run: it lacks {', '.join(missing)}")
    try:
        comparison_text({"": metrics})
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        wrong = f"{type(error).__name__}: {error}"
        raise CompareError(f"{place} is damaged, or of another version of this suite ({wrong})") from error
    return metrics
