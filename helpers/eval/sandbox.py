"""Run generated programs and judge them by their answers.

A program passes only by returning right answers. Two processes are forked for each one from a warm,
single-threaded interpreter: the *candidate* runs the program, the *judge* runs the tests. The
tests' `candidate` is a proxy: a call ships its arguments as data, the answer comes back as data of
exact built-in types (numpy arrays and networkx graphs included) and is compared in the judge. The
candidate never holds the expected values and nothing it says is a verdict, so exit statuses,
patched builtins, overridden `__eq__` or forged messages win nothing.

Contained, each by the layer that `sandbox_layers()` reports as active on this machine:
  processor time, memory, file size and output (limits of the kernel, always);
  starting processes, signals to others, ptrace, sockets (system call filter; Linux x86_64, aarch64);
  files outside the program's own temporary folder (Landlock, Linux 5.13+; else an own user id
  where the caller is root); network (namespace where allowed; the filter and Landlock otherwise);
  the caller's environment (always), threads and processes left over (always killed).

Not contained: attacks on the kernel itself, timing between programs on one machine, and disk space
within the time limit. Without Landlock world-writable folders can be written, and an unprivileged
caller's readable files read. The tests are trusted: they come from the problem, not from the
model (they are confined all the same). On systems other than Linux nothing is run.

Time is the program's processor time; a program that sleeps is ended on elapsed time, from which
the time spent waiting for a processor is taken off, so that load changes no verdict.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from helpers.eval.sandbox_confine import Layer
from helpers.eval.sandbox_zygote import OUTPUT_BYTES, receive, send
from helpers.progress import progress

Status = Literal["passed", "failed", "timeout", "crashed", "infrastructure_error"]
ROOT = str(Path(__file__).resolve().parents[2])
COMMON = ("bisect", "collections", "copy", "datetime", "functools", "heapq", "itertools", "json", "math",
          "operator", "random", "re", "statistics", "string", "typing", "dataclasses", "hashlib")  # fmt: skip
HEAVY = ("numpy", "networkx", "unittest", "pytest", "scipy", "pandas", "sympy")
START_SECONDS = 120.0


class SandboxError(ValueError):
    """A request that cannot be run: wrong types or limits, or a system without a sandbox."""


@dataclass(frozen=True)
class Program:
    """One candidate with its tests; times in seconds of processor time, memory in MiB."""

    candidate: str
    tests: str
    entry_point: str
    timeout_s: float = 5.0
    memory_mb: int = 1024


@dataclass(frozen=True)
class Outcome:
    """How a program ended, and in `detail` why, in one line."""

    status: Status
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether every answer was right and the program ended in order."""
        return self.status == "passed"


@dataclass(frozen=True)
class Recorded:
    """The reference's answer to one call.

    `status` is returned, raised, nondeterministic, unrepresentable, timeout, crashed or failed.
    `value_source` is an expression that evaluates to the answer (iterators as the list of their
    items), `assertion` a whole statement that holds for the reference; None where there is none.
    """

    call: str
    status: str
    value_source: str | None
    detail: str
    assertion: str | None = None


def run_program(
    candidate: str,
    tests: str,
    *,
    entry_point: str,
    timeout_s: float = 5.0,
    memory_mb: int = 1024,
    preload: Sequence[str] = (),
    python_path: Sequence[str] = (),
) -> Outcome:
    """Run `candidate` against `tests` and say how it ended.

    Args:
        candidate: source of the program; it must define `entry_point`.
        tests: plain assert statements, `test_*` functions or HumanEval's `def check(candidate)`.
            Names that the tests use and do not define are taken from the program.
        entry_point: name of the function under test.
        timeout_s: seconds of processor time; see the module's docstring for sleepers.
        memory_mb: MiB that the program may map beyond what the imports take.
        preload: modules to import before the program starts; heavy ones named in the sources are
            found by themselves.
        python_path: folders to import from, before the installed packages.

    Raises:
        SandboxError: for limits that make no sense, or where the system has no sandbox.
    """
    program = Program(candidate, tests, entry_point, timeout_s, memory_mb)
    _check(program)
    key = _key([program], preload, python_path)
    with _borrowed(key) as workers:
        return _run(workers, key, program)


