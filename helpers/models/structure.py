"""Where the parts of a causal language model lie, with or without adapters on it.

Training and scoring take the last hidden states and apply the output head themselves, to the
positions that need it and in pieces: logits over a vocabulary of 150,000 are the largest tensor
of all, and most of it would be thrown away.
"""

from __future__ import annotations

import torch
from peft import PeftModel
from transformers import PreTrainedModel


def plain_model(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The transformers model inside; adapters are injected in its layers and stay in effect."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def output_head(model: PreTrainedModel | PeftModel) -> torch.nn.Module:
    """The layer from hidden states (..., width) to logits (..., vocabulary)."""
    return plain_model(model).get_output_embeddings()


def hidden_states(
    model: PreTrainedModel | PeftModel,
    input_ids: torch.Tensor,
    *,
    position_ids: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Last hidden states, after the final norm: (batch, length, width) for ids (batch, length).

    No cache is kept; without a mask, restarting `position_ids` separate the documents of a
    packed row (transformers detects them only then).
    """
    return plain_model(model).base_model(
        input_ids=input_ids, position_ids=position_ids, attention_mask=attention_mask, use_cache=False
    ).last_hidden_state  # fmt: skip
