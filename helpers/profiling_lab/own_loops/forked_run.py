"""Run work in a process of its own, forked from this one, and take what it costs from the kernel."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.errors import SuiteError

SHOWN_CHARACTERS = 500  # of what a failed process said


class ForkedRunError(SuiteError, RuntimeError):
    """The work in the other process failed; the message is the end of what it said."""


@dataclass(frozen=True)
class ForkedRun:
    """What the work returned, and its seconds from the fork to the end."""

    value: Any
    cpu_s: float
    wall_s: float


def run_forked(work: Callable[[], Any], folder: Path, core: int | None = None) -> ForkedRun:
    """Call `work` in a forked process, on one core with one thread, and wait for it.

    The process starts with everything that this one has imported, so that imports cost nothing. This one
    must not have computed with torch: its threads do not survive a fork.

    Args:
        work: returns plain JSON values.
        folder: receives what the process prints.
        core: by default the last that this process may use.

    Raises:
        ForkedRunError: if `work` raises, or its process is killed.
    """
    answer, said = folder / "answer.json", folder / "said.txt"
    answer.unlink(missing_ok=True)
    chosen = max(os.sched_getaffinity(0)) if core is None else core
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _work_and_exit(work, answer, said, chosen)
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.monotonic() - start
    if os.waitstatus_to_exitcode(status) != 0 or not answer.is_file():
        text = said.read_text(errors="replace").strip() if said.is_file() else ""
        raise ForkedRunError(text[-SHOWN_CHARACTERS:] or f"a process ended with status {status}")
    value = json.loads(answer.read_text(encoding="utf-8"))
    return ForkedRun(value, usage.ru_utime + usage.ru_stime, wall_s)


def _work_and_exit(work: Callable[[], Any], answer: Path, said: Path, core: int) -> None:
    status = 1
    try:
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.sched_setaffinity(0, {core})
        import torch

        torch.set_num_threads(1)
        answer.write_text(json.dumps(work()), encoding="utf-8")
        status = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)
