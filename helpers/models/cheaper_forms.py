"""Compute what a model computes, with the same gradients, for less work.

**Adapters.** PEFT computes Wx + s B(Ax): the update's two products, casts and sums run over all tokens.
Adding the weights first, (W + s BA)x, costs nothing per token in the forward pass. The backward pass then
needs the gradient of the sum, one product more than for a frozen weight. Multiply-adds per token of a
training step, for a layer (out, in) and rank r:

    apart: 2 in out + 3 r (in + out)      summed: 3 in out

so summing pays for narrow models with adapters of high rank, not for models of billions of parameters.

**Attention on a CPU.** torch's fused kernel takes two fifths of a step of the embedded model; plain products
of whole score matrices take an eighth (rows of 512 tokens). Plain products keep the scores in memory, so
they are used only while those are small.

**Compiled layers.** Norms, activations, softmaxes and casts each read and write whole activations; fused by
`torch.compile` they do so once. Compiling takes some twenty seconds, so callers must ask for it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from helpers.models.structure import plain_model

MAX_SCORE_BYTES = 2**30  # of all layers together


@contextlib.contextmanager
def cheaper_forms(model: PreTrainedModel | PeftModel, compiled_rows: int = 0) -> Iterator[None]:
    """Let `model` compute in the forms above where they pay; compile for `compiled_rows` rows, unless 0."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(summed_adapters(model))
        if model.device.type == "cpu":
            stack.enter_context(plain_attention(plain_model(model)))
        if compiled_rows:
            stack.enter_context(compiled_layers(model, compiled_rows))
        yield


@contextlib.contextmanager
def summed_adapters(model: torch.nn.Module) -> Iterator[int]:
    """Let linear layers with one plain adapter compute (W + sBA)x if that is less work; yield the count."""
    changed = [module for module in model.modules() if isinstance(module, Linear) and sum_pays(module)]
    with replaced_forwards({module: functools.partial(_summed_product, module) for module in changed}):
        yield len(changed)


@contextlib.contextmanager
def merged_adapters(model: torch.nn.Module) -> Iterator[int]:
    """Let linear layers with one plain adapter compute with W + sBA, summed once; yield the count.

    Only for weights that do not change meanwhile, and in float32, where the sum is as exact as its parts.
    Takes as much memory as the weights of these layers.
    """
    plain = [module for module in model.modules() if isinstance(module, Linear) and is_plain_adapter(module)]
    changed = [module for module in plain if module.base_layer.weight.dtype == torch.float32]
    forwards = {
        module: functools.partial(linear, weight=_sum(module), bias=module.base_layer.bias)
        for module in changed
    }
    with replaced_forwards(forwards):
        yield len(changed)


@contextlib.contextmanager
def plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let batches whose scores are below `MAX_SCORE_BYTES` attend by plain products."""
    usual = model.config._attn_implementation

    def choose(module: torch.nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
        wanted = "eager" if scores_are_small(layers, heads, *options["input_ids"].shape) else usual
        now = model.config._attn_implementation  # neither of both where texts are read with a cache meanwhile
        if now in ("eager", usual) and now != wanted:
            model.set_attn_implementation(wanted)

    hook = model.base_model.register_forward_pre_hook(choose, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
        model.set_attn_implementation(usual)


@contextlib.contextmanager
def compiled_layers(model: torch.nn.Module, rows: int) -> Iterator[None]:
    """Let the layers of a model in training mode run compiled on batches of `rows` rows of one length.

    Batches of other sizes run uncompiled, since each size would be compiled again. So does a model in
    evaluation mode, so that its scores never depend on a compiler. If compiling fails, torch says so and
    the layers run uncompiled.
    """
    forwards = {
        layer: functools.partial(
            _compiled_in_training, layer, rows, torch.compile(layer.forward, dynamic=False), layer.forward
        )
        for layer in model.modules()
        if isinstance(layer, GradientCheckpointingLayer)
    }
    try:
        with replaced_forwards(forwards), torch._dynamo.config.patch(suppress_errors=True):
            yield
    finally:
        torch.compiler.reset()  # compiled code keeps the model in memory


@contextlib.contextmanager
def replaced_forwards(forwards: Mapping[torch.nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let modules compute by other functions; what they computed by before comes back, also in nested use."""
    before = [(module, module.__dict__.get("forward")) for module in forwards]
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module, own in before:
            if own is None:
                del module.forward
            else:
                module.forward = own


def scores_are_small(layers: int, heads: int, rows: int, length: int) -> bool:
    """Whether the softmaxes that plain attention keeps, in float32 and as used, stay below the limit."""
    return layers * heads * rows * length**2 * (4 + 4) <= MAX_SCORE_BYTES


def sum_pays(module: Linear) -> bool:
    """Return whether a layer has one plain adapter, of a rank so high that (W + sBA)x is less work."""
    if not is_plain_adapter(module):
        return False
    (name,) = module.active_adapters
    return sum_is_less(module.in_features, module.out_features, module.r[name])


def sum_is_less(inputs: int, outputs: int, rank: int) -> bool:
    """Return whether (W + sBA)x is less work than Wx and s B(Ax) apart, by the counts above."""
    return 3 * rank * (inputs + outputs) >= inputs * outputs


def is_plain_adapter(module: Linear, *, with_dropout: bool = False) -> bool:
    """Return whether all that the layer adds to a product with its weights is one plain adapter.

    Args:
        with_dropout: take adapters with dropout, too, which does nothing outside training.
    """
    if type(module.base_layer) is not torch.nn.Linear or len(module.active_adapters) != 1:
        return False  # quantised, transposed (GPT-2), or several adapters at once
    (name,) = module.active_adapters
    if name not in module.lora_A or name in module.lora_variant or module.merged or module.disable_adapters:
        return False
    if module.lora_B[name].bias is not None:
        return False
    return with_dropout or isinstance(module.lora_dropout[name], torch.nn.Identity)


def _compiled_in_training(
    layer: torch.nn.Module, rows: int, compiled: Callable[..., Any], usual: Callable[..., Any],
    hidden: torch.Tensor, *others: Any, **options: Any,
) -> Any:  # fmt: skip
    """Compute a layer, (rows, length, width) -> (rows, length, width)."""
    fitting = layer.training and len(hidden) == rows
    return (compiled if fitting else usual)(hidden, *others, **options)


def _summed_product(module: Linear, x: torch.Tensor) -> torch.Tensor:
    """Compute (W + sBA)x, (..., in) -> (..., out)."""
    return linear(x, _sum(module), module.base_layer.bias)


def _sum(module: Linear) -> torch.Tensor:
    """Return W + sBA, (out, in)."""
    (name,) = module.active_adapters
    update = module.lora_B[name].weight @ module.lora_A[name].weight
    return module.base_layer.weight + module.scaling[name] * update
