"""The notebook under profile smoke as a process of its own, and one undisturbed run for all test files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_once import made_once

ROOT = Path(__file__).parents[1]
RUN = ("run", "--profile", "smoke", "--out")


def execute(
    out: Path, *options: str, program: tuple[str, ...] = ("-m", "helpers"), **variables: str
) -> subprocess.CompletedProcess:
    """Run the notebook to its end without any network, not even a loopback interface."""
    command = [sys.executable, *program, *RUN, str(out), *options]
    if (
        shutil.which("unshare")
        and not subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode
    ):
        command = ["unshare", "-n", *command]
    environment = _environment() | variables
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


def kill_in_the_middle(out: Path) -> Path:
    """Start the notebook, kill it once its first figures are kept, and return the file that keeps them."""
    command = [sys.executable, "-m", "helpers", *RUN, str(out)]
    killed = subprocess.Popen(
        command, cwd=ROOT, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not (done := list(out.glob("runs/*/track_a/before/stage.json"))):
        assert killed.poll() is None, "the run ended before it could be killed"
        time.sleep(0.2)
    killed.kill()
    killed.wait()
    time.sleep(3)  # its kernel notices within a second that nobody listens any more
    return done[0]


def finished_run(factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder of one undisturbed run, which all test files share, and what the run printed."""

    def run(folder: Path) -> tuple[Path, str]:
        done = execute(folder / "smoke_run")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return folder / "smoke_run", done.stdout

    return made_once(factory, "smoke_run", run)


def _environment() -> dict[str, str]:
    """Return an environment in which equal runs give equal figures: threads add in another order."""
    own = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return own | {"OMP_NUM_THREADS": "1"}