def run_programs(
    programs: Sequence[Program],
    *,
    workers: int,
    preload: Sequence[str] = (),
    python_path: Sequence[str] = (),
    what: str = "programs",
) -> list[Outcome]:
    """`run_program` for many, `workers` at a time, with progress; outcomes in the order given."""
    for program in programs:
        _check(program)
    if workers < 1:
        raise SandboxError(f"workers must be at least 1, not {workers}")
    key = _key(programs, preload, python_path)

    def run_one(program: Program) -> Outcome:
        with _borrowed(key) as mine:
            return _run(mine, key, program)

    if not programs:
        return []
    with ThreadPoolExecutor(max_workers=min(workers, len(programs))) as pool:
        return list(progress(pool.map(run_one, programs), what, total=len(programs), unit="program"))


def record_outputs(
    source: str,
    calls: Sequence[str],
    *,
    entry_point: str,
    setup: str = "",
    preload: Sequence[str] = (),
    python_path: Sequence[str] = (),
    timeout_s: float = 5.0,
    memory_mb: int = 1024,
) -> list[Recorded]:
    """Evaluate call expressions in a trusted program and write down the answers as source.

    Every call is evaluated in two fresh processes with different hash seeds and in opposite order;
    answers that differ are `nondeterministic`.

    Args:
        source: the program, module context included; must define `entry_point`.
        calls: expressions such as `f(nx.path_graph(4), 2)`, evaluated in the program's namespace.
        setup: statements run after the program and before the calls, on both sides (imports).
        timeout_s: processor seconds for all calls up to the next answer together with those before
            it; a call that uses it up is `timeout` and the rest starts afresh.
    """
    _check(Program(source, "", entry_point, timeout_s, memory_mb))
    text = Program(source, setup, entry_point)
    runs = []
    for seed, order in ((0, 1), (1, -1)):
        key = _key([text], preload, python_path, seed)
        runs.append(_record_once(key, source, list(calls)[::order], setup, timeout_s, memory_mb)[::order])
    recorded = []
    for call, one, two in zip(calls, *runs, strict=True):
        if one == two:
            recorded.append(Recorded(call, *(one[k] for k in ("status", "value", "detail", "assertion"))))
        else:
            detail = f"{_short(one)} in one process, {_short(two)} in another"
            recorded.append(Recorded(call, "nondeterministic", None, detail))
    return recorded


def sandbox_layers() -> tuple[Layer, ...]:
    """The layers of containment on this machine for this user, active or not, with the reason."""
    key = _key([], (), ())
    with _borrowed(key) as workers:
        worker = workers.get(key)
        limits = Layer("resource limits", True, "processor time, memory, file size, descriptors, output")
        environment = Layer("scrubbed environment", True, "a fresh interpreter with six variables")
        return (limits, environment, *(Layer(*fields) for fields in worker.layers))


def _short(result: dict[str, Any]) -> str:
    return str(result["value"] or f"{result['status']} {result['detail']}")[:200]


def _check(program: Program) -> None:
    for name in ("candidate", "tests", "entry_point"):
        if not isinstance(getattr(program, name), str):
            raise SandboxError(f"{name} must be a string, not {type(getattr(program, name)).__name__}")
    if not program.entry_point.isidentifier():
        raise SandboxError(f"entry_point {program.entry_point!r} is not a name")
    if not 0 < program.timeout_s <= 3600:
        raise SandboxError(f"timeout_s must lie between 0 and 3600 seconds, not {program.timeout_s}")
    if not 16 <= program.memory_mb <= 2**20:
        raise SandboxError(f"memory_mb must lie between 16 MiB and 1 TiB, not {program.memory_mb}")
    if not sys.platform.startswith("linux"):
        raise SandboxError("generated programs are run on Linux only; there is no containment elsewhere")


