"""Batched text generation that gives the same text whatever else is in the batch.

`generate` sorts prompts by length, pads on the left, keeps a key-value cache and drops finished
sequences from it, so that a batch costs what its unfinished rows cost. Every sample draws from
its own random stream, named by seed, prompt and sample number: the order of prompts and the size
of batches do not enter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

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
        batch_size: sequences (prompt times sample) computed together.
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
    was_training = model.training
    model.eval()
    with bar(what, total=len(jobs), unit="text") as shown:
        for start in range(0, len(jobs), batch_size):
            batch = jobs[start : start + batch_size]
            rows = [encoded[index] for index, _ in batch]
            draws = _uniform_draws(batch, seed, max_new_tokens) if temperature > 0 else None
            is_done = _stop_check(tokenizer, stop)
            for row, ids in _decode(
                model, rows, tokenizer.pad_token_id, ends, max_new_tokens, temperature, draws, is_done
            ):
                index, sample = batch[row]
                texts[index][sample] = _cut(tokenizer.decode(ids, skip_special_tokens=True), stop)
                shown.update(1)
    model.train(was_training)
    return texts


def _decode(
    model, rows, pad_id, ends, max_new_tokens, temperature, draws, is_done
) -> Iterator[tuple[int, list[int]]]:
    """Yield (row, new token ids) as rows finish; finished rows leave the batch and the cache."""
    device = model.device
    width = max(len(ids) for ids in rows)
    tokens = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for row, ids in enumerate(rows):
        tokens[row, width - len(ids) :] = torch.tensor(ids)
        mask[row, width - len(ids) :] = 1
    tokens, mask = tokens.to(device), mask.to(device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    alive = list(range(len(rows)))
    new: list[list[int]] = [[] for _ in rows]
    cache = DynamicCache(config=model.config)
    for step in range(max_new_tokens):
        output = model(
            input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache,
            use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        logits = output.logits[:, -1].float()
        if draws is None:
            chosen = logits.argmax(-1)
        else:
            chosen = _sample(logits / temperature, draws[alive, step])
        keep = []
        for at, token in enumerate(chosen.tolist()):
            row = alive[at]
            if token not in ends:
                new[row].append(token)
            if token in ends or step == max_new_tokens - 1 or is_done(new[row]):
                yield row, new[row]
            else:
                keep.append(at)
        if not keep:
            return
        if len(keep) < len(alive):
            index = torch.tensor(keep, device=device)
            cache.batch_select_indices(index)
            chosen, mask, positions = chosen[index], mask[index], positions[index]
            alive = [alive[at] for at in keep]
        tokens = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=-1)
        positions = positions[:, -1:] + 1


def _sample(logits: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
    """Inverse-CDF sampling: row i takes the first token whose cumulative probability exceeds draw i."""
    cumulative = torch.softmax(logits, dim=-1).cumsum(-1)
    wanted = torch.from_numpy(draws).to(cumulative)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, wanted, right=True).clamp(max=logits.shape[-1] - 1)[:, 0]


def _uniform_draws(batch: list[tuple[int, int]], seed: int, steps: int) -> np.ndarray:
    """One row of uniform numbers in [0, 1) per (prompt, sample), from a stream of its own."""
    return np.stack([np.random.default_rng([seed, index, sample]).random(steps) for index, sample in batch])


def _stop_check(tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]):
    """Whether a growing sequence contains a stop string; only the tail is decoded each time."""
    if not stop:
        return lambda ids: False
    tail = max(len(word.encode()) for word in stop) + 8  # a token is at least one byte
    return lambda ids: any(word in tokenizer.decode(ids[-tail:]) for word in stop)


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
