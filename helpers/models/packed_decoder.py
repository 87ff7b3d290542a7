"""A step of Llama- and Qwen2-like decoders over packed documents on a CPU, backward pass by hand.

Compared with the layers of transformers and PEFT, for the same loss and gradients up to rounding:

- frozen weights are cast once to the precision of the products, not in every step, and layers that read
  the same input are one product;
- the adapters of such layers are one product as well;
- attention runs document by document, so no score between two documents is ever computed, and padding is
  dropped: a row costs what its text costs;
- per token and layer, autograd keeps two float32 inputs of norms, queries, keys, values, the output of
  attention and of gate and up; all else is recomputed, which takes no product of the frozen weights;
- layers below the lowest trained one keep nothing for the backward pass. What they compute of a document
  is the same in every epoch, so it is kept from the first one on, up to `KEPT_BYTES`.

Models that `is_covered` names use it in training; the usual forms apply to all others and to scoring.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch.nn.functional import silu
from transformers import PreTrainedModel

from helpers.models.cheaper_forms import is_plain_adapter, sum_pays
from helpers.models.decoder_layers import (
    DecoderLayer,
    Factors,
    LinearGroup,
    apply_group,
    are_known_layers,
    rms_norm,
)
from helpers.models.structure import output_head, plain_model
from helpers.models.token_loss import IGNORED, frozen_head_loss

KEPT_BYTES = 3 * 2**29  # 1.5 GiB of hidden states that enter the lowest trained layer
QUERIES_AT_ONCE = 128  # whose scores attention holds: few enough for the caches


@dataclass(frozen=True)
class Documents:
    """Packed documents without padding: `ids` and `positions` (tokens,), and (first, last + 1) of each."""

    ids: torch.Tensor
    positions: torch.Tensor
    spans: tuple[tuple[int, int], ...]


def documents_of(
    input_ids: torch.Tensor, labels: torch.Tensor, position_ids: torch.Tensor
) -> tuple[Documents, torch.Tensor]:
    """Return the documents of packed rows that have a target, and their labels (tokens,).

    All arguments are (rows, length); a document begins where `position_ids` is 0. Its first label must be
    no target. Padding is a document without targets, and is dropped like every other.
    """
    ids, labels, positions = input_ids.flatten(), labels.flatten(), position_ids.flatten()
    firsts = (positions == 0).nonzero().flatten().tolist()
    with_targets = (labels != IGNORED).tolist()
    spans = list(zip(firsts, [*firsts[1:], len(ids)], strict=True))
    kept = [span for span in spans if any(with_targets[slice(*span)])]
    documents, tokens = _these(ids, positions, kept)
    return documents, labels[tokens]


def _these(
    ids: torch.Tensor, positions: torch.Tensor, spans: Sequence[tuple[int, int]]
) -> tuple[Documents, torch.Tensor]:
    """Return the documents at `spans` alone, and the places of their tokens."""
    moved, at = [], 0
    for first, last in spans:
        moved.append((at, at + last - first))
        at += last - first
    tokens = torch.cat([torch.arange(*span) for span in spans] or [torch.zeros(0, dtype=torch.long)])
    return Documents(ids[tokens], positions[tokens], tuple(moved)), tokens


class PackedDecoder:
    """The decoder and the head of a model that `is_covered`, with products in `dtype`."""

    def __init__(self, model: PreTrainedModel | PeftModel, dtype: torch.dtype) -> None:
        self.model, self.dtype = plain_model(model), dtype
        self.layers = [
            DecoderLayer.of(layer, self.model.config, dtype) for layer in self.model.base_model.layers
        ]
        head = output_head(model)
        self.head = head.weight.detach().to(dtype)
        self.head_bias = None if head.bias is None else head.bias.detach().to(dtype)
        self.frozen_layers = next(i for i, layer in enumerate(self.layers) if layer.factors())
        embedding = self.model.get_input_embeddings().weight
        self.kept_bytes = 0 if embedding.requires_grad else KEPT_BYTES
        self.kept: dict[bytes, torch.Tensor] = {}  # by a document's tokens
        self.scores = _Scores(self.dtype)

    def loss(
        self, input_ids: torch.Tensor, labels: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, int, int]:
        """Return the summed loss in nats over all targets, their number, and that of the tokens computed.

        All arguments are (rows, length), as in `documents_of`.
        """
        documents, labels = documents_of(input_ids, labels, position_ids)
        if not documents.spans:
            return sum(p.sum() for p in self.model.parameters() if p.requires_grad) * 0.0, 0, 0
        hidden = self.hidden_states(documents)
        return *frozen_head_loss(hidden, labels[None], self.head, self.head_bias), len(documents.ids)

    def hidden_states(self, documents: Documents) -> torch.Tensor:
        """Return the last hidden states after the final norm, (1, tokens, width), in float32."""
        if self.frozen_layers:
            hidden = self._below(documents)
        else:
            hidden = self.model.base_model.embed_tokens(documents.ids)
        hidden = self._through(self.layers[self.frozen_layers :], hidden, documents)
        return self.model.base_model.norm(hidden)[None]

    def _through(
        self, layers: Sequence[DecoderLayer], hidden: torch.Tensor, documents: Documents
    ) -> torch.Tensor:
        cos, sin = self.model.base_model.rotary_emb(hidden[None], documents.positions[None])
        half = cos.shape[-1] // 2
        rotation = tuple(x[0, :, None, :half].to(self.dtype) for x in (cos, sin))
        for layer in layers:
            hidden = _Block.apply(hidden, layer, documents.spans, rotation, self.scores, *layer.factors())
        return hidden

    @torch.no_grad()
    def _below(self, documents: Documents) -> torch.Tensor:
        """Return what enters the lowest trained layer, (tokens, width); compute only what is not kept."""
        keys = [documents.ids[first:last].numpy().tobytes() for first, last in documents.spans]
        found = {key: self.kept[key] for key in keys if key in self.kept}
        missing = [i for i, key in enumerate(keys) if key not in found]
        if missing:
            new, _ = _these(documents.ids, documents.positions, [documents.spans[i] for i in missing])
            hidden = self.model.base_model.embed_tokens(new.ids)
            hidden = self._through(self.layers[: self.frozen_layers], hidden, new)
            for i, (first, last) in zip(missing, new.spans, strict=True):
                found[keys[i]] = hidden[first:last]
                if self.kept_bytes >= found[keys[i]].nbytes and keys[i] not in self.kept:
                    self.kept[keys[i]] = found[keys[i]].clone()  # a view would keep the whole batch
                    self.kept_bytes -= found[keys[i]].nbytes
        return torch.cat([found[key] for key in keys])


def is_covered(model: PreTrainedModel | PeftModel) -> bool:
    """Return whether `PackedDecoder` computes what `model` does.

    It does for float32 models on a CPU that are frozen but for plain adapters without dropout, of a rank so
    low that adding them to the weights would cost more than applying them apart.
    """
    plain = plain_model(model)
    if not are_known_layers(plain) or plain.config.attention_dropout:
        return False
    adapted = [module for module in plain.base_model.layers.modules() if isinstance(module, LoraLinear)]
    if not adapted or not all(map(is_plain_adapter, adapted)) or any(map(sum_pays, adapted)):
        return False
    factors = {
        id(p) for module in adapted for p in (*module.lora_A.parameters(), *module.lora_B.parameters())
    }
    return not any(p.requires_grad for p in plain.parameters() if id(p) not in factors)


def _apply_backward(
    group: LinearGroup,
    factors: Factors | None,
    x: torch.Tensor,
    narrow: torch.Tensor | None,
    dy: torch.Tensor,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the gradients of x and of the adapters."""
    dx = dy @ group.weight
    if factors is None or narrow is None:
        return dx, []
    a, b = factors
    d_narrow = dy @ b
    dx.addmm_(d_narrow, a)
    return dx, list(group.split(d_narrow.t() @ x, dy.t() @ narrow))


