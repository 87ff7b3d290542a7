"""Watching a program from outside and clearing up after it: its time, its processes, its folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from typing import Any


def used_up(candidate: int, judge: int, timeout_s: float, wall_s: float) -> bool:
    """Whether the program spent its processor time, or slept for longer than it could have needed.

    Time in which either process was ready but another program had the processor does not count,
    so a loaded machine changes no verdict.
    """
    try:
        if time.clock_gettime((~candidate << 3) | 2) > timeout_s:
            return True
        if time.clock_gettime((~judge << 3) | 2) > timeout_s + 5:
            return True
    except OSError:
        return False
    if wall_s <= 1.5 * timeout_s + 1:
        return False
    try:
        waited_s = _waited_s(candidate) + _waited_s(judge)
    except (OSError, IndexError, ValueError):
        return wall_s > 4 * timeout_s + 5
    return wall_s - waited_s > 1.5 * timeout_s + 1


def threads_of(pid: int) -> int:
    """Threads of a process; 0 when it has ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def _waited_s(pid: int) -> float:
    with open(f"/proc/{pid}/schedstat") as stream:
        return int(stream.read().split()[1]) / 1e9


def end_all_children() -> None:
    """Kill and reap whatever the program left: orphans come to this process, the subreaper."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            for child in _children_of(os.getpid()):
                with contextlib.suppress(OSError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.001)


def _children_of(parent: int) -> list[int]:
    """Every descendant, from /proc; the direct parent alone would miss a tree not yet orphaned."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat") as stream:
                parents[int(name)] = int(stream.read().rpartition(")")[2].split()[1])
    found = [parent]
    for pid in found:
        found.extend(child for child, above in parents.items() if above == pid)
    return found[1:]


def remove_tree(folder: str) -> None:
    """Remove a program's folder whatever it did to modes and depth."""
    try:
        os.rmdir(folder)  # the usual case: nothing was written
        return
    except OSError:
        pass

    def open_up(function: Any, path: str, _: Any) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)
            os.chmod(path, 0o700, follow_symlinks=False)
            function(path)

    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(folder, onerror=open_up)
    while os.path.isdir(folder) and _flatten(folder):
        with contextlib.suppress(OSError, RecursionError):
            shutil.rmtree(folder, onerror=open_up)


def _flatten(folder: str) -> bool:
    """Cut a nest too deep for recursion into a shallower one: whether anything was moved."""
    deep = folder
    for _ in range(200):
        below = [entry.name for entry in os.scandir(deep) if entry.is_dir(follow_symlinks=False)]
        if not below:
            return False
        deep = os.path.join(deep, below[0])
    try:
        os.rename(deep, os.path.join(folder, f"deep-{time.monotonic_ns()}"))
    except OSError:
        return False
    return True
