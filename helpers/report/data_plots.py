"""Plots of the data card: sizes, counts and kinds (see `plots` for the conventions)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from helpers.report.plots import AFTER, BEFORE, labelled, new_figure, styled


@styled
def distribution(values: Sequence[float], *, title: str, xlabel: str, unit: str = "items") -> Figure:
    """Draw a histogram with the median marked; logarithmic if values span over two decades."""
    data = np.asarray(values, dtype=float)
    if not data.size:
        raise ValueError(f"{title}: no values to draw")
    figure, (axis,) = new_figure(5.0, 3.2)
    wide = data.min() > 0 and data.max() / data.min() > 100
    bins: Any = min(30, max(5, int(np.sqrt(data.size) * 1.5)))
    if wide:
        bins = np.geomspace(data.min(), data.max(), bins + 1)
        axis.set_xscale("log")
    axis.hist(data, bins=bins, color="#b9c7d8", edgecolor="black", linewidth=0.6)
    median = float(np.median(data))
    axis.axvline(median, color="black", linestyle="--", linewidth=1.4, label=f"median {median:,.0f}")
    axis.set(xlabel=xlabel + (" (logarithmic)" if wide else ""), ylabel=unit)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title(title)
    axis.legend()
    spread = f"{data.min():,.0f} to {data.max():,.0f}, median {median:,.0f}"
    return labelled(figure, f"Histogram of {data.size} {unit}, {xlabel}: {spread}.")


@styled
def count_bars(counts: Mapping[str, Mapping[str, int]], *, title: str, ylabel: str = "pairs") -> Figure:
    """Draw stacked horizontal bars, e.g. task kind -> split -> count; parts differ in hatch."""
    if not counts:
        raise ValueError(f"{title}: nothing to count")
    parts = list(dict.fromkeys(part for row in counts.values() for part in row))
    looks = [(AFTER, ""), ("white", "///"), (BEFORE, "..."), ("#e5e5e5", "xx"), ("#5b7fa6", "\\\\")]
    figure, (axis,) = new_figure(6.4, 0.42 * len(counts) + 1.5)
    left = np.zeros(len(counts))
    names = [name.replace("_", " ") for name in counts]
    for part, (colour, hatch) in zip(parts, looks * len(parts), strict=False):
        widths = np.array([row.get(part, 0) for row in counts.values()], dtype=float)
        bars = {"color": colour, "hatch": hatch, "edgecolor": "black", "linewidth": 0.6}
        axis.barh(names, widths, left=left, label=part, **bars)
        left += widths
    for place, total in enumerate(left):
        axis.text(total + left.max() * 0.01, place, f"{total:.0f}", va="center", fontsize=9)
    axis.invert_yaxis()
    axis.set(xlabel=ylabel, xlim=(0, max(left.max(), 1) * 1.1))
    axis.set_title(title)
    if len(parts) > 1:
        figure.legend(loc="outside lower center", ncols=len(parts))
    told = "; ".join(f"{name} {total:.0f}" for name, total in zip(names, left, strict=True))
    return labelled(figure, f"{title}. {ylabel}: {told}.")
