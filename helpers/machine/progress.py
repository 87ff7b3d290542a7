"""Progress for anything that takes more than a few seconds: one plain-text bar, no widgets.

Bars go to stderr, which the HTML export omits. In a notebook they are ordinary text, because Colab's
widget metadata breaks nbconvert (nbconvert #1731). Under `python -m helpers run`, libraries write their
warnings to the kernel's stderr too. There, each state of a bar and each event of a step (it begins,
ends or is found) is one marked line that only the command line reads (`helpers.report.live_line`).
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
MARKED = "PROGRESS_AS_MARKED_LINES"  # environment variable that requests marked lines
MARK = "\x1e"  # the record separator, which no library's message contains
_LINE = re.compile(rf"{MARK}([^\n]*)\n")
_numbers = itertools.count(1)
_hidden = False
_control = ""  # prefix of a plain bar's label while a control is computed
_parts: tuple[str, int, int] | None = None  # what a step's parts are called, which one runs, how many


def progress(items: Iterable[T], what: str, *, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yield `items` under a bar labelled `what`, which refreshes at most once a second."""
    yield from bar(what, total=total, unit=unit, iterable=items)


def bar(what: str, *, total: int | None = None, unit: str = "it", iterable: Iterable | None = None) -> tqdm:
    """Return a bar to update by hand (`with bar(...) as b: b.update(n)`)."""
    part = f"{_parts[0]} {_parts[1]} of {_parts[2]}, " if _parts else ""
    marked = MARKED in os.environ
    kind, label = (_MarkedBar, part + what) if marked else (tqdm, _control + part + what)
    return kind(
        iterable, desc=label, total=total, unit=unit, file=io.StringIO() if marked else sys.stderr,
        mininterval=1.0, dynamic_ncols=False, ncols=88, leave=False, disable=_hidden,
    )  # fmt: skip


def hide_bars() -> None:
    """Hide all bars from now on; for one of several processes, whose bars would overwrite each other."""
    global _hidden
    _hidden = True


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Hide all bars inside the block: a server computes for others, and its terminal is a log."""
    global _hidden
    before, _hidden = _hidden, True
    try:
        yield
    finally:
        _hidden = before


@contextlib.contextmanager
def part(what: str, number: int, of: int) -> Iterator[None]:
    """Label bars inside the block with `what` `number` of `of`; all parts are similar in size."""
    global _parts
    before, _parts = _parts, (what, number, of) if of > 1 else _parts
    try:
        yield
    finally:
        _parts = before


@contextlib.contextmanager
def stage_events(name: str, *, control: bool = False) -> Iterator[Callable[[], None]]:
    """Report what becomes of step `name` of a run; yield a function to call if it must be computed.

    Without that call the step counts as found: it costs nothing, and the estimate of the time left
    drops it.

    Args:
        name: the step's stage, such as "track_a/train".
        control: label the step's bars as a control's, to tell them from those of the training it repeats.
    """
    global _control
    begun = []

    def begins() -> None:
        global _control
        begun.append(name)
        _control = "control: " if control else ""
        _tell({"event": "begins", "stage": name})

    outcome = "failed"
    try:
        yield begins
        outcome = "ended" if begun else "found"
    finally:
        _control = ""
        _tell({"event": outcome, "stage": name})


def take_marked(text: str) -> tuple[list[dict[str, Any]], str]:
    """Split `text` into the messages of its marked lines and the text without these lines.

    >>> take_marked('a warning\\n\\x1e{"event": "found", "stage": "x"}\\n')
    ([{'event': 'found', 'stage': 'x'}], 'a warning\\n')
    """
    messages = []
    for line in _LINE.findall(text):
        with contextlib.suppress(ValueError):
            messages.append(json.loads(line))
    return messages, _LINE.sub("", text)


def _tell(message: dict[str, Any]) -> None:
    if MARKED in os.environ and not _hidden:
        sys.stderr.write(f"{MARK}{json.dumps(message)}\n")
        sys.stderr.flush()


class _MarkedBar(tqdm):
    """A bar whose states are marked lines; tqdm decides when one is due and how to count."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.number = next(_numbers)  # tqdm reuses its own numbers
        self.parts = _parts and _parts[1:]
        super().__init__(*arguments, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Write the bar's state as a marked line; tqdm passes "" when the bar is closed."""
        if msg == "":
            _tell({"event": "closed", "bar": self.number})
            return True
        state = {"event": "bar", "bar": self.number, "what": self.desc.removesuffix(": "), "n": self.n}
        state |= {"total": self.total, "unit": self.unit, "note": self.postfix or "", "parts": self.parts}
        _tell(state)
        return True
