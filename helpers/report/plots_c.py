"""Track C's own figure: every training as a point beside the untouched embedder and the controls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from helpers.report.plots import AFTER, BEFORE, WORSE, labelled, new_figure, styled
from helpers.report.tables import metric_name, number


@styled
def training_points(track: Mapping[str, Any]) -> Figure:
    """The primary metric after each training on the test queries: seeds, shuffled pairs, and before.

    Args:
        track: Track C's section; without controls only the main training is drawn.
    """
    primary = track["primary_metric"]
    main = track["metrics"][primary]
    again = {name: c for name, c in track["controls"].items() if name.startswith("seed_")}
    points = [("untouched", main["before"], "s", BEFORE)]
    if "shuffled_pairs" in track["controls"]:
        points.append(("shuffled pairs", track["controls"]["shuffled_pairs"]["after"], "X", WORSE))
    points.append(("tuned", main["after"], "D", AFTER))
    points += [
        (f"tuned, seed {name.removeprefix('seed_')}", c["after"], "o", AFTER) for name, c in again.items()
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
    tuned = [main["after"]["value"], *(c["after"]["value"] for c in again.values())]
    span = f"{number(min(tuned))} to {number(max(tuned))}" if again else number(tuned[0])
    axis.set_title(f"Tuned: {span} over {len(tuned)} training seed{'s' * bool(again)} (95% intervals)")
    told = "; ".join(f"{name} {number(entry['value'])}" for name, entry, *_ in points)
    return labelled(figure, f"{metric_name(primary)} after each training with 95% intervals: {told}.")
