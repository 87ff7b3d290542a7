"""Score responses to Track B's tasks: run those of a kind that can run, check the others.

What a response must do to pass, by kind:

    fix_bug, implement  its function passes all of the task's tests in the sandbox; where the task
                        asks for one line, that line is put into the given function first
    improve             the same, and it costs less than the given code (`code.quality.is_gain`)
    unit_tests          its asserts pass on the reference every time they are run, and fail on at
                        least one held-out mutant; the share of mutants killed is kept. However they
                        import the function, they test the one in question (`tasks.aiming`)
    docstring           the code is unchanged except for its docstring, which describes every
                        parameter, no parameter that does not exist, and the return value if any
    explain             prose that comes to an end, does not repeat itself, names every parameter (but
                        `self` and `cls`) and nothing that does not exist, and says nothing that can be
                        checked and is not so: attributes and calls in backticks that the code lacks, a
                        return value that it does not return. This checks form and single statements,
                        not whether the whole is true

Empty and unparsable answers never pass. Of an answer that was cut off, what parses is judged
(`helpers.code.extraction`): it can pass if its function, line or asserts are whole. Copied inputs and
references are scored by the same function as the model's answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial

from helpers.code.names.context import NameContext
from helpers.code.quality import is_gain, quality_costs
from helpers.code.secrets import mask_secrets
from helpers.code.style import style_scores
from helpers.data.tasks.aiming import aimed_at
from helpers.data.tasks.checks import answer_code, invented_in_answer, verdict_without_running
from helpers.data.tasks.execution import ExecutionContext, limited
from helpers.data.tasks.generated_tests import generated_test_program, told_of_tests
from helpers.data.tasks.phrasings import fenced_python
from helpers.lines import bare_lines
from helpers.machine.processes import across_ranks
from helpers.records import ResponseScore, Task, TaskKind
from helpers.sandbox.api import Outcome, Program, run_programs

RUN_KINDS: tuple[TaskKind, ...] = ("fix_bug", "implement", "improve")
REFERENCE_RUNS = 3  # generated tests must hold each time: a flaky test must not pass for a killed mutant


def score_responses(
    tasks: Sequence[Task],
    responses: Mapping[str, Sequence[str]],
    *,
    context: ExecutionContext,
    workers: int,
    names: NameContext | None = None,
) -> list[ResponseScore]:
    """Score every response to every task, in the order of tasks, then responses.

    Args:
        responses: task id -> texts; the first is the greedy one (`sample` 0), the rest are samples.
        context: from `helpers.data.tasks.execution.execution_context`.
        workers: sandbox processes per sharing process; verdicts do not depend on how work is shared.
        names: the names that exist; without it `invented_names` stays empty and explanations are not
            checked for invented names.

    Raises:
        KeyError: if a task has no responses at all.
    """
    items = []
    for task in tasks:
        for sample, text in enumerate(responses[task.id]):
            code = answer_code(task, text)
            found = invented_in_answer(task, text, code, names)
            verdict = verdict_without_running(task, text, code, found)
            programs = [] if verdict or code is None else _programs(task, code)
            items.append((task, sample, text, code, found, verdict, programs))
    outcomes = _run_distinct([program for item in items for program in item[-1]], context, workers)
    codes = [(task, code) for task, _, _, code, *_ in items]
    styles = style_scores([code or "" for _, code in codes])
    scores = []
    for item, gain, style in zip(items, _gains(codes), styles, strict=True):
        task, sample, text, _, found, verdict, programs = item
        nothing = 0.0 if task.kind == "unit_tests" else None
        mine = [outcomes[program] for program in programs]
        status, detail, killed = (*verdict, nothing) if verdict else _judge(task, mine, gain)
        scores.append(ResponseScore(
            task.id, task.kind, task.function_id, sample, text, status, status == "passed",
            style.score, tuple(style.findings), found, mask_secrets(detail).text, killed,
        ))  # fmt: skip
    return scores


def copy_input_responses(tasks: Sequence[Task]) -> dict[str, list[str]]:
    """Build the trivial baseline, which returns the given code (or its marked line) as it is."""

    def given(task: Task) -> str:
        if task.detail.get("form") == "line":
            return bare_lines(task.detail["given"])[int(task.detail["line"]) - 1].strip()
        return fenced_python(task.detail["given"])

    return {task.id: [given(task)] for task in tasks}


def _programs(task: Task, code: str) -> list[Program]:
    """Build the programs to run: one, or for unit tests one for each run of the reference and each mutant."""
    if task.kind in RUN_KINDS:
        return [limited(f"{task.prelude}{code}\n", task.tests, task.entry_point)]
    tests = aimed_at(code, task.entry_point, task.prelude)
    again = [f"{task.detail['code']}\n# run {number}\n" for number in range(1, REFERENCE_RUNS)]
    subjects = [task.detail["code"], *again, *json.loads(task.detail["mutants"])]
    return [limited(*generated_test_program(task.prelude, subject, tests)) for subject in subjects]


def _run_distinct(
    programs: Sequence[Program], context: ExecutionContext, workers: int
) -> dict[Program, Outcome]:
    """Run each distinct program once, dividing them among the processes that share the work."""
    distinct = list(dict.fromkeys(programs))
    run = partial(
        run_programs, workers=workers, preload=context.preload, python_path=context.python_path,
        what="score responses",
    )  # fmt: skip
    return dict(zip(distinct, across_ranks(distinct, run), strict=True))


def _gains(items: Sequence[tuple[Task, str | None]]) -> list[bool | None]:
    """Return whether each improvement costs less than the given code; None for tasks of other kinds."""
    places = [i for i, (task, code) in enumerate(items) if task.kind == "improve" and code]
    before = quality_costs([items[i][0].detail["given"] for i in places])
    after = quality_costs([items[i][1] or "" for i in places])
    gains: list[bool | None] = [None] * len(items)
    for place, worse, better in zip(places, before, after, strict=True):
        gains[place] = worse is not None and better is not None and is_gain(worse, better)
    return gains


def _judge(task: Task, outcomes: Sequence[Outcome], gain: bool | None) -> tuple[str, str, float | None]:
    """Return status, detail and, for unit tests, the share of mutants killed."""
    if task.kind == "unit_tests":
        return _judge_tests(outcomes[:REFERENCE_RUNS], outcomes[REFERENCE_RUNS:])
    first = outcomes[0]
    if not first.passed:
        return first.status, first.detail, None
    if task.kind == "improve" and not gain:
        return "failed", "no gain: as many findings, branches and nodes as before, or more", None
    return "passed", "", None


def _judge_tests(on_reference: Sequence[Outcome], on_mutants: Sequence[Outcome]) -> tuple[str, str, float]:
    """Judge generated tests; whatever they kill does not count if they ever fail on the reference."""
    if fallen := next((outcome for outcome in on_reference if not outcome.passed), None):
        return fallen.status, told_of_tests(fallen.detail), 0.0
    broken = next((o for o in on_mutants if o.status == "infrastructure_error"), None)
    killed = sum(not o.passed for o in on_mutants if o.status != "infrastructure_error")
    if broken and not killed:
        return broken.status, broken.detail, 0.0
    share = killed / max(len(on_mutants), 1)
    return ("passed" if killed else "failed"), f"kills {killed} of {len(on_mutants)} mutants", share
