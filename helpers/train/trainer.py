"""The training loop of Tracks A and B: transformers' `Trainer`, with what it lacks.

- a loss that weighs every target token alike under gradient accumulation and saves memory
  (`helpers.models.token_loss`), and cheaper forms of the same computation (`helpers.models.cheaper_forms`);
- validation by a function of the caller's; the best validated weights are kept
  (`helpers.train.validation`);
- checkpoints that a run resumes from after a kill (`helpers.train.checkpoints`);
- an error at the first NaN instead of hours of them (`helpers.train.fallbacks`);
- this project's progress bar.

Under `accelerate launch` the processes share every step: each takes a part of its examples, and the loss
is what one process would compute from all of them. With FSDP (version 2) they also share the weights;
such a training restarts from the beginning if it is interrupted, because its checkpoints are split among
the processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
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
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainingArguments

from helpers.machine.hardware import Runtime
from helpers.machine.memory import Fit, is_out_of_memory
from helpers.machine.usage import peak_memory_gib
from helpers.models.cheaper_forms import cheaper_forms
from helpers.models.packed_decoder import PackedDecoder, is_covered
from helpers.models.structure import hidden_states, output_head, plain_model
from helpers.models.token_loss import summed_token_loss
from helpers.run.workspace import WorkspaceError, digest, write_json
from helpers.train.checkpoints import SaveSchedule, newest_whole_checkpoint, replace_folder, step_of
from helpers.train.fallbacks import StepTooLargeError, TrainingError, require_finite
from helpers.train.sharing import EvenlyShared, ignoring_fillers
from helpers.train.validation import Model, ValidationCallback, best_of


@dataclass(frozen=True)
class TrainingData:
    """What to train on, and how the result is measured.

    Args:
        examples: frozen dataclasses with a tuple `labels`.
        collate: turns examples into `input_ids`, `labels` and `position_ids`, all (rows, length); several
            examples may share a row, in which positions restart at each. `labels` hold the token itself at
            each target and -100 elsewhere, always -100 at the first token of an example.
        validate: lower is better; called with the model in evaluation mode, in every process.
    """

    examples: Sequence[Any]
    collate: Callable[[list[Any]], dict[str, torch.Tensor]]
    validate: Callable[[Model], float]


@dataclass(frozen=True)
class Hyperparameters:
    """How to train: AdamW without weight decay, linear warm-up, cosine decay to zero, norms clipped at 1."""

    epochs: int
    learning_rate: float  # at its peak
    batch_sequences: int  # examples per optimizer step, over all processes
    micro_batch: int  # examples that a process feeds at once, at most
    warmup_fraction: float  # of all steps
    seed: int
    validations_per_epoch: int = 1
    compiled: bool = False  # compile each layer; pays in long trainings on examples of one length


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
    seconds: float  # of training alone in this process; validation is counted separately
    validation_seconds: float
    useful_tokens: int  # fed tokens that are not padding
    useful_share: float  # of all fed positions
    tokens_per_second: float  # useful ones
    trainable_parameters: int
    peak_memory_gib: float
    resumed_from_step: int = 0
    precision: str = ""
    micro_batch: int = 0  # examples fed at once by each process
    accumulation: int = 1  # micro-batches per optimizer step
    processes: int = 1
    gradient_checkpointing: bool = False
    compiled: bool = False  # whether `torch.compile` fused each layer's work
    frozen_weights: str = ""  # "NF4", or their dtype
    lowered: tuple[str, ...] = ()  # what was given up to fit in memory, in order
    infilled_documents: int = 0  # training documents written as fill-in-the-middle
    adapter_scale: float = 1.0  # the factor that `helpers.train.shrinking` applied to the saved update


def run_training(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    hyperparameters: Hyperparameters,
    runtime: Runtime,
    out_dir: Path,
    *,
    fit: Fit | None = None,
    what: str = "train",
) -> TrainingHistory:
    """Train what is trainable in `model` and keep the best validated weights in `out_dir/adapter`.

    Validates before the first step, `validations_per_epoch` times an epoch and after the last step. The
    weights with the lowest value (training steps only; the earliest of equals) are kept. Every validation
    but the first also writes a checkpoint to `out_dir/checkpoints`; a later call with the same arguments
    resumes from the newest whole one. The checkpoints are removed at the end.

    Args:
        fit: a smaller micro-batch and recomputed activations, if memory is short.
        what: label of the progress bar.

    Raises:
        NonFiniteLossError: if the loss or the validation is NaN or infinite.
        StepTooLargeError: if a step does not fit in memory.
        TrainingError: if there are no examples, or if not every epoch fed every example.
    """
    if not len(data.examples):
        raise TrainingError("there is nothing to train on: the training set is empty; give more text")
    fit = fit or Fit()
    processes = PartialState(cpu=runtime.device.type == "cpu")
    layout = _step_layout(hyperparameters, fit, len(data.examples), processes.num_processes)
    checkpoints = out_dir / "checkpoints"
    with processes.main_process_first():
        key = _resumption_key(hyperparameters, layout, len(data.examples), runtime)
        resume_from = newest_whole_checkpoint(checkpoints, key)
    every = max(1, math.ceil(layout.steps_per_epoch / hyperparameters.validations_per_epoch))
    schedule = SaveSchedule(every, total=layout.steps_per_epoch * hyperparameters.epochs)
    shared = layout.processes > 1
    trainer = TokenTrainer(
        tokenizer.pad_token_id,
        ValidationCallback(data.validate, schedule, out_dir, what),
        model=model,
        args=_arguments(hyperparameters, layout, runtime, checkpoints),
        train_dataset=EvenlyShared(data.examples, layout.at_once) if shared else data.examples,
        data_collator=_counting(ignoring_fillers(data.collate) if shared else data.collate),
    )
    compiled_rows = layout.micro_batch if hyperparameters.compiled else 0
    seconds = _train(trainer, runtime, fit, compiled_rows, resume_from)
    if not shared:  # the shares of several processes are filled up
        _require_every_example(trainer, layout, hyperparameters.epochs, resume_from)
    history = _history(trainer, model, hyperparameters, layout, fit, runtime, seconds)
    if resume_from:
        history = dataclasses.replace(history, resumed_from_step=step_of(resume_from))
    if processes.is_main_process:
        _keep(out_dir, tokenizer, history)
        shutil.rmtree(checkpoints, ignore_errors=True)
    processes.wait_for_everyone()
    return history


def _keep(out_dir: Path, tokenizer: PreTrainedTokenizerBase, history: TrainingHistory) -> None:
    """Write the history, and move the best weights with the tokenizer to `out_dir/adapter`."""
    write_json(out_dir / "history.json", history)
    if (out_dir / "best").exists():  # otherwise an earlier call was killed after renaming it
        tokenizer.save_pretrained(str(out_dir / "best"))
        replace_folder(out_dir / "best", out_dir / "adapter")


def batch_shape(batch_sequences: int, micro_batch: int) -> tuple[int, int]:
    """Return examples at once and accumulation steps whose product is `batch_sequences` or just above it.

    >>> batch_shape(16, 13)  # not 13 twice, which would be 26
    (8, 2)
    """
    accumulation = math.ceil(batch_sequences / micro_batch)
    return math.ceil(batch_sequences / accumulation), accumulation


@dataclass(frozen=True)
class _StepLayout:
    """How the examples of one optimizer step are divided."""

    micro_batch: int  # examples at once in one process
    accumulation: int
    processes: int
    steps_per_epoch: int

    @property
    def at_once(self) -> int:
        """Examples fed at once by all processes together."""
        return self.micro_batch * self.processes


def _step_layout(hyperparameters: Hyperparameters, fit: Fit, examples: int, processes: int) -> _StepLayout:
    limit = min(hyperparameters.micro_batch, fit.micro_batch or hyperparameters.micro_batch)
    own_share = math.ceil(hyperparameters.batch_sequences / processes)
    micro_batch, accumulation = batch_shape(own_share, limit)
    batches = math.ceil(examples / (micro_batch * processes))
    return _StepLayout(micro_batch, accumulation, processes, math.ceil(batches / accumulation))


def _resumption_key(
    hyperparameters: Hyperparameters, layout: _StepLayout, examples: int, runtime: Runtime
) -> str:
    """Digest what must be equal to resume. The micro-batch may differ: it may be halved to fit in memory."""
    h = hyperparameters
    return digest(
        [h.epochs, h.learning_rate, layout.at_once * layout.accumulation, h.warmup_fraction, h.seed, examples,
         str(runtime.weight_dtype), str(runtime.autocast_dtype), runtime.nf4, h.compiled]
    )  # fmt: skip


def _arguments(
    hyperparameters: Hyperparameters, layout: _StepLayout, runtime: Runtime, checkpoints: Path
) -> TrainingArguments:
    total_steps = layout.steps_per_epoch * hyperparameters.epochs
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=hyperparameters.epochs,
        per_device_train_batch_size=layout.micro_batch,
        gradient_accumulation_steps=layout.accumulation,
        learning_rate=hyperparameters.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(hyperparameters.warmup_fraction * total_steps),
        weight_decay=0.0,
        max_grad_norm=1.0,
        fp16=runtime.autocast_dtype == torch.float16,  # turns the gradient scaler on
        use_cpu=runtime.device.type == "cpu",
        dataloader_pin_memory=runtime.device.type == "cuda",
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # the callback asks for checkpoints
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        seed=hyperparameters.seed,
        data_seed=hyperparameters.seed,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # with several GPUs in one process, `Trainer` splits batches unseen by the loss
    return arguments


class TokenTrainer(Trainer):
    """`Trainer` with the token-weighted loss; it counts useful and fed tokens."""

    loss_is_scaled_for_ga = True  # the name of this switch in some versions of transformers

    def __init__(self, pad_id: int, validation: ValidationCallback, **options: Any) -> None:
        super().__init__(callbacks=[validation], **options)
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = True  # makes `Trainer` count the targets of the whole step
        self.pad_id, self.validation = pad_id, validation
        self.useful = self.fed = self.useful_before = 0
        self.examples = 0  # that this call fed
        validation.trainer = self

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        if isinstance(self.train_dataset, EvenlyShared):
            return self.train_dataset.sampler(self.args.data_seed)
        return super()._get_train_sampler(train_dataset)

    def compute_loss(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Return this micro-batch's part of the mean loss over all targets of the step."""
        self.useful += int((inputs["input_ids"] != self.pad_id).sum())
        self.examples += int(inputs.pop("examples"))
        loss, count, fed = model(**inputs)
        self.fed += fed
        require_finite(loss.item(), "loss", self.state.global_step + 1)
        if num_items_in_batch is None:
            return loss / max(count, 1)
        # Times world_size, because the processes will average their gradients.
        return loss * self.args.world_size / num_items_in_batch


