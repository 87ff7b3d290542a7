"""One run: a model works on a problem with tools until it submits or a limit ends it, and is graded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from helpers.errors import SuiteError
from helpers.profiling_lab.agent.agent_files import AgentFiles
from helpers.profiling_lab.agent.agent_tools import TOOLS, AgentTools, ScriptRunner
from helpers.profiling_lab.agent.conversation import Chat, Reply, ToolResult, Turn
from helpers.profiling_lab.agent.endpoint_errors import REFUSED, UNSUITABLE, EndpointError
from helpers.profiling_lab.agent.patience import OutOfTimeError, RunClock, ask_patiently
from helpers.profiling_lab.agent.transcript import Transcript
from helpers.profiling_lab.grade_types import Grade
from helpers.run.workspace import to_plain, write_text

Outcome = Literal[
    "passed", "failed", "no_submission", "token_limit", "time_limit", "turn_limit", "conversation_refused",
    "endpoint_error", "infrastructure_error", "stopped",
]  # fmt: skip
# These say nothing about the model, so they do not count in its pass rate.
SET_ASIDE = ("endpoint_error", "infrastructure_error", "stopped")
SILENT_TURNS = 3  # answers in a row without a call, after which the model is taken to have given up
CALLS_PER_TURN = 8
LEAST_REPLY_TOKENS = 256  # with fewer left, no answer could hold a submission
SYSTEM = """\
You make a slow Python training script fast without changing what it learns.
Your folder holds baseline.py, the slow script, and card.md, the rules it is graded by.
Read both, profile the script, change one thing at a time, measure, and check that the result still matches.
Then submit your script. You can submit once.
Scripts run in a sandbox without a network. A grader that you cannot see runs your script itself, times it
against baseline.py and scores what it trained on data drawn afterwards. What a script prints about its own
time or accuracy counts for nothing."""
NUDGE = "Your answer called no tool. Use read, run or profile to go on, or submit to hand in your script."
CUT = "Your answer reached its limit of {tokens} tokens and was cut. Answer in less, one script at a time."


@dataclass(frozen=True)
class Assignment:
    """A problem as the model gets it: `files` are name -> text, baseline.py and card.md among them."""

    problem: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Limits:
    """Where a run ends.

    `tokens` counts what the endpoint counts, input and output of all requests together; a request begins only
    below it, so that its input can exceed it. `seconds` counts requests and scripts, not the grading and not
    the waiting while another run's script has the machine.
    """

    tokens: int = 500_000
    seconds: float = 1_800.0
    turns: int = 60
    reply_tokens: int = 8_192
    script_seconds: float = 120.0


@dataclass(frozen=True)
class Lab:
    """What judges and runs scripts: `grade(problem, submission)` and the sandbox."""

    grade: Callable[[str, Path], Grade]
    run_script: ScriptRunner
    turn: Callable[[], AbstractContextManager[Any]]  # held while a script runs or is graded


@dataclass(frozen=True)
class SolveRun:
    """The result of one run; `detail` is a sentence, the paths are relative to the result's folder."""

    run: int
    outcome: Outcome
    detail: str
    grade: dict[str, Any] | None
    turns: int
    calls: dict[str, int]  # tool -> how often it was called
    tokens_in: int
    tokens_out: int
    tokens_estimated: bool
    seconds: float
    transcript: str
    submission: str | None

    @property
    def is_scored(self) -> bool:
        """Whether the run says something about the model."""
        return self.outcome not in SET_ASIDE


