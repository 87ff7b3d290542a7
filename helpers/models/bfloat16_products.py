"""Products of a large float32 model with its frozen weights in bfloat16 on a CPU.

Reading and writing text is bound by these products: in bfloat16 they take a quarter of the time, and reading
the weights half. All else (norms, rotations, residual sums, softmaxes, logits) stays in float32. Adapters
stay apart from the weights, as in training: summed into bfloat16 weights, small updates would be lost.

A row of a product must not depend on the rows beside it, or a text would depend on the texts written with it:
bfloat16 rounds differences of a last bit up to differences that decide between tokens. oneDNN's kernels sum
each row alone, in one order whatever the number of rows. Nothing promises that, so it is tried for each shape
of weights before they are used.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch.nn.functional import linear
from transformers import PreTrainedModel

from helpers.machine.hardware import Runtime
from helpers.models.cheaper_forms import is_plain_adapter
from helpers.models.structure import output_head

LEAST_WEIGHTS = 2**25  # below, a model is written with fast enough in float32
TRIED_ROWS = (2, 3, 7, 16, 31, 64, 100, 128)  # `ragged` feeds at least two


def products_pay(model: PreTrainedModel | PeftModel, runtime: Runtime) -> bool:
    """Return whether `bfloat16_products` makes `model` faster and leaves its rows independent.

    That needs a float32 model with at least `LEAST_WEIGHTS` on a CPU that multiplies bfloat16 in hardware.
    """
    if runtime.device.type != "cpu" or runtime.autocast_dtype != torch.bfloat16:
        return False
    if model.device.type != "cpu" or model.dtype != torch.float32 or not _has_float32_kernel():
        return False
    weights = {id(module): _frozen(module) for module in _covered(model)}
    if sum(weight.numel() for weight in weights.values()) < LEAST_WEIGHTS:
        return False
    head, threads = id(output_head(model)), torch.get_num_threads()
    tried = {(*weight.shape, number == head) for number, weight in weights.items()}
    return all(_rows_are_independent(*shape, threads) for shape in tried)


@contextlib.contextmanager
def bfloat16_products(model: PreTrainedModel | PeftModel) -> Iterator[int]:
    """Let linear layers with one plain adapter or none multiply in bfloat16; yield their number.

    The output head multiplies in float32. Only for weights that do not change meanwhile; takes half their
    memory.
    """
    changed, head = _covered(model), output_head(model)
    for module in changed:
        module.forward = _product(module, in_float32=module is head and type(head) is torch.nn.Linear)
    try:
        yield len(changed)
    finally:
        for module in changed:
            del module.forward


def _covered(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the outermost linear layers that can be replaced."""
    adapted = [module for module in model.modules() if isinstance(module, LoraLinear)]
    within = {id(part) for module in adapted for part in module.modules()}
    plain = [m for m in model.modules() if type(m) is torch.nn.Linear and id(m) not in within]
    return [module for module in adapted if is_plain_adapter(module)] + plain


def _frozen(module: torch.nn.Module) -> torch.Tensor:
    return module.base_layer.weight if isinstance(module, LoraLinear) else module.weight


def _product(module: torch.nn.Module, *, in_float32: bool) -> functools.partial[torch.Tensor]:
    if in_float32:
        return functools.partial(_float32_linear, weight=module.weight, bias=module.bias)
    base = module.base_layer if isinstance(module, LoraLinear) else module
    bias = None if base.bias is None else base.bias.detach().to(torch.bfloat16)
    factors = None
    if isinstance(module, LoraLinear):
        (name,) = module.active_adapters
        b = module.lora_B[name].weight.detach() * module.scaling[name]
        factors = module.lora_A[name].weight.detach().to(torch.bfloat16), b.to(torch.bfloat16)
    return functools.partial(
        _multiply, weight=base.weight.detach().to(torch.bfloat16), bias=bias, factors=factors
    )


def _multiply(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    factors: tuple[torch.Tensor, torch.Tensor] | None,
) -> torch.Tensor:
    """Return W x + b, and s B A x more with `factors` (A, s B): (..., in) -> (..., out), both in float32."""
    x = x.to(torch.bfloat16)
    y = linear(x, weight, bias).float()
    return y if factors is None else y.add_(linear(linear(x, factors[0]), factors[1]))


def _has_float32_kernel() -> bool:
    """Return whether this torch lets oneDNN multiply float32 matrices on request."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.backends.mkldnn, "matmul")


def _float32_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return W x + b with sums and result in float32, by oneDNN.

    For the logits: rounded to bfloat16, those of the two likeliest tokens would often be equal. Where the
    processor has a faster kernel for it, the inputs may be rounded to bfloat16.
    """
    matmul = torch.backends.mkldnn.matmul
    usual = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        return linear(x, weight, bias)
    finally:
        matmul.fp32_precision = usual


@functools.cache
def _rows_are_independent(outputs: int, inputs: int, is_head: bool, threads: int) -> bool:
    """Return whether a product with (outputs, inputs) gives each row as it does beside others."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=generator)
    x = torch.randn(max(TRIED_ROWS) + 1, inputs, generator=generator).pow_(3)  # of a wide range
    multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = _float32_linear
    if not is_head:
        x, weight, multiply = x.to(torch.bfloat16), weight.to(torch.bfloat16), linear
    whole = multiply(x, weight)
    return all(torch.equal(multiply(x[-rows:], weight), whole[-rows:]) for rows in TRIED_ROWS)
