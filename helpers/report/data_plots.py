"""Figures of the data: where it was lost on the way, sizes, counts and kinds (see `plots`)."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter

from helpers.data.corpus import rejection_counts
from helpers.data.tasks.instruct_data import InstructData
from helpers.records import Corpus, Function
from helpers.report.figure_style import (
    AFTER,
    BEFORE,
    INK,
    WIDTH,
    NothingToDraw,
    ReportFigure,
    labelled,
    new_figure,
    shortened,
    styled,
)

NOT_EXAMINED = "not examined (enough verified, or kept out of the splits)"
SHOWN_REASONS = 3
LINE = 46  # characters below a bar


@dataclass(frozen=True)
class FunnelStep:
    """One step on the way from files to pairs: how many came in, and how many went on."""

    what: str  # what went on, such as "files accepted"
    of: str  # what came in, such as "entries of the code base"
    came: int
    went: int
    reasons: Mapping[str, int]  # why the others did not go on -> how many; may be empty


def funnel_steps(
    corpus: Corpus, functions: Sequence[Function], instruct: InstructData | None
) -> list[FunnelStep]:
    """Return the steps from files over functions and verified functions to pairs, from what a run counted.

    Args:
        instruct: Track B's data; None if it has none.
    """
    rejected = rejection_counts(corpus.rejected)
    accepted = len(corpus.files)
    steps = [FunnelStep("files accepted", "entries", accepted + sum(rejected.values()), accepted, rejected)]
    if instruct is None:
        return steps
    examined: Counter[str] = Counter()
    for counts in instruct.report.get("functions", {}).values():
        examined.update(counts)
    total, verified = sum(examined.values()), examined.pop("verified", 0)
    if total:
        examined[NOT_EXAMINED] = max(0, len(functions) - total)
        came = max(len(functions), total)
        steps.append(FunnelStep("functions verified", "functions", came, verified, dict(+examined)))
    filters: Counter[str] = Counter()
    for counts in instruct.report.get("drafts by kind", {}).values():
        filters.update(counts)
    drafts, passed = filters.pop("in", 0), filters.pop("out", 0)
    if drafts:
        steps.append(FunnelStep("drafts kept", "drafts", drafts, passed, dict(filters)))
        used = len(instruct.train) + len(instruct.validation) + len(instruct.tasks)
        steps.append(FunnelStep("pairs and tasks", "drafts kept", passed, used, {}))
    return steps


def corpus_funnel(
    corpus: Corpus, functions: Sequence[Function], instruct: InstructData | None
) -> ReportFigure:
    """Draw `data_funnel` of this run's `funnel_steps`."""
    return data_funnel(funnel_steps(corpus, functions, instruct))


@styled
def data_funnel(steps: Sequence[FunnelStep]) -> ReportFigure:
    """Draw for each step what came in (outline) and what went on (filled), with the reasons for the rest.

    Raises:
        NothingToDraw: if nothing came in anywhere.
    """
    steps = [step for step in steps if step.came > 0]
    if not steps:
        raise NothingToDraw("Nothing was counted on the way from files to pairs")
    texts = [_reasons(step) for step in steps]
    heights = [0.62 + 0.17 * len(text) for text in texts]
    figure, (axis,) = new_figure(WIDTH, sum(heights) + 0.15)
    top = 0.0
    for step, text, height in zip(steps, texts, heights, strict=True):
        share = step.went / step.came
        axis.text(0, top + 0.1, step.what, va="center", fontweight="bold")
        axis.text(1, top + 0.1, f"{step.went:,} of {step.came:,} {step.of}", ha="right", va="center")
        bar = {"height": 0.17, "edgecolor": INK, "linewidth": 0.8}
        axis.barh(top + 0.3, 1, color="none", hatch="///", alpha=0.5, **bar)
        axis.barh(top + 0.3, min(share, 1), color=AFTER, **bar)
        for number, line in enumerate(text):
            axis.text(0, top + 0.5 + 0.17 * number, line, va="center")
        top += height
    axis.set(xlim=(0, 1), ylim=(top, -0.02))
    axis.set_axis_off()
    told = "; ".join(
        f"{s.went} {s.what} of {s.came} {s.of}"
        + "".join(f", {n} left out: {reason}" for reason, n in _ordered(s))
        for s in steps
    )
    first, last = steps[0], steps[-1]
    reading = f"From {first.came:,} {first.of} to {last.went:,} {last.what}"
    if len(steps) > 1:
        least = min(steps, key=lambda step: step.went / step.came)
        reading += f"; the narrowest step keeps {least.went / least.came:.0%} ({least.what})"
    return labelled(figure, f"What went on at each step: {told}.", f"{reading}.")


