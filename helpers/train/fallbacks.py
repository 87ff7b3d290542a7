"""What to do when training runs out of memory or out of float16's range: start again with less."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from helpers.machine.hardware import Runtime, free_memory
from helpers.machine.memory import Fit, next_fit
from helpers.run.workspace import read_json, write_json
from helpers.train.errors import NonFiniteLossError, StepTooLargeError

H = TypeVar("H")  # what a training returns: its history


def with_fallbacks(train: Callable[[Runtime, Fit], H], runtime: Runtime, out_dir: Path) -> H:
    """Call `train(runtime, fit)`, and again with less if it runs out of memory or of float16's range.

    Out of memory: take the next step of `helpers.machine.memory.next_fit`, as often as needed. The fit is
    kept in `out_dir/fit.json`, so that an interrupted run resumes with it. NaN in float16: see
    `in_float32_after_overflow`.

    Raises:
        StepTooLargeError: if nothing is left to give up.
        NonFiniteLossError: if the loss is not finite in a precision other than float16.
    """
    return in_float32_after_overflow(lambda machine: _made_to_fit(train, machine, out_dir), runtime)


def in_float32_after_overflow(train: Callable[[Runtime], H], runtime: Runtime) -> H:
    """Call `train(runtime)`; if the loss is NaN or infinite in float16, train once more in float32.

    Some models overflow float16 (QwenLM/Qwen3 #670).

    Raises:
        NonFiniteLossError: if the loss is not finite in another precision.
    """
    try:
        return train(runtime)
    except NonFiniteLossError:
        if runtime.autocast_dtype != torch.float16:
            raise
    free_memory()  # outside the handler, in which the error still holds the failed step's tensors
    return train(dataclasses.replace(runtime, weight_dtype=torch.float32, autocast_dtype=None))


def _made_to_fit(train: Callable[[Runtime, Fit], H], runtime: Runtime, out_dir: Path) -> H:
    fit = _kept_fit(out_dir)
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
        free_memory()  # outside the handler, as above


def _kept_fit(out_dir: Path) -> Fit:
    try:
        kept = read_json(out_dir / "fit.json")
        return Fit(**kept | {"lowered": tuple(kept["lowered"])})
    except (OSError, ValueError, KeyError, TypeError):
        return Fit()
