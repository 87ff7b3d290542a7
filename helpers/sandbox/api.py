"""Run generated programs and judge them by their answers.

A program passes only by returning correct answers. It runs in its own process, forked from a warm,
single-threaded interpreter. A second process, the *judge*, runs the tests. The tests' `candidate` is a
proxy: a call sends its arguments as data, and the answer comes back as data and is compared in the judge.
Data are values of exact built-in types, of library types such as arrays, frames, graphs and paths
(`library_values`), and instances of classes that the tests define as well: these arrive as instances of the
*tests'* class (`own_types`). The program never holds the tests or an expected value and can use only those
judge objects that the tests passed to it. Nothing it says counts as a verdict: exit statuses, patched
builtins, an overridden `__eq__` and forged messages gain nothing. One judge is reused for all tests that
leave no trace in it; tests that import other modules, define classes or patch something get their own
judge. What such tests patch, seed or set in the environment is repeated in the program (`effects`).

The sandbox contains the following, each through a layer; `sandbox_layers()` reports which layers are
active on this machine:
  processor time, memory, file size and output (limits of the kernel and the watcher, always);
  starting processes, signals to others, ptrace, sockets, priorities of others, memory files and some
  70 more system calls (a seccomp filter; Linux on x86_64 and aarch64);
  files outside the program's temporary folder (Landlock, Linux 5.13 and later; a separate user id
  if the caller is root; if neither is available, an audit hook, which native code can bypass);
  disk space: 64 MiB and 4096 entries (a private file system if the kernel allows a mount namespace;
  otherwise the folder is measured every 50 ms);
  network (a namespace if the kernel allows one, otherwise the filter; also Landlock from 6.7 on);
  the caller's environment (always); leftover threads and processes (always ended).
Verdicts stay correct without these layers; they only limit damage.

It does not contain: attacks on the kernel itself; timing between programs on one machine; up to 2 GiB
in deleted files that are held open, if there is no private file system. Without Landlock, programs can
write to world-writable folders and read every file that their user id can read (for a root caller
whose interpreter lies in root's home, all files). Without Landlock and without root, native code can
also read the memory of the caller's processes, as any program of that user can. Programs cannot start
processes, even if an honest answer needs one.

This differs from running program and tests in one process. An answer is a snapshot: neither side sees
the other change a returned list later, except in attributes of objects whose class both define. Class
attributes are each side's own. Other objects of the program never equal plain data (values of subclasses
such as `IntEnum` count as the data they wrap) and equal each other only if their state is equal. A
`StopIteration` raised by a called function arrives as RuntimeError. Tests that use files share the
program's folder and, if it has its own user id, that too: the program can read what they write, but a
pickle that it writes names nothing but data when they read it (`pickles`). The tests are trusted,
since they come from the problem and not from the model: they are confined too, but could forge their
own verdict. On systems other than Linux nothing is run.

Time is the program's processor time. A program that sleeps is ended by elapsed time minus the time it
waited for a processor, so load on the machine changes no verdict. A slower processor could still change
one: `Program.max_steps` limits the work itself, identically on every machine (see `step_counter`), and
leaves the clock as the last resort.

Programs run under `run_conditions.BASE`; `examination` runs them under other conditions to see whether
an answer depends on something it must not depend on.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from helpers.errors import SuiteError
from helpers.machine.progress import progress
from helpers.sandbox.confine import FOLDER_BYTES, FOLDER_ENTRIES, Layer
from helpers.sandbox.run_conditions import BASE, VARIATIONS, RunConditions
from helpers.sandbox.step_counter import STEPS_SPENT
from helpers.sandbox.workers import Key, borrowed, key_for, modules_named
from helpers.sandbox.zygote import OUTPUT_BYTES

MAX_TIMED_OUT_CALLS = 3  # calls that reach the time limit before a function's remaining calls are skipped
# Signals that kill a judge because of its input, not because the machine lacks something.
JUDGE_FELL = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL}
STEPS_REACHED, TIME_REACHED = "the limit of steps was reached", "the time limit was reached"
Status = Literal["passed", "failed", "timeout", "crashed", "infrastructure_error"]


class SandboxError(SuiteError, ValueError):
    """The request cannot be run: wrong types or limits, or a system without a sandbox."""


@dataclass(frozen=True)
class Program:
    """One candidate with its tests; times in seconds of processor time, memory in MiB."""

    candidate: str
    tests: str
    entry_point: str
    timeout_s: float = 5.0
    memory_mb: int = 1024
    max_steps: int | None = None  # a program that takes more ends as a `timeout`; None: not counted


@dataclass(frozen=True)
class Outcome:
    """How a program ended; `detail` says why, in one line."""

    status: Status
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether every answer was correct and the program ended normally."""
        return self.status == "passed"


