"""Figures of the fixed-budget lab: the ladder, and loss curves of its runs.

As in `helpers.report.figure_style`, shapes and line styles carry the same meaning as colours, a sentence says
what to see, and each figure's label is its alternative text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from helpers.fixed_budget.results import BudgetRun
from helpers.fixed_budget.rungs import Comparison, Rung, rung_verdict
from helpers.report.figure_style import (
    AFTER,
    BEFORE,
    DPI,
    INK,
    WIDTH,
    WORSE,
    ReportFigure,
    labelled,
    new_figure,
    shortened,
    styled,
)

ROW_INCHES = 0.42
STYLES = ("-", "--", "-.", ":")
MARKS = {"helped": ("o", AFTER), "did not help": ("X", WORSE), "within the noise of seeds": ("s", BEFORE)}


@styled
def ladder_chart(rungs: Sequence[Rung], spread: float | None) -> ReportFigure:
    """Plot every rung's full-coverage loss, with a line from the recipe it started from."""
    first = rungs[0].reference.score.full_nats_per_character
    figure, (axis,) = new_figure(WIDTH, ROW_INCHES * (len(rungs) + 1) + 1.2)
    axis.plot(first, 0, "D", color=INK, markersize=7)
    _name_row(axis, 0, "baseline", f"{first:.3f}")
    shown = set()
    for place, rung in enumerate(rungs, 1):
        value = rung.run.score.full_nats_per_character
        before = rung.reference.score.full_nats_per_character
        word = rung_verdict(rung.difference, spread).removesuffix(" (one seed)")
        mark, colour = MARKS[word]
        axis.plot([before, value], [place, place], color=colour, linewidth=1.4)
        axis.plot(
            value, place, mark, color=colour, markersize=7, markeredgecolor=INK, markeredgewidth=0.5,
            label=None if word in shown else word, fillstyle="full" if rung.change.kept else "none",
        )  # fmt: skip
        shown.add(word)
        name = f"{rung.change.name}{'' if rung.change.kept else ' (dropped)'}"
        _name_row(axis, place, shortened(name, 32), f"{value:.3f} ({rung.difference:+.3f})")
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.set(ylim=(len(rungs) + 0.5, -0.8), xlabel="full-coverage nats per character (left is better)")
    figure.legend(loc="outside lower center", ncols=1)
    top = [rung for rung in rungs if rung.change.kept][-1:] or rungs[:1]  # dropped rungs lead nowhere
    reached = top[0].run.score.full_nats_per_character
    reading = (
        f"From {first:.3f} to {reached:.3f}, one change per row. Lines start at the recipe without the "
        "change; open marks are not in the improved recipe."
    )
    told = "; ".join(f"{r.change.name} {r.run.score.full_nats_per_character:.3f}" for r in rungs)
    alt = f"Full-coverage nats per character by rung, baseline {first:.3f}; {told}."
    return labelled(figure, alt, reading)


def _name_row(axis: Axes, place: int, name: str, value: str) -> None:
    """Write a row's name and value above its marks, so that the marks have the whole width."""
    across = {"transform": axis.get_yaxis_transform(), "va": "center"}
    axis.text(0, place - 0.45, name, **across)
    axis.text(1, place - 0.45, value, ha="right", **across)


@styled
def comparison_curves(comparison: Comparison) -> ReportFigure:
    """Plot the validation loss of baseline and improved recipe by epoch, for all seeds."""
    figure, (axis,) = new_figure(WIDTH, 2.8 + 0.18 * len([*comparison.baseline, *comparison.improved]))
    for runs, colour, name in (
        (comparison.baseline, BEFORE, "baseline"), (comparison.improved, AFTER, "improved"),
    ):  # fmt: skip
        for number, run in enumerate(runs):
            passes, losses = passes_and_losses(run)
            axis.plot(
                passes, losses, color=colour, linestyle=STYLES[number % len(STYLES)], linewidth=1.8,
                marker="o" if name == "improved" else "s", markersize=4, label=f"{name}, seed {run.seed}",
            )  # fmt: skip
    axis.set_title("full-coverage nats per character")
    axis.set_xlabel("passes over the training text")
    one, other = comparison.baseline[0], comparison.improved[0]
    ends = [run.score.full_nats_per_character for run in (one, other)]
    seen = f"baseline ends at {ends[0]:.3f}, improved at {ends[1]:.3f}"
    figure.legend(loc="outside lower left", ncols=1)
    reading = f"{seen[0].upper()}{seen[1:]}: a ratio of {comparison.ratio:.2f}."
    return labelled(figure, f"Validation loss by pass: {seen}.", reading)


@styled
def rung_curves(rungs: Sequence[Rung], columns: int = 2) -> ReportFigure:
    """Plot every rung's validation curve beside that of the recipe it started from, a panel each.

    Args:
        columns: panels side by side; two fill the width of a phone.
    """
    rows = math.ceil(len(rungs) / columns)
    size = (WIDTH * columns / 2, 1.45 * rows + 0.8)
    figure = ReportFigure(figsize=size, dpi=DPI, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    for axis, rung in zip(axes, rungs, strict=False):
        before, after = passes_and_losses(rung.reference), passes_and_losses(rung.run)
        axis.plot(*before, color=BEFORE, linestyle="--", linewidth=1.3, label="without the change")
        axis.plot(*after, color=AFTER, linewidth=1.6, label="with the change")
        axis.set_title(f"{shortened(rung.change.name, 19)}\n{rung.difference:+.3f}")
    for axis in axes[len(rungs) :]:
        axis.set_axis_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=1)
    figure.supxlabel("passes over the training text", fontsize=9.5)
    figure.supylabel("full-coverage nats per character", fontsize=9.5)
    told = "; ".join(f"{rung.change.name} {rung.difference:+.3f}" for rung in rungs)
    alt = f"Validation curve of every rung beside the recipe it started from. {told}."
    lower = sum(rung.difference < 0 for rung in rungs)
    return labelled(figure, alt, f"With {lower} of {len(rungs)} changes the loss ends lower than without.")


def passes_and_losses(run: BudgetRun) -> tuple[list[float], list[float]]:
    """Return the points of a run's curve: passes over the training text, and losses."""
    per_pass = run.tokens / run.recipe["epochs"]
    return [tokens / per_pass for _, tokens, _ in run.curve], [loss for _, _, loss in run.curve]
