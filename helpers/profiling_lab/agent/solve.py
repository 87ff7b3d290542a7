"""Let a model solve a problem several times, and say how often it passed.

The conversations run side by side, the scripts and gradings one at a time: they are timed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from helpers.eval.statistics import wilson_interval
from helpers.profiling_lab.agent.agent_tools import ScriptRunner
from helpers.profiling_lab.agent.conversation import Chat
from helpers.profiling_lab.agent.endpoint_errors import AgentError, EndpointError, StoppedError
from helpers.profiling_lab.agent.solving import Assignment, Lab, Limits, SolveRun, Solving
from helpers.profiling_lab.grade_types import Grade
from helpers.run.folder import code_revision
from helpers.run.workspace import read_json, write_json

RESULT = "solve.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SolveResult:
    """All runs of one command, in the order of their numbers.

    The pass rate is over the runs that say something about the model. `set_aside` counts the others (see
    `solving.SET_ASIDE`); `rate` and `ci95` (Wilson) are None if no run is left.
    """

    schema_version: int
    problem: str
    model: str
    host: str
    started: str
    commit: str
    runs_asked: int
    concurrent: int
    limits: Limits
    runs: tuple[SolveRun, ...]
    passed: int = field(init=False)
    n: int = field(init=False)
    set_aside: int = field(init=False)
    rate: float | None = field(init=False)
    ci95: tuple[float, float] | None = field(init=False)

    def __post_init__(self) -> None:
        scored = [run for run in self.runs if run.is_scored]
        passed = sum(run.outcome == "passed" for run in scored)
        derived = {
            "passed": passed, "n": len(scored), "set_aside": len(self.runs) - len(scored),
            "rate": passed / len(scored) if scored else None,
            "ci95": wilson_interval(passed, len(scored)) if scored else None,
        }  # fmt: skip
        for name, value in derived.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Series:
    """How often a problem is solved, each time from the start, and within which limits."""

    runs: int = 10
    concurrent: int = 1  # conversations held side by side
    limits: Limits = field(default_factory=Limits)  # of one run
    key: str = field(default="", repr=False)  # blotted out of everything that is written

    def check(self) -> None:
        """Raise AgentError if a number makes no sense; the message names the command's option."""
        limits = self.limits
        wanted: dict[str, tuple[Any, float]] = {
            "--runs": (self.runs, 1), "--concurrent": (self.concurrent, 1),
            "--max-tokens": (limits.tokens, 1_000), "--max-seconds": (limits.seconds, 0.1),
            "--max-turns": (limits.turns, 1), "--reply-tokens": (limits.reply_tokens, 256),
            "--script-seconds": (limits.script_seconds, 0.1),
        }  # fmt: skip
        for option, (value, least) in wanted.items():
            if not value >= least:
                raise AgentError(f"{option} must be at least {least:,g}, got {value:g}")


def solve_problem(
    assignment: Assignment, chat: Chat, grade: Callable[[str, Path], Grade], run_script: ScriptRunner,
    out: Path, series: Series,
) -> SolveResult:  # fmt: skip
    """Run the agent `series.runs` times, print each result, and write `out`/solve.json after each.

    Beside it lie each run's transcript, its folder and its submission.

    Args:
        assignment: the problem and the files that the model is given.
        chat: the model.
        grade: the grader, called with the problem's name and a script.
        run_script: the sandbox.
        out: a folder that holds no results yet.
        series: how often, how many at once, and the limits of each run.

    Raises:
        StoppedError: if a person interrupts; finished runs are kept.
        AgentError: if a number makes no sense, `out` holds results or cannot be written, the endpoint refuses
            key, model or request or never answers, or no run could be scored.
    """
    series.check()
    _claim(out)
    machine, limits = threading.Lock(), series.limits
    started, commit = datetime.now(UTC).isoformat(timespec="seconds"), code_revision()

    def keep(finished: list[SolveRun]) -> SolveResult:
        result = SolveResult(
            SCHEMA_VERSION, assignment.problem, chat.name, chat.host, started, commit, series.runs,
            series.concurrent, limits, tuple(sorted(finished, key=lambda run: run.run)),
        )  # fmt: skip
        write_json(out / RESULT, result)
        return result

    print(f"{series.runs} runs of {assignment.problem} go to {chat.host} as {chat.name}, each at most "
          f"{limits.tokens:,} tokens and {limits.seconds:,.0f} s")  # fmt: skip
    finished: list[SolveRun] = []
    result = keep(finished)
    try:
        for run in _as_finished(assignment, chat, Lab(grade, run_script, lambda: machine), out, series):
            if run.outcome != "stopped":
                finished.append(run)
                result = keep(finished)
                print(run_line(run), flush=True)
    except KeyboardInterrupt:
        raise StoppedError(f"stopped; {len(finished)} of {series.runs} runs are in {out / RESULT}") from None
    print(f"transcripts, submissions and {RESULT}: {out}")
    if not result.n:
        raise AgentError(f"no run could be scored; the first: {result.runs[0].detail}")
    print(rate_text(result))
    return result


