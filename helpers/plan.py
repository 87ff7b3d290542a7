"""Memory and time of a run, computed from the models' shapes before anything is loaded.

`plan_run` walks the stages of a profile and says for each what it holds (weights, adapters with
gradients and optimizer state, activations, logits, key-value cache) and about how long it takes.
Memory counts tensors, as `torch.cuda.max_memory_allocated` does; what a CUDA context and
fragmentation take on top is the `RESERVE_GIB` that `StagePlan.fits` leaves free. The count of
activations agrees with the tensors that autograd really keeps (see the tests). Times are rough:
they rest on the sustained speeds named in `T4` and `CPU`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from helpers.memory import Fit
from helpers.models.cheaper_forms import scores_are_small
from helpers.models.shapes import Shape, ShapeError, model_shape, shape_of
from helpers.runtime import GIB, Runtime
from helpers.settings import LoraSettings, Profile
from helpers.train.token_loss import MAX_LOGITS

RESERVE_GIB = 0.9  # CUDA context, cuBLAS workspaces, fragmentation
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # 4 bits, 8-bit scales a block of 64, their float32 scales
QUERY_TOKENS = 32  # a docstring query; documents are cut at the profile's limit
T4_MEMORY_GIB = 14.74


@dataclass(frozen=True)
class Speed:
    """Sustained speeds that times rest on; `step_s` is what launching one layer's kernels costs."""

    name: str
    flops: float
    bytes_per_s: float
    step_s: float


T4 = Speed("T4, 22 TFLOP/s float16, 250 GB/s", 22e12, 250e9, 1.5e-3)
CPU = Speed("two cores, 150 GFLOP/s, 20 GB/s", 150e9, 20e9, 1e-4)


@dataclass(frozen=True)
class StagePlan:
    """One stage: what it holds at its peak, in GiB by part, and about how many seconds it takes."""

    stage: str
    parts: Mapping[str, float]
    seconds: float
    note: str = ""

    @property
    def peak_gib(self) -> float:
        """All parts together."""
        return sum(self.parts.values())

    def fits(self, memory_gib: float) -> bool:
        """Whether it fits with `RESERVE_GIB` to spare."""
        return self.peak_gib + RESERVE_GIB <= memory_gib


@dataclass(frozen=True)
class Machine:
    """The part of a `Runtime` that a plan needs; made up for a machine that is not at hand."""

    memory_gib: float
    weight_bytes: int
    autocast: bool
    nf4: bool
    speed: Speed

    @classmethod
    def of(cls, runtime: Runtime) -> Machine:
        """The machine at hand."""
        speed = T4 if runtime.device.type == "cuda" else CPU
        autocast = runtime.autocast_dtype is not None
        return cls(runtime.memory_gib, runtime.weight_dtype.itemsize, autocast, runtime.nf4, speed)

    @classmethod
    def t4(cls, *, nf4: bool = False) -> Machine:
        """A free Colab T4: float16 weights and autocast."""
        return cls(T4_MEMORY_GIB, torch.float16.itemsize, True, nf4, T4)


# --- what a stage holds -------------------------------------------------------------------------------


def weight_bytes(shape: Shape, machine: Machine) -> float:
    """Frozen weights as the machine holds them; 4 bits are for the blocks' linear layers alone."""
    if not machine.nf4:
        return float(shape.parameters * machine.weight_bytes)
    rest = shape.parameters - shape.linear_parameters
    return shape.linear_parameters * NF4_BYTES + rest * machine.weight_bytes


def lora_parameters(shape: Shape, rank: int) -> int:
    """rank * (in + out) for every linear layer of every block."""
    return shape.layers * sum(rank * (a + b) for a, b in shape.linears)


