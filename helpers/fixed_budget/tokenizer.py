"""Tokenizers of the fixed-budget lab, learned from the training titles alone.

Both kinds work on bytes, so that any text comes back exactly as it was: nothing can be read as
"unknown" and nothing is normalised. A title is encoded with a space before it, as the challenge's
tokenizer does by itself, and the separator's id follows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from helpers.fixed_budget.titles import SEPARATOR, text_sha256

PAD, UNKNOWN = "<pad>", "<unk>"
ALPHABET = pre_tokenizers.ByteLevel.alphabet()  # one character for each of the 256 bytes
SMALLEST_VOCABULARY = 300  # 256 bytes, special tokens, a rest
KINDS = ("bpe", "unigram")
MADE_UP_STEP = 1e-4  # between the scores that the unigram trainer invents


@dataclass(frozen=True)
class TitleTokenizer:
    """A trained tokenizer and the digest of the titles it was trained on."""

    tokenizer: Tokenizer
    kind: str
    trained_on: str  # `text_sha256` of the titles

    @property
    def vocabulary(self) -> int:
        """Number of ids, special tokens included; small texts give fewer than asked for."""
        return self.tokenizer.get_vocab_size()

    @property
    def separator_id(self) -> int:
        """Id of the token that ends every title."""
        return self.tokenizer.token_to_id(SEPARATOR)

    def encode(self, titles: Sequence[str]) -> list[torch.Tensor]:
        """One int64 tensor of ids per title, the separator last."""
        found = self.tokenizer.encode_batch([f" {title}" for title in titles], add_special_tokens=False)
        return [torch.tensor([*one.ids, self.separator_id]) for one in found]

    def decode(self, ids: torch.Tensor) -> str:
        """The title that `encode` was given, from its ids."""
        return self.tokenizer.decode(ids.tolist()[:-1], skip_special_tokens=False)[1:]


def train_tokenizer(kind: str, vocabulary: int, titles: Sequence[str]) -> TitleTokenizer:
    """Learn a `bpe` or `unigram` tokenizer of `vocabulary` ids; the same titles give the same one.

    `bpe` is the challenge's: GPT-2's byte-level BPE. `unigram` (Kudo 2018) may learn pieces that
    hold punctuation, such as " C++"; words end at spaces.

    Raises:
        ValueError: for another kind, or a vocabulary below `SMALLEST_VOCABULARY`.
    """
    if kind not in KINDS or vocabulary < SMALLEST_VOCABULARY:
        raise ValueError(
            f"no tokenizer {kind!r} of {vocabulary} ids: choose {' or '.join(KINDS)}, "
            f"{SMALLEST_VOCABULARY} up"
        )
    common = {
        "vocab_size": vocabulary, "special_tokens": [PAD, SEPARATOR, UNKNOWN], "initial_alphabet": ALPHABET,
        "show_progress": False,
    }  # fmt: skip
    if kind == "bpe":
        made = Tokenizer(models.BPE(unk_token=UNKNOWN))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(**common)
    else:
        made = Tokenizer(models.Unigram())
        words = pre_tokenizers.Split(Regex(" ?[^ ]+| +"), "isolated")
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        trainer = trainers.UnigramTrainer(unk_token=UNKNOWN, **common)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator((f" {title}" for title in titles), trainer)
    if kind == "unigram":
        made = _canonical(made)
    return TitleTokenizer(made, kind, text_sha256(titles))


def changed_titles(tokenizer: TitleTokenizer, titles: Sequence[str]) -> list[str]:
    """Titles that do not come back from encoding and decoding exactly as they were."""
    pairs = zip(titles, tokenizer.encode(titles), strict=True)
    return [title for title, ids in pairs if tokenizer.decode(ids) != title]


def _canonical(trained: Tokenizer) -> Tokenizer:
    """The unigram model with scores and order that do not depend on the threads that summed them.

    Scores differ in their last digits from training to training. Bytes that are no piece of their
    own get made-up scores, one step below another from the lowest real one on, in any order.
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
