"""The lab's report: the same content as HTML and PDF, figures from the runs, scales marked."""

import dataclasses
import json

import pytest
from matplotlib.figure import Figure

from helpers.fixed_budget.budget_report import report_blocks, write_report
from helpers.fixed_budget.frozen_metric import BudgetScore
from helpers.fixed_budget.lab_plots import comparison_curves, ladder_chart, passes_and_losses, rung_curves
from helpers.fixed_budget.lab_tables import (
    conclusion,
    frame,
    ladder_rows,
    ladder_sentence,
    metric_frame,
    refusal,
    run_rows,
)
from helpers.fixed_budget.recipes import BASELINE, LADDER
from helpers.fixed_budget.results import BudgetRun, read_run
from helpers.fixed_budget.rules import check_passes
from helpers.fixed_budget.rungs import Comparison, Rung
from helpers.report.figure_style import png_bytes
from helpers.report.typeset import Heading, Plot, Text, TextTable, html_page, pdf_bytes
from helpers.run.workspace import to_plain


def made(name: str, loss: float, *, seed: int = 1337, scale: str = "small") -> BudgetRun:
    score = BudgetScore(loss * 0.9, 0.9, loss, loss * 1.1, loss * 3, 1000, 3000)
    return BudgetRun(
        name=name,
        data={"spec": "docstrings", "sha256": "ab" * 32, "titles": 6000, "training_titles": 5400,
              "validation_titles": 600, "repeated_titles": 7},
        scale=scale, seed=seed, spread=seed != 1337, is_challenge=False, score=score,
        curve=tuple((step, step * 100, loss + 7 - step) for step in range(1, 8)),
        parameters=1_234_567, vocabulary=2000, steps=7, tokens=700, seconds=12.4, tokens_per_second=56.4,
        peak_memory_gib=1.0, precision="float32",
        hardware={"device": "cpu", "name": "a <fast> one", "cores": 2, "memory_gib": 8.0, "precision": "x"},
        versions={"torch": "1", "transformers": "2"}, commit="abc", finished="2026-01-01T00:00:00+00:00",
        samples=("one", "two"), recipe=to_plain(BASELINE),
    )  # fmt: skip


COMPARISON = Comparison(
    (made("baseline", 1.8),),
    tuple(made("improved", x, seed=s) for x, s in ((1.2, 1337), (1.21, 1338), (1.19, 1339))),
)
RUNGS = [
    Rung(LADDER[0], made(LADDER[0].name, 1.4), made("baseline", 1.8)),
    Rung(LADDER[1], made(LADDER[1].name, 1.5), made(LADDER[0].name, 1.4)),
    Rung(dataclasses.replace(LADDER[2], kept=False), made(LADDER[2].name, 1.405), made(LADDER[0].name, 1.4)),
]


def test_the_conclusion_gives_ratio_and_spread_and_says_what_it_is_not() -> None:
    told = conclusion(COMPARISON)
    assert "1.8000 nats per character for the baseline and 1.2000" in told
    assert "a ratio of 1.500" in told
    assert "1.2000 ± 0.0100" in told  # of 1.20, 1.21, 1.19
    assert "not the challenge's data at full scale" in told
    assert "±" not in conclusion(Comparison(COMPARISON.baseline, COMPARISON.improved[:1]))


def test_coverage_stands_beside_every_frozen_figure() -> None:
    name, seed, frozen, coverage, full, *_ = run_rows([made("x", 2.0, seed=5)])[0]
    assert (name, seed, frozen, coverage, full) == ("x (spread)", "5", "1.8000", "90.0%", "2.0000")
    assert list(metric_frame({4: made("x", 2.0).score}).columns)[:2] == ["Coverage", "Frozen metric"]


def test_changes_that_did_not_help_stay_in_the_table_and_are_marked() -> None:
    rows = ladder_rows(RUNGS, spread=0.01)
    assert [row[0] for row in rows] == ["baseline", *(r.change.name for r in RUNGS)]
    assert [row[-1] for row in rows] == ["", "helped", "did not help", "within the noise of seeds"]
    assert [row[1] for row in rows] == ["", "kept", "kept", "dropped"]
    assert rows[1][3] == "-0.4000"
    told = ladder_sentence(RUNGS, 0.01)
    assert "Of 3 changes: 1 helped, 1 did not help, 1 within the noise of seeds" in told
    assert f"The loss fell most with {LADDER[0].name} (-0.4000); the loss rose with {LADDER[1].name}." in told
    assert "Helped, but" not in told
    assert list(frame(("a", "b"), [("1", "2")]).index) == ["1"]


def test_a_dropped_change_that_helped_is_named() -> None:
    better = dataclasses.replace(RUNGS[0], change=dataclasses.replace(LADDER[0], kept=False))
    told = ladder_sentence([better, *RUNGS[1:]], 0.01)
    assert told.endswith(f"Helped, but not kept for the rows below it: {LADDER[0].name}.")


