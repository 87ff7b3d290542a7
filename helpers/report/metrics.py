"""Assemble and check metrics.json, and recompute it from the per-item files.

metrics.json is the only source of reported numbers: prose, tables, plots, data card and HTML all take
theirs from it. `metrics.schema.json` beside this file defines its shape. `validate` also checks what a schema
cannot express: that verdicts follow from figures and that differences add up.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema

from helpers.eval.completion_results import FACTS, FOLDER
from helpers.eval.planted.name_check import CheckedName
from helpers.records import Failure, ResponseScore, Task, TaskSetAside
from helpers.report.entries import PRIMARY_METRIC, MetricsError, entry_verdict, not_run, run_section, tidy
from helpers.report.record_a import record_track_a
from helpers.report.record_b import record_track_b
from helpers.report.record_c import record_track_c, track_c_rows
from helpers.report.record_completion import check_completion, record_completion
from helpers.run.workspace import read_json, read_jsonl, write_jsonl

__all__ = [
    "MetricsError", "assemble", "not_run", "rebuilt_metrics", "recompute", "record_track_a", "record_track_b",
    "record_track_c", "run_section", "timeless", "track_c_rows", "validate", "write_items",
]  # fmt: skip

# 1.0 lacks `tasks_set_aside`, 1.1 `completion`; such files can still be read.
SCHEMA_VERSION = "1.2"
TRACKS = ("track_a", "track_b", "track_c")
AGREES = 1e-7  # relative; figures are kept to 10 significant digits
MEASURED_ANEW = re.compile(r"seconds?($|_)|_ms$|^peak_|^held_|^run_id$|^started$")  # differ in every run
SAME_RESULT = 1e-6  # relative; other hardware may sum in another order


def assemble(
    *,
    run: Mapping[str, Any],
    failures: Sequence[Failure],
    tasks_set_aside: Sequence[TaskSetAside] = (),
    completion: Mapping[str, Any] | None = None,
    **tracks: Mapping[str, Any],
) -> dict[str, Any]:
    """Assemble and validate the whole document.

    Args:
        tasks_set_aside: Track B's tasks whose reference did not pass; no figure counts them.
        completion: the comparison of tuning and retrieval, if there is one.
        tracks: the sections `track_a`, `track_b` and `track_c`.

    Raises:
        MetricsError: naming the place that is wrong.
    """
    sections = {"run": run, **{name: tracks[name] for name in TRACKS}}
    if completion is not None:
        sections["completion"] = completion
    items = {"tasks_set_aside": list(tasks_set_aside), "failures": list(failures)}
    metrics = tidy({"schema_version": SCHEMA_VERSION, **sections, **items})
    validate(metrics)
    return metrics


def validate(metrics: Mapping[str, Any]) -> None:
    """Check the document against the schema, and its figures against each other.

    Raises:
        MetricsError: for the first contradiction, naming its place.
    """
    tidy(metrics)  # rejects NaN and infinity, naming the place
    error = jsonschema.exceptions.best_match(_validator().iter_errors(metrics))
    if error is not None:
        place = ".".join(str(part) for part in error.absolute_path) or "metrics"
        raise MetricsError(f"{place}: {error.message}")
    for name in TRACKS:
        track = metrics[name]
        if track["primary_metric"] != PRIMARY_METRIC[name]:
            raise MetricsError(f"{name}: the primary metric is {PRIMARY_METRIC[name]}, fixed before any run")
        for metric, entry in track["metrics"].items():
            _check_entry(f"{name}.metrics.{metric}", entry)
        if track["verdict"] != "not_run":
            _check_verdict(name, track)
    if "completion" in metrics:
        check_completion(metrics["completion"])


def write_items(run_folder: Path, name: str, rows: Sequence[Any]) -> None:
    """Write per-item rows to `<run_folder>/<name>.jsonl`; the `record_*` modules list the names."""
    write_jsonl(run_folder / f"{name}.jsonl", rows)


def recompute(run_folder: Path) -> list[str]:
    """Recompute every metric and verdict of a finished run from its per-item files.

    Metrics added with `add_metric` are skipped: their function is not stored.

    Returns:
        One line per difference; empty if everything agrees.

    Raises:
        MetricsError: if the folder holds no metrics.json.
        DamagedFileError: if it was cut short.
    """
    run_folder = Path(run_folder)
    metrics = read_json(metrics_file(run_folder))
    validate(metrics)
    differences = []
    for name in TRACKS:
        stored = metrics[name]
        if stored["verdict"] == "not_run":
            continue
        try:
            section = _section_again(run_folder, name, metrics)
        except Exception as error:  # broken rows may raise anything; it is reported
            differences.append(f"{name}: cannot be recomputed: {type(error).__name__}: {error}")
            continue
        added = stored["data"].get("added_metrics", [])  # their function is not stored
        given = {metric: entry for metric, entry in stored["metrics"].items() if metric not in added}
        differences += _differences(f"{name}.metrics", given, section["metrics"])
        for part in ("verdict", "baselines"):
            differences += _differences(f"{name}.{part}", stored[part], section[part])
        for control in sorted(section["controls"]):
            found = stored["controls"].get(control)
            differences += _differences(f"{name}.controls.{control}", found, section["controls"][control])
    if metrics["track_b"]["verdict"] != "not_run":
        on_disk = tidy(_set_aside(run_folder / "track_b"))
        differences += _differences("track_b.tasks_set_aside", metrics.get("tasks_set_aside", []), on_disk)
    if metrics.get("completion", {}).get("verdict", "not_run") != "not_run":
        try:
            again = completion_again(run_folder, metrics)
        except Exception as error:  # broken rows may raise anything
            return [*differences, f"completion: cannot be recomputed: {type(error).__name__}: {error}"]
        differences += _differences("completion", metrics["completion"], again)
    return differences


def completion_again(run_folder: Path, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Compute the section `completion` from its rows; facts that no row holds come from the file beside them.

    Raises:
        OSError, ValueError, KeyError: if a file is missing or broken.
    """
    track = metrics["track_a"]
    known = metrics.get("completion", {})
    samples = known.get("data", track["data"])["bootstrap_samples"]
    options = {"seed": metrics["run"]["seed"], "samples": samples, "cost": known.get("cost")}
    model = known.get("model", track["model"])
    return record_completion(run_folder / FOLDER, model=model, **options)