def _run(workers: _Workers, key: _Key, program: Program) -> Outcome:
    request = {"tests": program.tests, "entry_point": program.entry_point}
    outcome = Outcome("infrastructure_error", "not started")
    for _attempt in range(2):
        outcome = _judged(*workers.ask(key, program, request))
        if outcome.status != "infrastructure_error":
            break
        workers.drop(key)
    return outcome


def _judged(reply: dict[str, Any], verdict: Any) -> Outcome:
    """The outcome from what the zygote saw and what the judge wrote."""
    if "error" in reply:
        return Outcome("infrastructure_error", reply["error"])
    if reply["limit"] == "time":
        return Outcome("timeout", "the time limit was reached")
    if reply["limit"] == "output":
        return Outcome("failed", f"more than {OUTPUT_BYTES} bytes of output")
    if verdict is None:
        return Outcome("infrastructure_error", f"the judge ended with status {reply['judge']}")
    if verdict["status"] == "gone":
        ended = reply["candidate"]
        if ended is None:
            return Outcome("crashed", "the program closed the channel to the judge")
        if ended < 0:
            return Outcome("crashed", f"the program was killed by signal {-ended}")
        return Outcome(
            "failed", f"the program ended its process with status {ended} before the tests were done"
        )
    return Outcome(verdict["status"], verdict["detail"])


def _record_once(
    key: _Key, source: str, calls: list[str], setup: str, timeout_s: float, memory_mb: int
) -> list[dict[str, Any]]:
    """One pass; after a call that ends the process, a fresh process goes on with the next."""
    results: list[dict[str, Any]] = []
    program = Program(source, "", "f", timeout_s, memory_mb)
    failures = 0
    while len(results) < len(calls):
        request = {"calls": calls[len(results) :], "setup": setup}
        with _borrowed(key) as workers:
            reply, answers = workers.ask(key, program, request)
            if "error" in reply or (answers is None and not reply["limit"]):
                workers.drop(key)
                failures += 1
                if failures < 2:
                    continue
        if answers and answers[0]["status"] == "failed":
            return [answers[0]] * len(calls)
        answers = answers or [{"status": "running", "value": None, "detail": "", "assertion": None}]
        if answers[-1]["status"] in ("running", "gone"):
            ending = "timeout" if reply.get("limit") == "time" else "crashed"
            answers[-1].update(status=ending, detail=str(reply.get("error", "")))
        results.extend(answers)
    return results


# --- the warm processes ------------------------------------------------------------------------

_Key = tuple[tuple[str, ...], tuple[str, ...], int]  # preload, python_path, hash seed


def _key(
    programs: Iterable[Program], preload: Sequence[str], python_path: Sequence[str], seed: int = 0
) -> _Key:
    """What a warm process must have imported; heavy modules only where a source names them."""
    named = {
        word
        for program in programs
        for text in (program.candidate, program.tests)
        for word in _IMPORTED.findall(text)
    }
    found = [name for name in HEAVY if name in named and importlib.util.find_spec(name)]
    paths = tuple(str(Path(path).resolve()) for path in python_path)
    return (tuple(dict.fromkeys([*COMMON, *preload, *found])), paths, seed)


_IMPORTED = re.compile(rf"\b(?:import|from)\s+({'|'.join(HEAVY)})\b")


