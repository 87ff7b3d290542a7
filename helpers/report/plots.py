"""Plots of the report, drawn from metrics.json and the per-item rows, never from typed numbers.

Each function returns a matplotlib `Figure` whose label is its alternative text; `show` embeds it in the
notebook as an image that carries that text. Titles state the finding. Before and after differ in marker,
hatch or line style as well as in colour, so a greyscale print stays readable. Figures are made without
pyplot: no display, no global state, nothing to close.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from helpers.report.tables import TRACK_NAMES, metric_name, number, verdict_text

BEFORE, AFTER, WORSE = "#9a9a9a", "#1f4e79", "#c2410c"
DPI = 110
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "hatch.linewidth": 0.8,
    "text.parse_math": False,  # a dollar sign in a name is no formula
}
styled = matplotlib.rc_context(STYLE)  # decorator that applies the style while a figure is drawn


def show(figure: Figure, alt: str = "") -> None:
    """Display a figure in a notebook as a PNG with alternative text (by default its label)."""
    from IPython.display import HTML, display

    text = html.escape(alt or figure.get_label(), quote=True)
    image = base64.b64encode(png_bytes(figure)).decode()
    display(HTML(f'<img alt="{text}" src="data:image/png;base64,{image}" style="max-width:100%">'))


def png_bytes(figure: Figure) -> bytes:
    """Render the figure as PNG at 110 dpi; the same figure gives the same bytes."""
    stream = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()


@styled
def loss_curve(
    history: Any,
    *,
    what: str = "Training",
    train_unit: str = "nats per token",
    validation_unit: str = "nats per token",
) -> Figure:
    """Plot the training loss by optimizer step, and validation in its own panel (its unit may differ).

    Args:
        history: from `helpers.train`, as object or as the mapping read back from its JSON.

    Raises:
        ValueError: if there are no steps, or steps and values differ in length.
    """
    steps, train_loss, validation_steps, validation, higher = _series(history)
    if not steps or len(steps) != len(train_loss) or len(validation_steps) != len(validation):
        raise ValueError("a loss curve needs at least one step, and one value for each step")
    panels = 2 if len(validation) else 1
    figure, axes = new_figure(4.6 * panels, 3.3, panels)
    axes[0].plot(steps, train_loss, color=BEFORE, linewidth=1, label="each step")
    smooth = _running_mean(np.asarray(train_loss, dtype=float))
    axes[0].plot(steps, smooth, color=AFTER, linewidth=2, linestyle="--", label="running mean")
    axes[0].set(xlabel="optimizer step", ylabel=f"training loss, {train_unit}")
    axes[0].set_title(f"{what}: loss from {number(smooth[0])} to {number(smooth[-1])}")
    axes[0].legend()
    alt = f"{what}: training loss by step, from {number(smooth[0])} to {number(smooth[-1])} {train_unit}."
    if panels == 2:
        best = int(np.argmax(validation) if higher else np.argmin(validation))
        extreme = "highest" if higher else "lowest"
        axes[1].plot(validation_steps, validation, "o-", color=AFTER, markersize=5)
        square: dict[str, Any] = {"markersize": 11, "markerfacecolor": "none", "color": "black"}
        axes[1].plot(validation_steps[best], validation[best], "s", **square)
        axes[1].set(xlabel="optimizer step", ylabel=f"validation, {validation_unit}")
        axes[1].set_title(f"{extreme} {number(validation[best])} at step {validation_steps[best]} (square)")
        alt += f" Validation is {extreme}, {number(validation[best])}, at step {validation_steps[best]}."
    return labelled(figure, alt)


@styled
def bits_per_byte_by_file(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot bits per byte by row of `track_a/files`, before against after; below the diagonal is better."""
    size = np.array([row["n_bytes"] for row in rows], dtype=float)
    nats = (np.array([row[key] for row in rows]) for key in ("nll_before", "nll_after"))
    before, after = (of_files / np.log(2) / size for of_files in nats)
    figure, (axis,) = new_figure(5.2, 4.8)
    area = 18 + 90 * np.sqrt(size / size.max())
    better = after < before
    axis.scatter(
        before[better], after[better], s=area[better], marker="o", color=AFTER, alpha=0.65,
        edgecolors="white", linewidths=0.5, label="lower",
    )  # fmt: skip
    axis.scatter(
        before[~better], after[~better], s=area[~better], marker="X", color=WORSE,
        edgecolors="black", linewidths=0.5, label="higher or equal",
    )  # fmt: skip
    low, high = min(before.min(), after.min()), max(before.max(), after.max())
    room = 0.05 * (high - low) or 0.1
    ends = (low - room, high + room)
    axis.plot(ends, ends, color="black", linewidth=0.8, linestyle=":", label="no change")
    axis.set(xlim=ends, ylim=ends, aspect="equal")
    axis.legend(loc="upper left")
    axis.set(xlabel="before, bits per byte", ylabel="after, bits per byte")
    won, lost = int(better.sum()), int((~better).sum())
    axis.set_title(f"{won} of {len(rows)} files cost fewer bits, {lost} do not\n(area: file size)")
    alt = (
        f"Scatter of {len(rows)} held-out files, bits per byte before against after; "
        f"{won} lie below the diagonal (better), {lost} on or above it."
    )
    return labelled(figure, alt)


