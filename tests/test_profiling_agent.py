"""The agent, whole, against a scripted model that speaks both protocols; grader and sandbox are stood in for."""

from __future__ import annotations

import contextlib
import io
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.profiling_lab import grader
from helpers.profiling_lab.agent import patience, solve_command
from helpers.profiling_lab.agent import sandboxed_scripts as scripts_module
from helpers.profiling_lab.agent.agent_files import AgentFiles, FileRefusedError
from helpers.profiling_lab.agent.agent_tools import PROFILER, SHOWN_END, SHOWN_START, SORTS, TOOLS, ScriptRun
from helpers.profiling_lab.agent.conversation import Chat
from helpers.profiling_lab.agent.endpoint_errors import AgentError, StoppedError, retry_after_s
from helpers.profiling_lab.agent.endpoints import open_chat
from helpers.profiling_lab.agent.sandboxed_scripts import sandboxed_scripts
from helpers.profiling_lab.agent.solve import Series, SolveResult, read_solve, run_line, solve_problem
from helpers.profiling_lab.agent.solve_command import solve_in_notebook
from helpers.profiling_lab.agent.solve_table import (
    MODEL_HEADER,
    SOLVE_HEADER,
    model_frame,
    model_rows,
    solve_frame,
    solve_rows,
)
from helpers.profiling_lab.agent.solving import CALLS_PER_TURN, SILENT_TURNS, Assignment, Limits
from helpers.profiling_lab.grade_types import Check, Grade
from helpers.profiling_lab.script_runner import RunnerError
from tests.scripted_model import Fail, Say, ScriptedModel

KEY = "sk-very-secret"
BASELINE = "for row in range(1000):\n    pass\n"
ASSIGNMENT = Assignment("toy", {"baseline.py": BASELINE, "card.md": "Twice as fast.\n"})
FAST, CHEAT = "print('fast')\n", "import time\ntime.time = lambda: 0.0\n"
GOOD = [
    Say("I read first.", [("read", {"path": "baseline.py"}), ("read", {"path": "card.md"})]),
    Say("", [("profile", {"path": "baseline.py", "top": 5})]),
    Say(None, [("run", {"path": "fast.py", "code": FAST})]),
    Say("Done.", [("submit", {"path": "fast.py"})]),
]


def submit(code: str) -> Say:
    return Say("", [("submit", {"path": "s.py", "code": code})])


