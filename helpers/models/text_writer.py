"""Write texts with a model, as many at a time as a cache has slots, each by its own rules.

A text that comes later takes a slot that is free, and what another slot holds of its beginning. `generate`
(`helpers.models.generation`) hands over all its texts at once; a server hands them over as they come in.
How a text goes on depends on its own tokens, rules and random numbers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch

from helpers.models.prompt_lookup import Drafts, EarlierText
from helpers.models.ragged_cache import Fed, PlainCaches, RaggedCache
from helpers.models.token_borders import HeldText
from helpers.models.tokens import in_common

READ_AT_ONCE = 4096  # tokens of prompts in one pass; limits memory
SHARED = 16  # tokens in common with a prompt being read, for which another prompt waits a pass
# What a pass costs beside its tokens, in tokens: weights are read, layers called.
PASS_COST = {"cpu": 16}
PASS_COST_ELSEWHERE = 400


@dataclass(frozen=True)
class Decoding:
    """How a text is written."""

    max_new_tokens: int
    temperature: float = 0.0  # 0: the likeliest token each time, whatever the three below say
    top_p: float = 1.0  # of the likeliest tokens, as few as have this probability together
    top_k: int = 0  # this many of the likeliest tokens; 0: all
    min_p: float = 0.0  # tokens at least this likely, compared with the likeliest


@dataclass(eq=False)
class TextJob:
    """One text being written: sample `sample` of prompt `index`."""

    index: int
    sample: int
    prompt: list[int]
    tokens: list[int]  # prompt and new tokens
    decoding: Decoding
    is_end: Callable[[TextJob], bool]  # whether the text is complete
    draws: np.ndarray | None = None  # one uniform number per new token; None if greedy
    held: HeldText | None = None  # what has to come first; no part of the text
    new: list[int] = field(default_factory=list)
    before: int = 0  # of the new tokens, those that hold nothing of the text
    finished: bool = False

    @property
    def written(self) -> int:
        """Return how many tokens of the text itself are written."""
        return len(self.new) - self.before


@dataclass
class _Row:
    """A text in a slot of the cache."""

    job: TextJob
    earlier: EarlierText
    read: int  # tokens whose states the slot holds


class TextWriter:
    """Writes texts, as many at a time as the cache has slots; row i is in slot i."""

    def __init__(self, cache: RaggedCache | PlainCaches, slots: int) -> None:
        self.cache, self.slots = cache, slots
        self.waiting: list[TextJob] = []
        self.rows: list[_Row | None] = []
        self.held: list[list[int]] = [[] for _ in range(slots)]  # tokens whose states each slot holds
        self.drafts = Drafts()

    def add(self, jobs: Sequence[TextJob]) -> None:
        """Take further texts to write, behind those that wait already."""
        self.waiting += jobs

    def step(self) -> list[TextJob]:
        """Read what is new of each text, and add tokens to it; return the texts that got some.

        The list is empty only if there is nothing to write. Texts that were set to `finished` from outside
        are given up.
        """
        self.waiting = [job for job in self.waiting if not job.finished]
        self.rows = [row if row and not row.job.finished else None for row in self.rows]
        self._admit()
        self._close_gaps()
        rows = [row for row in self.rows if row]
        if rows:
            self._read(rows)
        return [row.job for row in rows]

    def _admit(self) -> None:
        """Give waiting texts the free slots, and each what another slot holds of its beginning."""
        free = [slot for slot, row in enumerate(self.rows) if row is None]
        free += range(len(self.rows), self.slots)
        taken: list[list[int]] = []  # texts that begin to be read now
        later: list[TextJob] = []
        budget = READ_AT_ONCE
        for at, job in enumerate(self.waiting):
            if len(taken) == len(free) or budget <= 0:
                later += self.waiting[at:]
                break
            start = job.tokens[:-1]  # the last token is always read, for its logits
            known = [in_common(held, start) for held in self.held] if self.cache.shares else []
            most = max(known, default=0)
            coming = max((in_common(other, start) for other in taken), default=0)
            if self.cache.shares and coming - most >= SHARED:
                later.append(job)
                continue
            self._place(job, free[len(taken)], known.index(most) if most else None, most)
            taken.append(job.tokens)
            budget -= len(job.tokens) - most
        self.waiting = later

    def _place(self, job: TextJob, slot: int, source: int | None, length: int) -> None:
        """Put a text into a slot, with the states of its first `length` tokens."""
        while slot >= len(self.rows):
            self.rows.append(None)
        if source is not None:
            self.cache.copy(source, slot, length)
        self.rows[slot] = _Row(job, EarlierText(job.tokens), length)
        self.held[slot] = job.tokens[:length]

    def _close_gaps(self) -> None:
        """Move the last rows into slots that nothing waits for."""
        while None in self.rows:
            last = self.rows.pop()
            if last is not None:
                gap = self.rows.index(None)
                self.cache.copy(len(self.rows), gap, last.read)
                self.rows[gap], self.held[gap] = last, last.job.tokens[: last.read]

    def _read(self, rows: Sequence[_Row]) -> None:
        """Read what is new of each text, with a draft, and add the tokens chosen after it."""
        limits = [row.job.decoding.max_new_tokens - row.job.written - 1 for row in rows]
        cost = PASS_COST.get(self.cache.device.type, PASS_COST_ELSEWHERE)
        only = [row.job.held.next_tokens(row.job.new) if row.job.held else None for row in rows]
        drafted = [0 if some is not None else limit for some, limit in zip(only, limits, strict=True)]
        guessed = self.drafts.choose(
            [row.earlier for row in rows], drafted if self.cache.drafts else [0] * len(rows),
            worth=len(rows) / (len(rows) + cost),
        )  # fmt: skip
        chosen = self._choose(rows, [draft for _, draft in guessed], only)
        at = 0
        for slot, (row, (length, draft)) in enumerate(zip(rows, guessed, strict=True)):
            right = self._add(row.job, chosen[at : at + len(draft) + 1], draft)
            at += len(draft) + 1
            self.drafts.record(length, len(draft), right)
            row.read = len(row.job.tokens) - 1
            self.held[slot] = row.job.tokens[: row.read]
            if row.job.finished:
                self.rows[slot] = None

    def _choose(
        self, rows: Sequence[_Row], drafts: Sequence[list[int]], only: Sequence[Sequence[int] | None]
    ) -> list[int]:
        """Return the token that comes after each row's last one, and after each of its draft's, in turn.

        Args:
            only: the tokens that may come after a row's last one; None: all. Such a row has no draft.
        """
        logits = self.cache.read(
            [
                Fed(slot, row.read, row.job.tokens[row.read :] + draft, len(draft) + 1)
                for slot, (row, draft) in enumerate(zip(rows, drafts, strict=True))
            ]
        )
        at = 0
        for some, draft in zip(only, drafts, strict=True):
            if some is not None:
                kept = logits[at, some]
                logits[at] = float("-inf")
                logits[at, some] = kept
            at += len(draft) + 1
        chosen: list[int] = []
        both = zip(rows, drafts, strict=True)
        for decoding, some in groupby(both, key=lambda one: one[0].job.decoding):
            group = list(some)
            part = logits[len(chosen) : len(chosen) + sum(len(draft) + 1 for _, draft in group)]
            if not decoding.temperature:
                chosen += part.argmax(-1).tolist()
                continue
            draws = [
                row.job.draws[len(row.job.new) : len(row.job.new) + len(draft) + 1]
                for row, draft in group
                if row.job.draws is not None
            ]
            chosen += _sample(part / decoding.temperature, np.concatenate(draws), decoding).tolist()
        return chosen

    def _add(self, job: TextJob, chosen: Sequence[int], draft: Sequence[int]) -> int:
        """Add the tokens that were chosen after right ones; return how many of the draft were right."""
        for number, token in enumerate(chosen):
            job.new.append(token)
            job.tokens.append(token)
            if job.held is not None and job.before == len(job.new) - 1 and job.held.covers(job.new):
                job.before += 1
            job.finished = job.written == job.decoding.max_new_tokens or job.is_end(job)
            right = number < len(draft) and token == draft[number]
            if job.finished or not right:
                return number + right
        return len(draft)


def _sample(logits: torch.Tensor, draws: np.ndarray, decoding: Decoding) -> torch.Tensor:
    """Sample by inverse CDF: row i takes the first token whose cumulative probability exceeds draw i.

    `logits` (n, vocabulary) are divided by the temperature already.
    """
    chances = _kept(torch.softmax(logits, dim=-1), decoding)
    cumulative = chances.cumsum(-1)
    wanted = torch.from_numpy(draws).to(cumulative)[:, None] * cumulative[:, -1:]
    # Rounding may take a draw to the end, where the last tokens can have probability 0.
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())
    chosen = torch.searchsorted(cumulative, wanted, right=True).minimum(last)[:, 0]
    return chosen.clamp(max=logits.shape[-1] - 1)  # of logits that are no numbers


def _kept(chances: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """Return probabilities (n, vocabulary) with those that `decoding` rules out set to 0.

    The rules are those of nucleus (Holtzman et al. 2020), top-k and min-p sampling, each applied to what
    the one before leaves: top_k, top_p, min_p. The likeliest token always stays.
    """
    if decoding.top_k <= 0 and decoding.top_p >= 1 and decoding.min_p <= 0:
        return chances
    ordered, tokens = chances.sort(dim=-1, descending=True, stable=True)
    stays = torch.ones_like(ordered, dtype=torch.bool)
    if decoding.top_k > 0:
        stays[:, decoding.top_k :] = False
    if decoding.top_p < 1:
        left = ordered * stays
        before = left.cumsum(-1) - left
        stays &= before < decoding.top_p * left.sum(-1, keepdim=True)
    stays &= ordered >= decoding.min_p * ordered[:, :1]
    stays[:, 0] = True
    return torch.zeros_like(chances).scatter(-1, tokens, ordered * stays)
