"""Keys and values of texts of different lengths, read together without a token of padding.

transformers' caches hold rectangles: shorter texts are padded, padding is computed, and all texts go on by
the same number of tokens. Here a pass reads any number of tokens of any number of texts as one long row. Only
the attention, which is small, separates the texts: that of `RaggedCache`, which models are given through
transformers' registry of attention functions, and `helpers.models.reading_decoder` as an argument. It keeps
each text's keys and values in a slot, at the tokens' positions. So a text's states do not depend on its
neighbours, tokens that prove wrong are overwritten, and a prefix that two texts share is read once and
copied. Long runs are attended piece by piece, each over what it can see.

Models that this does not fit (see `ragged`) are read text by text, with transformers' own cache.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from peft import PeftModel
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from helpers.models.structure import output_head, plain_model

NAME = "ragged_cache"
_numbers = itertools.count()
# Positions for which memory is added at a time, at least, where nothing is said about what will be needed; a
# quarter of the longest text.
ROOM = 64
# Texts whose attention is computed in one product, and tokens of each. A CPU reads keys and values no faster
# for that and computes the padding, which in bfloat16 costs less than calling more products; a GPU waits for
# launches.
TOGETHER, TOGETHER_ELSEWHERE = {"cpu": (16, 1)}, (256, 17)
TOGETHER_IN_BFLOAT16 = {"cpu": (16, 17)}
# In bfloat16, differences in a last bit grow until they decide between tokens. So keys are looked at in
# multiples of so many, those that a token does not see with a weight of 0, and no pass has fewer tokens, as
# small products may be summed in another order.
SAME_LENGTHS, LEAST_ROWS = 64, 8
PIECE = {"cpu": 128}  # queries of one text that are computed at once; elsewhere all, by fused kernels


@dataclass(frozen=True)
class Fed:
    """Tokens to be read: `tokens[0]` has position `start` of the text in `slot`."""

    slot: int
    start: int
    tokens: list[int]
    wanted: int  # the last so many tokens get logits


class Decoder(Protocol):
    """The layers of a model in a form of their own: `helpers.models.reading_decoder`."""

    dtype: torch.dtype

    def hidden_states(
        self, ids: torch.Tensor, positions: torch.Tensor, attend: Callable[..., torch.Tensor]
    ) -> torch.Tensor:
        """Return the hidden states (tokens, width) of tokens at `positions`, after the final norm."""


# How a model is read: its own layers with states of their dtype (None) or of another, or a decoder.
Form = torch.dtype | Decoder | None


@dataclass
class _Part:
    """Attention of neighbouring slots, `width` queries each; what pads repeats a query of the first run."""

    slots: slice
    length: int  # keys that are looked at
    take: slice | torch.Tensor  # (slots * width), the place of each query in the pass
    put: torch.Tensor | None  # queries that count; None if all do
    positions: torch.Tensor  # (slots, width)
    masks: dict[tuple[int | None, int], torch.Tensor | None] = field(default_factory=dict)

    def seen(self, window: int | None, groups: int) -> torch.Tensor | None:
        """Return which keys a query sees: bool (slots, 1, groups * width, length); None: all see all."""
        if (window, groups) not in self.masks:
            unseen = self._unseen(window, groups)
            self.masks[window, groups] = ~unseen if unseen.any() else None
        return self.masks[window, groups]

    def unseen(self, window: int | None, groups: int) -> torch.Tensor | None:
        """Return which of the last keys a query does not see: bool (slots, 1, groups * width, keys).

        All keys before these are seen; None: simply all.
        """
        if (window, groups) not in self.masks:
            unseen = self._unseen(window, groups)
            some = unseen.any((0, 1, 2)).nonzero().flatten().tolist()
            self.masks[window, groups] = unseen[..., some[0] :] if some else None
        return self.masks[window, groups]

    def _unseen(self, window: int | None, groups: int) -> torch.Tensor:
        keys, last = torch.arange(self.length, device=self.positions.device), self.positions[..., None]
        unseen = keys > last
        if window is not None:
            unseen |= keys <= last - window
        return unseen.repeat(1, groups, 1)[:, None]


class RaggedCache:
    """Slots of keys and values, and the attention over them."""

    drafts = True  # tokens that prove wrong can be taken back
    shares = True  # prefixes can be copied

    def __init__(
        self, model: PreTrainedModel | PeftModel, slots: int, form: Form = None,
        room: int = 0,
    ) -> None:  # fmt: skip
        self._model, self.device, self._slots, self._room = model, model.device, slots, room
        self._decoder = None if form is None or isinstance(form, torch.dtype) else form
        self._dtype = form if isinstance(form, torch.dtype) or form is None else form.dtype
        self._states: dict[int, list[torch.Tensor]] = {}  # layer -> keys, values: (slots, heads, room, width)
        self._length = 0  # positions that the longest text has after this pass
        self._at = (torch.empty(0), torch.empty(0))  # slot and position of each token of this pass
        self._parts: list[_Part] = []

    def read(self, fed: Sequence[Fed]) -> torch.Tensor:
        """Read tokens, at most one run per slot; return float32 logits (all `wanted`, vocabulary)."""
        ends = _ends(fed)
        wanted = [place for one, end in zip(fed, ends, strict=True) for place in range(end - one.wanted, end)]
        if self._decoder is not None:
            return output_head(self._model)(self.states(fed)[wanted]).float()
        inputs = self._next_pass(fed)
        logits = self._model(**inputs, logits_to_keep=torch.tensor(wanted, device=self.device)).logits
        return logits[0].float()

    def states(self, fed: Sequence[Fed]) -> torch.Tensor:
        """Read tokens as `read` does; return their hidden states (tokens, width) after the final norm."""
        inputs = self._next_pass(fed)
        if self._decoder is not None:
            hidden = self._decoder.hidden_states(
                inputs["input_ids"][0], inputs["position_ids"][0], self._attended
            )
        else:
            hidden = plain_model(self._model).base_model(**inputs).last_hidden_state[0]
        return hidden[: len(self._at[0])]

    def _next_pass(self, fed: Sequence[Fed]) -> dict[str, Any]:
        """Lay out the attention of a pass; return what the model is called with."""
        slots = [one.slot for one in fed for _ in one.tokens]
        positions = [one.start + number for one in fed for number in range(len(one.tokens))]
        tokens = [token for one in fed for token in one.tokens]
        self._at = tuple(torch.tensor(each, device=self.device) for each in (slots, positions))
        together = TOGETHER_IN_BFLOAT16 if self._dtype else TOGETHER
        at_once = together.get(self.device.type, TOGETHER_ELSEWHERE)
        self._parts = _parts(fed, self.device, at_once, SAME_LENGTHS if self._dtype else 1)
        self._length = max(part.length for part in self._parts)
        missing = max(0, LEAST_ROWS - len(tokens)) if self._dtype else 0  # what they give is thrown away
        ids = torch.tensor([tokens + tokens[-1:] * missing], device=self.device)
        places = torch.tensor([positions + positions[-1:] * missing], device=self.device)
        return {
            "input_ids": ids, "attention_mask": torch.ones_like(ids), "position_ids": places,
            "use_cache": False,
        }  # fmt: skip

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one slot to another."""
        if source == target or not length:
            return
        for states in self._states.values():
            for one in states:
                one[target, :, :length] = one[source, :, :length]

    def attend(
        self, module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        mask: torch.Tensor | None, scaling: float | None = None, sliding_window: int | None = None, **_: Any,
    ) -> tuple[torch.Tensor, None]:  # fmt: skip
        """Attend as transformers asks it of an attention function: (1, heads, tokens, width) each."""
        grouped = query[0].unflatten(0, (len(key[0]), -1))  # (key heads, groups, tokens, width)
        layer = int(module.layer_idx)
        found = self._attended(layer, grouped, key[0], value[0], scaling, sliding_window)
        return found.unflatten(1, (query.shape[1], -1))[None].to(value), None

    def _attended(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        scaling: float | None = None, sliding_window: int | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Attend with queries (key heads, groups, tokens, width): (tokens, heads * width).

        Keys and values of the pass, (key heads, tokens, width), are stored before.
        """
        keys, values = self._kept(layer, key, value)
        query = query.to(keys)
        heads, groups, tokens = query.shape[:3]
        result = query.new_empty(tokens, heads, groups, value.shape[-1])
        result[len(self._at[0]) :] = 0  # of tokens that fill up a pass
        out = result.permute(1, 2, 0, 3)
        for part in self._parts:
            rows, width = part.positions.shape
            asked = query[:, :, part.take].unflatten(2, (rows, width)).permute(2, 0, 1, 3, 4).flatten(2, 3)
            own = (keys[part.slots, :, : part.length], values[part.slots, :, : part.length])
            if self._dtype:
                found = _attention_by_products(asked, *own, part.unseen(sliding_window, groups), scaling)
            else:
                found = scaled_dot_product_attention(
                    asked, *own, attn_mask=part.seen(sliding_window, groups), scale=scaling
                )
            found = found.unflatten(2, (groups, width)).permute(1, 2, 0, 3, 4).flatten(2, 3)
            if part.put is None:
                out[:, :, part.take] = found
            else:
                out[:, :, part.take[part.put]] = found[:, :, part.put]
        return result.flatten(1)

    def _kept(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> list[torch.Tensor]:
        """Store a layer's new states, (heads, tokens, width), and return all."""
        states = self._states.get(layer)
        if states is None or self._length > states[0].shape[2]:
            room = self._room
            if self._length > room:
                room = self._length + max(ROOM, self._length // 4)
            grown = [
                new.new_zeros(self._slots, len(new), room, new.shape[-1], dtype=self._dtype or new.dtype)
                for new in (key, value)
            ]
            for old, one in zip(states or (), grown, strict=False):
                one[:, :, : old.shape[2]] = old
            self._states[layer] = states = grown
        for one, new in zip(states, (key, value), strict=True):
            one[self._at[0], :, self._at[1]] = new[:, : len(self._at[0])].transpose(0, 1).to(one)
        return states


class PlainCaches:
    """transformers' own cache for each slot, read one after the other."""

    drafts = shares = False

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        self._model, self.device = model, model.device
        self._caches: dict[int, DynamicCache] = {}

    def read(self, fed: Sequence[Fed]) -> torch.Tensor:
        """Read one run of tokens per slot; return float32 logits (slots, vocabulary) after its last."""
        found = []
        for one in fed:
            if not one.start:
                self._caches[one.slot] = DynamicCache(config=plain_model(self._model).config)
            ids = torch.tensor([one.tokens], device=self.device)
            end = one.start + len(one.tokens)
            found.append(self._model(
                input_ids=ids, attention_mask=ids.new_ones(1, end),
                position_ids=torch.arange(one.start, end, device=ids.device)[None],
                past_key_values=self._caches[one.slot], use_cache=True, logits_to_keep=1,
            ).logits[:, -1].float())  # fmt: skip
        return torch.cat(found)

    def copy(self, source: int, target: int, length: int) -> None:
        """Move a slot's cache."""
        if source != target:
            self._caches[target] = self._caches.pop(source)


def _attention_by_products(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, unseen: torch.Tensor | None,
    scale: float | None,
) -> torch.Tensor:  # fmt: skip
    """Do what `scaled_dot_product_attention` does, by products that CPUs compute fast in bfloat16.

    Args:
        unseen: (slots, 1, queries, keys), of the last keys; all those before are seen.
    """
    rows, heads = query.shape[:2]
    query = query.flatten(0, 1) * (scale or query.shape[-1] ** -0.5)
    scores = torch.bmm(query, keys.flatten(0, 1).transpose(1, 2))
    if unseen is not None:
        last = scores.view(rows, heads, *scores.shape[1:])[..., -unseen.shape[-1] :]
        last.masked_fill_(unseen, float("-inf"))
    return torch.bmm(torch.softmax(scores, -1), values.flatten(0, 1)).view(rows, heads, *query.shape[1:])


@functools.cache
def attention_is_independent(kv_heads: int, groups: int, width: int, threads: int) -> bool:
    """Return whether attention in bfloat16 gives a query the same alone, beside longer texts and in a run."""
    generator = torch.Generator().manual_seed(0)
    keys, values = (
        torch.randn(16, kv_heads, 1920, width, generator=generator).to(torch.bfloat16) for _ in range(2)
    )
    run = torch.randn(16, kv_heads, groups, 100, width, generator=generator).to(torch.bfloat16)

    def attend(slots: int, first: int, last: int, length: int) -> torch.Tensor:
        """Attend with queries first to last - 1, which have these positions, over `length` keys."""
        unseen = torch.arange(length) > torch.arange(first, last)[:, None]
        found = _attention_by_products(
            run[:slots, :, :, first:last].flatten(2, 3), keys[:slots, :, :length], values[:slots, :, :length],
            unseen.repeat(1, groups, 1)[:, None].expand(slots, -1, -1, -1), None,
        )  # fmt: skip
        return found.unflatten(2, (groups, last - first))[0]

    for place in (0, 39, 63):
        alone = attend(1, place, place + 1, SAME_LENGTHS)
        others = [attend(slots, place, place + 1, 1920) for slots in (1, 2, 16)]
        wide = [(slots, queries) for slots in (1, 3, 16) for queries in (2, 5, 17)]
        others += [attend(slots, place, place + queries, 1920)[:, :, :1] for slots, queries in wide]
        others.append(attend(1, 0, 100, 2 * SAME_LENGTHS)[:, :, place : place + 1])
        if not all(torch.equal(alone, other) for other in others):
            return False
    return True


@contextlib.contextmanager
def ragged(
    model: PreTrainedModel | PeftModel, slots: int, form: Form = None, room: int = 0
) -> Iterator[RaggedCache | PlainCaches]:
    """Yield an empty cache of `slots` slots for `model`, to be used through it alone in the block.

    Args:
        form: the dtype in which keys and values are kept and attention is computed, by default that of the
            model; or a decoder that takes the place of the model's own layers.
        room: positions that the longest text will need. Texts may grow beyond, but each time that memory
            is added, all states are copied, and what they took before is often of no use for larger ones.

    Several models may have one at the same time: each that is read by its own layers is registered under a
    name of its own.

    A `RaggedCache` fits models that take their attention from transformers' registry and whose layers see
    everything before a token, or a window of it. Soft caps, sinks and recurrent layers do not fit.
    """
    inner = plain_model(model)
    if not _fits(inner):
        yield PlainCaches(model)
        return
    cache = RaggedCache(model, slots, form, -(-room // SAME_LENGTHS) * SAME_LENGTHS)
    if form is not None and not isinstance(form, torch.dtype):
        yield cache
        return
    usual = inner.config._attn_implementation
    name = f"{NAME}_{next(_numbers)}"
    AttentionInterface.register(name, cache.attend)
    inner.set_attn_implementation(name)
    try:
        yield cache
    finally:
        inner.set_attn_implementation(usual)
        AttentionInterface._global_mapping.pop(name, None)


def _fits(model: PreTrainedModel) -> bool:
    kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
    return (
        bool(model._supports_attention_backend)
        and kinds <= {DynamicLayer, DynamicSlidingWindowLayer}
        and getattr(model.config, "attn_logit_softcapping", None) is None
        and not any(name.endswith("sinks") for name, _ in model.named_parameters())
    )


def _ends(fed: Sequence[Fed]) -> list[int]:
    """Return where in the pass each run of tokens ends."""
    ends, end = [], 0
    for one in fed:
        end += len(one.tokens)
        ends.append(end)
    return ends


def _parts(fed: Sequence[Fed], device: torch.device, at_once: tuple[int, int], multiple: int) -> list[_Part]:
    """Divide a pass into parts: short runs of neighbouring slots together, the others alone.

    Args:
        at_once: how many runs together, and of how many tokens at most.
        multiple: of which each part's length is one.
    """
    most, widest = at_once
    parts: list[_Part] = []
    runs = sorted(zip(fed, _ends(fed), strict=True), key=lambda run: run[0].slot)
    short = [run for run in runs if len(run[0].tokens) <= widest]
    for one, end in (run for run in runs if len(run[0].tokens) > widest):
        first, piece = end - len(one.tokens), PIECE.get(device.type, len(one.tokens))
        for at in range(0, len(one.tokens), piece):
            some = one.tokens[at : at + piece]
            run = Fed(one.slot, one.start + at, some, 0), first + at + len(some)
            parts.append(_part([run], device, multiple))
    at = 0
    while at < len(short):
        first = short[at][0].slot
        some = [run for run in short[at:] if run[0].slot < first + most]
        # Slots in between are computed in vain, so there must not be too many.
        if 2 * len(some) > some[-1][0].slot - first:
            parts.append(_part(some, device, multiple))
        else:
            parts += [_part([run], device, multiple) for run in some]
        at += len(some)
    return parts


def _part(runs: Sequence[tuple[Fed, int]], device: torch.device, multiple: int) -> _Part:
    first, last = runs[0][0].slot, runs[-1][0].slot
    width = max(len(one.tokens) for one, _ in runs)
    some = runs[0][1] - 1  # stands in for queries of slots that read nothing
    count = (last - first + 1) * width
    # Padding is placed where a text is read, so that all see the keys before: masks are short then.
    take, positions, put = [some] * count, [min(one.start for one, _ in runs)] * count, []
    for one, end in runs:
        at = (one.slot - first) * width
        for number in range(len(one.tokens)):
            take[at + number] = end - len(one.tokens) + number
            positions[at + number] = one.start + number
            put.append(at + number)
    in_turn = take == list(range(take[0], take[0] + len(take)))
    return _Part(
        slots=slice(first, last + 1),
        length=-(-(max(positions) + 1) // multiple) * multiple,
        take=slice(take[0], take[0] + len(take)) if in_turn else torch.tensor(take, device=device),
        put=None if len(put) == len(take) else torch.tensor(put, device=device),
        positions=torch.tensor(positions, device=device).unflatten(0, (-1, width)),
    )
