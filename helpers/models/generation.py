"""Batched text generation that gives the same text whatever else is in the batch.

It is fast for four reasons. Texts are read together without padding, and a new text takes the place of a
finished one at once (`helpers.models.ragged_cache`). What two texts have in common at their start is read
once: the template, and the prompt of several samples. Answers copy much of their prompts, so tokens are
guessed from there, and checked in the pass that the text needs anyway (`helpers.models.prompt_lookup`).
The logits of a prompt's inner tokens are not computed, and adapters are summed into float32 weights.

Checking guesses changes no text. The token of each position is chosen as without them, greedily or by the
position's own random number, and a guess counts only where it is that very token.

Every sample draws from its own random stream, seeded by seed, prompt number and sample number. So its text
depends neither on the other prompts or the batch size, nor on how many processes share the prompts under
`accelerate launch`. Weights and logits keep the model's precision: with bfloat16 products a row's result
would depend on the rows beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from helpers.machine.hardware import Runtime
from helpers.machine.memory import is_out_of_memory
from helpers.machine.processes import across_ranks
from helpers.machine.progress import bar
from helpers.machine.usage import free_memory
from helpers.models.cheaper_forms import merged_adapters
from helpers.models.infilling import FAMILIES
from helpers.models.prompt_lookup import Drafts, EarlierText
from helpers.models.ragged_cache import Fed, PlainCaches, RaggedCache, ragged
from helpers.models.tokens import continuation, token_ids, turn_end_id

# Stop tokens of the families in use, in addition to those in the model's own configuration.
STOP_TOKENS = (
    "<|endoftext|>", "<|im_end|>", "<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", "<fim_pad>", "<file_sep>",
    "<repo_name>", *(mark for marks in FAMILIES for mark in marks),
)  # fmt: skip
UNKNOWN_CONTEXT = 2048  # tokens, of a model whose configuration does not say
READ_AT_ONCE = 4096  # tokens of prompts in one pass; limits memory
SHARED = 16  # tokens in common with a prompt being read, for which another prompt waits a pass
# What a pass costs beside its tokens, in tokens: weights are read, layers called.
PASS_COST = {"cpu": 16}
PASS_COST_ELSEWHERE = 400

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
    decoding = _Decoding(temperature, max_new_tokens, is_end)

    def drawn(index: int, sample: int) -> np.ndarray | None:
        return _draws(seed, index, sample, max_new_tokens) if temperature else None

    def write(indices: Sequence[int]) -> list[list[str]]:
        """Return the `n` texts of each of these prompts."""
        jobs = [
            _Job(i, sample, encoded[i], encoded[i].copy(), drawn(i, sample))
            for i in indices
            for sample in range(n)
        ]
        with merged_adapters(model):
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


@dataclass
class _Job:
    """One text being written: sample `sample` of prompt `index`."""

    index: int
    sample: int
    prompt: list[int]
    tokens: list[int]  # prompt and new tokens
    draws: np.ndarray | None  # one uniform number per new token; None if greedy
    new: list[int] = field(default_factory=list)
    finished: bool = False


@dataclass
class _Row:
    """A text in a slot of the cache."""

    job: _Job
    earlier: EarlierText
    read: int  # tokens whose states the slot holds


def _finish(
    model: PreTrainedModel, jobs: Sequence[_Job], decoding: _Decoding, batch_size: int, what: str
) -> None:
    """Write all `jobs` to their ends, `batch_size` at a time, fewer after running out of memory."""
    with bar(what, total=len(jobs), unit="text") as shown:
        while waiting := [job for job in jobs if not job.finished]:
            fits = True
            try:
                _write(model, waiting, decoding, batch_size, shown)
            except (RuntimeError, MemoryError) as error:
                if batch_size == 1 or not is_out_of_memory(error):
                    raise
                fits = False
            if not fits:  # outside the handler, where the error would still hold the failed call's tensors
                batch_size = max(1, min(batch_size, len(waiting)) // 2)
                log.warning("%s: out of memory, continuing with %d texts at a time", what, batch_size)
                free_memory()


def _write(
    model: PreTrainedModel, jobs: Sequence[_Job], decoding: _Decoding, batch_size: int, shown: Any
) -> None:
    """Write `jobs` to their ends; what is not finished after an error can be gone on with."""
    with ragged(model, min(batch_size, len(jobs))) as cache:
        _Writer(cache, jobs, decoding, batch_size, shown).write()


class _Writer:
    """Writes texts, as many at a time as the cache has slots; row i is in slot i."""

    def __init__(
        self,
        cache: RaggedCache | PlainCaches,
        jobs: Sequence[_Job],
        decoding: _Decoding,
        slots: int,
        shown: Any,
    ) -> None:  # fmt: skip
        self.cache, self.decoding, self.slots, self.shown = cache, decoding, slots, shown
        self.waiting = sorted(jobs, key=lambda job: (-len(job.tokens), job.index, job.sample))
        self.rows: list[_Row | None] = []
        self.held: list[list[int]] = []  # by slot, the tokens whose states it holds, even of finished texts
        self.drafts = Drafts()

    def write(self) -> None:
        """Write all texts to their ends."""
        while True:
            self._admit()
            self._close_gaps()
            if not self.rows:
                return
            self._step([row for row in self.rows if row])

    def _admit(self) -> None:
        """Give waiting texts the free slots, and each what another slot holds of its beginning."""
        free = [slot for slot, row in enumerate(self.rows) if row is None]
        free += range(len(self.rows), self.slots)
        taken: list[list[int]] = []  # texts that begin to be read now
        later: list[_Job] = []
        budget = READ_AT_ONCE
        for at, job in enumerate(self.waiting):
            if len(taken) == len(free) or budget <= 0:
                later += self.waiting[at:]
                break
            start = job.tokens[:-1]  # the last token is always read, for its logits
            known = [_common(held, start) for held in self.held] if self.cache.shares else []
            most = max(known, default=0)
            coming = max((_common(other, start) for other in taken), default=0)
            if self.cache.shares and coming - most >= SHARED:
                later.append(job)
                continue
            self._place(job, free[len(taken)], known.index(most) if most else None, most)
            taken.append(job.tokens)
            budget -= len(job.tokens) - most
        self.waiting = later

    def _place(self, job: _Job, slot: int, source: int | None, length: int) -> None:
        """Put a text into a slot, with the states of its first `length` tokens."""
        while slot >= len(self.rows):
            self.rows.append(None)
            self.held.append([])
        if source is not None:
            self.cache.copy(source, slot, length)
        self.rows[slot] = _Row(job, EarlierText(job.tokens), length)
        self.held[slot] = job.tokens[:length]

    def _close_gaps(self) -> None:
        """Move the last rows into slots that nothing waits for."""
        while None in self.rows:
            last, read = self.rows.pop(), self.held.pop()
            if last is not None:
                gap = self.rows.index(None)
                self.cache.copy(len(self.rows), gap, last.read)
                self.rows[gap], self.held[gap] = last, read

    def _step(self, rows: Sequence[_Row]) -> None:
        """Read what is new of each text, with a draft, and add the tokens chosen after it."""
        limits = [self.decoding.max_new_tokens - len(row.job.new) - 1 for row in rows]
        cost = PASS_COST.get(self.cache.device.type, PASS_COST_ELSEWHERE)
        guessed = self.drafts.choose(
            [row.earlier for row in rows], limits if self.cache.drafts else [0] * len(rows),
            worth=len(rows) / (len(rows) + cost),
        )  # fmt: skip
        chosen = self._choose(rows, [draft for _, draft in guessed])
        at = 0
        for slot, (row, (length, draft)) in enumerate(zip(rows, guessed, strict=True)):
            right = self._add(row.job, chosen[at : at + len(draft) + 1], draft)
            at += len(draft) + 1
            self.drafts.record(length, len(draft), right)
            row.read = len(row.job.tokens) - 1
            self.held[slot] = row.job.tokens[: row.read]
            if row.job.finished:
                self.rows[slot] = None
                self.shown.update(1)

    def _choose(self, rows: Sequence[_Row], drafts: Sequence[list[int]]) -> list[int]:
        """Return the token that comes after each row's last one, and after each of its draft's, in turn."""
        logits = self.cache.read(
            [
                Fed(slot, row.read, row.job.tokens[row.read :] + draft, len(draft) + 1)
                for slot, (row, draft) in enumerate(zip(rows, drafts, strict=True))
            ]
        )
        if not self.decoding.temperature:
            return logits.argmax(-1).tolist()
        draws = [
            row.job.draws[len(row.job.new) : len(row.job.new) + len(draft) + 1]
            for row, draft in zip(rows, drafts, strict=True)
            if row.job.draws is not None
        ]
        return _sample(logits / self.decoding.temperature, np.concatenate(draws)).tolist()

    def _add(self, job: _Job, chosen: Sequence[int], draft: Sequence[int]) -> int:
        """Add the tokens that were chosen after right ones; return how many of the draft were right."""
        for number, token in enumerate(chosen):
            job.new.append(token)
            job.tokens.append(token)
            job.finished = len(job.new) == self.decoding.max_new_tokens or self.decoding.is_end(job)
            right = number < len(draft) and token == draft[number]
            if job.finished or not right:
                return number + right
        return len(draft)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two texts have in common at their start."""
    for number, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return number
    return min(len(one), len(other))


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
