"""The four tools of the agent: read, run, profile, submit.

Whatever goes wrong is told to the model as the call's result, so that it can do better; nothing it asks for
raises. Scripts run through a `ScriptRunner`, that is in the sandbox, and never see the run's folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from jsonschema import Draft202012Validator

from helpers.profiling_lab.agent.agent_files import AgentFiles, FileRefusedError
from helpers.profiling_lab.agent.conversation import ToolCall, ToolResult, ToolSpec

SHOWN_START, SHOWN_END = 6_000, 4_000  # characters of a long result that the model sees
DEFAULT_LINES, MAX_LINES = 400, 2_000
DEFAULT_TOP, MAX_TOP = 20, 25  # the sandbox keeps the end of a long output alone
PROFILER = """\
import cProfile as _cProfile, os as _os, pstats as _pstats
_code, _profile = compile({source!r}, __file__, "exec"), _cProfile.Profile()
try:
    _profile.runctx(_code, globals(), globals())
finally:
    _rows = sorted(_pstats.Stats(_profile).stats.items(), key=lambda row: row[1][{column}], reverse=True)
    print("\\n   own s  total s    calls  function")
    for (_file, _line, _name), (_, _calls, _own, _all, _) in _rows[:{top}]:
        _place = f"{{_os.path.basename(_file)[:24]}}:{{_line}} {{_name[:32]}}"
        print(f"{{_own:8.3f}} {{_all:8.3f}} {{_calls:8}}  {{_place}}")