def _claim(out: Path) -> None:
    if (out / RESULT).exists() or next(out.glob("run_*"), None):
        raise AgentError(f"{out} holds earlier results: choose another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AgentError(f"cannot write {out}: {error.strerror}; choose another folder with --out") from error


def _as_finished(
    assignment: Assignment, chat: Chat, lab: Lab, out: Path, series: Series
) -> Iterator[SolveRun]:
    """Yield the results as they come; where one run raises, the others end at their next request."""
    stop, answered = threading.Event(), threading.Event()

    def one(number: int) -> SolveRun:
        solving = Solving(
            number, assignment, chat, lab, series.limits, out, key=series.key, is_stopped=stop.is_set
        )
        try:
            run = solving.solve()
        except EndpointError:
            stop.set()  # here, before the next run can begin
            raise
        if run.turns:
            answered.set()
        elif run.outcome == "endpoint_error" and not answered.is_set():
            stop.set()  # no model has answered so far, and the other runs would only take as long to find out
        return run

    with ThreadPoolExecutor(series.concurrent) as pool:
        futures: list[Future[SolveRun]] = [pool.submit(one, number) for number in range(1, series.runs + 1)]
        try:
            for future in as_completed(futures):
                yield future.result()
        except EndpointError as error:
            advice = "check the model's name, the address and the key"
            raise AgentError(f"{error}; {advice}") from None
        except KeyboardInterrupt:
            print("stopping when the requests and scripts under way have ended", flush=True)
            raise
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def read_solve(folder: Path) -> SolveResult:
    """Read the result that `solve_problem` wrote to `folder`.

    Raises:
        AgentError: if there is none, or none of this version.
    """
    try:
        fields = read_json(folder / RESULT)
        if fields["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"its schema version is {fields['schema_version']}")
        given = {name: fields[name] for name in SolveResult.__dataclass_fields__ if name in fields}
        for derived in ("passed", "n", "set_aside", "rate", "ci95"):
            given.pop(derived)
        given |= {
            "limits": Limits(**fields["limits"]),
            "runs": tuple(SolveRun(**run) for run in fields["runs"]),
        }
        return SolveResult(**given)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AgentError(f"{folder / RESULT} cannot be read: {error}") from error


def run_line(run: SolveRun) -> str:
    """Describe one run in a line."""
    about = "about " if run.tokens_estimated else ""
    return (
        f"run {run.run}: {run.outcome}: {run.detail} ({run.turns} answers, {sum(run.calls.values())} calls, "
        f"{about}{run.tokens_in + run.tokens_out:,} tokens, {run.seconds:,.0f} s)"
    )


def rate_text(result: SolveResult) -> str:
    """State the pass rate with its interval, and the runs that do not count."""
    aside = (
        f"; {result.set_aside} set aside, since they say nothing about the model" if result.set_aside else ""
    )
    if result.ci95 is None:
        return f"no run could be scored{aside}"
    low, high = result.ci95
    rate = f"{result.rate:.0%}, 95% interval {low:.0%} to {high:.0%}"
    return f"passed {result.passed} of {result.n}: {rate}{aside}"
