"""Tables and sentences of the fixed-budget lab, computed from its finished runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from helpers.fixed_budget.frozen_metric import BudgetScore
from helpers.fixed_budget.results import BudgetRun
from helpers.fixed_budget.rules import RuleBroken
from helpers.fixed_budget.rungs import Comparison, Rung, rung_verdict
from helpers.fixed_budget.tokenizer import TitleTokenizer

RUN_HEADER = ("Recipe", "Seed", "Frozen metric", "Coverage", "Full coverage", "Per title character",
              "Parameters", "Seconds", "Tokens/s")  # fmt: skip
RUN_WIDTHS = (2.2, 0.8, 1.1, 1.1, 1.1, 1.2, 1.3, 1.1, 1.1)
LADDER_HEADER = ("Change", "Kept?", "Full coverage", "Difference", "Coverage", "Seconds", "Parameters",
                 "Verdict")  # fmt: skip
LADDER_WIDTHS = (2.3, 0.9, 1.2, 1.2, 1.1, 1.0, 1.3, 1.9)


def run_rows(runs: Sequence[BudgetRun]) -> list[tuple[str, ...]]:
    """Return one row of text per run: losses in nats per character, always with their coverage."""
    return [
        (
            f"{run.name}{' (spread)' if run.is_spread else ''}",
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
    """Return one row of text per rung: change, loss, difference, cost and verdict."""
    rows = [("baseline", "", _loss(rungs[0].reference), "", *_cost(rungs[0].reference), "")]
    for rung in rungs:
        kept, difference = "kept" if rung.change.kept else "dropped", f"{rung.difference:+.4f}"
        verdict = rung_verdict(rung.difference, spread)
        rows.append((rung.change.name, kept, _loss(rung.run), difference, *_cost(rung.run), verdict))
    return rows


def frame(header: Sequence[str], rows: Sequence[tuple[str, ...]]) -> pd.DataFrame:
    """Return rows as a table for the notebook (`display.table`), indexed by the first column."""
    return pd.DataFrame(rows, columns=list(header)).set_index(header[0])


def conclusion(comparison: Comparison) -> str:
    """State the outcome in a sentence or two, with the spread over seeds and what the figures are not."""
    one, other = comparison.baseline[0], comparison.improved[0]
    sentence = (
        f"On {one.data['titles']:,} titles ({one.data['spec']}, {one.scale} scale) the full-coverage loss "
        f"is {_loss(one)} nats per character for the baseline and {_loss(other)} for the improved recipe, "
        f"a ratio of {comparison.ratio:.3f}"
    )
    if comparison.spread is not None:
        values = [run.score.full_nats_per_character for run in comparison.seeds]
        mean = sum(values) / len(values)
        recipe = "the improved recipe"
        if comparison.repeated:
            sentence += ", each with one seed"
            recipe = f"the ladder {comparison.seeds[0].name}"
        sentence += (
            f"; over {len(values)} seeds {recipe} gives {mean:.4f} ± {comparison.spread:.4f} "
            f"(standard deviation), {min(values):.4f} to {max(values):.4f}"
        )
        if comparison.repeated:
            ratio = one.score.full_nats_per_character / values[0]
            sentence += f"; its first seed gives a ratio of {ratio:.3f}"
    if not one.is_challenge:
        sentence += (
            ". This is not the challenge's data at full scale, so don't compare these figures with the "
            "challenge's"
        )
    return sentence + "."


def ladder_sentence(rungs: Sequence[Rung], spread: float | None) -> str:
    """State how many changes helped, which did not, and which helped most."""
    words = [rung_verdict(rung.difference, spread).removesuffix(" (one seed)") for rung in rungs]
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    best = min(rungs, key=lambda rung: rung.difference)
    sentence = (
        f"Of {len(rungs)} changes: {counts}. The loss fell most with {best.change.name} "
        f"({best.difference:+.4f})"
    )
    judged = [(rung.change, word) for rung, word in zip(rungs, words, strict=True)]
    worse = [change.name for change, word in judged if word == "did not help"]
    sentence += f"; the loss rose with {', '.join(worse)}." if worse else "."
    dropped = [change.name for change, word in judged if word == "helped" and not change.kept]
    return sentence + (
        f" Helped, but not kept for the rows below it: {', '.join(dropped)}." if dropped else ""
    )


def metric_frame(scores: Mapping[int, BudgetScore]) -> pd.DataFrame:
    """Tabulate one model's score at several batch sizes, to show what depends on the window."""
    rows = [
        (str(batch), f"{score.coverage:.1%}", f"{score.frozen_nats_per_character:.4f}",
         f"{score.full_nats_per_character:.4f}")
        for batch, score in scores.items()
    ]  # fmt: skip
    return frame(("Rows per batch", "Coverage", "Frozen metric", "Full coverage"), rows)


def tokenizer_frame(tokenizers: Mapping[str, TitleTokenizer], titles: Sequence[str]) -> pd.DataFrame:
    """Tabulate each tokenizer's vocabulary, its tokens per title, and how it cuts one title."""
    rows = []
    for kind, tokenizer in tokenizers.items():
        encoded = tokenizer.encode(titles)
        pieces = tokenizer.tokenizer.encode(f" {titles[0]}").tokens
        per_title = sum(map(len, encoded)) / len(encoded)
        shown = " | ".join(piece.replace("\u0120", "\u00b7") for piece in pieces)
        rows.append((kind, f"{tokenizer.vocabulary:,}", f"{per_title:.2f}", shown))
    return frame(("Tokenizer", "Ids", "Tokens per title", "One title (\u00b7 is a space)"), rows)


def sample_frame(comparison: Comparison) -> pd.DataFrame:
    """Tabulate titles sampled from both recipes, side by side."""
    drawn = zip(comparison.baseline[0].samples, comparison.improved[0].samples, strict=True)
    return frame(("Baseline", "Improved"), list(drawn))


def refusal(check: Callable[..., object], *arguments: object) -> str:
    """Return the message of the rule that `check(*arguments)` breaks; AssertionError if none."""
    try:
        check(*arguments)
    except RuleBroken as broken:
        return str(broken)
    raise AssertionError("no rule was broken")


def _loss(run: BudgetRun) -> str:
    return f"{run.score.full_nats_per_character:.4f}"


def _cost(run: BudgetRun) -> tuple[str, str, str]:
    return f"{run.score.coverage:.1%}", f"{run.seconds:,.0f}", f"{run.parameters / 1e6:.2f} M"
