"""Training loss of the fixed-budget lab: cross-entropy, with R-Drop if the recipe asks for it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from helpers.fixed_budget.title_model import TitleLM
from helpers.models.structure import output_head
from helpers.train.from_scratch import Batch

MAX_PIECE_LOGITS = 2**27  # logits computed at once, over both R-Drop views: 512 MiB in float32


def summed_title_loss(
    model: TitleLM, batch: Batch, *, r_drop: float = 0.0, compiled: bool = False
) -> tuple[torch.Tensor, int]:
    """Return the summed training loss in nats, averaged over the members, and the number of targets.

    The loss is the cross-entropy. With `r_drop`, every row passes twice under different dropout; the
    loss is then the mean of both cross-entropies plus `r_drop` times the mean of the two
    Kullback-Leibler divergences between the predictions (Liang et al. 2021, R-Drop).

    Args:
        model: in training mode, for dropout to act.
        batch: `ids` and `targets`, each (rows, block).
        r_drop: weight of the divergence; 0 runs a single pass.
        compiled: fuse the output head with the loss, since with a large vocabulary every pass over
            the logits is expensive.
    """
    ids, targets = batch["ids"], batch["targets"].flatten()
    piece = _compiled_piece() if compiled else _piece
    total = torch.zeros((), device=ids.device)
    for member in model.members:
        hidden = model.hidden(member, torch.cat([ids, ids]) if r_drop else ids).flatten(0, 1)
        views = hidden.chunk(2) if r_drop else (hidden,)
        head = output_head(member)
        rows = max(1, MAX_PIECE_LOGITS // (head.weight.shape[0] * len(views)))
        pieces = zip(targets.split(rows), *(view.split(rows) for view in views), strict=True)
        for wanted, *parts in pieces:
            if len(targets) <= rows:  # a single piece needs no recomputation
                total = total + piece(head, r_drop, wanted, *parts)
            else:
                total = total + checkpoint(piece, head, r_drop, wanted, *parts, use_reentrant=False)
    return total / len(model.members), len(targets)


def _piece(head: torch.nn.Module, r_drop: float, targets: torch.Tensor, *views: torch.Tensor) -> torch.Tensor:
    logs = [head(view).float().log_softmax(-1) for view in views]
    loss = sum(functional.nll_loss(log, targets, reduction="sum") for log in logs) / len(logs)
    if r_drop:
        one, other = logs
        # KL(p|q) + KL(q|p) in one expression, to save passes over a large vocabulary
        apart = ((one.exp() - other.exp()) * (one - other)).sum()
        loss = loss + r_drop * 0.5 * apart
    return loss


@functools.cache
def _compiled_piece() -> Callable[..., torch.Tensor]:
    return torch.compile(_piece, dynamic=False)  # two shapes at most: all steps are cut alike
