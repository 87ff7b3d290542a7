"""Batched text generation that gives the same text whatever else is in the batch.

What makes it fast: prompts are sorted by length and padded on the left; each prompt is read once for
all its samples; finished sequences leave the batch, and once few of a batch are left they wait for
the stragglers of the other batches and go on together; keys and values are written into room kept
ahead instead of being copied whole every step (a third of the time on a CPU).

Every sample draws from its own random stream, named by seed, prompt and sample number: the order of
prompts and the size of batches do not enter, nor the number of processes that the prompts are shared
among under `accelerate launch`. Weights and logits keep the model's precision: with
bfloat16 products a row's result would depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from helpers.machine.hardware import Runtime
from helpers.machine.memory import in_batches
from helpers.machine.processes import across_ranks
from helpers.machine.progress import bar

# Stop tokens of the families in use, on top of what the model's own configuration names.
STOP_TOKENS = ("<|endoftext|>", "<|im_end|>", "<|fim_pad|>", "<|file_sep|>", "<|repo_name|>")
STRAGGLERS = 0.25  # a batch with no more than this share unfinished waits for others to join
ROOM = 64  # steps that keys and values have room for beyond what is there


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
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
    """Continue every prompt `n` times.

    Args:
        prompts: final texts (chat template applied); no special tokens are added. A prompt
            longer than the model's context leaves room for `max_new_tokens` by losing its start.
        n: samples per prompt; with `temperature` 0 they would be equal, so `n` must be 1.
        temperature: 0 is greedy; otherwise plain ancestral sampling from softmax(logits /
            temperature) over the whole vocabulary (top_p = 1, no top-k), in float32.
        batch_size: sequences (prompt times sample) computed together; fewer where they do not fit
            in memory.
        stop: strings; the text ends before the first occurrence of any of them.
        what: label of the progress bar.

    Returns:
        For each prompt, in order, `n` texts: only what is new, special tokens removed, cut at
        the stop strings.

    Raises:
        ValueError: for `n` < 1, a negative temperature, or `n` > 1 with greedy decoding.
    """
    if n < 1 or temperature < 0 or (n > 1 and temperature == 0):
        raise ValueError(f"n={n}, temperature={temperature}: n > 1 needs a temperature above 0")
    room = _context_length(model) - max_new_tokens
    if room < 1:
        raise ValueError(
            f"max_new_tokens={max_new_tokens} leaves no room for a prompt in the model's context"
        )
    encoded = (
        [ids[-room:] for ids in tokenizer(list(prompts), add_special_tokens=False).input_ids]
        if prompts
        else []
    )
    for index, ids in enumerate(encoded):
        if not ids:
            raise ValueError(f"prompt {index} is empty")
    ends = end_ids(model, tokenizer)
    is_end = _end_check(tokenizer, ends, stop)

    def write(indices: Sequence[int]) -> list[list[str]]:
        """The `n` texts of each of these prompts."""
        jobs = [
            _Job(index, sample, encoded[index], _draws(seed, index, sample, max_new_tokens, temperature))
            for index in indices
            for sample in range(n)
        ]
        _finish(model, jobs, tokenizer.pad_token_id, temperature, is_end, max_new_tokens, batch_size, what)
        texts = [
            _cut(tokenizer.decode([t for t in job.new if t not in ends], skip_special_tokens=True), stop)
            for job in jobs
        ]
        return [texts[at : at + n] for at in range(0, len(texts), n)]

    was_training = model.training
    model.eval()
    texts = across_ranks(range(len(encoded)), write)
    model.train(was_training)
    return texts


@dataclass
class _Job:
    """One text being written: sample `sample` of prompt `index`."""

    index: int
    sample: int
    prompt: list[int]
    draws: np.ndarray | None  # one uniform number a step; None: greedy
    new: list[int] = field(default_factory=list)
    finished: bool = False

    @property
    def tokens(self) -> tuple[int, ...]:
        """All that is there: prompt and new tokens."""
        return (*self.prompt, *self.new)

    @property
    def length(self) -> int:
        """Number of `tokens`."""
        return len(self.prompt) + len(self.new)


@dataclass
class _Read:
    """Prompts as the model has read them, one row a sequence; `logits` predict each row's next token."""

    cache: DynamicCache
    logits: torch.Tensor  # (rows, vocabulary)
    mask: torch.Tensor  # (rows, length), 0 at padding
    position: torch.Tensor  # (rows, 1), of the last token read


class _RoomyLayer(DynamicLayer):
    """Keys and values of one layer, in room kept ahead, where `DynamicLayer` copies all every step."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[torch.Tensor] = []  # keys and values with their room

    def update(self, key_states, value_states, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (rows, heads, steps, width) states; all of them come back."""
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
        """Keep the rows `indices`, in that order."""
        super().batch_select_indices(indices)
        self._held = []


def _with_room(states: torch.Tensor, steps: int) -> torch.Tensor:
    """A copy with room for `steps` more."""
    rows, heads, length, width = states.shape
    held = states.new_empty(rows, heads, length + steps, width)
    held[:, :, :length] = states
    return held


