"""Cross-entropy over the target tokens, without computing the logits of the others.

With a vocabulary of 151,936 the float32 logits of four windows of 1,024 tokens take 2.3 GiB a copy, and
several copies exist at once. Here positions labelled -100 never reach the output head, and the others pass
it in pieces that are recomputed in the backward pass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from helpers.models.structure import vocabulary_size

IGNORED = -100  # the label of a position that is no target; transformers uses the same
MAX_LOGITS = 2**25  # elements of one piece: 128 MiB in float32
MAX_FROZEN_LOGITS = 2**24  # of one piece of a frozen head's loss, so that its products are not narrow


def summed_token_loss(
    head: torch.nn.Module,
    hidden: torch.Tensor,
    labels: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    max_logits: int = MAX_LOGITS,
    compiled: bool = False,
) -> tuple[torch.Tensor, int]:
    """Return the sum of -ln p(label) in nats (float32) over all targets, and their number.

    Args:
        hidden: (batch, length, width); position i predicts token i + 1.
        labels: (batch, length), the token itself at each position or `IGNORED`. They are shifted here, as
            in transformers; labels[:, 0] can never be a target.
        weights: (batch, length), factors for each token's loss; 1 if not given.
        max_logits: elements of a piece; a single piece is kept, several are recomputed.
        compiled: run the head and what follows it as one fused kernel. Then positions that are no targets
            pass through it too, since each number of targets would be compiled separately; it suits
            batches of one shape with few such positions.
    """
    hidden, targets = hidden[:, :-1], labels[:, 1:]
    weights = torch.ones_like(targets, dtype=torch.float32) if weights is None else weights[:, 1:]
    chosen = targets != IGNORED
    count = int(chosen.sum())
    if count == 0:
        return hidden.sum() * 0.0, 0
    if compiled:
        piece, hidden = _compiled_piece(), hidden.flatten(0, 1)
        targets, weights = targets.flatten(), weights.flatten()
    else:
        piece, hidden, targets, weights = _piece, hidden[chosen], targets[chosen], weights[chosen]
    rows = max(1, max_logits // vocabulary_size(head))
    if len(targets) <= rows:
        return piece(head, hidden, targets, weights), count
    total = hidden.new_zeros((), dtype=torch.float32)
    for parts in zip(hidden.split(rows), targets.split(rows), weights.split(rows), strict=True):
        total = total + checkpoint(piece, head, *parts, use_reentrant=False)
    return total, count


def frozen_head_loss(
    hidden: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> tuple[torch.Tensor, int]:
    """Return what `summed_token_loss` does for a head that is not trained, with less memory and time.

    Args:
        hidden: (batch, length, width), cast to the dtype of `weight` (vocabulary, width) for its products.
        labels: (batch, length), as in `summed_token_loss`.
    """
    targets = labels[:, 1:]
    chosen = targets != IGNORED
    fed = hidden[:, :-1][chosen].to(weight.dtype)
    return _FrozenHeadLoss.apply(fed, targets[chosen], weight, bias), int(chosen.sum())


@functools.cache
def _compiled_piece() -> Callable[..., torch.Tensor]:
    return torch.compile(_piece, dynamic=False)


def _piece(
    head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    losses = torch.nn.functional.cross_entropy(
        head(hidden).float(), targets, reduction="none", ignore_index=IGNORED
    )
    return (losses * weights).sum()


class _FrozenHeadLoss(torch.autograd.Function):
    """The summed loss of a frozen head, whose gradient is computed in the forward pass, piece by piece.

    No piece's logits are kept or computed again: two products with the head instead of three.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        rows = max(1, MAX_FROZEN_LOGITS // len(weight))
        gradient, total = torch.empty_like(hidden), hidden.new_zeros((), dtype=torch.float32)
        for piece, wanted, out in zip(
            hidden.split(rows), targets.split(rows), gradient.split(rows), strict=True
        ):
            p = torch.softmax(torch.nn.functional.linear(piece, weight, bias), -1)  # float32 inside
            at = wanted[:, None]
            # In bfloat16, p is off by at most 1 in 512 either way, a loss by .002, their mean by far less.
            total -= p.gather(1, at).float().clamp_(min=torch.finfo(torch.float32).tiny).log_().sum()
            p.scatter_add_(1, at, p.new_full((), -1.0).expand_as(at))
            torch.mm(p, weight, out=out)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0], None, None, None
