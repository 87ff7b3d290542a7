"""Divide a training set among several processes so that no example counts twice.

Every process must take part in every step. If the number of examples is not divisible, data loaders repeat
some, which changes the loss of an epoch's last step. Here fillers without targets take their places, so
that the loss equals that of a single process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

from helpers.models.token_loss import IGNORED


class EvenlyShared(Sequence):
    """`examples`, filled up to a multiple of `at_once`; items are (example, whether it counts)."""

    def __init__(self, examples: Sequence[Any], at_once: int) -> None:
        self.examples = examples
        self.fillers = -len(examples) % at_once

    def __len__(self) -> int:
        return len(self.examples) + self.fillers

    def __getitem__(self, index: int) -> tuple[Any, bool]:
        return self.examples[index % len(self.examples)], index < len(self.examples)

    def sampler(self, seed: int) -> Sampler:
        """Return the examples' order, drawn from `seed` and epoch as one process draws it; fillers last."""
        return _FillersLast(len(self.examples), self.fillers, seed)


def ignoring_fillers(collate: Callable[[list[Any]], dict[str, torch.Tensor]]) -> Callable[[list[Any]], dict]:
    """Wrap `collate` for the items of `EvenlyShared`: a filler's labels become -100.

    Examples are frozen dataclasses with a tuple `labels`.
    """

    def collated(items: list[tuple[Any, bool]]) -> dict[str, torch.Tensor]:
        return collate([example if counts else _without_targets(example) for example, counts in items])

    return collated


def _without_targets(example: Any) -> Any:
    return dataclasses.replace(example, labels=(IGNORED,) * len(example.labels))


class _FillersLast(Sampler):
    def __init__(self, examples: int, fillers: int, seed: int) -> None:
        self.examples, self.fillers, self.seed, self.epoch = examples, fillers, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.examples + self.fillers

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from torch.randperm(self.examples, generator=generator).tolist()
        yield from range(self.examples, self.examples + self.fillers)
