"""Figures: their words say what the numbers say, in every ink; they cope with little data and odd names."""

from __future__ import annotations

import copy
import io
import json
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from bs4 import BeautifulSoup
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from helpers.eval.statistics import Delta, Estimate
from helpers.records import ResponseScore
from helpers.report import figure_style
from helpers.report.data_plots import FunnelStep, count_bars, data_funnel, distribution, funnel_steps
from helpers.report.entries import metric_entry, not_run, track_section
from helpers.report.figure_style import (
    AFTER,
    BEFORE,
    LEAST_POINTS,
    WORSE,
    NothingToDraw,
    figure_html,
    png_bytes,
    shortened,
    show,
    svg_markup,
)
from helpers.report.plots import before_after_dots, bits_per_byte_by_file, cost_bars, delta_forest, loss_curve
from helpers.report.plots_b import outcome_flow, pass_rates
from helpers.report.plots_c import rank_scatter, recall_by_k, similarities, training_points
from helpers.tracks.guards import Guards

PHONE_PX = 326  # what a page 390 CSS pixels wide leaves for a figure, with all margins
LN2 = float(np.log(2))
FILES = [
    {"path": "a", "n_bytes": 100, "nll_before": 90.0, "nll_after": 70.0},
    {"path": "b", "n_bytes": 900, "nll_before": 700.0, "nll_after": 650.0},
    {"path": "c", "n_bytes": 50, "nll_before": 40.0, "nll_after": 44.0},
]
QUERIES = [
    {"rank_before": 30, "rank_after": 2, "similarity_before": [0.3, 0.5], "similarity_after": [0.6, 0.5]},
    {"rank_before": 1, "rank_after": 1, "similarity_before": [0.7, 0.4], "similarity_after": [0.8, 0.4]},
    {"rank_before": 4, "rank_after": None, "similarity_before": [0.5, 0.6], "similarity_after": None},
    {"rank_before": None, "rank_after": 9, "similarity_before": None, "similarity_after": [0.5, 0.7]},
]
HOSTILE = "<script>alert(1)</script>/$x_1$ ]]>&amp;\x1b[31m\u202e\"'.py"


def history(steps, train_loss, **more):
    return {"steps": steps, "train_loss": train_loss, **more}


def entry(before=0.4, after=0.6, *, n=40, higher=True):
    change = after - before
    return metric_entry(
        Estimate(before, (before - 0.1, before + 0.1), n),
        Estimate(after, (after - 0.1, after + 0.1), n),
        Delta(change, (change - 0.1, change + 0.1), 0.01, "any"),
        unit="share",
        higher_is_better=higher,
    )


def section(primary, **more):
    cost = {
        "seconds": 12.0, "seconds_by_stage": {"before": 2.0, "train": 10.0},
        "memory_by_stage": {"before": {"peak_gib": 1.5}, "train": {}}, "controls_seconds": {"x": 4.0},
    }  # fmt: skip
    metrics = {primary: entry(), **more.pop("metrics", {})}
    return track_section("m", primary, metrics, cost=cost, data={"counts": {}, "sha256": "0" * 64}, **more)


def suite():
    return {
        "track_a": section("bits_per_byte", controls={"general_code": entry(0.5, 0.55, n=10)}),
        "track_b": not_run("track_b", "too few functions", "forty"),
        "track_c": section(
            "mrr@10", controls={"seed_1": entry(0.4, 0.58), "shuffled_pairs": entry(0.4, 0.2)}
        ),
    }


def track_b():
    rates = {
        "pass@1_sampled": entry(0.3, 0.55),
        "pass@2": entry(0.5, 0.65),
        "pass@1/fix_bug": entry(0.2, 0.8, n=7),
    }
    return section("pass@1", metrics=rates)


def track_c():
    recalls = {f"recall@{k}": entry(0.3 + k / 50, 0.5 + k / 50) for k in (1, 5, 10)}
    bm25 = {f"recall@{k}": {"value": 0.2 + k / 50} for k in (1, 5, 10)}
    return section("mrr@10", metrics=recalls, baselines={"bm25": bm25}, controls={"seed_1": entry(0.4, 0.58)})


def score(task, status, detail="", kind="fix_bug", sample=0):
    passed = status == "passed"
    return ResponseScore(task, kind, "f", sample, "x", status, passed, None, (), (), detail, None)


