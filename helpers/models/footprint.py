"""Compute the memory of one step from a model's shape, before loading anything, and what fits.

Tensors are counted, as `torch.cuda.max_memory_allocated` does; `StagePlan.fits` leaves `RESERVE_GIB` free for
the CUDA context and fragmentation. The count of activations agrees with the tensors that autograd keeps
(see the tests). Unlike `helpers.plan`, this module imports no training, so that each training can ask what
fits without depending on the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from helpers.machine.hardware import Runtime
from helpers.machine.memory import Fit
from helpers.machine.usage import GIB
from helpers.models.bfloat16_products import LEAST_WEIGHTS
from helpers.models.cheaper_forms import scores_are_small, sum_is_less
from helpers.models.packed_decoder import KEPT_BYTES
from helpers.models.ragged_cache import SAME_LENGTHS
from helpers.models.shapes import Shape, ShapeError, shape_of
from helpers.models.token_loss import MAX_FROZEN_LOGITS, MAX_LOGITS
from helpers.settings import LoraSettings

RESERVE_GIB = 0.9  # CUDA context, cuBLAS workspaces, fragmentation
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # 4 bits; per block of 64 an 8-bit scale; their float32 scales
T4_MEMORY_GIB = 14.74


@dataclass(frozen=True)
class Speed:
    """Sustained speeds, from which times are computed."""

    name: str
    flops: float
    bytes_per_s: float
    step_s: float  # to launch one layer's kernels


T4_SPEED = Speed("T4, 22 TFLOP/s float16, 250 GB/s", 22e12, 250e9, 1.5e-3)
# Operations per second of training in the form of `helpers.models.packed_decoder`, with bfloat16 products on
# two cores: SmolLM2-135M in windows of 1,024, at 0.54 billion operations a token.
PACKED_FLOPS = 380e9
# The same of reading with `helpers.models.reading_decoder`, and of writing 64 texts at a time.
READING_FLOPS = 450e9
WRITING_FLOPS = 200e9
ENCODER_FLOPS = 250e9  # of a small encoder under bfloat16 autocast
CPU_SPEED = Speed("two cores, 150 GFLOP/s, 20 GB/s", 150e9, 20e9, 1e-4)


@dataclass(frozen=True)
class StagePlan:
    """One stage: its peak memory in GiB by part, and roughly its duration in seconds."""

    stage: str
    parts: Mapping[str, float]
    seconds: float
    note: str = ""

    @property
    def peak_gib(self) -> float:
        """The sum of all parts."""
        return sum(self.parts.values())

    def fits(self, memory_gib: float) -> bool:
        """Whether the stage fits with `RESERVE_GIB` to spare."""
        return self.peak_gib + RESERVE_GIB <= memory_gib


@dataclass(frozen=True)
class Machine:
    """What planning needs to know of a machine, which need not be the one at hand."""

    memory_gib: float
    weight_bytes: int
    autocast: bool
    nf4: bool
    speed: Speed

    @classmethod
    def of(cls, runtime: Runtime) -> Machine:
        """Describe the machine at hand."""
        speed = T4_SPEED if runtime.device.type == "cuda" else CPU_SPEED
        autocast = runtime.autocast_dtype is not None
        return cls(runtime.memory_gib, runtime.weight_dtype.itemsize, autocast, runtime.nf4, speed)

    @classmethod
    def t4(cls, *, nf4: bool = False) -> Machine:
        """Describe a free Colab T4: float16 weights and autocast."""
        return cls(T4_MEMORY_GIB, torch.float16.itemsize, True, nf4, T4_SPEED)


def weight_bytes(shape: Shape, machine: Machine) -> float:
    """Return the bytes of the frozen weights; only the blocks' linear layers can be in 4 bits."""
    if not machine.nf4:
        return float(shape.parameters * machine.weight_bytes)
    rest = shape.parameters - shape.linear_parameters
    return shape.linear_parameters * NF4_BYTES + rest * machine.weight_bytes


def reads_in_bfloat16(shape: Shape, machine: Machine) -> bool:
    """Return whether scores and texts are computed with bfloat16 products on a CPU."""
    if machine.speed is not CPU_SPEED or machine.nf4 or machine.weight_bytes != 4 or shape.encoder:
        return False
    return machine.autocast and shape.linear_parameters >= LEAST_WEIGHTS


def reading_flops(shape: Shape, machine: Machine) -> float:
    """Return the operations per second at which a model scores and writes text."""
    return READING_FLOPS if reads_in_bfloat16(shape, machine) else machine.speed.flops


