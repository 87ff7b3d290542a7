"""Training windows, cut on demand from token arrays, since the text is too large for Python lists.

Two streams are mixed: plain files, joined by end tokens and cut anywhere, and pairs, which start at
the beginning of a window so that both halves are seen together. The loss on a pair's second half (the
answer) can weigh more than on its first, which may be faulty code or scrambled words. The rows of a
step depend on its number and the seed alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from helpers.machine.progress import bar
from helpers.models.token_loss import IGNORED
from helpers.models.tokens import batch_token_ids, separated_ids

CHUNK = 256  # texts per tokenizer call


def tokenize_to(
    path: Path, texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, *, total: int, separator: str = ""
) -> np.ndarray:
    """Save the token ids of all texts, each followed by the end token, as one array in `path`, `*.npy`.

    Ids must fit 16 bits. Also saves to `offsets_path(path)`, and returns, the offsets (texts + 1,) at which
    each text begins.

    Args:
        total: the number of texts.
        separator: read as the token it names; everything else in the texts is plain.
    """
    parts: list[np.ndarray] = []
    lengths: list[int] = []
    pending: list[str] = []

    def flush() -> None:
        if separator:
            found = [separated_ids(tokenizer, text, separator) for text in pending]
        else:
            found = batch_token_ids(tokenizer, pending)
        for ids in found:
            parts.append(np.asarray([*ids, tokenizer.eos_token_id], dtype=np.uint16))
            lengths.append(len(ids) + 1)
        shown.update(len(pending))
        pending.clear()

    with bar("tokenize", total=total, unit="text") as shown:
        for text in texts:
            pending.append(text)
            if len(pending) == CHUNK:
                flush()
        flush()
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    np.save(path, np.concatenate(parts) if parts else np.zeros(0, np.uint16))
    np.save(offsets_path(path), offsets)
    return offsets


def offsets_path(path: Path) -> Path:
    """Return the file with the offsets of a token file."""
    return path.with_name(path.stem + ".offsets.npy")


@dataclass(frozen=True)
class MixedWindows:
    """Rows of `window` tokens: a share `pair_share` from pairs, the rest from plain files.

    Attributes:
        plain: ids of the joined files (n,).
        pairs, pair_offsets: ids of the joined pairs, and where each begins.
        rows_per_step, micro_batch: rows per optimizer step and per forward pass.
        separator: id of the token whose last occurrence in a pair precedes the answer.
        question_weight, answer_weight: of the loss on a pair's tokens up to that separator and after
            it, relative to 1 on plain files. The weights of a step are scaled to a mean of 1.
    """

    plain: np.ndarray
    pairs: np.ndarray
    pair_offsets: np.ndarray
    window: int
    rows_per_step: int
    micro_batch: int
    pair_share: float
    seed: int
    separator: int
    question_weight: float = 1.0
    answer_weight: float = 1.0

    def rows(self, step: int) -> Sequence[dict[str, torch.Tensor]]:
        """Return the micro-batches of `step`: `input_ids`, `labels` and `weights`, each (rows, window)."""
        made = [self.row(step * self.rows_per_step + i) for i in range(self.rows_per_step)]
        ids = torch.from_numpy(np.stack([row for row, _ in made]).astype(np.int64))
        labels = ids.clone()
        labels[:, 0] = IGNORED
        weights = torch.from_numpy(np.stack([row for _, row in made]))
        weights = weights / weights[:, 1:].mean()
        return [
            {"input_ids": ids[part], "labels": labels[part], "weights": weights[part]}
            for i in range(0, self.rows_per_step, self.micro_batch)
            for part in [slice(i, i + self.micro_batch)]
        ]

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and weights, (window,) each, of row `number` of the whole training."""
        before = int(number * self.pair_share + 1e-9)
        if int((number + 1) * self.pair_share + 1e-9) > before:
            starts = self._starts
            epoch, place = divmod(before, len(starts))
            start = int(starts[_order(self.seed * 2 + 1, epoch, len(starts))[place]])
            part = slice(start, start + self.window)
            answer, question = np.float32(self.answer_weight), np.float32(self.question_weight)
            return self.pairs[part], np.where(self._answers[part], answer, question)
        count = len(self.plain) // self.window - 1
        epoch, place = divmod(number - before, count)
        shift = int(np.random.default_rng([self.seed, epoch, 7]).integers(self.window))
        start = shift + self.window * int(_order(self.seed * 2, epoch, count)[place])
        return self.plain[start : start + self.window], np.ones(self.window, np.float32)

    @cached_property
    def _answers(self) -> np.ndarray:
        return answer_mask(self.pairs, self.pair_offsets, self.separator)

    @cached_property
    def _starts(self) -> np.ndarray:
        """Where windows begin: each is filled with whole pairs, and the pair it cuts starts the next."""
        at, starts, index = self.pair_offsets, [], 0
        while index < len(at) - 1 and at[index] + self.window <= at[-1]:
            starts.append(at[index])
            following = int(np.searchsorted(at, at[index] + self.window, side="right")) - 1
            index = max(index + 1, following)
        return np.asarray(starts, dtype=np.int64)


def answer_mask(pairs: np.ndarray, offsets: np.ndarray, separator: int) -> np.ndarray:
    """Mark the tokens after the last `separator` of their pair; (n,) of bool for `pairs` (n,).

    >>> answer_mask(np.array([9, 1, 9, 2, 0, 3, 9, 4, 0]), np.array([0, 5, 9]), separator=9).astype(int)
    array([0, 0, 0, 1, 1, 0, 0, 1, 1])
    """
    place = np.arange(len(pairs))
    last = np.maximum.reduceat(np.where(pairs == separator, place, -1), offsets[:-1])
    return place > np.repeat(np.where(last < 0, len(pairs), last), np.diff(offsets))


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)
