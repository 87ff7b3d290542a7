"""The short report of the fixed-budget lab: what was changed, why, and what it did to the loss.

Built from finished runs; no figure is typed. It is written as HTML and as PDF, and its figures also
as JSON. A report of anything but the full scale carries the scale in its file name.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from helpers.fixed_budget.ladder import Comparison, Rung, verdict
from helpers.fixed_budget.plots import comparison_curves, ladder_chart, rung_curves
from helpers.fixed_budget.recipes import LADDER
from helpers.fixed_budget.rules import rules
from helpers.fixed_budget.run import BudgetRun
from helpers.fixed_budget.tables import (
    LADDER_HEADER,
    LADDER_WIDTHS,
    RUN_HEADER,
    RUN_WIDTHS,
    conclusion,
    ladder_rows,
    ladder_sentence,
    run_rows,
)
from helpers.report.documents import Block, Heading, Plot, Text, TextTable, html_page, pdf_bytes
from helpers.run.workspace import write_bytes, write_json, write_text

TITLE = "Fixed-budget pretraining: what helped"
OTHER_SCALE = (
    " What is kept was chosen for the full scale, where seven passes overfit; on a model and data shrunk for "
    "this one it can make things worse."
)


def report_blocks(comparison: Comparison, rungs: Sequence[Rung]) -> list[Block]:
    """The report's content; the ladder is left out where it was not run."""
    one = comparison.baseline[0]
    shared = ""
    shown = [*comparison.baseline, *comparison.repeated, *comparison.improved]
    everything = [*shown, *(rung.run for rung in rungs)]
    together = max(run.side_by_side for run in everything)
    if together > 1:
        shared = f" Up to {together} runs shared the machine: seconds and tokens/s say little."
    blocks: list[Block] = [
        Text(conclusion(comparison)),
        Text(
            f"{_made_on(everything)} Data digest {one.data['sha256'][:12]}; "
            f"{one.data['validation_titles']:,} validation titles, {one.data['repeated_titles']:,} of them "
            "also in the training part."
            f"{shared}"
        ),
        Heading("Baseline and improved recipe"),
        TextTable(RUN_HEADER, tuple(run_rows(shown)), RUN_WIDTHS,
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
            Text(ladder_sentence(rungs, comparison.spread)),
            Plot(ladder_chart(rungs, comparison.spread)),
            TextTable(LADDER_HEADER, tuple(ladder_rows(rungs, comparison.spread)), LADDER_WIDTHS,
                      frozenset(range(2, 7))),
            *_left_out([rung.change.name for rung in rungs]),
            Text(
                "Each row is a run of its own: the recipe of the last kept row with one change. What stands "
                "aside is not part of the improved recipe. A difference counts beyond twice the spread of a "
                "difference between two runs; without several seeds its sign alone is shown."
                f"{OTHER_SCALE if one.scale != 'full' else ''}"
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


def _made_on(runs: Sequence[BudgetRun]) -> str:
    """Each machine with its versions and code; of every but the first also which runs it made."""
    machines: dict[str, list[BudgetRun]] = {}
    for run in runs:
        machine = (
            f"{run.hardware['name']}, {run.hardware['cores']} cores; torch {run.versions['torch']}, "
            f"transformers {run.versions['transformers']}"
        )
        machines.setdefault(machine, []).append(run)
    sentences = []
    for machine, own in machines.items():
        code = ", ".join(dict.fromkeys(run.commit for run in own))
        names = ", ".join(dict.fromkeys(f"{run.name} (seed {run.seed})" for run in own))
        sentences.append(
            f"On {machine}; code {code}: {names}." if sentences else f"Made on {machine}; code {code}."
        )
    if len(machines) > 1:
        sentences.append("Seconds compare only within one machine.")
    return " ".join(sentences)


def _left_out(shown: Sequence[str]) -> list[Block]:
    """The ladder's changes without a row."""
    missing = ", ".join(change.name for change in LADDER if change.name not in shown)
    return [Text(f"Not in the table, for want of a run or of the one before: {missing}.")] if missing else []


def write_report(comparison: Comparison, rungs: Sequence[Rung], folder: Path) -> list[Path]:
    """Write `fixed_budget_report` as .html, .pdf and .json into `folder`; the paths.

    Raises:
        ValueError: if the runs are not all of the same data and scale.
    """
    ends = {name: getattr(comparison, name) for name in ("baseline", "improved", "repeated")}
    runs = [*itertools.chain(*ends.values()), *(rung.run for rung in rungs)]
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
    write_json(paths[2], summary | ends | {"ladder": ladder})
    return paths
