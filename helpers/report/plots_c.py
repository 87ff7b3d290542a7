"""Track C's own plot: every training run beside the untouched embedder and the controls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from helpers.report.plots import AFTER, BEFORE, WORSE, labelled, new_figure, styled
from helpers.report.tables import metric_name, number


@styled
def training_points(track: Mapping[str, Any]) -> Figure:
    """Plot the primary metric of the tuned model, each of its training runs, and the controls.

    Args:
        track: Track C's section; without controls only the untouched and the tuned model are drawn.
    """
    primary = track["primary_metric"]
    main = track["metrics"][primary]
    again = {name: c for name, c in track["controls"].items() if name.startswith("seed_")}
    points = [("untouched", main["before"], "s", BEFORE)]
    if "shuffled_pairs" in track["controls"]:
        points.append(("shuffled pairs", track["controls"]["shuffled_pairs"]["after"], "X", WORSE))
    label = f"tuned: mean of {len(again)}" if again else "tuned"
    points.append((label, main["after"], "D", AFTER))
    points += [
        (f"seed {name.removeprefix('seed_')} alone", c["after"], "o", AFTER) for name, c in again.items()
    ]
    figure, (axis,) = new_figure(6.4, 0.42 * len(points) + 1.2)
    for place, (_, entry, marker, colour) in enumerate(points):
        low, high = entry["ci95"]
        axis.errorbar(
            entry["value"], place, xerr=[[entry["value"] - low], [high - entry["value"]]],
            fmt=marker, color=colour, markersize=8, capsize=3, linewidth=1.2,
        )  # fmt: skip
    axis.axvline(main["before"]["value"], color="black", linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(points)), [name for name, *_ in points])
    axis.set(ylim=(len(points) - 0.5, -0.5), xlabel=f"{metric_name(primary)} on the test queries")
    title = f"Tuned: {number(main['after']['value'])}"
    if alone := [c["after"]["value"] for c in again.values()]:
        title += f"; single training runs {number(min(alone))} to {number(max(alone))}"
    axis.set_title(f"{title} (95% intervals)")
    told = "; ".join(f"{name} {number(entry['value'])}" for name, entry, *_ in points)
    return labelled(figure, f"{metric_name(primary)} after each training run with 95% intervals: {told}.")
