"""Observation of a program from outside: its processor time, threads and processes."""

from __future__ import annotations

import contextlib
import os
import signal
import time


def cpu_s(pid: int) -> float:
    """Return the processor seconds of all threads of a process; 0 if it has ended."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def overslept(pids: tuple[int, ...], wall_s: float, timeout_s: float) -> bool:
    """Return whether a program slept for longer than its time limit can justify.

    Time that a thread spent waiting for a processor does not count, so a loaded machine changes no
    verdict.
    """
    allowed_s = 1.5 * timeout_s + 1
    if wall_s <= allowed_s:
        return False
    try:
        waited_s = sum(map(_waited_s, pids))
    except (OSError, IndexError, ValueError):  # a kernel without these statistics
        return wall_s > 4 * timeout_s + 5
    return wall_s - waited_s > allowed_s


def _waited_s(pid: int) -> float:
    """Return how long the thread that waited longest has waited for a processor, in seconds."""
    longest = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/task/{thread}/schedstat") as stream:
            longest = max(longest, int(stream.read().split()[1]))
    return longest / 1e9


def threads_of(pid: int) -> int:
    """Return the number of threads of a process; 0 if it has ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def end_children(keep: tuple[int, ...]) -> None:
    """Kill and reap all processes but `keep` that a program left; this process adopts orphans."""
    while True:
        try:
            left = _children().difference(keep)
        except OSError:  # a kernel without this list
            left = set(_descendants(os.getpid())).difference(keep)
        if not left:
            return
        for child in {*left, *_descendants(os.getpid())}.difference(keep):
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        for child in left:
            with contextlib.suppress(OSError):
                os.waitpid(child, os.WNOHANG)
        time.sleep(0.001)


def _children() -> set[int]:
    """Return this process's children; asked after every program, so without the layers of `open`."""
    descriptor, text = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY), b""
    try:
        while part := os.read(descriptor, 2**16):
            text += part
    finally:
        os.close(descriptor)
    return set(map(int, text.split()))


def _descendants(parent: int) -> list[int]:
    """List all descendants from /proc; direct children alone would miss a tree that is not yet orphaned."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat") as stream:
                parents[int(name)] = int(stream.read().rpartition(")")[2].split()[1])
    found = [parent]
    for pid in found:
        found.extend(child for child, above in parents.items() if above == pid)
    return found[1:]
