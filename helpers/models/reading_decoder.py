"""Read tokens with Llama- and Qwen2-like models on a CPU in few operations, products in bfloat16.

Compared with the layers of transformers and PEFT, whose results it gives up to rounding: layers that read the
same input are one product, and so is what adapters add to it, summed in float32 with the rest; activations
are not cast to float32 and back between products. Residual sums, norms and rotations stay in float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch.nn.functional import linear, silu
from transformers import PreTrainedModel

from helpers.models.bfloat16_products import bfloat16_products, head_in_float32, rows_are_independent
from helpers.models.cheaper_forms import is_plain_adapter
from helpers.models.decoder_layers import DecoderLayer, LinearGroup, are_known_layers, rms_norm
from helpers.models.structure import plain_model

# Layer, queries (kv heads, heads per kv head, tokens, head_dim), keys and values (kv heads, tokens,
# head_dim) -> (tokens, heads * head_dim).
Attention = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class _Product:
    """What a group of linear layers computes: W x + s B (A x) + b, as one product with [W, s B]."""

    weight: torch.Tensor  # (outs, in + ranks)
    narrowing: torch.Tensor | None  # (ranks, in)
    bias: torch.Tensor | None

    @classmethod
    def of(cls, group: LinearGroup) -> _Product:
        """Join a group's weights and adapters."""
        factors = group.joined(group.factors())
        if factors is None:
            return cls(group.weight, None, group.bias)
        a, b = factors
        return cls(torch.cat([group.weight, b], dim=1), a, group.bias)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return (tokens, outs) for x (tokens, in)."""
        if self.narrowing is not None:
            x = torch.cat([x, linear(x, self.narrowing)], dim=1)
        return linear(x, self.weight, self.bias)

    def shapes(self) -> Iterator[tuple[int, int, bool]]:
        """Yield outputs, inputs and whether there is a bias, of each product that is taken."""
        yield *self.weight.shape, self.bias is not None
        if self.narrowing is not None:
            yield *self.narrowing.shape, False


@dataclass(frozen=True)
class _Block:
    """What one layer computes with."""

    qkv: _Product
    o: _Product
    gate_up: _Product
    down: _Product
    norms: tuple[torch.Tensor, torch.Tensor]
    eps: float
    heads: int
    kv_heads: int

    @classmethod
    def of(cls, layer: DecoderLayer) -> _Block:
        """Join the adapters of a layer; its own weights are kept only where it has none."""
        products = [_Product.of(group) for group in layer.groups]
        return cls(*products, layer.norms, layer.eps, layer.heads, layer.kv_heads)


class ReadingDecoder:
    """The layers of a model whose weights do not change meanwhile, cast to bfloat16."""

    dtype = torch.bfloat16

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        self.model = plain_model(model)
        with torch.no_grad():
            self.blocks = [
                _Block.of(DecoderLayer.of(layer, self.model.config, self.dtype))
                for layer in self.model.base_model.layers
            ]

    def hidden_states(self, ids: torch.Tensor, positions: torch.Tensor, attend: Attention) -> torch.Tensor:
        """Return the last hidden states after the final norm, (tokens, width), in float32.

        Args:
            ids: (tokens,), of any number of texts one after the other; `attend` tells these apart.
            positions: (tokens,), of each token in its text.
        """
        hidden = self.model.base_model.embed_tokens(ids)
        cos, sin = self.model.base_model.rotary_emb(hidden[None], positions[None])
        half = cos.shape[-1] // 2
        rotation = cos[0, :, None, :half], sin[0, :, None, :half]
        for number, block in enumerate(self.blocks):
            normed, _ = rms_norm(hidden, block.norms[0], block.eps, self.dtype)
            attended = attend(number, *_split(block.qkv(normed), block, rotation))
            hidden = block.o(attended) + hidden
            normed, _ = rms_norm(hidden, block.norms[1], block.eps, self.dtype)
            gate, up = block.gate_up(normed).chunk(2, dim=-1)
            hidden += block.down(silu(gate).mul_(up))
        return self.model.base_model.norm(hidden)

    def rows_are_independent(self) -> bool:
        """Return whether each product gives a row as it does beside others, as tried once for each shape."""
        threads = torch.get_num_threads()
        products = (one for block in self.blocks for one in (block.qkv, block.o, block.gate_up, block.down))
        shapes = {shape for one in products for shape in one.shapes()}
        return all(rows_are_independent(*shape, threads) for shape in shapes)


def _split(
    qkv: torch.Tensor, block: _Block, rotation: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return queries and keys, rotated by position (Su et al. 2021), and values, as `Attention` says."""
    cos, sin = rotation
    by_head = qkv.unflatten(1, (block.heads + 2 * block.kv_heads, -1))
    turned, values = by_head.split([block.heads + block.kv_heads, block.kv_heads], dim=1)
    pairs = turned.float().unflatten(2, (2, -1))
    first, second = pairs.unbind(2)
    rotated = torch.empty_like(pairs)
    torch.mul(first, cos, out=rotated[:, :, 0]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=rotated[:, :, 1]).addcmul_(first, sin)
    queries, keys = rotated.flatten(2).to(qkv.dtype).split([block.heads, block.kv_heads], dim=1)
    grouped = queries.unflatten(1, (block.kv_heads, -1)).permute(1, 2, 0, 3)
    return grouped, keys.transpose(0, 1), values.transpose(0, 1)


def is_read_by_decoder(model: PreTrainedModel | PeftModel) -> bool:
    """Return whether `ReadingDecoder` computes what `model` does."""
    if not are_known_layers(plain_model(model)):
        return False
    adapted = [m for m in plain_model(model).base_model.layers.modules() if isinstance(m, LoraLinear)]
    return all(is_plain_adapter(module, with_dropout=not module.training) for module in adapted)


@contextlib.contextmanager
def bfloat16_form(model: PreTrainedModel | PeftModel) -> Iterator[ReadingDecoder | torch.dtype]:
    """Let a model for which `products_pay` be read in bfloat16; yield what `ragged` is to be called with.

    That is a decoder where one fits, and the dtype of the states where the model's own layers are called.
    The output head multiplies in float32 meanwhile.
    """
    decoder = ReadingDecoder(model) if is_read_by_decoder(model) else None
    if decoder is not None and decoder.rows_are_independent():
        with head_in_float32(model):
            yield decoder
        return
    del decoder
    with bfloat16_products(model):
        yield torch.bfloat16
