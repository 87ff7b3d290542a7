"""What several figures are drawn with: pairs of values, intervals, rows of metrics, a legend of shapes.

A square is before and a circle after; hollow and dashed marks stay apart from filled ones without colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from helpers.report.figure_style import AFTER, BEFORE, INK, WIDTH, WORSE, ReportFigure, new_figure, shortened
from helpers.report.tables import number

OPEN = {"markerfacecolor": "none", "markeredgewidth": 1.4}


def interval_rows(
    groups: Sequence[tuple[str, Sequence[tuple[str, Mapping[str, Any]]]]], unit: str = "share"
) -> tuple[ReportFigure, str]:
    """Draw groups of metric entries, before above after, and return the figure and its values in words.

    Args:
        groups: (heading or "", [(name of the row, entry of metrics.json)]); values from 0 to 1.
    """
    count = sum(len(rows) + bool(heading) for heading, rows in groups)
    figure, (axis,) = new_figure(WIDTH, 0.46 * count + 0.75)
    place, told = 0.0, []
    for heading, rows in groups:
        if heading:
            axis.text(0, place + 0.12, shortened(heading, 40), fontweight="bold", va="center")
            place += 0.8
        for name, entry in rows:
            values = f"{number(entry['before']['value'])} → {number(entry['after']['value'])}"
            axis.text(0, place - 0.3, shortened(name, 34), va="center")
            axis.text(1, place - 0.3, values, ha="right", va="center", transform=axis.get_yaxis_transform())
            for shift, side, mark, colour in ((0.02, "before", "s", BEFORE), (0.24, "after", "o", AFTER)):
                interval(axis, place + shift, entry[side], mark, colour, hollow=side == "before")
            told.append(f"{heading} {name}: {values.replace('→', 'to')}".strip())
            place += 1
    top = max(
        (e[s]["ci95"][1] for _, rows in groups for _, e in rows for s in ("before", "after")), default=1
    )
    axis.set(xlim=(-0.02 * top, top * 1.03 or 1), ylim=(place - 0.35, -0.75), yticks=[])
    axis.set_xlabel(f"{unit}, with 95% interval")
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x", color=INK, alpha=0.15, linewidth=0.6)
    legend(figure, [("s", BEFORE, "before"), ("o", AFTER, "after")])
    return figure, "; ".join(told)


def change_line(axis: Axes, place: float, before: float, after: float, *, better: bool) -> None:
    """Draw two values of one item and the line between them."""
    colour, mark = (AFTER, "o") if better else (WORSE, "X")
    axis.plot([before, after], [place, place], color=colour, linewidth=1.4)
    axis.plot(before, place, "s", color=BEFORE, markersize=5, **OPEN)
    axis.plot(after, place, mark, color=colour, markersize=6)


def interval(
    axis: Axes, place: float, estimate: Mapping[str, Any], mark: str, colour: str, *, hollow: bool
) -> None:
    """Draw a value with its 95% interval in row `place`; dashed if hollow."""
    low, high = estimate["ci95"]
    axis.plot([low, high], [place, place], color=colour, linewidth=1.4, linestyle="--" if hollow else "-")
    face = OPEN if hollow else {}
    axis.plot(estimate["value"], place, mark, color=colour, markersize=5.5, clip_on=False, **face)


def legend(figure: ReportFigure, marks: Sequence[tuple[str, str, str]]) -> None:
    """Name markers of (shape, colour, meaning) below the figure; a grey one is hollow."""
    axis = figure.axes[0]
    handles = [
        axis.plot([], [], mark, color=colour, markersize=5.5, **(OPEN if colour == BEFORE else {}))[0]
        for mark, colour, _ in marks
    ]
    names = [name for *_, name in marks]
    figure.legend(
        handles, names, loc="outside upper left", ncols=len(marks), handletextpad=0.1, columnspacing=0.9,
        borderpad=0.1,
    )  # fmt: skip
