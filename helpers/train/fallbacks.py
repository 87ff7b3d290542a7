"""A training that ran out of memory, or out of float16's range, started again with less."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from helpers.machine.hardware import Runtime, free_memory
from helpers.machine.memory import Fit, next_fit
from helpers.run.workspace import read_json, write_json
from helpers.train.errors import NonFiniteLossError, StepTooLargeError
from helpers.train.trainer import TrainingHistory


def with_fallbacks(
    train: Callable[[Runtime, Fit], TrainingHistory], runtime: Runtime, out_dir: Path
) -> TrainingHistory:
    """`train(runtime, fit)`, and again with less where it runs out of memory or out of float16.

    Out of memory: one rung down the ladder of `helpers.machine.memory.next_fit`, as often as needed; the
    rung is kept in `out_dir/fit.json`, so that an interrupted run goes on there. A loss that is
    NaN in float16 (QwenLM/Qwen3 #670): once more in float32.

    Raises:
        StepTooLargeError: if nothing is left to give up.
        NonFiniteLossError: if the loss is not finite in another precision than float16.
    """
    fit = _kept_fit(out_dir)
    while True:
        machine = dataclasses.replace(runtime, nf4=runtime.nf4 or fit.nf4)
        lower: Fit | None = None
        try:
            history = train(machine, fit)
        except StepTooLargeError as error:
            fitting = dataclasses.replace(fit, nf4=machine.nf4)
            lower = next_fit(fitting, error.micro_batch, can_checkpoint=error.can_checkpoint)
            if lower is None:
                raise StepTooLargeError(
                    "one example does not fit in memory, with activations recomputed and frozen weights in "
                    "4 bits where they can be; take a smaller model or a shorter window",
                    error.micro_batch,
                    error.can_checkpoint,
                ) from error
        except NonFiniteLossError:
            if runtime.autocast_dtype != torch.float16:
                raise
            runtime = dataclasses.replace(runtime, weight_dtype=torch.float32, autocast_dtype=None)
        else:
            (out_dir / "fit.json").unlink(missing_ok=True)
            return history
        if lower is not None:  # outside the handler: there the error still holds the failed step's tensors
            fit = lower
            write_json(out_dir / "fit.json", fit)
        free_memory()


def _kept_fit(out_dir: Path) -> Fit:
    try:
        kept = read_json(out_dir / "fit.json")
        return Fit(**kept | {"lowered": tuple(kept["lowered"])})
    except (OSError, ValueError, KeyError, TypeError):
        return Fit()
