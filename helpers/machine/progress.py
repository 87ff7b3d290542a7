"""Progress for anything over a few seconds: one plain-text bar, no widgets.

Bars go to stderr, which the HTML export leaves out. In a notebook they are ordinary text: Colab's
widget metadata breaks nbconvert (nbconvert #1731). Under `python -m helpers run` the kernel's stderr is
shared with every library's warnings, so there each state of a bar, and each step of the run that begins,
ends or was found, is one marked line that only the command line reads (`helpers.report.live_line`).
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
MARKED = "PROGRESS_AS_MARKED_LINES"  # environment variable that asks for marked lines
MARK = "\x1e"  # the record separator: in no library's message
_LINE = re.compile(rf"{MARK}([^\n]*)\n")
_numbers = itertools.count(1)
_hidden = False
_control = ""  # before the label of a plain bar while a control is computed
_parts: tuple[str, int, int] | None = None  # what a step consists of, which of them runs, how many there are


def progress(items: Iterable[T], what: str, *, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yield `items` under a bar labelled `what`; the bar is refreshed at most once a second."""
    yield from bar(what, total=total, unit=unit, iterable=items)


def bar(what: str, *, total: int | None = None, unit: str = "it", iterable: Iterable | None = None) -> tqdm:
    """A bar to update by hand (`with bar(...) as b: b.update(n)`)."""
    part = f"{_parts[0]} {_parts[1]} of {_parts[2]}, " if _parts else ""
    marked = MARKED in os.environ
    kind, label = (_MarkedBar, part + what) if marked else (tqdm, _control + part + what)
    return kind(
        iterable, desc=label, total=total, unit=unit, file=io.StringIO() if marked else sys.stderr,
        mininterval=1.0, dynamic_ncols=False, ncols=88, leave=False, disable=_hidden,
    )  # fmt: skip


def hide_bars() -> None:
    """Show none from now on: for one of several processes, whose bars would write over each other."""
    global _hidden
    _hidden = True


@contextlib.contextmanager
def part(what: str, number: int, of: int) -> Iterator[None]:
    """Within it, bars say that they belong to `what` `number` of `of`, alike in size."""
    global _parts
    before, _parts = _parts, (what, number, of) if of > 1 else _parts
    try:
        yield
    finally:
        _parts = before


@contextlib.contextmanager
def step(name: str, *, control: bool = False) -> Iterator[Callable[[], None]]:
    """Around looking for step `name` of a run; yields what to call when it has to be computed.

    Without that call the step was found: it costs nothing, and the estimate of what is left drops it.

    Args:
        control: mark the bars of the step, which would look like those of the training that it repeats.
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
    """The messages among the marked lines of `text`, and `text` without these lines.

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
    """A bar whose states are marked lines; when one is due, and how it is counted, remains tqdm's."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.number = next(_numbers)  # tqdm's own is reused
        self.parts = _parts and _parts[1:]
        super().__init__(*arguments, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Tell the bar's state; tqdm passes "" when the bar is closed."""
        if msg == "":
            _tell({"event": "closed", "bar": self.number})
            return True
        state = {"event": "bar", "bar": self.number, "what": self.desc.removesuffix(": "), "n": self.n}
        state |= {"total": self.total, "unit": self.unit, "note": self.postfix or "", "parts": self.parts}
        _tell(state)
        return True
