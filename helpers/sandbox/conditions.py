"""What must not matter to a program, and how a warm process is made to differ in it.

A machine decides many things that a right answer does not depend on: where objects lie in memory,
the seed of string hashes, date, time zone, locale, folder, depth of the stack, processor.
`Conditions` names one choice of them all. `BASE` is what every program normally runs under, the
same on every machine as far as this process can arrange it; `VARIATIONS` differ from it in
everything at once; `ALONE` differ in one thing each, to find out which one an answer depends on.
"""

from __future__ import annotations

import contextlib
import gc
import platform
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

__all__ = [
    "ALONE", "BASE", "VARIATIONS", "Conditions", "arrange_memory", "deeper", "enter", "hand_out", "prepare",
    "reorder_names", "seed_generators", "settle", "stir_memory", "to_settings",
]  # fmt: skip

POOL_BITS = 14  # CPython hands out small objects from aligned pools of 16 KiB
POOL_HEADER = 48
LARGEST_SMALL = 512  # bytes; larger objects come from malloc
SHARES = 2  # of memory whose order is known, for a program's definition and for its calls
ALMOST_FULL = 8  # blocks of a pool that something else may hold
STIRRED = 10  # blocks of each size that change places between two cases
MOST_ROUNDS = 200  # of filling gaps; an allocator that is not CPython's has no such pools
DAY, HOUR = 86_400, 3_600
CLOCKS = ("monotonic", "perf_counter", "process_time", "thread_time")
OLD_PROCESSOR = "-AVX2,-FMA,-FMA4,-AVX512F,-AVX512VL,-AVX512DQ,-AVX2_Usable,-FMA_Usable,-AVX512F_Usable"


@dataclass(frozen=True)
class Conditions:
    """One choice of everything that must not matter. The defaults are those of every ordinary run."""

    hash_seed: int = 0
    memory: int = 0  # seed of the order in which freed memory is handed out again
    random_seed: int = 0  # of generators that nobody seeded
    moved_s: int = 0  # the date, against the real one, in seconds
    clock_rate: float = 1.0  # how fast clocks run
    time_zone: str = "UTC0"  # as POSIX writes it, so that no database is needed
    locale: str = "C.UTF-8"
    folder: str = ""  # added to the name of the temporary folder
    recursion_limit: int = 1000  # frames
    depth: int = 0  # frames on the stack below the program
    collect_after: int = 700  # containers, until the garbage collector looks at the young ones
    optimize: bool = False  # python -O
    names: int = 0  # seed of the order of a module's names; 0 leaves them as they were written
    old_processor: bool = False  # vector instructions off in numpy, BLAS and the C library
    switch_s: float = 0.005  # seconds after which another thread gets its turn
    order: int = 0  # seed of the order of cases; 0 leaves them as they were written

    def command_flags(self) -> list[str]:
        """Flags of the interpreter."""
        return ["-O"] if self.optimize else []

    def environment(self) -> dict[str, str]:
        """Variables that a fresh interpreter has to start with."""
        found = {"PYTHONHASHSEED": str(self.hash_seed), "TZ": self.time_zone, "LC_ALL": self.locale,
                 "LANG": self.locale, "PYTHONCOERCECLOCALE": "0"}  # fmt: skip
        if self.locale == "C":
            found["PYTHONUTF8"] = "0"
        if self.folder:
            found |= {"UNRELATED": self.folder, "PATH": f"/{self.folder}:/usr/bin:/bin"}
        if self.old_processor:
            found |= _old_processor()
        return found


