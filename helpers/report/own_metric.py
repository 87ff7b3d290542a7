"""Compute a metric of your own, with its interval, as an entry of a track's section of metrics.json.

In the notebook, `track_b.add_metric(name, metric)` does all of it for Track B's answers:

    track_b.add_metric("exact_match", lambda answer, reference: float(answer == reference))

For other items, pass a section to `add_metric` and keep what it returns with `tracks.record.keep_section`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from helpers.machine.progress import progress
from helpers.report.entries import MetricsError, mean_entry, tidy


class Metric(Protocol):
    """The interface of `evaluate.Metric`; neither that package nor a hub is needed."""

    def compute(self, *, predictions: list, references: list) -> Mapping[str, Any] | None:
        """Compute figures over all given items."""


def add_metric(
    section: Mapping[str, Any],
    name: str,
    metric: Metric | Callable[[Any, Any], float],
    before: Sequence[Any],
    after: Sequence[Any],
    references: Sequence[Any],
    *,
    groups: Sequence[str],
    seed: int,
    samples: int = 10_000,
    unit: str = "mean over items",
    higher_is_better: bool = True,
) -> dict[str, Any]:
    """Return the track's section with one more metric: the mean of per-item scores before and after.

    The many parameters are everything that the new entry records.

    Args:
        metric: an `evaluate.Metric`, called item by item (its figure `name`, or its only one, is taken),
            or a plain function of (prediction, reference).
        before, after, references: one per item, same order.
        groups: the independent unit of each item, as for `statistics.bootstrap_ratio`.

    Raises:
        MetricsError: if the name is taken, lengths differ or the metric returns no such figure.
    """
    if name in section["metrics"]:
        raise MetricsError(f"there is already a metric called {name!r}")
    if not len(before) == len(after) == len(references) == len(groups):
        raise MetricsError("before, after, references and groups must have one entry per item")
    scores = [
        [_score(metric, name, p, r) for p, r in progress(list(zip(side, references, strict=True)), name)]
        for side in (before, after)
    ]
    entry = mean_entry(*scores, unit, higher_is_better, groups=groups, seed=seed, samples=samples)
    data = section["data"]
    data = {**data, "added_metrics": [*data.get("added_metrics", []), name]}
    return tidy({**section, "metrics": {**section["metrics"], name: entry}, "data": data})


def _score(metric: Metric | Callable[[Any, Any], float], name: str, prediction: Any, reference: Any) -> float:
    if not hasattr(metric, "compute"):
        return float(metric(prediction, reference))
    figures = dict(metric.compute(predictions=[prediction], references=[reference]) or {})
    if name not in figures and len(figures) != 1:
        raise MetricsError(f"the metric returned {sorted(figures)}; name it after one of these")
    return float(figures.get(name, next(iter(figures.values()))))
