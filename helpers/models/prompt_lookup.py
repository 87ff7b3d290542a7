"""Guess the next tokens of a text from what stands earlier in it, its prompt included.

An answer about code copies much of its prompt. If the last tokens of a text occurred before, the tokens
after that place are a draft of what comes next ("prompt lookup decoding"), which a model checks in one pass.

A draft's worth depends on how many tokens match before it: of the first tokens drafted for SmolLM2's greedy
answers to Track B's prompts, .52 were right after 2 matching tokens, .70 after 3, .95 after 16 (`CHANCES`).
Each token that proves right makes the match longer. `Drafts` starts from these shares, goes over to those
of its own call, and drafts no token whose chance to be used is below what its computation costs.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

# Share of right drafts after 2, 3, ... 16 or more matching tokens: 2,852 tokens of 32 answers.
CHANCES = (0.52, 0.70, 0.75, 0.78, 0.78, 0.86, 0.91, 0.92, 0.93, 0.93, 0.93, 0.94, 0.94, 0.95, 0.95)
SHORTEST = 2  # matching tokens; after a single one .23 of the drafts were right
LONGEST = SHORTEST + len(CHANCES) - 1
PRIOR = 32  # drafts of this call that weigh as much as `CHANCES`
PLACES = 8  # the newest places that are compared
MAX_DRAFT = 16  # tokens per text and pass
MAX_DRAFTS = 192  # tokens of all texts per pass: their logits need memory


class EarlierText:
    """The tokens of one text, in which places like its end can be found; the list may grow."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens
        self._places: dict[tuple[int, int], list[int]] = {}  # two tokens -> where they were gone on from
        self._known = SHORTEST  # the first place that is not in `_places` yet

    def find(self) -> tuple[int, int]:
        """Return where the longest earlier match of the text's end goes on, and its length; or (0, 0)."""
        tokens = self.tokens
        for place in range(self._known, len(tokens)):
            self._places.setdefault((tokens[place - 2], tokens[place - 1]), []).append(place)
        self._known = max(self._known, len(tokens))
        best, length = 0, 0
        for place in reversed(self._places.get(tuple(tokens[-2:]), [])[-PLACES:]):  # type: ignore[arg-type]
            same = SHORTEST
            while same < min(place, LONGEST) and tokens[place - same - 1] == tokens[-same - 1]:
                same += 1
            if same > length:
                best, length = place, same
        return best, length


class Drafts:
    """Drafts for the texts of one call, and how often they were right."""

    def __init__(self) -> None:
        self._tried = [float(PRIOR)] * len(CHANCES)
        self._right = [PRIOR * chance for chance in CHANCES]

    def choose(
        self, texts: Sequence[EarlierText], limits: Sequence[int], worth: float
    ) -> list[tuple[int, list[int]]]:
        """Return, for each text, the length of the match and the tokens drafted after it.

        Args:
            limits: tokens that each text has room for.
            worth: the chance of being right and needed from which a token is drafted.
        """
        found = []
        chances: list[float] = []
        for text, limit in zip(texts, limits, strict=True):
            place, length = text.find() if limit > 0 else (0, 0)
            draft: list[int] = []
            chance = 1.0
            while length and len(draft) < min(limit, MAX_DRAFT):
                chance *= self._chance(length + len(draft))
                if chance < worth:
                    break
                at = place + len(draft)
                draft.append(text.tokens[at] if at < len(text.tokens) else draft[at - len(text.tokens)])
                chances.append(chance)
            found.append((length, draft))
        if len(chances) > MAX_DRAFTS:
            return self.choose(texts, limits, 1.0001 * heapq.nlargest(MAX_DRAFTS + 1, chances)[-1])
        return found

    def record(self, length: int, drafted: int, right: int) -> None:
        """Take note that the first `right` of `drafted` tokens were right after `length` matching ones."""
        for number in range(min(right + 1, drafted)):
            self._tried[self._row(length + number)] += 1
            self._right[self._row(length + number)] += number < right

    def _chance(self, length: int) -> float:
        return self._right[self._row(length)] / self._tried[self._row(length)]

    @staticmethod
    def _row(length: int) -> int:
        return min(length, LONGEST) - SHORTEST