def test_runs_from_different_machines_are_listed_separately() -> None:
    def told(comparison: Comparison) -> str:
        return next(
            b.text for b in report_blocks(comparison, RUNGS) if isinstance(b, Text) and "Made on" in b.text
        )

    here = "a <fast> one, 2 cores; torch 1, transformers 2; code abc."
    assert told(COMPARISON).startswith(f"Made on {here} Data digest abab")
    first, *others = COMPARISON.improved
    later = [dataclasses.replace(run, commit="def") for run in others]  # the same machine
    assert told(dataclasses.replace(COMPARISON, improved=(first, *later))).startswith(
        f"Made on {here[:-1]}, def. Data digest abab"
    )
    moved = [
        dataclasses.replace(run, hardware=run.hardware | {"name": "slow", "cores": 1}, commit="def")
        for run in others
    ]
    assert told(dataclasses.replace(COMPARISON, improved=(first, *moved))).startswith(
        f"Made on {here} On slow, 1 cores; torch 1, transformers 2; code def: improved (seed 1338), "
        "improved (seed 1339). Compare seconds only within one machine. Data digest abab"
    )


def test_a_refusal_is_the_rules_own_words() -> None:
    assert refusal(check_passes, 800, 100).startswith(
        "refused by the rule “7 epochs”: 800 targets are 8.00 passes"
    )
    with pytest.raises(AssertionError, match="no rule was broken"):
        refusal(check_passes, 700, 100)


def test_figures_say_what_they_show() -> None:
    chart = ladder_chart(RUNGS, 0.01)
    assert f"{LADDER[0].name} 1.400" in chart.get_label()
    assert chart.reading.startswith("From 1.800 to 1.500")  # the last that is kept, not the lowest
    assert "baseline ends at 1.800, improved at 1.200" in comparison_curves(COMPARISON).get_label()
    assert f"{LADDER[1].name} +0.100" in rung_curves(RUNGS).get_label()
    passes, losses = passes_and_losses(RUNGS[0].run)
    assert passes == [1, 2, 3, 4, 5, 6, 7]
    assert losses[-1] == pytest.approx(1.4)
    for figure in (chart, comparison_curves(COMPARISON), rung_curves(RUNGS)):
        assert png_bytes(figure).startswith(b"\x89PNG")


def blocks():
    figure = Figure(figsize=(3, 2))
    figure.subplots().plot([1, 2])
    figure.set_label('a "line"')
    rows = tuple((f"row {i} < √2", str(i)) for i in range(120))
    return [
        Text("Größe ≤ 1 & <b>"),
        Heading("Rows"),
        TextTable(("What", "n"), rows, (3, 1), frozenset({1})),
        Plot(figure),
    ]


def test_html_and_pdf_hold_every_block_escaped() -> None:
    page = html_page("Title & more", blocks())
    assert "Größe ≤ 1 &amp; &lt;b&gt;" in page
    assert page.count("<tr>") == 121
    assert 'aria-label="a &quot;line&quot;"' in page
    assert "All 120 rows: what, n" in page
    assert page.index('href="#rows"') < page.index('<section id="rows"')
    assert "http" not in page.replace("http-equiv", "")
    pdf = pdf_bytes("Title & more", blocks())
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") >= 3  # the long table went over pages
    assert b"DejaVuSans" in pdf
    assert pdf == pdf_bytes("Title & more", blocks())  # the same blocks, the same bytes


def test_the_report_is_written_under_its_scale_and_read_back(tmp_path) -> None:
    paths = write_report(COMPARISON, RUNGS, tmp_path)
    assert [path.name for path in paths] == [
        f"fixed_budget_report.small.{end}" for end in ("html", "pdf", "json")
    ]
    summary = json.loads(paths[2].read_text())
    assert read_run(summary["improved"][1]) == COMPARISON.improved[1]
    assert summary["ladder"][1]["verdict"] == "did not help"
    page = paths[0].read_text()
    assert conclusion(COMPARISON).replace("'", "&#x27;") in page
    for rung in RUNGS:
        assert rung.change.why in page
    assert "kept for their effect at full scale" in page
    full = [
        dataclasses.replace(run, scale="full") for run in (COMPARISON.baseline[0], COMPARISON.improved[0])
    ]
    assert write_report(Comparison((full[0],), (full[1],)), [], tmp_path)[1].name == "fixed_budget_report.pdf"


def test_runs_of_different_data_are_not_compared(tmp_path) -> None:
    other = dataclasses.replace(made("improved", 1.0), data={**made("x", 1).data, "sha256": "cd" * 32})
    with pytest.raises(ValueError, match="cannot be compared"):
        write_report(Comparison(COMPARISON.baseline, (other,)), [], tmp_path)
    with pytest.raises(ValueError, match="cannot be compared"):
        write_report(Comparison(COMPARISON.baseline, (made("improved", 1.0, scale="full"),)), [], tmp_path)


def test_the_report_warns_about_seconds_of_runs_that_shared_a_machine(tmp_path) -> None:
    assert "shared the machine" not in write_report(COMPARISON, RUNGS, tmp_path)[0].read_text()
    rung = dataclasses.replace(RUNGS[0], run=dataclasses.replace(RUNGS[0].run, side_by_side=3))
    page = write_report(COMPARISON, [rung], tmp_path)[0].read_text()
    assert "Up to 3 runs shared the machine" in page