@styled
def rank_scatter(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot the rank of the first right document before against after, both axes logarithmic.

    Args:
        rows: rows of `track_c/queries`; a rank of None (not found at all) is drawn past the worst rank.
    """
    ranks = [[row[key] for row in rows] for key in ("rank_before", "rank_after")]
    worst = max((r for side in ranks for r in side if r is not None), default=1)
    before, after = (np.array([worst * 1.5 if r is None else r for r in s], dtype=float) for s in ranks)
    better, same = after < before, after == before
    worse = ~better & ~same
    figure, (axis,) = new_figure(5.2, 4.8)
    jitter = np.random.default_rng(0).uniform(0.93, 1.07, size=(2, len(rows)))  # keeps equal ranks visible
    axis.set(xscale="log", yscale="log")
    for mask, marker, colour, label in (
        (better, "o", AFTER, "better"), (same, "s", BEFORE, "same"), (worse, "x", WORSE, "worse"),
    ):  # fmt: skip
        face = {} if marker == "x" else {"edgecolors": "white", "linewidths": 0.4}
        axis.scatter(
            before[mask] * jitter[0][mask], after[mask] * jitter[1][mask],
            s=30, marker=marker, color=colour, label=f"{label} ({int(mask.sum())})", alpha=0.8, **face,
        )  # fmt: skip
    limit = max(before.max(), after.max(), 10) * 1.4
    axis.plot([0.8, limit], [0.8, limit], color="black", linewidth=0.8, linestyle=":")
    axis.axhline(10.5, color="black", linewidth=0.8, linestyle="--")
    axis.text(1.01, 10.5, "↓ top 10", fontsize=9, va="center", transform=axis.get_yaxis_transform())
    axis.set(xlim=(0.8, limit), ylim=(0.8, limit), aspect="equal")
    axis.set(xlabel="rank before", ylabel="rank after")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(ScalarFormatter())
    counts = f"{int(better.sum())} queries better, {int(worse.sum())} worse, {int(same.sum())} the same"
    axis.set_title(f"Rank of the right function:\n{counts}")
    axis.legend(loc="upper left")
    top = [int((side <= 10).sum()) for side in (before, after)]
    alt = (
        f"Scatter of {len(rows)} queries, rank before against rank after on logarithmic axes: {counts}. "
        f"In the top ten: {top[0]} before, {top[1]} after."
    )
    return labelled(figure, alt)


@styled
def before_after_bars(track: Mapping[str, Any], names: Sequence[str]) -> Figure:
    """Plot metrics of one track before and after, with 95% intervals; names that it lacks are left out."""
    names = [name for name in names if name in track["metrics"]]
    if not names:
        raise ValueError("the track has none of the metrics to draw")
    figure, (axis,) = new_figure(max(5.0, 1.25 * len(names) + 1.5), 3.8)
    places = np.arange(len(names))
    for offset, side, colour, hatch in ((-0.2, "before", "white", "///"), (0.2, "after", "#8fb1d6", "")):
        entries = [track["metrics"][name][side] for name in names]
        values = np.array([entry["value"] for entry in entries])
        low, high = np.array([entry["ci95"] for entry in entries]).T
        axis.bar(
            places + offset, values, 0.38, color=colour, hatch=hatch, edgecolor="black", linewidth=0.8,
            yerr=[np.maximum(values - low, 0), np.maximum(high - values, 0)], capsize=3,
            error_kw={"linewidth": 1.1, "ecolor": "black"}, label=side,
        )  # fmt: skip
        for place, value, top in zip(places + offset, values, high, strict=True):
            axis.text(place, max(top, value) + 0.012, number(value), ha="center", va="bottom", fontsize=9)
    lines = [re.split(" · |, ", metric_name(name)) for name in names]
    items = [track["metrics"][name]["after"]["n"] for name in names]
    labels = ["\n".join([*parts, f"n = {n}"]) for parts, n in zip(lines, items, strict=True)]
    axis.set_xticks(places, labels)
    top = max(track["metrics"][n][s]["ci95"][1] for n in names for s in ("before", "after"))
    axis.set(ylim=(0, max(top * 1.22, 0.05)), ylabel="share or score, 0 to 1")
    axis.legend(loc="upper left", ncols=2)
    primary = track["metrics"].get(track["primary_metric"], track["metrics"][names[0]])
    seen = f"{number(primary['before']['value'])} → {number(primary['after']['value'])}"
    axis.set_title(f"{metric_name(track['primary_metric'])}: {seen} (whiskers: 95% intervals)")
    alt = "Bars before and after with 95% intervals. " + "; ".join(
        f"{metric_name(n)} {number(track['metrics'][n]['before']['value'])} to "
        f"{number(track['metrics'][n]['after']['value'])}"
        for n in names
    )
    return labelled(figure, f"{alt}.")


@styled
def delta_forest(metrics: Mapping[str, Any]) -> Figure:
    """Plot the change of each track's primary metric with its interval and a line at no change."""
    tracks = [(t, metrics[t]) for t in TRACK_NAMES if metrics[t]["verdict"] != "not_run"]
    if not tracks:
        figure, (axis,) = new_figure(7.2, 1.2)
        axis.set_axis_off()
        axis.set_title("No track had enough data: there is no change to show")
        return labelled(figure, "No track had enough data; there is no change to show.")
    figure, axes = new_figure(7.2, 1.35 * len(tracks) + 0.6, len(tracks), vertical=True)
    told = []
    for axis, (name, track) in zip(axes, tracks, strict=True):
        entry = track["metrics"][track["primary_metric"]]
        delta, (low, high) = entry["delta"], entry["delta"]["ci95"]
        reach = max(abs(low), abs(high), 1e-9) * 1.25
        better = (0, reach) if entry["higher_is_better"] else (-reach, 0)
        axis.axvspan(*better, color="#e8eef5", zorder=0)
        axis.axvline(0, color="black", linewidth=1)
        axis.errorbar(
            delta["value"], 0, xerr=[[delta["value"] - low], [high - delta["value"]]],
            fmt="D", color=AFTER, capsize=5, markersize=7, linewidth=2,
        )  # fmt: skip
        axis.set(xlim=(-reach, reach), ylim=(-1, 1), yticks=[])
        axis.spines["left"].set_visible(False)
        value, least, most = (number(figure, signed=True) for figure in (delta["value"], low, high))
        change = f"{value} [{least}, {most}], {verdict_text(track)}"
        text = f"{TRACK_NAMES[name]}: {metric_name(track['primary_metric'])} {change}"
        axis.set_title(text, fontsize=10)
        told.append(text)
    axes[-1].set_xlabel(
        "after − before with 95% interval; the shaded side is better, each axis in its own unit"
    )
    return labelled(figure, "Change of the primary metrics with intervals. " + "; ".join(told) + ".")


@styled
def training_points(track: Mapping[str, Any]) -> Figure:
    """Plot Track C's primary metric for the untouched and tuned model, each training run and each control."""
    primary = track["primary_metric"]
    main = track["metrics"][primary]
    again = {name: c for name, c in track["controls"].items() if name.startswith("seed_")}
    points = [("untouched", main["before"], "s", BEFORE)]
    if "shuffled_pairs" in track["controls"]:
        points.append(("shuffled pairs", track["controls"]["shuffled_pairs"]["after"], "X", WORSE))
    label = f"tuned: mean of {len(again)}" if again else "tuned"
    points.append((label, main["after"], "D", AFTER))
    points += [
        (f"seed {name.removeprefix('seed_')} alone", c["after"], "o", AFTER) for name, c in again.items()
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
    title = f"Tuned: {number(main['after']['value'])}"
    if alone := [c["after"]["value"] for c in again.values()]:
        title += f"; single training runs {number(min(alone))} to {number(max(alone))}"
    axis.set_title(f"{title} (95% intervals)")
    told = "; ".join(f"{name} {number(entry['value'])}" for name, entry, *_ in points)
    return labelled(figure, f"{metric_name(primary)} after each training run with 95% intervals: {told}.")


def new_figure(
    width: float, height: float, panels: int = 1, *, vertical: bool = False
) -> tuple[Figure, list[Axes]]:
    """Create a figure with constrained layout, its panels side by side or `vertical`."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(*((panels, 1) if vertical else (1, panels)), squeeze=False)
    return figure, list(axes.flat)


def labelled(figure: Figure, alt: str) -> Figure:
    """Attach the alternative text and return the figure."""
    figure.set_label(alt)
    return figure


def _series(history: Any) -> tuple[list, list, list, list, bool]:
    """Return steps, losses, validation steps, validation values, and whether higher validation is better.

    Language models keep lists (`TrainingHistory`) and validate by a loss. The embedder keeps one row per
    logged step and per validated epoch and validates by a retrieval measure.
    """
    fields = history if isinstance(history, Mapping) else vars(history)
    if "loss" not in fields:
        names = ("steps", "train_loss", "validation_steps", "validation")
        return *(list(fields.get(name, ())) for name in names), False
    epochs = fields["validation"]
    per_epoch = fields["steps"] / max((row["epoch"] for row in epochs), default=1)
    points = [(round(row["epoch"] * per_epoch), row["mrr@10"]) for row in epochs]
    if fields.get("validation_before") is not None:
        points.insert(0, (0, fields["validation_before"]))
    losses = [(row["step"], row["loss"]) for row in fields["loss"]]
    return *([p[i] for p in some] for some in (losses, points) for i in (0, 1)), True


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Return the centred mean over about a tenth of the curve; fewer values at its ends."""
    width = max(1, len(values) // 10) | 1
    kernel = np.ones(width)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
