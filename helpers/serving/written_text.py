"""One text that a request asks for, while it is being written: what may be sent of it, and why it ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from helpers.lines import lines_of
from helpers.models.generation import cut_at, end_check, text_draws
from helpers.models.text_writer import Decoding, TextJob
from helpers.models.token_borders import HeldText
from helpers.models.tokens import continuation
from helpers.serving.served_models import ServedLm

BEFORE = 16  # tokens of the prompt that new tokens are decoded with
UNFINISHED = "\ufffd"  # what a decoder writes for bytes that are no character yet
LINE_ENDS = ("\n", "\r")
Reason = Literal["", "stop", "length"]


@dataclass(frozen=True)
class TextRequest:
    """What a request says about its texts."""

    decoding: Decoding
    seed: int = 0
    stop: tuple[str, ...] = ()
    least_indent: int = 0  # blanks; a line with fewer ends the text before it
    most_seconds: float | None = None  # from the first token on, after which a whole line ends the text


class WrittenText:
    """One text. `update` and `fail` are called by the engine's thread, the rest by the one who waits.

    Args:
        held: white space that the model writes first, which is no part of the text.
        index, sample: number of the prompt in its request, and of the text after it; with the seed they
            decide the random numbers, as in `helpers.models.generation.generate`.
        on_change: called by the engine's thread with this text whenever it has got longer or has ended.
    """

    def __init__(
        self, lm: ServedLm, prompt: Sequence[int], request: TextRequest,
        on_change: Callable[[WrittenText], None], *, held: str = "", index: int = 0, sample: int = 0,
    ) -> None:  # fmt: skip
        self.lm, self.request, self.on_change = lm, request, on_change
        decoding = request.decoding
        first = HeldText(lm.tokenizer, held) if held else None
        most = decoding.max_new_tokens + (first.most_before if first else 0)
        draws = text_draws(request.seed, index, sample, most) if decoding.temperature else None
        self._is_complete = end_check(lm.tokenizer, lm.ends, request.stop, held)
        self.index, self.sample, self._held = index, sample, held
        self.job = TextJob(index, sample, [*prompt], [*prompt], decoding, self._is_end, draws, first)
        self.text = ""  # final: later tokens only add to it
        self.reason: Reason = ""
        self.error: Exception | None = None
        self.times = Times()
        self._given_up = threading.Event()

    @property
    def has_ended(self) -> bool:
        """Return whether nothing will be added."""
        return bool(self.reason) or self.error is not None

    def give_up(self) -> None:
        """Say that nobody waits for this text any more."""
        self._given_up.set()

    def is_given_up(self) -> bool:
        """Return whether `give_up` was called."""
        return self._given_up.is_set()

    def update(self) -> None:
        """Take over what the job has got."""
        if self.job.written:  # not while it writes what comes before the text
            self.times.first = self.times.first or time.monotonic()
        whole, has_stopped = self._cut()
        if self.job.finished:
            self.times.last = time.monotonic()
            self.text = whole  # before the reason: whoever sees that it has ended sees all of it
            self.reason = "stop" if has_stopped or self._is_complete(self.job) else "length"
        else:
            self.text = whole[: len(whole) - self._unsettled(whole)]
        self.on_change(self)

    def fail(self, error: Exception) -> None:
        """End this text with an error."""
        self.error = error
        self.on_change(self)

    def _cut(self) -> tuple[str, bool]:
        """Return the text up to where it has to end, and whether it has to."""
        new = [token for token in self.job.new if token not in self.lm.ends]
        written = continuation(self.lm.tokenizer, self.job.prompt[-BEFORE:], new)[len(self._held) :]
        whole = cut_at(written, self.request.stop)
        kept = _indented(whole, self.request.least_indent)
        return kept, len(kept) < len(whole) or len(whole) < len(written)

    def _unsettled(self, text: str) -> int:
        """Return how many characters at the end may still be cut off, or become another character."""
        most = len(text) - len(text.rstrip(UNFINISHED))
        begun = text[max(text.rfind(end) for end in LINE_ENDS) + 1 :]
        if self.request.least_indent and not begun.strip():  # it may become a line that is cut off
            most = max(most, len(begun))
        for word in self.request.stop:
            for length in range(min(len(word) - 1, len(text)), most, -1):
                if word.startswith(text[-length:]):
                    most = length
                    break
        return most

    def _is_end(self, job: TextJob) -> bool:
        if self._is_complete(job):
            return True
        limit = self.request.most_seconds
        if not self.request.least_indent and limit is None:
            return False
        whole, has_stopped = self._cut()
        started = self.times.first
        return has_stopped or bool(
            limit is not None and started and time.monotonic() - started > limit and "\n" in whole
        )


@dataclass
class Times:
    """When a text was asked for, and when its first and last tokens were there, in monotonic seconds."""

    asked: float = field(default_factory=time.monotonic)
    first: float = 0.0
    last: float = 0.0


def _indented(text: str, least: int) -> str:
    """Return `text` up to its first line that is indented by less than `least`, the cursor's aside."""
    at = 0
    for number, line in enumerate(lines_of(text) if least else ()):
        if number and line.strip() and len(line) - len(line.lstrip()) < least:
            return text[:at]
        at += len(line)
    return text