class _Worker:
    """One warm process and the socket to it."""

    def __init__(self, key: _Key):
        names, paths, seed = key
        self.folder = tempfile.mkdtemp(prefix="sandbox-")
        os.chmod(self.folder, 0o711)
        mine, theirs = socket.socketpair()
        settings = {"preload": names, "python_path": paths, "seed": seed, "folder": self.folder}
        start = (
            f"import sys; sys.path.insert(0, {ROOT!r}); from helpers.eval.sandbox_zygote import main; "
            f"sys.path.remove({ROOT!r}); main()"
        )
        environment = {
            "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": self.folder, "TMPDIR": self.folder,
            "PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, "-s", "-P", "-c", start, str(theirs.fileno()), json.dumps(settings)]
        self.process = subprocess.Popen(
            command, env=environment, cwd=self.folder, pass_fds=[theirs.fileno()], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        theirs.close()
        self.control = mine
        mine.settimeout(START_SECONDS)
        hello = receive(mine)
        if hello is None:
            error = self.process.stderr.read().decode(errors="replace").strip().splitlines()
            self.close()
            raise OSError(f"the sandbox process did not start: {error[-1] if error else 'no message'}")
        mine.settimeout(None)
        self.layers = hello["layers"]

    def ask(self, program: Program, request: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Send one program; what the zygote saw, and the judge's verdict (None without one)."""
        text = json.dumps(request).encode()
        with _file(program.candidate.encode("utf-8", "surrogatepass")) as source, _file(text) as tests:
            header = {"timeout_s": program.timeout_s, "memory_mb": program.memory_mb}
            send(self.control, header)
            socket.send_fds(self.control, [b"+"], [source.fileno(), tests.fileno()])
            reply = receive(self.control)
            if reply is None:
                raise OSError("the sandbox process ended")
            size = os.fstat(tests.fileno()).st_size
            written = os.pread(tests.fileno(), size - len(text), len(text))
        return reply, json.loads(written) if written else None

    def close(self) -> None:
        """Hang up; the process ends by itself and is killed if it does not."""
        self.control.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def _file(content: bytes) -> Any:
    """A file without a name holding `content`, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        stream = os.fdopen(os.memfd_create("program"), "w+b")
    else:
        stream = tempfile.TemporaryFile()
    with stream:
        stream.write(content)
        stream.flush()
        yield stream


class _Workers:
    """The warm processes of one borrower at a time, by what they have imported."""

    def __init__(self) -> None:
        self._workers: dict[_Key, _Worker] = {}

    def get(self, key: _Key) -> _Worker:
        """The warm process for `key`, started if there is none."""
        if key not in self._workers:
            while len(self._workers) >= 4:  # each holds its imports in memory
                self.drop(next(iter(self._workers)))
            self._workers[key] = _Worker(key)
        return self._workers[key]

    def ask(self, key: _Key, program: Program, request: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """`_Worker.ask`, any trouble with the process itself as an "error" reply."""
        try:
            return self.get(key).ask(program, request)
        except (OSError, ValueError) as error:
            return {"error": f"{type(error).__name__}: {error}"}, None

    def drop(self, key: _Key) -> None:
        """End the process for `key`, if there is one."""
        worker = self._workers.pop(key, None)
        if worker:
            worker.close()

    def close(self) -> None:
        """End all."""
        for key in list(self._workers):
            self.drop(key)


_idle: list[_Workers] = []
_owner = os.getpid()
_lock = threading.Lock()


@contextlib.contextmanager
def _borrowed(key: _Key) -> Any:
    """A set of warm processes for this thread alone, preferably one that has `key` ready."""
    global _owner
    with _lock:
        if _owner != os.getpid():  # a fork of the caller must not share its sockets
            _idle.clear()
            _owner = os.getpid()
        ready = next((w for w in _idle if key in w._workers), _idle[-1] if _idle else None)
        if ready is not None:
            _idle.remove(ready)
    workers = ready or _Workers()
    try:
        yield workers
    finally:
        with _lock:
            _idle.append(workers)


@atexit.register
def close_workers() -> None:
    """End the warm processes; they also end by themselves when this process does."""
    with _lock:
        workers = _idle[:]
        _idle.clear()
    if _owner == os.getpid():
        for each in workers:
            each.close()
