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

SUFFIX_SHARE = 0.25  # of a prompt that a suffix may take, as llama.cpp's server has it
FAMILIES = (  # the marks of prefix, suffix and middle
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # CodeLlama
)


@dataclass(frozen=True)
class InfillMarks:
    """The ids of a family's three marks, and how they are spelt."""

    prefix: int
    suffix: int
    middle: int
    spelt: tuple[str, str, str]

    def psm(self, prefix: Sequence[int], suffix: Sequence[int], middle: Sequence[int] = ()) -> list[int]:
        """Return prefix, suffix and middle in this order, each after its mark; ends ready for the middle."""
        return [self.prefix, *prefix, self.suffix, *suffix, self.middle, *middle]

    def spm(self, prefix: Sequence[int], suffix: Sequence[int], middle: Sequence[int] = ()) -> list[int]:
        """Return the suffix first, then prefix and middle as one text."""
        return [self.prefix, self.suffix, *suffix, self.middle, *prefix, *middle]


def infill_mark_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids of all families' marks that a vocabulary holds, whether its model knows them or not."""
    vocabulary = tokenizer.get_vocab()
    return frozenset(vocabulary[name] for names in FAMILIES for name in names if name in vocabulary)


def infill_marks(tokenizer: PreTrainedTokenizerBase) -> InfillMarks | None:
    """Return the marks that a tokenizer has; None if its family was not trained to fill in the middle.

    A vocabulary may hold marks that its model never saw, as the embedded model's does. Its
    `tokenizer_config.json` then says `"fill_in_the_middle": false`, which saved copies keep.
    """
    if tokenizer.init_kwargs.get("fill_in_the_middle") is False:
        return None
    vocabulary = tokenizer.get_vocab()
    for names in FAMILIES:
        if all(name in vocabulary for name in names):
            return InfillMarks(*(vocabulary[name] for name in names), names)
    return None
