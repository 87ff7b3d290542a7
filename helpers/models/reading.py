"""Read texts together without a token of padding, with products in bfloat16, where that pays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from helpers.machine.hardware import Runtime
from helpers.models.bfloat16_products import products_pay
from helpers.models.ragged_cache import Fed, RaggedCache, ragged
from helpers.models.reading_decoder import bfloat16_form

Reader = Callable[[Sequence[Sequence[int]]], Sequence[torch.Tensor]]


@contextlib.contextmanager
def fast_reader(
    model: PreTrainedModel | PeftModel, runtime: Runtime | None, texts: int, length: int
) -> Iterator[Reader | None]:
    """Yield a function from the ids of at most `texts` texts to their hidden states; None: none is faster.

    No text has more than `length` tokens.

    The states are (tokens, width) each, after the final norm. The output head, called meanwhile, computes
    logits in float32.
    """
    if runtime is None or not products_pay(model, runtime):
        yield None
        return
    with bfloat16_form(model) as form, ragged(model, texts, form, length) as cache:
        if not isinstance(cache, RaggedCache):
            yield None
            return

        def read(ids: Sequence[Sequence[int]]) -> Sequence[torch.Tensor]:
            """Return the hidden states of each text."""
            hidden = cache.states([Fed(slot, 0, list(one), 0) for slot, one in enumerate(ids)])
            return hidden.split([len(one) for one in ids])

        yield read
