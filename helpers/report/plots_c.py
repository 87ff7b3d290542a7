"""Figures of Track C: ranks, recall against k, similarities, and the training runs (see `plots`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import NullFormatter, ScalarFormatter

from helpers.report import figure_style as look
from helpers.report.marks import OPEN, interval, legend
from helpers.report.tables import metric_name, number

RECALL = re.compile(r"recall@(\d+)")
SYSTEMS = {  # name in metrics.json -> its words, line style, marker and colour
    "after": ("tuned", "-", "o", look.AFTER),
    "bm25_and_after_weighted": ("tuned and BM25, weighted", "-.", "D", look.AFTER),
    "bm25_and_after_fused": ("tuned and BM25, fused", ":", "^", look.AFTER),
    "before": ("untouched", "--", "s", look.BEFORE),
    "bm25_and_before_weighted": ("untouched and BM25, weighted", "-.", "D", look.BEFORE),
    "bm25_and_before_fused": ("untouched and BM25, fused", ":", "^", look.BEFORE),
    "bm25": ("BM25 alone", (0, (4, 1, 1, 1)), "x", look.INK),
}


@look.styled
def rank_scatter(rows: Sequence[Mapping[str, Any]]) -> look.ReportFigure:
    """Plot the rank of the first right document before against after, both axes logarithmic.

    Args:
        rows: rows of `track_c/queries`; a rank of None (not found at all) is drawn past the worst rank.

    Raises:
        NothingToDraw: without rows.
    """
    if not rows:
        raise look.NothingToDraw("No query was ranked, so there are no ranks to show")
    ranks = [[row[key] for row in rows] for key in ("rank_before", "rank_after")]
    worst = max((r for side in ranks for r in side if r is not None), default=1)
    before, after = (np.array([worst * 1.5 if r is None else r for r in s], dtype=float) for s in ranks)
    better, same = after < before, after == before
    worse = ~better & ~same
    figure, (axis,) = look.new_figure(look.WIDTH, 3.7)
    jitter = np.random.default_rng(0).uniform(0.93, 1.07, size=(2, len(rows)))  # keeps equal ranks visible
    axis.set(xscale="log", yscale="log")
    for mask, marker, colour in (
        (better, "o", look.AFTER),
        (same, "s", look.BEFORE),
        (worse, "X", look.WORSE),
    ):
        axis.plot(
            before[mask] * jitter[0][mask], after[mask] * jitter[1][mask], marker,
            color=colour, markersize=4.5, alpha=0.75,
            **(OPEN if colour == look.BEFORE else {"markeredgewidth": 0}),
        )  # fmt: skip
    limit = max(before.max(), after.max(), 10) * 1.4
    axis.plot([0.8, limit], [0.8, limit], color=look.INK, linewidth=0.8, linestyle=":")
    axis.axhline(10.5, color=look.INK, linewidth=0.8, linestyle="--")
    axis.text(limit, 10.9, "top 10 below", ha="right", va="bottom")
    axis.set(xlim=(0.8, limit), ylim=(0.8, limit), aspect="equal")
    axis.set(xlabel="rank before", ylabel="rank after (lower is better)")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(ScalarFormatter())
        side.set_minor_formatter(NullFormatter())
    n = [int(mask.sum()) for mask in (better, same, worse)]
    marks = [
        ("o", look.AFTER, f"better {n[0]}"),
        ("s", look.BEFORE, f"same {n[1]}"),
        ("X", look.WORSE, f"worse {n[2]}"),
    ]
    legend(figure, marks)
    counts = f"{n[0]} queries better, {n[2]} worse, {n[1]} the same"
    top = [sum(rank is not None and rank <= 10 for rank in side) for side in ranks]
    return look.labelled(
        figure,
        f"Scatter of {len(rows)} queries, rank of the right function before against after: {counts}. "
        f"In the top ten: {top[0]} before, {top[1]} after.",
        f"The right function ranks higher for {n[0]} of {len(rows)} queries and lower for {n[2]}; in the top "
        f"ten it is for {top[0]} before and {top[1]} after.",
    )


@look.styled
def recall_by_k(track: Mapping[str, Any]) -> look.ReportFigure:
    """Plot the recall of every system against the number k of results that a person looks at.

    Raises:
        NothingToDraw: if recall was measured at fewer than two k.
    """
    systems = {
        side: {m: e[side] for m, e in track.get("metrics", {}).items()} for side in ("after", "before")
    }
    systems |= track.get("baselines", {})
    curves = {}
    for name in SYSTEMS:
        measured = {
            int(f[1]): e["value"] for m, e in systems.get(name, {}).items() if (f := RECALL.fullmatch(m))
        }
        if len(measured) > 1:
            curves[name] = sorted(measured.items())
    if not curves:
        raise look.NothingToDraw("Recall was not measured at several k, so there is no curve of it")
    figure, (axis,) = look.new_figure(look.WIDTH, 2.9 + 0.19 * len(curves))
    for name, points in curves.items():
        words, line, mark, colour = SYSTEMS[name]
        k, values = zip(*points, strict=True)
        face = {} if colour == look.AFTER else {"markerfacecolor": "none"}
        width = 2.2 if name in ("before", "after") else 1.1
        label = f"{words}: {number(values[-1])}"
        axis.plot(k, values, color=colour, linestyle=line, marker=mark, linewidth=width, label=label, **face)
    most = max(k for points in curves.values() for k, _ in points)
    axis.set_xticks(sorted({k for points in curves.values() for k, _ in points}))
    axis.set(xlabel="k, results looked at", ylabel="recall")
    figure.legend(loc="outside lower left", title=f"Recall at {most}", alignment="left", handlelength=3)
    told = "; ".join(
        f"{SYSTEMS[name][0]} " + ", ".join(f"{number(v)} at {k}" for k, v in points)
        for name, points in curves.items()
    )
    most_found = max(points[-1][1] for points in curves.values())
    best = [SYSTEMS[name][0] for name, points in curves.items() if points[-1][1] == most_found]
    who = best[0] if len(best) == 1 else f"each of {len(best)} systems ({', '.join(best)})"
    reading = f"Among the first {most} results, {who} finds most: {number(most_found)}"
    if {"before", "after"} <= curves.keys():
        first, last = (number(curves[side][-1][1]) for side in ("before", "after"))
        reading += f" of what there is to find; the embedder alone goes from {first} to {last}"
    return look.labelled(figure, f"Recall against k by system: {told}.", f"{reading}.")


@look.styled
def similarities(rows: Sequence[Mapping[str, Any]]) -> look.ReportFigure:
    """Plot the cosines of each query to its right function and to the best wrong one, before and after.

    Args:
        rows: rows of `track_c/queries` with `similarity_before` and `similarity_after`, (right, wrong) each.

    Raises:
        NothingToDraw: if the rows hold no similarities, as those of older runs.
    """
    sides = {
        side: np.array([pair for row in rows if _whole(pair := row.get(f"similarity_{side}"))])
        for side in ("before", "after")
    }
    if not all(len(pairs) for pairs in sides.values()):
        raise look.NothingToDraw("This run kept no similarities of right and wrong functions")
    figure, (axis,) = look.new_figure(look.WIDTH, 2.5)
    told, ahead, margins = [], [], []
    for place, (side, pairs) in enumerate(sides.items()):
        colour, mark = (look.BEFORE, "s") if side == "before" else (look.AFTER, "o")
        for row, (kind, values) in enumerate(zip(("right", "best wrong"), pairs.T, strict=True)):
            at = 2.4 * place + row
            fifth, low, middle, high, ninety_fifth = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
            dash = "-" if kind == "right" else (0, (2, 1))
            axis.plot([fifth, ninety_fifth], [at, at], color=colour, linewidth=1.2, linestyle=dash)
            axis.barh(
                at, high - low, 0.42, left=low, edgecolor=colour, linewidth=1.2, alpha=0.75,
                color=colour if kind == "right" else "none",
            )  # fmt: skip
            axis.plot(middle, at, mark, color=look.INK, markersize=5, **OPEN)
            axis.annotate(number(middle), (middle, at), (0, 9), textcoords="offset points", ha="center")
            told.append(
                f"{side} {kind}: median {number(middle)}, half between {number(low)} and {number(high)}"
            )
        ahead.append(float((pairs[:, 0] > pairs[:, 1]).mean()))
        margins.append(number(float(np.median(pairs[:, 0] - pairs[:, 1])), signed=True))
    axis.set_yticks([0, 1, 2.4, 3.4], ["before: right", "best wrong", "after: right", "best wrong"])
    axis.tick_params(axis="y", length=0)
    axis.set(ylim=(3.9, -0.75), xlabel="cosine to the query (box: middle half)")
    return look.labelled(
        figure,
        f"Cosines of {len(sides['after'])} queries to the right and to the best wrong function. "
        f"{'; '.join(told)}.",
        f"The right function is closer than every wrong one for {ahead[0]:.0%} of the queries before and "
        f"{ahead[1]:.0%} after; the median margin goes from {margins[0]} to {margins[1]}.",
    )


@look.styled
def training_points(track: Mapping[str, Any]) -> look.ReportFigure:
    """Plot the primary metric of the untouched and tuned model, of each training run and each control."""
    primary = track["primary_metric"]
    main = track["metrics"][primary]
    again = {name: c for name, c in track["controls"].items() if name.startswith("seed_")}
    points = [("untouched", main["before"], "s", look.BEFORE)]
    if "shuffled_pairs" in track["controls"]:
        points.append(("shuffled pairs", track["controls"]["shuffled_pairs"]["after"], "X", look.WORSE))
    label = f"tuned: mean of {len(again)}" if again else "tuned"
    points.append((label, main["after"], "D", look.AFTER))
    points += [
        (f"seed {name.removeprefix('seed_')} alone", c["after"], "o", look.AFTER) for name, c in again.items()
    ]
    figure, (axis,) = look.new_figure(look.WIDTH, 0.32 * len(points) + 0.8)
    for place, (_, entry, marker, colour) in enumerate(points):
        interval(axis, place, entry, marker, colour, hollow=colour == look.BEFORE)
        axis.annotate(number(entry["value"]), (entry["value"], place), (0, 5), textcoords="offset points",
                      ha="center", va="bottom")  # fmt: skip
    axis.axvline(main["before"]["value"], color=look.INK, linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(points)), [name for name, *_ in points])
    axis.tick_params(axis="y", length=0)
    axis.set(ylim=(len(points) - 0.5, -0.8), xlabel=f"{metric_name(primary)}, 95% interval")
    reading = f"The tuned embedder reaches {number(main['after']['value'])}"
    if alone := [c["after"]["value"] for c in again.values()]:
        reading += f"; single training runs reach {number(min(alone))} to {number(max(alone))}"
    told = "; ".join(f"{name} {number(entry['value'])}" for name, entry, *_ in points)
    alt = f"{metric_name(primary)} after each training run with 95% intervals: {told}."
    return look.labelled(figure, alt, f"{reading}.")


def _whole(pair: Any) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(map(look.finite, pair))
