"""The pieces of metrics.json: one entry per metric, one section per track, one for the run.

Every figure enters through `metric_entry`, so that none lacks its interval, its `n` and its test,
and a verdict is always computed here from the primary metric, never passed in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from helpers.errors import SuiteError
from helpers.eval.statistics import (
    Delta,
    Estimate,
    bootstrap_mean,
    bootstrap_ratio,
    exact_mcnemar,
    paired_bootstrap,
    paired_ratio_bootstrap,
    proportion,
    verdict,
)
from helpers.run.workspace import digest, to_plain

Rows = Sequence[Mapping[str, Any]]

PRIMARY_METRIC = {"track_a": "bits_per_byte", "track_b": "pass@1", "track_c": "mrr@10"}
DIGITS = 10  # significant; beyond them, sums differ with the order a processor adds in


class MetricsError(SuiteError, ValueError):
    """Metrics that are incomplete, contradict themselves or do not follow the schema."""


def metric_entry(
    before: Estimate, after: Estimate, delta: Delta, *, unit: str, higher_is_better: bool
) -> dict[str, Any]:
    """One metric of one track: before, after and their difference, as metrics.json holds it."""
    return tidy(
        {
            "before": estimate_entry(before),
            "after": estimate_entry(after),
            "delta": delta_entry(delta),
            "unit": unit,
            "higher_is_better": higher_is_better,
        }
    )


def estimate_entry(estimate: Estimate) -> dict[str, Any]:
    """`{value, ci95, n}`."""
    return tidy({"value": estimate.value, "ci95": list(estimate.ci95), "n": estimate.n})


def delta_entry(delta: Delta) -> dict[str, Any]:
    """`{value, ci95, p_value, test}`."""
    fields = {"value": delta.value, "ci95": list(delta.ci95), "p_value": delta.p_value, "test": delta.test}
    return tidy(fields)


def entry_verdict(entry: Mapping[str, Any]) -> str:
    """What `statistics.verdict` says of a metric entry."""
    delta = entry["delta"]
    low, high = delta["ci95"]
    read = Delta(delta["value"], (low, high), delta["p_value"], delta["test"])
    return verdict(read, entry["higher_is_better"])


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
    """One track that ran. The verdict follows from `metrics[primary_metric]`.

    Args:
        metrics: name -> `metric_entry`.
        controls: negative controls and side effects: name -> anything plain.
        baselines: name -> metric name -> `{value, ...}`.
        cost: at least `seconds`; units in the names (`peak_memory_gib`).
        data: `counts` and `sha256` of what the figures were computed on.

    Raises:
        MetricsError: if the primary metric is missing.
    """
    if primary_metric not in metrics:
        raise MetricsError(f"primary metric {primary_metric!r} is not among {sorted(metrics)}")
    return tidy(
        {
            "model": model,
            "primary_metric": primary_metric,
            "verdict": entry_verdict(metrics[primary_metric]),
            "metrics": dict(metrics),
            "controls": dict(controls or {}),
            "baselines": dict(baselines or {}),
            "cost": dict(cost),
            "data": dict(data),
        }
    )


def not_run(track: str, reason: str, needed: str, *, model: str = "") -> dict[str, Any]:
    """A track that lacked data: why, and how much would do. `track` is "track_a", ..."""
    return {
        "model": model,
        "primary_metric": PRIMARY_METRIC[track],
        "verdict": "not_run",
        "reason": reason,
        "needed": needed,
        "metrics": {},
        "controls": {},
        "baselines": {},
        "cost": {},
        "data": {},
    }


def run_section(
    *,
    profile: str,
    run_id: str,
    corpus: Mapping[str, Any],
    commit: str,
    seed: int,
    hardware: Mapping[str, Any],
    versions: Mapping[str, str],
    started: str,
    seconds: float,
) -> dict[str, Any]:
    """What was run, on what, by which code: `corpus` is `{spec, version, files, sha256}`."""
    return tidy(
        {
            "profile": profile,
            "run_id": run_id,
            "corpus": dict(corpus),
            "commit": commit,
            "seed": seed,
            "hardware": dict(hardware),
            "versions": dict(versions),
            "started": started,
            "seconds": round(seconds, 3),
        }
    )


def ratio_entry(
    rows: Rows, numerator: str, denominator: str, unit: str, higher: bool, seed: int, samples: int, **options
) -> dict[str, Any]:
    """Entry of `sum(numerator) / sum(denominator)` over files, each row one file."""
    if not rows:
        raise MetricsError(f"no rows to compute {unit!r} from")
    names = [row["path"] for row in rows]
    before, after, below = (
        [row[key] for row in rows] for key in (f"{numerator}_before", f"{numerator}_after", denominator)
    )
    options |= {"groups": names, "seed": seed, "samples": samples}
    return metric_entry(
        bootstrap_ratio(before, below, **options),
        bootstrap_ratio(after, below, **options),
        paired_ratio_bootstrap(before, after, below, **options),
        unit=unit,
        higher_is_better=higher,
    )


def mean_entry(
    before: Sequence[float],
    after: Sequence[float],
    groups: Sequence[str],
    unit: str,
    seed: int,
    samples: int,
    higher: bool = True,
) -> dict[str, Any]:
    """Entry of a mean over items, groups resampled."""
    options = {"groups": groups, "seed": seed, "samples": samples}
    return metric_entry(
        bootstrap_mean(before, **options),
        bootstrap_mean(after, **options),
        paired_bootstrap(before, after, **options),
        unit=unit,
        higher_is_better=higher,
    )


def share_entry(
    before: Sequence[bool],
    after: Sequence[bool],
    groups: Sequence[str],
    unit: str,
    higher: bool,
    seed: int,
    samples: int,
) -> dict[str, Any]:
    """Wilson intervals for each side; the difference by bootstrap over groups, its p by McNemar."""
    interval = paired_bootstrap(before, after, groups=groups, seed=seed, samples=samples)
    test = exact_mcnemar(before, after)
    name = f"exact McNemar, {test.gained} to {test.lost} discordant; interval by {interval.test}"
    delta = Delta(interval.value, interval.ci95, test.p_value, name)
    return metric_entry(proportion(before), proportion(after), delta, unit=unit, higher_is_better=higher)


def data_section(
    given: Mapping[str, Any] | None, counts: Mapping[str, int], items: Any, samples: int
) -> dict[str, Any]:
    """What the notebook knows of the data, with the test items' own counts and digest."""
    given = dict(given or {})
    merged = dict(given.pop("counts", {})) | dict(counts)
    return {"counts": merged, "sha256": digest(items), "bootstrap_samples": samples, **given}


def tidy(value: Any) -> Any:
    """Plain JSON values with floats to 10 significant digits.

    Raises:
        MetricsError: for NaN or infinity, with the place they were found at.
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
            raise MetricsError(f"{place} is {value}; a figure must be a finite number")
        return float(f"{value:.{DIGITS}g}")
    return value
