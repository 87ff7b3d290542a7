"""Split sampling, encoding and scoring across the ranks of `accelerate launch`.

In a single process, as in every run of the notebook, nothing changes. `helpers.train.trainer` and
`helpers.train.sharing` describe how training is split.
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
    """Return the number of processes that the launcher started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def this_rank_only() -> Iterator[None]:
    """Turn `across_ranks` off inside the block, for work that not every rank does."""
    token = _shared.set(False)
    try:
        yield
    finally:
        _shared.reset(token)


def across_ranks(items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
    """Compute `work(items)`, one result per item in their order, on all ranks together.

    With a world size of n, each rank works on every n-th item, so items sorted by cost are split
    evenly, and each rank gets all results. An item's result must not depend on which other items are
    in its share. Every rank must make the same call, or the others wait forever (see
    `this_rank_only`).

    Args:
        items: the same on every rank.
        work: takes a share of the items; not called for an empty share.
    """
    if world_size() == 1 or not _shared.get():
        return list(work(items)) if len(items) else []
    from accelerate import PartialState  # imported late: it imports torch, which scoring does not need
    from accelerate.utils import gather_object

    state = PartialState()
    count = state.num_processes
    mine = items[state.process_index :: count]
    done = list(work(mine)) if len(mine) else []
    results: dict[int, R] = {}
    for rank, share in enumerate(gather_object([done])):
        results |= dict(zip(range(rank, len(items), count), share, strict=True))
    return [results[index] for index in range(len(items))]
