"""Plots render without a display, carry alternative text, and cope with little data."""

import re
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.text import Text

from helpers.eval.statistics import Delta, Estimate
from helpers.report.data_plots import count_bars, distribution
from helpers.report.entries import metric_entry, not_run, track_section
from helpers.report.plots import (
    before_after_bars,
    bits_per_byte_by_file,
    delta_forest,
    loss_curve,
    png_bytes,
    rank_scatter,
    show,
)

FILES = [
    {"path": "a", "n_bytes": 100, "nll_before": 90.0, "nll_after": 70.0},
    {"path": "b", "n_bytes": 900, "nll_before": 700.0, "nll_after": 650.0},
    {"path": "c", "n_bytes": 50, "nll_before": 40.0, "nll_after": 44.0},
]
RANKS = [
    {"rank_before": 30, "rank_after": 2},
    {"rank_before": 1, "rank_after": 1},
    {"rank_before": 4, "rank_after": None},
    {"rank_before": None, "rank_after": 9},
]


def history(steps, train_loss, **more):
    return {"steps": steps, "train_loss": train_loss, **more}


def section(primary, low=0.1, high=0.3):
    entry = metric_entry(
        Estimate(0.4, (0.3, 0.5), 40),
        Estimate(0.6, (0.5, 0.7), 40),
        Delta(0.2, (low, high), 0.01, "any"),
        unit="share",
        higher_is_better=True,
    )
    metrics = {primary: entry, "pass@1/fix_bug": entry, "hallucination_rate": entry}
    return track_section("m", primary, metrics, cost={"seconds": 1}, data={"counts": {}, "sha256": "0" * 64})


def suite():
    return {
        "track_a": section("bits_per_byte"),
        "track_b": not_run("track_b", "too few functions", "forty"),
        "track_c": section("mrr@10", low=-0.1),
    }


def figures():
    steps = list(range(1, 31))
    yield loss_curve(
        history(steps, [3 / s + 1 for s in steps], validation_steps=[10, 20], validation=[1.2, 1.1])
    )
    yield loss_curve(SimpleNamespace(steps=(1,), train_loss=(2.0,)))
    yield bits_per_byte_by_file(FILES)
    yield rank_scatter(RANKS)
    yield before_after_bars(section("pass@1"), ["pass@1", "pass@1/fix_bug", "not there"])
    yield delta_forest(suite())
    yield distribution([100, 200, 40_000], title="Files are small", xlabel="bytes", unit="files")
    yield distribution([0, 0, 0], title="All the same", xlabel="bytes")
    yield count_bars({"fix_bug": {"train": 5, "test": 2}, "explain": {"train": 1}}, title="Pairs by kind")


@pytest.mark.parametrize("figure", figures(), ids=lambda f: f.get_label()[:20])
def test_plots_have_alternative_text_and_legible_labels(figure):
    image = png_bytes(figure)
    assert image.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", image[16:24])
    assert 300 < width < 1400
    assert 200 < height < 900
    assert len(figure.get_label()) > 20
    assert any(axis.get_title(loc="left") for axis in figure.axes)
    sizes = {t.get_fontsize() for t in figure.findobj(Text) if t.get_text().strip()}
    assert min(sizes) >= 9


def test_nothing_is_clipped():
    """Every visible text lies inside the picture."""
    for figure in figures():
        png_bytes(figure)
        renderer = figure.canvas.get_renderer()
        outside = [
            text.get_text()
            for text in figure.findobj(Text)
            if text.get_text().strip() and text.get_visible() and text.axes is not None
            and text in [text.axes.title, text.axes._left_title, text.axes.xaxis.label, text.axes.yaxis.label]
            and not (
                text.get_window_extent(renderer).x0 >= 0
                and text.get_window_extent(renderer).x1 <= figure.bbox.width + 1
                and text.get_window_extent(renderer).y1 <= figure.bbox.height + 1
            )
        ]  # fmt: skip
        assert outside == []


def test_the_same_figure_gives_the_same_bytes():
    assert png_bytes(rank_scatter(RANKS)) == png_bytes(rank_scatter(RANKS))


def test_counts_in_titles_come_from_the_rows():
    assert "2 of 3 files" in bits_per_byte_by_file(FILES).axes[0].get_title(loc="left")
    ranks = rank_scatter(RANKS)
    assert "2 queries better, 1 worse, 1 the same" in ranks.axes[0].get_title(loc="left")
    assert "In the top ten: 2 before, 3 after" in ranks.get_label()


def test_before_and_after_differ_without_colour():
    bars = before_after_bars(section("pass@1"), ["pass@1", "pass@1/fix_bug"]).axes[0].patches
    assert {bar.get_hatch() for bar in bars} == {"///", ""}
    paths = rank_scatter(RANKS).axes[0].collections
    assert len({len(points.get_paths()[0].vertices) for points in paths}) == 3  # three markers


def test_forest_shows_only_what_ran():
    figure = delta_forest(suite())
    assert len(figure.axes) == 2
    assert "no detectable difference" in figure.get_label()
    nothing = delta_forest({t: not_run(t, "a", "b") for t in ("track_a", "track_b", "track_c")})
    assert "No track had enough data" in nothing.get_label()
    assert png_bytes(nothing)


def test_history_of_the_embedder_is_read_too():
    """Rows instead of lists; its validation is better when higher; one point before training."""
    rows = [{"step": s, "loss": 3.0 / s} for s in (10, 20, 30, 40)]
    epochs = [{"epoch": 1.0, "mrr@10": 0.7}, {"epoch": 2.0, "mrr@10": 0.6}]
    figure = loss_curve({"steps": 40, "loss": rows, "validation": epochs, "validation_before": 0.5})
    (line, _) = figure.axes[1].lines
    assert line.get_xdata().tolist() == [0, 20, 40]
    assert line.get_ydata().tolist() == [0.5, 0.7, 0.6]
    assert figure.axes[1].get_title(loc="left") == "highest 0.700 at step 20 (square)"


def test_empty_input_is_refused():
    for draw in (
        lambda: loss_curve(history([], [])),
        lambda: loss_curve(history([1, 2], [1.0])),
        lambda: distribution([], title="t", xlabel="x"),
        lambda: count_bars({}, title="t"),
        lambda: before_after_bars(section("pass@1"), ["x"]),
    ):
        with pytest.raises(ValueError, match=r"needs at least one step|no values|nothing to count|none of"):
            draw()


def test_running_mean_of_a_constant_is_constant():
    (line,) = (
        drawn
        for drawn in loss_curve(history(list(range(40)), [1.5] * 40)).axes[0].lines
        if drawn.get_linestyle() == "--"
    )
    assert np.allclose(line.get_ydata(), 1.5)


def test_show_embeds_the_picture_with_its_words(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    show(rank_scatter(RANKS))
    show(rank_scatter(RANKS), alt='a "quoted" <text>')
    first, second = (item.data for item in shown)
    assert re.match(r'<img alt="Scatter of 4 queries', first)
    assert "data:image/png;base64," in first
    assert 'alt="a &quot;quoted&quot; &lt;text&gt;"' in second
