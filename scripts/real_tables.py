"""Write the tables of docs/real-models.md from the metrics.json files of runs with pretrained models.

    python scripts/real_tables.py            # prints them
    python scripts/real_tables.py --write    # puts them between the marks in docs/real-models.md

The files are those in exports/real/, one a run. Nothing is rounded to look better: changes stand with their
intervals, and every measure of a track that the tables name is shown, whether it rose or fell.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUNS, PAGE = ROOT / "exports" / "real", ROOT / "docs" / "real-models.md"
BEGIN, END = "<!-- tables: scripts/real_tables.py -->", "<!-- end of tables -->"
MEASURES = {  # track -> its measures, in the order of the table
    "track_a": ("bits_per_byte", "perplexity", "top1_accuracy"),
    "track_b": ("pass@1", "pass@1/fix_bug", "pass@1/implement", "pass@1_sampled", "pass@3",
                "pass@1_sampled/implement", "pass@3/implement", "checks/docstring", "checks/explain",
                "checks/improve", "checks/unit_tests", "parsable", "style", "hallucination_rate"),
    "track_c": ("mrr@10", "ndcg@10", "recall@10"),
}  # fmt: skip
ARM_MEASURES = ("exact_match", "edit_similarity", "identifier_f1", "first_token", "stops")


def tables(runs: Path = RUNS) -> str:
    """Return the Markdown of all runs.

    Raises:
        SystemExit: if there are none.
    """
    if not list(runs.glob("*.json")):
        raise SystemExit(f"there is no metrics.json of a run in {runs}")
    parts = [
        part for file in sorted(runs.glob("*.json")) for part in _run(json.loads(file.read_text()), file)
    ]
    return "\n\n".join(parts)


def _run(metrics: Mapping[str, Any], file: Path) -> Iterator[str]:
    run = metrics["run"]
    models = {metrics[track]["model"] for track in ("track_a", "track_b")}
    yield f"### {file.stem}"
    changed = ", ".join(f"`{one}`" for one in run["settings_changed"])
    machine = run["hardware"]
    yield (
        f"{' and '.join(f'`{_short(model)}`' for model in sorted(models))}, profile `{run['profile']}`, "
        f"{run['corpus']['name']}, seed {run['seed']}, code {run['commit'][:7]}; "
        f"{run['seconds'] / 60:.0f} minutes on {machine['cores']} cores ({machine['name']}, "
        f"{machine['precision']})." + (f" Changed: {changed}." if changed else "")
    )
    yield _table(
        ("", "n", "before", "after", "change [95%]", "p"),
        [_row(*one) for track in MEASURES for one in _measures(metrics[track], track)],
    )
    if metrics.get("completion", {}).get("arms"):
        yield _arms(metrics["completion"])
    stages = [
        (f"{track}/{stage}", f"{took:.0f}", _peak(metrics[track], stage))
        for track in MEASURES
        for stage, took in metrics[track].get("cost", {}).get("seconds_by_stage", {}).items()
    ]
    completion = metrics.get("completion", {}).get("cost", {})
    if completion:
        took = f"{completion['seconds']:.0f}"
        stages.append(("track_a/completion", took, _peak(metrics["track_a"], "completion")))
    yield _table(("stage", "seconds", "GiB, of which before the stage"), stages)


def _measures(section: Mapping[str, Any], track: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in MEASURES[track]:
        for key, entry in section.get("metrics", {}).items():
            if key.lower() == name:
                yield f"{key}", entry
    for key, entry in section.get("controls", {}).items():
        if isinstance(entry, dict) and {"before", "after", "delta"} <= entry.keys():
            yield f"control: {key}", entry


def _row(name: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    before, after, delta = entry["before"], entry["after"], entry["delta"]
    low, high = delta["ci95"]
    p = delta.get("p_value")
    return (
        name.replace("_", " "),
        str(after.get("n", before.get("n"))),
        _number(before["value"]),
        _number(after["value"]),
        f"{_signed(delta['value'])} [{_signed(low)}, {_signed(high)}]",
        "" if p is None else f"{p:.2g}",
    )


def _arms(completion: Mapping[str, Any]) -> str:
    rows = []
    for arm, found in completion["arms"].items():
        exact = found["exact_match"]
        low, high = exact["ci95"]
        seconds = completion["seconds_per_completion"].get(arm)
        rows.append(
            (arm, f"{_number(exact['value'])} [{_number(low)}, {_number(high)}]",
             *(_number(found[name]["value"]) for name in ARM_MEASURES[1:]),
             "" if seconds is None else f"{seconds:.2f}")
        )  # fmt: skip
    head = (f"completion, {completion['places']['all']} places", "exact match [95%]",
            *(name.replace("_", " ") for name in ARM_MEASURES[1:]), "seconds")  # fmt: skip
    return _table(head, rows) + f"\n\n{completion['answer']}"


def _peak(section: Mapping[str, Any], stage: str) -> str:
    memory = section.get("cost", {}).get("memory_by_stage", {}).get(stage, {})
    peak, held = memory.get("peak_gib"), memory.get("held_before_gib")
    return "" if peak is None or held is None else f"{peak:.2f}, {held:.2f}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _short(model: str) -> str:
    return model.rsplit("/", 1)[-1]


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}".replace("0.", ".", 1) if 0 < abs(value) < 1 else f"{value:.3g}"


def _signed(value: float) -> str:
    return ("+" if value >= 0 else "−") + _number(abs(value))


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/real-models.md")
    options = parser.parse_args()
    text = tables()
    if not options.write:
        print(text)
        return
    page = PAGE.read_text()
    if (page.count(BEGIN), page.count(END)) != (1, 1):
        raise SystemExit(f"{PAGE} must hold the lines {BEGIN} and {END} once each")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    main()
