"""Sampling, encoding and scoring shared among the processes of `accelerate launch`.

In a single process, which every run of the notebook is, nothing is different. What training shares is
told in `helpers.train.trainer` and `helpers.train.sharing`.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_shared = contextvars.ContextVar("_shared", default=True)


def world_size() -> int:
    """How many processes the launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def this_rank_only() -> Iterator[None]:
    """Within it nothing is shared: for work that some processes do and others do not."""
    token = _shared.set(False)
    try:
        yield
    finally:
        _shared.reset(token)


def across_ranks(items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
    """What `work(items)` gives, one result an item in their order, computed by all processes together.

    Each process works on every n-th item, so that items sorted by cost are shared evenly, and gets the
    results of all. An item's result must not depend on which others are worked on beside it.
    Every process has to make the same call (else see `alone`); one that does not is waited for in vain.

    Args:
        work: not called for a share without items.
    """
    if world_size() == 1 or not _shared.get():
        return list(work(items)) if len(items) else []
    from accelerate import PartialState  # not above: it takes torch with it, which scoring has no need of
    from accelerate.utils import gather_object

    processes = PartialState()
    count = processes.num_processes
    mine = items[processes.process_index :: count]
    done = list(work(mine)) if len(mine) else []
    results: dict[int, R] = {}
    for first, share in enumerate(gather_object([done])):
        results |= dict(zip(range(first, len(items), count), share, strict=True))
    return [results[place] for place in range(len(items))]
