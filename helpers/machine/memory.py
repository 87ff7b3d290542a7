"""Retries with less after running out of memory; each reduction is recorded.

Training first halves the micro-batch (and doubles accumulation, so that a step still learns from the
same examples), then recomputes activations instead of keeping them, then holds the frozen weights in
4 bits. Evaluation and generation only halve their batches, since their results do not depend on them.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

from helpers.machine.usage import free_memory

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """How a training step is made to fit in memory; `lowered` lists the reductions in order."""

    micro_batch: int | None = None  # examples in one forward pass; None: the training's own rule
    checkpointing: bool = False  # keep one tensor per layer and recompute the rest; takes a third longer
    nf4: bool = False  # frozen weights in 4 bits, whatever the run requested
    lowered: tuple[str, ...] = ()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that the accelerator or the host ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or should_reduce_batch_size(error)


def next_fit(fit: Fit, used_micro_batch: int, *, can_checkpoint: bool = True) -> Fit | None:
    """Return the next reduction after `fit`, or None if there is none left.

    Args:
        used_micro_batch: examples in one forward pass of the step that ran out of memory.
    """
    if used_micro_batch > 1:
        half = used_micro_batch // 2
        return _lower(fit, f"micro-batch {used_micro_batch} -> {half}", micro_batch=half)
    if can_checkpoint and not fit.checkpointing:
        return _lower(fit, "gradient checkpointing on", micro_batch=1, checkpointing=True)
    if not fit.nf4 and importlib.util.find_spec("bitsandbytes") is not None:
        return _lower(fit, "frozen weights -> NF4", micro_batch=1, nf4=True)
    return None


def in_batches(
    items: Sequence[T], size: int, compute: Callable[[Sequence[T]], R], *, what: str
) -> Iterator[tuple[Sequence[T], R]]:
    """Yield (batch, compute(batch)) over `items` in order, `size` at a time.

    If a batch does not fit in memory, this and all later batches have half the size; a single item that
    does not fit raises. `compute` must be repeatable: nothing of a failed call is used.
    """
    at = 0
    while at < len(items):
        batch = items[at : at + size]
        fits = True
        try:
            result = compute(batch)
        except (RuntimeError, MemoryError) as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
            fits = False
        if not fits:  # outside the handler, where the error would still hold the failed call's tensors
            size = max(1, len(batch) // 2)
            log.warning("%s: out of memory, continuing with batches of %d", what, size)
            free_memory()
            continue
        yield batch, result
        at += len(batch)


def _lower(fit: Fit, step: str, **changes: object) -> Fit:
    log.warning("out of memory in training: %s", step)
    return replace(fit, lowered=(*fit.lowered, step), **changes)
