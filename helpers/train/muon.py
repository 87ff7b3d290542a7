"""torch's Muon with all matrices of one shape orthogonalised at once.

`torch.optim.Muon` takes one matrix after the other: some thirty small kernels each, which on a GPU cost
several times what the rest of a small model's step does. Stacked, they are a handful.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch


class StackedMuon(torch.optim.Muon):
    """The same updates, state and options as `torch.optim.Muon`; learning rates adjusted as "original"."""

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """One optimization step; `closure` as in every optimizer of torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            matrices = [p for p in group["params"] if p.grad is not None]
            if not matrices:
                continue
            gradients = [p.grad for p in matrices]
            means = [self._mean(p) for p in matrices]
            torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
            updates = torch._foreach_lerp(gradients, means, group["momentum"]) if group["nesterov"] else means
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            alike: dict[torch.Size, list[int]] = defaultdict(list)
            for place, update in enumerate(updates):
                alike[update.shape].append(place)
            for (rows, columns), places in alike.items():
                stacked = torch.stack([updates[place] for place in places])
                made = orthogonalised(stacked, group["ns_coefficients"], group["ns_steps"], group["eps"])
                rate = group["lr"] * max(1.0, rows / columns) ** 0.5
                torch._foreach_add_(
                    [matrices[place] for place in places], list(made.float().unbind()), alpha=-rate
                )
        return loss

    def _mean(self, matrix: torch.Tensor) -> torch.Tensor:
        """The moving average of a matrix's gradient, under the name that torch's own class gives it."""
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix.grad)
        return state["momentum_buffer"]


def orthogonalised(
    matrices: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """Each matrix of (n, rows, columns) near its closest orthogonal one, in bfloat16.

    `steps` Newton-Schulz iterations with the quintic polynomial of `coefficients` (Jordan et al. 2024).
    """
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16()
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)  # spectral norms of 1 at most
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
