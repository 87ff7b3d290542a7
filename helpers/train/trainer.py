"""The one training loop of Tracks A and B: transformers' `Trainer`, with what it lacks.

Added to it: a loss that weighs every target token alike under gradient accumulation and spares
memory (`helpers.train.token_loss`), validation by a function of the caller's, the best validated
weights kept, checkpoints found again after a kill (damaged ones passed over), an error instead of
hours of NaN, and this project's progress bar.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from helpers.models.structure import hidden_states, output_head
from helpers.progress import bar
from helpers.runtime import Runtime, peak_memory_gib
from helpers.train.token_loss import summed_token_loss
from helpers.workspace import WorkspaceError, digest, read_json, write_json


class TrainingError(RuntimeError):
    """Training that cannot go on; the message says what happened and what to change."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite: learning rate or precision do not fit the model."""


@dataclass(frozen=True)
class TrainingHistory:
    """What a training run did. Losses in nats per target token, one per optimizer step."""

    steps: tuple[int, ...]
    train_loss: tuple[float, ...]
    learning_rate: tuple[float, ...]
    validation_steps: tuple[int, ...]  # 0 is before training
    validation: tuple[float, ...]  # what the caller's `validate` returned; lower is better
    best_step: int
    best_validation: float
    epochs: int
    seconds: float  # training alone, of this process; validation is counted apart
    validation_seconds: float
    useful_tokens: int  # not padding, as fed
    useful_share: float  # of all fed positions
    tokens_per_second: float  # useful ones
    trainable_parameters: int
    peak_memory_gib: float
    resumed_from_step: int = 0
    precision: str = ""


def run_training(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    train_dataset: Sequence[Any],
    *,
    collate: Callable[[list[Any]], dict[str, torch.Tensor]],
    runtime: Runtime,
    out_dir: Path,
    epochs: int,
    learning_rate: float,
    batch_sequences: int,
    micro_batch: int,
    warmup_fraction: float,
    seed: int,
    validate: Callable[[PreTrainedModel | PeftModel], float],
    validations_per_epoch: int = 1,
    what: str = "train",
) -> TrainingHistory:
    """Train what is trainable in `model` and leave the best validated weights in `out_dir/adapter`.

    AdamW without weight decay, linear warm-up, cosine decay to zero, gradients clipped at norm 1.
    Validated before the first step, `validations_per_epoch` times an epoch and after the last
    step; the weights of the lowest value (the earliest of equals, training steps only) are kept.
    At every validation a checkpoint is written to `out_dir/checkpoints`; a later call with the
    same arguments goes on from the newest whole one. They are removed when all is done.

    Args:
        train_dataset: examples that `collate` turns into `input_ids` and `labels`, optionally
            `position_ids` and `attention_mask`, all (micro_batch, length). `labels` hold the
            token itself at each target and -100 elsewhere, -100 always in column 0.
        batch_sequences: examples per optimizer step; at most `micro_batch` of them at once.
        validate: lower is better; called with the model in evaluation mode.

    Raises:
        NonFiniteLossError: if the loss or the validation is NaN or infinite.
        TrainingError: for an empty dataset.
    """
    if not len(train_dataset):
        raise TrainingError("there is nothing to train on: the training set is empty; give more text")
    micro_batch, accumulation = batch_shape(batch_sequences, micro_batch)
    steps_per_epoch = math.ceil(math.ceil(len(train_dataset) / micro_batch) / accumulation)
    total_steps = steps_per_epoch * epochs
    checkpoints = out_dir / "checkpoints"
    key = digest(
        [epochs, learning_rate, batch_sequences, micro_batch, warmup_fraction, seed, len(train_dataset)]
    )
    resume_from = _newest_whole_checkpoint(checkpoints, key)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=epochs,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(warmup_fraction * total_steps),
        weight_decay=0.0,
        max_grad_norm=1.0,
        fp16=runtime.autocast_dtype == torch.float16,  # brings the gradient scaler
        use_cpu=runtime.device.type == "cpu",
        dataloader_pin_memory=runtime.device.type == "cuda",
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # the callback below asks for checkpoints
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
    )
    if isinstance(model, PeftModel):
        # Else PEFT asks the hub whether the vocabulary grew, at every save.
        model.save_pretrained = functools.partial(
            type(model).save_pretrained, model, save_embedding_layers=False
        )
    every = max(1, math.ceil(steps_per_epoch / validations_per_epoch))
    keeper = _Keeper(validate, every, total_steps, out_dir, what)
    trainer = _TokenTrainer(
        model=model, args=arguments, train_dataset=train_dataset, data_collator=collate, callbacks=[keeper]
    )
    trainer.prepare(runtime, tokenizer.pad_token_id)
    trainer.remove_callback(PrinterCallback)
    start = time.perf_counter()
    try:
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    except OSError as error:
        raise WorkspaceError(f"cannot write checkpoints below {out_dir}: {error}") from error
    finally:
        keeper.bar.close()
        model.__dict__.pop("save_pretrained", None)
    seconds = time.perf_counter() - start - keeper.seconds
    model.eval()
    logged = [row for row in trainer.state.log_history if "loss" in row]
    measured = [row for row in trainer.state.log_history if "validation" in row]
    best = _best(measured)
    history = TrainingHistory(
        steps=tuple(row["step"] for row in logged),
        train_loss=tuple(float(row["loss"]) for row in logged),
        learning_rate=tuple(float(row["learning_rate"]) for row in logged),
        validation_steps=tuple(row["step"] for row in measured),
        validation=tuple(row["validation"] for row in measured),
        best_step=best["step"],
        best_validation=best["validation"],
        epochs=epochs,
        seconds=round(seconds, 3),
        validation_seconds=round(keeper.seconds, 3),
        useful_tokens=trainer.useful,
        useful_share=trainer.useful / max(trainer.fed, 1),
        tokens_per_second=trainer.useful / max(seconds, 1e-9),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        peak_memory_gib=round(peak_memory_gib(), 3),
        resumed_from_step=int(resume_from.name.split("-")[1]) if resume_from else 0,
        precision=str(runtime.autocast_dtype or runtime.weight_dtype).removeprefix("torch."),
    )
    tokenizer.save_pretrained(str(out_dir / "best"))
    _replace(out_dir / "best", out_dir / "adapter")
    write_json(out_dir / "history.json", history)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return history


