"""Batched text generation that gives the same text whatever else is in the batch.

It is fast for four reasons. Prompts are sorted by length and padded on the left. Each prompt is read once
for all its samples. Finished sequences leave the batch, and the last few of a batch wait until they can
continue together with those of other batches. Keys and values are written into preallocated memory instead
of being copied at every step (a third of the time on a CPU).

Every sample draws from its own random stream, seeded by seed, prompt number and sample number. So its text
depends neither on the other prompts or the batch size, nor on how many processes share the prompts under
`accelerate launch`. Weights and logits keep the model's precision: with bfloat16 products a row's result
would depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from helpers.machine.hardware import Runtime
from helpers.machine.memory import in_batches
from helpers.machine.processes import across_ranks
from helpers.machine.progress import bar
from helpers.models.tokens import continuation, token_ids, turn_end_id

# Stop tokens of the families in use, in addition to those in the model's own configuration.
STOP_TOKENS = ("<|endoftext|>", "<|im_end|>", "<|fim_pad|>", "<|file_sep|>", "<|repo_name|>")
STRAGGLERS = 0.25  # once no more than this share of a batch is unfinished, it waits for other batches
UNKNOWN_CONTEXT = 2048  # tokens, of a model whose configuration does not say
ROOM = 64  # steps for which memory of keys and values is preallocated


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str] | Sequence[Sequence[int]],
    runtime: Runtime,
    *,
    n: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int = 256,
    batch_size: int = 64,
    seed: int = 0,
    stop: Sequence[str] = (),
    what: str = "generate",
) -> list[list[str]]:
    """Continue every prompt `n` times. Each parameter is one setting of the sampling.

    Args:
        prompts: plain texts, in which nothing is read as a special token, or token ids (of a chat template:
            `helpers.models.causal_lm.chat_ids`). No tokens are added. A prompt too long for the model's
            context loses its start, so that `max_new_tokens` still fit.
        n: samples per prompt; must be 1 if `temperature` is 0, since all would be equal.
        temperature: 0 is greedy; otherwise sampling from softmax(logits / temperature) in float32, over
            the whole vocabulary (top_p = 1, no top-k).
        batch_size: sequences (prompts times samples) computed together; fewer if memory is short.
        stop: the text ends before the first of these strings; what: label of the progress bar.

    Returns:
        For each prompt, in order, `n` texts: exactly what was added to it, without special tokens and stop
        strings.

    Raises:
        ValueError: for `n` < 1, a negative temperature, `n` > 1 with greedy decoding, or a prompt that is
            empty or has no room beside `max_new_tokens`.
    """
    if n < 1 or temperature < 0 or (n > 1 and temperature == 0):
        raise ValueError(f"n={n}, temperature={temperature}: n > 1 needs a temperature above 0")
    encoded = _prompt_ids(model, tokenizer, prompts, max_new_tokens)
    ends = end_ids(model, tokenizer)
    is_end = _end_check(tokenizer, ends, stop)
    decoding = _Decoding(temperature, max_new_tokens, is_end, tokenizer.pad_token_id)

    def write(indices: Sequence[int]) -> list[list[str]]:
        """Return the `n` texts of each of these prompts."""
        jobs = [
            _Job(i, sample, encoded[i], _draws(seed, i, sample, max_new_tokens) if temperature else None)
            for i in indices
            for sample in range(n)
        ]
        _finish(model, jobs, decoding, batch_size, what)
        added = [[token for token in job.new if token not in ends] for job in jobs]
        parts = (continuation(tokenizer, job.prompt, new) for job, new in zip(jobs, added, strict=True))
        texts = [_cut(part, stop) for part in parts]
        return [texts[first : first + n] for first in range(0, len(texts), n)]

    was_training = model.training
    model.eval()
    texts = across_ranks(range(len(encoded)), write)
    model.train(was_training)
    return texts


def _draws(seed: int, index: int, sample: int, count: int) -> np.ndarray:
    """Return one text's uniform numbers in [0, 1), from a stream of its own."""
    return np.random.default_rng([seed, index, sample]).random(count)


