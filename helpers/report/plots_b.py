"""Figures of Track B: pass@k by kind of task, and what became of each answer (see `plots`)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from helpers.eval.failures_b import OUTCOMES, outcome
from helpers.records import EXECUTABLE, ResponseScore
from helpers.report import figure_style as look
from helpers.report.marks import interval_rows
from helpers.report.tables import number

PASS_RATE = re.compile(r"pass@(\d+)(_sampled)?(?:/(.+))?")
HATCHES = {"passed": "", "wrong": "///", "error": "---", "timeout": "xxx", "no code": "\\\\\\"}
GAP = 0.035  # between two outcomes, as a share of all answers


@look.styled
def pass_rates(track: Mapping[str, Any]) -> look.ReportFigure:
    """Plot pass@k before and after, with 95% intervals, over all tasks and by kind of task.

    Raises:
        NothingToDraw: if the track has no pass@k.
    """
    groups: dict[str, list[tuple[tuple[bool, int], str, Mapping[str, Any]]]] = {}
    for name, entry in track.get("metrics", {}).items():
        if not (found := PASS_RATE.fullmatch(name)):
            continue
        k, sampled, kind = int(found[1]), bool(found[2]) or int(found[1]) > 1, found[3] or ""
        row = f"pass@{k}, {'sampled' if sampled else 'greedy'}"
        groups.setdefault(kind, []).append(((sampled, k), row, entry))
    if not groups:
        raise look.NothingToDraw("Track B measured no pass@k, so there is no figure of it")
    drawn = [
        (
            f"{kind.replace('_', ' ') or 'all kinds'}, n = {rows[0][2]['after']['n']}",
            [(name, entry) for _, name, entry in sorted(rows, key=lambda row: row[0])],
        )
        for kind, rows in sorted(groups.items())
    ]
    figure, told = interval_rows(drawn, unit="share of tasks solved")
    first = groups.get("") or next(iter(groups.values()))
    entry = min(first, key=lambda row: row[0])[2]
    low, high = entry["delta"]["ci95"]
    beyond = "beyond noise" if low > 0 or high < 0 else "within noise"
    reading = (
        f"With one greedy answer, the share of tasks solved goes from {number(entry['before']['value'])} to "
        f"{number(entry['after']['value'])} ({beyond}, n = {entry['after']['n']})."
    )
    return look.labelled(figure, f"pass@k before and after with 95% intervals: {told}.", reading)


@look.styled
def outcome_flow(before: Sequence[ResponseScore], after: Sequence[ResponseScore]) -> look.ReportFigure:
    """Plot what became of the greedy answers to the executable tasks, before and after, as flows.

    Tasks without an answer on both sides, and answers that this machine could not judge, are left out.

    Raises:
        NothingToDraw: if no task is left.
    """
    sides = [
        {s.task_id: outcome(s) for s in scores if s.sample == 0 and s.kind in EXECUTABLE}
        for scores in (before, after)
    ]
    tasks = [task for task in sides[0] if all(side.get(task) for side in sides)]
    if not tasks:
        raise look.NothingToDraw(
            "No executable task was answered before and after, so there is no flow to show"
        )
    flows = Counter((sides[0][task], sides[1][task]) for task in tasks)
    counts = [Counter(side[task] for task in tasks) for side in sides]
    shown = [name for name in OUTCOMES if any(count[name] for count in counts)]
    figure, (axis,) = look.new_figure(look.WIDTH, 3.3)
    tops = [_blocks(axis, place, count, shown, len(tasks)) for place, count in enumerate(counts)]
    _ribbons(axis, flows, shown, tops, len(tasks))
    axis.set(xlim=(-0.72, 1.72), ylim=(1 + GAP * len(shown), -0.14))
    axis.set_axis_off()
    for place, name in enumerate(("before", "after")):
        axis.text(place, -0.1, name, ha="center", va="center", fontweight="bold")
    won, lost = (sum(n for (a, b), n in flows.items() if (b if up else a) == "passed" and a != b)
                 for up in (True, False))  # fmt: skip
    told = "; ".join(f"{a} to {b} {n}" for (a, b), n in sorted(flows.items(), key=lambda flow: -flow[1]))
    passed = " before and ".join(str(count["passed"]) for count in counts)
    return look.labelled(
        figure,
        f"Outcomes of the greedy answers to {len(tasks)} tasks before and after: {told}.",
        f"Of {len(tasks)} tasks run by unit tests, {passed} after training pass: {won} gained (dark bands "
        f"into passed), {lost} lost (those out of it).",
    )


def _blocks(
    axis: Axes, place: int, count: Counter[str], shown: Sequence[str], total: int
) -> dict[str, float]:
    """Draw one side's outcomes as blocks with their counts, and return the top of each."""
    top, tops = 0.0, {}
    for name in shown:
        height = count[name] / total
        tops[name] = top
        if height:
            colour = look.AFTER if name == "passed" else look.BEFORE
            axis.bar(
                place, height, 0.16, bottom=top, color=colour if name == "passed" else "none",
                edgecolor=look.INK, hatch=HATCHES[name], linewidth=0.8,
            )  # fmt: skip
        side = -1 if place == 0 else 1
        axis.text(
            place + 0.12 * side, top + height / 2, f"{name} {count[name]}",
            ha="right" if place == 0 else "left", va="center",
        )  # fmt: skip
        top += height + GAP + (0.02 if height < 0.02 else 0)
    return tops


def _ribbons(
    axis: Axes,
    flows: Mapping[tuple[str, str], int],
    shown: Sequence[str],
    tops: Sequence[Mapping[str, float]],
    total: int,
) -> None:
    """Draw a band for every pair of outcomes; those into and out of `passed` have colours of their own."""
    x = np.linspace(0.08, 0.92, 40)
    ease = (1 - np.cos(np.linspace(0, np.pi, 40))) / 2
    left, right = (dict(side) for side in tops)
    for source in shown:
        for target in shown:
            height = flows.get((source, target), 0) / total
            if not height:
                continue
            top = left[source] + (right[target] - left[source]) * ease
            left[source] += height
            right[target] += height
            won, lost = target == "passed", source == "passed"
            colour = look.BEFORE if won == lost else look.AFTER if won else look.WORSE
            axis.fill_between(
                x, top, top + height, color=colour, alpha=0.6 if won or lost else 0.28, linewidth=0
            )