@dataclass(frozen=True)
class Recorded:
    """The reference's answer to one call.

    `status` is returned, raised, nondeterministic, unrepresentable, timeout, crashed or failed.
    `value_source` is an expression that evaluates to the answer (an iterator becomes the list of its
    items); `assertion` is a complete statement that holds for the reference. Either may be None.
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
    """Run `candidate` against `tests` and return how it ended.

    Args:
        candidate: source of the program; it must define `entry_point`.
        tests: plain assert statements, `test_*` functions or HumanEval's `def check(candidate)`.
            Names that the tests use but do not define come from the program.
        entry_point: name of the function under test.
        timeout_s: seconds of processor time; the module docstring covers programs that sleep.
        memory_mb: MiB that the program may map beyond what the imports take.
        preload: modules to import before the program starts; by default those that the tests import.
        python_path: folders to import from, before the installed packages.

    Raises:
        SandboxError: if a limit makes no sense or the system has no sandbox.
    """
    program = Program(candidate, tests, entry_point, timeout_s, memory_mb)
    _check(program)
    return _run(key_for([candidate, tests], preload or modules_named([tests]), python_path), program)


def run_programs(
    programs: Sequence[Program],
    *,
    workers: int,
    preload: Sequence[str] = (),
    python_path: Sequence[str] = (),
    what: str = "programs",
    conditions: RunConditions = BASE,
) -> list[Outcome]:
    """Run many programs, `workers` at a time, with a progress bar; return outcomes in input order."""
    for program in programs:
        _check(program)
    if workers < 1:
        raise SandboxError(f"workers must be at least 1, not {workers}")
    texts = [text for program in programs for text in (program.candidate, program.tests)]
    preload = preload or modules_named({program.tests for program in programs})
    key = key_for(texts, preload, python_path, conditions=conditions, whole_batch=True)
    if not programs:
        return []
    with ThreadPoolExecutor(max_workers=min(workers, len(programs))) as pool:
        outcomes = pool.map(lambda program: _run(key, program), programs)
        return list(progress(outcomes, what, total=len(programs), unit="program"))


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
    max_steps: int | None = None,
) -> list[Recorded]:
    """Evaluate call expressions in a trusted program and record the answers as source text.

    Every call is evaluated in two processes, in opposite order and under conditions that differ in
    everything that must not matter; answers that differ are `nondeterministic`. A call for which the
    first process yields no assertion is not evaluated again. The many parameters are those of `Program`.

    Args:
        source: the program, module context included; must define `entry_point`.
        calls: expressions such as `f(nx.path_graph(4), 2)`, evaluated in the program's namespace.
        setup: statements run after the program and before the calls, on both sides (imports).
        timeout_s: processor seconds of a call that is the first in its process. A call that reaches
            this limit is a `timeout`; after the third, all later calls are.
        max_steps: limit for each call; None does not count steps.
    """
    program = Program(source, "", entry_point, timeout_s, memory_mb, max_steps)
    _check(program)
    keys = [key_for([source, setup], preload, python_path, conditions=one) for one in (BASE, VARIATIONS[0])]
    once = _record_once(keys[0], program, list(calls), setup)
    asserted = [index for index, answer in enumerate(once) if answer["assertion"]][::-1]
    second = _record_once(keys[1], program, [calls[i] for i in asserted], setup)
    again = dict(zip(asserted, second, strict=True))
    recorded = []
    for index, (call, one) in enumerate(zip(calls, once, strict=True)):
        two = again.get(index, one)
        if one == two:
            recorded.append(Recorded(call, *(one[k] for k in ("status", "value", "detail", "assertion"))))
        else:
            detail = f"{_short(one)} in one process, {_short(two)} in another"
            recorded.append(Recorded(call, "nondeterministic", None, detail))
    return recorded


def sandbox_layers() -> tuple[Layer, ...]:
    """Return the layers of containment on this machine for this user, each active or not and why."""
    key = key_for([])
    with borrowed(key) as workers:
        found = [Layer(*fields) for fields in workers.get(key).layers]
    limits = Layer("resource limits", True, "processor time, memory, file size, descriptors, output")
    fresh = "a fresh interpreter, nothing of the caller's variables"
    return (limits, Layer("scrubbed environment", True, fresh), *found)


def _limits(program: Program) -> dict[str, Any]:
    return {"timeout_s": program.timeout_s, "memory_mb": program.memory_mb, "max_steps": program.max_steps}


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


def _run(key: Key, program: Program) -> Outcome:
    request = {"tests": program.tests, "entry_point": program.entry_point}
    with borrowed(key) as workers:
        for attempt in range(2):
            reply, verdict = workers.ask(key, program.candidate, _limits(program), request)
            outcome = _outcome(reply, verdict)
            if outcome.status != "infrastructure_error":
                break
            workers.drop(key)
            if attempt and reply.get("judge") in JUDGE_FELL:
                return Outcome("failed", "its answers brought the judge down, twice")
    return outcome


def _outcome(reply: dict[str, Any], verdict: Any) -> Outcome:
    """Return the outcome that follows from the zygote's reply and the judge's verdict."""
    if "error" in reply:
        return Outcome("infrastructure_error", reply["error"])
    if reply["limit"] == "time":
        return Outcome("timeout", TIME_REACHED)
    if reply["limit"] == "output":
        return Outcome("failed", f"more than {OUTPUT_BYTES} bytes of output")
    if reply["limit"] == "files":
        return Outcome("failed", f"more than {FOLDER_BYTES} bytes or {FOLDER_ENTRIES} entries written")
    if verdict is None:
        return Outcome("infrastructure_error", f"the judge ended with status {reply['judge']}")
    if verdict["status"] != "gone":
        return Outcome(verdict["status"], verdict["detail"])
    ended = reply["candidate"]
    if ended == STEPS_SPENT:
        return Outcome("timeout", STEPS_REACHED)
    if ended == -signal.SIGXCPU:  # the kernel's limit acts if the clock could not be read
        return Outcome("timeout", TIME_REACHED)
    if ended is None:
        return Outcome("crashed", "the program closed the channel to the judge")
    if ended < 0:
        return Outcome("crashed", f"the program was killed by signal {-ended}")
    return Outcome("failed", f"the program ended its process with status {ended} before the tests were done")


def _record_once(key: Key, program: Program, calls: list[str], setup: str) -> list[dict[str, Any]]:
    """Evaluate each call once; after a call that ends its process, continue in a fresh one.

    A call that hits the time limit after other calls in its process is retried as the first of a fresh
    process. Once `MAX_TIMED_OUT_CALLS` calls have timed out there, the remaining calls count as timeouts too.
    """
    results: list[dict[str, Any]] = []
    failures, timed_out = 0, 0
    while len(results) < len(calls):
        request = {"calls": calls[len(results) :], "setup": setup}
        with borrowed(key) as workers:
            reply, answers = workers.ask(key, program.candidate, _limits(program), request)
            if "error" in reply or (answers is None and not reply["limit"]):
                workers.drop(key)
                failures += 1
                if failures < 2:
                    continue
        if answers and answers[0]["status"] == "failed":
            return [answers[0]] * len(calls)
        answers = answers or [{"status": "running", "value": None, "detail": "", "assertion": None}]
        if answers[-1]["status"] in ("running", "gone"):
            by_clock = reply.get("limit") == "time"
            if by_clock and len(answers) > 1:
                results.extend(answers[:-1])
                continue
            slow = by_clock or reply.get("candidate") == STEPS_SPENT
            answers[-1] |= {"status": "timeout" if slow else "crashed", "detail": str(reply.get("error", ""))}
            timed_out += by_clock
        results.extend(answers)
        if timed_out == MAX_TIMED_OUT_CALLS:
            results += [dict(answers[-1]) for _ in range(len(calls) - len(results))]
    return results