@dataclass(frozen=True)
class _Decoding:
    """How every text of a call is written."""

    temperature: float
    max_new_tokens: int
    is_end: Callable[[_Job], bool]  # whether a text is complete
    pad_id: int


@dataclass
class _Job:
    """One text being written: sample `sample` of prompt `index`."""

    index: int
    sample: int
    prompt: list[int]
    draws: np.ndarray | None  # one uniform number per step; None if greedy
    new: list[int] = field(default_factory=list)
    finished: bool = False

    @property
    def tokens(self) -> tuple[int, ...]:
        """Prompt and new tokens."""
        return (*self.prompt, *self.new)


@dataclass
class _Read:
    """Prompts that the model has read, one row per sequence; `logits` predict each row's next token."""

    cache: DynamicCache
    logits: torch.Tensor  # (rows, vocabulary)
    mask: torch.Tensor  # (rows, length), 0 at padding
    position: torch.Tensor  # (rows, 1), of the last token read


class _RoomyLayer(DynamicLayer):
    """Keys and values of one layer in preallocated memory; `DynamicLayer` copies all at every step."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[torch.Tensor] = []  # keys and values with preallocated steps

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append states, (rows, heads, steps, width), and return all keys and values."""
        length, steps = self.get_seq_length(), key_states.shape[-2]
        if not length:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        if not self._held or length + steps > self._held[0].shape[-2]:
            self._held = [_with_room(states, steps + ROOM) for states in (self.keys, self.values)]
        for held, states in zip(self._held, (key_states, value_states), strict=True):
            held[:, :, length : length + steps] = states
        self.keys, self.values = (held[:, :, : length + steps] for held in self._held)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep only the rows `indices`, in that order."""
        super().batch_select_indices(indices)
        self._held = []


def _with_room(states: torch.Tensor, steps: int) -> torch.Tensor:
    """Return a copy with memory for `steps` more."""
    rows, heads, length, width = states.shape
    held = states.new_empty(rows, heads, length + steps, width)
    held[:, :, :length] = states
    return held


def _read_prompts(model: PreTrainedModel, prompts: list[tuple[int, ...]], pad_id: int) -> _Read:
    """Read the distinct prompts in one padded pass, then give each of `prompts` its own row."""
    distinct = list(dict.fromkeys(prompts))
    width = max(len(ids) for ids in distinct)
    tokens = torch.tensor([[pad_id] * (width - len(ids)) + [*ids] for ids in distinct], device=model.device)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in distinct], device=model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    cache.layers = [_RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    logits = _next_logits(model, tokens, mask, positions, cache)
    if len(distinct) == len(prompts):
        return _Read(cache, logits, mask, positions[:, -1:])
    row_of = {ids: row for row, ids in enumerate(distinct)}
    index = torch.tensor([row_of[ids] for ids in prompts], device=model.device)
    cache.batch_select_indices(index)
    return _Read(cache, logits[index], mask[index], positions[index, -1:])


def _finish(
    model: PreTrainedModel, jobs: Sequence[_Job], decoding: _Decoding, batch_size: int, what: str
) -> None:
    """Write all `jobs` to their ends, `batch_size` at a time."""
    leave = 0.0  # the share of a batch that may stay unfinished

    def compute(batch: Sequence[_Job]) -> None:
        """Continue the unfinished texts; after running out of memory, each continues where it was."""
        batch = [job for job in batch if not job.finished]
        if not batch:
            return
        read = _read_prompts(model, [job.tokens for job in batch], decoding.pad_id)
        enough = int(leave * len(batch))
        for job in _continue(model, read, batch, decoding, enough):
            job.finished = True
            shown.update(1)

    waiting = list(jobs)
    with bar(what, total=len(waiting), unit="text") as shown:
        while waiting:
            waiting.sort(key=lambda job: (-len(job.tokens), job.index, job.sample))
            leave = STRAGGLERS if len(waiting) > batch_size else 0.0
            for _ in in_batches(waiting, batch_size, compute, what=what):
                pass
            waiting = [job for job in waiting if not job.finished]


def _continue(
    model: PreTrainedModel, read: _Read, jobs: Sequence[_Job], decoding: _Decoding, enough: int
) -> Iterator[_Job]:
    """Yield jobs as they finish, until at most `enough` of them are unfinished.

    Finished rows leave the batch and the cache.
    """
    logits, mask, position = read.logits, read.mask, read.position
    alive = list(jobs)
    while True:
        if decoding.temperature:
            draws = np.array([job.draws[len(job.new)] for job in alive])
            chosen = _sample(logits / decoding.temperature, draws)
        else:
            chosen = logits.argmax(-1)
        keep = []
        for row, (job, token) in enumerate(zip(alive, chosen.tolist(), strict=True)):
            job.new.append(token)
            if len(job.new) == decoding.max_new_tokens or decoding.is_end(job):
                yield job
            else:
                keep.append(row)
        if len(keep) <= enough:
            return
        if len(keep) < len(alive):
            index = torch.tensor(keep, device=mask.device)
            read.cache.batch_select_indices(index)
            chosen, mask, position = chosen[index], mask[index], position[index]
            alive = [alive[row] for row in keep]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=-1)
        position = position + 1
        logits = _next_logits(model, chosen[:, None], mask, position, read.cache)


def _next_logits(
    model: PreTrainedModel, tokens: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor,
    cache: DynamicCache,
) -> torch.Tensor:  # fmt: skip
    """Return float32 logits (rows, vocabulary) of the token after the last one; `cache` grows."""
    return model(
        input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache,
        use_cache=True, logits_to_keep=1,
    ).logits[:, -1].float()  # fmt: skip


def _sample(logits: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
    """Sample by inverse CDF: row i takes the first token whose cumulative probability exceeds draw i."""
    cumulative = torch.softmax(logits, dim=-1).cumsum(-1)
    wanted = torch.from_numpy(draws).to(cumulative)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, wanted, right=True).clamp(max=logits.shape[-1] - 1)[:, 0]


def _end_check(
    tokenizer: PreTrainedTokenizerBase, ends: frozenset[int], stop: Sequence[str]
) -> Callable[[_Job], bool]:
    """Return a function that tells whether a text has come to an end token or a stop string."""
    tail = max((len(word.encode()) for word in stop), default=0) + 8  # a token is at least one byte

    def is_end(job: _Job) -> bool:
        if job.new[-1] in ends or not stop:
            return job.new[-1] in ends
        before, last = [*job.prompt, *job.new[:-tail]], job.new[-tail:]
        text = continuation(tokenizer, before[-tail:], last)
        return any(word in text for word in stop)

    return is_end


def _cut(text: str, stop: Sequence[str]) -> str:
    found = [index for index in (text.find(word) for word in stop) if index >= 0]
    return text[: min(found)] if found else text


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids that end a text: end tokens of model, tokenizer and chat template, known stop tokens."""
    configured = model.generation_config.eos_token_id
    ids = set(configured if isinstance(configured, list) else [configured]) | {tokenizer.eos_token_id}
    ids.add(turn_end_id(tokenizer))
    vocabulary = tokenizer.get_vocab()
    ids |= {vocabulary[token] for token in STOP_TOKENS if token in vocabulary}
    return frozenset(i for i in ids if i is not None)


def context_tokens(config: PreTrainedConfig) -> int | None:
    """Return how many tokens a model can see at once, by its configuration; None if that says nothing."""
    found = getattr(config, "max_position_embeddings", 0) or getattr(config, "n_positions", 0)
    return int(found) if found else None


def _prompt_ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str] | Sequence[Sequence[int]], max_new_tokens: int,
) -> list[list[int]]:  # fmt: skip
    """Tokenize prompts given as text; cut starts off where they leave no room for the new tokens."""
    room = (context_tokens(model.config) or UNKNOWN_CONTEXT) - max_new_tokens
    if room < 1:
        raise ValueError(
            f"max_new_tokens={max_new_tokens} leaves no room for a prompt in the model's context"
        )
    encoded = [
        (token_ids(tokenizer, prompt) if isinstance(prompt, str) else list(prompt))[-room:]
        for prompt in prompts
    ]
    if [] in encoded:
        raise ValueError(f"prompt {encoded.index([])} is empty")
    return encoded
