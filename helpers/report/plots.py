"""Figures of the report, drawn from metrics.json and the per-item rows, never from typed numbers.

Each function returns a `ReportFigure`: its label is the alternative text, its `reading` the one sentence
that `figure_style.show` puts beside it. A figure that lacks its data raises `NothingToDraw`, and the report
says so in its place. Here are the figures that several tracks share and those of Track A; Track B's are in
`plots_b`, Track C's in `plots_c`, those of the data in `data_plots`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from helpers.report.figure_style import (
    AFTER,
    BEFORE,
    INK,
    WIDTH,
    WORSE,
    NothingToDraw,
    ReportFigure,
    finite,
    labelled,
    new_figure,
    shortened,
    styled,
)
from helpers.report.marks import OPEN, change_line, interval, interval_rows, legend
from helpers.report.tables import TRACK_NAMES, metric_name, number, verdict_text

CONTROL_NAMES = {  # others are shown as they are, with spaces for underscores
    "general_code": "general code: forgetting",
    "foreign_corpus": "trained on foreign code instead",
    "own_instead_of_foreign": "own minus foreign training",
    "clean_twin": "clean twin: a model that never saw it",
    "changed_after_cut_off": "files changed since the cut-off",
    "general_problems": "HumanEval: forgetting",
    "foreign_package": "on a foreign package",
    "shuffled_pairs": "trained on shuffled pairs",
}
NAMED_FILES = 30  # a figure of more files leaves their names out


@styled
def loss_curve(
    history: Any,
    *,
    what: str = "Training",
    train_unit: str = "nats per token",
    validation_unit: str = "nats per token",
) -> ReportFigure:
    """Plot the training loss by optimizer step with the validation points, in two panels if units differ.

    Args:
        history: from `helpers.train`, as object or as the mapping read back from its JSON. Steps without a
            finite value are left out.

    Raises:
        NothingToDraw: if there are no steps.
        ValueError: if steps and values differ in length.
    """
    training, validation, higher = _series(history)
    if not training:
        raise NothingToDraw(f"{what}: no training step was logged, so there is no loss curve")
    steps, losses = zip(*training, strict=True)
    panels = 2 if validation and train_unit != validation_unit else 1
    figure, axes = new_figure(WIDTH, 1.9 * panels + 0.3, panels, vertical=True)
    smooth = _running_mean(np.asarray(losses, dtype=float))
    axes[0].plot(steps, losses, color=BEFORE, linewidth=0.8, alpha=0.8, label="each step")
    axes[0].plot(steps, smooth, color=INK, linewidth=1.4, linestyle="--", label="running mean")
    axes[0].set_title(f"{'training ' if panels == 2 else ''}loss, {train_unit}")
    reading = f"{what}: the training loss goes from {number(smooth[0])} to {number(smooth[-1])} {train_unit}"
    alt = f"{what}: training loss over {len(steps)} steps, from {number(smooth[0])} to {number(smooth[-1])}"
    alt += f" {train_unit} as a running mean."
    if validation:
        at, values = zip(*validation, strict=True)
        best = int(np.argmax(values) if higher else np.argmin(values))
        axes[-1].plot(at, values, "o-", color=AFTER, markersize=5, linewidth=1.8, label="validation")
        axes[-1].plot(at[best], values[best], "s", markersize=11, color=INK, **OPEN)
        above = higher or panels == 1
        axes[-1].annotate(
            number(values[best]), (at[best], values[best]), (0, 8 if above else -8),
            textcoords="offset points", ha="center", va="bottom" if above else "top",
        )  # fmt: skip
        axes[-1].margins(y=0.05 if panels == 1 else 0.25)
        extreme = f"{'highest' if higher else 'lowest'}, {number(values[best])}, at step {at[best]}"
        reading += f"; validation is {extreme} (square)"
        points = ", ".join(f"{number(value)} at step {step}" for step, value in validation)
        alt += f" Validation in {validation_unit} is {extreme}: {points}."
    if panels == 2:
        axes[1].set_title(f"validation, {validation_unit}")
    axes[-1].set_xlabel("optimizer step")
    handles = axes[0].get_legend_handles_labels()  # above the axes: within, they would cover points
    figure.legend(
        *handles, loc="outside upper left", ncols=3, handlelength=1.5, columnspacing=0.9, borderpad=0.1
    )
    return labelled(figure, alt, f"{reading}.")


@styled
def bits_per_byte_by_file(rows: Sequence[Mapping[str, Any]]) -> ReportFigure:
    """Plot bits per byte by row of `track_a/files`, before and after, the costliest file first.

    Raises:
        NothingToDraw: if no row has both values.
    """
    sides = ("nll_before", "nll_after")
    whole = [row for row in rows if row.get("n_bytes") and all(finite(row.get(side)) for side in sides)]
    files = [
        (str(row.get("path", "")), *(row[side] / math.log(2) / row["n_bytes"] for side in sides))
        for row in whole
    ]
    if not files:
        raise NothingToDraw("No held-out file has a score before and after, so there is no figure by file")
    files.sort(key=lambda file: (-file[1], file[0]))
    named = len(files) <= NAMED_FILES
    figure, (axis,) = new_figure(WIDTH, (0.34 if named else 0.09) * len(files) + 0.95)
    low, high = (pick(value for file in files for value in file[1:]) for pick in (min, max))
    room = 0.06 * (high - low) or 0.1
    for place, (path, before, after) in enumerate(files):
        change_line(axis, place, before, after, better=after < before)
        if named:
            axis.text(low - room, place - 0.36, shortened(path, 44), va="center")
    axis.set(xlim=(low - room, high + room), ylim=(len(files) - 0.5, -0.85), yticks=[])
    axis.set_xlabel("bits per byte (left is better)")
    axis.spines["left"].set_visible(False)
    won = sum(after < before for _, before, after in files)
    marks = [("s", BEFORE, "before"), ("o", AFTER, "after, lower"), ("X", WORSE, "after, higher")]
    legend(figure, marks if won < len(files) else marks[:2])
    middle = float(np.median([after - before for _, before, after in files]))
    told = "; ".join(f"{path} {number(before)} to {number(after)}" for path, before, after in files)
    return labelled(
        figure,
        f"Bits per byte of {len(files)} held-out files before and after, costliest first: {told}.",
        f"{won} of {len(files)} held-out files cost fewer bits per byte after training, {len(files) - won} "
        f"do not; the median file changes by {number(middle, signed=True)}.",
    )


@styled
def before_after_dots(track: Mapping[str, Any], names: Sequence[str], *, what: str = "") -> ReportFigure:
    """Plot metrics of one track before and after, with 95% intervals, a row each.

    Args:
        names: metrics; those that the track lacks are left out.
        what: begins the sentence beside the figure; by default the name that the metrics share.

    Raises:
        NothingToDraw: if the track has none of them.
    """
    entries = {name: track["metrics"][name] for name in names if name in track.get("metrics", {})}
    if not entries:
        raise NothingToDraw(f"None of the metrics {', '.join(map(metric_name, names))} was measured")
    common = {name.partition("/")[0] for name in entries}
    shared = metric_name(common.pop()) if len(common) == 1 and len(entries) > 1 else ""
    words = {name: metric_name(name).removeprefix(f"{shared} · ") for name in entries}
    rows = [(f"{words[name]} (n = {entry['after']['n']})", entry) for name, entry in entries.items()]
    figure, told = interval_rows([("", rows)], unit=shared or "share or score")
    ends = {name: entry["delta"]["ci95"] for name, entry in entries.items()}
    moved = {
        "higher": [words[name] for name, (low, _) in ends.items() if low > 0],
        "lower": [words[name] for name, (_, high) in ends.items() if high < 0],
        "not detectably different": [words[name] for name, (low, high) in ends.items() if low <= 0 <= high],
    }
    said = "; ".join(f"{how}: {', '.join(some)}" for how, some in moved.items() if some)
    reading = f"{what or shared or 'Metrics'} after training. {said[0].upper()}{said[1:]}."
    return labelled(figure, f"{shared} before and after with 95% intervals: {told}.".lstrip(), reading)


@styled
def delta_forest(metrics: Mapping[str, Any]) -> ReportFigure:
    """Plot the change of each track's primary metric and of its controls, with a line at no change.

    Controls are what was forgotten, what foreign data does, shuffled pairs and the like, where measured.

    Args:
        metrics: metrics.json, or a part of it with at least one track.
    """
    tracks = [(t, metrics[t]) for t in TRACK_NAMES if t in metrics and metrics[t]["verdict"] != "not_run"]
    if not tracks:
        raise NothingToDraw("No track had enough data, so there is no change to show")
    panels = [(TRACK_NAMES[name], track, _changes(track)) for name, track in tracks]
    heights = [0.36 * len(rows) + 0.3 for *_, rows in panels]
    figure = ReportFigure(figsize=(WIDTH, sum(heights) + 0.45 * len(panels) + 0.3), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights).flat
    told, readings = [], []
    for axis, (title, track, rows) in zip(axes, panels, strict=True):
        higher = track["metrics"][track["primary_metric"]]["higher_is_better"]
        axis.set_title(f"{title}: {metric_name(track['primary_metric'])}", fontweight="bold")
        _forest(axis, rows, higher=higher)
        told += [f"{title}, {_change_in_words(name, entry)}" for name, entry in rows]
        _, entry = rows[0]
        readings.append(f"{title[0]}: {number(entry['delta']['value'], signed=True)}, {verdict_text(track)}")
    axis.set_xlabel("after − before with 95% interval; shaded: better")
    return labelled(
        figure,
        f"Changes with 95% intervals, each track in its own unit. {'; '.join(told)}.",
        f"Change of the primary metric (filled) beside the controls (hollow). {'; '.join(readings)}.",
    )


def _changes(track: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (name, entry) of the primary metric and of every control that has a change in its unit."""
    primary = track["metrics"][track["primary_metric"]]
    rows = [("this repository", primary)]
    for name, entry in track.get("controls", {}).items():
        alike = isinstance(entry, Mapping) and "delta" in entry and entry.get("unit") == primary["unit"]
        if alike and not name.startswith("seed_"):
            rows.append((CONTROL_NAMES.get(name, name.replace("_", " ")), entry))
    return rows