def _counting(collate: Callable[[list[Any]], dict[str, torch.Tensor]]) -> Callable[[list[Any]], dict]:
    """Wrap `collate`: a batch also says how many examples it holds."""
    return lambda examples: collate(examples) | {"examples": torch.tensor([len(examples)])}


def _require_every_example(
    trainer: TokenTrainer, layout: _StepLayout, epochs: int, resume_from: Path | None
) -> None:
    """Check that each epoch fed every example once, after the step of the checkpoint, if there is one."""
    examples = len(trainer.train_dataset)
    passes, steps = divmod(step_of(resume_from) if resume_from else 0, layout.steps_per_epoch)
    before = passes * examples + min(steps * layout.at_once * layout.accumulation, examples)
    if before + trainer.examples != epochs * examples:
        raise TrainingError(
            f"{trainer.examples} examples were fed where {epochs * examples - before} of {examples} in "
            f"{epochs} epochs were to be: transformers reads its data in another way than this version "
            "expects"
        )


def _train(
    trainer: TokenTrainer, runtime: Runtime, fit: Fit, compiled_rows: int, resume_from: Path | None
) -> float:
    """Run the trainer and leave its model in evaluation mode; return seconds without validation."""
    model, validation = trainer.model, trainer.validation
    if compiled_rows:
        validation.bar.set_postfix_str("the first step compiles")
    start = time.perf_counter()
    try:
        with _in_training_form(model, runtime, fit.checkpointing, compiled_rows):
            trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    except OSError as error:
        raise WorkspaceError(f"cannot write checkpoints below {validation.out_dir}: {error}") from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        micro_batch = trainer.args.per_device_train_batch_size
        raise StepTooLargeError(
            f"a training step of {micro_batch} examples does not fit in memory: {error}",
            micro_batch,
            plain_model(model).supports_gradient_checkpointing,
        ) from error
    finally:
        validation.bar.close()
    seconds = time.perf_counter() - start - validation.seconds
    model.eval()
    return seconds


