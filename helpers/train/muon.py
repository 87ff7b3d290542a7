"""torch's Muon, orthogonalising all matrices of one shape at once.

`torch.optim.Muon` updates one matrix at a time. Each update launches some thirty small kernels, which
on a GPU take several times as long as the rest of a small model's step; stacked matrices share a handful.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch


class StackedMuon(torch.optim.Muon):
    """`torch.optim.Muon` with the same updates, state and options; adjusts rates as "original" does."""

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """Take one step; `closure` is as in every optimizer of torch."""
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
            by_shape: dict[torch.Size, list[int]] = defaultdict(list)
            for index, update in enumerate(updates):
                by_shape[update.shape].append(index)
            for (rows, columns), indices in by_shape.items():
                stacked = torch.stack([updates[index] for index in indices])
                made = orthogonalised(stacked, group["ns_coefficients"], group["ns_steps"], group["eps"])
                rate = group["lr"] * max(1.0, rows / columns) ** 0.5
                torch._foreach_add_(
                    [matrices[index] for index in indices], list(made.float().unbind()), alpha=-rate
                )
        return loss

    def _mean(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return the moving average of a matrix's gradient, stored under the name that torch's class uses."""
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix.grad)
        return state["momentum_buffer"]


def orthogonalised(
    matrices: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """Move each matrix of (n, rows, columns) near its closest orthogonal one, in bfloat16.

    Takes `steps` Newton-Schulz iterations with the quintic polynomial of `coefficients` (Jordan et al. 2024).
    """
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16()
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)  # spectral norms are then at most 1
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
