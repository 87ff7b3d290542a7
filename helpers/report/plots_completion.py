"""Figures of completion: the arms by kind of place, and what they gain by what is known of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from helpers.eval.completion_comparison import ARMS, PRIMARY
from helpers.report import figure_style as look
from helpers.report.marks import interval
from helpers.report.tables import number
from helpers.report.tables_completion import PRIMARY_NAME, SHORT_NAMES, kind_name

# Untouched is grey and square, adapted blue and round; with retrieved code a mark is filled.
MARKS = {
    "base": ("s", look.BEFORE, True),
    "base+retrieved": ("s", look.BEFORE, False),
    "adapted": ("o", look.AFTER, True),
    "adapted+retrieved": ("o", look.AFTER, False),
}
Row = tuple[str, Mapping[str, Any], str]  # arm, estimate, what stands at the right


@look.styled
def arms_by_kind(section: Mapping[str, Any]) -> look.ReportFigure:
    """Plot the share of exact completions of every arm, with 95% intervals: all places, then by kind.

    Raises:
        NothingToDraw: if completion was not measured.
    """
    if "arms" not in section:
        raise look.NothingToDraw("Completion was not measured, so there is no figure of its arms")
    parts = {"all places": section["arms"]}
    parts |= {kind_name(kind): arms for kind, arms in section["by_kind"].items()}
    groups, told = [], []
    for name, arms in parts.items():
        found = {arm: arms[arm][PRIMARY] for arm in ARMS if arm in arms}
        rows: list[Row] = [(arm, one, number(one["value"])) for arm, one in found.items()]
        groups.append((f"{name} (n = {found['base']['n']})", rows))
        told.append(f"{name}: " + ", ".join(f"{SHORT_NAMES[arm]} {value}" for arm, _, value in rows))
    figure, axis = _rows(groups)
    top = max(one["ci95"][1] for _, rows in groups for _, one, _ in rows) or 1.0
    axis.set(xlim=(-0.02 * top, 1.03 * top))
    axis.set_xlabel("completed exactly, with 95% interval")
    values = {arm: section["arms"][arm][PRIMARY]["value"] for arm in ARMS if arm in section["arms"]}
    best = max(values, key=lambda arm: values[arm])
    reading = (
        f"Over all places, no arm completes a larger share exactly than untouched, {number(values['base'])}. "
        if best == "base"
        else f"Over all places, {SHORT_NAMES[best]} completes the largest share exactly, "
        f"{number(values[best])}; untouched completes {number(values['base'])}. "
    ) + "The table says which differences are beyond noise."
    return look.labelled(figure, f"Share completed exactly, by kind of place. {'; '.join(told)}.", reading)


@look.styled
def gains_by_group(section: Mapping[str, Any]) -> look.ReportFigure:
    """Plot what each arm gains over the untouched model on targets that are seen, cross-file, or neither.

    Raises:
        NothingToDraw: if completion was not measured.
    """
    gains = {group: rows for group, rows in section.get("gains_by_group", {}).items() if rows}
    if not gains:
        raise look.NothingToDraw("Completion was not measured, so there is no figure of its gains")
    groups, told, beyond = [], [], []
    for group, deltas in gains.items():
        n = section["by_group"][group]["base"][PRIMARY]["n"]
        rows = [(arm, delta, number(delta["value"], signed=True)) for arm, delta in deltas.items()]
        groups.append((f"{group} (n = {n})", rows))
        told.append(f"{group}: " + ", ".join(f"{SHORT_NAMES[arm]} {v}" for arm, _, v in rows))
        beyond += [
            f"{SHORT_NAMES[arm]} on {group} targets"
            for arm, delta, _ in rows if delta["ci95"][0] > 0 or delta["ci95"][1] < 0
        ]  # fmt: skip
    figure, axis = _rows(groups)
    ends = [bound for _, rows in groups for _, delta, _ in rows for bound in delta["ci95"]]
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = 0.05 * (high - low) or 0.1
    axis.set(xlim=(low - room, high + room))
    axis.axvspan(0, high + room, color=look.AFTER, alpha=0.13, linewidth=0)
    axis.axvline(0, color=look.INK, linewidth=1)
    axis.set_xlabel("change of exact match; shaded: better")
    alt = f"Change of {PRIMARY_NAME} against the untouched model, with 95% intervals. {'; '.join(told)}."
    said = f"The interval excludes zero for {', '.join(beyond)}" if beyond else "Every interval includes zero"
    what = "Seen targets stand in the training files; cross-file ones name code of another file."
    return look.labelled(figure, alt, f"{what} {said}; these intervals are not adjusted for their number.")


def _rows(groups: Sequence[tuple[str, Sequence[Row]]]) -> tuple[look.ReportFigure, Axes]:
    """Draw a row for each arm under the heading of its group, the name at the left, a text at the right."""
    count = sum(len(rows) for _, rows in groups)
    figure, (axis,) = look.new_figure(look.WIDTH, 0.21 * count + 0.32 * len(groups) + 0.6)
    place, ticks, names = 0.0, [], []
    across = axis.get_yaxis_transform()
    for heading, rows in groups:
        axis.text(0, place, heading, fontweight="bold", va="center", transform=across)
        place += 1.1
        for arm, estimate, text in rows:
            mark, colour, hollow = MARKS[arm]
            interval(axis, place, estimate, mark, colour, hollow=hollow)
            axis.text(1.02, place, text, va="center", transform=across)
            ticks.append(place)
            names.append(SHORT_NAMES[arm])
            place += 1
        place += 0.4
    axis.set_yticks(ticks, names)
    axis.set_ylim(place - 0.6, -0.7)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x", color=look.INK, alpha=0.15, linewidth=0.6)
    axis.locator_params(axis="x", nbins=5)
    return figure, axis
