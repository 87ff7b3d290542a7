"""Several runs beside one another: what another base model, setting or version of the code changed.

Reads nothing but their metrics.json. Figures of two runs compare where corpus, seed and profile are the
same; where they are not, the page says so.
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
SAME = {"corpus": ("corpus", "sha256"), "seed": ("seed",), "profile": ("profile",)}  # name -> place in `run`


class CompareError(SuiteError, ValueError):
    """A file that holds no metrics, or a name that is used twice."""


def comparison(named: list[str]) -> str:
    """Markdown: every track's primary metric, a row for each run.

    Args:
        named: `NAME=metrics.json` each; without a name the run's id serves.

    Raises:
        CompareError: if a file can't be read as metrics, or two runs have one name.
    """
    runs: dict[str, Mapping[str, Any]] = {}
    for given in named:
        name, _, place = given.rpartition("=")
        metrics = _read(Path(place))
        name = name or metrics["run"]["run_id"]
        if name in runs:
            raise CompareError(f"two runs are named {name}; name them: NAME=metrics.json")
        runs[name] = metrics
    return "\n\n".join([markdown(_rows(runs)), *_differences(runs), _origins(runs)]) + "\n"


def _rows(runs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    by_run = {name: summary_rows(metrics) for name, metrics in runs.items()}
    rows = [
        {"Track": of_track["track"], "Run": name}
        | {
            column: of_track[column]
            for column in ("metric", "before", "after", "change", "p", "n", "verdict")
        }
        for number in range(len(TRACK_NAMES))
        for name, rows_of_run in by_run.items()
        for of_track in [rows_of_run[number]]
    ]
    return pd.DataFrame(rows).set_index("Track")


def _differences(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for everything in which the runs are no like with like."""
    found = []
    for what, place in SAME.items():
        values = {name: _at(metrics["run"], place) for name, metrics in runs.items()}
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{name}: {str(value)[:12]}" for name, value in values.items())
            found.append(f"**Not like with like:** the {what} differs ({listed}).")
    return found


def _origins(runs: Mapping[str, Mapping[str, Any]]) -> str:
    return "\n".join(
        f"- {name}: run {metrics['run']['run_id']}, code {metrics['run']['commit']}, "
        f"models {', '.join(dict.fromkeys(_shown(metrics[track]['model']) for track in TRACK_NAMES))}"
        f"{_changed(metrics['run'].get('settings_changed', ()))}"
        for name, metrics in runs.items()
    )


def _shown(model: str) -> str:
    """A hub name or a place in this project as it is, of any other folder its name alone."""
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
        raise CompareError(f"{place} is no metrics.json of a run: it lacks {', '.join(missing)}")
    return metrics


def _at(values: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        values = values[name]
    return values
