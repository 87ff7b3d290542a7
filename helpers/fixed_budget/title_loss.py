"""What the fixed-budget lab trains on: cross-entropy, with R-Drop where a recipe asks for it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from helpers.fixed_budget import model as title_lm
from helpers.models.structure import output_head
from helpers.train.from_scratch import Batch

MAX_LOGITS = 2**27  # elements of one piece, both views: 512 MiB in float32


def objective(
    model: title_lm.TitleLM, batch: Batch, *, r_drop: float = 0.0, compiled: bool = False
) -> tuple[torch.Tensor, int]:
    """Summed training loss in nats, averaged over the members, and the number of targets.

    Cross-entropy; with `r_drop` every row is fed twice under different dropout, and the loss is the
    mean of both cross-entropies plus `r_drop` times the mean of both Kullback-Leibler divergences
    between the predictions (Liang et al. 2021, R-Drop). `compiled` fuses the head and what follows
    it: with a long vocabulary every pass over the logits costs.
    """
    ids, targets = batch["ids"], batch["targets"].flatten()
    piece = _compiled_piece() if compiled else _piece
    total = torch.zeros((), device=ids.device)
    for member in model.members:
        hidden = model.hidden(member, torch.cat([ids, ids]) if r_drop else ids).flatten(0, 1)
        views = hidden.chunk(2) if r_drop else (hidden,)
        head = output_head(member)
        rows = max(1, MAX_LOGITS // (head.weight.shape[0] * len(views)))
        pieces = zip(targets.split(rows), *(view.split(rows) for view in views), strict=True)
        for wanted, *parts in pieces:
            if len(targets) <= rows:  # one piece need not be recomputed
                total = total + piece(head, r_drop, wanted, *parts)
            else:
                total = total + checkpoint(piece, head, r_drop, wanted, *parts, use_reentrant=False)
    return total / len(model.members), len(targets)


def _piece(head: torch.nn.Module, r_drop: float, targets: torch.Tensor, *views: torch.Tensor) -> torch.Tensor:
    logs = [head(view).float().log_softmax(-1) for view in views]
    loss = sum(functional.nll_loss(log, targets, reduction="sum") for log in logs) / len(logs)
    if r_drop:
        one, other = logs
        # KL(p|q) + KL(q|p) in one expression: the vocabulary is long, every pass over it costs
        apart = ((one.exp() - other.exp()) * (one - other)).sum()
        loss = loss + r_drop * 0.5 * apart
    return loss


@functools.cache
def _compiled_piece() -> Callable[..., torch.Tensor]:
    return torch.compile(_piece, dynamic=False)  # rows of a step are cut alike: two shapes at most