ANSWERS = (
    [score("1", "unparsable"), score("2", "failed", "no"), score("3", "passed"), score("4", "timeout"),
     score("5", "infrastructure_error"), score("6", "failed", kind="explain")],
    [score("1", "passed"), score("2", "failed", "the tests: line 1, 'f()': ValueError"), score("3", "failed"),
     score("4", "passed"), score("5", "passed"), score("6", "passed", kind="explain"),
     score("1", "failed", sample=1)],
)  # fmt: skip
STEPS = [
    FunnelStep("files accepted", "entries", 9, 4, {"too small": 3, "a_test $": 2}),
    FunnelStep("pairs", "drafts", 20, 15, {}),
]


def figures():
    steps = list(range(1, 31))
    curve = history(steps, [3 / s + 1 for s in steps], validation_steps=[10, 20], validation=[1.2, 1.1])
    yield loss_curve(curve)
    yield loss_curve(curve, validation_unit="bits per byte")
    yield loss_curve(SimpleNamespace(steps=(1,), train_loss=(2.0,)))
    yield bits_per_byte_by_file(FILES)
    yield bits_per_byte_by_file([{**FILES[0], "path": HOSTILE}])
    yield before_after_dots(track_b(), ["pass@1", "pass@1/fix_bug", "not there"])
    yield delta_forest(suite())
    yield cost_bars(suite())
    yield pass_rates(track_b())
    yield outcome_flow(*ANSWERS)
    yield rank_scatter(QUERIES)
    yield recall_by_k(track_c())
    yield similarities(QUERIES)
    yield training_points(track_c())
    yield data_funnel(STEPS)
    yield distribution([100, 200, 40_000], title="Files are small", xlabel="bytes", unit="files")
    yield distribution([0, 0, 0], title="All the same", xlabel="bytes")
    yield count_bars({"fix_bug": {"train": 5, "test": 2}, "explain": {"train": 1}}, title="Pairs by kind")


ALL = list(figures())


@pytest.mark.parametrize("figure", ALL, ids=lambda f: f.get_label()[:20])
def test_a_figure_has_words_and_text_that_a_phone_can_show(figure) -> None:
    assert len(figure.get_label()) > 20
    assert re.fullmatch(r"[^\n]+\.", figure.reading)
    tag = BeautifulSoup(figure_html(figure), "html.parser").figure
    assert tag.svg["role"] == "img"
    assert tag.svg["aria-label"] == figure.get_label()
    assert tag.figcaption.get_text() == figure.reading
    width = float(tag.svg["viewbox"].split()[2])  # in points; html.parser writes attributes in lower case
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", str(tag.svg))]
    assert sizes
    assert min(sizes) * min(1, PHONE_PX / (width * 4 / 3)) >= LEAST_POINTS
    assert png_bytes(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("figure", ALL, ids=lambda f: f.get_label()[:20])
def test_no_text_leaves_its_picture(figure) -> None:
    png_bytes(figure)
    renderer = figure.canvas.get_renderer()
    ticks = {t for axis in figure.axes for t in (*axis.get_xticklabels(), *axis.get_yticklabels())}
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible() and t not in ticks]
    boxes = {text.get_text(): text.get_window_extent(renderer) for text in texts}
    assert boxes
    whole = figure.bbox.padded(2)
    outside = [t for t, box in boxes.items() if not (whole.x0 <= box.x0 and box.x1 <= whole.x1)]
    assert outside == []


@pytest.mark.parametrize("figure", ALL, ids=lambda f: f.get_label()[:20])
def test_the_markup_loads_nothing_and_takes_the_colour_of_the_page(figure) -> None:
    markup = svg_markup(figure)
    root = ElementTree.parse(io.StringIO(markup)).getroot()
    assert {element.tag for element in root.iter()} <= {"svg", "g", "path", "text", "defs", "use", "clipPath",
                                                        "rect", "pattern"}  # fmt: skip
    addresses = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href")]
    ids = {e.get("id") for e in root.iter()}
    used = [a[1:] for a in addresses] + re.findall(r"url\(#([^)]+)\)", markup)
    assert all(address.startswith("#") for address in addresses)
    assert set(used) <= ids
    assert "currentColor" in markup
    assert figure_style.INK not in markup
    assert "DejaVu" not in markup


def test_the_same_data_give_the_same_picture() -> None:
    for draw in (lambda: rank_scatter(QUERIES), lambda: outcome_flow(*ANSWERS)):
        assert svg_markup(draw()) == svg_markup(draw())
        assert png_bytes(draw()) == png_bytes(draw())