def activation_bytes(
    shape: Shape, tokens: int, length: int, machine: Machine, rank: int, *, checkpointing: bool = False
) -> float:
    """What autograd keeps of the blocks of a decoder with adapters, for `tokens` in rows of `length`.

    Per token and block: the two norms' float32 inputs; the adapters' inputs (under autocast a cast
    copy for each of the seven) and their rank-wide outputs; query, key, value (key and value
    repeated to all heads) and output of attention, its mask and row sums, on a CPU the whole scores
    where they are small; gate, its activation and up. Once: the last norm's float32 input. With
    checkpointing one hidden state a block stays, and one block at a time is recomputed. Where
    training sums weights and adapters (`helpers.models.cheaper_forms`) it holds a little less.
    """
    small = 2 if machine.autocast else machine.weight_bytes
    h, q, i = shape.hidden, shape.heads * shape.head_dim, shape.intermediate
    norms = 2 * (4 * h + 4)
    adapter_inputs = (5 * h + q + i if machine.autocast else 2 * h + q + i) * small
    adapter_outputs = len(shape.linears) * rank * small
    attention = 4 * q * small + 4 * shape.heads + length * small
    if machine.speed is CPU and scores_are_small(shape.layers, shape.heads, tokens // length, length):
        attention += shape.heads * length * (4 + (small if machine.autocast else 0))
    mlp = 3 * i * small
    block = tokens * (norms + adapter_inputs + adapter_outputs + attention + mlp)
    if machine.autocast:  # the casts of the adapters, and of frozen weights not held in that dtype
        casts = 2 * lora_parameters(shape, rank) / shape.layers
        if machine.weight_bytes > 2:
            casts += 2 * shape.linear_parameters / shape.layers
        block += casts
    last_norm = tokens * (4 * h + 4)
    if not checkpointing:
        return shape.layers * block + last_norm
    return shape.layers * tokens * h * machine.weight_bytes + last_norm + block


def logits_bytes(shape: Shape, tokens: int) -> float:
    """Loss over `tokens`: logits, their float32 copy, its softmax and both gradients, a piece at a time."""
    return 16.0 * min(tokens * shape.vocabulary, MAX_LOGITS)


def cache_bytes(shape: Shape, rows: int, length: int, machine: Machine) -> float:
    """Key-value cache of `rows` sequences of `length` tokens; twice, since a step writes a grown copy
    of one layer and finished rows are dropped by copying."""
    a_layer = 2 * shape.kv_heads * shape.head_dim * machine.weight_bytes * rows * length
    return a_layer * (shape.layers + 1)


def training_parts(
    shape: Shape, machine: Machine, lora: LoraSettings, micro_batch: int, length: int, *,
    checkpointing: bool, embeddings: bool = False,
) -> dict[str, float]:  # fmt: skip
    """GiB by part while adapters are trained on `micro_batch` rows of `length` tokens.

    With `embeddings`, rows of the embedding too: at most all of them, each with its gradient and Adam's
    two means, and the table with these rows put in, twice (input and tied head), with its gradient.
    """
    tokens = micro_batch * length
    parts = {
        "weights": weight_bytes(shape, machine),
        "adapters, gradients, Adam": 16.0 * lora_parameters(shape, lora.rank),
        "activations": activation_bytes(
            shape, tokens, length, machine, lora.rank, checkpointing=checkpointing
        ),
        "logits": logits_bytes(shape, tokens),
    }
    if embeddings:
        parts["embedding rows"] = shape.vocabulary * shape.hidden * (16.0 + 3.0 * machine.weight_bytes)
    return {name: value / GIB for name, value in parts.items()}


def planned_fit(
    fit: Fit, config: Any, runtime: Runtime, lora: LoraSettings, micro_batch: int, length: int, *,
    embeddings: bool = False,
) -> Fit:  # fmt: skip
    """`fit`, lowered until a step of `micro_batch` rows of `length` tokens fits on the accelerator.

    On a machine without one, and for a model of unknown shape, `fit` as it is.
    """
    if runtime.device.type != "cuda":
        return fit
    try:
        shape = shape_of(config)
    except ShapeError:
        return fit
    return _fitting(fit, shape, Machine.of(runtime), lora, micro_batch, length, embeddings)


def _fitting(
    fit: Fit, shape: Shape, machine: Machine, lora: LoraSettings, micro_batch: int, length: int,
    embeddings: bool = False,
) -> Fit:  # fmt: skip
    """Down the ladder of `helpers.memory`, on paper; 4 bits remain a person's choice."""
    rows, checkpointing = min(micro_batch, fit.micro_batch or micro_batch), fit.checkpointing
    while True:
        parts = training_parts(
            shape, machine, lora, rows, length, checkpointing=checkpointing, embeddings=embeddings
        )
        planned = StagePlan("", parts, 0.0)
        if planned.fits(machine.memory_gib) or (rows == 1 and checkpointing):
            break
        rows, checkpointing = (rows // 2, checkpointing) if rows > 1 else (1, True)
    if (rows, checkpointing) == (min(micro_batch, fit.micro_batch or micro_batch), fit.checkpointing):
        return fit
    step = f"planned: {rows} x {length} at once" + (", activations recomputed" if checkpointing else "")
    return dataclasses.replace(
        fit, micro_batch=rows, checkpointing=checkpointing, lowered=(*fit.lowered, step)
    )


# --- the stages of a run ------------------------------------------------------------------------------


def plan_run(profile: Profile, machine: Machine, *, micro_batch: int | None = None) -> list[StagePlan]:
    """Memory and time of every stage of `profile` that computes with a model.

    Args:
        micro_batch: examples at once in both trainings of causal models; by default their own rule.

    Raises:
        ShapeError: for a model whose shape is not known.
    """
    return [
        *_plan_track_a(profile, machine, micro_batch),
        *_plan_track_b(profile, machine, micro_batch),
        *_plan_track_c(profile, machine),
    ]


def planned_peak_gib(stages: list[StagePlan], track: str) -> float:
    """The largest peak among a track's stages (`track_a`, ...)."""
    return max(stage.peak_gib for stage in stages if stage.stage.startswith(f"{track}/"))


def _plan_track_a(profile: Profile, machine: Machine, micro_batch: int | None) -> list[StagePlan]:
    from helpers.eval.perplexity import TOKENS_PER_BATCH
    from helpers.train.language_model import VALIDATIONS_PER_EPOCH

    a, shape = profile.track_a, model_shape(profile.track_a.model)
    # Scoring feeds every window whole and scores its new tokens: window / stride times the tokens.
    fed = a.test_tokens * a.window / a.stride
    weights = {"weights": weight_bytes(shape, machine) / GIB}
    score = weights | {
        "activations": 8.0 * TOKENS_PER_BATCH * shape.intermediate * machine.weight_bytes / GIB,
        "logits": a.window * shape.vocabulary * (machine.weight_bytes + 8.0) / GIB,
    }
    scoring = 2.0 * shape.parameters * fed / machine.speed.flops
    tokens = a.train_tokens * (1 + a.rehearsal_share) * a.epochs
    validated = a.validation_tokens * (a.epochs * VALIDATIONS_PER_EPOCH + 1)
    train = _training("track_a/train", shape, machine, a, a.window, tokens, validated, micro_batch,
                      embeddings=a.train_embeddings)  # fmt: skip
    return [StagePlan("track_a/before", score, scoring), train, StagePlan("track_a/after", score, scoring)]


def _plan_track_b(profile: Profile, machine: Machine, micro_batch: int | None) -> list[StagePlan]:
    b, shape = profile.track_b, model_shape(profile.track_b.model)
    length = b.max_prompt_tokens + b.max_new_tokens
    prompts = b.executable_tasks + b.language_tasks
    answers = prompts + b.executable_tasks * b.samples_per_task
    rows = min(b.generation_batch, answers)
    steps = -(-answers // rows) * b.max_new_tokens
    a_step = max(
        weight_bytes(shape, machine) / machine.speed.bytes_per_s,
        2.0 * shape.parameters * rows / machine.speed.flops,
    )
    seconds = steps * (a_step + shape.layers * machine.speed.step_s)
    seconds += 2.0 * shape.parameters * prompts * b.max_prompt_tokens / machine.speed.flops
    answer = {
        "weights": weight_bytes(shape, machine) / GIB,
        "cache": cache_bytes(shape, rows, length, machine) / GIB,
        "prompts read": 8.0 * rows * b.max_prompt_tokens * shape.intermediate * machine.weight_bytes / GIB,
        "logits": 16.0 * rows * shape.vocabulary / GIB,
    }
    note = f"batches of {rows}; at most {b.max_new_tokens} new tokens each"
    train = _training(
        "track_b/train", shape, machine, b, length,
        b.train_pairs * length * b.epochs / 2,  # a pair is about half as long as it may be
        b.validation_pairs * length * (b.epochs + 1) / 2, micro_batch,
    )  # fmt: skip
    before = StagePlan("track_b/answers_before", answer, seconds, note)
    return [before, train, dataclasses.replace(before, stage="track_b/answers_after")]


def _training(
    stage: str, shape: Shape, machine: Machine, settings: Any, length: int,
    tokens: float, validated: float, micro_batch: int | None, *, embeddings: bool = False,
) -> StagePlan:  # fmt: skip
    """Adapters leave the weights' own gradients out: forward 2, backward 2 operations a weight."""
    from helpers.train import instruct, language_model
    from helpers.train.trainer import batch_shape

    limits = (language_model if stage.startswith("track_a") else instruct).MICRO_BATCH_TOKENS
    limit = max(1, limits["cpu" if machine.speed is CPU else "cuda"] // length)
    fit = Fit()
    if micro_batch is not None:
        parts = training_parts(
            shape, machine, settings.lora, micro_batch, length, checkpointing=False, embeddings=embeddings
        )
        fits = StagePlan(stage, parts, 0.0).fits(machine.memory_gib)
        fit = Fit(micro_batch=micro_batch, checkpointing=not fits)
    elif machine.speed is not CPU:
        fit = _fitting(fit, shape, machine, settings.lora, limit, length, embeddings)
    rows, _ = batch_shape(settings.batch_sequences, fit.micro_batch or limit)
    parts = training_parts(
        shape, machine, settings.lora, rows, length, checkpointing=fit.checkpointing, embeddings=embeddings
    )
    operations = shape.parameters * (tokens * (6.0 if fit.checkpointing else 4.0) + 2.0 * validated)
    note = f"{rows} x {length} at once" + (", activations recomputed" if fit.checkpointing else "")
    slower = 1.5 if machine.nf4 else 1.0  # weights are unpacked for every product
    return StagePlan(stage, parts, operations / machine.speed.flops * slower, note)


def _plan_track_c(profile: Profile, machine: Machine) -> list[StagePlan]:
    c, shape = profile.track_c, model_shape(profile.track_c.model)
    weights = 4.0 * shape.parameters  # float32 whatever the machine
    small = 2 if machine.autocast else 4
    encode = {
        "weights": weights / GIB,
        "activations": 4.0 * c.encode_batch * c.max_tokens * shape.intermediate * 4 / GIB,
    }
    functions = 2_200  # of the default corpus
    encoding = 2.0 * shape.parameters * functions * c.max_tokens / machine.speed.flops
    columns = 1 + c.hard_negatives  # documents per query
    tokens = c.batch_pairs * (columns * c.max_tokens + QUERY_TOKENS)
    trained, learning = shape.layers, shape.parameters
    if 0 < c.trained_layers < shape.layers:
        trained = c.trained_layers
        learning = trained * sum(inputs * outputs for inputs, outputs in shape.linears)
    train = {
        "weights, gradients, Adam": (weights + 12.0 * learning) / GIB,
        "activations": tokens * (trained * encoder_bytes(shape, small) + 8 * shape.hidden) / GIB,
    }
    steps = -(-c.train_pairs // c.batch_pairs) * c.epochs * c.seeds
    seconds = (2.0 * shape.parameters + 4.0 * learning) * tokens * steps / machine.speed.flops
    return [
        StagePlan("track_c/index_before", encode, encoding, "for about 2,200 functions"),
        StagePlan("track_c/train", train, seconds, f"{c.batch_pairs} queries, {columns} documents each"),
        StagePlan("track_c/index_after", encode, encoding),
    ]


def encoder_bytes(shape: Shape, small: int) -> float:
    """What autograd keeps of one BERT-like block per token when all its weights are trained.

    Inputs of query, key and value (under autocast a cast copy each) and of the first MLP layer;
    attention's four tensors; the activation's input and output; the two LayerNorms' float32 inputs;
    two dropout masks of a byte. Dropout inside attention keeps nothing in fused kernels.
    """
    h, i = shape.hidden, shape.intermediate
    casts = 3 if small < 4 else 1
    return small * (casts * h + h + 4 * h + 2 * i) + 2 * (4 * h + 8) + 2 * h + 4 * shape.heads


def plan_rows(stages: list[StagePlan], memory_gib: float) -> list[dict[str, Any]]:
    """The plan as rows for a table: stage, GiB at the peak and by part, minutes, whether it fits."""
    return [
        {
            "stage": stage.stage,
            "GiB": round(stage.peak_gib, 2),
            "of which": ", ".join(f"{name} {value:.2f}" for name, value in stage.parts.items()),
            "minutes": round(stage.seconds / 60, 1),
            "fits": "yes" if stage.fits(memory_gib) else "NO",
            "how": stage.note,
        }
        for stage in stages
    ]


def print_plan(profile: Profile, *, here: bool = False, micro_batch: int | None = None) -> None:
    """The plan as a table on the terminal, for a T4 or for the machine at hand."""
    from rich.console import Console
    from rich.table import Table

    from helpers.runtime import detect_runtime

    machine = Machine.of(detect_runtime(nf4=profile.nf4)) if here else Machine.t4(nf4=profile.nf4)
    rows = plan_rows(plan_run(profile, machine, micro_batch=micro_batch), machine.memory_gib)
    title = f"Profile {profile.name} on {machine.memory_gib:.2f} GiB; times at {machine.speed.name}"
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="right" if name in ("GiB", "minutes") else "left")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=150).print(table)
