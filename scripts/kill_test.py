"""Smoke runs killed at random moments: each goes on with --resume and must end with the undisturbed figures.

    python scripts/kill_test.py OUT [--kills 100] [--seed 1]

Takes an undisturbed run first, then kills until there were enough; a run that survives to its end is
followed by a fresh one. Every 100 kills take about an hour on two cores.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from helpers.report.metrics import timeless  # noqa: E402 (found above)
from helpers.run.workspace import read_json  # noqa: E402


def figures(out: Path) -> dict[str, Any]:
    """metrics.json without what may differ between equal runs."""
    return timeless(read_json(out / "metrics.smoke.json"))


def start(out: Path, log: Path) -> subprocess.Popen:
    """A smoke run in a process group of its own, so that a kill takes its kernel, too."""
    command = [sys.executable, "-m", "helpers", "run", "--profile", "smoke", "--out", str(out), "--resume"]
    with log.open("a") as stream:
        return subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream, start_new_session=True)


def kill(running: subprocess.Popen) -> None:
    """SIGKILL for the run and for every process below it, kernels and sandboxes among them."""
    below, pids = {running.pid}, [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
    parents = {}
    for pid in pids:
        try:
            parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    while more := {pid for pid, parent in parents.items() if parent in below and pid not in below}:
        below |= more
    for pid in below:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    running.wait()


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    out, rng = options.out.resolve(), random.Random(options.seed)
    out.mkdir(parents=True, exist_ok=True)
    log, began = out / "log.txt", time.monotonic()
    assert start(out / "calm", log).wait() == 0, f"the undisturbed run failed, see {log}"
    whole, wanted = time.monotonic() - began, figures(out / "calm")
    kills = runs = 0
    while kills < options.kills:
        folder = out / f"disturbed{runs}"
        runs += 1
        while not (folder / "metrics.smoke.json").exists():
            running = start(folder, log)
            try:
                delay = rng.uniform(1.0, whole) if kills < options.kills else None
                assert running.wait(delay) == 0, f"a resumed run failed, see {log}"
            except subprocess.TimeoutExpired:
                kill(running)
                kills += 1
                print(f"kill {kills}, run {runs}", flush=True)
        assert figures(folder) == wanted, f"{folder} ended with other figures than {out / 'calm'}"
        assert len(list((folder / "runs").iterdir())) == 1, "an unfinished run was not gone on with"
    print(f"{kills} kills over {runs} runs: the figures are those of an undisturbed run")


if __name__ == "__main__":
    main()
