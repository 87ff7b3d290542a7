"""Train a language model from random weights, or continue from earlier ones.

The loop of the fixed-budget lab and of the embedded base model. It is deterministic by step: the batch, the
random state and the learning rate of step s depend on s alone, so that a killed run resumes from its last
checkpoint with the losses it would have had anyway. Several processes share the rows of each step
(`torch.distributed`); their number does not change what a step learns from.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as distributed
from transformers import PreTrainedModel

from helpers.machine.hardware import Runtime
from helpers.machine.usage import peak_memory_gib
from helpers.models.structure import hidden_states, output_head
from helpers.models.token_loss import MAX_LOGITS, summed_token_loss
from helpers.run.workspace import digest
from helpers.train.checkpoints import CheckpointFile, SaveSchedule, TrainingProgress
from helpers.train.fallbacks import require_finite
from helpers.train.muon import StackedMuon
from helpers.train.step_log import LOG, StepLog

Batch = dict[str, torch.Tensor]
LossFunction = Callable[[PreTrainedModel, Batch], tuple[torch.Tensor, int]]
Evaluation = Callable[[PreTrainedModel], dict[str, float]]
CHECKPOINT = "checkpoint.pt"


class Batches(Protocol):
    """The rows of each optimizer step, determined by the step's number alone."""

    def rows(self, step: int) -> Sequence[Batch]:
        """Return the micro-batches of 0-based `step`: `input_ids` and `labels`, (rows, length).

        If tokens weigh differently, each also has `weights` of that shape.
        """
        ...


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each step, as a share of its peak.

    After a linear warm-up, `constant` keeps the peak, `cosine` decays over all remaining steps to `floor`,
    and `wsd` (warm-up, stable, decay) keeps the peak until a linear decay to `floor` over the last `decay`
    steps (Hu et al. 2024, MiniCPM).
    """

    kind: str = "wsd"  # wsd | cosine | constant
    steps: int = 0
    warmup: int = 0
    decay: int = 0  # steps; wsd only
    floor: float = 0.0

    def share(self, step: int) -> float:
        """Return the share of the peak rate at 0-based `step`.

        >>> s = Schedule("wsd", steps=10, warmup=2, decay=4)
        >>> [s.share(i) for i in (0, 1, 5, 6, 9)]
        [0.5, 1.0, 1.0, 1.0, 0.25]
        """
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.kind == "constant":
            return 1.0
        if self.kind == "wsd":
            left = (self.steps - step) / self.decay if self.decay else 1.0
            return self.floor + (1 - self.floor) * min(1.0, max(0.0, left))
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@dataclass(frozen=True)
class Optimizer:
    """`muon` (Jordan et al. 2024) for hidden matrices with AdamW for the rest, `adamw`, or `sgd`."""

    name: str = "muon"
    learning_rate: float = 4e-3  # of AdamW or SGD
    muon_learning_rate: float = 0.02
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0  # of matrices, decoupled
    momentum: float = 0.95  # of Muon
    warm_momentum: tuple[float, int] = (0.85, 300)  # Muon's first momentum, and steps until `momentum`
    clip: float = 1.0  # norm of all gradients together

    def build(self, model: PreTrainedModel) -> list[torch.optim.Optimizer]:
        """Return optimizers over all parameters; ValueError for an unknown name.

        Hidden matrices are the two-dimensional parameters except embeddings and the output head.
        """
        tables = {id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
        head = model.get_output_embeddings()
        tables |= {id(p) for p in head.parameters()} if head is not None else set()
        parameters = [p for p in model.parameters() if p.requires_grad]
        matrices = [p for p in parameters if p.ndim == 2 and id(p) not in tables]
        rest = [p for p in parameters if p.ndim != 2 or id(p) in tables]
        if self.name == "sgd":
            return [torch.optim.SGD(parameters, lr=self.learning_rate)]
        groups = [{"params": rest, "weight_decay": 0.0}]
        if self.name == "adamw":
            groups.append({"params": matrices, "weight_decay": self.weight_decay})
        elif self.name != "muon":
            raise ValueError(f"optimizer {self.name!r} is unknown; choose muon, adamw or sgd")
        found: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=self.learning_rate, betas=self.betas, fused=True)
        ]
        if self.name == "muon":
            on_gpu = bool(matrices) and matrices[0].is_cuda  # where launching many small kernels is slow
            muon = StackedMuon if on_gpu else torch.optim.Muon
            options = {"lr": self.muon_learning_rate, "weight_decay": self.weight_decay}
            found.append(muon(matrices, momentum=self.momentum, **options))
        return found


@dataclass(frozen=True)
class PretrainingSettings:
    """How to train, apart from model and data."""

    schedule: Schedule
    optimizer: Optimizer = field(default_factory=Optimizer)
    seed: int = 1337
    evaluate_every: int = 100  # steps
    checkpoint_every: int = 50  # steps
    checkpoint_pause_s: float = 0.0  # least training time between two checkpoints
    compile: bool = False  # training steps; evaluations are never compiled
    label: str = "pretrain"  # of the progress bar


@dataclass(frozen=True)
class PretrainingResult:
    """What a run did; its log holds the loss of every step."""

    steps: int
    tokens: int  # targets seen by all processes
    seconds: float  # of training alone, over all resumptions
    tokens_per_second: float
    final: dict[str, float]  # the last evaluation
    peak_memory_gib: float
    parameters: int


def next_token_loss(
    model: PreTrainedModel, batch: Batch, *, compiled: bool = False, max_logits: int = MAX_LOGITS
) -> tuple[torch.Tensor, int]:
    """Compute `summed_token_loss` on full rows, without padding or documents to keep apart."""
    hidden = hidden_states(model, batch["input_ids"], attention_mask=full_rows_mask(model))
    return summed_token_loss(
        output_head(model), hidden, batch["labels"], weights=batch.get("weights"), max_logits=max_logits,
        compiled=compiled,
    )  # fmt: skip


def full_rows_mask(model: PreTrainedModel) -> dict[str, None] | None:
    """Return the attention mask that keeps transformers from building one; None if one is needed.

    Compiled code cannot check whether a mask hides anything, so transformers always builds one; attention
    then misses the flash kernel. Torch's fused kernel (`sdpa`) is causal without a mask; plain products
    need it.
    """
    kinds = getattr(model.config, "layer_types", None)
    if model.config._attn_implementation != "sdpa" or set(kinds or ()) != {"full_attention"}:
        return None
    return {"full_attention": None}


def train_from_scratch(
    model: PreTrainedModel,
    batches: Batches,
    settings: PretrainingSettings,
    runtime: Runtime,
    out_dir: Path,
    *,
    evaluate: Evaluation | None = None,
    loss_function: LossFunction = next_token_loss,
    after_step: Callable[[], None] | None = None,
) -> PretrainingResult:
    """Train `model` in place; log to `out_dir/log.jsonl`, checkpoint to `out_dir/checkpoint.pt`.

    Resumes from a checkpoint there if optimizer, seed and model shape are the same. The schedule may
    differ: a stable phase can be prolonged, or ended by a decay. The function is long because its loop
    shares all of its state.

    Args:
        evaluate: called with the model in evaluation mode every `evaluate_every` steps and at the end, in
            the first process only; its values are logged.
        loss_function: returns the sum of the loss and the number of targets of one micro-batch.
        after_step: called after each optimizer step, for example to average the weights; what it keeps
            must be part of the model's state to survive a kill.

    Raises:
        NonFiniteLossError: if the loss is NaN or infinite.
    """
    rank, world_size = rank_and_world_size()
    out_dir.mkdir(parents=True, exist_ok=True)
    model.to(runtime.device).train()
    stepper = _Stepper(model, settings, runtime, loss_function)
    shapes = sorted((name, list(p.shape)) for name, p in model.named_parameters())
    key = digest([asdict(settings.optimizer), settings.seed, shapes])
    checkpoint = CheckpointFile(out_dir / CHECKPOINT, key)
    progress = checkpoint.restore(model, stepper.optimizers, runtime.device)
    saved_at = progress.seconds
    total = settings.schedule.steps
    saving = SaveSchedule(settings.checkpoint_every, total, settings.checkpoint_pause_s)
    measured: dict[str, float] = {}
    log = StepLog(out_dir / LOG, progress.step, settings.label, total) if rank == 0 else None
    with log or contextlib.nullcontext():
        start = time.perf_counter()
        for step, rows in _prefetched(batches, range(progress.step, total)):
            loss, norm, targets = stepper.take(step, rows)
            if after_step:
                after_step()
            seconds = progress.seconds + (time.perf_counter() - start)
            progress = TrainingProgress(step + 1, progress.tokens + targets, seconds)
            if log:
                log.write_step(progress, loss, settings.schedule.share(step), norm)
                if evaluate and (progress.step == total or progress.step % settings.evaluate_every == 0):
                    measured = _evaluated(model, evaluate)
                    log.write(
                        step=progress.step, evaluation=measured, tokens=progress.tokens, seconds=seconds
                    )
                if saving.is_due(progress.step, seconds - saved_at):
                    checkpoint.save(model, stepper.optimizers, progress)
                    saved_at = seconds
            if world_size > 1:
                distributed.barrier()
            start = time.perf_counter()
    model.eval()
    return PretrainingResult(
        steps=total,
        tokens=progress.tokens,
        seconds=round(progress.seconds, 3),
        tokens_per_second=progress.tokens / max(progress.seconds, 1e-9),
        final=measured,
        peak_memory_gib=round(peak_memory_gib(), 3),
        parameters=sum(p.numel() for p in model.parameters()),
    )


def rank_and_world_size() -> tuple[int, int]:
    """Return this process's rank and the number of processes; join those that a launcher started."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return (distributed.get_rank(), world_size) if world_size > 1 else (0, 1)