def _ordered(step: FunnelStep) -> list[tuple[str, int]]:
    return sorted(step.reasons.items(), key=lambda reason: (-reason[1], reason[0]))


def _reasons(step: FunnelStep) -> list[str]:
    """Return the most frequent reasons as lines, and how many the others are together."""
    reasons = _ordered(step)
    shown = [f"{reason} {n:,}" for reason, n in reasons[:SHOWN_REASONS]]
    if rest := sum(n for _, n in reasons[SHOWN_REASONS:]):
        shown.append(f"other reasons {rest:,}")
    return textwrap.wrap(f"left out: {'; '.join(shown)}", LINE) if shown else []


@styled
def distribution(values: Sequence[float], *, title: str, xlabel: str, unit: str = "items") -> ReportFigure:
    """Draw a histogram with the median marked; logarithmic if values span over two decades."""
    data = np.asarray(values, dtype=float)
    if not data.size:
        raise NothingToDraw(f"{title}: no values to draw")
    figure, (axis,) = new_figure(WIDTH, 2.5)
    wide = data.min() > 0 and data.max() / data.min() > 100
    bins: Any = min(30, max(5, int(np.sqrt(data.size) * 1.5)))
    if wide:
        bins = np.geomspace(data.min(), data.max(), bins + 1)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))  # the default is a formula
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.hist(data, bins=bins, color=AFTER, edgecolor=INK, linewidth=0.6, alpha=0.7)
    median = float(np.median(data))
    axis.axvline(median, color=INK, linestyle="--", linewidth=1.4, label=f"median {median:,.0f}")
    axis.set(xlabel=xlabel + (" (logarithmic)" if wide else ""), ylabel=unit)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper left")
    spread = f"{data.min():,.0f} to {data.max():,.0f}, median {median:,.0f}"
    reading = f"{title}: {data.size:,} {unit}, the median is {median:,.0f} {xlabel.rpartition(', ')[2]}."
    return labelled(figure, f"Histogram of {data.size} {unit}, {xlabel}: {spread}.", reading)


@styled
def count_bars(counts: Mapping[str, Mapping[str, int]], *, title: str, ylabel: str = "pairs") -> ReportFigure:
    """Draw stacked horizontal bars, e.g. task kind -> split -> count; parts differ in hatch."""
    if not counts:
        raise NothingToDraw(f"{title}: nothing to count")
    parts = list(dict.fromkeys(part for row in counts.values() for part in row))
    looks = [(AFTER, ""), ("none", "///"), (BEFORE, "---"), ("none", "xx"), (AFTER, "\\\\")]
    figure, (axis,) = new_figure(WIDTH, 0.27 * len(counts) + 0.9)
    left = np.zeros(len(counts))
    names = [shortened(name.replace("_", " "), 22) for name in counts]
    for part, (colour, hatch) in zip(parts, looks * len(parts), strict=False):
        widths = np.array([row.get(part, 0) for row in counts.values()], dtype=float)
        bars = {"color": colour, "hatch": hatch, "edgecolor": INK, "linewidth": 0.6}
        axis.barh(range(len(names)), widths, 0.62, left=left, label=part, **bars)
        left += widths
    for place, total in enumerate(left):
        axis.annotate(f"{total:.0f}", (total, place), (3, 0), textcoords="offset points", va="center")
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(axis="y", length=0)
    axis.set(xlabel=ylabel, xlim=(0, max(left.max(), 1) * 1.16), ylim=(len(names) - 0.4, -0.6))
    if len(parts) > 1:
        figure.legend(loc="outside upper left", ncols=len(parts), columnspacing=0.9, handlelength=1.4)
    told = "; ".join(
        f"{name} {total:.0f}" + (f" ({_parts(row)})" if len(parts) > 1 else "")
        for (name, row), total in zip(counts.items(), left, strict=True)
    )
    most = max(zip(left, names, strict=True))
    reading = f"{title}: {left.sum():,.0f} {ylabel}, most of them {most[1]} ({most[0]:,.0f})."
    return labelled(figure, f"{title}. {ylabel}: {told}.", reading)


def _parts(row: Mapping[str, int]) -> str:
    return ", ".join(f"{part} {count}" for part, count in row.items())
