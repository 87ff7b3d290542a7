"""Fill-in-the-middle (Bavarian et al. 2022, arXiv:2207.14255): a model writes what stands between two texts.

Families that were pretrained so have three marks of their own. A prompt is

    PSM    prefix-mark PREFIX suffix-mark SUFFIX middle-mark            and the model writes MIDDLE
    SPM    prefix-mark suffix-mark SUFFIX middle-mark PREFIX            likewise

Prompts are written as PSM, which every family was trained on; training mixes both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

FAMILIES = (  # the marks of prefix, suffix and middle
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder
)


@dataclass(frozen=True)
class InfillMarks:
    """The ids of a family's three marks."""

    prefix: int
    suffix: int
    middle: int

    def psm(self, prefix: Sequence[int], suffix: Sequence[int], middle: Sequence[int] = ()) -> list[int]:
        """Return prefix, suffix and middle in this order, each after its mark; ends ready for the middle."""
        return [self.prefix, *prefix, self.suffix, *suffix, self.middle, *middle]

    def spm(self, prefix: Sequence[int], suffix: Sequence[int], middle: Sequence[int] = ()) -> list[int]:
        """Return the suffix first, then prefix and middle as one text."""
        return [self.prefix, self.suffix, *suffix, self.middle, *prefix, *middle]


def infill_marks(tokenizer: PreTrainedTokenizerBase) -> InfillMarks | None:
    """Return the marks that a tokenizer has; None if its family was not trained to fill in the middle."""
    vocabulary = tokenizer.get_vocab()
    for names in FAMILIES:
        if all(name in vocabulary for name in names):
            return InfillMarks(*(vocabulary[name] for name in names))
    return None
