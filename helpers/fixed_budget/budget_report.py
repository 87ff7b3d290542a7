"""The short report of the fixed-budget lab: what was changed, why, and what it did to the loss.

It is computed from finished runs and written as HTML and PDF, with the figures as JSON. At any scale
but full, the file names include the scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from helpers.fixed_budget import lab_tables as tables
from helpers.fixed_budget.lab_plots import comparison_curves, ladder_chart, rung_curves
from helpers.fixed_budget.recipes import LADDER
from helpers.fixed_budget.results import BudgetRun
from helpers.fixed_budget.rules import challenge_rule_rows
from helpers.fixed_budget.rungs import Comparison, Rung, rung_verdict
from helpers.report.typeset import Heading, Plot, ReportBlock, Text, TextTable, html_page, pdf_bytes
from helpers.run.workspace import write_bytes, write_json, write_text

TITLE = "Fixed-budget pretraining: what helped"
OTHER_SCALE = (
    " Changes were kept for their effect at full scale, where seven epochs overfit; on the smaller model and "
    "data of this scale they can increase the loss."
)
ABOUT_METRICS = (
    "Losses are in nats per character. The frozen metric is the challenge's own; it drops the tail of the "
    "text, so it falls with its coverage and depends on batch, block and tokenizer. Full coverage scores "
    "every token once; compare recipes by it alone. Both divide by the characters of the titles plus five "
    "for the separator after each title, as the challenge does. The column “Per title character” divides "
    "by the titles' characters alone."
)
ABOUT_LADDER = (
    "Each row is a separate run: the recipe of the last kept row with one change. Dropped changes are not "
    "part of the improved recipe. A difference counts if it exceeds twice the standard deviation of a "
    "difference between two runs; without several seeds only its sign is judged."
)
ABOUT_CHOICE = (
    "The recipes were chosen by this same validation loss, because the challenge has no test set. The "
    "spread over seeds measures chance, not the effect of that choice."
)


def report_blocks(comparison: Comparison, rungs: Sequence[Rung]) -> list[ReportBlock]:
    """Return the report's content, without the ladder's part if there are no rungs."""
    shown = [*comparison.baseline, *comparison.repeated, *comparison.improved]
    blocks: list[ReportBlock] = [
        Text(tables.conclusion(comparison)),
        Text(_provenance([*shown, *(rung.run for rung in rungs)])),
        Heading("Baseline and improved recipe"),
        TextTable(
            tables.RUN_HEADER, tuple(tables.run_rows(shown)), tables.RUN_WIDTHS, frozenset(range(1, 9))
        ),
        Text(ABOUT_METRICS),
        Plot(comparison_curves(comparison)),
    ]
    if rungs:
        blocks += _ladder_blocks(comparison, rungs)
    return [
        *blocks,
        Heading("Rules, and how they are enforced"),
        TextTable(("Rule", "How it is checked"), tuple(challenge_rule_rows()), (1, 3)),
        Text(ABOUT_CHOICE),
    ]


def _ladder_blocks(comparison: Comparison, rungs: Sequence[Rung]) -> list[ReportBlock]:
    spread = comparison.spread
    shown = [rung.change.name for rung in rungs]
    missing = ", ".join(change.name for change in LADDER if change.name not in shown)
    left_out = f"Not in the table, because its run or its reference is missing: {missing}."
    rows = tables.ladder_rows(rungs, spread)
    other_scale = OTHER_SCALE if comparison.baseline[0].scale != "full" else ""
    return [
        Heading("What each change did"),
        Text(tables.ladder_sentence(rungs, spread)),
        Plot(ladder_chart(rungs, spread)),
        TextTable(tables.LADDER_HEADER, tuple(rows), tables.LADDER_WIDTHS, frozenset(range(2, 7))),
        *([Text(left_out)] if missing else []),
        Text(f"{ABOUT_LADDER}{other_scale}"),
        Heading("Why each change was tried"),
        TextTable(("Change", "Reason"), tuple((r.change.name, r.change.why) for r in rungs), (1, 3)),
        Heading("Effect on the curves"),
        Plot(rung_curves(rungs), printed=rung_curves(rungs, columns=4)),
    ]


def _provenance(runs: Sequence[BudgetRun]) -> str:
    """Say where the runs were made, on which data, and whether they shared a machine."""
    data = runs[0].data
    text = (
        f"{_made_on(runs)} Data digest {data['sha256'][:12]}; {data['validation_titles']:,} validation "
        f"titles, {data['repeated_titles']:,} of which also occur in the training part."
    )
    together = max(run.side_by_side for run in runs)
    if together > 1:
        text += f" Up to {together} runs shared the machine, so seconds and tokens/s mean little."
    return text


def _made_on(runs: Sequence[BudgetRun]) -> str:
    """Name each machine with its versions and code; for all but the first, also list its runs."""
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
        sentences.append("Compare seconds only within one machine.")
    return " ".join(sentences)


def write_report(comparison: Comparison, rungs: Sequence[Rung], folder: Path) -> list[Path]:
    """Write `fixed_budget_report` as .html, .pdf and .json into `folder`, and return the paths.

    Raises:
        ValueError: if the runs differ in data or scale.
    """
    ends = {name: getattr(comparison, name) for name in ("baseline", "improved", "repeated")}
    runs = [*itertools.chain(*ends.values()), *(rung.run for rung in rungs)]
    if len({(run.data["sha256"], run.scale) for run in runs}) > 1:
        raise ValueError(
            "the runs differ in data or scale and cannot be compared; run them in one experiment"
        )
    scale, spread = runs[0].scale, comparison.spread
    stem = folder / ("fixed_budget_report" if scale == "full" else f"fixed_budget_report.{scale}")
    title = TITLE if scale == "full" else f"{TITLE} ({scale} scale)"
    blocks = report_blocks(comparison, rungs)
    paths = [stem.with_name(stem.name + suffix) for suffix in (".html", ".pdf", ".json")]
    write_text(paths[0], html_page(title, blocks))
    write_bytes(paths[1], pdf_bytes(title, blocks))
    ladder = [
        {"change": r.change, "difference": r.difference, "verdict": rung_verdict(r.difference, spread),
         "against": r.reference.name, "run": r.run}
        for r in rungs
    ]  # fmt: skip
    summary = {"conclusion": tables.conclusion(comparison), "ratio": comparison.ratio, "spread": spread}
    write_json(paths[2], summary | ends | {"ladder": ladder})
    return paths
