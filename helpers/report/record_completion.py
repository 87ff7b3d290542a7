"""Compute the section `completion` of metrics.json from the places and scores that a run has kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.eval.completion_comparison import PRIMARY, arm_to_use, arms_verdict
from helpers.eval.completion_results import completion_figures, read_completion
from helpers.eval.statistics import Delta, verdict
from helpers.report.entries import MetricsError, tidy
from helpers.run.workspace import digest

MEASURED = ("window", "context", "seconds_per_completion", "training_seconds")  # in no row of a completion
AGREES = 1e-7


def record_completion(
    folder: Path, *, model: str, seed: int, samples: int, cost: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the section; every figure but times and the choice of the retriever follows from the rows.

    Args:
        folder: written by `helpers.eval.completion_results.write_completion`.
        model: that Track A adapts.
        seed, samples: of the bootstrap.
        cost: `seconds` of the stage.

    Raises:
        OSError, ValueError: if a file is missing or broken.
    """
    items, scores, kept = read_completion(folder)
    figures = completion_figures(items, scores, samples=samples, seed=seed)
    return tidy({
        "model": model,
        "primary_metric": PRIMARY,
        "verdict": arms_verdict(figures["differences"]),
        **figures,
        **{name: kept[name] for name in MEASURED},
        "cost": cost or {},
        "data": {"sha256": digest(items), "bootstrap_samples": samples},
    })  # fmt: skip


def completion_not_run(reason: str) -> dict[str, Any]:
    """Return the section of a run that measured no completion."""
    return {"verdict": "not_run", "reason": reason, "primary_metric": PRIMARY}


def check_completion(section: Mapping[str, Any]) -> None:
    """Check that differences, verdicts and the arm to use follow from the section's own figures.

    Raises:
        MetricsError: for the first contradiction, naming its place.
    """
    if section["verdict"] == "not_run":
        return
    rows, arms = section["differences"], section["arms"]
    for row in rows:
        place = f"completion.differences: {row['second']} - {row['first']}, {row['measure']}"
        first, second = (arms[row[side]][row["measure"]]["value"] for side in ("first", "second"))
        if abs(second - first - row["value"]) > AGREES * max(1.0, abs(first), abs(second)):
            raise MetricsError(f"{place}: {row['value']} is not {second} - {first}")
        delta = Delta(row["value"], tuple(row["ci95"]), row["p_holm"], row["test"])
        if row["p_holm"] < row["p_value"] or row["verdict"] != verdict(delta, higher_is_better=True):
            raise MetricsError(f"{place}: p-values and verdict {row['verdict']!r} contradict each other")
    for name, follows in (("arm_to_use", arm_to_use(rows)), ("verdict", arms_verdict(rows))):
        if section[name] != follows:
            raise MetricsError(f"completion.{name}: {section[name]!r}, but the differences say {follows!r}")