class _Block(torch.autograd.Function):
    """One block: hidden states (tokens, width) in float32 to the next ones."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, layer: DecoderLayer, spans: Sequence[tuple[int, int]],
        rotation: tuple[torch.Tensor, torch.Tensor], scores: _Scores, *factors: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        qkv_f, o_f, gate_up_f, down_f = layer.joined(factors)
        normed, _ = rms_norm(hidden, layer.norms[0], layer.eps, layer.qkv.weight.dtype)
        qkv, qkv_n = apply_group(layer.qkv, qkv_f, normed)
        _rotate(qkv, layer, rotation)
        attended = _attend(qkv, layer, spans, scores)
        out, o_n = apply_group(layer.o, o_f, attended)
        middle = hidden + out
        normed, _ = rms_norm(middle, layer.norms[1], layer.eps, layer.qkv.weight.dtype)
        gate_up, gate_up_n = apply_group(layer.gate_up, gate_up_f, normed)
        gate, up = gate_up.chunk(2, dim=-1)
        out, down_n = apply_group(layer.down, down_f, silu(gate).mul_(up))
        ctx.layer, ctx.spans, ctx.rotation, ctx.scores = layer, spans, rotation, scores
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(
                hidden, qkv, attended, middle, gate_up, qkv_n, o_n, gate_up_n, down_n, *factors
            )
        return middle + out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        (d_out,) = gradients
        layer: DecoderLayer = ctx.layer
        hidden, qkv, attended, middle, gate_up, qkv_n, o_n, gate_up_n, down_n, *factors = ctx.saved_tensors
        dtype = layer.qkv.weight.dtype
        qkv_f, o_f, gate_up_f, down_f = layer.joined(factors)

        gate, up = gate_up.chunk(2, dim=-1)
        active = silu(gate)
        d_inner, down_g = _apply_backward(layer.down, down_f, active * up, down_n, d_out.to(dtype))
        d_gate_up = torch.empty_like(gate_up)
        d_gate, d_up = d_gate_up.chunk(2, dim=-1)
        torch.mul(d_inner, active, out=d_up)
        torch.ops.aten.silu_backward(d_inner.mul_(up), gate, grad_input=d_gate)
        normed, rate = rms_norm(middle, layer.norms[1], layer.eps, dtype)
        d_normed, gate_up_g = _apply_backward(layer.gate_up, gate_up_f, normed, gate_up_n, d_gate_up)
        d_middle = _norm_backward(d_out, d_normed, middle, rate, layer.norms[1])

        d_attended, o_g = _apply_backward(layer.o, o_f, attended, o_n, d_middle.to(dtype))
        d_qkv = _attend_backward(d_attended, qkv, layer, ctx.spans, ctx.scores)
        _rotate(d_qkv, layer, (ctx.rotation[0], -ctx.rotation[1]))
        normed, rate = rms_norm(hidden, layer.norms[0], layer.eps, dtype)
        d_normed, qkv_g = _apply_backward(layer.qkv, qkv_f, normed, qkv_n, d_qkv)
        d_hidden = None
        if ctx.needs_input_grad[0]:
            d_hidden = _norm_backward(d_middle, d_normed, hidden, rate, layer.norms[0])
        return d_hidden, None, None, None, None, *qkv_g, *o_g, *gate_up_g, *down_g


def _norm_backward(
    d_residual: torch.Tensor,
    d_normed: torch.Tensor,
    x: torch.Tensor,
    rate: torch.Tensor,
    weight: torch.Tensor,
) -> torch.Tensor:
    """Return the gradient of x, which went through the norm and around it.

    With y = w x r and r = (mean(x^2) + eps)^(-1/2): dx = r (w dy) - x r^3 mean(w dy x).
    """
    g = d_normed.float() * weight
    shared = (g * x).sum(-1, keepdim=True).mul_(rate.pow(3)).div_(-x.shape[-1])
    return torch.addcmul(d_residual, g, rate).addcmul_(x, shared)


def _rotate(qkv: torch.Tensor, layer: DecoderLayer, rotation: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Rotate queries and keys in place by their positions (Su et al. 2021)."""
    cos, sin = rotation
    turned = layer.heads + layer.kv_heads
    pairs = qkv[:, : turned * layer.head_dim].view(len(qkv), turned, 2, layer.head_dim // 2)
    first, second = pairs.unbind(2)
    before = first.clone()
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).addcmul_(before, sin)


