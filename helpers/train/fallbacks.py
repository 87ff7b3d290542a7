"""How a training can fail, and which failures are answered by starting again with less.

A loss that is not finite ends a training; no loop skips such a step. If float16 was the cause, training
starts again in float32; if memory ran out, it starts again with less.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from helpers.errors import SuiteError
from helpers.machine.hardware import Runtime
from helpers.machine.memory import Fit, next_fit
from helpers.machine.usage import free_memory
from helpers.run.workspace import read_json, write_json

H = TypeVar("H")  # what a training returns: its history


class TrainingError(SuiteError, RuntimeError):
    """Training cannot continue; the message says what happened and what to change."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite: the learning rate or the precision does not suit the model."""


class StepTooLargeError(TrainingError):
    """A training step of `micro_batch` examples at once did not fit in memory."""

    def __init__(self, message: str, micro_batch: int, can_checkpoint: bool) -> None:
        super().__init__(message)
        self.micro_batch, self.can_checkpoint = micro_batch, can_checkpoint


def require_finite(value: float, what: str, step: int) -> None:
    """Raise NonFiniteLossError if `what`, "loss" or "validation", is NaN or infinite at 1-based `step`."""
    if not math.isfinite(value):
        raise NonFiniteLossError(
            f"the {what} is {value} at step {step}; lower the learning rate, or train in another precision"
        )


def with_fallbacks(train: Callable[[Runtime, Fit], H], runtime: Runtime, out_dir: Path) -> H:
    """Call `train(runtime, fit)`, and again with less if it runs out of memory or of float16's range.

    Each time memory runs out, `fit` becomes the next one of `helpers.machine.memory.next_fit`. It is kept in
    `out_dir/fit.json`, so that an interrupted run resumes with it.

    Raises:
        StepTooLargeError: if nothing is left to give up.
        NonFiniteLossError: if the loss is not finite in a precision other than float16.
    """
    return in_float32_after_overflow(lambda machine: _made_to_fit(train, machine, out_dir), runtime)


def in_float32_after_overflow(train: Callable[[Runtime], H], runtime: Runtime) -> H:
    """Call `train(runtime)`; if the loss is NaN or infinite in float16, train once more in float32.

    Some models overflow float16 (QwenLM/Qwen3 #670). In another precision, NonFiniteLossError is raised.
    """
    try:
        return train(runtime)
    except NonFiniteLossError:
        if runtime.autocast_dtype != torch.float16:
            raise
    free_memory()  # outside the handler, in which the error still holds the failed step's tensors
    return train(dataclasses.replace(runtime, weight_dtype=torch.float32, autocast_dtype=None))


def _made_to_fit(train: Callable[[Runtime, Fit], H], runtime: Runtime, out_dir: Path) -> H:
    try:
        kept = read_json(out_dir / "fit.json")
        fit = Fit(**kept | {"lowered": tuple(kept["lowered"])})
    except (OSError, ValueError, KeyError, TypeError):
        fit = Fit()
    while True:
        machine = dataclasses.replace(runtime, nf4=runtime.nf4 or fit.nf4)
        try:
            history = train(machine, fit)
        except StepTooLargeError as error:
            fitting = dataclasses.replace(fit, nf4=machine.nf4)
            lower = next_fit(fitting, error.micro_batch, can_checkpoint=error.can_checkpoint)
            if lower is None:
                raise StepTooLargeError(
                    "one example does not fit in memory, even with activations recomputed and frozen "
                    "weights in 4 bits where possible; take a smaller model or a shorter window",
                    error.micro_batch,
                    error.can_checkpoint,
                ) from error
        else:
            (out_dir / "fit.json").unlink(missing_ok=True)
            return history
        fit = lower
        write_json(out_dir / "fit.json", fit)
        free_memory()  # outside the handler, in which the error still holds the failed step's tensors
