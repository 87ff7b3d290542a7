"""Run generated programs and judge them by their answers.

A program passes only by returning right answers. It runs in a process of its own, forked from a
warm, single-threaded interpreter; the *judge*, another process, runs the tests. The tests'
`candidate` is a proxy: a call ships its arguments as data, the answer comes back as data of exact
built-in types (numpy arrays and networkx graphs included) and is compared in the judge. The program
never holds the tests or an expected value, may use no object of the judge that the tests did not
hand to it, and nothing it says is a verdict: exit statuses, patched builtins, an overridden `__eq__`
and forged messages win nothing. One judge is kept for all tests that leave no trace in it; tests
that import other modules, define classes or patch something get a judge of their own.

Contained, each by the layer that `sandbox_layers()` reports as active on this machine:
  processor time, memory, file size and output (limits of the kernel and the watcher, always);
  starting processes, signals to others, ptrace, sockets, priorities of others, memory files and some
  70 more system calls (a filter; Linux on x86_64 and aarch64 with seccomp);
  files outside the program's own temporary folder (Landlock, Linux 5.13 and later; an own user id
  where the caller is root; where there is neither, an audit hook, which native code gets past);
  disk space: 64 MiB and 4096 entries (a file system of its own where the kernel allows a mount
  namespace; else the folder is measured every 50 ms);
  network (a namespace where the kernel allows one, else the filter, and Landlock from 6.7 on);
  the caller's environment (always); threads and processes left over (always ended).
Not one of them is needed for a right verdict; where all are missing, damage is what is not contained.

Not contained: attacks on the kernel itself; timing between programs on one machine; up to 2 GiB in
deleted files that are held open, where there is no file system of its own. Without Landlock, folders
that everyone may write can be written, and files can be read that the user id may read (for root's
programs, all of them where the interpreter lies in root's home). Without Landlock and without root,
native code can also read the memory of the caller's processes, as any program of that user can.
A program may not start processes, honest ones included.

What differs from running program and tests in one process: an answer is what it was when it was
given, so that changing a returned list later is not seen by the other side; objects of the program
never equal plain data (values of subclasses such as `IntEnum` count as the data below them), equal
each other only with equal state, and an exception `StopIteration` of a called function arrives as
RuntimeError. The tests are trusted: they come from the problem, not from the model (they are confined
all the same, but could forge their own verdict). On systems other than Linux nothing is run.

Time is the program's processor time; a program that sleeps is ended on elapsed time, from which
the time spent waiting for a processor is taken off, so that load changes no verdict. A slower
processor could still change one: `Program.max_steps` limits the work itself, the same everywhere
(`helpers.sandbox.steps`), and leaves the clock as the last resort.

Programs run under `sandbox_conditions.BASE`, and can be run under others to see whether an answer
depends on what it must not depend on (`helpers.sandbox.examination`).
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
from helpers.sandbox.conditions import BASE, VARIATIONS, Conditions
from helpers.sandbox.confine import FOLDER_BYTES, FOLDER_ENTRIES, Layer
from helpers.sandbox.steps import STEPS_SPENT
from helpers.sandbox.workers import Key, Workers, borrowed, key_for
from helpers.sandbox.zygote import OUTPUT_BYTES

# Signals by which a judge falls because of what it was given, not because the machine lacks something.
DEAR_CALLS = 3  # that use up the clock, until a function's other calls are not tried
JUDGE_FELL = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL}
STEPS_REACHED, TIME_REACHED = "the limit of steps was reached", "the time limit was reached"
Status = Literal["passed", "failed", "timeout", "crashed", "infrastructure_error"]


class SandboxError(SuiteError, ValueError):
    """A request that cannot be run: wrong types or limits, or a system without a sandbox."""


@dataclass(frozen=True)
class Program:
    """One candidate with its tests; times in seconds of processor time, memory in MiB.

    `max_steps` ends it as a `timeout` after so many steps (`sandbox_steps`); None counts none.
    """

    candidate: str
    tests: str
    entry_point: str
    timeout_s: float = 5.0
    memory_mb: int = 1024
    max_steps: int | None = None


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
    key = key_for([candidate, tests], preload, python_path)
    with borrowed(key) as workers:
        return _run(workers, key, program)


def run_programs(
    programs: Sequence[Program],
    *,
    workers: int,
    preload: Sequence[str] = (),
    python_path: Sequence[str] = (),
    what: str = "programs",
    conditions: Conditions = BASE,
) -> list[Outcome]:
    """`run_program` for many, `workers` at a time, with progress; outcomes in the order given."""
    for program in programs:
        _check(program)
    if workers < 1:
        raise SandboxError(f"workers must be at least 1, not {workers}")
    texts = [text for program in programs for text in (program.candidate, program.tests)]
    key = key_for(texts, preload, python_path, conditions=conditions, whole_batch=True)

    def run_one(program: Program) -> Outcome:
        with borrowed(key) as mine:
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
    max_steps: int | None = None,
) -> list[Recorded]:
    """Evaluate call expressions in a trusted program and write down the answers as source.

    Every call is evaluated in two processes that differ in all that must not matter, and in opposite
    order; answers that differ are `nondeterministic`. What the first gave no assertion for is not
    asked again.

    Args:
        source: the program, module context included; must define `entry_point`.
        calls: expressions such as `f(nx.path_graph(4), 2)`, evaluated in the program's namespace.
        setup: statements run after the program and before the calls, on both sides (imports).
        timeout_s: processor seconds of a call, first of its process; one that uses them up is
            `timeout`, and so are all calls after the third such.
        max_steps: for each call; None counts none.
    """
    program = Program(source, "", entry_point, timeout_s, memory_mb, max_steps)
    _check(program)
    keys = [key_for([source, setup], preload, python_path, conditions=one) for one in (BASE, VARIATIONS[0])]
    once = _record_once(keys[0], program, list(calls), setup)
    told = [place for place, answer in enumerate(once) if answer["assertion"]][::-1]
    again = dict(zip(told, _record_once(keys[1], program, [calls[i] for i in told], setup), strict=True))
    recorded = []
    for place, (call, one) in enumerate(zip(calls, once, strict=True)):
        two = again.get(place, one)
        if one == two:
            recorded.append(Recorded(call, *(one[k] for k in ("status", "value", "detail", "assertion"))))
        else:
            detail = f"{_short(one)} in one process, {_short(two)} in another"
            recorded.append(Recorded(call, "nondeterministic", None, detail))
    return recorded


def sandbox_layers() -> tuple[Layer, ...]:
    """The layers of containment on this machine for this user, active or not, with the reason."""
    key = key_for([])
    with borrowed(key) as workers:
        worker = workers.get(key)
        limits = Layer("resource limits", True, "processor time, memory, file size, descriptors, output")
        environment = Layer(
            "scrubbed environment", True, "a fresh interpreter, nothing of the caller's variables"
        )
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


def _limits(program: Program) -> dict[str, Any]:
    return {"timeout_s": program.timeout_s, "memory_mb": program.memory_mb, "max_steps": program.max_steps}


def _run(workers: Workers, key: Key, program: Program) -> Outcome:
    request = {"tests": program.tests, "entry_point": program.entry_point}
    outcome = Outcome("infrastructure_error", "not started")
    for attempt in range(2):
        reply, verdict = workers.ask(key, program.candidate, _limits(program), request)
        outcome = _judged(reply, verdict)
        if outcome.status != "infrastructure_error":
            break
        workers.drop(key)
        if attempt and reply.get("judge") in JUDGE_FELL:
            return Outcome("failed", "its answers brought the judge down, twice")
    return outcome


def _judged(reply: dict[str, Any], verdict: Any) -> Outcome:
    """The outcome from what the zygote saw and what the judge wrote."""
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
    if verdict["status"] == "gone":
        ended = reply["candidate"]
        if ended == STEPS_SPENT:
            return Outcome("timeout", STEPS_REACHED)
        if ended == -signal.SIGXCPU:  # the kernel's own limit, where the clock could not be read
            return Outcome("timeout", TIME_REACHED)
        if ended is None:
            return Outcome("crashed", "the program closed the channel to the judge")
        if ended < 0:
            return Outcome("crashed", f"the program was killed by signal {-ended}")
        return Outcome(
            "failed", f"the program ended its process with status {ended} before the tests were done"
        )
    return Outcome(verdict["status"], verdict["detail"])


def _record_once(key: Key, program: Program, calls: list[str], setup: str) -> list[dict[str, Any]]:
    """One pass; after a call that ends the process, a fresh process goes on with the next.

    A call that the clock ended after others of its process is asked once more, first of a fresh one.
    Once `DEAR_CALLS` calls have used up the clock so, those after them are taken for as dear.
    """
    results: list[dict[str, Any]] = []
    failures, dear = 0, 0
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
            ending = "timeout" if slow else "crashed"
            answers[-1].update(status=ending, detail=str(reply.get("error", "")))
            dear += by_clock
        results.extend(answers)
        if dear == DEAR_CALLS:
            results += [dict(answers[-1]) for _ in range(len(calls) - len(results))]
    return results