BASE = Conditions()
_FIRST = Conditions(
    hash_seed=1, memory=1, random_seed=1, moved_s=398 * DAY + 7 * HOUR + 821, clock_rate=1e6,
    time_zone="AAA-5:30", locale="tr_TR.UTF-8", folder="a-longer-name-than-usual", recursion_limit=1061,
    depth=30, names=1, switch_s=1e-5, collect_after=5, order=1,
)  # fmt: skip
# Days of the week, hours and minutes all differ, whenever this runs.
VARIATIONS: tuple[Conditions, ...] = (
    _FIRST,
    replace(
        _FIRST, hash_seed=2, memory=2, random_seed=2, moved_s=-4017 * DAY + 13 * HOUR + 2231,
        clock_rate=1e-3, time_zone="BBB9:30", locale="C", folder="x", recursion_limit=900, depth=0, names=2,
        switch_s=0.5, collect_after=50, order=2, old_processor=True,
    ),
    replace(
        _FIRST, hash_seed=31337, memory=3, random_seed=3, moved_s=45 * DAY + 18 * HOUR + 3149,
        time_zone="CCC-14", locale="de_DE.UTF-8", folder="y" * 47, recursion_limit=3000, depth=200, names=3,
        switch_s=1e-6, collect_after=10**9, order=3, optimize=True,
    ),
    replace(
        _FIRST, hash_seed=4, memory=4, moved_s=9004 * DAY + 2 * HOUR + 1313, folder="z" * 90, names=4,
        recursion_limit=1000, depth=17, collect_after=31, order=4,
    ),
    replace(
        _FIRST, hash_seed=5, memory=5, moved_s=-213 * DAY + 22 * HOUR + 317, folder="", names=5, depth=5,
        collect_after=300, order=5,
    ),
)  # fmt: skip
# What an answer depends on -> conditions that differ from `BASE` in nothing else; the likeliest first.
ALONE: dict[str, Conditions] = {
    "on memory addresses": replace(BASE, memory=6),
    "on the processor's rounding": replace(BASE, old_processor=True),
    "on the hash seed": replace(BASE, hash_seed=6),
    "on what ran before it": replace(BASE, order=6),
    "on random numbers that nobody seeded": replace(BASE, random_seed=6),
    "on time": replace(BASE, moved_s=398 * DAY + 7 * HOUR + 821, clock_rate=1e6),
    "on when garbage is collected": replace(BASE, collect_after=5),
    "on the time zone": replace(BASE, time_zone="AAA-5:30"),
    "on the locale": replace(BASE, locale="tr_TR.UTF-8"),
    "on the folder it runs in": replace(BASE, folder="a-longer-name-than-usual"),
    "on the depth of the stack": replace(BASE, depth=200, recursion_limit=3000),
    "on the order of a module's names": replace(BASE, names=6),
    "on assert statements, which python -O drops": replace(BASE, optimize=True),
    "on the timing of threads": replace(BASE, switch_s=1e-6),
}


def prepare(conditions: Conditions) -> None:
    """Before anything else is imported into a warm process: let clocks be moved later.

    Modules keep references to the clocks that they import, so these are wrapped first; they stay
    true until `enter` is called in a child. The wrapping is left out where no clock is to be moved.
    """
    if conditions.clock_rate != 1.0:
        for name in CLOCKS:
            setattr(time, name, _moved(getattr(time, name), conditions.clock_rate, float))
            setattr(time, f"{name}_ns", _moved(getattr(time, f"{name}_ns"), conditions.clock_rate, int))
        time.sleep = _noted(time.sleep)
    if conditions.moved_s:
        _time_machine()


def settle(conditions: Conditions) -> None:
    """Once a warm process has imported everything: set memory aside that its children hand out first.

    The warm process itself leaves it alone, so that a child finds the same whatever ran before it.
    """
    for share in range(SHARES):
        fresh, filling = arrange_memory(SHARES * conditions.memory + share)
        _fresh.append(fresh)
        _held.extend(filling)


def enter(conditions: Conditions) -> None:
    """In a child, before it runs a program."""
    global _clocks_moved
    hand_out()
    _clocks_moved = True
    sys.setswitchinterval(conditions.switch_s)
    sys.setrecursionlimit(conditions.recursion_limit)
    gc.set_threshold(conditions.collect_after, 10, 10)
    if conditions.moved_s:
        _time_machine().travel(time.time() + conditions.moved_s, tick=True).start()
        # Only now: the library looks for the compiled functions under their names.
        time.time = _moved(time.time, conditions.clock_rate, float)
        time.time_ns = _moved(time.time_ns, conditions.clock_rate, int)
    seed_generators(conditions.random_seed)


def hand_out() -> None:
    """In a child: free a share of what `settle` set aside, in its order; what is made next lies there.

    Called as it starts, and again before the first call of its program: how much came before that
    depends on paths, and on what this process has done already.
    """
    share = _fresh.pop() if _fresh else []
    while share:
        share.pop()


def seed_generators(seed: int) -> None:
    """The same random numbers in every run of a program; `random` reseeds itself at each fork."""
    if "random" in sys.modules:
        sys.modules["random"].seed(seed)
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(seed)


def deeper(frames: int, function: Callable[[], Any]) -> Any:
    """Call `function` with so many more frames on the stack below it."""
    return function() if frames <= 0 else deeper(frames - 1, function)


def reorder_names(seed: int, *namespaces: dict[str, Any]) -> None:
    """Give each namespace another order of its names; 0 leaves them alone."""
    for namespace in namespaces if seed else ():
        items = sorted(namespace.items())
        random.Random(seed).shuffle(items)
        namespace.clear()
        namespace.update(items)


