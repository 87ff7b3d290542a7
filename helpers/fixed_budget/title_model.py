"""Language models of the fixed-budget lab: transformers' classes with random weights.

`build_title_lm` returns a `TitleLM`, which maps ids to logits with one or several transformers
models. The classes are the library's own. Added are residual dropout where a class has none, one
initialisation for all classes, the title mask, and averaging over several members.

The title mask keeps attention inside a title. A title's span begins with the separator before it,
so its first word is predicted from the separator alone. Positions restart at the separator; from
that, transformers builds the block-diagonal mask (only without an attention mask and a cache).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import PreTrainedModel

from helpers.models.structure import hidden_states, output_head

INIT_STD = 0.02
RESIDUAL_OUTPUTS = re.compile(r"\.(c_proj|o_proj|down_proj|dense|dense_4h_to_h)\.weight$")
DROPPED_MODULES = re.compile(r"(^|\.)(embed_tokens|o_proj|down_proj)$")  # get dropout if a class has none


@dataclass(frozen=True)
class Architecture:
    """A model's shape, except its vocabulary. Embeddings and output head share one matrix."""

    family: str = "gpt2"  # a key of FAMILIES
    layers: int = 6
    heads: int = 8
    width: int = 512
    mlp_width: int = 2048
    dropout: float = 0.1  # of residual branches and embeddings
    attention_dropout: float = 0.1  # of attention weights; rules out fused attention on a CPU
    scaled_residual_init: bool = False  # start residual output matrices smaller, by 1/sqrt(2 layers)
    title_mask: bool = False
    average: float = 0.0  # decay per step of a moving average of the weights, which is scored; 0: none
    members: int = 1  # independently initialised models whose probabilities are averaged


class TitleLM(nn.Module):
    """One or several causal language models over titles.

    With `average` (a decay per step), the model also keeps a moving average of its weights, which
    `forward` uses outside training.
    """

    def __init__(
        self, members: list[PreTrainedModel], separator_id: int, title_mask: bool, average: float = 0.0
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.separator_id = separator_id
        self.title_mask = title_mask
        self.averaged = None
        if average:
            self.averaged = AveragedModel(self.members, multi_avg_fn=get_ema_multi_avg_fn(average))
            self.averaged.requires_grad_(False)

    @property
    def n_parameters(self) -> int:
        """Number of trained parameters: a tied matrix counts once, averaged weights don't count."""
        return sum(p.numel() for p in self.members.parameters())

    def get_output_embeddings(self) -> None:
        """Return None: the heads share their matrices with the embeddings."""

    def after_step(self) -> None:
        """Update the average of the weights; call after every optimizer step."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.members)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits (rows, length, vocabulary), or log-probabilities of several members, for `ids`."""
        members = self.members if self.averaged is None or self.training else self.averaged.module
        if len(members) == 1:
            return output_head(members[0])(self.hidden(members[0], ids))
        logs = [output_head(m)(self.hidden(m, ids)).float().log_softmax(-1) for m in members]
        return functools.reduce(torch.logaddexp, logs) - math.log(len(logs))

    def hidden(self, member: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
        """Return a member's last hidden states (rows, length, width), under the title mask if it is on."""
        positions = title_positions(ids, self.separator_id) if self.title_mask else None
        return hidden_states(member, ids, position_ids=positions)


def title_positions(ids: torch.Tensor, separator_id: int) -> torch.Tensor:
    """Return each token's distance from the last separator, which itself has 0; (rows, length).

    >>> title_positions(torch.tensor([[7, 8, 1, 7, 1, 1, 9]]), separator_id=1).tolist()
    [[0, 1, 0, 1, 0, 0, 1]]
    """
    places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    starts = torch.where(ids == separator_id, places, 0).cummax(-1).values
    return places - starts


def build_title_lm(
    architecture: Architecture, vocabulary: int, context: int, separator_id: int, seed: int
) -> TitleLM:
    """Build a model with random weights, in float32 on the CPU.

    Weights are drawn from N(0, 0.02); biases and learned positions are 0, norms 1.

    Args:
        context: longest row, in tokens.
        separator_id: the token after every title, where the title mask cuts.
        seed: the weights depend on nothing else.

    Raises:
        ValueError: for an unknown family, or a width that is not divisible by the heads.
    """
    if architecture.family not in FAMILIES:
        raise ValueError(f"unknown model family {architecture.family!r}; choose from {', '.join(FAMILIES)}")
    if architecture.width % architecture.heads:
        raise ValueError(f"width {architecture.width} is not divisible by {architecture.heads} heads")
    members = []
    for number in range(architecture.members):
        torch.manual_seed(seed + number)
        member = FAMILIES[architecture.family](architecture, vocabulary, context)
        _initialise(member, architecture)
        members.append(member)
    torch.manual_seed(seed)
    return TitleLM(members, separator_id, architecture.title_mask, architecture.average)


def _gpt2(a: Architecture, vocabulary: int, context: int) -> PreTrainedModel:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=vocabulary, n_positions=context, n_embd=a.width, n_layer=a.layers, n_head=a.heads,
            n_inner=a.mlp_width, activation_function="gelu", resid_pdrop=a.dropout, embd_pdrop=a.dropout,
            attn_pdrop=a.attention_dropout, bos_token_id=None, eos_token_id=None,
        )
    )  # fmt: skip


