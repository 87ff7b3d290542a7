"""Responses to Track B's tasks scored: by running them where the kind allows, by checks elsewhere.

What a response has to do to pass, by kind:

    fix_bug, implement  its function passes all of the task's tests in the sandbox; where the task
                        asks for one line, the function given with that line put in
    improve             the same, and it costs less than the code given (`code_quality.is_gain`)
    unit_tests          its asserts pass on the reference, each time they are run, and fail on at
                        least one held mutant; the share killed is kept
    docstring           code unchanged but for the docstring, which describes every parameter, no
                        parameter that does not exist, and the return value where there is one
    explain             prose that names the function and every parameter, and nothing that does
                        not exist

Empty, truncated and unparsable answers never pass. Model, copy of the input and reference go
through the same function.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from helpers.data.docstrings import (
    described_names,
    docstring_of,
    read_docstring,
    returns_a_value,
    same_code,
    undescribed,
)
from helpers.data.execution import ExecutionContext, limited
from helpers.data.masking import mask_secrets
from helpers.data.phrasings import fenced, spliced
from helpers.eval.code_extraction import answered_line, defines, extract_code, parse
from helpers.eval.code_quality import is_gain, quality_costs
from helpers.eval.code_style import style_scores
from helpers.eval.generated_tests import asserts_about, generated_test_program, without_definition
from helpers.eval.hallucination import invented_names
from helpers.eval.name_context import NameContext
from helpers.eval.sandbox import Outcome, Program, run_programs
from helpers.processes import divided
from helpers.records import ResponseScore, Task, TaskKind

RUN_KINDS: tuple[TaskKind, ...] = ("fix_bug", "implement", "improve")
REFERENCE_RUNS = 3  # of generated tests: luck must not look like a killed mutant
MIN_WORDS = 8  # of an explanation
Verdict = tuple[str, str]  # status, detail


def score_responses(
    tasks: Sequence[Task],
    responses: Mapping[str, Sequence[str]],
    *,
    context: ExecutionContext,
    workers: int,
    names: NameContext | None = None,
) -> list[ResponseScore]:
    """Score every response of every task, in the order of tasks, then responses.

    Args:
        responses: task id -> texts; the first is the greedy one (`sample` 0), the rest are samples.
        context: from `helpers.data.ground_truth.execution_context`.
        workers: sandbox processes of each process that shares the work; no verdict depends on either.
        names: what exists; without it `invented_names` stays empty and explanations are not
            checked for it.

    Raises:
        KeyError: if a task has no responses at all.
    """
    items = [(task, sample, text) for task in tasks for sample, text in enumerate(responses[task.id])]
    codes = [_code_of(task, text) for task, _, text in items]
    invented = [
        _invented(task, text, code, names) for (task, _, text), code in zip(items, codes, strict=True)
    ]
    early = [
        _before_running(task, text, code, found)
        for (task, _, text), code, found in zip(items, codes, invented, strict=True)
    ]
    programs = [
        _programs(task, code) if verdict is None else []
        for (task, _, _), code, verdict in zip(items, codes, early, strict=True)
    ]
    outcomes = _run_distinct([p for several in programs for p in several], context, workers)
    gains = _gains([(task, code) for (task, _, _), code in zip(items, codes, strict=True)])
    styles = style_scores([code or "" for code in codes])
    scores = []
    for (task, sample, text), verdict, several, gain, style, found in zip(
        items, early, programs, gains, styles, invented, strict=True
    ):
        mine = [outcomes[program] for program in several]
        nothing = 0.0 if task.kind == "unit_tests" else None
        status, detail, killed = (*verdict, nothing) if verdict else _judge(task, mine, gain)
        scores.append(
            ResponseScore(
                task.id,
                task.kind,
                task.function_id,
                sample,
                text,
                status,
                status == "passed",
                style.score,
                tuple(style.findings),
                found,
                mask_secrets(detail).text,
                killed,
            )
        )
    return scores


def copy_input_responses(tasks: Sequence[Task]) -> dict[str, list[str]]:
    """The trivial baseline: the code given, returned as it is."""
    return {task.id: [_given(task)] for task in tasks}


def reference_responses(tasks: Sequence[Task]) -> dict[str, list[str]]:
    """The ceiling: each task's reference; one that does not pass is set aside (`helpers.eval.references`)."""
    return {task.id: [task.reference] for task in tasks}


def _given(task: Task) -> str:
    if task.detail.get("form") == "line":
        return task.detail["given"].splitlines()[int(task.detail["line"]) - 1].strip()
    return fenced(task.detail["given"])


def _marked_line(task: Task) -> str:
    return task.detail["given"].splitlines()[int(task.detail["line"]) - 1].strip()


def _code_of(task: Task, text: str) -> str | None:
    if task.kind == "explain":
        return None
    if task.detail.get("form") == "line":
        line = answered_line(text)
        whole = spliced(task.detail["given"], int(task.detail["line"]), line)
        return whole if line and parse(whole) is not None else None
    return extract_code(text, entry_point=None if task.kind == "unit_tests" else task.entry_point)


