"""Batched text generation that gives the same text whatever else is in the batch.

It is fast for four reasons. Texts are read together without padding, and a new text takes the place of a
finished one at once (`helpers.models.ragged_cache`). What two texts have in common at their start is read
once: the template, and the prompt of several samples. Answers copy much of their prompts, so tokens are
guessed from there, and checked in the pass that the text needs anyway (`helpers.models.prompt_lookup`).
The logits of a prompt's inner tokens are not computed. Large models on a CPU multiply in bfloat16
(`bfloat16_form`); elsewhere, adapters are summed into float32 weights.

Checking guesses changes no text. The token of each position is chosen as without them, greedily or by the
position's own random number, and a guess counts only where it is that very token.

Every sample draws from its own random stream, seeded by seed, prompt number and sample number. So its text
depends neither on the other prompts or the batch size, nor on how many processes share the prompts under
`accelerate launch`. Where products are made in bfloat16, rows are tried to be independent before, and the
logits are summed in float32. Elsewhere, products of other batch sizes may differ in the last bit, which has
decided between two tokens in about one of sixty sampled texts of SmolLM2.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from helpers.machine.hardware import Runtime
from helpers.machine.memory import is_out_of_memory
from helpers.machine.processes import across_ranks
from helpers.machine.progress import bar
from helpers.machine.usage import free_memory, return_freed_memory
from helpers.models.bfloat16_products import products_pay
from helpers.models.cheaper_forms import merged_adapters
from helpers.models.infilling import FAMILIES
from helpers.models.ragged_cache import Form, ragged
from helpers.models.reading_decoder import bfloat16_form
from helpers.models.text_writer import Decoding, TextJob, TextWriter
from helpers.models.token_borders import HeldText
from helpers.models.tokens import continuation, token_ids, turn_end_id

# Stop tokens of the families in use, in addition to those in the model's own configuration.
STOP_TOKENS = (
    "<|endoftext|>", "<|im_end|>", "<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", "<fim_pad>", "<file_sep>",
    "<repo_name>", *(mark for marks in FAMILIES for mark in marks),
)  # fmt: skip
UNKNOWN_CONTEXT = 2048  # tokens, of a model whose configuration does not say
TAIL = 8  # tokens before a text that decide how its first ones are spelled

log = logging.getLogger(__name__)


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
    begins: Sequence[str] | None = None,
    suffices: Callable[[int, str], bool] | None = None,
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
        begins: white space that each prompt's text has to begin with (`helpers.models.token_borders`); it
            is no part of what is returned, nor are tokens of it alone counted.
        suffices: tells, by a prompt's number and the text written so far, whether the rest is not needed.

    Returns:
        For each prompt, in order, `n` texts: exactly what was added to it, without special tokens and stop
        strings.

    Raises:
        ValueError: for `n` < 1, a negative temperature, `n` > 1 with greedy decoding, or a prompt that is
            empty or has no room beside `max_new_tokens`.
    """
    if n < 1 or temperature < 0 or (n > 1 and temperature == 0):
        raise ValueError(f"n={n}, temperature={temperature}: n > 1 needs a temperature above 0")
    held = list(begins or [""] * len(prompts))
    first = {one: HeldText(tokenizer, one) for one in set(held) if one}
    before = {one: first[one].most_before if one else 0 for one in set(held)}
    encoded = _prompt_ids(model, tokenizer, prompts, max_new_tokens, [before[one] for one in held])
    ends = end_ids(model, tokenizer)
    checks = {one: end_check(tokenizer, ends, stop, one) for one in set(held)}
    decoding = Decoding(max_new_tokens, temperature)

    def is_end(job: TextJob) -> bool:
        if checks[held[job.index]](job):
            return True
        return suffices is not None and suffices(job.index, written(job, job.new, job.prompt[-TAIL:]))

    def written(job: TextJob, new: Sequence[int], before: Sequence[int]) -> str:
        return continuation(tokenizer, before, new)[len(held[job.index]) :]

    def drawn(index: int, sample: int) -> np.ndarray | None:
        return text_draws(seed, index, sample, max_new_tokens + before[held[index]]) if temperature else None

    def write(indices: Sequence[int]) -> list[list[str]]:
        """Return the `n` texts of each of these prompts."""
        jobs = [
            TextJob(
                i,
                sample,
                encoded[i],
                encoded[i].copy(),
                decoding,
                is_end,
                drawn(i, sample),
                first.get(held[i]),
            )
            for i in indices
            for sample in range(n)
        ]
        with writing_form(model, runtime) as form:
            _finish(model, jobs, batch_size, what, form)
        return_freed_memory()  # the next texts want room of another size, which would come on top
        added = [[token for token in job.new if token not in ends] for job in jobs]
        texts = [cut_at(written(job, new, job.prompt), stop) for job, new in zip(jobs, added, strict=True)]
        return [texts[first : first + n] for first in range(0, len(texts), n)]

    was_training = model.training
    model.eval()
    texts = across_ranks(range(len(encoded)), write)
    model.train(was_training)
    return texts