def test_two_figures_on_one_page_share_no_id() -> None:
    one, other = (set(re.findall(r' id="([^"]+)"', svg_markup(figure))) for figure in (ALL[3], ALL[10]))
    assert one
    assert other
    assert not one & other


def contrast(colour: str, ground: str) -> float:
    def light(name):
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(name)]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((light(colour), light(ground)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", [BEFORE, AFTER, WORSE])
@pytest.mark.parametrize("ground", ["#ffffff", "#0d1117"])
def test_the_colours_stand_out_on_light_and_dark(colour, ground) -> None:
    assert contrast(colour, ground) >= 3


def test_before_is_hollow_and_after_filled_so_that_grey_print_tells_them_apart() -> None:
    for figure in (
        bits_per_byte_by_file(FILES),
        pass_rates(track_b()),
        before_after_dots(track_b(), ["pass@1"]),
    ):
        marks = {
            (line.get_marker(), line.get_markerfacecolor() == "none")
            for line in figure.axes[0].lines
            if line.get_marker() != "None" and len(line.get_xdata())
        }
        assert {("s", True), ("o", False)} <= marks
        assert not {("s", False), ("o", True)} & marks
    assert {line.get_marker() for line in rank_scatter(QUERIES).axes[0].lines[:3]} == {"o", "s", "X"}


# --- the words follow the numbers ---------------------------------------------------------------


def test_every_file_is_told_with_its_bits_per_byte() -> None:
    words = bits_per_byte_by_file(FILES)
    expected = {p: [round(nll / LN2 / n, 3) for nll in pair] for p, n, pair in (
        ("a", 100, (90, 70)), ("b", 900, (700, 650)), ("c", 50, (40, 44)))}  # fmt: skip
    told = {
        p: [float(b), float(a)]
        for p, b, a in re.findall(r"(\w) ([\d.]+) to ([\d.]+?)[;.](?= |$)", words.get_label())
    }
    assert told == expected
    assert "2 of 3 held-out files cost fewer bits" in words.reading
    other = bits_per_byte_by_file([*FILES[:2], {**FILES[2], "nll_after": 30.0}])
    assert "3 of 3" in other.reading
    assert f"c {40 / LN2 / 50:.3f} to {30 / LN2 / 50:.3f}" in other.get_label()


@pytest.mark.parametrize(
    ("draw", "track"),
    [(delta_forest, suite), (pass_rates, track_b), (recall_by_k, track_c), (training_points, track_c)],
)
def test_a_changed_metric_changes_picture_and_words(draw, track) -> None:
    one = track()
    text = json.dumps(one).replace("0.6,", "0.61234,").replace("0.52,", "0.5234,")
    text = text.replace('"value": 0.2,', '"value": 0.21234,').replace("0.2,", "0.21234,")
    changed = json.loads(text)
    assert changed != one
    before, after = draw(one), draw(changed)
    assert before.get_label() != after.get_label()
    assert svg_markup(before) != svg_markup(after)


def test_the_forest_tells_gain_and_controls_with_their_intervals() -> None:
    figure = delta_forest(suite())
    assert "this repository +0.200 [+0.100, +0.300], n = 40" in figure.get_label()
    assert "general code: forgetting +0.050 [−0.050, +0.150], n = 10" in figure.get_label()
    assert "trained on shuffled pairs −0.200" in figure.get_label()
    assert "seed" not in figure.get_label()  # single seeds have a figure of their own
    assert "A: +0.200, improved; C: +0.200, improved" in figure.reading
    assert len(figure.axes) == 2  # the track that did not run has no panel
    regressed = suite()
    regressed["track_a"]["verdict"] = "regressed"
    assert "A: +0.200, regressed" in delta_forest(regressed).reading


def test_pass_rates_tell_every_k_and_kind() -> None:
    words = pass_rates(track_b())
    for part in ("all kinds, n = 40 pass@1, greedy: 0.400 to 0.600", "pass@2, sampled: 0.500 to 0.650",
                 "fix bug, n = 7 pass@1, greedy: 0.200 to 0.800"):  # fmt: skip
        assert part in words.get_label()
    assert "from 0.400 to 0.600 (beyond noise, n = 40)" in words.reading


def test_outcomes_before_and_after_are_counted_by_hand() -> None:
    """Task 5 could not be judged before and task 6 runs no tests: neither counts, nor does a second sample."""
    words = outcome_flow(*ANSWERS)
    assert "answers to 4 tasks" in words.get_label()
    flows = dict(re.findall(r"([a-z ]+ to [a-z ]+?) (\d+)", words.get_label().partition(": ")[2]))
    assert {k.strip(): v for k, v in flows.items()} == {
        "no code to passed": "1", "wrong to error": "1", "passed to wrong": "1", "timeout to passed": "1",
    }  # fmt: skip
    assert words.reading.startswith(
        "Of 4 tasks run by unit tests, 1 before and 2 after training pass: 2 gained"
    )
    assert "1 lost" in words.reading


def test_ranks_and_recall_and_similarities_are_told() -> None:
    ranks = rank_scatter(QUERIES)
    assert "2 queries better, 1 worse, 1 the same" in ranks.get_label()
    assert "In the top ten: 2 before, 3 after" in ranks.get_label()
    recall = recall_by_k(track_c())
    assert "tuned 0.520 at 1, 0.600 at 5, 0.700 at 10" in recall.get_label()
    assert "BM25 alone 0.220 at 1, 0.300 at 5, 0.400 at 10" in recall.get_label()
    assert "from 0.500 to 0.700" in recall.reading
    alike = similarities(QUERIES)
    assert "for 33% of the queries before and 67% after" in alike.reading
    assert "from −0.100 to +0.100" in alike.reading


def test_kinds_are_sorted_into_what_moved_and_what_did_not() -> None:
    metrics = {"mrr@10/up": entry(0.4, 0.6), "mrr@10/down": entry(0.6, 0.4), "mrr@10/same": entry(0.5, 0.55)}
    figure = before_after_dots(section("mrr@10", metrics=metrics), list(metrics))
    assert figure.reading == "MRR@10 after training. Higher: up; lower: down; not detectably different: same."


def test_cost_is_told_by_stage_and_in_minutes() -> None:
    metrics = {"track_a": section("bits_per_byte"), "track_b": not_run("track_b", "a", "b")}
    figure = cost_bars(metrics)
    assert "A before 2 s, 1.5 GiB; A train 10 s; A controls 4 s" in figure.get_label()
    assert (
        "took 0.3 minutes, A train the most of it (10 s); the process held at most 1.5 GiB, in A before"
        in figure.reading
    )


def test_the_funnel_counts_every_reason() -> None:
    report = {
        "functions": {
            "train": {"verified": 3, "no test holds": 2},
            "test": {"verified": 1, "a method": 4},
        },
        "drafts by kind": {"explain": {"in": 9, "out": 7, "too long": 2}, "fix_bug": {"in": 5, "out": 5}},
    }
    data = SimpleNamespace(report=report, train=[1] * 6, validation=[1], tasks=[1] * 2)
    corpus = SimpleNamespace(
        files=[1] * 4, rejected=[SimpleNamespace(reason="test"), SimpleNamespace(reason="test")]
    )
    steps = funnel_steps(corpus, range(15), data)
    assert [(s.what, s.came, s.went) for s in steps] == [
        ("files accepted", 6, 4), ("functions verified", 15, 4), ("drafts kept", 14, 12), ("pairs and tasks", 12, 9),
    ]  # fmt: skip
    for step in steps[:3]:
        assert step.went + sum(step.reasons.values()) == step.came
    words = data_funnel(steps)
    assert "4 files accepted of 6 entries, 2 left out: test" in words.get_label()
    assert "From 6 entries to 9 pairs and tasks" in words.reading
    assert funnel_steps(corpus, range(15), None) == steps[:1]


def test_the_embedders_history_is_read_too() -> None:
    """Rows instead of lists; its validation is better when higher; one point before training."""
    rows = [{"step": s, "loss": 3.0 / s} for s in (10, 20, 30, 40)]
    epochs = [{"epoch": 1.0, "mrr@10": 0.7}, {"epoch": 2.0, "mrr@10": 0.6}]
    figure = loss_curve(
        {"steps": 40, "loss": rows, "validation": epochs, "validation_before": 0.5}, validation_unit="MRR@10"
    )
    line = figure.axes[1].lines[0]
    assert list(line.get_xdata()) == [0, 20, 40]
    assert list(line.get_ydata()) == [0.5, 0.7, 0.6]
    assert "highest, 0.700, at step 20" in figure.reading
    assert "0.500 at step 0, 0.700 at step 20, 0.600 at step 40" in figure.get_label()


def test_running_mean_of_a_constant_is_constant() -> None:
    line = loss_curve(history(list(range(40)), [1.5] * 40)).axes[0].lines[1]
    assert np.allclose(line.get_ydata(), 1.5)


# --- odd input ----------------------------------------------------------------------------------


def test_values_that_are_no_numbers_are_left_out() -> None:
    odd = [{**FILES[0], "nll_after": None}, {**FILES[0], "nll_before": float("nan")}, {"path": "x"}, FILES[1]]
    assert "1 of 1 held-out files" in bits_per_byte_by_file(odd).reading
    curve = loss_curve(history([1, 2, 3], [2.0, None, float("inf")], validation_steps=[1], validation=[None]))
    assert "over 1 steps" in curve.get_label()
    assert "validation" not in curve.reading
    assert "1 of" not in similarities(QUERIES).reading
    metrics = {"track_a": section("bits_per_byte")}
    metrics["track_a"]["cost"]["seconds_by_stage"]["before"] = None
    assert "A before" not in cost_bars(metrics).get_label()


def nothing():
    return {track: not_run(track, "a", "b") for track in ("track_a", "track_b", "track_c")}


@pytest.mark.parametrize(
    "draw",
    [
        lambda: loss_curve(history([], [])),
        lambda: bits_per_byte_by_file([]),
        lambda: before_after_dots(section("pass@1"), ["x"]),
        lambda: delta_forest(nothing()),
        lambda: cost_bars(nothing()),
        lambda: pass_rates(section("mrr@10")),
        lambda: outcome_flow([], ANSWERS[1]),
        lambda: rank_scatter([]),
        lambda: recall_by_k(section("mrr@10")),
        lambda: similarities([{"rank_before": 1}]),
        lambda: data_funnel([]),
        lambda: distribution([], title="t", xlabel="x"),
        lambda: count_bars({}, title="t"),
    ],
)
def test_a_figure_without_data_is_replaced_by_a_sentence(draw, tmp_path, capsys) -> None:
    with pytest.raises(NothingToDraw) as told:
        draw()
    guards = Guards(tmp_path)
    guards.draw(draw)
    assert capsys.readouterr().out == f"No figure here. {str(told.value).rstrip('.')}.\n"
    assert guards.warnings == []  # nothing failed


def test_a_history_that_contradicts_itself_is_a_failure() -> None:
    with pytest.raises(ValueError, match="one value for each step") as told:
        loss_curve(history([1, 2], [1.0]))
    assert not isinstance(told.value, NothingToDraw)


def test_names_of_a_repository_stay_text() -> None:
    page = figure_html(bits_per_byte_by_file([{**FILES[0], "path": HOSTILE}]))
    soup = BeautifulSoup(page, "html.parser")
    assert not soup.find_all("script")
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert HOSTILE.partition("\x1b")[0] in soup.svg["aria-label"]
    assert "mathjax_ignore" in soup.figure["class"]  # a page that typesets formulas leaves $x_1$ alone
    assert any("$x_1$" in text.get_text() or "…" in text.get_text() for text in soup.find_all("text"))
    track = track_b()
    track["metrics"][f"pass@1/{HOSTILE}"] = entry()
    assert "<script" not in figure_html(pass_rates(track))


def test_a_long_name_keeps_both_ends() -> None:
    name = "algorithms/centrality/current_flow_betweenness.py"
    short = shortened(name, 20)
    assert len(short) == 20
    assert name.startswith(short.split("…")[0])
    assert name.endswith(short.split("…")[1])
    assert shortened("a\nb", 20) == "a b"


def test_show_hands_over_page_and_plain_words(monkeypatch) -> None:
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    show(rank_scatter(QUERIES))
    show(rank_scatter(QUERIES), alt='a "quoted" <text>')
    assert shown[0]["text/plain"].startswith("Scatter of 4 queries")
    assert shown[0]["text/html"].startswith("<figure")
    assert 'aria-label="a &quot;quoted&quot; &lt;text&gt;"' in shown[1]["text/html"]


def test_drawing_does_not_change_the_metrics() -> None:
    metrics = suite()
    kept = copy.deepcopy(metrics)
    delta_forest(metrics)
    cost_bars(metrics)
    assert metrics == kept
