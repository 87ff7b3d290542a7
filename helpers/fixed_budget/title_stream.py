"""Training batches of the fixed-budget lab, cut from one token stream that holds all epochs."""

from __future__ import annotations

import torch

from helpers.fixed_budget.recipes import Recipe
from helpers.train.from_scratch import Batch

MICRO_TOKENS = 16_384  # tokens per forward pass; gradients of larger batches are accumulated


class TitleStream:
    """Training batches of a recipe, cut from one token stream that holds all epochs.

    As in the challenge, a batch may span two epochs; tokens that don't fill the last batch are
    dropped. Inputs are the targets shifted by one position, starting with a separator. A batch
    depends on the step alone (`from_scratch.Batches`).
    """

    def __init__(self, encoded: list[torch.Tensor], recipe: Recipe, separator_id: int, seed: int) -> None:
        self.recipe = recipe
        self.train_tokens = sum(len(ids) for ids in encoded)
        shuffler = torch.Generator().manual_seed(seed)
        epochs = []
        for _ in range(recipe.epochs):
            shuffled = torch.randperm(len(encoded), generator=shuffler)
            order = shuffled if recipe.new_order else range(len(encoded))
            epochs.append(torch.cat([encoded[i] for i in order]))
        stream = torch.cat([torch.tensor([separator_id]), *epochs])
        self.tokens_per_step = recipe.batch * recipe.block
        self.steps = (len(stream) - 1) // self.tokens_per_step
        used = self.steps * self.tokens_per_step
        shape = (self.steps, recipe.batch, recipe.block)
        self.inputs = stream[:used].view(shape)
        self.targets = stream[1 : used + 1].view(shape)

    def rows(self, step: int) -> list[Batch]:
        """Return the micro-batches of `step`: `ids` and `targets`, each (rows, block)."""
        rows = max(1, MICRO_TOKENS // self.recipe.block)
        parts = zip(self.inputs[step].split(rows), self.targets[step].split(rows), strict=True)
        return [{"ids": ids, "targets": targets} for ids, targets in parts]
