"""Products of a large float32 model with its frozen weights in bfloat16 on a CPU.

Reading and writing text is bound by these products: in bfloat16 they take a quarter of the time, and reading
the weights half. Norms, rotations and residual sums stay in float32, and so do logits among which one is to
be chosen: rounded, those of the two likeliest tokens would often be equal. (Losses are computed from rounded
ones, `helpers.models.target_scores`.) Adapters stay apart from the weights, as in training: summed into
bfloat16 weights, small updates would be lost.

A row of a product must not depend on the rows beside it, or a text would depend on the texts written with it:
bfloat16 rounds differences of a last bit up to differences that decide between tokens. oneDNN's kernels sum
each row alone, in one order whatever the number of rows. Nothing promises that, so it is tried for each shape
of weights and adapters, and for the attention (`helpers.models.ragged_cache`), before they are used.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch.distributed.tensor import DTensor
from torch.nn.functional import linear
from transformers import PreTrainedModel

from helpers.machine.hardware import Runtime
from helpers.models.cheaper_forms import is_plain_adapter, replaced_forwards
from helpers.models.ragged_cache import LEAST_ROWS, attention_is_independent
from helpers.models.structure import output_head, plain_model

LEAST_WEIGHTS = 2**25  # below, a model is written with fast enough in float32
TRIED_ROWS = (LEAST_ROWS, LEAST_ROWS + 1, 16, 31, 64, 100, 128, 1000, 4096)


def products_pay(model: PreTrainedModel | PeftModel, runtime: Runtime) -> bool:
    """Return whether `bfloat16_products` makes `model` faster and leaves its rows independent.

    That needs a float32 model of `LEAST_WEIGHTS` or more, whole in this process and all of it covered, on a
    CPU that multiplies bfloat16 in hardware.
    """
    if runtime.device.type != "cpu" or runtime.autocast_dtype != torch.bfloat16:
        return False
    if model.device.type != "cpu" or model.dtype != torch.float32 or not _has_float32_kernel():
        return False
    if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return False
    head = output_head(model)
    layers = [module for module in _covered(model) if module is not head]
    count = sum(_base(layer).weight.numel() for layer in layers)
    if count < LEAST_WEIGHTS or count < _weights_of_blocks(model):
        return False
    threads = torch.get_num_threads()
    tried = {shape for layer in layers for shape in _products_of(layer)}
    return all(rows_are_independent(*shape, threads) for shape in tried) and _can_attend(model, threads)


@contextlib.contextmanager
def bfloat16_products(model: PreTrainedModel | PeftModel) -> Iterator[int]:
    """Let linear layers with one plain adapter or none multiply in bfloat16; yield their number.

    The output head multiplies in float32. Only for weights that do not change meanwhile; takes half their
    memory.
    """
    head = output_head(model)
    forwards = {module: _product(module, is_head=module is head) for module in _covered(model)}
    with replaced_forwards(forwards):
        yield len(forwards)


@contextlib.contextmanager
def head_in_float32(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Let the output head, if it is a plain layer, multiply as in `bfloat16_products`."""
    head = output_head(model)
    with replaced_forwards({head: _product(head, is_head=True)} if type(head) is torch.nn.Linear else {}):
        yield


@functools.cache
def rows_are_independent(outputs: int, inputs: int, has_bias: bool, threads: int) -> bool:
    """Return whether a product with (outputs, inputs) gives each row as it does beside others."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=generator).to(torch.bfloat16)
    bias = torch.randn(outputs, generator=generator).to(torch.bfloat16) if has_bias else None
    # The third power has values of a wide range, as hidden states have.
    x = torch.randn(max(TRIED_ROWS) + 1, inputs, generator=generator).pow_(3).to(torch.bfloat16)
    whole = linear(x, weight, bias)
    return all(torch.equal(linear(x[-rows:], weight, bias), whole[-rows:]) for rows in TRIED_ROWS)


def _covered(model: PreTrainedModel | PeftModel) -> list[torch.nn.Module]:
    """Return the outermost linear layers that can be replaced, the head among them if it is a plain one."""
    adapted = [module for module in model.modules() if isinstance(module, LoraLinear)]
    head = output_head(model)
    wrapped = [head] if type(head) is not torch.nn.Linear else []  # with rows of its own, as PEFT trains them
    within = {id(part) for module in (*adapted, *wrapped) for part in module.modules()}
    plain = [m for m in model.modules() if type(m) is torch.nn.Linear and id(m) not in within]
    return [m for m in adapted if is_plain_adapter(m, with_dropout=not m.training) and m is not head] + plain


def _weights_of_blocks(model: PreTrainedModel | PeftModel) -> int:
    """Return the number of weights in matrices, without embeddings, head and adapters."""
    plain = plain_model(model)
    outside = {id(p) for m in (plain.get_input_embeddings(), output_head(model)) for p in m.parameters()}
    return sum(
        parameter.numel()
        for name, parameter in plain.named_parameters()
        if parameter.dim() > 1 and id(parameter) not in outside and ".lora_" not in name
    )


def _base(module: torch.nn.Module) -> torch.nn.Linear:
    return module.base_layer if isinstance(module, LoraLinear) else module


def _products_of(module: torch.nn.Module) -> Iterator[tuple[int, int, bool]]:
    """Yield outputs, inputs and whether there is a bias, of each product that a layer takes."""
    base = _base(module)
    yield base.out_features, base.in_features, base.bias is not None
    if isinstance(module, LoraLinear):
        (name,) = module.active_adapters
        yield module.r[name], base.in_features, False
        yield base.out_features, module.r[name], False


def _can_attend(model: PreTrainedModel | PeftModel, threads: int) -> bool:
    """Return whether attention, too, leaves rows independent; models of another build are read one by one."""
    config = plain_model(model).config
    heads = getattr(config, "num_attention_heads", 0)
    if not heads or not getattr(config, "hidden_size", 0):
        return True
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return attention_is_independent(kv_heads, heads // kv_heads, width, threads)


def _product(module: torch.nn.Module, *, is_head: bool) -> functools.partial[torch.Tensor]:
    if is_head:
        return functools.partial(_float32_linear, weight=module.weight, bias=module.bias)
    base = _base(module)
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

    Where the processor has a faster kernel for it, the inputs may be rounded to bfloat16.
    """
    matmul = torch.backends.mkldnn.matmul
    usual = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        return linear(x, weight, bias)
    finally:
        matmul.fp32_precision = usual
