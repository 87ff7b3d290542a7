"""The trainer's callback: it validates, keeps the best weights, asks for checkpoints, shows progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import PeftModel
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from helpers.machine.progress import bar
from helpers.machine.usage import return_freed_memory
from helpers.train.checkpoints import SaveSchedule, written_whole
from helpers.train.fallbacks import require_finite

if TYPE_CHECKING:
    from helpers.train.trainer import TokenTrainer

Model = PreTrainedModel | PeftModel


class ValidationCallback(TrainerCallback):
    """Validates when a checkpoint is due, and keeps the weights with the lowest value in `out_dir/best`."""

    trainer: TokenTrainer  # set by the trainer itself

    def __init__(
        self, validate: Callable[[Model], float], schedule: SaveSchedule, out_dir: Path, what: str
    ) -> None:
        self.validate, self.schedule, self.out_dir = validate, schedule, out_dir
        self.seconds = 0.0  # spent on validation
        self.bar = bar(what, total=schedule.total, unit="step")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *,
        model: Model, **others: Any,
    ) -> None:  # fmt: skip
        """Validate the untouched model; on resuming, restore the counts from the checkpoint."""
        self.bar.update(state.global_step - self.bar.n)
        measured = [row for row in state.log_history if "validation" in row]
        if measured:
            self.trainer.useful = self.trainer.useful_before = measured[-1]["useful"]
            self.trainer.fed = measured[-1]["fed"]
        else:
            self._measure(model, state)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, Any] | None = None, **others: Any,
    ) -> None:  # fmt: skip
        """Show the loss."""
        if logs and "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *,
        model: Model, **others: Any,
    ) -> TrainerControl:  # fmt: skip
        """When it is due, validate, keep the weights if they are the best, and ask for a checkpoint."""
        self.bar.update(1)
        if self.schedule.is_due(state.global_step):
            earlier = best_of([row for row in state.log_history if "validation" in row])
            if self._measure(model, state) < earlier["validation"] or earlier["step"] == 0:
                self._keep(model, state)
            control.should_save = True
        return control

    def _measure(self, model: Model, state: TrainerState) -> float:
        start = time.perf_counter()
        training = model.training
        model.eval()
        return_freed_memory()  # training and validation ask for other sizes: each would add to the other's
        if isinstance(model, FSDPModule):  # shards are gathered for forward passes and registered methods
            model.validated = lambda: self.validate(model)
            register_fsdp_forward_method(model, "validated")
            value = float(model.validated())
        else:
            value = float(self.validate(model))
        model.train(training)
        return_freed_memory()
        self.seconds += time.perf_counter() - start
        require_finite(value, "validation", state.global_step)
        row = {"validation": value, "step": state.global_step}
        state.log_history.append(row | {"useful": self.trainer.useful, "fed": self.trainer.fed})
        return value

    def _keep(self, model: Model, state: TrainerState) -> None:
        # Every process takes part in gathering the weights.
        weights = self.trainer.accelerator.get_state_dict(self.trainer.model_wrapped)
        if state.is_world_process_zero:
            with written_whole(self.out_dir / "best") as partial:
                model.save_pretrained(str(partial), state_dict=weights)
                # PEFT's unfilled card: it says nothing of the run, but names a folder of this machine.
                (partial / "README.md").unlink(missing_ok=True)


def best_of(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row with the lowest validation, the earliest of equals; step 0 only if there is no other."""
    trained = [row for row in measured if row["step"] > 0]
    return min(trained or measured, key=lambda row: (row["validation"], row["step"]))
