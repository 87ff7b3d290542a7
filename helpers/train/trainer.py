"""The one training loop of Tracks A and B: transformers' `Trainer`, with what it lacks.

Added to it: a loss that weighs every target token alike under gradient accumulation and spares
memory (`helpers.models.token_loss`), cheaper forms of the same computation
(`helpers.models.cheaper_forms`), validation by a function of the caller's, the best validated
weights kept, checkpoints found again after a kill (damaged ones passed over), an error instead of
hours of NaN, and this project's progress bar. What to do when memory or float16 does not suffice
is decided in `helpers.train.fallbacks`.

Under `accelerate launch` the processes share every step: each takes its part of the step's
examples, and the loss is that of one process with all of them. With FSDP (version 2) they also share
the weights; a training interrupted there starts again, since its checkpoints are not of one file.
"""

from __future__ import annotations

import contextlib
import functools
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft import PeftModel
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from helpers.machine.hardware import Runtime, peak_memory_gib
from helpers.machine.memory import Fit, is_out_of_memory
from helpers.models.cheaper_forms import cheaper_forms
from helpers.models.structure import hidden_states, output_head, plain_model
from helpers.models.token_loss import summed_token_loss
from helpers.run.workspace import WorkspaceError, digest, write_json
from helpers.train.checkpoints import newest_whole_checkpoint, replace_folder
from helpers.train.errors import NonFiniteLossError, StepTooLargeError, TrainingError
from helpers.train.keeper import Keeper, best_of
from helpers.train.sharing import EvenlyShared, ignoring_fillers


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
    micro_batch: int = 0  # examples fed at once by each process
    accumulation: int = 1  # times that many make an optimizer step
    processes: int = 1
    gradient_checkpointing: bool = False
    compiled: bool = False  # whether each layer's work was fused by `torch.compile`
    frozen_weights: str = ""  # "NF4", or the dtype they are held in
    lowered: tuple[str, ...] = ()  # what was given up for want of memory, in order
    adapter_scale: float = 1.0  # the saved update's, after `helpers.train.shrinking`


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
    fit: Fit | None = None,
    compiled: bool = False,
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
        validate: lower is better; called with the model in evaluation mode, in every process.
        fit: smaller micro-batch and recomputed activations, where memory asks for them.
        compiled: fuse what each layer does; for examples of one length, and trainings long enough.

    Raises:
        NonFiniteLossError: if the loss or the validation is NaN or infinite.
        StepTooLargeError: if a step does not fit in memory.
        TrainingError: for an empty dataset.
    """
    if not len(train_dataset):
        raise TrainingError("there is nothing to train on: the training set is empty; give more text")
    fit = fit or Fit()
    processes = PartialState(cpu=runtime.device.type == "cpu")
    micro_batch, accumulation = batch_shape(
        math.ceil(batch_sequences / processes.num_processes), min(micro_batch, fit.micro_batch or micro_batch)
    )
    at_once = micro_batch * processes.num_processes
    steps_per_epoch = math.ceil(math.ceil(len(train_dataset) / at_once) / accumulation)
    total_steps = steps_per_epoch * epochs
    checkpoints = out_dir / "checkpoints"
    # Not the micro-batch alone: where it was halved for want of memory, a checkpoint still fits.
    key = digest(
        [epochs, learning_rate, at_once * accumulation, warmup_fraction, seed, len(train_dataset),
         str(runtime.weight_dtype), str(runtime.autocast_dtype), runtime.nf4, compiled]
    )  # fmt: skip
    with processes.main_process_first():
        resume_from = newest_whole_checkpoint(checkpoints, key)
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
        ddp_find_unused_parameters=False,
        seed=seed,
        data_seed=seed,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # several GPUs in one process would split batches behind the loss's back
    if isinstance(model, PeftModel):
        # Else PEFT asks the hub whether the vocabulary grew, at every save.
        model.save_pretrained = functools.partial(
            type(model).save_pretrained, model, save_embedding_layers=False
        )
    every = max(1, math.ceil(steps_per_epoch / validations_per_epoch))
    keeper = Keeper(validate, every, total_steps, out_dir, what)
    if compiled:
        keeper.bar.set_postfix_str("the first step compiles")
    if processes.num_processes > 1:
        train_dataset, collate = EvenlyShared(train_dataset, at_once), ignoring_fillers(collate)
    trainer = _TokenTrainer(
        model=model, args=arguments, train_dataset=train_dataset, data_collator=collate, callbacks=[keeper]
    )
    trainer.prepare(tokenizer.pad_token_id, keeper)
    trainer.remove_callback(PrinterCallback)
    start = time.perf_counter()
    try:
        with _learning(model, runtime, fit.checkpointing, micro_batch if compiled else 0):
            trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    except OSError as error:
        raise WorkspaceError(f"cannot write checkpoints below {out_dir}: {error}") from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise StepTooLargeError(
            f"a training step of {micro_batch} examples does not fit in memory: {error}",
            micro_batch,
            plain_model(model).supports_gradient_checkpointing,
        ) from error
    finally:
        keeper.bar.close()
        model.__dict__.pop("save_pretrained", None)
    seconds = time.perf_counter() - start - keeper.seconds
    model.eval()
    logged = [row for row in trainer.state.log_history if "loss" in row]
    measured = [row for row in trainer.state.log_history if "validation" in row]
    best = best_of(measured)
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
        tokens_per_second=(trainer.useful - trainer.useful_before) / max(seconds, 1e-9),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        peak_memory_gib=round(peak_memory_gib(), 3),
        resumed_from_step=int(resume_from.name.split("-")[1]) if resume_from else 0,
        precision=str(runtime.autocast_dtype or runtime.weight_dtype).removeprefix("torch."),
        micro_batch=micro_batch,
        accumulation=accumulation,
        processes=processes.num_processes,
        gradient_checkpointing=fit.checkpointing,
        compiled=compiled,
        frozen_weights="NF4" if runtime.nf4 else str(runtime.weight_dtype).removeprefix("torch."),
        lowered=fit.lowered,
    )
    if processes.is_main_process:
        write_json(out_dir / "history.json", history)
        if (out_dir / "best").exists():  # else a run cut short below here had renamed it already
            tokenizer.save_pretrained(str(out_dir / "best"))
            replace_folder(out_dir / "best", out_dir / "adapter")
        shutil.rmtree(checkpoints, ignore_errors=True)
    processes.wait_for_everyone()
    return history


def batch_shape(batch_sequences: int, micro_batch: int) -> tuple[int, int]:
    """Examples at once and accumulation steps whose product is `batch_sequences`, or next above it.

    >>> batch_shape(16, 13)  # not 13 twice, which would be 26
    (8, 2)
    """
    accumulation = math.ceil(batch_sequences / micro_batch)
    return math.ceil(batch_sequences / accumulation), accumulation


@contextlib.contextmanager
def _learning(
    model: PreTrainedModel | PeftModel, runtime: Runtime, checkpointing: bool, compiled_rows: int = 0
) -> Iterator[None]:
    """Within it, calling `model` gives (summed loss, targets), compiled for batches of `compiled_rows`.

    The loss is computed inside `forward`, so that wrappers for several processes, which act when
    the model is called, see the whole of it.
    """
    plain = plain_model(model)

    def forward(input_ids, labels, position_ids=None, attention_mask=None):
        with runtime.autocast():
            hidden = hidden_states(model, input_ids, position_ids=position_ids, attention_mask=attention_mask)
            full = model.training and len(input_ids) == compiled_rows
            return summed_token_loss(output_head(model), hidden, labels, compiled=full)

    model.forward = forward
    if checkpointing:
        plain.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        with cheaper_forms(model, compiled_rows):
            yield
    finally:
        model.__dict__.pop("forward", None)
        if checkpointing:
            plain.gradient_checkpointing_disable()


class _TokenTrainer(Trainer):
    """`Trainer` with the token-weighted loss; counts useful and fed tokens as it goes."""

    loss_is_scaled_for_ga = True  # for transformers versions that ask this way

    def prepare(self, pad_id: int, keeper: Keeper) -> None:
        self.pad_id = pad_id
        self.useful = self.fed = self.useful_before = 0
        self.model_accepts_loss_kwargs = True  # have the targets of the whole step counted
        keeper.trainer = self

    def _get_train_sampler(self, train_dataset=None):
        if isinstance(self.train_dataset, EvenlyShared):
            return self.train_dataset.sampler(self.args.data_seed)
        return super()._get_train_sampler(train_dataset)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        ids = inputs["input_ids"]
        self.useful += int((ids != self.pad_id).sum())
        self.fed += ids.numel()
        loss, count = model(**inputs)
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"the loss became {loss.item()} at step {self.state.global_step + 1}; "
                "lower the learning rate, or train in another precision"
            )
        if num_items_in_batch is None:
            return loss / max(count, 1)
        # Processes average their gradients; the sum over all targets of the step is wanted.
        return loss * self.args.world_size / num_items_in_batch