def in_float32_if_needed(
    train: Callable[[Runtime], TrainingHistory], runtime: Runtime, out_dir: Path
) -> TrainingHistory:
    """`train(runtime)`; where float16 gives NaN (QwenLM/Qwen3 #670), once more in float32.

    Raises:
        NonFiniteLossError: if the loss is not finite in another precision than float16.
    """
    try:
        return train(runtime)
    except NonFiniteLossError:
        if runtime.autocast_dtype != torch.float16:
            raise
    shutil.rmtree(out_dir / "checkpoints", ignore_errors=True)
    return train(dataclasses.replace(runtime, weight_dtype=torch.float32, autocast_dtype=None))


def batch_shape(batch_sequences: int, micro_batch: int) -> tuple[int, int]:
    """Examples at once and accumulation steps whose product is `batch_sequences`, or next above it.

    >>> batch_shape(16, 13)  # not 13 twice, which would be 26
    (8, 2)
    """
    accumulation = math.ceil(batch_sequences / micro_batch)
    return math.ceil(batch_sequences / accumulation), accumulation


class _TokenTrainer(Trainer):
    """`Trainer` with the token-weighted loss; counts useful and fed tokens as it goes."""

    loss_is_scaled_for_ga = True  # for transformers versions that ask this way

    def prepare(self, runtime: Runtime, pad_id: int) -> None:
        self.runtime, self.pad_id = runtime, pad_id
        self.useful = self.fed = 0
        self.model_accepts_loss_kwargs = True  # have the targets of the whole step counted

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        ids = inputs["input_ids"]
        self.useful += int((ids != self.pad_id).sum())
        self.fed += ids.numel()
        with self.runtime.autocast():
            hidden = hidden_states(
                model,
                ids,
                position_ids=inputs.get("position_ids"),
                attention_mask=inputs.get("attention_mask"),
            )
            loss, count = summed_token_loss(output_head(model), hidden, inputs["labels"])
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"the loss became {loss.item()} at step {self.state.global_step + 1}; "
                "lower the learning rate, or train in another precision"
            )
        return loss / (num_items_in_batch if num_items_in_batch is not None else max(count, 1))


class _Keeper(TrainerCallback):
    """Validates, keeps the best weights, asks for checkpoints, shows progress."""

    def __init__(self, validate, every: int, total_steps: int, out_dir: Path, what: str) -> None:
        self.validate, self.every, self.total_steps, self.out_dir = validate, every, total_steps, out_dir
        self.seconds = 0.0
        self.bar = bar(what, total=total_steps, unit="step")

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.bar.update(state.global_step - self.bar.n)
        if not any("validation" in row for row in state.log_history):
            self._measure(model, state)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.bar.update(1)
        if state.global_step % self.every == 0 or state.global_step == self.total_steps:
            earlier = _best([row for row in state.log_history if "validation" in row])
            if self._measure(model, state) < earlier["validation"] or earlier["step"] == 0:
                partial = self.out_dir / "best.partial"
                shutil.rmtree(partial, ignore_errors=True)
                model.save_pretrained(str(partial))
                _replace(partial, self.out_dir / "best")
            control.should_save = True
        return control

    def _measure(self, model, state) -> float:
        start = time.perf_counter()
        training = model.training
        model.eval()
        value = float(self.validate(model))
        model.train(training)
        self.seconds += time.perf_counter() - start
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"validation gave {value} at step {state.global_step}; lower the learning rate"
            )
        state.log_history.append({"validation": value, "step": state.global_step})
        return value


def _best(measured: list[dict]) -> dict:
    """The lowest validation among training steps, the earliest of equals; before any, step 0's."""
    trained = [row for row in measured if row["step"] > 0]
    return min(trained or measured, key=lambda row: (row["validation"], row["step"]))


def _replace(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    source.rename(target)


def _newest_whole_checkpoint(folder: Path, key: str) -> Path | None:
    """The latest checkpoint that can be read in full; all of another run's are removed."""
    try:
        same_run = read_json(folder / "run.json")["key"] == key
    except (OSError, ValueError, KeyError):
        same_run = False
    if not same_run:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / "run.json", {"key": key})
        return None
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for checkpoint in found:
        if _is_whole(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)  # a kill or a full disk cut it short
    return None


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
        weights = sorted(checkpoint.glob("*.safetensors"))
        for file in weights:
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    tensors.get_tensor(name)
        for name in ("optimizer.pt", "scheduler.pt"):
            torch.load(checkpoint / name, map_location="cpu", weights_only=True)
    except Exception:  # whatever a damaged file makes its reader raise
        return False
    return bool(weights)
