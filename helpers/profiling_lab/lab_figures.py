"""Figures of the profiling lab: a flame graph of the slow script, and the speed-up by change."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.profiling_lab.slow_profile import Frame
from helpers.profiling_lab.steps import MeasuredStep
from helpers.report.figure_style import (
    AFTER,
    BEFORE,
    INK,
    ReportFigure,
    labelled,
    new_figure,
    shortened,
    styled,
)

CHARACTERS = 62  # that fit across the figure


@styled
def flame_graph(frames: Sequence[Frame]) -> ReportFigure:
    """Draw calls as bars: below each the calls that it made, as wide as their share of the time."""
    deepest = max(frame.depth for frame in frames)
    figure, (axis,) = new_figure(7.2, 0.34 * (deepest + 1) + 0.9)
    for frame in frames:
        colour = AFTER if frame.depth % 2 else BEFORE
        axis.barh(frame.depth, frame.width, left=frame.start, height=0.92, color=colour, alpha=0.55,
                  edgecolor=INK, linewidth=0.5)  # fmt: skip
        room = int(frame.width * CHARACTERS)
        if room >= 4:
            axis.annotate(shortened(frame.name, room), (frame.start, frame.depth), (3, 0), va="center",
                          textcoords="offset points", fontsize=9)  # fmt: skip
    axis.set_xlim(0, 1)
    axis.set_ylim(deepest + 0.6, -0.6)
    axis.set_yticks([])
    axis.set_xlabel("share of the time in train()")
    widest = sorted((frame for frame in frames if frame.depth), key=lambda frame: -frame.width)[:3]
    told = ", ".join(f"{frame.name} {frame.width:.0%}" for frame in widest)
    return labelled(figure, f"Flame graph of the slow script: {told}", f"The widest calls: {told}.")


@styled
def speed_chart(measured: Sequence[MeasuredStep]) -> ReportFigure:
    """Draw the speed-up over the slow script after each change, with its interval."""
    figure, (axis,) = new_figure(7.2, 0.42 * (len(measured) + 1) + 0.9)
    rows = [("slow script", 1.0, (1.0, 1.0), True)]
    for one in measured:
        name = one.step.name if one.step.kept else f"{one.step.name} (dropped)"
        rows.append((name, one.total.value, one.total.interval, one.step.kept))
    for place, (_, value, (low, high), kept) in enumerate(rows):
        look = {"color": AFTER} if kept else {"color": "none", "edgecolor": BEFORE, "linestyle": "--"}
        axis.barh(place, value, height=0.6, **look)
        axis.plot([low, high], [place, place], color=INK, linewidth=1.4)
        axis.annotate(f"{value:.1f}×", (high, place), (6, 0), textcoords="offset points", va="center")
    axis.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axis.invert_yaxis()
    axis.set_xlim(0, 1.15 * max(high for _, _, (_, high), _ in rows))
    axis.set_xlabel("times as fast as the slow script, processor seconds")
    best = max((one for one in measured if one.step.kept), key=lambda one: one.total.value)
    reading = f"All kept changes together: {best.total.value:.1f} times as fast."
    told = ", ".join(f"{name} {value:.1f}" for name, value, *_ in rows)
    return labelled(figure, f"Speed-up after each change: {told}", reading)