class Bench:
    """A grader and a sandbox that only look at the source; neither may be used by two at once."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, float]] = []
        self.graded: list[str] = []
        self.output, self.files, self.takes_s = "done", {}, 0.0
        self._busy = threading.Lock()

    def run_script(self, source: str, timeout_s: float) -> ScriptRun:
        with self._alone():
            self.ran.append((source, timeout_s))
            time.sleep(self.takes_s)
        return ScriptRun("ended well", self.output, 0.5, 0.25, self.files)

    def grade(self, problem: str, submission: Path) -> Grade:
        with self._alone():
            source = submission.read_text()
            self.graded.append(source)
        if "time.time =" in source:
            check = Check("clock", False, "line 2 replaces time.time")
            return Grade(problem, "refused", False, None, None, (check,))
        return Grade(problem, "passed", True, 5.25, (4.9, 5.6), (Check("speed", True, "5.25 times"),))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        assert self._busy.acquire(blocking=False), "two scripts at once disturb each other's times"
        try:
            yield
        finally:
            self._busy.release()


@pytest.fixture
def bench() -> Bench:
    return Bench()


BOTH = pytest.mark.parametrize("provider", ["anthropic", "openai"], indirect=True)


@pytest.fixture
def provider(request, monkeypatch) -> str:
    """The protocol, openai unless the test says otherwise; what no protocol touches is tested over one."""
    name = getattr(request, "param", "openai")
    pytest.importorskip(name, reason="pip install '.[agent]'")
    for each in ("ANTHROPIC", "OPENAI"):
        monkeypatch.delenv(f"{each}_BASE_URL", raising=False)
        monkeypatch.setenv(f"{each}_API_KEY", KEY)
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.01)
    return name


@pytest.fixture
def play(provider) -> Iterator:
    """Start a model that plays a script; it ends with the test."""
    models: list[ScriptedModel] = []

    def start(script) -> tuple[ScriptedModel, Chat]:
        models.append(ScriptedModel(script))
        version = "" if provider == "anthropic" else "/v1"
        return models[-1], open_chat("m", TOOLS, provider=provider, base_url=models[-1].address + version)

    yield start
    for model in models:
        model.close()


def solve(chat: Chat, bench: Bench, out: Path, **options) -> SolveResult:
    options = {"runs": 1, "key": KEY} | options
    return solve_problem(ASSIGNMENT, chat, bench.grade, bench.run_script, out, Series(**options))


def events(out: Path, run: int = 1) -> list[dict]:
    return [json.loads(line) for line in (out / f"run_{run:02}.jsonl").read_text().splitlines()]


def results(out: Path, run: int = 1) -> list[dict]:
    return [event for event in events(out, run) if event["event"] == "result"]


@BOTH
def test_an_agent_that_optimises_well_passes_and_leaves_its_story(play, bench, tmp_path, capsys) -> None:
    model, chat = play(GOOD)
    bench.files = {"output/run_1/profile.txt": b"hot"}
    result = solve(chat, bench, tmp_path / "out", runs=3)
    out = tmp_path / "out"
    assert (result.passed, result.n, result.set_aside, result.rate) == (3, 3, 0, 1.0)
    assert result.ci95 == pytest.approx((0.4385, 1.0), abs=1e-4)  # Wilson: 3 / (3 + 1.96**2)
    assert read_solve(out) == result
    one = result.runs[0]
    assert (one.turns, one.tokens_in, one.tokens_out) == (4, 400, 40)
    assert one.calls == {"read": 2, "profile": 1, "run": 1, "submit": 1}
    assert not one.tokens_estimated
    assert bench.graded == [FAST] * 3
    assert (out / one.submission).read_text() == FAST
    assert (out / "run_01/output/run_1/profile.txt").read_bytes() == b"hot"
    told = [event["event"] for event in events(out)]
    assert told == ["start", "prompt", "reply", "result", "result", "reply", "result", "reply", "result", "reply",
                    "result", "grade", "end"]  # fmt: skip
    assert results(out)[0]["text"] == "    1  for row in range(1000):\n    2      pass"
    # What the model is told next is what the transcript holds.
    assert all(json.dumps(row["text"]) in json.dumps(model.requests[1]) for row in results(out)[:2])
    shown = capsys.readouterr().out
    assert "127.0.0.1" in shown.splitlines()[0]  # where everything goes is said first
    assert run_line(one) in shown
    assert "passed 3 of 3: 100%" in shown
    assert model.keys == {KEY}
    assert not [path for path in out.rglob("*") if path.is_file() and KEY in path.read_text()]


@BOTH
def test_an_agent_that_cheats_fails_by_the_graders_check(play, bench, tmp_path) -> None:
    _, chat = play([submit(CHEAT)])
    result = solve(chat, bench, tmp_path, runs=2)
    assert (result.passed, result.n, result.rate) == (0, 2, 0.0)
    assert result.ci95 == pytest.approx((0.0, 0.6576), abs=1e-4)  # Wilson: 1.96**2 / (2 + 1.96**2)
    assert {run.outcome for run in result.runs} == {"failed"}
    assert result.runs[0].detail == "refused: clock: line 2 replaces time.time"
    assert result.runs[0].grade["checks"][0]["name"] == "clock"


@BOTH
def test_an_agent_that_talks_nonsense_gives_up_ungraded(play, bench, tmp_path) -> None:
    model, chat = play(lambda place: Say(["Blorp.", None, ""][place]))
    result = solve(chat, bench, tmp_path)
    assert (result.runs[0].outcome, result.passed, result.n) == ("no_submission", 0, 1)
    assert len(model.requests) == SILENT_TURNS
    assert "called no tool" in json.dumps(model.requests[1])
    assert bench.graded == []


@BOTH
def test_wrong_calls_are_answered_with_what_is_wrong(play, provider, bench, tmp_path) -> None:
    wrong = [
        ("read", "{not json" if provider == "openai" else "no object", "JSON"),
        ("shell", {"command": "ls"}, "there is no tool 'shell': use read, run, profile, submit"),
        ("run", {}, "'path' is a required property"),
        ("run", {"path": "a.py", "speed": 1}, "'speed' was unexpected"),
        ("read", {"path": "baseline.py", "first_line": "one"}, "first_line"),
        ("read", {"path": "../run_01.jsonl"}, "outside your folder"),
        ("read", {"path": "/etc/passwd"}, "outside your folder"),
        ("run", {"path": "baseline.py", "code": FAST}, "was given to you"),
    ]  # fmt: skip
    assert len(wrong) <= CALLS_PER_TURN
    script = [Say("", [(name, arguments) for name, arguments, _ in wrong]), Say("", [(None, {}), ("a b", "[]")]),
              submit(FAST)]  # fmt: skip
    model, chat = play(script)
    assert solve(chat, bench, tmp_path).passed == 1
    for (_, _, says), row in zip(wrong, results(tmp_path), strict=False):
        assert row["is_error"]
        assert says in row["text"]
    assert bench.ran == []
    if provider == "openai":  # servers that parse earlier calls would fail on what was no JSON
        for message in model.requests[-1]["messages"]:
            assert all(
                json.loads(c["function"]["arguments"]) is not None for c in message.get("tool_calls", [])
            )
            assert all(c["function"]["name"] for c in message.get("tool_calls", []))
    else:
        assert model.requests[-1]["messages"][1]["content"][0]["input"] == {}


@BOTH
def test_what_cannot_be_done_at_once_is_said(play, bench, tmp_path) -> None:
    many = Say("", [("read", {"path": "card.md"})] * (CALLS_PER_TURN + 1))
    both = Say("", [("submit", {"path": "s.py", "code": FAST}), ("submit", {"path": "s.py", "code": CHEAT})])
    _, chat = play([many, Say("", [("submit", {"path": "s.py", "code": CHEAT})], cut=True), both])
    assert solve(chat, bench, tmp_path).passed == 1
    assert bench.graded == [FAST]
    assert [row["is_error"] for row in results(tmp_path)] == [False] * CALLS_PER_TURN + [
        True,
        True,
        False,
        True,
    ]


@BOTH
def test_a_busy_or_broken_endpoint_is_asked_again_as_it_wishes(play, bench, tmp_path) -> None:
    model, chat = play([submit(FAST)])
    model.faults = [Fail(429, {"retry-after": "0.03"}), Fail(0), Fail(200, body="<html>"), Fail(529),
                    Fail(500, body="boom")]  # fmt: skip
    assert solve(chat, bench, tmp_path).passed == 1
    waits = [event for event in events(tmp_path) if event["event"] == "retry"]
    assert [event["attempt"] for event in waits] == [1, 2, 3, 4, 5]
    assert waits[0]["wait_s"] == 0.03
    for event, says in zip(waits, ("429", "no answer", "no JSON object", "529", "500"), strict=True):
        assert says in event["error"]


def test_the_wait_is_read_in_every_form_of_the_header() -> None:
    assert retry_after_s({"retry-after": "7", "retry-after-ms": "20"}) == 0.02
    assert retry_after_s({"retry-after": "7"}) == 7
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 28 < retry_after_s({"retry-after": soon}) <= 30
    assert [retry_after_s(given) for given in ({}, {"retry-after": "soon"})] == [None, None]


def test_an_endpoint_that_asks_for_more_patience_than_there_is_says_nothing_of_the_model(
    play, bench, tmp_path
) -> None:
    model, chat = play([submit(FAST)])
    model.faults = [None, Fail(429, {"retry-after": "3600"})]
    result = solve(chat, bench, tmp_path, runs=3)
    assert [run.outcome for run in result.runs] == ["passed", "endpoint_error", "passed"]
    assert (result.passed, result.n, result.set_aside) == (2, 2, 1)
    assert "3600 s" in result.runs[1].detail


@pytest.mark.parametrize("status", [400, 401, 404])
@BOTH
def test_an_endpoint_that_refuses_ends_everything_in_one_sentence_without_the_key(
    play, bench, tmp_path, status
) -> None:
    model, chat = play(lambda place: Fail(status, body=json.dumps({"error": {"message": f"bad {KEY}"}})))
    with pytest.raises(AgentError, match=f"HTTP {status}.*check the model's name") as caught:
        solve(chat, bench, tmp_path, runs=5)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert KEY not in (tmp_path / "run_01.jsonl").read_text()
    assert len(model.requests) == 1


def test_a_conversation_that_the_endpoint_no_longer_takes_counts_as_the_models_failure(
    play, bench, tmp_path
) -> None:
    _, chat = play([GOOD[0], Fail(400, body='{"error": {"message": "prompt is too long"}}')])
    result = solve(chat, bench, tmp_path)
    assert (result.runs[0].outcome, result.n, result.passed) == ("conversation_refused", 1, 0)


@BOTH
def test_an_endpoint_that_never_answers_ends_everything_with_the_first_run(provider, bench, tmp_path) -> None:
    model = ScriptedModel([])
    model.close()
    chat = open_chat("m", TOOLS, provider=provider, base_url=model.address)
    with pytest.raises(AgentError, match=r"no run could be scored.*no answer from the endpoint.*refused"):
        solve(chat, bench, tmp_path, runs=5)
    assert len(read_solve(tmp_path).runs) == 1
    assert [event["event"] for event in events(tmp_path)].count("retry") == patience.ATTEMPTS_UNHEARD - 1


@pytest.mark.parametrize(
    ("limits", "outcome", "most"),
    [
        (Limits(tokens=1_000), "token_limit", 7),  # 110 tokens a turn, and 256 must be left for an answer
        (Limits(turns=4), "turn_limit", 4),
        (Limits(seconds=0.25), "time_limit", 12),
    ],
)
def test_an_endless_loop_ends_at_each_limit(play, bench, tmp_path, limits, outcome, most) -> None:
    model, chat = play(lambda place: Say("", [("run", {"path": "a.py", "code": FAST})]))
    bench.takes_s = 0.025
    result = solve(chat, bench, tmp_path, limits=limits)
    assert result.runs[0].outcome == outcome
    assert result.n == 1
    assert 1 <= len(model.requests) <= most
    assert all(timeout_s <= limits.seconds for _, timeout_s in bench.ran)
    assert all(body.get("max_tokens") <= limits.tokens for body in model.requests)


@BOTH
def test_a_model_that_stops_answering_ends_at_the_time_limit(play, bench, tmp_path) -> None:
    _, chat = play([GOOD[0], Fail(-1)])
    start = time.monotonic()
    result = solve(chat, bench, tmp_path, limits=Limits(seconds=0.5))
    assert result.runs[0].outcome == "time_limit"
    assert time.monotonic() - start < 5


def test_huge_outputs_reach_the_model_shortened(play, bench, tmp_path) -> None:
    bench.output = "start" + "x" * 1_000_000 + "end"
    model, chat = play([Say("", [("run", {"path": "a.py", "code": FAST})]), submit(FAST)])
    solve(chat, bench, tmp_path)
    text = results(tmp_path)[0]["text"]
    assert "characters left out" in text
    assert "start" in text
    assert text.endswith("end")
    assert len(text) < SHOWN_START + SHOWN_END + 100
    assert len(json.dumps(model.requests[1])) < 30_000


ODD = {
    "no usage": Say("", [("submit", {"path": "s.py", "code": FAST})], usage=None),
    "half a character": Say("\ud800", [("submit", {"path": "s.py", "code": FAST})]),
    "code that is no text": Say("", [("run", {"path": "a.py", "code": "'\ud800'"})]),
}


@pytest.mark.parametrize("odd", ODD)
@BOTH
def test_odd_answers_are_lived_with(play, bench, tmp_path, odd) -> None:
    _, chat = play([ODD[odd], submit(FAST)])
    result = solve(chat, bench, tmp_path)
    assert result.passed == 1
    assert result.runs[0].tokens_estimated == (odd == "no usage")
    assert result.runs[0].tokens_in > 0


@BOTH
@pytest.mark.parametrize(
    "body", ["{}", '{"choices": [], "content": 3}', "[1]", '{"choices": [{"message": NaN}]}']
)
def test_json_that_is_no_answer_is_the_endpoints_fault(play, bench, tmp_path, monkeypatch, body) -> None:
    monkeypatch.setattr(patience, "ATTEMPTS_UNHEARD", 2)
    model, chat = play([submit(FAST)])
    model.faults = [None, Fail(200, body=body), Fail(200, body=body)]
    result = solve(chat, bench, tmp_path, runs=3)
    assert [run.outcome for run in result.runs] == ["passed", "endpoint_error", "passed"]


def test_conversations_run_side_by_side_and_scripts_one_at_a_time(play, bench, tmp_path, capsys) -> None:
    model, chat = play(GOOD)
    together = threading.Barrier(3)
    model.before = lambda place: together.wait(10) if place == 0 else None  # no run gets an answer alone
    bench.takes_s = 0.02
    result = solve(chat, bench, tmp_path, runs=3, concurrent=3)
    assert result.passed == 3
    assert [run.run for run in result.runs] == [1, 2, 3]
    assert sum(line.startswith("run ") for line in capsys.readouterr().out.splitlines()) == 3


def test_the_time_for_which_a_run_waits_for_the_machine_is_not_its_own(play, bench, tmp_path) -> None:
    _, chat = play([Say("", [("run", {"path": "a.py", "code": FAST})]), submit(FAST)])
    bench.takes_s = 0.5
    result = solve(chat, bench, tmp_path, runs=3, concurrent=3, limits=Limits(seconds=1.2))
    assert result.passed == 3  # the last waits a second before its script


def test_a_person_who_interrupts_keeps_the_finished_runs(play, bench, tmp_path) -> None:
    _, chat = play([submit(FAST)])
    grades = iter([bench.grade])

    def grade(problem: str, submission: Path) -> Grade:
        for first in grades:
            return first(problem, submission)
        raise KeyboardInterrupt  # reaches the command through the run's future

    with pytest.raises(StoppedError, match="1 of 3 runs are in") as caught:
        solve_problem(ASSIGNMENT, chat, grade, bench.run_script, tmp_path, Series(runs=3))
    assert caught.value.exit_status == 130
    assert read_solve(tmp_path).passed == 1


def test_a_sandbox_that_cannot_work_says_nothing_of_the_model(play, bench, tmp_path) -> None:
    _, chat = play(GOOD)
    bench.run_script = lambda source, timeout_s: (_ for _ in ()).throw(AgentError("no namespaces here"))
    with pytest.raises(AgentError, match="no run could be scored; the first: no namespaces here"):
        solve(chat, bench, tmp_path)


def test_results_are_not_written_over_and_numbers_are_checked(play, bench, tmp_path) -> None:
    model, chat = play([submit(FAST)])
    for options in ({"runs": 0}, {"concurrent": 0}, {"limits": Limits(seconds=float("nan"))}):
        with pytest.raises(AgentError, match="must be at least"):
            solve(chat, bench, tmp_path, **options)
    (tmp_path / "file").write_text("")
    with pytest.raises(AgentError, match="choose another folder"):
        solve(chat, bench, tmp_path / "file")
    assert model.requests == []
    solve(chat, bench, tmp_path)
    with pytest.raises(AgentError, match="holds earlier results"):
        solve(chat, bench, tmp_path)


def test_the_tables_state_every_run_and_the_rate(play, bench, tmp_path) -> None:
    _, chat = play([submit(FAST)])
    result = solve(chat, bench, tmp_path, runs=2)
    rows = solve_rows(result)
    assert {len(row) for row in rows} == {len(SOLVE_HEADER)}
    assert rows[1][:4] == ("2", "passed", "5.25", "4.90 to 5.60")
    (row,) = model_rows([result])
    assert len(row) == len(MODEL_HEADER)
    assert row[1:7] == ("toy", "2", "2", "100%", "34% to 100%", "0")
    assert list(solve_frame(result)["Outcome"]) == [row[1] for row in rows]
    assert list(model_frame([result]).columns) == list(MODEL_HEADER[1:])


def test_a_notebook_without_model_or_key_says_so_and_goes_on(monkeypatch, tmp_path, capsys) -> None:
    for each in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(each, raising=False)
    assert solve_in_notebook(" ", "torch", 3, tmp_path) is None
    assert solve_in_notebook("m", "torch", 3, tmp_path) is None
    named, keyed = capsys.readouterr().out.splitlines()
    assert named.startswith("No model is named")
    assert keyed.startswith("No runs to show: no key: set ANTHROPIC_API_KEY")
    asked = []
    monkeypatch.setattr(solve_command, "solve_named_problem", lambda request, problems: asked.append(request))
    solve_in_notebook("m", "torch", 3, tmp_path)
    assert (asked[0].model, asked[0].runs, asked[0].out.parent) == ("m", 3, tmp_path)


def toy_rules() -> SimpleNamespace:
    """What `SandboxedScripts` needs of a problem: four rows, and nothing imported but numpy."""
    draw = lambda task, rows, seed: {"inputs": np.arange(rows)}  # noqa: E731
    return SimpleNamespace(task=SimpleNamespace(draw=draw), rows=4, preload=("numpy",), memory_mb=512)


def test_scripts_run_confined_on_practice_data_and_without_the_key(monkeypatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    honest = (
        "import sys, numpy\ngiven = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        "total = numpy.load(given['--data'])['inputs'].sum()\n"
        "open(given['--output'] + '/total.txt', 'w').write(str(total))\nprint('total', total)\n"
    )
    spy = "import os\nprint(dict(os.environ))\nopen('/etc/shadow').read()\n"
    with sandboxed_scripts(toy_rules()) as run:
        good, denied = run(honest, 5), run(spy, 5)
        profiled = run(PROFILER.format(source=honest, top=5, column=2), 5)
    assert (good.ending, good.output.strip()) == ("ended well", "total 6")
    assert list(good.files.values()) == [b"6"]
    assert "PermissionError" in denied.ending
    assert "PATH" in denied.output
    assert KEY not in denied.output
    assert "total 6\n\n   own s  total s    calls  function\n" in profiled.output


def test_a_sandbox_process_that_failed_is_replaced(monkeypatch) -> None:
    opened = []

    @contextlib.contextmanager
    def fake_runner(preload, memory_mb):
        opened.append(preload)
        yield SimpleNamespace(run=fail if len(opened) == 1 else succeed)

    def fail(*arguments):
        raise RunnerError("the sandbox process ended")

    def succeed(*arguments):
        return SimpleNamespace(error="", said="fine", wall_s=1.0, cpu_s=0.5, files={"link": None, "a": b"a"})

    monkeypatch.setattr(scripts_module, "script_runner", fake_runner)
    with sandboxed_scripts(toy_rules()) as run:
        with pytest.raises(RunnerError):
            run(FAST, 5)
        assert run(FAST, 5) == ScriptRun("ended well", "fine", 1.0, 0.5, {"a": b"a"})
        run(FAST, 5)
    assert len(opened) == 2


def test_no_path_leads_out_of_the_folder(tmp_path) -> None:
    files = AgentFiles(tmp_path / "mine", {"baseline.py": BASELINE})
    (tmp_path / "other").write_text("secret")
    for path in ("../other", "/etc/passwd", "a/../../other", "a\0b", "..", "a\\b", "x" * 5000):
        with pytest.raises(FileRefusedError):
            files.text_of(path)
    written = {
        "../other": b"!",
        "baseline.py": b"!",
        "output/a.txt": b"a",
        "output/a.txt/b": b"b",
        "raw": b"\0",
    }
    assert files.keep(written) == ["output/a.txt", "raw"]
    assert (tmp_path / "other").read_text() == "secret"
    assert files.text_of(".") == "baseline.py\noutput/\nraw"
    assert files.text_of("baseline.py") == BASELINE
    for path in ("raw", "missing"):
        with pytest.raises(FileRefusedError):
            files.text_of(path)


def test_the_profile_is_ordered_by_own_time_or_with_callees() -> None:
    source = (
        "def inner():\n    for _ in range(100_000):\n        pass\n"
        "def outer():\n    for _ in range(5):\n        inner()\nouter()\n"
    )
    seen = {}
    for sort, column in SORTS.items():
        shown, names = io.StringIO(), {"__file__": "slow.py"}
        with contextlib.redirect_stdout(shown):
            exec(compile(PROFILER.format(source=source, top=30, column=column), "p", "exec"), names)
        seen[sort] = [
            line.split(maxsplit=2)[2] for line in shown.getvalue().splitlines() if "slow.py" in line
        ]
    assert seen["own"][0] == "5  slow.py:1 inner"
    assert seen["cumulative"] == ["1  slow.py:1 <module>", "1  slow.py:4 outer", "5  slow.py:1 inner"]


@pytest.mark.parametrize(
    ("model", "base_url", "keys", "name"),
    [
        ("claude-x", "", ("ANTHROPIC",), "anthropic:claude-x"),
        ("gpt-x", "", ("OPENAI",), "openai:gpt-x"),
        ("claude-x", "", ("ANTHROPIC", "OPENAI"), "anthropic:claude-x"),
        ("gpt-x", "", ("ANTHROPIC", "OPENAI"), "openai:gpt-x"),
        ("m", "http://localhost:8000/v1", (), "openai:m"),
    ],
)
def test_the_provider_follows_from_address_and_keys(monkeypatch, model, base_url, keys, name) -> None:
    for each in ("ANTHROPIC", "OPENAI"):
        monkeypatch.delenv(f"{each}_BASE_URL", raising=False)
        monkeypatch.setenv(f"{each}_API_KEY", KEY if each in keys else "")
    pytest.importorskip(name.partition(":")[0], reason="pip install '.[agent]'")
    assert open_chat(model, TOOLS, base_url=base_url).name == name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "no key: set ANTHROPIC_API_KEY or OPENAI_API_KEY"),
        ({"provider": "anthropic", "base_url": "http://localhost:1"}, "set ANTHROPIC_API_KEY"),
        ({"provider": "openai"}, "set OPENAI_API_KEY"),
        ({"provider": "parrot"}, "unknown provider 'parrot'"),
        ({"base_url": "localhost:8000"}, "no http or https address"),
        ({"base_url": "http://h:99999/v1"}, "is no address"),
        ({"base_url": f"http://me:{KEY}@host/v1"}, "must hold no key"),
        ({"base_url": f"http://host/v1?key={KEY}"}, "must hold no key"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_sent(monkeypatch, options, says) -> None:
    for each in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(each, raising=False)
    with pytest.raises(AgentError, match=says) as caught:
        open_chat("m", TOOLS, **options)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_without_a_key_says_so_in_one_line(monkeypatch, tmp_path, capsys) -> None:
    import helpers.__main__ as command

    for each in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.chdir(tmp_path)
    words = ["profiling", "solve", "--problem", "torch", "--model", "m", "--runs", "10", "--concurrent", "2"]
    monkeypatch.setattr(command.sys, "argv", ["helpers", *words])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: no key: set ANTHROPIC_API_KEY")
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_the_command_hands_its_options_on(provider, monkeypatch, tmp_path) -> None:
    """Everything is real but the model, the scripts it would run and the grading."""
    import helpers.__main__ as command

    (tmp_path / "problems/toy").mkdir(parents=True)
    for name, text in ASSIGNMENT.files.items():
        (tmp_path / "problems/toy" / name).write_text(text)
    rules = SimpleNamespace(name="toy", folder=tmp_path / "problems/toy", **vars(toy_rules()))
    bench, model = Bench(), ScriptedModel([GOOD[0], submit(FAST)])
    monkeypatch.setattr(solve_command, "load_problem", lambda name, problems: {"toy": rules}[name])
    monkeypatch.setattr(grader, "grade", lambda problem, script, problems: bench.grade(problem, script))
    address = model.address + ("" if provider == "anthropic" else "/v1")
    words = ["--problem", "toy", "--model", "m", "--runs", "2", "--max-tokens", "9000", "--max-seconds", "60",
             "--max-turns", "5", "--reply-tokens", "400", "--script-seconds", "7", "--provider", provider,
             "--base-url", address, "--out", str(tmp_path / "out")]  # fmt: skip
    monkeypatch.setattr(command.sys, "argv", ["helpers", "profiling", "solve", *words])
    with pytest.raises(SystemExit) as ended:
        command.main()
    model.close()
    assert ended.value.code in (0, None)
    result = read_solve(tmp_path / "out")
    assert result.limits == Limits(9000, 60.0, 5, 400, 7.0)
    assert (result.model, result.passed, result.n) == (f"{provider}:m", 2, 2)
    assert {body["max_tokens"] for body in model.requests} == {400}
    assert results(tmp_path / "out")[1]["text"] == "    1  Twice as fast."
