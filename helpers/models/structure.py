"""Reach the parts of a causal language model, with or without adapters.

Training and scoring take the last hidden states and apply the output head themselves, in pieces and only to
the positions that need it: logits over a vocabulary of 150,000 would be the largest tensor of all, and most
of it would be thrown away.
"""

from __future__ import annotations

import torch
from peft import PeftModel
from transformers import PreTrainedModel


def plain_model(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Return the transformers model inside; adapters are part of its layers and stay in effect."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def output_head(model: PreTrainedModel | PeftModel) -> torch.nn.Module:
    """Return the layer from hidden states (..., width) to logits (..., vocabulary)."""
    return plain_model(model).get_output_embeddings()


def vocabulary_size(head: torch.nn.Module) -> int:
    """Return how many logits an output head gives for a position."""
    return head.weight.shape[0] if hasattr(head, "weight") else head.out_features


def hidden_states(
    model: PreTrainedModel | PeftModel,
    input_ids: torch.Tensor,
    *,
    position_ids: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the last hidden states, after the final norm: (batch, length, width) for ids (batch, length).

    No cache is kept. Without a mask, restarting `position_ids` separate the documents of a packed row;
    transformers looks for them only then.
    """
    return plain_model(model).base_model(
        input_ids=input_ids, position_ids=position_ids, attention_mask=attention_mask, use_cache=False
    ).last_hidden_state  # fmt: skip
