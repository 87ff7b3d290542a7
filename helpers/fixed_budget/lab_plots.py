"""Figures of the fixed-budget lab: the ladder, and loss curves of its runs.

As in `helpers.report.figure_style`, shapes and line styles carry the same meaning as colours, titles say what
to see, and each figure's label is its alternative text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from helpers.fixed_budget.results import BudgetRun
from helpers.fixed_budget.rungs import Comparison, Rung, rung_verdict
from helpers.report.figure_style import (
    AFTER,
    BEFORE,
    DPI,
    INK,
    WORSE,
    ReportFigure,
    labelled,
    new_figure,
    styled,
)

STYLES = ("-", "--", "-.", ":")
MARKS = {"helped": ("o", AFTER), "did not help": ("X", WORSE), "within the noise of seeds": ("s", BEFORE)}


@styled
def ladder_chart(rungs: Sequence[Rung], spread: float | None) -> ReportFigure:
    """Plot every rung's full-coverage loss, with a line from the recipe it started from."""
    baseline = rungs[0].reference
    figure, (axis,) = new_figure(7.2, 0.34 * (len(rungs) + 1) + 1.3)
    first = baseline.score.full_nats_per_character
    axis.plot(first, 0, "D", color=INK, markersize=7)
    axis.annotate(f"{first:.3f}", (first, 0), (8, 0), textcoords="offset points", va="center", fontsize=9)
    shown = set()
    for place, rung in enumerate(rungs, 1):
        value = rung.run.score.full_nats_per_character
        before = rung.reference.score.full_nats_per_character
        word = rung_verdict(rung.difference, spread).removesuffix(" (one seed)")
        mark, colour = MARKS[word]
        axis.plot([before, value], [place, place], color=colour, linewidth=1.4, alpha=0.7)
        axis.plot(
            value, place, mark, color=colour, markersize=7, markeredgecolor=INK, markeredgewidth=0.5,
            label=None if word in shown else word, fillstyle="full" if rung.change.kept else "none",
        )  # fmt: skip
        shown.add(word)
        axis.annotate(
            f"{value:.3f} ({rung.difference:+.3f})",
            (max(value, before), place), (8, 0), textcoords="offset points", va="center", fontsize=9,
        )  # fmt: skip
    axis.set_yticks(
        range(len(rungs) + 1),
        ["baseline", *(f"{r.change.name}{'' if r.change.kept else ' (dropped)'}" for r in rungs)],
    )
    axis.invert_yaxis()
    low, high = axis.get_xlim()
    axis.set_xlim(low, high + 0.22 * (high - low))
    axis.set_xlabel("full-coverage nats per character")
    top = [rung for rung in rungs if rung.change.kept][-1:] or rungs[:1]  # dropped rungs lead nowhere
    reached = top[0].run.score.full_nats_per_character
    figure.suptitle(
        f"From {first:.3f} to {reached:.3f}, one change per row\n"
        "lines start at the recipe without the change; open marks are not in the improved recipe",
        fontsize=11, x=0.01, ha="left",
    )  # fmt: skip
    figure.legend(loc="outside lower center", ncols=len(shown))
    told = "; ".join(f"{r.change.name} {r.run.score.full_nats_per_character:.3f}" for r in rungs)
    return labelled(figure, f"Full-coverage nats per character by rung, baseline {first:.3f}; {told}.")


@styled
def comparison_curves(comparison: Comparison) -> ReportFigure:
    """Plot the validation loss of baseline and improved recipe by epoch, for all seeds."""
    figure, (axis,) = new_figure(7.2, 3.6)
    for runs, colour, name in (
        (comparison.baseline, BEFORE, "baseline"), (comparison.improved, AFTER, "improved"),
    ):  # fmt: skip
        for number, run in enumerate(runs):
            passes, losses = passes_and_losses(run)
            axis.plot(
                passes, losses, color=colour, linestyle=STYLES[number % len(STYLES)], linewidth=1.8,
                marker="o" if name == "improved" else "s", markersize=4, label=f"{name}, seed {run.seed}",
            )  # fmt: skip
    axis.set(xlabel="passes over the training text", ylabel="full-coverage nats per character")
    one, other = comparison.baseline[0], comparison.improved[0]
    ends = [run.score.full_nats_per_character for run in (one, other)]
    seen = f"baseline ends at {ends[0]:.3f}, improved at {ends[1]:.3f}"
    axis.set_title(f"{seen.capitalize()}: a ratio of {comparison.ratio:.2f}")
    axis.legend()
    return labelled(figure, f"Validation loss by pass: {seen}.")


@styled
def rung_curves(rungs: Sequence[Rung]) -> ReportFigure:
    """Plot every rung's validation curve beside that of the recipe it started from, a panel each."""
    columns = 4
    rows = math.ceil(len(rungs) / columns)
    figure = ReportFigure(figsize=(7.2, 1.6 * rows + 0.4), dpi=DPI, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    for axis, rung in zip(axes, rungs, strict=False):
        before, after = passes_and_losses(rung.reference), passes_and_losses(rung.run)
        axis.plot(*before, color=BEFORE, linestyle="--", linewidth=1.3, label="without the change")
        axis.plot(*after, color=AFTER, linewidth=1.6, label="with the change")
        axis.set_title(f"{rung.change.name}\n{rung.difference:+.3f}", fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in axes[len(rungs) :]:
        axis.set_axis_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    figure.supxlabel("passes over the training text", fontsize=9)
    figure.supylabel("full-coverage nats per character", fontsize=9)
    told = "; ".join(f"{rung.change.name} {rung.difference:+.3f}" for rung in rungs)
    return labelled(figure, f"Validation curve of every rung beside the recipe it started from. {told}.")


def passes_and_losses(run: BudgetRun) -> tuple[list[float], list[float]]:
    """Return the points of a run's curve: passes over the training text, and losses."""
    per_pass = run.tokens / run.recipe["epochs"]
    return [tokens / per_pass for _, tokens, _ in run.curve], [loss for _, _, loss in run.curve]