def text_draws(seed: int, index: int, sample: int, count: int) -> np.ndarray:
    """Return one text's uniform numbers in [0, 1), from a stream of its own."""
    return np.random.default_rng([seed, index, sample]).random(count)


@contextlib.contextmanager
def writing_form(model: PreTrainedModel, runtime: Runtime) -> Iterator[Form]:
    """Let `model` multiply in the cheapest form that keeps texts independent of each other.

    Yields the form that `helpers.models.ragged_cache.ragged` is to be called with.
    """
    if products_pay(model, runtime):
        with bfloat16_form(model) as form:
            yield form
    else:
        with merged_adapters(model):
            yield None


def _finish(
    model: PreTrainedModel,
    jobs: Sequence[TextJob],
    batch_size: int,
    what: str,
    form: Form,
) -> None:
    """Write all `jobs` to their ends, `batch_size` at a time, fewer after running out of memory."""
    with bar(what, total=len(jobs), unit="text") as shown:
        while waiting := [job for job in jobs if not job.finished]:
            fits = True
            try:
                _write(model, waiting, batch_size, shown, form)
            except (RuntimeError, MemoryError) as error:
                if batch_size == 1 or not is_out_of_memory(error):
                    raise
                fits = False
            if not fits:  # outside the handler, where the error would still hold the failed call's tensors
                batch_size = max(1, min(batch_size, len(waiting)) // 2)
                log.warning("%s: out of memory, continuing with %d texts at a time", what, batch_size)
                free_memory()


def _write(
    model: PreTrainedModel,
    jobs: Sequence[TextJob],
    batch_size: int,
    shown: Any,
    form: Form,
) -> None:
    """Write `jobs` to their ends; what is not finished after an error can be gone on with."""
    slots = min(batch_size, len(jobs))
    room = max(
        len(job.prompt) + (job.held.most_before if job.held else 0) + job.decoding.max_new_tokens
        for job in jobs
    )
    with ragged(model, slots, form, room) as cache:
        writer = TextWriter(cache, slots)
        writer.add(sorted(jobs, key=lambda job: (-len(job.tokens), job.index, job.sample)))
        while written := writer.step():
            shown.update(sum(job.finished for job in written))


def end_check(
    tokenizer: PreTrainedTokenizerBase, ends: frozenset[int], stop: Sequence[str], held: str = ""
) -> Callable[[TextJob], bool]:
    """Return a function that tells whether a text has come to an end token or a stop string.

    Args:
        held: what the text begins with, in which no stop string counts.
    """
    tail = max((len(word.encode()) for word in stop), default=0) + TAIL  # a token is at least one byte

    def is_end(job: TextJob) -> bool:
        if job.new[-1] in ends or not stop:
            return job.new[-1] in ends
        if len(job.new) <= tail + len(held):  # of which `held` takes a token a character at most
            text = continuation(tokenizer, job.prompt[-tail:], job.new)[len(held) :]
            return any(word in text for word in stop)
        before, last = [*job.prompt, *job.new[:-tail]], job.new[-tail:]
        text = continuation(tokenizer, before[-tail:], last)
        return any(word in text for word in stop)

    return is_end


def cut_at(text: str, stop: Sequence[str]) -> str:
    """Return `text` up to the first of the strings `stop`."""
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
    prompts: Sequence[str] | Sequence[Sequence[int]], max_new_tokens: int, before: Sequence[int],
) -> list[list[int]]:  # fmt: skip
    """Tokenize prompts given as text; cut starts off where they leave no room for the new tokens.

    Args:
        before: how many more tokens each prompt's text may take than `max_new_tokens`.
    """
    room = (context_tokens(model.config) or UNKNOWN_CONTEXT) - max_new_tokens
    if room < 1 + max(before, default=0):
        raise ValueError(
            f"max_new_tokens={max_new_tokens} leaves no room for a prompt in the model's context"
        )
    encoded = [
        (token_ids(tokenizer, prompt) if isinstance(prompt, str) else list(prompt))[-(room - more) :]
        for prompt, more in zip(prompts, before, strict=True)
    ]
    if [] in encoded:
        raise ValueError(f"prompt {encoded.index([])} is empty")
    return encoded