class _Scores:
    """Memory for attention's scores, used again for every document and layer.

    Fresh memory for each would cost more than the products: the system clears it page by page.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.future = torch.full((QUERIES_AT_ONCE, QUERIES_AT_ONCE), float("-inf"), dtype=dtype).triu_(1)
        self.memory = [torch.empty(0, dtype=dtype) for _ in range(3)]

    def of(self, which: int, shape: tuple[int, ...]) -> torch.Tensor:
        """Return one of three tensors of `shape`, with any content."""
        size = math.prod(shape)
        if len(self.memory[which]) < size:
            self.memory[which] = torch.empty(size, dtype=self.dtype)
        return self.memory[which][:size].view(shape)

    def probabilities(self, queries: torch.Tensor, keys: torch.Tensor, rows: int) -> torch.Tensor:
        """Return the causal softmax of the last `rows` positions, (kv heads, shared * rows, length).

        `queries` is (kv heads, shared * rows, head_dim), scaled; `keys` (kv heads, length, head_dim) ends
        with the last of the queries' positions. Memories 0 and 1 are used.
        """
        length = keys.shape[1]
        shape = (*queries.shape[:2], length)
        scores = torch.bmm(queries, keys.transpose(1, 2), out=self.of(0, shape))
        scores.view(shape[0], -1, rows, length)[..., length - rows :].add_(self.future[:rows, :rows])
        return torch.softmax(scores, -1, out=self.of(1, shape))


def _pieces(length: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of at most `QUERIES_AT_ONCE` positions each."""
    for first in range(0, length, QUERIES_AT_ONCE):
        yield first, min(first + QUERIES_AT_ONCE, length)


