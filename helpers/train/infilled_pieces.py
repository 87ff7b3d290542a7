"""Turn a share of the training documents into the form of fill-in-the-middle.

A document is cut at line ends into stretches that fit a row, since the form must not be cut itself. Each
stretch is split at two random characters, as in the families' pretraining, and written as PSM or SPM with
equal probability. All of its text is trained on, and the end token after the middle, by which a model learns
to stop; the marks are no targets.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from helpers.lines import lines_of
from helpers.models.infilling import InfillMarks, infill_marks
from helpers.models.token_loss import IGNORED
from helpers.models.tokens import batch_token_ids, continuing_ids, token_ids
from helpers.train.packing import Piece

SPARE = 16  # tokens of a row: three marks, the end, and what splitting within a token adds


def infilled_pieces(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, window: int, *, share: float, seed: int
) -> tuple[list[str], list[Piece]]:
    """Return the documents that stay as they are, and the pieces of the others.

    Without marks in the tokenizer, all documents stay.

    Args:
        window: tokens of a row.
        share: of the documents to turn; the seed draws which.
    """
    marks = infill_marks(tokenizer)
    if marks is None:
        return list(texts), []
    draw = random.Random(f"{seed}:infill")
    turned = set(draw.sample(range(len(texts)), round(share * len(texts))))
    plain = [text for number, text in enumerate(texts) if number not in turned]
    pieces = [
        _piece(part, tokenizer, marks, window, draw)
        for number in sorted(turned)
        for part in _parts(texts[number], tokenizer, window)
    ]
    return plain, pieces


def _parts(text: str, tokenizer: PreTrainedTokenizerBase, window: int) -> list[str]:
    """Cut a text at line ends into parts of about `window` tokens at most; a longer line stays whole."""
    lines = lines_of(text)
    parts: list[str] = []
    room = 0
    for line, ids in zip(lines, batch_token_ids(tokenizer, lines), strict=True):
        if len(ids) > room:
            parts.append("")
            room = max(window - SPARE, 0)
        parts[-1] += line
        room -= len(ids)
    return parts


def _piece(
    text: str, tokenizer: PreTrainedTokenizerBase, marks: InfillMarks, window: int, draw: random.Random
) -> Piece:
    """Split a text at two random characters and return it with its targets; it fits a row."""
    first, last = sorted(draw.randrange(len(text) + 1) for _ in range(2))
    prefix = token_ids(tokenizer, text[:first])
    suffix = continuing_ids(tokenizer, text[last:])
    middle = continuing_ids(tokenizer, text[first:last])
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    # What lies farthest from the middle gives way: the suffix's end, then the prefix's start.
    over = max(0, 3 + len(prefix) + len(suffix) + len(middle) + len(end) - window)
    kept = max(0, len(suffix) - over)
    over -= len(suffix) - kept
    suffix = suffix[:kept]
    prefix = prefix[min(over, len(prefix)) :]
    write = marks.psm if draw.random() < 0.5 else marks.spm
    ids = [*write(prefix, suffix, middle), *end][:window]
    unlearnt = {marks.prefix, marks.suffix, marks.middle}
    return Piece(ids, [IGNORED, *(IGNORED if token in unlearnt else token for token in ids[1:])])
