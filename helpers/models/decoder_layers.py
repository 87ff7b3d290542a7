"""The layers of Llama- and Qwen2-like decoders as plain tensors: frozen weights, cast once, and adapters.

Layers that read the same input are one product, and so are their adapters. Training
(`helpers.models.packed_decoder`) and reading (`helpers.models.reading_decoder`) compute with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaForCausalLM, LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2ForCausalLM, Qwen2RMSNorm

Factors = tuple[torch.Tensor, torch.Tensor]  # an adapter's A (rank, in) and B (out, rank)


def are_known_layers(model: PreTrainedModel) -> bool:
    """Return whether `DecoderLayer` describes the layers of `model`: float32, on a CPU, full attention.

    Adapters of other kinds than LoRA, which it would pass over, are not known; nor are other norms, or layers
    of which some that read the same input have a bias and some have none.
    """
    config = model.config
    if type(model) not in (LlamaForCausalLM, Qwen2ForCausalLM) or config.hidden_act != "silu":
        return False
    if model.device.type != "cpu" or model.dtype != torch.float32 or getattr(model, "is_quantized", False):
        return False
    kinds = getattr(config, "layer_types", None) or ("full_attention",)
    if any(kind != "full_attention" for kind in kinds):
        return False
    layers = model.base_model.layers
    return len(layers) == config.num_hidden_layers and all(map(_is_known, layers))


def _is_known(layer: Any) -> bool:
    norms = (layer.input_layernorm, layer.post_attention_layernorm)
    if any(type(norm) not in (LlamaRMSNorm, Qwen2RMSNorm) for norm in norms):
        return False
    groups = _groups(layer)
    if any(type(module) not in (torch.nn.Linear, LoraLinear) for group in groups for module in group):
        return False
    return all(len({_plain(module).bias is None for module in group}) == 1 for group in groups)


def _groups(layer: Any) -> tuple[tuple[torch.nn.Module, ...], ...]:
    """Return a layer's linear layers, those together that read the same input, as they compute in turn."""
    attention, mlp = layer.self_attn, layer.mlp
    return (
        (attention.q_proj, attention.k_proj, attention.v_proj), (attention.o_proj,),
        (mlp.gate_proj, mlp.up_proj), (mlp.down_proj,),
    )  # fmt: skip


def _plain(module: Any) -> Any:
    """Return a linear layer without its adapter."""
    return module.base_layer if isinstance(module, LoraLinear) else module


@dataclass(frozen=True)
class LinearGroup:
    """Linear layers that read the same input: weights (sum of outs, in) one below the other."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    adapters: tuple[LoraLinear | None, ...]
    outs: tuple[int, ...]

    @classmethod
    def of(cls, modules: Sequence[torch.nn.Module], dtype: torch.dtype) -> LinearGroup:
        """Join the weights of layers with or without adapters."""
        plain = [_plain(m) for m in modules]
        biases = [m.bias for m in plain]
        return cls(
            torch.cat([m.weight.detach() for m in plain]).to(dtype),
            None if biases[0] is None else torch.cat([b.detach() for b in biases]).to(dtype),
            tuple(m if isinstance(m, LoraLinear) else None for m in modules),
            tuple(m.out_features for m in plain),
        )

    def factors(self) -> Iterator[torch.nn.Parameter]:
        """Yield A and B of each adapter in turn."""
        for module in self.adapters:
            if module is not None:
                (name,) = module.active_adapters
                yield from (module.lora_A[name].weight, module.lora_B[name].weight)

    def joined(self, factors: Iterator[torch.Tensor]) -> Factors | None:
        """Return all As below each other, and all scaled Bs as the blocks of one matrix, or None.

        The update of the group's output is then (x A^T) B^T.
        """
        own = [(next(factors), next(factors), m.scaling[m.active_adapters[0]])
               for m in self.adapters if m is not None]  # fmt: skip
        if not own:
            return None
        a = torch.cat([a for a, _, _ in own]).to(self.weight.dtype)
        b = torch.zeros(sum(self.outs), len(a), dtype=self.weight.dtype)
        for block, (_, given, scale) in zip(self._blocks(), own, strict=True):
            b[block] = (given * scale).to(b.dtype)
        return a, b

    def split(self, da: torch.Tensor, db: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the float32 gradients of what `joined` joined, in the order of `factors`."""
        adapted = [m for m in self.adapters if m is not None]
        for (rows, columns), m in zip(self._blocks(), adapted, strict=True):
            yield da[columns].float()
            yield db[rows, columns].float() * m.scaling[m.active_adapters[0]]

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        row = column = 0
        for out, module in zip(self.outs, self.adapters, strict=True):
            if module is not None:
                rank = module.r[module.active_adapters[0]]
                yield slice(row, row + out), slice(column, column + rank)
                column += rank
            row += out


def apply_group(
    group: LinearGroup, factors: Factors | None, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the group's outputs (tokens, outs) for x (tokens, in), and x A^T."""
    y = linear(x, group.weight, group.bias)
    if factors is None:
        return y, None
    narrow = linear(x, factors[0])
    return y.addmm_(narrow, factors[1].t()), narrow


@dataclass(frozen=True)
class DecoderLayer:
    """The frozen weights of one block."""

    qkv: LinearGroup
    o: LinearGroup
    gate_up: LinearGroup
    down: LinearGroup
    norms: tuple[torch.Tensor, torch.Tensor]
    eps: float
    heads: int
    kv_heads: int
    head_dim: int

    @classmethod
    def of(cls, layer: Any, config: Any, dtype: torch.dtype) -> DecoderLayer:
        """Take the weights of a layer of transformers, cast to `dtype`."""
        return cls(
            *(LinearGroup.of(group, dtype) for group in _groups(layer)),
            (layer.input_layernorm.weight.detach(), layer.post_attention_layernorm.weight.detach()),
            config.rms_norm_eps,
            config.num_attention_heads,
            config.num_key_value_heads,
            layer.self_attn.head_dim,
        )

    @property
    def groups(self) -> tuple[LinearGroup, ...]:
        """Return the groups in the order in which they compute."""
        return self.qkv, self.o, self.gate_up, self.down

    def factors(self) -> list[torch.nn.Parameter]:
        """Return the trainable factors of all adapters, A and B in turn."""
        return [factor for group in self.groups for factor in group.factors()]

    def joined(self, factors: Sequence[torch.Tensor]) -> list[Factors | None]:
        """Return for each group what `LinearGroup.joined` does."""
        given = iter(factors)
        return [group.joined(given) for group in self.groups]

    def per_head(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        """View (tokens, heads * head_dim) as (kv heads, heads per kv head, tokens, head_dim)."""
        return x.view(len(x), self.kv_heads, heads // self.kv_heads, self.head_dim).permute(1, 2, 0, 3)


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return w x / sqrt(mean(x^2) + eps) in `dtype`, and the float32 factor before w x, (tokens, 1)."""
    squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
    rate = squares.div_(x.shape[-1]).add_(eps).rsqrt_()
    return (x * rate).mul_(weight).to(dtype), rate
