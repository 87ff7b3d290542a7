"""The two kinds of child that a warm process forks: the candidate program and the judge.

Both give up their rights before they parse or run anything that someone else wrote.
"""

from __future__ import annotations

import os
import resource
import socket
import sys

from helpers.sandbox.candidate import guard_files, run_candidate
from helpers.sandbox.confine import Confinement
from helpers.sandbox.judge import THREADS_RUN, needs_own_process, run_judge
from helpers.sandbox.run_conditions import RunConditions, enter, hand_out, seed_generators

CONFINED = b"confined"  # a child reports this once it is safe to run the program in it
# First byte of a judge's answer; THREADS means passed, with threads of the program still running.
PASSED, THREADS, NOT_PASSED, GONE = b"p", b"t", b"n", b"g"
NEEDS_OWN_PROCESS, NEEDS_FILES = b"o", b"f"  # tests of the second kind share the program's folder
_WORDS = {"passed": PASSED, THREADS_RUN: THREADS, "gone": GONE}
REUSABLE, ENDS = b"+", b"."  # second byte
PROGRAMS_PER_JUDGE = 1000
JUDGE_MEMORY_MB = 2048
GROWTH_KIB = 64 * 1024  # a judge that grew by more is replaced


def be_candidate(
    confinement: Confinement, limits: dict, conditions: RunConditions, landlock: int | None,
    source: int, channel: int, report: int,
) -> None:  # fmt: skip
    """Run the program in file `source`, answer on `channel`, and report confinement on `report`."""
    text = os.pread(source, os.fstat(source).st_size, 0).decode("utf-8", "surrogatepass")
    try:
        confinement.apply(int(limits["timeout_s"]) + 2, limits["memory_mb"], landlock, (channel, report))
    except Exception as error:
        os.write(report, f"{type(error).__name__}: {error}"[:500].encode())
        raise
    os.write(report, CONFINED)
    os.close(report)
    folder = os.getcwd()
    _forget_temporary_folder()
    if landlock is None and confinement.uid is None:
        guard_files(folder)
    enter(conditions)
    run_candidate(channel, text, folder, conditions=conditions, max_steps=limits.get("max_steps"))


def be_judge(
    confinement: Confinement, control: int, conditions: RunConditions, landlock: int | None, *,
    kept: bool, sibling: int,
) -> None:  # fmt: skip
    """Judge the programs whose descriptors arrive over `control`: channel, request, output.

    A judge that is `kept` for many programs accepts only requests that cannot leave a trace in it and
    answers the others with NEEDS_OWN_PROCESS or NEEDS_FILES. `sibling` 0 gives it the program's user id.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    # The warm process watches the time per program; this limit only ends a judge that outlives it.
    confinement.apply(24 * 3600, JUDGE_MEMORY_MB, landlock, (control,), sibling=sibling)
    hand_out()
    _forget_temporary_folder()
    link = socket.socket(fileno=control)
    start_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for left in reversed(range(PROGRAMS_PER_JUDGE if kept else 1)):
        data, descriptors, _, _ = socket.recv_fds(link, 1, 3)
        if not data:
            return
        channel, request, output = descriptors
        alone, files = needs_own_process(request) if kept else (False, False)
        if alone:
            word = NEEDS_FILES if files else NEEDS_OWN_PROCESS
        else:
            seed_generators(conditions.random_seed)
            word = _WORDS.get(run_judge(channel, output, request), NOT_PASSED)
        for descriptor in descriptors:
            os.close(descriptor)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start_kib > GROWTH_KIB
        ends = grown or left == 0
        link.sendall(word + (ENDS if ends else REUSABLE))
        if ends:
            return


def _forget_temporary_folder() -> None:
    """Let `tempfile` choose again: what was imported before the fork may have asked it already."""
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None