def _empty_cache(model: PreTrainedModel) -> DynamicCache:
    """The model's own kind of cache, its plain attention layers with room."""
    cache = DynamicCache(config=model.config)
    cache.layers = [_RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _read_prompts(model, prompts: list[tuple[int, ...]], pad_id: int) -> _Read:
    """One padded pass over the distinct ones of `prompts`, then a row for each."""
    distinct = list(dict.fromkeys(prompts))
    width = max(len(ids) for ids in distinct)
    tokens = torch.tensor([[pad_id] * (width - len(ids)) + [*ids] for ids in distinct], device=model.device)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in distinct], device=model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = _empty_cache(model)
    logits = _next_logits(model, tokens, mask, positions, cache)
    if len(distinct) == len(prompts):
        return _Read(cache, logits, mask, positions[:, -1:])
    place = {ids: row for row, ids in enumerate(distinct)}
    index = torch.tensor([place[ids] for ids in prompts], device=model.device)
    cache.batch_select_indices(index)
    return _Read(cache, logits[index], mask[index], positions[index, -1:])


def _finish(
    model, jobs: Sequence[_Job], pad_id: int, temperature: float, is_end, max_new_tokens: int,
    batch_size: int, what: str,
) -> None:  # fmt: skip
    """Write all `jobs` to their ends, `batch_size` at a time."""
    leave = 0.0

    def compute(batch: Sequence[_Job]) -> None:
        """Go on with the unfinished; after a call that ran out of memory, from where each text was."""
        batch = [job for job in batch if not job.finished]
        if not batch:
            return
        read = _read_prompts(model, [job.tokens for job in batch], pad_id)
        enough = int(leave * len(batch))
        for job in _continue(model, read, batch, temperature, is_end, max_new_tokens, enough):
            job.finished = True
            shown.update(1)

    waiting = list(jobs)
    with bar(what, total=len(waiting), unit="text") as shown:
        while waiting:
            waiting.sort(key=lambda job: (-job.length, job.index, job.sample))
            leave = STRAGGLERS if len(waiting) > batch_size else 0.0
            for _ in in_batches(waiting, batch_size, compute, what=what):
                pass
            waiting = [job for job in waiting if not job.finished]


def _continue(
    model, read: _Read, jobs: Sequence[_Job], temperature: float, is_end, max_new_tokens: int, enough: int
) -> Iterator[_Job]:
    """Yield jobs as they finish, until no more than `enough` of them are unfinished.

    Finished rows leave the batch and the cache.
    """
    logits, mask, position = read.logits, read.mask, read.position
    alive = list(jobs)
    while True:
        chosen = _choose(logits, alive, temperature)
        keep = []
        for at, (job, token) in enumerate(zip(alive, chosen.tolist(), strict=True)):
            job.new.append(token)
            if len(job.new) == max_new_tokens or is_end(job.new):
                yield job
            else:
                keep.append(at)
        if len(keep) <= enough:
            return
        if len(keep) < len(alive):
            index = torch.tensor(keep, device=mask.device)
            read.cache.batch_select_indices(index)
            chosen, mask, position = chosen[index], mask[index], position[index]
            alive = [alive[at] for at in keep]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=-1)
        position = position + 1
        logits = _next_logits(model, chosen[:, None], mask, position, read.cache)


def _choose(logits: torch.Tensor, jobs: Sequence[_Job], temperature: float) -> torch.Tensor:
    """The next token of each job, (rows,)."""
    if not temperature:
        return logits.argmax(-1)
    return _sample(logits / temperature, np.array([job.draws[len(job.new)] for job in jobs]))


def _next_logits(model, tokens, mask, positions, cache) -> torch.Tensor:
    """Float32 logits (rows, vocabulary) of the token after the last one; `cache` grows."""
    return model(
        input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache,
        use_cache=True, logits_to_keep=1,
    ).logits[:, -1].float()  # fmt: skip


def _sample(logits: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
    """Inverse-CDF sampling: row i takes the first token whose cumulative probability exceeds draw i."""
    cumulative = torch.softmax(logits, dim=-1).cumsum(-1)
    wanted = torch.from_numpy(draws).to(cumulative)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, wanted, right=True).clamp(max=logits.shape[-1] - 1)[:, 0]


def _draws(seed: int, index: int, sample: int, steps: int, temperature: float) -> np.ndarray | None:
    """Uniform numbers in [0, 1) of one text, from a stream of its own; None where nothing is drawn."""
    return np.random.default_rng([seed, index, sample]).random(steps) if temperature else None


def _end_check(
    tokenizer: PreTrainedTokenizerBase, ends: frozenset[int], stop: Sequence[str]
) -> Callable[[list[int]], bool]:
    """Whether a growing sequence is finished: by an end token, or a stop string in its tail."""
    tail = max((len(word.encode()) for word in stop), default=0) + 8  # a token is at least one byte

    def is_end(ids: list[int]) -> bool:
        if ids[-1] in ends:
            return True
        return bool(stop) and any(word in tokenizer.decode(ids[-tail:]) for word in stop)

    return is_end


def _cut(text: str, stop: Sequence[str]) -> str:
    places = [at for at in (text.find(word) for word in stop) if at >= 0]
    return text[: min(places)] if places else text


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that end a text: the model's and the tokenizer's end tokens and the known stop tokens."""
    configured = model.generation_config.eos_token_id
    ids = set(configured if isinstance(configured, list) else [configured]) | {tokenizer.eos_token_id}
    vocabulary = tokenizer.get_vocab()
    ids |= {vocabulary[token] for token in STOP_TOKENS if token in vocabulary}
    return frozenset(i for i in ids if i is not None)


def _context_length(model: PreTrainedModel) -> int:
    return int(
        getattr(model.config, "max_position_embeddings", 0) or getattr(model.config, "n_positions", 2048)
    )
