"""How a training can fail; each says what happened and what to change."""

from __future__ import annotations

from helpers.errors import SuiteError


class TrainingError(SuiteError, RuntimeError):
    """Training that cannot go on; the message says what happened and what to change."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite: learning rate or precision do not fit the model."""


class StepTooLargeError(TrainingError):
    """A training step did not fit in memory; `micro_batch` examples were fed at once."""

    def __init__(self, message: str, micro_batch: int, can_checkpoint: bool) -> None:
        super().__init__(message)
        self.micro_batch, self.can_checkpoint = micro_batch, can_checkpoint
