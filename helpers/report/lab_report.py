"""The short report of the fixed-budget lab: what was changed, why, and what it did to the loss.

Built from finished runs; no figure is typed. It is written as HTML and as PDF, and its figures also
as JSON. A report of anything but the full scale carries the scale in its file name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from helpers.report.documents import Block, Heading, Plot, Text, TextTable, html_page, pdf_bytes
from helpers.report.lab_plots import comparison_curves, ladder_chart, rung_curves
from helpers.train.budget_rules import rules
from helpers.train.fixed_budget import BudgetRun
from helpers.train.ladder import Comparison, Rung, verdict
from helpers.workspace import write_bytes, write_json, write_text

TITLE = "Fixed-budget pretraining: what helped"
RUN_HEADER = ("Recipe", "Seed", "Frozen metric", "Coverage", "Full coverage", "Per title character",
              "Parameters", "Seconds", "Tokens/s")  # fmt: skip
RUN_WIDTHS = (2.2, 0.8, 1.1, 1.1, 1.1, 1.2, 1.3, 1.1, 1.1)


def run_rows(runs: Sequence[BudgetRun]) -> list[tuple[str, ...]]:
    """One row of text per run: losses in nats per character, never without their coverage."""
    return [
        (
            f"{run.name}{' (spread)' if run.spread and run.seed != 1337 else ''}",
            str(run.seed),
            f"{run.score.frozen_nats_per_character:.4f}",
            f"{run.score.coverage:.1%}",
            f"{run.score.full_nats_per_character:.4f}",
            f"{run.score.title_nats_per_character:.4f}",
            f"{run.parameters / 1e6:.2f} M",
            f"{run.seconds:,.0f}",
            f"{run.tokens_per_second:,.0f}",
        )
        for run in runs
    ]


def ladder_rows(rungs: Sequence[Rung], spread: float | None) -> list[tuple[str, ...]]:
    """One row of text per rung: change, loss, difference, what it cost, what it means."""
    rows = [("baseline", "", _loss(rungs[0].reference), "", *_cost(rungs[0].reference), "")]
    for rung in rungs:
        word = verdict(rung.difference, spread)
        rows.append(
            (
                rung.change.name,
                "kept" if rung.change.kept else "aside",
                _loss(rung.run),
                f"{rung.difference:+.4f}",
                *_cost(rung.run),
                word,
            )
        )
    return rows


LADDER_HEADER = ("Change", "", "Full coverage", "Difference", "Coverage", "Seconds", "Parameters", "Verdict")
LADDER_WIDTHS = (2.4, 0.7, 1.2, 1.2, 1.1, 1.0, 1.3, 2.0)


def frame(header: Sequence[str], rows: Sequence[tuple[str, ...]]) -> pd.DataFrame:
    """Rows as a table for the notebook (`display.table`), the first column as index."""
    return pd.DataFrame(rows, columns=list(header)).set_index(header[0])


def conclusion(comparison: Comparison) -> str:
    """The outcome in one sentence, with the spread over seeds and what the figures are not."""
    one, other = comparison.baseline[0], comparison.improved[0]
    sentence = (
        f"On {one.data['titles']:,} titles ({one.data['spec']}, {one.scale} scale) the full-coverage loss "
        f"is {_loss(one)} nats per character for the baseline and {_loss(other)} for the improved recipe, "
        f"a ratio of {comparison.ratio:.3f}"
    )
    if comparison.spread is not None:
        values = [run.score.full_nats_per_character for run in comparison.improved]
        sentence += (
            f"; over {len(values)} seeds the improved recipe gives {sum(values) / len(values):.4f} "
            f"± {comparison.spread:.4f} (standard deviation), {min(values):.4f} to {max(values):.4f}"
        )
    if not one.is_challenge:
        sentence += ". This is not the challenge's data at full scale: figures do not compare with its own"
    return sentence + "."


def report_blocks(comparison: Comparison, rungs: Sequence[Rung]) -> list[Block]:
    """The report's content; the ladder is left out where it was not run."""
    one = comparison.baseline[0]
    hardware = f"{one.hardware['name']}, {one.hardware['cores']} cores"
    blocks: list[Block] = [
        Text(conclusion(comparison)),
        Text(
            f"Made on {hardware}; torch {one.versions['torch']}, transformers "
            f"{one.versions['transformers']}; code {one.commit}; data digest {one.data['sha256'][:12]}; "
            f"{one.data['validation_titles']:,} validation titles, {one.data['repeated_titles']:,} of them "
            "also in the training part."
        ),
        Heading("Baseline and improved recipe"),
        TextTable(RUN_HEADER, tuple(run_rows([*comparison.baseline, *comparison.improved])), RUN_WIDTHS,
                  frozenset(range(1, len(RUN_HEADER)))),
        Text(
            "Losses are nats per character. The frozen metric is the challenge's own: it drops the tail of "
            "the text, so it falls with its coverage and depends on batch, block and tokenizer. Full "
            "coverage scores every token once; only that compares recipes. Both divide by the titles' "
            "characters and five for the separator after each title, as the challenge does; the column "
            "beside divides by the titles' characters alone."
        ),
        Plot(comparison_curves(comparison)),
    ]  # fmt: skip
    if rungs:
        blocks += [
            Heading("What each change did"),
            Plot(ladder_chart(rungs, comparison.spread)),
            TextTable(LADDER_HEADER, tuple(ladder_rows(rungs, comparison.spread)), LADDER_WIDTHS,
                      frozenset(range(2, 7))),
            Text(
                "Each row is a run of its own: the recipe of the last kept row with one change. What stands "
                "aside is not part of the improved recipe. A difference counts beyond twice the spread of a "
                "difference between two runs; without several seeds its sign alone is shown."
            ),
            Heading("Why each change was tried"),
            TextTable(("Change", "Reason"), tuple((r.change.name, r.change.why) for r in rungs), (1, 3)),
            Heading("Effect on the curves"),
            Plot(rung_curves(rungs)),
        ]  # fmt: skip
    blocks += [
        Heading("Rules, and how they are enforced"),
        TextTable(("Rule", "Checked by"), tuple(rules()), (1, 3)),
        Text(
            "The validation loss is also what recipes were chosen by: the challenge has no third part of "
            "the data. The spread over seeds measures chance, not that choice."
        ),
    ]
    return blocks