class _Ended(Exception):
    """The conversation is over for a reason other than a submission."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome, self.detail = outcome, detail


class Solving:
    """One run of `number`, in `folder/run_NN` with its transcript `folder/run_NN.jsonl`."""

    def __init__(
        self, number: int, assignment: Assignment, chat: Chat, lab: Lab, limits: Limits, folder: Path,
        *, key: str = "", is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._number, self._assignment, self._chat, self._lab = number, assignment, chat, lab
        self._limits, self._folder, self._is_stopped = limits, folder, is_stopped
        self._name = f"run_{number:02}"
        self._clock = RunClock(limits.seconds)
        self._transcript = Transcript(folder / f"{self._name}.jsonl", key)
        files = AgentFiles(folder / self._name, dict(assignment.files))
        self._tools = AgentTools(
            files, lab.run_script, lambda: self._clock.left_s, limits.script_seconds, self._turn
        )
        self._turns = self._tokens_in = self._tokens_out = 0
        self._calls: dict[str, int] = {}
        self._estimated = False

    def solve(self) -> SolveRun:
        """Hold the conversation, grade what was submitted and return the result.

        Raises:
            EndpointError: if the endpoint refuses the key, the model or the first request.
        """
        self._tell(
            "start", problem=self._assignment.problem, model=self._chat.name, host=self._chat.host,
            limits=self._limits, system=SYSTEM, tools=TOOLS,
        )  # fmt: skip
        grade: Grade | None = None
        kept: Path | None = None
        try:
            self._converse()
            kept = self._keep()
            grade = self._graded(kept)
            outcome, detail = _verdict(grade)
        except _Ended as end:
            outcome, detail = end.outcome, end.detail
        except EndpointError as error:
            self._tell("end", outcome="endpoint_error", detail=str(error))
            self._transcript.close()
            raise
        except SuiteError as error:  # the sandbox or the grader cannot work here
            outcome, detail = "infrastructure_error", str(error)
        submission = kept.relative_to(self._folder).as_posix() if kept else None
        result = SolveRun(
            self._number, outcome, detail, to_plain(grade.to_json()) if grade else None, self._turns,
            self._calls, self._tokens_in, self._tokens_out, self._estimated,
            round(self._clock.used_s, 3), f"{self._name}.jsonl", submission,
        )  # fmt: skip
        self._tell("end", outcome=outcome, detail=detail)
        self._transcript.close()
        return result

    def _converse(self) -> None:
        names = ", ".join(self._assignment.files)
        prompt = f"The problem is {self._assignment.problem!r}. Your folder holds {names}."
        turns: list[Turn] = [prompt]
        self._tell("prompt", text=prompt)
        silent = 0
        while self._tools.submission is None:
            self._check_limits()
            reply = self._ask(turns)
            turns.append(reply)
            silent = 0 if reply.calls else silent + 1
            if silent == SILENT_TURNS:
                raise _Ended("no_submission", f"{silent} answers in a row called no tool")
            if reply.calls:
                turns.append(tuple(self._results(reply)))
            else:
                text = CUT.format(tokens=self._limits.reply_tokens) if reply.cut else NUDGE
                turns.append(text)
                self._tell("prompt", text=text)

    def _check_limits(self) -> None:
        limits, used = self._limits, self._tokens_in + self._tokens_out
        if self._is_stopped():
            raise _Ended("stopped", "the other runs were stopped")
        if used + LEAST_REPLY_TOKENS > limits.tokens:
            raise _Ended("token_limit", f"{used:,} of {limits.tokens:,} tokens used, nothing submitted")
        if self._clock.left_s <= 0:
            raise _Ended("time_limit", f"{limits.seconds:,.0f} s used, nothing submitted")
        if self._turns >= limits.turns:
            raise _Ended("turn_limit", f"{self._turns} answers, nothing submitted")

    def _ask(self, turns: list[Turn]) -> Reply:
        left = self._limits.tokens - self._tokens_in - self._tokens_out
        most = min(self._limits.reply_tokens, left)

        def ask(timeout_s: float) -> Reply:
            return self._chat.ask(SYSTEM, turns, max_tokens=most, timeout_s=timeout_s)

        try:
            reply = ask_patiently(ask, self._clock, self._tell)
        except OutOfTimeError as error:
            if self._turns == 0:  # a model that never answered has not been tried
                raise _Ended("endpoint_error", "no answer within the run's time limit") from error
            raise _Ended("time_limit", f"{self._limits.seconds:,.0f} s used, nothing submitted") from error
        except EndpointError as error:
            if self._turns and error.status in UNSUITABLE:  # too long by now, most likely
                raise _Ended("conversation_refused", str(error)) from error
            if error.status in REFUSED or error.status in UNSUITABLE:
                raise  # the other runs would fare no better
            raise _Ended("endpoint_error", str(error)) from error
        self._turns += 1
        self._tokens_in += reply.tokens_in
        self._tokens_out += reply.tokens_out
        self._estimated |= reply.estimated
        self._tell("reply", message=reply.raw, tokens_in=reply.tokens_in, tokens_out=reply.tokens_out,
                   estimated=reply.estimated)  # fmt: skip
        return reply

    def _results(self, reply: Reply) -> Iterator[ToolResult]:
        for place, call in enumerate(reply.calls):
            self._calls[call.name] = self._calls.get(call.name, 0) + 1
            if reply.cut:  # its arguments may look whole and yet lack their end
                result = ToolResult(call.id, CUT.format(tokens=self._limits.reply_tokens), is_error=True)
            elif place >= CALLS_PER_TURN:
                result = ToolResult(
                    call.id, f"not done: at most {CALLS_PER_TURN} calls at once", is_error=True
                )
            elif self._tools.submission is not None:
                result = ToolResult(call.id, "not done: you have submitted", is_error=True)
            else:
                result = self._tools.use(call)
            self._tell("result", call=call.id, tool=call.name, text=result.text, is_error=result.is_error)
            yield result

    def _keep(self) -> Path:
        """Write the submission beside the run's folder and return its path."""
        kept = self._folder / f"{self._name}_submission.py"
        write_text(kept, self._tools.submission or "")
        return kept

    def _graded(self, submission: Path) -> Grade:
        with self._turn(), self._clock.paused():
            grade = self._lab.grade(self._assignment.problem, submission)
        self._tell("grade", grade=grade.to_json())
        return grade

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the machine; the time until it is free is no time of this run."""
        with ExitStack() as held:
            with self._clock.paused():
                held.enter_context(self._lab.turn())
            yield

    def _tell(self, event: str, **fields: Any) -> None:
        self._transcript.tell(event, self._clock.used_s, fields)


def _verdict(grade: Grade) -> tuple[Outcome, str]:
    if grade.status == "infrastructure_error":
        failed = grade.failed
        return "infrastructure_error", failed.evidence if failed else "the grader could not run it"
    if grade.passed:
        return "passed", f"{grade.speedup:.2f} times as fast" if grade.speedup else "passed"
    failed = grade.failed
    return "failed", f"{grade.status}: {failed.name}: {failed.evidence}" if failed else grade.status
