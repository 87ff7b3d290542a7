"""Memory of one step, computed from a model's shape before anything is loaded, and what fits by it.

Memory counts tensors, as `torch.cuda.max_memory_allocated` does; what a CUDA context and fragmentation
take on top is the `RESERVE_GIB` that `StagePlan.fits` leaves free. The count of activations agrees with
the tensors that autograd really keeps (see the tests). Apart from `helpers.plan`, which knows every stage
and so every training: a training asks what fits without resting on the others' code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from helpers.machine.hardware import GIB, Runtime
from helpers.machine.memory import Fit
from helpers.models.cheaper_forms import scores_are_small
from helpers.models.shapes import Shape, ShapeError, shape_of
from helpers.models.token_loss import MAX_LOGITS
from helpers.settings import LoraSettings

RESERVE_GIB = 0.9  # CUDA context, cuBLAS workspaces, fragmentation
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # 4 bits, 8-bit scales a block of 64, their float32 scales
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
    return fitting(fit, shape, Machine.of(runtime), lora, micro_batch, length, embeddings)


def fitting(
    fit: Fit, shape: Shape, machine: Machine, lora: LoraSettings, micro_batch: int, length: int,
    embeddings: bool = False,
) -> Fit:  # fmt: skip
    """Down the ladder of `helpers.machine.memory`, on paper; 4 bits remain a person's choice."""
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