def write_report(comparison: Comparison, rungs: Sequence[Rung], folder: Path) -> list[Path]:
    """Write `fixed_budget_report` as .html, .pdf and .json into `folder`; the paths.

    Raises:
        ValueError: if the runs are not all of the same data and scale.
    """
    runs = [*comparison.baseline, *comparison.improved, *(rung.run for rung in rungs)]
    if len({(run.data["sha256"], run.scale) for run in runs}) > 1:
        raise ValueError("the runs are of different data or scales and do not compare; run them together")
    scale = runs[0].scale
    stem = folder / ("fixed_budget_report" if scale == "full" else f"fixed_budget_report.{scale}")
    title = TITLE if scale == "full" else f"{TITLE} ({scale} scale)"
    blocks = report_blocks(comparison, rungs)
    paths = [stem.with_name(stem.name + suffix) for suffix in (".html", ".pdf", ".json")]
    write_text(paths[0], html_page(title, blocks))
    write_bytes(paths[1], pdf_bytes(title, blocks))
    ladder = [
        {"change": r.change, "difference": r.difference, "verdict": verdict(r.difference, comparison.spread),
         "against": r.reference.name, "run": r.run}
        for r in rungs
    ]  # fmt: skip
    summary = {"conclusion": conclusion(comparison), "ratio": comparison.ratio, "spread": comparison.spread}
    write_json(paths[2], summary | {"baseline": comparison.baseline, "improved": comparison.improved,
                                    "ladder": ladder})  # fmt: skip
    return paths


def _loss(run: BudgetRun) -> str:
    return f"{run.score.full_nats_per_character:.4f}"


def _cost(run: BudgetRun) -> tuple[str, str, str]:
    return f"{run.score.coverage:.1%}", f"{run.seconds:,.0f}", f"{run.parameters / 1e6:.2f} M"
