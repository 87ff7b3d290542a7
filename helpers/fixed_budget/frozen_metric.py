"""The frozen metric of the fixed-budget lab: nats per character of the validation text.

The challenge's own figure sums the cross-entropy over non-overlapping windows of batch x block + 1
tokens, drops the tail, and divides by all characters. It falls when fewer tokens are scored, so it
depends on batch, block and tokenizer. Two figures are therefore reported with it: `coverage`, the
share of validation tokens that it scored, and `full_nats_per_character`, which scores every token
exactly once. Compare recipes by the latter only.

As in the challenge, the characters of the separator after each title (five per title) count too.
`title_nats_per_character` divides by the titles' characters alone.

Do not change these functions, not even their docstrings: `helpers.fixed_budget.rules` holds a hash
of their source and refuses to run with any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

Logits = Callable[[torch.Tensor], torch.Tensor]  # ids (rows, length) -> logits (rows, length, vocabulary)


@dataclass(frozen=True)
class BudgetScore:
    """Validation loss in nats per character, computed three ways, and the counts behind it."""

    frozen_nats_per_character: float
    coverage: float  # share of validation tokens that the frozen figure scored
    full_nats_per_character: float
    title_nats_per_character: float  # all tokens, over the titles' characters without separators
    nats_per_token: float
    n_tokens: int  # validation tokens, separators included
    n_characters: int  # of the validation text, separators included


@torch.inference_mode()
def evaluate(
    logits: Logits, ids: torch.Tensor, *, n_characters: int, n_titles: int, separator: str, separator_id: int,
    batch: int, block: int, device: torch.device,
) -> BudgetScore:  # fmt: skip
    """Score a validation text that was encoded to `ids`, as a whole and as the challenge does.

    Args:
        logits: the model; row i must not depend on other rows, position t not on later ones.
        ids: (tokens,), each title followed by `separator_id`.
        n_characters: of the text itself, separators included; never of anything made from it.
        batch, block: the recipe's own; they are the window of the challenge's figure.

    Raises:
        ValueError: if the text is shorter than one window, or the loss is not finite.
    """
    frozen, scored = frozen_sum(logits, ids, batch=batch, block=block, device=device)
    full = full_sum(logits, ids, separator_id=separator_id, batch=batch, block=block, device=device)
    if not math.isfinite(frozen + full):
        raise ValueError("the validation loss is not a finite number: the model has diverged")
    return BudgetScore(
        frozen_nats_per_character=frozen / n_characters,
        coverage=scored / len(ids),
        full_nats_per_character=full / n_characters,
        title_nats_per_character=full / (n_characters - n_titles * len(separator)),
        nats_per_token=full / len(ids),
        n_tokens=len(ids),
        n_characters=n_characters,
    )


def frozen_sum(
    logits: Logits, ids: torch.Tensor, *, batch: int, block: int, device: torch.device
) -> tuple[float, int]:
    """Summed nats and number of targets over whole windows of batch x block + 1 tokens."""
    span = batch * block + 1
    if len(ids) < span:
        raise ValueError(
            f"the validation text has {len(ids)} tokens, fewer than a window of batch x block + 1 = {span}: "
            "take more titles or a smaller batch"
        )
    total, scored = 0.0, 0
    for start in range(0, len(ids) - span + 1, span):
        window = ids[start : start + span].to(device)
        total += token_nats(logits(window[:-1].view(batch, block)), window[1:])
        scored += batch * block
    return total, scored


def full_sum(
    logits: Logits, ids: torch.Tensor, *, separator_id: int, batch: int, block: int, device: torch.device
) -> float:
    """Summed nats over every token once, in rows of `block`; a separator stands before the first."""
    inputs = torch.cat([torch.tensor([separator_id]), ids[:-1]])
    whole = len(ids) // block * block
    rows = [(inputs[:whole].view(-1, block), ids[:whole].view(-1, block))]
    if whole < len(ids):
        rows.append((inputs[whole:].view(1, -1), ids[whole:].view(1, -1)))
    total = 0.0
    for fed, wanted in rows:
        for some, targets in zip(fed.split(batch), wanted.split(batch), strict=True):
            total += token_nats(logits(some.to(device)), targets.to(device))
    return total


def token_nats(scores: torch.Tensor, targets: torch.Tensor) -> float:
    """Sum of -ln softmax(scores)[target] in float32; scores (rows, length, vocabulary)."""
    losses = torch.nn.functional.cross_entropy(
        scores.reshape(-1, scores.shape[-1]).float(), targets.reshape(-1), reduction="none"
    )
    return losses.double().sum().item()
