"""One HTML page that compares runs: what changed beyond noise, tested on the same held-out items.

Each run is tested against the first: its adapted models against the first run's, file by file, task by task,
query by query, with the tests that a run uses for before and after. The items lie in the run folders; a track
whose held-out items differ, or whose rows are not there, is not tested, and the page says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from nbconvert.filters import markdown2html

from helpers.escaping import visible
from helpers.records import ResponseScore, Task, TaskSetAside
from helpers.report.compare import comparison_text, read_runs
from helpers.report.deciding import ROW_GROUPS, grouped_rows
from helpers.report.entries import MetricsError
from helpers.report.even_tables import even_tables
from helpers.report.first_screen import verdict_card
from helpers.report.record_a import record_track_a
from helpers.report.record_b import record_track_b
from helpers.report.record_c import record_track_c
from helpers.report.tables import TRACK_NAMES, verdict_sentence
from helpers.run.workspace import read_jsonl

FOLDER = Path(__file__).parent
Run = tuple[Path, Mapping[str, Any]]  # metrics file and its content


class NotPairedError(MetricsError):
    """Two runs that cannot be tested against each other in a track; the message says why."""


def compare_page(named: list[str]) -> str:
    """Return the page; arguments and errors are those of `compare.comparison`."""
    runs = read_runs(named)
    text = comparison_text({name: metrics for name, (_, metrics) in runs.items()})
    first, *others = runs
    pairs = [_pair(first, other, runs[first], runs[other]) for other in others]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("compare_page.html.j2").render(
        css=(FOLDER / "page.css").read_text(encoding="utf-8"),
        names=list(runs),
        pairs=pairs,
        overview=markdown2html(even_tables(text)),
        row_groups=ROW_GROUPS,
    )
    return visible(page)


def paired_section(name: str, first: Run, second: Run) -> dict[str, Any]:
    """Return a section like one of metrics.json: before is the first run's adapted model, after the second's.

    Args:
        name: "track_a", "track_b" or "track_c".

    Raises:
        NotPairedError: if the track was not run in both, the held-out items differ, or rows are missing.
    """
    sections = [metrics[name] for _, metrics in (first, second)]
    if any(section["verdict"] == "not_run" for section in sections):
        raise NotPairedError("the track was not run in both")
    if sections[0]["data"]["sha256"] != sections[1]["data"]["sha256"]:
        raise NotPairedError("the held-out items differ, so there are no pairs to test")
    folders = [rows_folder(run) / name for run in (first, second)]
    options = {
        "model": sections[1]["model"],
        "seed": second[1]["run"]["seed"],
        "samples": sections[1]["data"]["bootstrap_samples"],
        "cost": {},
    }
    build = {"track_a": _files, "track_b": _answers, "track_c": _queries}[name]
    try:
        return build(folders, sections, options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotPairedError(
            f"the rows cannot be read as pairs ({type(error).__name__}: {error}); give the run folders"
        ) from error


def rows_folder(run: Run) -> Path:
    """Return the folder with a run's per-item rows: around its report, or in `runs/` beside it.

    Raises:
        NotPairedError: if it is in neither place.
    """
    file, metrics = run
    run_id = metrics["run"]["run_id"]
    for place in (file.parent.parent, file.parent, file.parent / "runs" / run_id):
        if any((place / name / "section.json").is_file() for name in TRACK_NAMES):
            return place
    raise NotPairedError(
        f"the per-item rows of {run_id} are not here: give its folder instead of {file.name}"
    )


def _pair(first: str, other: str, one: Run, two: Run) -> dict[str, Any]:
    """Return everything that the page shows about one run against the first."""
    tracks = []
    for name, title in TRACK_NAMES.items():
        shown: dict[str, Any] = {"title": title}
        try:
            section = paired_section(name, one, two)
        except NotPairedError as why:
            tracks.append(shown | {"reason": str(why)})
            continue
        rows = grouped_rows(section["metrics"], section["primary_metric"])
        everything = [row for some in rows.values() for row in some]
        beyond = [row for row in everything if row["kind"] in ("improved", "regressed")]
        tracks.append(
            shown
            | {
                "card": verdict_card(name, section),
                "sentence": markdown2html(verdict_sentence(section)),
                "beyond": beyond,
                "rows": rows,
                "count": len(everything),
            }
        )
    return {"first": first, "other": other, "tracks": tracks}


def _files(folders: list[Path], sections: list[Any], options: dict[str, Any]) -> dict[str, Any]:
    one, two = ({row["path"]: row for row in read_jsonl(folder / "files.jsonl")} for folder in folders)
    rows = [
        {key: row[key] for key in ("path", "n_bytes", "n_tokens")}
        | {"nll_before": one[path]["nll_after"], "nll_after": row["nll_after"]}
        for path, row in two.items()
    ]
    return record_track_a(rows, **options)


def _answers(folders: list[Path], sections: list[Any], options: dict[str, Any]) -> dict[str, Any]:
    one, two = (read_jsonl(folder / "scores_after.jsonl", ResponseScore) for folder in folders)
    aside: dict[str, TaskSetAside] = {}
    for folder in folders:
        file = folder / "tasks_set_aside.jsonl"
        aside |= {item.task_id: item for item in (read_jsonl(file, TaskSetAside) if file.is_file() else [])}
    tasks = read_jsonl(folders[1] / "tasks.jsonl", Task)
    options |= {"ks": sections[1]["data"]["ks"], "temperature": sections[1]["data"].get("temperature")}
    return record_track_b(one, two, tasks, set_aside=list(aside.values()), **options)


def _queries(folders: list[Path], sections: list[Any], options: dict[str, Any]) -> dict[str, Any]:
    one, two = ({row["id"]: row for row in read_jsonl(folder / "queries.jsonl")} for folder in folders)
    rows = []
    for query, row in two.items():
        sides = {"before": one[query]["after"], "after": row["after"], "baselines": {}}
        if "by_file" in row:
            by_file = {"before": one[query]["by_file"]["after"], "after": row["by_file"]["after"]}
            sides["by_file"] = by_file
        rows.append({**row, **sides})
    return record_track_c(rows, **options)
