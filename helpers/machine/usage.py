"""Measure the memory and wall-clock time that a step takes, and release memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

GIB = 2**30


def available_memory_gib() -> float:
    """Return the host memory this process may use: the machine's, or the cgroup's limit if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # without a limit the file says "max"
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total / GIB


def peak_memory_gib() -> float:
    """Return peak memory in GiB since the last reset: the accelerator's, else this process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / GIB
    own = _own_memory_gib("VmHWM")
    if own is not None:
        return own
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (GIB if sys.platform == "darwin" else 2**20)


def held_memory_gib() -> float:
    """Return memory held now in GiB: the accelerator's, else this process's (0 if unknown)."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated() / GIB
    return _own_memory_gib("VmRSS") or 0.0


def reset_peak_memory() -> None:
    """Restart `peak_memory_gib` from the memory held now, if the system supports that."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM (proc(5))


def _own_memory_gib(field: str) -> float | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 2**20
    return None


def free_memory() -> None:
    """Release the memory of models that nothing refers to any more, to the system where that is possible."""
    gc.collect()
    return_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def return_freed_memory() -> None:
    """Give back to the system what glibc keeps of freed host memory for later requests.

    Kept memory serves requests of the sizes that were freed. Work of another kind, such as validation amid
    training, asks for other sizes, and the process grows by gigabytes unless what it leaves is given back.
    Does not look for objects that nothing refers to any more; elsewhere than with glibc, does nothing.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def stopwatch() -> Iterator[dict[str, float]]:
    """Measure wall-clock seconds: `with stopwatch() as took: ...; took["seconds"]`."""
    took: dict[str, float] = {}
    start = time.perf_counter()
    try:
        yield took
    finally:
        took["seconds"] = time.perf_counter() - start
