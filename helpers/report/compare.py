"""Compare several runs: what another base model, setting or code version changed.

Reads only their metrics.json. The figures of two runs can be compared if corpus, seed and profile are the
same; if not, the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.errors import SuiteError
from helpers.report.tables import TRACK_NAMES, markdown, summary_rows
from helpers.run.workspace import read_json

COLUMNS = ("metric", "before", "after", "change", "p", "n", "verdict")
SAME = {"corpus": ("corpus", "sha256"), "seed": ("seed",), "profile": ("profile",)}  # name -> path in `run`


class CompareError(SuiteError, ValueError):
    """A file that holds no metrics, or a run name used twice."""


def comparison(named: list[str]) -> str:
    """Return Markdown with the primary metric of every track, one row per run.

    Args:
        named: `NAME=metrics.json` each; without a name, the run's id is used.

    Raises:
        CompareError: if a file can't be read as metrics, or two runs have the same name.
    """
    runs: dict[str, Mapping[str, Any]] = {}
    for given in named:
        name, _, place = given.rpartition("=")
        metrics = _read(Path(place))
        name = name or metrics["run"]["run_id"]
        if name in runs:
            raise CompareError(f"two runs are called {name}; give each a name: NAME=metrics.json")
        runs[name] = metrics
    return "\n\n".join([markdown(_rows(runs)), *_differences(runs), _origins(runs)]) + "\n"


def _rows(runs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    by_run = {name: summary_rows(metrics) for name, metrics in runs.items()}
    rows = [
        {"Track": of_track["track"], "Run": name} | {column: of_track[column] for column in COLUMNS}
        for number in range(len(TRACK_NAMES))
        for name, rows_of_run in by_run.items()
        for of_track in [rows_of_run[number]]
    ]
    return pd.DataFrame(rows).set_index("Track")


def _differences(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Write a sentence for each respect in which the runs are not comparable."""
    found = []
    for what, place in SAME.items():
        values = {name: _at(metrics["run"], place) for name, metrics in runs.items()}
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{name}: {str(value)[:12]}" for name, value in values.items())
            found.append(f"**Not comparable:** the {what} differs ({listed}).")
    return found


def _origins(runs: Mapping[str, Mapping[str, Any]]) -> str:
    return "\n".join(
        f"- {name}: run {metrics['run']['run_id']}, code {metrics['run']['commit']}, "
        f"models {', '.join(dict.fromkeys(_shown(metrics[track]['model']) for track in TRACK_NAMES))}"
        f"{_changed(metrics['run'].get('settings_changed', ()))}"
        for name, metrics in runs.items()
    )


def _shown(model: str) -> str:
    """Return a hub name or relative path unchanged, and only the last part of an absolute path."""
    return Path(model).name if Path(model).expanduser().is_absolute() else model


def _changed(settings: Sequence[str]) -> str:
    return f", with {', '.join(settings)}" if settings else ""


def _read(place: Path) -> Mapping[str, Any]:
    try:
        metrics = read_json(place)
        missing = [name for name in ("run", *TRACK_NAMES) if name not in metrics]
    except (OSError, ValueError, TypeError) as error:
        raise CompareError(f"{place} can't be read as a run's metrics.json: {error}") from error
    if missing:
        raise CompareError(f"{place} is not the metrics.json of a run: it lacks {', '.join(missing)}")
    return metrics


def _at(values: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        values = values[name]
    return values