def _change_in_words(name: str, entry: Mapping[str, Any]) -> str:
    value, low, high = (
        number(figure, signed=True) for figure in (entry["delta"]["value"], *entry["delta"]["ci95"])
    )
    return f"{name} {value} [{low}, {high}], n = {entry['after']['n']}"


def _forest(axis: Axes, rows: Sequence[tuple[str, Mapping[str, Any]]], *, higher: bool) -> None:
    ends = [bound for _, entry in rows for bound in entry["delta"]["ci95"]]
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = 0.08 * (high - low) or 1e-9
    low, high = low - room, high + room
    axis.axvspan(*((0, high) if higher else (low, 0)), color=AFTER, alpha=0.13, linewidth=0)
    axis.axvline(0, color=INK, linewidth=1)
    for place, (name, entry) in enumerate(rows):
        mark, colour = ("D", AFTER) if place == 0 else ("o", INK)
        interval(axis, place + 0.15, entry["delta"], mark, colour, hollow=place > 0)
        axis.text(low, place - 0.27, shortened(f"{name} (n = {entry['after']['n']})", 40), va="center")
        value = number(entry["delta"]["value"], signed=True)
        axis.text(high, place - 0.27, value, ha="right", va="center")
    axis.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.65), yticks=[])
    axis.spines["left"].set_visible(False)
    axis.locator_params(axis="x", nbins=5)


