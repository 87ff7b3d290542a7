"""Execution conditions that must not affect a program's answers, and how to vary them.

A machine decides many things that a correct answer does not depend on: memory addresses, the string
hash seed, date, time zone, locale, working folder, stack depth, processor. A `RunConditions` fixes all
of them. Programs normally run under `BASE`, which is the same on every machine as far as a process can
arrange that. Each of `VARIATIONS` changes everything at once; each of `ALONE` changes one thing, to find
out which one an answer depends on.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

POOL_BITS = 14  # CPython allocates small objects from aligned pools of 16 KiB
POOL_HEADER = 48
PAGE = 4096
LARGEST_SMALL = 512  # bytes; larger objects come from malloc
LARGEST_HASHED = 256  # bytes; what is hashed by its address (functions, instances, tasks) is no larger
# Sets of free blocks in known order: one for a program's definition, one for its calls. Of each size they
# are a page each of one pool: every page costs every program a page fault, every pool makes forks dearer.
SHARES = 2
ALMOST_FULL = 8  # blocks of a pool that something else may hold
STIRRED = 10  # blocks of each size that change places between two cases
MOST_ROUNDS = 200  # limit on filling gaps: an allocator other than CPython's has no such pools
DAY, HOUR = 86_400, 3_600
CLOCKS = ("monotonic", "perf_counter", "process_time", "thread_time")
OLD_PROCESSOR = "-AVX2,-FMA,-FMA4,-AVX512F,-AVX512VL,-AVX512DQ,-AVX2_Usable,-FMA_Usable,-AVX512F_Usable"


class RunConditions(NamedTuple):
    """A value for everything that must not matter. Ordinary runs use the defaults.

    Not a dataclass: what that imports (`inspect`, `dis`, ...) every fork of the warm process would copy.
    """

    hash_seed: int = 0
    memory: int = 0  # seed of the order in which freed memory is reused
    random_seed: int = 0  # for generators that the program does not seed
    moved_s: int = 0  # offset of the date from the real one, in seconds
    clock_rate: float = 1.0  # speed of the clocks
    time_zone: str = "UTC0"  # in POSIX notation, which needs no database
    locale: str = "C.UTF-8"
    folder: str = ""  # appended to the name of the temporary folder
    recursion_limit: int = 1000  # frames
    depth: int = 0  # frames on the stack below the program
    collect_after: int = 700  # new containers before the garbage collector checks the youngest generation
    optimize: bool = False  # python -O
    names: int = 0  # seed of the order of a module's names; 0 keeps source order
    old_processor: bool = False  # vector instructions off in numpy, BLAS and the C library
    switch_s: float = 0.005  # seconds after which another thread gets its turn
    order: int = 0  # seed of the order of cases; 0 keeps the given order

    def environment(self) -> dict[str, str]:
        """Return the environment variables that a fresh interpreter must start with."""
        found = {"PYTHONHASHSEED": str(self.hash_seed), "TZ": self.time_zone, "LC_ALL": self.locale,
                 "LANG": self.locale, "PYTHONCOERCECLOCALE": "0"}  # fmt: skip
        if self.locale == "C":
            found["PYTHONUTF8"] = "0"
        if self.folder:
            found |= {"UNRELATED": self.folder, "PATH": f"/{self.folder}:/usr/bin:/bin"}
        if self.old_processor:
            found |= _old_processor()
        return found


BASE = RunConditions()
_FIRST = RunConditions(
    hash_seed=1, memory=1, random_seed=1, moved_s=398 * DAY + 7 * HOUR + 821, clock_rate=1e6,
    time_zone="AAA-5:30", locale="tr_TR.UTF-8", folder="a-longer-name-than-usual", recursion_limit=1061,
    depth=30, names=1, switch_s=1e-5, collect_after=5, order=1,
)  # fmt: skip
# Weekday, hour and minute differ between all of these, whenever this runs.
VARIATIONS: tuple[RunConditions, ...] = (
    _FIRST,
    _FIRST._replace(
        hash_seed=2, memory=2, random_seed=2, moved_s=-4017 * DAY + 13 * HOUR + 2231,
        clock_rate=1e-3, time_zone="BBB9:30", locale="C", folder="x", recursion_limit=900, depth=0, names=2,
        switch_s=0.5, collect_after=50, order=2, old_processor=True,
    ),
    _FIRST._replace(
        hash_seed=31337, memory=3, random_seed=3, moved_s=45 * DAY + 18 * HOUR + 3149,
        time_zone="CCC-14", locale="de_DE.UTF-8", folder="y" * 47, recursion_limit=3000, depth=200, names=3,
        switch_s=1e-6, collect_after=10**9, order=3, optimize=True,
    ),
    _FIRST._replace(
        hash_seed=4, memory=4, moved_s=9004 * DAY + 2 * HOUR + 1313, folder="z" * 90, names=4,
        recursion_limit=1000, depth=17, collect_after=31, order=4,
    ),
    _FIRST._replace(
        hash_seed=5, memory=5, moved_s=-213 * DAY + 22 * HOUR + 317, folder="", names=5, depth=5,
        collect_after=300, order=5,
    ),
)  # fmt: skip
# What an answer depends on -> conditions that differ from `BASE` only in that, most likely first.
ALONE: dict[str, RunConditions] = {
    "on memory addresses": BASE._replace(memory=6),
    "on the processor's rounding": BASE._replace(old_processor=True),
    "on the hash seed": BASE._replace(hash_seed=6),
    "on what ran before it": BASE._replace(order=6),
    "on random numbers that nobody seeded": BASE._replace(random_seed=6),
    "on time": BASE._replace(moved_s=398 * DAY + 7 * HOUR + 821, clock_rate=1e6),
    "on when garbage is collected": BASE._replace(collect_after=5),
    "on the time zone": BASE._replace(time_zone="AAA-5:30"),
    "on the locale": BASE._replace(locale="tr_TR.UTF-8"),
    "on the folder it runs in": BASE._replace(folder="a-longer-name-than-usual"),
    "on the depth of the stack": BASE._replace(depth=200, recursion_limit=3000),
    "on the order of a module's names": BASE._replace(names=6),
    "on assert statements, which python -O drops": BASE._replace(optimize=True),
    "on the timing of threads": BASE._replace(switch_s=1e-6),
}


def prepare(conditions: RunConditions) -> None:
    """Wrap the clocks so that `enter` can move them; call before a warm process imports anything else.

    Modules keep references to the clocks they import, so the wrapping must come first. Until a child
    calls `enter`, the clocks run unchanged.
    """
    if conditions.clock_rate != 1.0:
        for name in CLOCKS:
            for clock, kind in ((name, float), (f"{name}_ns", int)):
                setattr(time, clock, _moving_clock(getattr(time, clock), conditions.clock_rate, kind))
        time.sleep = _counting_sleep(time.sleep)
    if conditions.moved_s:
        _time_machine()


def settle(conditions: RunConditions) -> None:
    """Reserve memory that children will use first, and seed; call when a warm process has imported all.

    The warm process itself touches neither, so every child finds the same, whatever ran before it.
    """
    seed_generators(conditions.random_seed)
    fresh, filling = arrange_memory(conditions.memory)
    _fresh.extend(fresh)
    _held.extend(filling)


def enter(conditions: RunConditions) -> None:
    """Put the conditions into effect in a child, before it runs a program."""
    global _clocks_moved
    hand_out()
    _clocks_moved = True
    sys.setswitchinterval(conditions.switch_s)
    sys.setrecursionlimit(conditions.recursion_limit)
    gc.set_threshold(conditions.collect_after, 10, 10)
    if conditions.moved_s:
        _time_machine().travel(time.time() + conditions.moved_s, tick=True).start()
        # Not earlier: the library looks up the compiled functions under these names.
        time.time = _moving_clock(time.time, conditions.clock_rate, float)
        time.time_ns = _moving_clock(time.time_ns, conditions.clock_rate, int)


def hand_out() -> None:
    """Free one share of the memory that `settle` reserved, in its order; new objects go there.

    A child calls this when it starts and again before the first call of its program, because how much
    it allocates in between depends on paths and on what the process did before.
    """
    if _fresh:
        _fresh.pop(0).clear()  # each from last to first


def seed_generators(seed: int) -> None:
    """Seed the global generators, so that runs draw equal numbers."""
    if "random" in sys.modules:
        sys.modules["random"].seed(seed)
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(seed)


def deeper(frames: int, function: Callable[[], Any]) -> Any:
    """Call `function` with `frames` more frames on the stack below it."""
    return function() if frames <= 0 else deeper(frames - 1, function)


def reorder_names(seed: int, *namespaces: dict[str, Any]) -> None:
    """Shuffle the order of each namespace's names; seed 0 leaves it unchanged."""
    for namespace in namespaces if seed else ():
        items = sorted(namespace.items())
        random.Random(seed).shuffle(items)
        namespace.clear()
        namespace.update(items)


