"""How a training can fail, and the one rule for losses that are not finite."""

from __future__ import annotations

import math

from helpers.errors import SuiteError


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
    """Stop training at the first NaN or infinite value; every loop calls this for every loss.

    No loop skips such a step. `helpers.train.fallbacks` trains again in float32 if float16 was the cause.

    Args:
        what: "loss" or "validation".
        step: 1-based; 0 is before training.

    Raises:
        NonFiniteLossError: naming the step.
    """
    if not math.isfinite(value):
        raise NonFiniteLossError(
            f"the {what} is {value} at step {step}; lower the learning rate, or train in another precision"
        )
