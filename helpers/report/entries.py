"""The pieces of metrics.json: one entry per metric, one section per track, one for the run.

Every figure enters through `metric_entry`, so each has its interval, its `n` and its test. Verdicts are
always computed here from the primary metric, never passed in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from helpers.errors import SuiteError
from helpers.eval import statistics
from helpers.eval.statistics import Delta, Estimate, verdict
from helpers.run.workspace import digest, to_plain

Rows = Sequence[Mapping[str, Any]]

PRIMARY_METRIC = {"track_a": "bits_per_byte", "track_b": "pass@1", "track_c": "mrr@10"}
DIGITS = 10  # significant; further digits depend on the order in which a processor adds


class MetricsError(SuiteError, ValueError):
    """Metrics that are incomplete, contradict themselves or violate the schema."""


def metric_entry(
    before: Estimate, after: Estimate, delta: Delta, *, unit: str, higher_is_better: bool
) -> dict[str, Any]:
    """Build the entry of one metric: `before`, `after` and their difference `delta`."""
    sides = {"before": before, "after": after, "delta": delta}
    return tidy({**sides, "unit": unit, "higher_is_better": higher_is_better})


def entry_verdict(entry: Mapping[str, Any]) -> str:
    """Apply `statistics.verdict` to a metric entry."""
    return verdict(Delta(**entry["delta"]), entry["higher_is_better"])


def track_section(
    model: str,
    primary_metric: str,
    metrics: Mapping[str, Mapping[str, Any]],
    *,
    controls: Mapping[str, Any] | None = None,
    baselines: Mapping[str, Any] | None = None,
    cost: Mapping[str, Any],
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """Build the section of a track that ran; its verdict follows from `metrics[primary_metric]`.

    Args:
        metrics: name -> `metric_entry`.
        controls: negative controls and side effects: name -> any plain value.
        baselines: name -> metric name -> `{value, ...}`.
        cost: at least `seconds`; units in the names (`peak_memory_gib`).
        data: `counts` and `sha256` of what the figures were computed on.

    Raises:
        MetricsError: if the primary metric is missing.
    """
    if primary_metric not in metrics:
        raise MetricsError(f"primary metric {primary_metric!r} is not among {sorted(metrics)}")
    section = {
        "model": model,
        "primary_metric": primary_metric,
        "verdict": entry_verdict(metrics[primary_metric]),
        "metrics": metrics,
        "controls": controls or {},
        "baselines": baselines or {},
        "cost": cost,
        "data": data,
    }
    return tidy(section)


def not_run(track: str, reason: str, needed: str, *, model: str = "") -> dict[str, Any]:
    """Build the section of a track ("track_a", ...) that lacked data: why, and how much would do."""
    why = {"verdict": "not_run", "reason": reason, "needed": needed}
    empty: dict[str, Any] = {part: {} for part in ("metrics", "controls", "baselines", "cost", "data")}
    return {"model": model, "primary_metric": PRIMARY_METRIC[track], **why, **empty}


def run_section(*, seconds: float, **facts: Any) -> dict[str, Any]:
    """Build the section on the run: what was run, on what machine, by which code.

    Args:
        facts: `profile`, `run_id`, `corpus` (`{spec, version, files, sha256}`), `commit`, `seed`, `hardware`,
            `versions` and `started`; `metrics.schema.json` checks them.
    """
    return tidy({**facts, "seconds": round(seconds, 3)})


def ratio_entry(
    rows: Rows, numerator: str, denominator: str, unit: str, higher: bool, **options: Any
) -> dict[str, Any]:
    """Build the entry of `sum(numerator) / sum(denominator)` over files, one row per file.

    Args:
        options: `seed`, `samples` and `transform` of `statistics.bootstrap_ratio`.
    """
    if not rows:
        raise MetricsError(f"no rows to compute {unit!r} from")
    before, after, below = (
        [row[key] for row in rows] for key in (f"{numerator}_before", f"{numerator}_after", denominator)
    )
    options["groups"] = [row["path"] for row in rows]
    return metric_entry(
        statistics.bootstrap_ratio(before, below, **options),
        statistics.bootstrap_ratio(after, below, **options),
        statistics.paired_ratio_bootstrap(before, after, below, **options),
        unit=unit,
        higher_is_better=higher,
    )


def mean_entry(
    before: Sequence[float], after: Sequence[float], unit: str, higher: bool = True, **options: Any
) -> dict[str, Any]:
    """Build the entry of a mean over items (options: `groups`, `seed`, `samples`)."""
    return metric_entry(
        statistics.bootstrap_mean(before, **options),
        statistics.bootstrap_mean(after, **options),
        statistics.paired_bootstrap(before, after, **options),
        unit=unit,
        higher_is_better=higher,
    )


def share_entry(
    before: Sequence[bool], after: Sequence[bool], unit: str, higher: bool, **options: Any
) -> dict[str, Any]:
    """Build the entry of a share of items (options: `groups`, `seed`, `samples`).

    Each side has a Wilson interval; the difference has a bootstrap interval over groups and McNemar's p.
    """
    delta = statistics.paired_share(before, after, **options)
    sides = [statistics.proportion(outcomes) for outcomes in (before, after)]
    return metric_entry(*sides, delta, unit=unit, higher_is_better=higher)


def data_section(
    given: Mapping[str, Any] | None, counts: Mapping[str, int], items: Any, samples: int
) -> dict[str, Any]:
    """Merge the given facts about the data with the counts and the digest of the test items."""
    given = dict(given or {})
    merged = dict(given.pop("counts", {})) | dict(counts)
    return {"counts": merged, "sha256": digest(items), "bootstrap_samples": samples, **given}


def tidy(value: Any) -> Any:
    """Convert to plain JSON values, with floats rounded to 10 significant digits.

    Raises:
        MetricsError: for NaN or infinity, naming the place.
    """
    return _tidy(to_plain(value), "metrics")


def _tidy(value: Any, place: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _tidy(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_tidy(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise MetricsError(f"{place} is {value}; every figure must be finite")
        return float(f"{value:.{DIGITS}g}")
    return value