def _attend(
    qkv: torch.Tensor, layer: DecoderLayer, spans: Sequence[tuple[int, int]], scores: _Scores
) -> torch.Tensor:
    """Return causal attention within each document, (tokens, heads * head_dim).

    torch's own form for CPUs leaves its products in bfloat16 to a library that is slow on some of them.
    """
    q, k, v = _scaled_by_head(qkv, layer)
    attended = torch.empty(len(qkv), layer.heads * layer.head_dim, dtype=qkv.dtype)
    out = layer.per_head(attended, layer.heads)
    for start, end in spans:
        keys, values = k[:, 0, start:end], v[:, 0, start:end]
        for first, last in _pieces(end - start):
            part = slice(start + first, start + last)
            queries = q[:, :, part].flatten(1, 2)
            p = scores.probabilities(queries, keys[:, :last], last - first)
            out[:, :, part] = torch.bmm(p, values[:, :last]).view_as(out[:, :, part])
    return attended


def _attend_backward(
    d_attended: torch.Tensor, qkv: torch.Tensor, layer: DecoderLayer, spans: Sequence[tuple[int, int]],
    scores: _Scores,
) -> torch.Tensor:  # fmt: skip
    """Return the gradient of (rotated) queries, keys and values from that of attention's output."""
    d_qkv = torch.empty_like(qkv)
    q, k, v = _scaled_by_head(qkv, layer)
    d_out = layer.per_head(d_attended, layer.heads).contiguous()
    d_q, d_k, d_v = _by_head(d_qkv, layer)
    for first, last in spans:
        part = slice(first, last)
        gradients = _document_backward(d_out[:, :, part], q[:, :, part], k[:, 0, part], v[:, 0, part], scores)
        for whole, gradient in zip((d_q, d_k, d_v), gradients, strict=True):
            whole[:, :, part] = gradient
    d_qkv[:, : layer.heads * layer.head_dim].mul_(layer.head_dim**-0.5)
    return d_qkv


def _document_backward(
    d_out: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scores: _Scores
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of scaled queries, keys and values of one document.

    `d_out` and `q` are (kv heads, heads per kv head, length, head_dim), `k` and `v` without the second.
    """
    d_q = torch.empty_like(q)
    d_k = torch.zeros(k.shape, dtype=torch.float32)
    d_v = torch.zeros(v.shape, dtype=torch.float32)
    for first, last in _pieces(q.shape[2]):
        queries, d_rows = (x[:, :, first:last].flatten(1, 2) for x in (q, d_out))
        p = scores.probabilities(queries, k[:, :last], last - first)
        d_p = torch.bmm(d_rows, v[:, :last].transpose(1, 2), out=scores.of(0, p.shape))
        d_scores = torch.ops.aten._softmax_backward_data.out(
            d_p, p, -1, p.dtype, grad_input=scores.of(2, p.shape)
        )
        d_q[:, :, first:last] = torch.bmm(d_scores, k[:, :last]).view_as(d_q[:, :, first:last])
        d_k[:, :last] += torch.bmm(d_scores.transpose(1, 2), queries)
        d_v[:, :last] += torch.bmm(p.transpose(1, 2), d_rows)
    return d_q, d_k[:, None], d_v[:, None]


def _scaled_by_head(
    qkv: torch.Tensor, layer: DecoderLayer
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return copies of `_by_head`, the queries scaled by 1 / sqrt(head_dim)."""
    q, k, v = (x.contiguous() for x in _by_head(qkv, layer))
    return q.mul_(layer.head_dim**-0.5), k, v


def _by_head(qkv: torch.Tensor, layer: DecoderLayer) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """View queries, keys and values as `DecoderLayer.per_head` does."""
    widths = [heads * layer.head_dim for heads in (layer.heads, layer.kv_heads, layer.kv_heads)]
    q, k, v = qkv.split(widths, dim=-1)
    return tuple(x.unflatten(-1, (layer.kv_heads, -1, layer.head_dim)).permute(1, 2, 0, 3) for x in (q, k, v))