@styled
def cost_bars(metrics: Mapping[str, Any]) -> ReportFigure:
    """Plot the seconds and the memory of every stage of every track that ran.

    Raises:
        NothingToDraw: if no track ran.
    """
    stages = []
    for track in TRACK_NAMES:
        cost = metrics.get(track, {}).get("cost") or {}
        memory = cost.get("memory_by_stage", {})
        for stage, seconds in cost.get("seconds_by_stage", {}).items():
            name = f"{track[-1].upper()} {stage.replace('_', ' ')}"
            stages.append((name, seconds, memory.get(stage, {}).get("peak_gib")))
        spent = [value for value in cost.get("controls_seconds", {}).values() if finite(value)]
        if spent:
            stages.append((f"{track[-1].upper()} controls", sum(spent), None))
    stages = [stage for stage in stages if finite(stage[1])]
    if not stages:
        raise NothingToDraw("No track ran, so there is no time or memory to show")
    figure, axes = new_figure(WIDTH, 0.22 * len(stages) + 0.75, 2)
    names, seconds, memory = zip(*stages, strict=True)
    for axis, values, unit, places in ((axes[0], seconds, "seconds", 0), (axes[1], memory, "GiB, peak", 1)):
        drawn = [value if finite(value) else 0.0 for value in values]
        axis.barh(range(len(names)), drawn, 0.62, color=AFTER)
        for place, value in enumerate(values):
            text = f"{value:.{places}f}" if finite(value) else "–"
            axis.annotate(text, (drawn[place], place), (3, 0), textcoords="offset points", va="center")
        axis.set(xlim=(0, (max(drawn) or 1) * 1.5), ylim=(len(names) - 0.4, -0.6), yticks=[], xticks=[])
        axis.set_title(unit)
        axis.spines["bottom"].set_visible(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].tick_params(length=0)
    longest = max(stages, key=lambda stage: stage[1])
    told = "; ".join(f"{n} {s:.0f} s{f', {m:.1f} GiB' if finite(m) else ''}" for n, s, m in stages)
    reading = (
        f"The stages took {sum(seconds) / 60:.1f} minutes, {longest[0]} the most of it ({longest[1]:.0f} s)"
    )
    peaks = [stage for stage in stages if finite(stage[2])]
    if peaks:
        peak = max(peaks, key=lambda stage: stage[2])
        reading += f"; the process held at most {peak[2]:.1f} GiB, in {peak[0]}"
    return labelled(figure, f"Seconds and peak memory by stage: {told}.", f"{reading}.")


