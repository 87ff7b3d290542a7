"""Run whole scripts in the sandbox: the caller's side of the lab's warm process."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helpers.errors import SuiteError
from helpers.profiling_lab.script_child import SCRIPT, SLOW
from helpers.sandbox.zygote import receive, send

ROOT = str(Path(__file__).resolve().parents[2])
START_S = 180.0  # for the libraries to be imported on a busy machine
DATA = "data.npz"
DIED = 71  # exit status of a run whose notes were not written


class RunnerError(SuiteError, OSError):
    """The sandbox itself failed; this says nothing about a submission."""


@dataclass(frozen=True)
class ScriptRun:
    """One run of a script: how it ended, what it took, what it wrote."""

    error: str  # "" if it ended well
    limit: str | None  # "time", "output" or "files" if it was stopped
    cpu_s: float  # processor seconds of the process and all that it started
    wall_s: float
    said: str  # the end of its output
    notes: Mapping[str, Any]
    files: Mapping[str, bytes | None]  # name -> content; None for what is no regular file or is too large
    folder: str  # its own run's folder, where its output belongs

    def output(self, name: str) -> bytes | None:
        """Return the content of a file in the run's own folder; None if it is not there."""
        return self.files.get(f"{self.folder}/{name}")


@dataclass
class ScriptRunner:
    """A warm process that runs scripts, one after another."""

    control: socket.socket
    memory_mb: int
    layers: list[list[Any]]
    home: str

    def run(
        self, script: str, data: Mapping[str, np.ndarray], seed: int, timeout_s: float, *,
        watched: bool = False, witness: str = "", slow: str = "",
    ) -> ScriptRun:  # fmt: skip
        """Run `script` whole on `data`.

        Args:
            script: source text.
            data: arrays for the script's data file.
            seed: the script's `--seed`.
            timeout_s: processor seconds.
            watched: whether calls of its functions and forward passes of the class `witness` are recorded.
            slow: source of the slow script if this run is to profile it, else "".
        """
        folder = (
            f"output/run_{secrets.token_hex(4)}"  # a number would tell the watched run from the timed ones
        )
        arguments = ["--data", DATA, "--seed", str(seed), "--output", folder]
        files = {SCRIPT: script.encode("utf-8", "surrogatepass"), DATA: packed(data)}
        if slow:
            arguments += ["--profile", SLOW]
            files[SLOW] = slow.encode()
        job = {"mode": "script", "arguments": arguments, "watched": watched, "witness": witness}
        return self._ask(job, files, folder, timeout_s)

    def call(
        self, script: str, cases: Mapping[str, Sequence[np.ndarray]], timeout_s: float
    ) -> tuple[str, dict[str, np.ndarray]]:
        """Import `script` and call its functions; return an error, or "" and function -> value."""
        arrays = {f"{name}.{nth}": each for name, given in cases.items() for nth, each in enumerate(given)}
        job = {"mode": "call", "functions": list(cases), "cases": DATA}
        files = {SCRIPT: script.encode("utf-8", "surrogatepass"), DATA: packed(arrays)}
        run = self._ask(job, files, "output/run_000", timeout_s)
        if run.error:
            return run.error, {}
        try:
            values = {
                name: np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)
                for name, text in run.notes["returned"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return f"what its functions returned could not be read: {error}", {}
        return "", values

    def read_pstats(self, content: bytes) -> tuple[str, list[list[Any]]]:
        """Read a cProfile file in a confined process; return an error, or "" and its entries."""
        run = self._ask({"mode": "pstats"}, {SCRIPT: content}, "output/run_000", 10.0)
        entries = run.notes.get("entries")
        return (run.error, []) if run.error or not isinstance(entries, list) else ("", entries)

    def _ask(self, job: dict[str, Any], files: dict[str, bytes], folder: str, timeout_s: float) -> ScriptRun:
        coded = {name: base64.b64encode(content).decode() for name, content in files.items()}
        job |= {"path": SCRIPT, "files": coded, "folders": [folder], "timeout_s": timeout_s,
                "memory_mb": self.memory_mb}  # fmt: skip
        try:
            send(self.control, job)
            answer = receive(self.control)
        except (OSError, ValueError) as error:
            raise RunnerError(f"the sandbox process failed: {error}") from error
        if answer is None:
            raise RunnerError("the sandbox process ended")
        if "infrastructure" in answer[0]:
            raise RunnerError(answer[0]["infrastructure"])
        return _read_answer(answer[0], folder, timeout_s)


def _read_answer(answer: dict[str, Any], folder: str, timeout_s: float) -> ScriptRun:
    files = {name: None if text is None else base64.b64decode(text) for name, text in answer["files"].items()}
    files |= {f"{name} (removed)": None for name in answer["changed"]}
    error = str(answer["notes"].get("error", ""))
    if answer["limit"] == "time":
        error = f"stopped after {timeout_s:g} s of processor time"
    elif answer["limit"]:
        error = f"stopped: its {answer['limit']} grew too large"
    elif answer["exit"] < 0:
        error = f"killed by signal {-answer['exit']}"
    elif answer["exit"] == 70:
        raise RunnerError(f"a run could not be confined: {answer['said'][-300:]}")
    elif answer["exit"] != 0 or not answer["notes"]:
        error = error or f"ended with status {answer['exit']} before its last line"
    return ScriptRun(
        error,
        answer["limit"],
        answer["cpu_s"],
        answer["wall_s"],
        answer["said"],
        answer["notes"],
        files,
        folder,
    )


@contextlib.contextmanager
def script_runner(preload: Sequence[str], memory_mb: int, core: int | None = None) -> Iterator[ScriptRunner]:
    """Start a warm process that has imported `preload`, and end it at the end of the `with` block.

    Args:
        preload: modules to import before any script runs.
        memory_mb: MiB that one run may use beyond the libraries.
        core: processor core that all runs share; by default the last that this process may use.

    Raises:
        RunnerError: if the process does not start, for example on another system than Linux.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise RunnerError("the profiling lab runs on Linux only: its sandbox needs the Linux kernel")
    cores = os.sched_getaffinity(0)
    home = tempfile.mkdtemp(prefix="profiling-")
    os.chmod(home, 0o711)
    mine, theirs = socket.socketpair()
    settings = {"preload": list(preload), "folder": home, "core": max(cores) if core is None else core}
    start = (
        f"import sys; sys.path.insert(0, {ROOT!r}); from helpers.profiling_lab.script_zygote import "
        f"serve_scripts; sys.path.remove({ROOT!r}); serve_scripts()"
    )
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    environment = {"PATH": "/usr/bin:/bin", "HOME": home, "TMPDIR": home, "PYTHONDONTWRITEBYTECODE": "1",
                   "PYTHONHASHSEED": "0", "LD_BIND_NOW": "1", "LC_ALL": "C.UTF-8"}  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-s", "-P", "-c", start, str(theirs.fileno()), json.dumps(settings)],
        env=environment | threads, cwd=home, pass_fds=[theirs.fileno()], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    theirs.close()
    try:
        mine.settimeout(START_S)
        hello = receive(mine)
        if hello is None:
            raise RunnerError(f"the sandbox process did not start: {_last_line(process)}")
        mine.settimeout(None)
        yield ScriptRunner(mine, memory_mb, hello[0]["layers"], home)
    except TimeoutError as error:
        raise RunnerError(f"the sandbox process did not start within {START_S:g} s") from error
    finally:
        mine.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stderr.close()
        shutil.rmtree(home, ignore_errors=True)


def _last_line(process: subprocess.Popen[bytes]) -> str:
    lines = process.stderr.read().decode(errors="replace").strip().splitlines() if process.stderr else []
    return lines[-1] if lines else "no message"


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays as the bytes of an .npz file."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()
