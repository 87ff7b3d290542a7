"""Tokenizers of the fixed-budget lab, trained on the training titles alone.

Both kinds work on bytes, so decoding returns any text exactly: nothing becomes "unknown" and nothing
is normalised. Each title is encoded with a leading space, as the challenge's tokenizer does by
itself, and followed by the separator's id.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from helpers.fixed_budget.titles import SEPARATOR, text_sha256
from helpers.models.tokens import renamed_copy

PAD, UNKNOWN = "<pad>", "<unk>"
MARKS = (PAD, SEPARATOR, UNKNOWN)
ALPHABET = pre_tokenizers.ByteLevel.alphabet()  # one character for each of the 256 bytes
SMALLEST_VOCABULARY = 300  # 256 bytes, special tokens, and room for some pieces
KINDS = ("bpe", "unigram")
MADE_UP_STEP = 1e-4  # difference of neighbouring scores that the unigram trainer makes up, see `_canonical`


@dataclass(frozen=True)
class TitleTokenizer:
    """A trained tokenizer and the digest of its training titles."""

    tokenizer: Tokenizer
    trained_on: str  # `text_sha256` of the training titles

    @property
    def vocabulary(self) -> int:
        """Number of ids, special tokens included; a small text gives fewer than requested."""
        return self.tokenizer.get_vocab_size()

    @property
    def separator_id(self) -> int:
        """Id of the token after every title."""
        return self.tokenizer.token_to_id(SEPARATOR)

    def encode(self, titles: Sequence[str]) -> list[torch.Tensor]:
        """Return one int64 tensor of ids per title, ending with the separator.

        A title that spells a special token keeps its characters.
        """
        texts = [f" {title}" for title in titles]
        found = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        marks = {self.tokenizer.token_to_id(mark) for mark in MARKS}
        kept = []
        for text, one in zip(texts, found, strict=True):
            plain = one if marks.isdisjoint(one.ids) else self._plain.encode(text, add_special_tokens=False)
            kept.append(torch.tensor([*plain.ids, self.separator_id]))
        return kept

    @cached_property
    def _plain(self) -> Tokenizer:
        return renamed_copy(self.tokenizer, MARKS)[0]

    def decode(self, ids: torch.Tensor) -> str:
        """Return the title that `encode` turned into `ids`."""
        return self.tokenizer.decode(ids.tolist()[:-1], skip_special_tokens=False)[1:]


def train_tokenizer(kind: str, vocabulary: int, titles: Sequence[str]) -> TitleTokenizer:
    """Train a tokenizer on the training titles; the same titles always give the same one.

    Args:
        kind: `bpe`, the challenge's (GPT-2's byte-level BPE), or `unigram` (Kudo 2018), which cuts
            at spaces only and can learn pieces with punctuation, such as " C++".
        vocabulary: number of ids, at most.

    Raises:
        ValueError: for an unknown kind, or a vocabulary below `SMALLEST_VOCABULARY`.
    """
    if kind not in KINDS or vocabulary < SMALLEST_VOCABULARY:
        raise ValueError(
            f"cannot train a {kind!r} tokenizer of {vocabulary} ids: choose {' or '.join(KINDS)} and at "
            f"least {SMALLEST_VOCABULARY} ids"
        )
    common = {
        "vocab_size": vocabulary, "special_tokens": [*MARKS], "initial_alphabet": ALPHABET,
        "show_progress": False,
    }  # fmt: skip
    if kind == "bpe":
        made = Tokenizer(models.BPE(unk_token=UNKNOWN))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(**common)
    else:
        made = Tokenizer(models.Unigram())
        words = pre_tokenizers.Split(Regex(" ?[^ ]+| +"), "isolated")
        as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.pre_tokenizer = pre_tokenizers.Sequence([words, as_bytes])
        trainer = trainers.UnigramTrainer(unk_token=UNKNOWN, **common)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator((f" {title}" for title in titles), trainer)
    if kind == "unigram":
        made = _canonical(made)
    return TitleTokenizer(made, text_sha256(titles))


def changed_titles(tokenizer: TitleTokenizer, titles: Sequence[str]) -> list[str]:
    """Return the titles that encoding and decoding do not reproduce exactly."""
    pairs = zip(titles, tokenizer.encode(titles), strict=True)
    return [title for title, ids in pairs if tokenizer.decode(ids) != title]


def _canonical(trained: Tokenizer) -> Tokenizer:
    """Remove the effect of thread timing on a unigram model's scores and their order.

    Scores differ in their last digits between trainings, so they are rounded. The trainer makes up scores
    for bytes that are not pieces themselves, each one step below the last, in arbitrary order; here the
    order is fixed.
    """
    plan = json.loads(trained.to_str())
    pieces = plan["model"]["vocab"]
    special, scores = pieces[:3], {piece: round(score, 6) for piece, score in pieces[3:]}
    lowest_first = sorted((piece for piece in scores if len(piece) == 1), key=scores.__getitem__)
    made_up = lowest_first[:1]
    for piece in lowest_first[1:]:
        if scores[piece] - scores[made_up[-1]] > MADE_UP_STEP * 1.1:
            break
        made_up.append(piece)
    values = sorted((scores[piece] for piece in made_up), reverse=True)
    scores |= dict(zip(sorted(made_up), values, strict=True))
    plan["model"]["vocab"] = special + sorted(map(list, scores.items()), key=lambda pair: (-pair[1], pair[0]))
    return Tokenizer.from_str(json.dumps(plan))
