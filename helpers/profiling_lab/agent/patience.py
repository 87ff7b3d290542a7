"""Ask a model again after failures that pass, within the time that its run has left."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from helpers.profiling_lab.agent.endpoint_errors import EndpointError

ATTEMPTS = 8  # a minute in all, unless the endpoint names its times
ATTEMPTS_UNHEARD = 5  # without any HTTP error to go by: eight seconds, as for a server that restarts
FIRST_WAIT_S = 0.5  # doubled for each attempt, unless the endpoint names a time

R = TypeVar("R")


class RunClock:
    """The time of one run: seconds since its start, without those in which it waited for its turn."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s, self._start, self._paused_s = limit_s, time.monotonic(), 0.0

    @property
    def used_s(self) -> float:
        """Seconds that count against the limit."""
        return time.monotonic() - self._start - self._paused_s

    @property
    def left_s(self) -> float:
        """Seconds until the limit; negative beyond it."""
        return self._limit_s - self.used_s

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of this block out."""
        since = time.monotonic()
        try:
            yield
        finally:
            self._paused_s += time.monotonic() - since


class OutOfTimeError(Exception):
    """The run's limit passed while the endpoint had not answered."""


def ask_patiently(
    ask: Callable[[float], R], clock: RunClock, tell: Callable[..., Any],
    sleep: Callable[[float], Any] = time.sleep,
) -> R:  # fmt: skip
    """Return what `ask(timeout_s)` returns, asking again after transient errors.

    It waits as long as the endpoint asks (`retry-after`), else twice as long as the time before. The clients'
    own retries do the same, but can outlast the run's limit several times over. Each wait is told to `tell`.

    Raises:
        EndpointError: if the error is not transient, the last attempt failed, or the endpoint asks to wait
            for longer than the run has left.
        OutOfTimeError: if the limit passes without an answer.
    """
    for attempt in range(1, ATTEMPTS + 1):
        if clock.left_s <= 0:
            raise OutOfTimeError
        try:
            return ask(clock.left_s)
        except EndpointError as error:
            if clock.left_s <= 0 and error.status is None:
                raise OutOfTimeError from error
            most = ATTEMPTS_UNHEARD if error.status is None else ATTEMPTS
            if not error.transient or attempt >= most:
                raise
            wait_s = error.retry_after_s
            if wait_s is None:
                wait_s = FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.75, 1.0)
            if wait_s >= clock.left_s:
                what = f"{error}; the next try, in {wait_s:.0f} s, would be after the run's time limit"
                raise EndpointError(what, transient=False, status=error.status) from None
            tell("retry", error=str(error), attempt=attempt, wait_s=round(wait_s, 3))
            sleep(wait_s)
    raise AssertionError("the last attempt returns or raises")