def arrange_memory(seed: int) -> tuple[list[Any], list[Any]]:
    """Fill the gaps that imports left, and one whole pool of each size.

    Objects without a hash of their own are hashed by address, and a set of them is walked in the order of
    the address' lower bits. Fresh pools begin at a multiple of 16 KiB, so these bits follow from the
    seed alone: equal seeds, equal order, in whatever process.

    Returns:
        The objects that fill these pools, in a seeded order: free them from the last to the first
        and new objects take their places from the first to the last. And those that fill the gaps: hold
        them as long as the order is to last.
    """
    rng, filling = random.Random(seed), []
    ready: list[Any] = []
    gc.collect()
    for size in range(16, LARGEST_SMALL + 1, 16):
        room = ((1 << POOL_BITS) - POOL_HEADER) // size
        made: list[Any] = []
        counts: Counter[int] = Counter()
        full: list[int] = []
        while not full and len(made) < MOST_ROUNDS * room:
            new = _blocks(size, room)
            made += new
            counts.update(id(one) >> POOL_BITS for one in new)
            full = [pool for pool, count in counts.items() if count >= room - ALMOST_FULL]
        made += _blocks(
            size, 2 * ALMOST_FULL
        )  # the pool must have no gap: only then do its blocks come first
        if not full:
            filling += made
            continue
        fresh = [one for one in made if id(one) >> POOL_BITS == full[0]]
        filling += [one for one in made if id(one) >> POOL_BITS != full[0]]
        del made, new
        ranks = list(range(room))
        rng.shuffle(ranks)
        first = (full[0] << POOL_BITS) + POOL_HEADER
        fresh.sort(key=lambda one, first=first, size=size: ranks[(id(one) - first) // size])
        filling.append(fresh.pop())  # a pool that is all free is taken apart, and its order with it
        ready += fresh
    return ready, filling


def stir_memory(rng: random.Random) -> list[Any]:
    """Let a few objects of every size change places; returns those that take up room from now on."""
    kept = []
    for size in (*range(16, LARGEST_SMALL + 1, 16), 600, 1100, 2100, 4200):
        some = _blocks(size, STIRRED)
        order = rng.sample(_PLACES, STIRRED)
        kept += [some[place] for place in order[: order[0] // 2]]
        for place in order:  # what is freed last is handed out first
            some[place] = None
    return kept


def to_settings(conditions: Conditions) -> dict[str, Any]:
    """Plain data for another process; `Conditions(**settings)` reads it."""
    return asdict(conditions)


_PLACES = range(STIRRED)
_fresh: list[list[Any]] = []
_held: list[Any] = []
_clocks_moved = False
slept_s = 0.0  # by the program of this process, where clocks may be moved


def _blocks(size: int, count: int) -> list[Any]:
    """`count` objects of `size` bytes each."""
    if size == 16:
        return [object() for _ in range(count)]
    if size == 32:
        return [complex(number, 1.0) for number in range(count)]
    return [bytes(size - sys.getsizeof(b"")) for _ in range(count)]


def _moved(clock: Callable[[], Any], rate: float, kind: Callable[[Any], Any]) -> Callable[[], Any]:
    """A clock that runs `rate` times as fast from its first reading in a child on."""
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


def _noted(sleep: Callable[[float], None]) -> Callable[[float], None]:
    """`time.sleep`, which also adds up how long it was asked to sleep."""

    def slept_for(seconds: float) -> None:
        global slept_s
        slept_s += seconds
        sleep(seconds)

    slept_for.__name__ = sleep.__name__
    return slept_for


def _time_machine() -> Any:
    """The library that moves the date in compiled code, too; it would import pytest if it could."""
    absent = object()
    hidden = sys.modules.get("pytest", absent)
    sys.modules["pytest"] = None  # type: ignore[assignment]
    try:
        import time_machine
    finally:
        if hidden is absent:
            del sys.modules["pytest"]
        else:
            sys.modules["pytest"] = hidden
    return time_machine


def _old_processor() -> dict[str, str]:
    """Variables that keep libraries from using what only some processors have."""
    found = {"GLIBC_TUNABLES": f"glibc.cpu.hwcaps={OLD_PROCESSOR}"}
    kernel = {"x86_64": "Nehalem", "aarch64": "ARMV8"}.get(platform.machine())
    if kernel:
        found["OPENBLAS_CORETYPE"] = kernel
    with contextlib.suppress(ImportError, AttributeError, KeyError, TypeError):
        import numpy

        dispatched = numpy.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
        if dispatched:
            found["NPY_DISABLE_CPU_FEATURES"] = " ".join(dispatched)
    return found