"""
SORTS = {"own": 2, "cumulative": 3}  # columns of a row of pstats
PATH = {"type": "string", "description": "relative path of a Python script, such as fast.py"}
CODE = {"type": "string", "description": "the whole script; saved at `path` first, if given"}


@dataclass(frozen=True)
class ScriptRun:
    """How a script ended in the sandbox, with the end of its output; the times are in seconds.

    `ending` is one sentence. `files` are what it left behind, relative path -> content.
    """

    ending: str
    output: str
    seconds: float
    cpu_seconds: float
    files: Mapping[str, bytes]


class ScriptRunner(Protocol):
    """Runs a script in the sandbox."""

    def __call__(self, source: str, timeout_s: float) -> ScriptRun:
        """Run `source` for at most `timeout_s`; what it does ends in the record, never in an exception.

        Raises:
            SuiteError: if the sandbox itself cannot run anything.
        """
        ...


def _schema(required: tuple[str, ...], **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": list(required), "additionalProperties": False,
    }  # fmt: skip


TOOLS = (
    ToolSpec(
        "read",
        "Show a text file of your folder with its line numbers, or list a folder ('.' is your own).",
        _schema(
            ("path",),
            path={"type": "string", "description": "relative path, such as baseline.py"},
            first_line={"type": "integer", "minimum": 1},
            lines={"type": "integer", "minimum": 1, "maximum": MAX_LINES},
        ),
    ),
    ToolSpec(
        "run",
        "Run a script in the sandbox as the grader would, and show its time and the end of its output.",
        _schema(("path",), path=PATH, code=CODE),
    ),
    ToolSpec(
        "profile",
        "Run a script under cProfile in the sandbox and show the functions that take the most time.",
        _schema(
            ("path",),
            path=PATH,
            code=CODE,
            top={"type": "integer", "minimum": 1, "maximum": MAX_TOP},
            sort={"enum": list(SORTS), "description": "by own time (the default), or with callees"},
        ),
    ),
    ToolSpec(
        "submit",
        "Hand in a script as your solution. This ends your work: there is one submission.",
        _schema(("path",), path=PATH, code=CODE),
    ),
)
VALIDATORS = {tool.name: Draft202012Validator(tool.schema) for tool in TOOLS}


class AgentTools:
    """The tools of one run, bound to its folder; `submission` is the source handed in, once it is.

    Args:
        files: the run's folder.
        run_script: the sandbox.
        time_left_s: returns the seconds that the run has left.
        script_limit_s: most seconds of one script.
        turn: held while a script runs, so that runs side by side do not disturb each other's times.
    """

    def __init__(
        self,
        files: AgentFiles,
        run_script: ScriptRunner,
        time_left_s: Callable[[], float],
        script_limit_s: float,
        turn: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        self._files, self._run_script, self._turn = files, run_script, turn
        self._time_left_s, self._script_limit_s = time_left_s, script_limit_s
        self.submission: str | None = None
        self._uses: dict[str, Callable[..., str]] = {
            "read": self._read, "run": self._run, "profile": self._profile, "submit": self._submit,
        }  # fmt: skip

    def use(self, call: ToolCall) -> ToolResult:
        """Answer one call; a wrong one is answered with what is wrong.

        Raises:
            SuiteError: if the sandbox itself cannot run anything.
        """
        problem = call.problem or wrong_arguments(call)
        if problem:
            return ToolResult(call.id, middle_left_out(problem), is_error=True)
        try:
            return ToolResult(call.id, middle_left_out(self._uses[call.name](**call.arguments)))
        except FileRefusedError as error:
            return ToolResult(call.id, str(error), is_error=True)

    def _read(self, path: str, first_line: int = 1, lines: int = DEFAULT_LINES) -> str:
        rows = self._files.text_of(path).splitlines()
        if not rows:
            return "(empty)"
        if first_line > len(rows):
            raise FileRefusedError(f"{path!r} has {len(rows)} lines")
        last = min(len(rows), int(first_line) + int(lines) - 1)
        shown = [f"{number:5}  {rows[number - 1]}" for number in range(int(first_line), last + 1)]
        more = [] if last == len(rows) else [f"({len(rows) - last} more lines)"]
        return "\n".join([*shown, *more])

    def _run(self, path: str, code: str | None = None) -> str:
        return self._ran(self._source(path, code))

    def _profile(self, path: str, code: str | None = None, top: int = DEFAULT_TOP, sort: str = "own") -> str:
        source = self._source(path, code)
        return self._ran(PROFILER.format(source=source, top=int(top), column=SORTS[sort]))

    def _submit(self, path: str, code: str | None = None) -> str:
        self.submission = self._source(path, code)
        return "submitted; the grader decides"

    def _source(self, path: str, code: str | None) -> str:
        if code is not None:
            self._files.save(path, code)
        return self._files.script(path)

    def _ran(self, source: str) -> str:
        with self._turn():
            limit_s = min(self._script_limit_s, self._time_left_s())
            if limit_s <= 0:
                return "not run: your time is up"
            run = self._run_script(source, limit_s)
        kept = self._files.keep(run.files)
        times = f"{run.seconds:.2f} s, of which the processor {run.cpu_seconds:.2f} s"
        written = f"\n--- files ---\n{', '.join(kept)}" if kept else ""
        return f"{run.ending} ({times})\n--- output ---\n{run.output or '(none)'}{written}"


def wrong_arguments(call: ToolCall) -> str:
    """Say what is wrong with a call's tool or arguments; "" if nothing is."""
    validator = VALIDATORS.get(call.name)
    if validator is None:
        return f"there is no tool {call.name!r}: use {', '.join(VALIDATORS)}"
    found = sorted(validator.iter_errors(call.arguments), key=lambda error: list(map(str, error.path)))
    said = [f"{'/'.join(map(str, error.path)) or call.name}: {error.message[:300]}" for error in found[:5]]
    return f"wrong arguments: {'; '.join(said)}" if said else ""


def middle_left_out(text: str) -> str:
    """Return a text as a model may see it: its start and its end, and how much lies between."""
    left_out = len(text) - SHOWN_START - SHOWN_END
    if left_out <= 0:
        return text
    return f"{text[:SHOWN_START]}\n[... {left_out:,} characters left out ...]\n{text[-SHOWN_END:]}"