def metrics_file(run_folder: Path) -> Path:
    """Return the metrics file of a finished run: `report/metrics.json` or `report/metrics.<profile>.json`.

    Raises:
        MetricsError: if the folder holds none.
    """
    places = [*sorted(run_folder.glob("report/metrics*.json")), *sorted(run_folder.glob("metrics*.json"))]
    if not places:
        raise MetricsError(f"{run_folder} holds no metrics.json; is it the folder of a finished run?")
    return places[0]


def rebuilt_metrics(run_folder: Path) -> dict[str, Any]:
    """Return metrics.json of a finished run, every metric, control, baseline and verdict from its rows.

    What no rows hold is taken over from the run's own file: facts on the run, cost, counts, failure cases,
    and metrics added with `add_metric`. Completion that was measured after the run is taken in.

    Raises:
        MetricsError: if the folder holds no metrics.json, or the rows of a track are missing or broken.
        DamagedFileError: if metrics.json was cut short.
    """
    stored_metrics = read_json(metrics_file(run_folder))
    validate(stored_metrics)
    metrics = dict(stored_metrics)
    for name in TRACKS:
        stored = metrics[name]
        if stored["verdict"] == "not_run":
            continue
        try:
            again = _section_again(run_folder, name, metrics)
        except Exception as error:  # broken rows may raise anything
            raise _broken(name, run_folder / name, error) from error
        merged = {part: {**stored[part], **again[part]} for part in ("metrics", "controls", "baselines")}
        metrics[name] = tidy({**stored, **merged, "verdict": again["verdict"]})
    if metrics["track_b"]["verdict"] != "not_run" and "tasks_set_aside" in metrics:
        metrics["tasks_set_aside"] = tidy(_set_aside(run_folder / "track_b"))
    if (run_folder / FOLDER / FACTS).is_file() and metrics["track_a"]["verdict"] != "not_run":
        try:
            metrics["completion"] = completion_again(run_folder, metrics)
        except Exception as error:  # broken rows may raise anything
            raise _broken("completion", run_folder / FOLDER, error) from error
        metrics["schema_version"] = SCHEMA_VERSION
        metrics.setdefault("tasks_set_aside", [])
    validate(metrics)
    return metrics


def _broken(name: str, folder: Path, error: Exception) -> MetricsError:
    what = f"{type(error).__name__}: {error}"
    return MetricsError(
        f"{name} cannot be rebuilt from its rows in {folder} ({what}). Copy the run's whole folder again, or "
        "repeat the run with --resume"
    )