def _series(history: Any) -> tuple[list[tuple[int, float]], list[tuple[int, float]], bool]:
    """Return (step, loss), (step, validation value), and whether higher validation is better.

    Language models keep lists (`TrainingHistory`) and validate by a loss. The embedder keeps one row per
    logged step and per validated epoch and validates by a retrieval measure.
    """
    fields = history if isinstance(history, Mapping) else vars(history)
    if "loss" in fields:
        epochs = fields.get("validation") or []
        per_epoch = fields["steps"] / max((row["epoch"] for row in epochs), default=1)
        training = [(row["step"], row["loss"]) for row in fields["loss"]]
        validation = [(0, fields.get("validation_before"))]
        validation += [(round(row["epoch"] * per_epoch), row["mrr@10"]) for row in epochs]
    else:
        names = ("steps", "train_loss", "validation_steps", "validation")
        steps, losses, at, values = (list(fields.get(name) or ()) for name in names)
        if len(steps) != len(losses) or len(at) != len(values):
            raise ValueError("a loss curve needs one value for each step")
        training, validation = (list(zip(*both, strict=True)) for both in ((steps, losses), (at, values)))
    drawn = [[(step, value) for step, value in some if finite(value)] for some in (training, validation)]
    return drawn[0], drawn[1], "loss" in fields


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Return the centred mean over about a tenth of the curve; fewer values at its ends."""
    width = max(1, len(values) // 10) | 1
    kernel = np.ones(width)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