def writing_flops(shape: Shape, machine: Machine) -> float:
    """Return the operations per second at which a model writes many texts at a time."""
    return WRITING_FLOPS if reads_in_bfloat16(shape, machine) else machine.speed.flops


def reading_parts(shape: Shape, machine: Machine) -> dict[str, float]:
    """Return GiB of the weights while text is scored or written, and of their copies for the products."""
    parts = {"weights": weight_bytes(shape, machine) / GIB}
    if reads_in_bfloat16(shape, machine):
        parts["weights in the products' precision"] = 2.0 * shape.linear_parameters / GIB
    return parts


def moved_bytes(shape: Shape, machine: Machine) -> float:
    """Return the bytes of weights that one pass reads."""
    if reads_in_bfloat16(shape, machine):
        return 2.0 * shape.linear_parameters + 4.0 * shape.vocabulary * shape.hidden
    return weight_bytes(shape, machine)


def lora_parameters(shape: Shape, rank: int, layers: int = 0) -> int:
    """Return the adapters' parameters: rank * (in + out) for each linear layer of `layers` blocks, 0: all."""
    return (layers or shape.layers) * sum(rank * (a + b) for a, b in shape.linears)


def activation_bytes(
    shape: Shape, tokens: int, length: int, machine: Machine, rank: int, checkpointing: bool = False
) -> float:
    """Return what autograd keeps of a decoder's blocks with adapters, for `tokens` in rows of `length`.

    Per token and block: the two norms' float32 inputs; the adapters' inputs (under autocast a cast copy for
    each of the seven) and their rank-wide outputs; query, key, value (key and value repeated to all heads)
    and output of attention, its mask and row sums, on a CPU the whole scores if they are small; gate, its
    activation and up. Once: the last norm's float32 input. With checkpointing, one hidden state per block
    is kept and one block at a time recomputed. Training that sums weights and adapters
    (`helpers.models.cheaper_forms`) needs slightly less.
    """
    small = 2 if machine.autocast else machine.weight_bytes
    h, q, i = shape.hidden, shape.heads * shape.head_dim, shape.intermediate
    norms = 2 * (4 * h + 4)
    adapter_inputs = (5 * h + q + i if machine.autocast else 2 * h + q + i) * small
    adapter_outputs = len(shape.linears) * rank * small
    attention = 4 * q * small + 4 * shape.heads + length * small
    if machine.speed is CPU_SPEED and scores_are_small(shape.layers, shape.heads, tokens // length, length):
        attention += shape.heads * length * (4 + (small if machine.autocast else 0))
    mlp = 3 * i * small
    block = tokens * (norms + adapter_inputs + adapter_outputs + attention + mlp)
    if machine.autocast:  # casts of the adapters, and of frozen weights in another dtype
        casts = 2 * lora_parameters(shape, rank) / shape.layers
        if machine.weight_bytes > 2:
            casts += 2 * shape.linear_parameters / shape.layers
        block += casts
    last_norm = tokens * (4 * h + 4)
    if not checkpointing:
        return shape.layers * block + last_norm
    return shape.layers * tokens * h * machine.weight_bytes + last_norm + block


def is_packed_form(shape: Shape, machine: Machine, lora: LoraSettings, *, embeddings: bool = False) -> bool:
    """Return whether training takes the form of `helpers.models.packed_decoder`, as `is_covered` decides.

    The shape does not tell the family: Qwen2 and Llama are assumed.
    """
    if machine.speed is not CPU_SPEED or machine.nf4 or machine.weight_bytes != 4 or embeddings:
        return False
    if shape.encoder or lora.dropout:
        return False
    return not any(sum_is_less(inputs, outputs, lora.rank) for inputs, outputs in shape.linears)


def packed_form_parts(
    shape: Shape, machine: Machine, lora: LoraSettings, tokens: int, kept_tokens: float = 0.0
) -> dict[str, float]:
    """Return the bytes by part of a step on `tokens` tokens in that form, beside the weights themselves.

    The backward pass of one block holds gradients and recomputed activations beside what is kept.

    Args:
        kept_tokens: of all documents, whose hidden states are kept if `lora.layers` leaves blocks frozen.
    """
    small = 2 if machine.autocast else 4
    h, q, i = shape.hidden, shape.heads * shape.head_dim, shape.intermediate
    kv = shape.kv_heads * shape.head_dim
    at_work = small * (6 * i + 3 * (q + 2 * kv)) + 6 * 4 * h
    copies = shape.linear_parameters + (shape.vocabulary * h if machine.autocast else 0)
    parts = {
        "weights in the products' precision": float(small * copies),
        "activations": packed_activation_bytes(shape, machine, lora, tokens) + float(tokens * at_work),
        "logits": float(2 * small * min(tokens * shape.vocabulary, MAX_FROZEN_LOGITS)),
    }
    if 0 < lora.layers < shape.layers:
        parts["activations kept over epochs"] = min(4.0 * h * kept_tokens, KEPT_BYTES)
    return parts


def packed_activation_bytes(shape: Shape, machine: Machine, lora: LoraSettings, tokens: int) -> float:
    """Return what autograd keeps in that form of the trained blocks, as that module lists.

    Besides, the adapters' rank-wide outputs, and once the last norm's float32 input.
    """
    small, h = 2 if machine.autocast else 4, shape.hidden
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    narrow = len(shape.linears) * lora.rank
    block = 2 * 4 * h + small * (2 * q + 2 * kv + 2 * shape.intermediate + narrow)
    return tokens * (min(lora.layers or shape.layers, shape.layers) * block + 4.0 * h + 4)


def logits_bytes(shape: Shape, tokens: int) -> float:
    """Return the bytes of a loss: logits, float32 copy, softmax and both gradients, a piece at a time."""
    return 16.0 * min(tokens * shape.vocabulary, MAX_LOGITS)


def cache_bytes(shape: Shape, rows: int, length: int, machine: Machine) -> float:
    """Return the bytes of keys and values of `rows` texts of at most `length` tokens."""
    element = 2 if reads_in_bfloat16(shape, machine) else machine.weight_bytes
    places = -(-length // SAME_LENGTHS) * SAME_LENGTHS
    return 2.0 * shape.kv_heads * shape.head_dim * element * rows * places * shape.layers


def training_parts(
    shape: Shape, machine: Machine, lora: LoraSettings, micro_batch: int, length: int, *,
    checkpointing: bool, embeddings: bool = False, kept_tokens: float = 0.0,
) -> dict[str, float]:  # fmt: skip
    """Return GiB by part while adapters are trained on `micro_batch` rows of `length` tokens.

    With `embeddings`, rows of the embedding are trained too: at most all, each with its gradient and Adam's
    two means. The table with these rows inserted then exists twice (input and tied head), its gradient once.
    `kept_tokens` as in `packed_form_parts`.
    """
    tokens = micro_batch * length
    parts = {
        "weights": weight_bytes(shape, machine),
        "adapters, gradients, Adam": 16.0 * lora_parameters(shape, lora.rank, lora.layers),
    }
    if not checkpointing and is_packed_form(shape, machine, lora, embeddings=embeddings):
        parts |= packed_form_parts(shape, machine, lora, tokens, kept_tokens)
        return {name: value / GIB for name, value in parts.items()}
    parts |= {
        "activations": activation_bytes(shape, tokens, length, machine, lora.rank, checkpointing),
        "logits": logits_bytes(shape, tokens),
    }
    if embeddings:
        parts["embedding rows"] = shape.vocabulary * shape.hidden * (16.0 + 3.0 * machine.weight_bytes)
    return {name: value / GIB for name, value in parts.items()}


def planned_fit(
    fit: Fit, config: Any, runtime: Runtime, lora: LoraSettings, micro_batch: int, length: int, *,
    embeddings: bool = False,
) -> Fit:  # fmt: skip
    """Lower `fit` until a step of `micro_batch` rows of `length` tokens fits on the accelerator.

    Without an accelerator, or for a model of unknown shape, return `fit` unchanged.
    """
    if runtime.device.type != "cuda":
        return fit
    try:
        shape = shape_of(config)
    except ShapeError:
        return fit
    return lowered_fit(fit, shape, Machine.of(runtime), lora, micro_batch, length, embeddings)


def lowered_fit(
    fit: Fit, shape: Shape, machine: Machine, lora: LoraSettings, micro_batch: int, length: int,
    embeddings: bool = False,
) -> Fit:  # fmt: skip
    """Do what `planned_fit` does, for any machine; frozen weights are not moved to 4 bits."""
    asked = (min(micro_batch, fit.micro_batch or micro_batch), fit.checkpointing)
    rows, checkpointing = asked
    while True:
        parts = training_parts(
            shape, machine, lora, rows, length, checkpointing=checkpointing, embeddings=embeddings
        )
        if StagePlan("", parts, 0.0).fits(machine.memory_gib) or (rows == 1 and checkpointing):
            break
        rows, checkpointing = (rows // 2, checkpointing) if rows > 1 else (1, True)
    if (rows, checkpointing) == asked:
        return fit
    step = f"planned: {rows} x {length} at once" + (", activations recomputed" if checkpointing else "")
    return dataclasses.replace(
        fit, micro_batch=rows, checkpointing=checkpointing, lowered=(*fit.lowered, step)
    )