def _section_again(run_folder: Path, name: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Compute one track's section from its rows; cost and facts on the data are left out."""
    stored = metrics[name]
    options = {"model": stored["model"], "seed": metrics["run"]["seed"], "cost": {}}
    options["samples"] = stored["data"]["bootstrap_samples"]
    again = {"track_a": _again_a, "track_b": _again_b, "track_c": _again_c}[name]
    return again(run_folder / name, stored, options)


def _again_a(folder: Path, stored: Mapping[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    options["baselines"] = {
        name: values["bits_per_byte"]["value"] for name, values in stored["baselines"].items()
    }
    options |= {f"{kind}_rows": _items_named(folder, f"{kind}_") for kind in ("role", "control")}
    options["precision_rows"] = _items_named(folder, "precision").get("", [])
    return record_track_a(_items(folder, "files"), **options)


def _again_b(folder: Path, stored: Mapping[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    return record_track_b(
        _items(folder, "scores_before", ResponseScore),
        _items(folder, "scores_after", ResponseScore),
        _items(folder, "tasks", Task),
        ks=stored["data"]["ks"],
        temperature=stored["data"].get("temperature"),
        baselines=_items_named(folder, "baseline_", ResponseScore),
        planted=_items_named(folder, "planted_names", CheckedName).get("", []),
        set_aside=_set_aside(folder),
        general=_items_named(folder, "control_").get("general_problems", []),
        **options,
    )


def _set_aside(folder: Path) -> list[TaskSetAside]:
    """Return the tasks that the run set aside; none for older runs, which lack the file."""
    return _items_named(folder, "tasks_set_aside", TaskSetAside).get("", [])


def _again_c(folder: Path, stored: Mapping[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    return record_track_c(_items(folder, "queries"), control_rows=_items_named(folder, "control_"), **options)


def _items(folder: Path, name: str, record: Any = dict) -> list[Any]:
    """Read the rows of `<name>.jsonl`, or of a finished stage `<name>/rows.jsonl`."""
    file = folder / f"{name}.jsonl"
    return read_jsonl(file if file.exists() else folder / name / "rows.jsonl", record)


def _items_named(folder: Path, prefix: str, record: Any = dict) -> dict[str, list[Any]]:
    names = sorted({path.name.removesuffix(".jsonl") for path in folder.glob(f"{prefix}*")})
    whole = [name for name in names if not name.endswith(".partial")]
    return {name.removeprefix(prefix): _items(folder, name, record) for name in whole}


def _differences(place: str, stored: Any, computed: Any) -> list[str]:
    if isinstance(stored, Mapping) and isinstance(computed, Mapping):
        lines = [
            f"{place}.{key}: only in {'the file' if key in stored else 'the recomputation'}"
            for key in sorted(stored.keys() ^ computed.keys())
        ]
        for key in sorted(stored.keys() & computed.keys()):
            lines += _differences(f"{place}.{key}", stored[key], computed[key])
        return lines
    if isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        pairs = enumerate(zip(stored, computed, strict=True))
        return [line for index, (s, c) in pairs for line in _differences(f"{place}[{index}]", s, c)]
    same = stored == computed
    if all(isinstance(x, int | float) and not isinstance(x, bool) for x in (stored, computed)):
        same = math.isclose(stored, computed, rel_tol=SAME_RESULT, abs_tol=1e-9)
    return [] if same else [f"{place}: {stored!r} in the file, {computed!r} from the per-item files"]


def timeless(document: Any) -> Any:
    """Drop from metrics.json, or a part of it, what differs between equal runs: times, memory, run id."""
    if isinstance(document, Mapping):
        return {name: timeless(v) for name, v in document.items() if not MEASURED_ANEW.search(name)}
    if isinstance(document, list):
        return [timeless(item) for item in document]
    return document


def _check_entry(place: str, entry: Mapping[str, Any]) -> None:
    for part in ("before", "after", "delta"):
        (low, high), value = entry[part]["ci95"], entry[part]["value"]
        slack = AGREES * max(1.0, abs(value))
        if not low <= high:
            raise MetricsError(f"{place}.{part}: the interval [{low}, {high}] is reversed")
        if not low - slack <= value <= high + slack:
            raise MetricsError(f"{place}.{part}: {value} lies outside its interval [{low}, {high}]")
    difference = entry["after"]["value"] - entry["before"]["value"]
    slack = AGREES * max(1.0, abs(entry["before"]["value"]), abs(entry["after"]["value"]))
    if abs(difference - entry["delta"]["value"]) > slack:
        raise MetricsError(f"{place}.delta: {entry['delta']['value']} is not after - before = {difference}")


def _check_verdict(name: str, track: Mapping[str, Any]) -> None:
    primary = track["primary_metric"]
    if primary not in track["metrics"]:
        raise MetricsError(f"{name}: the primary metric {primary} is missing from its metrics")
    follows = entry_verdict(track["metrics"][primary])
    if track["verdict"] != follows:
        raise MetricsError(f"{name}: verdict {track['verdict']!r}, but the figures say {follows!r}")


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = read_json(Path(__file__).with_name("metrics.schema.json"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)