@contextlib.contextmanager
def _in_training_form(
    model: Model, runtime: Runtime, checkpointing: bool, compiled_rows: int
) -> Iterator[None]:
    """Make a call of `model` return (summed loss, targets, computed tokens), in the cheapest form.

    That is `helpers.models.packed_decoder` for models that it covers; otherwise layers may be compiled for
    batches of `compiled_rows` rows.

    The loss is computed inside `forward`, so that the wrappers for several processes, which act when the
    model is called, cover all of it. Saving does not ask the hub whether the vocabulary grew, as PEFT would.
    """
    plain = plain_model(model)
    alone = PartialState().num_processes == 1  # with FSDP, each holds a part of the weights
    decoder = None
    if alone and not checkpointing and is_covered(model):
        decoder = PackedDecoder(model, runtime.autocast_dtype or torch.float32)

    def forward(
        input_ids: torch.Tensor, labels: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, int, int]:
        if decoder is not None:
            return decoder.loss(input_ids, labels, position_ids)
        with runtime.autocast():
            hidden = hidden_states(model, input_ids, position_ids=position_ids)
            full = model.training and len(input_ids) == compiled_rows
            loss, count = summed_token_loss(output_head(model), hidden, labels, compiled=full)
        return loss, count, input_ids.numel()

    model.forward = forward
    if isinstance(model, PeftModel):
        save = type(model).save_pretrained
        model.save_pretrained = functools.partial(save, model, save_embedding_layers=False)
    if checkpointing:
        plain.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        with cheaper_forms(model, compiled_rows):
            yield
    finally:
        for name in ("forward", "save_pretrained"):
            model.__dict__.pop(name, None)
        if checkpointing:
            plain.gradient_checkpointing_disable()


