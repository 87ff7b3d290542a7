"""The same function for less work, and where a model is trained the same gradients.

**Adapters.** PEFT computes Wx + s B(Ax): the update's products run over all tokens, beside casts and
sums of whole activations. The sum of the weights costs nothing per token; its gradient, from which
those of A and B follow, costs one product more than the frozen weight's does. Multiply-adds per token
of one training step, for a layer (out, in) and rank r:

    apart: 2 in out + 3 r (in + out)      summed: 3 in out

so the sum pays for narrow models with adapters of high rank, and not for a model of billions.

**Attention on a CPU.** torch's fused kernel takes two fifths of a step of the embedded model; plain
products of whole score matrices take an eighth (rows of 512 tokens). They hold the scores, so they serve
only while those are small.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch
from peft import PeftModel
from peft.tuners.lora import Linear
from torch.nn.functional import linear
from transformers import PreTrainedModel

from helpers.models.structure import plain_model

MAX_SCORE_BYTES = 2**30  # of all layers together


@contextlib.contextmanager
def cheaper_forms(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Within it, `model` computes in whichever of the forms above is the cheaper for it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(summed_adapters(model))
        if model.device.type == "cpu":
            stack.enter_context(plain_attention(plain_model(model)))
        yield


@contextlib.contextmanager
def summed_adapters(model: torch.nn.Module) -> Iterator[int]:
    """Within it, linear layers with one plain adapter compute (W + sBA)x where that is less work.

    Yields:
        How many layers do.
    """
    changed = [module for module in model.modules() if isinstance(module, Linear) and _sum_pays(module)]
    for module in changed:
        module.forward = functools.partial(_of_the_sum, module)
    try:
        yield len(changed)
    finally:
        for module in changed:
            del module.forward


@contextlib.contextmanager
def plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within it, batches whose scores are below `MAX_SCORE_BYTES` attend by plain products."""
    usual = model.config._attn_implementation

    def choose(module, arguments, options) -> None:
        layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
        wanted = "eager" if scores_are_small(layers, heads, *options["input_ids"].shape) else usual
        if model.config._attn_implementation != wanted:
            model.set_attn_implementation(wanted)

    hook = model.base_model.register_forward_pre_hook(choose, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
        model.set_attn_implementation(usual)


def scores_are_small(layers: int, heads: int, rows: int, length: int) -> bool:
    """Whether the softmaxes that plain attention keeps, float32 and as used, stay below the limit."""
    return layers * heads * rows * length**2 * (4 + 4) <= MAX_SCORE_BYTES


def _sum_pays(module: Linear) -> bool:
    if type(module.base_layer) is not torch.nn.Linear or len(module.active_adapters) != 1:
        return False  # quantised, transposed (GPT-2), or several adapters at once
    (name,) = module.active_adapters
    if name not in module.lora_A or name in module.lora_variant or module.merged or module.disable_adapters:
        return False
    if not isinstance(module.lora_dropout[name], torch.nn.Identity):
        return False
    wide, narrow = module.in_features * module.out_features, module.in_features + module.out_features
    return 3 * module.r[name] * narrow >= wide


def _of_the_sum(module: Linear, x: torch.Tensor) -> torch.Tensor:
    """(..., in) -> (..., out)."""
    (name,) = module.active_adapters
    update = module.lora_B[name].weight @ module.lora_A[name].weight
    base = module.base_layer
    return linear(x, base.weight + module.scaling[name] * update, base.bias)
