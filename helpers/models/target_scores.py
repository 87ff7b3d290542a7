"""How likely a model finds target tokens, from its last hidden states, a few rows of logits at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy, linear

from helpers.models.structure import vocabulary_size

LOGITS_AT_ONCE = 2**24  # elements of a product, 64 MiB in float32; limits memory
MOST_TIES = 16  # a row, on average, that are told apart by the weights of each alone
IN_CACHE = 2**20  # elements that a CPU casts and reads several times: 4 MiB in float32


@dataclass(frozen=True)
class TargetHead:
    """An output head that scores targets in float32, from its logits or from those of `rounded` weights.

    A product in bfloat16 takes two fifths of the time. A logit is off by up to 1/256 of its size then, either
    way, and a loss by about as much, not by its own size; over many targets that cancels out. Which of equal
    logits is the highest is decided without rounding: low ids are frequent tokens, and would win too often.
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

        Texts are scored one by one, so that no target's score depends on other texts.

        Args:
            hidden: (n, width), after the final norm, of the token before each target.
        """
        vocabulary = vocabulary_size(self.head)
        rows = max(1, LOGITS_AT_ONCE // vocabulary)
        few = max(1, IN_CACHE // vocabulary) if hidden.device.type == "cpu" else rows
        losses, hits = [], []
        for some, right in zip(hidden.split(rows), targets.split(rows), strict=True):
            logits = self._logits(some)
            # In bfloat16, torch would sum e^logits to 8 bits: what is likelier than .996 would cost nothing.
            for part, states, wanted in zip(
                logits.split(few), some.split(few), right.split(few), strict=True
            ):
                exact = part.float()
                losses.append(cross_entropy(exact, wanted, reduction="none"))
                hits.append(self._highest(exact, states) == wanted)
        return torch.cat(losses), torch.cat(hits)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.rounded is None:
            return self.head(hidden)
        return linear(hidden.to(torch.bfloat16), *self.rounded)

    def _highest(self, logits: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Return the id with the highest logit in each row; the lowest id of equal ones in float32."""
        highest = logits.argmax(-1)
        if self.rounded is None:
            return highest
        equal = logits == logits.gather(1, highest[:, None])
        (tied,) = (equal.sum(-1) > 1).nonzero(as_tuple=True)
        if len(tied):
            row, token = equal[tied].nonzero(as_tuple=True)
            if len(row) > MOST_TIES * len(tied):  # of a model that tells hardly any tokens apart
                highest[tied] = self.head(hidden[tied]).float().argmax(-1)
                return highest
            weight, bias = self.head.weight, self.head.bias
            exact = (hidden[tied[row]] * weight[token]).sum(-1) + (0.0 if bias is None else bias[token])
            among = logits.new_full((len(tied), logits.shape[1]), -torch.inf)
            among[row, token] = exact
            highest[tied] = among.argmax(-1)
        return highest