def _history(
    trainer: TokenTrainer, model: Model, hyperparameters: Hyperparameters, layout: _StepLayout, fit: Fit,
    runtime: Runtime, seconds: float,
) -> TrainingHistory:  # fmt: skip
    logged = [row for row in trainer.state.log_history if "loss" in row]
    measured = [row for row in trainer.state.log_history if "validation" in row]
    best = best_of(measured)
    return TrainingHistory(
        steps=tuple(row["step"] for row in logged),
        train_loss=tuple(float(row["loss"]) for row in logged),
        learning_rate=tuple(float(row["learning_rate"]) for row in logged),
        validation_steps=tuple(row["step"] for row in measured),
        validation=tuple(row["validation"] for row in measured),
        best_step=best["step"],
        best_validation=best["validation"],
        epochs=hyperparameters.epochs,
        seconds=round(seconds, 3),
        validation_seconds=round(trainer.validation.seconds, 3),
        useful_tokens=trainer.useful,
        useful_share=trainer.useful / max(trainer.fed, 1),
        tokens_per_second=(trainer.useful - trainer.useful_before) / max(seconds, 1e-9),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        peak_memory_gib=round(peak_memory_gib(), 3),
        precision=str(runtime.autocast_dtype or runtime.weight_dtype).removeprefix("torch."),
        micro_batch=layout.micro_batch,
        accumulation=layout.accumulation,
        processes=layout.processes,
        gradient_checkpointing=fit.checkpointing,
        compiled=hyperparameters.compiled,
        frozen_weights="NF4" if runtime.nf4 else str(runtime.weight_dtype).removeprefix("torch."),
        lowered=fit.lowered,
    )
