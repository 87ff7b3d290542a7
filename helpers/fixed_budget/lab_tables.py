"""Tables and sentences of the fixed-budget lab, from its finished runs; no figure is typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from helpers.fixed_budget.ladder import Comparison, Rung, verdict
from helpers.fixed_budget.metric import BudgetScore
from helpers.fixed_budget.rules import RuleBroken
from helpers.fixed_budget.run import BudgetRun
from helpers.fixed_budget.tokenizer import TitleTokenizer

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
        values = [run.score.full_nats_per_character for run in comparison.seeds]
        mean = sum(values) / len(values)
        recipe = "the improved recipe"
        if comparison.repeated:
            sentence += ", each of one seed"
            recipe = f"the recipe {comparison.seeds[0].name}"
        sentence += (
            f"; over {len(values)} seeds {recipe} gives {mean:.4f} ± {comparison.spread:.4f} "
            f"(standard deviation), {min(values):.4f} to {max(values):.4f}"
        )
        if comparison.repeated:
            sentence += f", a ratio of {one.score.full_nats_per_character / values[0]:.3f} with the first"
    if not one.is_challenge:
        sentence += ". This is not the challenge's data at full scale: figures do not compare with its own"
    return sentence + "."


def ladder_sentence(rungs: Sequence[Rung], spread: float | None) -> str:
    """How many changes helped, which did not, and which helped most."""
    words = [verdict(rung.difference, spread).removesuffix(" (one seed)") for rung in rungs]
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    best = min(rungs, key=lambda rung: rung.difference)
    sentence = (
        f"Of {len(rungs)} changes: {counts}. The largest step is {best.change.name} ({best.difference:+.4f})"
    )
    judged = [(rung.change, word) for rung, word in zip(rungs, words, strict=True)]
    worse = [change.name for change, word in judged if word == "did not help"]
    sentence += f"; {', '.join(worse)} made it worse." if worse else "."
    aside = [change.name for change, word in judged if word == "helped" and not change.kept]
    return sentence + (
        f" Helped and yet stands aside, so that no later row has it: {', '.join(aside)}." if aside else ""
    )


def metric_frame(scores: Mapping[int, BudgetScore]) -> pd.DataFrame:
    """One model's score at several batch sizes: what of it depends on the window."""
    rows = [
        (str(batch), f"{score.coverage:.1%}", f"{score.frozen_nats_per_character:.4f}",
         f"{score.full_nats_per_character:.4f}")
        for batch, score in scores.items()
    ]  # fmt: skip
    return frame(("Rows of a batch", "Coverage", "Frozen metric", "Full coverage"), rows)


def tokenizer_frame(tokenizers: Mapping[str, TitleTokenizer], titles: Sequence[str]) -> pd.DataFrame:
    """Vocabulary, tokens per title, and one title cut into its pieces."""
    rows = []
    for kind, tokenizer in tokenizers.items():
        encoded = tokenizer.encode(titles)
        pieces = tokenizer.tokenizer.encode(f" {titles[0]}").tokens
        per_title = sum(map(len, encoded)) / len(encoded)
        shown = " | ".join(piece.replace("\u0120", "\u00b7") for piece in pieces)
        rows.append((kind, f"{tokenizer.vocabulary:,}", f"{per_title:.2f}", shown))
    return frame(("Tokenizer", "Ids", "Tokens per title", "One title (\u00b7 is a space)"), rows)


def sample_frame(comparison: Comparison) -> pd.DataFrame:
    """Titles drawn from both recipes, side by side."""
    drawn = zip(comparison.baseline[0].samples, comparison.improved[0].samples, strict=True)
    return frame(("Baseline", "Improved"), list(drawn))


def refusal(check: Callable[..., object], *arguments: object) -> str:
    """The message of the rule that `check(*arguments)` breaks; AssertionError if it breaks none."""
    try:
        check(*arguments)
    except RuleBroken as broken:
        return str(broken)
    raise AssertionError("no rule was broken")


def _loss(run: BudgetRun) -> str:
    return f"{run.score.full_nats_per_character:.4f}"


def _cost(run: BudgetRun) -> tuple[str, str, str]:
    return f"{run.score.coverage:.1%}", f"{run.seconds:,.0f}", f"{run.parameters / 1e6:.2f} M"
