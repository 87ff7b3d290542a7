"""A budget of tokens spent on whole files, drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from helpers.eval.perplexity import encode
from helpers.records import SourceFile

OVERSHOOT = 1.10  # a file that would take the total beyond this share of the budget is passed over


def draw_files(
    files: Sequence[SourceFile], tokenizer: PreTrainedTokenizerBase, token_budget: int, seed: int
) -> list[SourceFile]:
    """Whole files in seeded order until `token_budget` tokens are reached.

    A file that would overshoot by over a tenth is passed over and the next one tried. Where every
    file is too large, the smallest one is taken, so that the result is empty only for no files.
    The order of `files` does not matter.
    """
    shuffled = sorted(files, key=lambda file: file.path)
    random.Random(f"{seed}:draw files").shuffle(shuffled)
    drawn: list[SourceFile] = []
    total = 0
    for file in shuffled:
        if total >= token_budget:
            break
        tokens = len(encode(tokenizer, file.text))
        if total + tokens <= token_budget * OVERSHOOT:
            drawn.append(file)
            total += tokens
    return drawn or sorted(files, key=lambda file: (file.n_bytes, file.path))[:1]
