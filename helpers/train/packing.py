"""Pack documents into rows of a fixed length; attention cannot cross document boundaries.

Padding costs as much as text, so rows should carry little of it. A document longer than a row is cut into
full rows; the rest of it, and every short document, goes best-fit into rows shared with others. Positions
restart at every piece, and attention stays within it: without an attention mask and a cache, transformers
builds the block-diagonal mask from restarting `position_ids`.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import TypeVar

import torch
from transformers import PreTrainedTokenizerBase

from helpers.models.token_loss import IGNORED
from helpers.models.tokens import token_ids

P = TypeVar("P", bound=Sized)


@dataclass(frozen=True)
class PackedRow:
    """One row of `window` tokens; three parallel tuples of that length."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]  # the token itself if it is a target, else -100
    position_ids: tuple[int, ...]  # restart at 0 at every piece and at the padding


@dataclass(frozen=True)
class Piece:
    """Tokens that see nothing but each other, and their targets; at most as many as a row has."""

    ids: Sequence[int]
    labels: Sequence[int]  # the token itself if it is a target, else -100; never the first one

    def __len__(self) -> int:
        return len(self.ids)


def pack_texts(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, window: int, pieces: Sequence[Piece] = ()
) -> list[PackedRow]:
    """Tokenize whole documents and pack them into rows of `window` tokens, at least 2.

    Each document ends with the tokenizer's end token, if it has one. Consecutive pieces of a cut document
    share one token, so that every token but a document's first is a target exactly once. The first token
    of each piece, padding and special tokens are no targets.

    Args:
        pieces: share the rows with the documents, as they are.
    """
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    documents = [ids + end for ids in (token_ids(tokenizer, text) for text in texts) if ids]
    specials = frozenset(tokenizer.all_special_ids)
    pad_id = tokenizer.pad_token_id
    return pack_documents(documents, window, pad_id=pad_id, no_targets=specials, beside=pieces)


def pack_documents(
    documents: Sequence[Sequence[int]], window: int, *, pad_id: int, no_targets: frozenset[int] = frozenset(),
    beside: Sequence[Piece] = (),
) -> list[PackedRow]:  # fmt: skip
    """Pack documents given as token ids, and further pieces, best-fit decreasing.

    Raises:
        ValueError: if `window` is below 2.
    """
    if window < 2:
        raise ValueError(f"window {window} is too short: it must hold one token to see and one to predict")
    pieces = [
        _plain_piece(document[start : start + window], no_targets)
        for document in documents
        for start in range(0, len(document) - 1, window - 1)  # a single token predicts nothing
    ]
    return [_row(row, window, pad_id) for row in best_fit([*pieces, *beside], window)]


def collate_packed(rows: list[PackedRow]) -> dict[str, torch.Tensor]:
    """Return tensors (rows, window) for `run_training`; there is no attention mask on purpose."""
    names = ("input_ids", "labels", "position_ids")
    return {name: torch.tensor([getattr(row, name) for row in rows]) for name in names}


def best_fit(pieces: Sequence[P], window: int) -> list[list[P]]:
    """Put each piece, longest first, into the fullest row that still has room for it; return the rows."""
    rows: list[list[P]] = []
    room: list[int] = []
    for piece in sorted(pieces, key=len, reverse=True):
        fitting = [(space, index) for index, space in enumerate(room) if space >= len(piece)]
        if fitting:
            _, index = min(fitting)
            rows[index].append(piece)
            room[index] -= len(piece)
        else:
            rows.append([piece])
            room.append(window - len(piece))
    return rows


def _plain_piece(ids: Sequence[int], no_targets: frozenset[int]) -> Piece:
    return Piece(ids, [IGNORED, *(IGNORED if token in no_targets else token for token in ids[1:])])


def _row(pieces: Sequence[Piece], window: int, pad_id: int) -> PackedRow:
    ids: list[int] = []
    labels: list[int] = []
    positions: list[int] = []
    for piece in pieces:
        ids += piece.ids
        labels += piece.labels
        positions += range(len(piece))
    padding = window - len(ids)
    return PackedRow(
        tuple(ids) + (pad_id,) * padding,
        tuple(labels) + (IGNORED,) * padding,
        tuple(positions) + tuple(range(padding)),
    )