def _gpt_neox(a: Architecture, vocabulary: int, context: int) -> PreTrainedModel:
    """Build a GPT-2 block with rotary instead of learned positions."""
    return transformers.GPTNeoXForCausalLM(
        transformers.GPTNeoXConfig(
            vocab_size=vocabulary, max_position_embeddings=context, hidden_size=a.width,
            num_hidden_layers=a.layers, num_attention_heads=a.heads, intermediate_size=a.mlp_width,
            hidden_act="gelu", rotary_pct=1.0, rope_parameters=_rope(), use_parallel_residual=False,
            attention_dropout=a.attention_dropout, hidden_dropout=a.dropout, tie_word_embeddings=True,
            bos_token_id=None, eos_token_id=None,
        )
    )  # fmt: skip


def _gated(
    model: type[PreTrainedModel], a: Architecture, vocabulary: int, context: int, **options: Any
) -> PreTrainedModel:
    """Build a class with gated MLP and rotary positions, and add dropout to its residual stream."""
    made = model(
        model.config_class(
            vocab_size=vocabulary, max_position_embeddings=context, hidden_size=a.width,
            num_hidden_layers=a.layers, num_attention_heads=a.heads, num_key_value_heads=a.heads,
            intermediate_size=a.mlp_width, rope_parameters=_rope(), attention_dropout=a.attention_dropout,
            tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, **options,
        )
    )  # fmt: skip
    for name, module in made.named_modules():
        if DROPPED_MODULES.search(name):
            module.register_forward_hook(functools.partial(_drop, a.dropout))
    return made


def _rope() -> dict[str, float | str]:
    return {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0}


def _drop(share: float, module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
    return nn.functional.dropout(output, share, module.training)


FAMILIES: dict[str, Callable[[Architecture, int, int], PreTrainedModel]] = {
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "stablelm": functools.partial(_gated, transformers.StableLmForCausalLM),  # SwiGLU, LayerNorm
    "llama": functools.partial(_gated, transformers.LlamaForCausalLM),  # SwiGLU, RMSNorm
    "qwen2": functools.partial(_gated, transformers.Qwen2ForCausalLM),  # also biases on q, k, v
    "qwen3": lambda a, vocabulary, context: _gated(  # also norms on q and k
        transformers.Qwen3ForCausalLM, a, vocabulary, context, head_dim=a.width // a.heads
    ),
}


@torch.no_grad()
def _initialise(model: PreTrainedModel, architecture: Architecture) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        elif name.endswith("wpe.weight"):
            parameter.zero_()
        else:
            scaled = architecture.scaled_residual_init and RESIDUAL_OUTPUTS.search(name)
            parameter.normal_(0.0, INIT_STD / math.sqrt(2 * architecture.layers) if scaled else INIT_STD)
