"""Programs per second: the sandbox beside `python -I` per program and beside a bare fork per program.

    python benchmarks/sandbox_throughput.py [--programs 200] [--workers 2] [--rounds 3]

All three run the same trivial programs in one run with the same number of workers. The bare fork
runner executes program and tests in one forked child of this process and takes exit status 0 for
passed: it shows what isolation costs, not something to trust.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.sandbox.api import Program, run_programs, sandbox_layers


def trivial_programs(count: int) -> list[Program]:
    """Small functions, each different, with three assert statements."""
    return [
        Program(
            f"def shift(x, by={n}):\n    return x + by\n",
            f"assert shift(1) == {n + 1}\nassert shift(-{n}) == 0\nassert shift(2, by=3) == 5\n",
            "shift",
        )
        for n in range(count)
    ]


def run_in_sandbox(programs: list[Program], workers: int) -> int:
    """Number of programs that passed."""
    return sum(outcome.passed for outcome in run_programs(programs, workers=workers))


def run_interpreters(programs: list[Program], workers: int) -> int:
    """A fresh `python -I` each."""

    def run(program: Program) -> bool:
        text = f"{program.candidate}\n{program.tests}"
        return subprocess.run([sys.executable, "-I", "-c", text], check=False).returncode == 0

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(run, programs))


def run_forks(programs: list[Program], workers: int) -> int:
    """One bare fork each, from `workers` forked runners of their own."""
    runners = []
    for place in range(workers):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if all(_forked(program) for program in programs[place::workers]) else 1)
        runners.append((pid, len(programs[place::workers])))
    return sum(size for pid, size in runners if os.waitpid(pid, 0)[1] == 0)


def _forked(program: Program) -> bool:
    pid = os.fork()
    if pid == 0:
        names: dict = {}
        exec(program.candidate, names)
        exec(program.tests, names)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def measure(run: Callable[[list[Program], int], int], programs: list[Program], workers: int) -> float:
    """Programs per second of wall-clock time; all must pass."""
    start = time.perf_counter()
    passed = run(programs, workers)
    seconds = time.perf_counter() - start
    if passed != len(programs):
        raise SystemExit(f"{run.__name__}: only {passed} of {len(programs)} passed")
    return len(programs) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=int, default=200, help="in each round")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="the ways take turns; medians are printed")
    options = parser.parse_args()
    programs = trivial_programs(options.programs)
    run_in_sandbox(programs[: 2 * options.workers], options.workers)  # start the warm processes
    ways = {
        "python -I per program": run_interpreters,
        "bare fork per program": run_forks,
        "sandbox": run_in_sandbox,
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, run in ways.items():
            rates[name].append(measure(run, programs, options.workers))
    for layer in sandbox_layers():
        print(f"{'active' if layer.active else 'absent':8}{layer.name}: {layer.reason}")
    print(
        f"{options.programs} programs, {options.workers} workers, "
        f"median of {options.rounds} rounds (least to most)"
    )
    base = statistics.median(rates["python -I per program"])
    for name, found in rates.items():
        rate = statistics.median(found)
        spread = f"({min(found):.0f} to {max(found):.0f})"
        print(f"{name:24}{rate:8.1f} programs/s {spread:16}{rate / base:6.2f}x")


if __name__ == "__main__":
    main()