def arrange_memory(seed: int) -> tuple[list[list[Any]], list[Any]]:
    """Fill the gaps that imports left in memory, and one whole pool of each size.

    Objects without their own hash are hashed by address, and a set iterates over them in the order of
    the lower address bits. Fresh pools begin at a multiple of 16 KiB, so these bits follow from the
    seed alone: equal seeds give equal order in every process.

    Returns:
        (shares, filling). Each of the `SHARES` lists in `shares` holds the objects in one page of every
        pool, in a seeded order: free them from last to first, and new objects take their places from
        first to last. `filling` holds all others: keep them as long as the order must last.
    """
    filling: list[Any] = []
    shares: list[list[Any]] = [[] for _ in range(SHARES)]
    gc.collect()
    for size in range(16, LARGEST_HASHED + 1, 16):
        starts = range(POOL_HEADER, (1 << POOL_BITS) - size + 1, size)
        # A pool that becomes entirely free is dissolved and loses its order: the last page never does.
        given = {start: start // PAGE for start in starts
                 if start // PAGE == (start + size - 1) // PAGE < SHARES}  # fmt: skip
        made: list[Any] = []
        found = None
        while found is None and len(made) < MOST_ROUNDS * len(starts):
            # Of two pools' blocks in a row one pool is filled by nothing else, not even by what counts them.
            new = _blocks(size, 2 * len(starts))
            made += new
            found = _whole_pool(new, given, len(starts) - ALMOST_FULL)
        # The pool must have no gap: only then are its blocks reused first.
        made += _blocks(size, 2 * ALMOST_FULL)
        blocks: list[list[Any]] = [[] for _ in range(SHARES)]
        for one in made:
            pool, start = divmod(id(one), 1 << POOL_BITS)
            (blocks[given[start]] if pool == found and start in given else filling).append(one)
        del made, new
        rng = random.Random(f"{seed}:{size}")  # of its own: a size without a pool changes no other's order
        for share, page in zip(shares, blocks, strict=True):
            page.sort(key=id)
            rng.shuffle(page)
            share += page
    return shares, filling


def _whole_pool(blocks: list[Any], given: dict[int, int], least: int) -> int | None:
    """Return a pool of at least `least` of `blocks`, among them one at each start in `given`.

    A pool in which something else holds a block to be given would change the order of all that follow,
    and whether there is one depends on what the process did before.
    """
    counts, complete = Counter[int](), Counter[int]()
    for one in blocks:
        pool, start = divmod(id(one), 1 << POOL_BITS)
        counts[pool] += 1
        complete[pool] += start in given
    return next((pool for pool in counts if counts[pool] >= least and complete[pool] == len(given)), None)


def stir_memory(rng: random.Random) -> list[Any]:
    """Shuffle a few free blocks of every size; return the objects that occupy some of them from now on."""
    kept = []
    for size in (*range(16, LARGEST_SMALL + 1, 16), 600, 1100, 2100, 4200):
        some = _blocks(size, STIRRED)
        order = rng.sample(_INDICES, STIRRED)
        kept += [some[index] for index in order[: order[0] // 2]]
        for index in order:  # the block freed last is reused first
            some[index] = None
    return kept


_INDICES = range(STIRRED)
_fresh: list[list[Any]] = []
_held: list[Any] = []
_clocks_moved = False
slept_s = 0.0  # seconds that this process's program asked to sleep; counted only if clocks are wrapped


def _blocks(size: int, count: int) -> list[Any]:
    """Return `count` objects of `size` bytes each."""
    if size == 16:
        return [object() for _ in range(count)]
    if size == 32:
        return [complex(number, 1.0) for number in range(count)]
    return [bytes(size - sys.getsizeof(b"")) for _ in range(count)]


def _moving_clock(clock: Callable[[], Any], rate: float, kind: Callable[[Any], Any]) -> Callable[[], Any]:
    """Return a clock that, from its first reading in a child, runs `rate` times as fast."""
    start: list[Any] = []

    def read() -> Any:
        now = clock()
        if not _clocks_moved:
            return now
        if not start:
            start.append(now)
        return kind(start[0] + (now - start[0]) * rate)

    read.__name__ = clock.__name__
    return read


def _counting_sleep(sleep: Callable[[float], None]) -> Callable[[float], None]:
    """Return a `time.sleep` that also adds up how long it was asked to sleep."""

    def slept_for(seconds: float) -> None:
        global slept_s
        slept_s += seconds
        sleep(seconds)

    slept_for.__name__ = sleep.__name__
    return slept_for


def _time_machine() -> Any:
    """Import time_machine, which also moves the date in compiled code, without letting it import pytest."""
    was_there, hidden = "pytest" in sys.modules, sys.modules.get("pytest")
    sys.modules["pytest"] = None  # type: ignore[assignment]
    try:
        import time_machine
    finally:
        del sys.modules["pytest"]
        if was_there:
            sys.modules["pytest"] = hidden
    return time_machine


def _old_processor() -> dict[str, str]:
    """Return variables that keep libraries from using instructions that only some processors have."""
    found = {"GLIBC_TUNABLES": f"glibc.cpu.hwcaps={OLD_PROCESSOR}"}
    if kernel := {"x86_64": "Nehalem", "aarch64": "ARMV8"}.get(os.uname().machine):
        found["OPENBLAS_CORETYPE"] = kernel
    with contextlib.suppress(ImportError, AttributeError, KeyError, TypeError):
        import numpy

        if dispatched := numpy.show_config(mode="dicts")["SIMD Extensions"].get("found", []):
            found["NPY_DISABLE_CPU_FEATURES"] = " ".join(dispatched)
    return found
