"""How likely a model finds target tokens, from its last hidden states, a few rows of logits at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy, linear

from helpers.models.structure import vocabulary_size

LOGITS_AT_ONCE = 2**24  # elements, 64 MiB in float32; limits memory, does not affect the result


@dataclass(frozen=True)
class TargetHead:
    """An output head that scores targets; its logits are float32, or bfloat16 with `rounded` weights.

    In bfloat16 the product takes two fifths of the time and what follows it a third. A logit is off by at
    most 1 in 256 then, either way; so is a loss, and of two nearly equal logits either may count as the
    first. Over many targets that cancels out.
    """

    head: torch.nn.Module
    rounded: tuple[torch.Tensor, torch.Tensor | None] | None = None  # weight (vocabulary, width), bias

    @classmethod
    def in_bfloat16(cls, head: torch.nn.Module) -> TargetHead:
        """Round the weights of a plain head; one with rows of its own, as PEFT trains them, is kept."""
        if type(head) is not torch.nn.Linear:
            return cls(head)
        bias = None if head.bias is None else head.bias.detach().to(torch.bfloat16)
        return cls(head, (head.weight.detach().to(torch.bfloat16), bias))

    def score(self, hidden: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return NLL in nats (float32) of `targets` (n,), and whether each has the highest logit.

        Args:
            hidden: (n, width), after the final norm, of the token before each target.
        """
        rows = max(1, LOGITS_AT_ONCE // vocabulary_size(self.head))
        losses, hits = [], []
        for some, right in zip(hidden.split(rows), targets.split(rows), strict=True):
            if self.rounded is None:
                logits = self.head(some).float()
            else:
                logits = linear(some.to(torch.bfloat16), *self.rounded)
            losses.append(cross_entropy(logits, right, reduction="none").float())
            hits.append(logits.max(-1).indices == right)  # `argmax` is six times slower in bfloat16
        return torch.cat(losses), torch.cat(hits)
