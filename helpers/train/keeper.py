"""What a training keeps while it runs: its validations, the best weights, checkpoints."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from transformers import TrainerCallback

from helpers.machine.progress import bar
from helpers.train.checkpoints import replace_folder
from helpers.train.errors import NonFiniteLossError


class Keeper(TrainerCallback):
    """Validates, keeps the best weights, asks for checkpoints, shows progress.

    Args:
        validate: lower is better.
        every: steps between validations; the last step has one of its own.
        out_dir: the best weights lie in its folder `best`.
    """

    def __init__(
        self, validate: Callable[[Any], float], every: int, total_steps: int, out_dir: Path, what: str
    ) -> None:
        self.validate, self.every, self.total_steps, self.out_dir = validate, every, total_steps, out_dir
        self.seconds = 0.0
        self.bar = bar(what, total=total_steps, unit="step")

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        """Measure the untouched model, or take up where the checkpoint was."""
        self.bar.update(state.global_step - self.bar.n)
        measured = [row for row in state.log_history if "validation" in row]
        if measured:  # a run goes on: it has fed what the checkpoint's had
            self.trainer.useful = self.trainer.useful_before = measured[-1]["useful"]
            self.trainer.fed = measured[-1]["fed"]
        else:
            self._measure(model, state)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Show the loss."""
        if logs and "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        """Where a validation is due: measure, keep what is better, ask for a checkpoint."""
        self.bar.update(1)
        if state.global_step % self.every == 0 or state.global_step == self.total_steps:
            earlier = best_of([row for row in state.log_history if "validation" in row])
            if self._measure(model, state) < earlier["validation"] or earlier["step"] == 0:
                self._keep(model, state)
            control.should_save = True
        return control

    def _measure(self, model, state) -> float:
        start = time.perf_counter()
        training = model.training
        model.eval()
        if isinstance(model, FSDPModule):  # its parts come together in a forward pass, and in this method
            model.validated = lambda: self.validate(model)
            register_fsdp_forward_method(model, "validated")
            value = float(model.validated())
        else:
            value = float(self.validate(model))
        model.train(training)
        self.seconds += time.perf_counter() - start
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"validation gave {value} at step {state.global_step}; lower the learning rate"
            )
        row = {"validation": value, "step": state.global_step}
        state.log_history.append(row | {"useful": self.trainer.useful, "fed": self.trainer.fed})
        return value

    def _keep(self, model, state) -> None:
        weights = self.trainer.accelerator.get_state_dict(self.trainer.model_wrapped)  # all take part
        if state.is_world_process_zero:
            partial = self.out_dir / "best.partial"
            shutil.rmtree(partial, ignore_errors=True)
            model.save_pretrained(str(partial), state_dict=weights)
            replace_folder(partial, self.out_dir / "best")


def best_of(measured: list[dict]) -> dict:
    """The lowest validation among training steps, the earliest of equals; before any, step 0's."""
    trained = [row for row in measured if row["step"] > 0]
    return min(trained or measured, key=lambda row: (row["validation"], row["step"]))
