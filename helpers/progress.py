"""Progress for anything over a few seconds: one plain-text bar, no widgets.

Bars go to stderr, which the command line shows live and the HTML export leaves out. In a
notebook they are ordinary text: Colab's widget metadata breaks nbconvert (nbconvert #1731).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_hidden = False


def progress(items: Iterable[T], what: str, *, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yield `items` under a bar labelled `what`; the bar is refreshed at most once a second."""
    yield from bar(what, total=total, unit=unit, iterable=items)


def bar(what: str, *, total: int | None = None, unit: str = "it", iterable: Iterable | None = None) -> tqdm:
    """A bar to update by hand (`with bar(...) as b: b.update(n)`)."""
    return tqdm(
        iterable, desc=what, total=total, unit=unit, file=sys.stderr, mininterval=1.0,
        dynamic_ncols=False, ncols=88, leave=False, disable=_hidden,
    )  # fmt: skip


def hide_bars() -> None:
    """Show none from now on: for one of several processes, whose bars would write over each other."""
    global _hidden
    _hidden = True
