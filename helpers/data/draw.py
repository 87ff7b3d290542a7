"""Spend a budget of tokens on whole files, drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from helpers.data.splits import files_of
from helpers.models.causal_lm import load_tokenizer
from helpers.models.tokens import token_ids
from helpers.records import Corpus, SourceFile, SplitName, Splits
from helpers.settings import TrackASettings

OVERSHOOT = 1.10  # a file that would raise the total above this share of the budget is skipped


def draw_splits(
    corpus: Corpus, splits: Splits, settings: TrackASettings, seed: int
) -> Mapping[str, list[SourceFile]]:
    """Return Track A's files: "training", "validation" or "test" -> files drawn from that split."""
    tokenizer = load_tokenizer(settings.model)

    def drawn(split: SplitName, budget: int) -> list[SourceFile]:
        return draw_files(files_of(corpus, splits, split), tokenizer, budget, seed)

    return {
        "training": drawn("train", settings.train_tokens),
        "validation": drawn("validation", settings.validation_tokens),
        "test": drawn("test", settings.test_tokens),
    }


def draw_files(
    files: Sequence[SourceFile], tokenizer: PreTrainedTokenizerBase, token_budget: int, seed: int
) -> list[SourceFile]:
    """Draw whole files in seeded order until `token_budget` tokens are reached.

    A file that would overshoot the budget by over a tenth is skipped and the next one tried. If every
    file is too large, the smallest one is taken, so the result is empty only for no files. The order of
    `files` does not matter.
    """
    shuffled = sorted(files, key=lambda file: file.path)
    random.Random(f"{seed}:draw files").shuffle(shuffled)
    drawn: list[SourceFile] = []
    total = 0
    for file in shuffled:
        if total >= token_budget:
            break
        tokens = len(token_ids(tokenizer, file.text))
        if total + tokens <= token_budget * OVERSHOOT:
            drawn.append(file)
            total += tokens
    return drawn or sorted(files, key=lambda file: (file.n_bytes, file.path))[:1]
