"""Batched text generation that gives the same text whatever else is in the batch.

`generate` sorts prompts by length, pads on the left, reads each prompt once for all its samples,
and drops finished sequences, so that a batch costs what its unfinished rows cost. Every sample draws from
its own random stream, named by seed, prompt and sample number: the order of prompts and the size
of batches do not enter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from helpers.memory import in_batches
from helpers.progress import bar
from helpers.runtime import Runtime

# Stop tokens of the families in use, on top of what the model's own configuration names.
STOP_TOKENS = ("<|endoftext|>", "<|im_end|>", "<|fim_pad|>", "<|file_sep|>", "<|repo_name|>")


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
    jobs = sorted(
        ((index, sample) for index in range(len(encoded)) for sample in range(n)),
        key=lambda job: (len(encoded[job[0]]), job),
        reverse=True,
    )
    texts = [[""] * n for _ in encoded]
    ends = _end_ids(model, tokenizer)
    is_end = _end_check(tokenizer, ends, stop)
    was_training = model.training
    model.eval()

    def compute(batch: list[tuple[int, int]]) -> list[tuple[int, list[int]]]:
        numbers = list(dict.fromkeys(index for index, _ in batch))  # each prompt is read once
        owners = [numbers.index(index) for index, _ in batch]
        draws = _uniform_draws(batch, seed, max_new_tokens) if temperature > 0 else None

        def choose(logits: torch.Tensor, rows: list[int], step: int) -> torch.Tensor:
            if draws is None:
                return logits.argmax(-1)
            return _sample(logits / temperature, draws[rows, step])

        prompts_read = _read_prompts(model, [encoded[i] for i in numbers], tokenizer.pad_token_id, owners)
        finished = []
        for row, ids in _continue(model, prompts_read, choose, is_end, max_new_tokens):
            finished.append((row, ids))
            shown.update(1)
        return finished

    with bar(what, total=len(jobs), unit="text") as shown:
        for batch, finished in in_batches(jobs, batch_size, compute, what=what):
            for row, ids in finished:
                index, sample = batch[row]
                kept = [token for token in ids if token not in ends]
                texts[index][sample] = _cut(tokenizer.decode(kept, skip_special_tokens=True), stop)
    model.train(was_training)
    return texts


@dataclass
class _Read:
    """Prompts as the model has read them, one row a sequence; `logits` predict each row's next token."""

    cache: DynamicCache
    logits: torch.Tensor  # (rows, vocabulary)
    mask: torch.Tensor  # (rows, length), 0 at padding
    position: torch.Tensor  # (rows, 1), of the last token read


def _read_prompts(model, prompts: list[list[int]], pad_id: int, owners: list[int]) -> _Read:
    """One padded pass over distinct `prompts`, then a row for each of `owners` (prompt numbers)."""
    width = max(len(ids) for ids in prompts)
    tokens = torch.tensor([[pad_id] * (width - len(ids)) + ids for ids in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    logits = _next_logits(model, tokens, mask, positions, cache)
    index = torch.tensor(owners, device=model.device)
    if owners != list(range(len(prompts))):
        cache.batch_select_indices(index)
    return _Read(cache, logits[index], mask[index], positions[index, -1:])


def _continue(model, read: _Read, choose, is_end, max_new_tokens: int) -> Iterator[tuple[int, list[int]]]:
    """Yield (row, new token ids) as rows finish; finished rows leave the batch and the cache."""
    logits, mask, position = read.logits, read.mask, read.position
    alive = list(range(len(logits)))
    new: list[list[int]] = [[] for _ in alive]
    for step in range(max_new_tokens):
        chosen = choose(logits, alive, step)
        keep = []
        for at, token in enumerate(chosen.tolist()):
            row = alive[at]
            new[row].append(token)
            if step == max_new_tokens - 1 or is_end(new[row]):
                yield row, new[row]
            else:
                keep.append(at)
        if not keep:
            return
        if len(keep) < len(alive):
            index = torch.tensor(keep, device=mask.device)
            read.cache.batch_select_indices(index)
            chosen, mask, position = chosen[index], mask[index], position[index]
            alive = [alive[at] for at in keep]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=-1)
        position = position + 1
        logits = _next_logits(model, chosen[:, None], mask, position, read.cache)


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


def _uniform_draws(batch: list[tuple[int, int]], seed: int, steps: int) -> np.ndarray:
    """One row of uniform numbers in [0, 1) per (prompt, sample), from a stream of its own."""
    return np.stack([np.random.default_rng([seed, index, sample]).random(steps) for index, sample in batch])


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


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
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
