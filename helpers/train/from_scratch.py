"""Training a language model from random weights, or going on from earlier ones.

One loop for the fixed-budget lab and for the embedded base model. It is deterministic by step: the
batch, the random state and the learning rate of step s depend on s alone, so a run that was killed
goes on from its last checkpoint along the curve it would have had. Several processes share the rows
of each step (`torch.distributed`); their number does not change what a step learns from.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as distributed
from transformers import PreTrainedModel

from helpers.machine.hardware import Runtime, peak_memory_gib
from helpers.machine.progress import bar
from helpers.models.structure import hidden_states, output_head
from helpers.models.token_loss import MAX_LOGITS, summed_token_loss
from helpers.run.workspace import digest
from helpers.train.errors import NonFiniteLossError
from helpers.train.muon import StackedMuon

Batch = dict[str, torch.Tensor]
LossFunction = Callable[[PreTrainedModel, Batch], tuple[torch.Tensor, int]]
CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"


class Batches(Protocol):
    """Rows of each optimizer step, found by the step's number alone."""

    def rows(self, step: int) -> Sequence[Batch]:
        """Micro-batches of step `step` (0-based), each `input_ids` and `labels`, (rows, length).

        And `weights` of the same shape, where tokens do not weigh the same.
        """
        ...


@dataclass(frozen=True)
class Schedule:
    """Share of the peak learning rate by step.

    `wsd` is warm-up, stable, linear decay to `floor` (Hu et al. 2024, MiniCPM); `cosine` decays over
    all steps after warm-up to `floor`; `constant` keeps the peak.
    """

    kind: str = "wsd"  # wsd | cosine | constant
    steps: int = 0
    warmup: int = 0
    decay: int = 0  # last steps, of wsd
    floor: float = 0.0

    def share(self, step: int) -> float:
        """Of the peak rate at 0-based `step`.

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
    warm_momentum: tuple[float, int] = (0.85, 300)  # where Muon's begins, and steps until `momentum`
    clip: float = 1.0

    def build(self, model: PreTrainedModel) -> list[torch.optim.Optimizer]:
        """Optimizers over all parameters; hidden matrices are two-dimensional and not embeddings."""
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
            on_gpu = bool(matrices) and matrices[0].is_cuda  # where many small kernels cost, not arithmetic
            found.append(
                (StackedMuon if on_gpu else torch.optim.Muon)(
                    matrices,
                    lr=self.muon_learning_rate,
                    weight_decay=self.weight_decay,
                    momentum=self.momentum,
                )
            )
        return found


@dataclass(frozen=True)
class PretrainingSettings:
    """What a run does, but for model and data."""

    schedule: Schedule
    optimizer: Optimizer = field(default_factory=Optimizer)
    seed: int = 1337
    evaluate_every: int = 100
    checkpoint_every: int = 50
    checkpoint_pause_s: float = 0.0  # of training between two checkpoints, at least
    compile: bool = False  # the step; evaluations run as they are


@dataclass(frozen=True)
class PretrainingResult:
    """What a run did; losses by step lie in its log."""

    steps: int
    tokens: int  # targets seen, all processes
    seconds: float  # training alone, summed over resumed stretches
    tokens_per_second: float
    final: dict[str, float]  # the last evaluation
    peak_memory_gib: float
    parameters: int


def next_token_loss(
    model: PreTrainedModel, batch: Batch, *, compiled: bool = False, max_logits: int = MAX_LOGITS
) -> tuple[torch.Tensor, int]:
    """Sum of the cross-entropy in nats over the labelled positions, weighted, and their number.

    Rows are whole: no padding and no documents to keep apart. `compiled` and `max_logits` are
    those of `summed_token_loss`.
    """
    hidden = hidden_states(model, batch["input_ids"], attention_mask=whole_rows(model))
    return summed_token_loss(
        output_head(model), hidden, batch["labels"], weights=batch.get("weights"), max_logits=max_logits,
        compiled=compiled,
    )  # fmt: skip


def whole_rows(model: PreTrainedModel) -> dict[str, None] | None:
    """The attention mask that tells transformers to build none, where the kernel is causal by itself.

    While it is compiled, transformers cannot look whether a mask says anything, so it always builds
    one; attention with a mask then misses the flash kernel. Plain products need the mask.
    """
    kinds = getattr(model.config, "layer_types", None)
    if model.config._attn_implementation != "sdpa" or set(kinds or ()) != {"full_attention"}:
        return None
    return {"full_attention": None}


def pretrain(
    model: PreTrainedModel,
    batches: Batches,
    settings: PretrainingSettings,
    runtime: Runtime,
    out_dir: Path,
    *,
    evaluate: Callable[[PreTrainedModel], dict[str, float]] | None = None,
    loss_function: LossFunction = next_token_loss,
    after_step: Callable[[], None] | None = None,
    what: str = "pretrain",
) -> PretrainingResult:
    """Train `model` in place; log to `out_dir/log.jsonl`, checkpoints to `out_dir/checkpoint.pt`.

    A checkpoint of the same optimizer, seed and model shape found there is gone on from; the
    schedule may be another (a stable phase can be prolonged, or ended by a decay).

    Args:
        evaluate: called with the model in evaluation mode every `evaluate_every` steps and at the
            end, in the first process only; its values are logged.
        loss_function: sum of the loss and number of targets of one micro-batch.
        after_step: called after each optimizer step, as for an average of the weights; what it keeps
            must lie in the model's state to survive a kill.

    Raises:
        NonFiniteLossError: if the loss is NaN or infinite.
    """
    rank, world = place()
    out_dir.mkdir(parents=True, exist_ok=True)
    model.to(runtime.device).train()
    optimizers = settings.optimizer.build(model)
    key = digest(
        [
            asdict(settings.optimizer),
            settings.seed,
            sorted((n, list(p.shape)) for n, p in model.named_parameters()),
        ]
    )
    state = _Checkpoint(out_dir / CHECKPOINT, key)
    first, tokens, seconds = state.restore(model, optimizers, runtime.device)
    saved_at = seconds
    log = _Log(out_dir / LOG, first) if rank == 0 else None
    if settings.compile:
        for member in getattr(model, "members", [model]):
            member.base_model.compile()  # the part that `hidden_states` calls
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    measured: dict[str, float] = {}
    total = settings.schedule.steps
    with bar(what, total=total, unit="step") as shown:
        shown.update(first)
        start = time.perf_counter()
        for step, rows in _made_ahead(batches, range(first, total)):
            torch.manual_seed(settings.seed * 1_000_003 + step * 131 + rank)
            share = settings.schedule.share(step)
            _set_rates(optimizers, peaks, share, settings.optimizer, step)
            loss, count = _gradients(model, rows, runtime, loss_function, rank, world)
            if not math.isfinite(loss):
                raise NonFiniteLossError(
                    f"the loss became {loss} at step {step + 1}; lower the learning rate"
                )
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.optimizer.clip)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            if after_step:
                after_step()
            tokens += count
            seconds += time.perf_counter() - start
            start = time.perf_counter()
            last = step + 1 == total
            if log:
                log.write(
                    step=step + 1, loss=loss, share=share, norm=float(norm), tokens=tokens, seconds=seconds
                )
                shown.set_postfix_str(
                    f"loss {loss:.3f}, {tokens / max(seconds, 1e-9):,.0f} tokens/s", refresh=False
                )
                shown.update(1)
                if evaluate and (last or (step + 1) % settings.evaluate_every == 0):
                    model.eval()
                    with torch.no_grad(), torch.compiler.set_stance("force_eager"):  # rows of any length
                        measured = evaluate(model)
                    model.train()
                    log.write(step=step + 1, evaluation=measured, tokens=tokens, seconds=seconds)
                due = seconds - saved_at >= settings.checkpoint_pause_s
                if last or (due and (step + 1) % settings.checkpoint_every == 0):
                    state.save(model, optimizers, step + 1, tokens, seconds)
                    saved_at = seconds
            if world > 1:
                distributed.barrier()
            start = time.perf_counter()
    model.eval()
    return PretrainingResult(
        steps=total,
        tokens=tokens,
        seconds=round(seconds, 3),
        tokens_per_second=tokens / max(seconds, 1e-9),
        final=measured,
        peak_memory_gib=round(peak_memory_gib(), 3),
        parameters=sum(p.numel() for p in model.parameters()),
    )


def read_log(folder: Path) -> list[dict]:
    """Rows of a run's log: per step `loss`, or `evaluation`, with `step`, `tokens`, `seconds`."""
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def place() -> tuple[int, int]:
    """Number of this process and of all, joined by the launcher's environment."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return (distributed.get_rank(), world) if world > 1 else (0, 1)


def _made_ahead(batches: Batches, steps: range) -> Iterator[tuple[int, Sequence[Batch]]]:
    """(step, rows) in order; the rows of the next step are made while one is trained on."""
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(batches.rows, steps[0]) if steps else None
        for step in steps:
            rows = coming.result()
            if step + 1 in steps:
                coming = maker.submit(batches.rows, step + 1)
            yield step, rows


def _gradients(
    model, rows: Iterable[Batch], runtime: Runtime, loss_function: LossFunction, rank: int, world: int
) -> tuple[float, int]:
    """Accumulate the gradient of the mean loss over all targets of the step; (loss, targets)."""
    total = torch.zeros(2, dtype=torch.float64)
    for index, batch in enumerate(rows):
        if index % world != rank:
            continue
        batch = {name: tensor.to(runtime.device, non_blocking=True) for name, tensor in batch.items()}
        with runtime.autocast():
            loss, count = loss_function(model, batch)
        loss.backward()
        total += torch.tensor([loss.detach().item(), count], dtype=torch.float64)
    if world > 1:
        distributed.all_reduce(total)
    summed, count = total.tolist()
    parameters = [p for p in model.parameters() if p.grad is not None]
    if world > 1:
        flat = torch.cat([p.grad.reshape(-1) for p in parameters])
        distributed.all_reduce(flat)
        for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad.copy_(part.view_as(p))
    torch._foreach_mul_([p.grad for p in parameters], 1.0 / max(count, 1))
    return summed / max(count, 1), int(count)


def _set_rates(optimizers, peaks, share: float, settings: Optimizer, step: int) -> None:
    low, until = settings.warm_momentum
    warm = min(1.0, step / until) if until else 1.0
    for optimizer, rates in zip(optimizers, peaks, strict=True):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share
            if isinstance(optimizer, torch.optim.Muon):
                group["momentum"] = low + (settings.momentum - low) * warm


class _Checkpoint:
    """Weights, optimizer states and counters, replaced whole."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key

    def save(self, model, optimizers, step: int, tokens: int, seconds: float) -> None:
        temporary = self.path.with_suffix(".partial")
        torch.save(
            {
                "key": self.key,
                "step": step,
                "tokens": tokens,
                "seconds": seconds,
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            },
            temporary,
        )
        os.replace(temporary, self.path)

    def restore(self, model, optimizers, device: torch.device) -> tuple[int, int, float]:
        """(first step, tokens, seconds); zeros where no whole checkpoint of this run lies."""
        try:
            saved = torch.load(self.path, map_location=device, weights_only=True)
        except FileNotFoundError:
            return 0, 0, 0.0
        except Exception:  # cut short by a full disk: whatever its reader raises
            return 0, 0, 0.0
        if saved["key"] != self.key:
            return 0, 0, 0.0
        model.load_state_dict(saved["model"])
        for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
            rates = [group["lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(values)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate  # the peak, not what the schedule had made of it
        return saved["step"], saved["tokens"], saved["seconds"]


class _Log:
    """JSON lines, cut back to the step that training goes on from."""

    def __init__(self, path: Path, first: int) -> None:
        kept = []
        if first and path.exists():
            for line in path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    break  # the line that a kill cut short
                if row["step"] <= first:
                    kept.append(line)
        path.write_text("".join(f"{line}\n" for line in kept))
        self.stream = path.open("a", encoding="utf-8")

    def write(self, **row) -> None:
        self.stream.write(json.dumps(row) + "\n")
        self.stream.flush()
