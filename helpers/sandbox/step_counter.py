"""Work measured in steps instead of seconds: the same number on a slow, a busy and an idle machine.

A step is one event of Python's tracing: a line reached, a call, a return, an exception. Compiled code
(a sort, a matrix product) is one step however long it takes. The clock covers that case; its limit lies
far above what the steps allow.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any

from helpers.sandbox import run_conditions

IMPORTS = "<frozen importlib._bootstrap>"
STEPS_SPENT = 86  # exit status of a program that exceeded its step limit
OWN_FILES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
LOOPS = 2_000  # iterations of the loop that serves as the unit of processor time
THREAD_STARTERS = (("_thread", "start_new_thread"), ("_thread", "start_joinable_thread"),
                   ("threading", "_start_new_thread"), ("threading", "_start_joinable_thread"))  # fmt: skip


class StepCounter:
    """Counter of the steps of `counted` functions in this thread, without imports and sandbox code.

    Tracing stops if it would need a frame beyond the recursion limit or if a program calls
    `sys.settrace`; until the next call of a counted function only the clock limits the program.
    """

    def __init__(self, most: int, exit_now: Callable[[int], Any]) -> None:
        """Call `exit_now(STEPS_SPENT)` at the first step beyond `most`."""
        taken, importing = 0, False
        began_s, imports_s = 0.0, 0.0

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken > most:
                exit_now(STEPS_SPENT)
            return step

        def resumed(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal importing, imports_s
            if event == "return":
                importing = False
                imports_s += processor_s() - began_s
            return resumed

        def entered(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal importing, began_s
            code = frame.f_code
            if importing or code.co_filename.startswith(OWN_FILES):
                return None
            if code.co_filename == IMPORTS and code.co_name == "_find_and_load":
                importing, began_s = True, processor_s()
                return resumed
            return step(frame, event, argument)

        def reset() -> int:
            nonlocal taken, imports_s
            before, taken, imports_s = most + 1 if self._lost else taken, 0, 0.0
            self._lost = False
            return before

        self._entered, self._lost = entered, False
        self.imports_s = lambda: imports_s  # processor seconds of imports since the count was restarted
        self.reset = reset  # restarts the count; returns the old one, above `most` if it was lost

    def counted(
        self, function: Callable[..., Any], *, unless: Collection[str], restart: Collection[str]
    ) -> Callable[..., Any]:
        """Wrap `function` so that the steps of everything it calls are counted.

        A first argument in `unless` switches counting off for that call, one in `restart` restarts the
        count before it.
        """

        def call(*args: Any) -> Any:
            if args[0] in unless:
                return function(*args)
            if args[0] in restart:
                self.reset()
            before = sys.gettrace()
            sys.settrace(self._entered)
            try:
                return function(*args)
            finally:
                self._lost = self._lost or sys.gettrace() is not self._entered
                sys.settrace(before)

        return call


class Meter:
    """Measures this process's processor time, in runs of a small fixed loop, and its threads."""

    def __init__(self) -> None:
        self._started = 0
        self._loop_s = min(_elapsed_s(_loop) for _ in range(9))
        self._start_s = 0.0
        for module, name in THREAD_STARTERS:
            if starter := getattr(sys.modules.get(module), name, None):
                setattr(sys.modules[module], name, self._counted(starter))

    def start(self) -> None:
        """Start measuring here."""
        self._started, self._start_s, self._slept_s = 0, processor_s(), run_conditions.slept_s

    @property
    def threads(self) -> int:
        """Threads started since `start`, plus those that run now."""
        return self._started + sys.modules["_thread"]._count()

    @property
    def slept_s(self) -> float:
        """Seconds that `time.sleep` was asked for since `start`."""
        return run_conditions.slept_s - self._slept_s

    def loops(self, without_s: float = 0.0) -> float:
        """Return the processor time since `start`, less `without_s` seconds of it, in runs of the loop."""
        return (processor_s() - self._start_s - without_s) / self._loop_s

    def _counted(self, starter: Callable[..., Any]) -> Callable[..., Any]:
        def start(*args: Any, **kwargs: Any) -> Any:
            self._started += 1
            return starter(*args, **kwargs)

        return start


def processor_s() -> float:
    """Return the processor seconds of this process so far."""
    return time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)


def _elapsed_s(work: Callable[[], Any]) -> float:
    """Return elapsed seconds: some kernels count processor time in ticks far longer than a short loop."""
    start = time.clock_gettime(time.CLOCK_MONOTONIC)
    work()
    return max(time.clock_gettime(time.CLOCK_MONOTONIC) - start, 1e-7)


def _loop() -> int:
    total = 0
    for number in range(LOOPS):
        total += number
    return total