def _before_running(task: Task, text: str, code: str | None, invented: tuple[str, ...]) -> Verdict | None:
    """The verdict where nothing has to run; None where something has."""
    if not text.strip():
        return "empty", "no text"
    if task.kind == "explain":
        return _judge_explanation(task, text, invented)
    if code is None:
        return "unparsable", "no code that parses"
    if task.kind == "unit_tests":
        if not asserts_about(without_definition(code, task.entry_point), task.entry_point):
            return "failed", f"no assert about {task.entry_point}"
        return None
    if not defines(code, task.entry_point):
        return "failed", f"no function {task.entry_point}"
    return _judge_docstring(task, code) if task.kind == "docstring" else None


def _judge_docstring(task: Task, code: str) -> Verdict:
    parameters = tuple(json.loads(task.detail["parameters"]))
    try:
        docstring = docstring_of(code)
    except ValueError as error:
        return "unparsable", str(error)
    if not same_code(code, task.detail["given"]):
        return "failed", "the code itself was changed"
    if not read_docstring(docstring).summary:
        return "failed", "no docstring"
    missing = undescribed(docstring, parameters)
    if missing:
        return "failed", f"not described: {', '.join(missing)}"
    foreign = [name for name in described_names(docstring) if name not in parameters]
    if foreign:
        return "failed", f"no such parameter: {', '.join(foreign)}"
    if returns_a_value(task.detail["given"]) and read_docstring(docstring).returns is None:
        return "failed", "the return value is not described"
    return "passed", ""


def _judge_explanation(task: Task, text: str, invented: tuple[str, ...]) -> Verdict:
    words = set(re.findall(r"\w+", text))
    missing = [n for n in (task.entry_point, *json.loads(task.detail["parameters"])) if n not in words]
    if len(text.split()) < MIN_WORDS:
        return "failed", f"fewer than {MIN_WORDS} words"
    if extract_code(text, entry_point=task.entry_point) and defines(
        extract_code(text, entry_point=task.entry_point) or "", task.entry_point
    ):
        return "failed", "code instead of an explanation"
    if missing:
        return "failed", f"not mentioned: {', '.join(missing)}"
    if invented:
        return "failed", f"does not exist: {', '.join(invented)}"
    return "passed", ""


def _programs(task: Task, code: str | None) -> list[Program]:
    """What has to run: one program, or for unit tests the reference and each held mutant."""
    if code is None:
        return []
    if task.kind in RUN_KINDS:
        return [limited(f"{task.prelude}{code}\n", task.tests, task.entry_point)]
    tests = without_definition(code, task.entry_point)
    held = json.loads(task.detail["mutants"])
    again = [f"{task.detail['code']}\n# run {number}\n" for number in range(1, REFERENCE_RUNS)]
    return [
        limited(*generated_test_program(task.prelude, subject, tests))
        for subject in (task.detail["code"], *again, *held)
    ]


def _run_distinct(
    programs: Sequence[Program], context: ExecutionContext, workers: int
) -> dict[Program, Outcome]:
    """Equal programs are run once, each by one of the processes that share the work."""

    def run(share: Sequence[Program]) -> list[Outcome]:
        return run_programs(
            share, workers=workers, preload=context.preload, python_path=context.python_path,
            what="score responses",
        )  # fmt: skip

    distinct = list(dict.fromkeys(programs))
    outcomes = divided(distinct, run)
    return dict(zip(distinct, outcomes, strict=True))


def _gains(items: Sequence[tuple[Task, str | None]]) -> list[bool | None]:
    """For improvements whether the response costs less than the code given; else None."""
    places = [i for i, (task, code) in enumerate(items) if task.kind == "improve" and code]
    before = quality_costs([items[i][0].detail["given"] for i in places])
    after = quality_costs([items[i][1] or "" for i in places])
    gains: list[bool | None] = [None] * len(items)
    for place, worse, better in zip(places, before, after, strict=True):
        gains[place] = worse is not None and better is not None and is_gain(worse, better)
    return gains


def _judge(task: Task, outcomes: Sequence[Outcome], gain: bool | None) -> tuple[str, str, float | None]:
    """Status, detail, and for unit tests the share of mutants killed."""
    if task.kind == "unit_tests":
        return _judge_tests(outcomes[:REFERENCE_RUNS], outcomes[REFERENCE_RUNS:])
    first = outcomes[0]
    if not first.passed:
        return first.status, first.detail, None
    if task.kind == "improve" and not gain:
        return "failed", "no gain: as many findings, branches and nodes as before, or more", None
    return "passed", "", None


def _judge_tests(on_reference: Sequence[Outcome], on_mutants: Sequence[Outcome]) -> tuple[str, str, float]:
    """Tests that fall on the reference once are worth nothing: their verdict on a mutant may be chance."""
    fallen = next((outcome for outcome in on_reference if not outcome.passed), None)
    if fallen is not None:
        return fallen.status, fallen.detail, 0.0
    broken = next((o for o in on_mutants if o.status == "infrastructure_error"), None)
    killed = sum(not o.passed for o in on_mutants if o.status != "infrastructure_error")
    if broken is not None and not killed:
        return broken.status, broken.detail, 0.0
    share = killed / max(len(on_mutants), 1)
    return ("passed" if killed else "failed"), f"kills {killed} of {len(on_mutants)} mutants", share


def _invented(task: Task, text: str, code: str | None, names: NameContext | None) -> tuple[str, ...]:
    if names is None or not text.strip():
        return ()
    answer = code if code and task.detail.get("form") == "line" else text
    return invented_names(answer, context=names.about(task.detail["code"], task.instruction, task.prelude))