class _Stepper:
    """Takes optimizer steps, shared by all processes."""

    def __init__(
        self, model: PreTrainedModel, settings: PretrainingSettings, runtime: Runtime, loss: LossFunction
    ) -> None:
        self.model, self.settings, self.runtime, self.loss_function = model, settings, runtime, loss
        self.optimizers = settings.optimizer.build(model)
        self.peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.rank, self.world_size = rank_and_world_size()
        if settings.compile:
            for member in getattr(model, "members", [model]):
                member.base_model.compile()  # the part that `hidden_states` calls

    def take(self, step: int, rows: Sequence[Batch]) -> tuple[float, float, int]:
        """Learn from the rows of 0-based `step`; return mean loss, norm of the gradient and targets."""
        torch.manual_seed(self.settings.seed * 1_000_003 + step * 131 + self.rank)
        self._set_rates(step)
        loss, targets = self._accumulate(rows)
        require_finite(loss, "loss", step + 1)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.optimizer.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss, float(norm), targets

    def _set_rates(self, step: int) -> None:
        share = self.settings.schedule.share(step)
        low, until = self.settings.optimizer.warm_momentum
        warm = min(1.0, step / until) if until else 1.0
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * share
                if isinstance(optimizer, torch.optim.Muon):
                    group["momentum"] = low + (self.settings.optimizer.momentum - low) * warm

    def _accumulate(self, rows: Sequence[Batch]) -> tuple[float, int]:
        """Set the gradients of the mean loss over all targets of the step; return loss and targets."""
        total = torch.zeros(2, dtype=torch.float64)
        for batch in rows[self.rank :: self.world_size]:
            batch = {k: v.to(self.runtime.device, non_blocking=True) for k, v in batch.items()}
            with self.runtime.autocast():
                loss, count = self.loss_function(self.model, batch)
            loss.backward()
            total += torch.tensor([loss.detach().item(), count], dtype=torch.float64)
        if self.world_size > 1:
            distributed.all_reduce(total)
        summed, count = total.tolist()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        if self.world_size > 1:
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            distributed.all_reduce(flat)
            parts = flat.split([gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        torch._foreach_mul_(gradients, 1.0 / max(count, 1))
        return summed / max(count, 1), int(count)


def _prefetched(batches: Batches, steps: range) -> Iterator[tuple[int, Sequence[Batch]]]:
    """Yield (step, rows) in order; a thread makes the next step's rows during this one."""
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(batches.rows, steps[0]) if steps else None
        for step in steps:
            rows = coming.result()
            if step + 1 in steps:
                coming = maker.submit(batches.rows, step + 1)
            yield step, rows


def _evaluated(model: PreTrainedModel, evaluate: Evaluation) -> dict[str, float]:
    model.eval()
    # Not compiled: evaluations feed rows of any length.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        measured = evaluate(model)
    model.train()
    return measured
