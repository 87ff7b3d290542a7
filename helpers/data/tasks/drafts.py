"""Make drafts of pairs and tasks from functions: one maker per task kind.

Where a kind claims something about behaviour, its maker returns only what has been run. A repair comes
from a mutant that fails a test, on a line whose plain removal fails a test too. An improvement has a
worse version that passes all tests and costs more. Unit tests pass on the reference and fail on a
mutant. The order of drafts is seeded.
"""

from __future__ import annotations

import ast
import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from helpers.code.docstrings import read_docstring, stub, with_docstring
from helpers.code.extraction import parse
from helpers.code.quality import is_gain, quality_costs
from helpers.data.tasks.bugs import Bug
from helpers.data.tasks.execution import (
    MAX_STEPS,
    REFERENCE_STEPS,
    ExecutionContext,
    limited,
    program,
    run_in,
)
from helpers.data.tasks.generated_tests import asserts_about, generated_test_program
from helpers.data.tasks.ground_truth import GroundTruth
from helpers.data.tasks.phrasings import PHRASINGS, fenced_python, mark_line, phrase, spliced, unfenced
from helpers.data.tasks.suite_rewriting import statements_for
from helpers.data.tasks.worsening import Worsened, worsened_versions
from helpers.lines import bare_lines
from helpers.records import Function, InstructPair, Task, TaskKind
from helpers.sandbox.api import Program

# How a wrong program ends. An error of the sandbox itself says nothing about the program.
NOTICED = ("failed", "crashed", "timeout")
VERSIONS_PER_FUNCTION = {"fix_bug": 6, "improve": 3}
SPARE = 2  # functions tried per wanted draft of a kind that has to be run once more
HELD_MUTANTS = 4  # mutants that a response's unit tests are run against
ASSERTS_SHOWN = 3  # assertions in a unit-test response
CASES_SHOWN = 2  # of these, at most, from the corpus's own tests
CASE_CHARS = 250  # longest case that is shown


@dataclass(frozen=True)
class Draft:
    """What a pair or a task of one kind says about one function."""

    kind: TaskKind
    function: Function
    given: str  # the code shown in the instruction, as a model would have to copy it
    response: str
    verified: tuple[str, ...]  # what was checked, in words that the pair carries
    truth: GroundTruth | None = None
    detail: dict[str, str] = field(default_factory=dict)
    instruction: str = ""  # filled in by `phrased`
    phrasing: int = 0  # place of its template among those of the kind


def executable_drafts(
    truths: Sequence[GroundTruth],
    context: ExecutionContext,
    *,
    wanted: Mapping[TaskKind, int],
    repair_form: str = "function",
    seed: int,
    workers: int,
) -> list[Draft]:
    """Return the drafts of the kinds that rest on running code, for verified functions.

    `wanted` says how many drafts of a kind are needed. Improvements and unit tests have to be run once
    more, so they are made from only `SPARE` times as many functions.
    """
    return [
        *_fix_bug(truths, _lines_that_matter(truths, context, workers), seed, repair_form),
        *_implement(truths, context, seed, workers),
        *_improve(truths[: SPARE * wanted["improve"]], context, seed, workers),
        *_unit_tests(truths[: SPARE * wanted["unit_tests"]], context, seed, workers),
    ]


def without_fences(draft: Draft) -> Draft:
    """Return the draft with its code bare, for a model that never saw Markdown around code."""
    return replace(draft, instruction=unfenced(draft.instruction), response=unfenced(draft.response))


def pair_of(draft: Draft, identifier: str) -> InstructPair:
    """Return the draft as a training pair, with all it takes to run it again."""
    task = task_of(draft, identifier)
    return InstructPair(
        identifier, draft.kind, draft.function.id, draft.function.path, draft.instruction, draft.response,
        draft.phrasing, draft.verified, task.detail, task.entry_point, task.prelude, task.tests, task.n_cases,
    )  # fmt: skip


def task_of(draft: Draft, identifier: str) -> Task:
    """Return the draft as a task whose reference is the draft's response."""
    truth = draft.truth
    detail = {
        "given": draft.given,
        "code": truth.code if truth else draft.given,
        "parameters": json.dumps(draft.function.parameters),
    }
    if truth:
        detail["mutation_score"] = f"{truth.n_killed}/{truth.n_mutants}"
        detail["cases"] = ", ".join(f"{name} {n}" for name, n in truth.test_set.sources.items() if n)
    return Task(
        identifier, draft.kind, draft.function.id, draft.function.path, draft.instruction, draft.response,
        draft.function.name, truth.prelude if truth else "", truth.tests if truth else "",
        truth.n_cases if truth else 0, detail | draft.detail,
    )  # fmt: skip


def phrased(draft: Draft, seed: int, *, shown: str = "", key: str = "") -> Draft:
    """Return the draft with its instruction, in a phrasing of its kind that `seed` draws.

    Args:
        shown: the code in the instruction where that is not `given` (one line is marked).
        key: tells drafts of one kind and function apart, so that each draws its own phrasing.
    """
    kind, function, by_line = draft.kind, draft.function, draft.detail.get("form") == "line"
    index = random.Random(f"{seed}:phrasing:{kind}:{function.id}:{key}").randrange(len(PHRASINGS[kind]))
    instruction = phrase(kind, index, code=shown or draft.given, name=function.name, by_line=by_line)
    return replace(draft, instruction=instruction, phrasing=index)


def _program(truth: GroundTruth, code: str, max_steps: int = MAX_STEPS) -> Program:
    return program(truth.function, code, truth.tests, prelude=truth.prelude, max_steps=max_steps)


def _lines_that_matter(
    truths: Sequence[GroundTruth], context: ExecutionContext, workers: int
) -> set[tuple[str, int]]:
    """Return (function id, line) of the lines whose plain removal the tests notice.

    A repair of any other line would pass by merely taking the line out of the way: with nothing in its
    place, or with a header that never, or always, lets its block run.
    """
    tried, programs = [], []
    for truth in truths:
        for line in sorted({bug.line for bug in truth.mutants}):
            for trivial in _trivial_lines(truth.code, line):
                tried.append((truth.function.id, line))
                programs.append(_program(truth, spliced(truth.code, line, trivial)))
    outcomes = run_in(context, programs, workers=workers, what="drop lines")
    unnoticed = {place for place, end in zip(tried, outcomes, strict=True) if end.status not in NOTICED}
    return set(tried) - unnoticed


def _trivial_lines(code: str, line: int) -> tuple[str, ...]:
    """Return the stand-ins that may replace a line whatever it says; none if the code parses with none."""
    lines = bare_lines(code)
    if line > len(lines):
        return ()
    stands = ("pass", "if True:", "if False:", "for _ in ():", "else:")
    return tuple(stand for stand in stands if parse(spliced(code, line, stand)) is not None)


def _fix_bug(
    truths: Sequence[GroundTruth], matters: set[tuple[str, int]], seed: int, form: str
) -> list[Draft]:
    drafts = []
    for truth in truths:
        rng = random.Random(f"{seed}:bugs:{truth.function.id}")
        noticed = [bug for bug in truth.mutants if (truth.function.id, bug.line) in matters]
        bugs = rng.sample(noticed, min(len(noticed), VERSIONS_PER_FUNCTION["fix_bug"]))
        passes = f"reference passes {truth.n_cases} tests"
        checks = (passes, "given fails them", "removing the line fails them")
        for bug in bugs:
            detail = {"operator": bug.operator, "line": str(bug.line), "given": bug.source, "form": form}
            response = _fixed_line(truth.code, bug) if form == "line" else fenced_python(truth.code)
            if response is None:  # the fault spans several lines
                continue
            draft = Draft("fix_bug", truth.function, bug.source, response, checks, truth, detail)
            shown = mark_line(bug.source, bug.line, above=form == "function")
            drafts.append(phrased(draft, seed, shown=shown, key=f"{bug.operator}:{bug.line}"))
    return drafts


def _fixed_line(code: str, bug: Bug) -> str | None:
    """Return the line of `code` that `bug` changed; None if putting it back does not give `code`."""
    lines = bare_lines(code)
    if bug.line > len(lines):
        return None
    line = lines[bug.line - 1].strip()
    return line if spliced(bug.source, bug.line, line).split() == code.split() else None


def _implement(
    truths: Sequence[GroundTruth], context: ExecutionContext, seed: int, workers: int
) -> list[Draft]:
    """Return functions to write from signature and summary; leave out those that pass with an empty body.

    The answer repeats the summary as its docstring: a model that learns to leave it out leaves it out
    everywhere.
    """
    stubs = []
    for truth in truths:
        if summary := read_docstring(truth.function.docstring).summary:
            stubs.append((truth, stub(truth.code, summary), summary))
    programs = [_program(truth, f"{head}    pass\n") for truth, head, _ in stubs]
    outcomes = run_in(context, programs, workers=workers, what="run stubs")
    drafts = []
    for (truth, head, summary), outcome in zip(stubs, outcomes, strict=True):
        if outcome.status in NOTICED:
            checks = (f"reference passes {truth.n_cases} tests", "an empty body fails them")
            answer = fenced_python(with_docstring(truth.code, summary))
            drafts.append(phrased(Draft("implement", truth.function, head, answer, checks, truth), seed))
    return drafts


def _improve(
    truths: Sequence[GroundTruth], context: ExecutionContext, seed: int, workers: int
) -> list[Draft]:
    by_operator: list[dict[str, Worsened]] = []
    for truth in truths:
        versions = list(worsened_versions(truth.code))
        random.Random(f"{seed}:worse:{truth.function.id}").shuffle(versions)
        by_operator.append({version.operator: version for version in versions})
    frequency = Counter(name for versions in by_operator for name in versions)
    candidates = []
    for truth, versions in zip(truths, by_operator, strict=True):  # the rarer operators first
        names = sorted(versions, key=lambda name: (frequency[name], name))
        candidates += [(truth, versions[name]) for name in names[: VERSIONS_PER_FUNCTION["improve"]]]
    costs = quality_costs([version.source for _, version in candidates])
    goals = quality_costs([truth.code for truth, _ in candidates])
    programs = [_program(truth, version.source, REFERENCE_STEPS) for truth, version in candidates]
    outcomes = run_in(context, programs, workers=workers, what="run worse versions")
    drafts = []
    for (truth, version), cost, goal, outcome in zip(candidates, costs, goals, outcomes, strict=True):
        if outcome.passed and cost is not None and goal is not None and is_gain(cost, goal):
            checks = (
                f"both pass {truth.n_cases} tests",
                f"findings {cost.findings} -> {goal.findings}, nodes {cost.nodes} -> {goal.nodes}",
            )
            detail = {"operator": version.operator, "given": version.source}
            answer = fenced_python(truth.code)
            draft = Draft("improve", truth.function, version.source, answer, checks, truth, detail)
            drafts.append(phrased(draft, seed, key=version.operator))
    return drafts


def _unit_tests(
    truths: Sequence[GroundTruth], context: ExecutionContext, seed: int, workers: int
) -> list[Draft]:
    prepared, programs = [], []
    for truth in truths:
        tests = _shown_tests(truth)
        if not asserts_about(tests, truth.function.name):  # answers are scored by the same rule
            continue
        mutants = [bug.source for bug in truth.mutants[:HELD_MUTANTS]]
        prepared.append((truth, tests, mutants))
        for code in (truth.code, *mutants):
            programs.append(limited(*generated_test_program(truth.prelude, code, tests)))
    outcomes = iter(run_in(context, programs, workers=workers, what="run unit tests"))
    drafts = []
    for truth, tests, mutants in prepared:
        on_reference = next(outcomes)
        ends = [next(outcomes) for _ in mutants]
        killed = sum(end.status in NOTICED for end in ends)
        if on_reference.passed and killed:
            checks = ("passes on the reference", f"kills {killed} of {len(mutants)} mutants")
            detail = {"mutants": json.dumps(mutants), "given": truth.code}
            answer = fenced_python(tests)
            draft = Draft("unit_tests", truth.function, truth.code, answer, checks, truth, detail)
            drafts.append(phrased(draft, seed))
    return drafts


def _shown_tests(truth: GroundTruth) -> str:
    """Return tests as a person would write them, cases of the corpus's tests first; "" if there are none."""
    cases = [case.body for case in truth.test_set.suite if "close(" not in case.body]
    cases = [body for body in cases if len(body) <= CASE_CHARS][:CASES_SHOWN]
    asserts = _shown_asserts(truth.test_set.asserts, ASSERTS_SHOWN - len(cases))
    written = [ast.unparse(node) for body in cases for node in ast.parse(body).body]
    written += [*statements_for(truth.test_set.setup, asserts), *asserts]
    imports = dict.fromkeys(text for text in written if text.startswith(("import ", "from ")))
    return "\n".join([*imports, *(text for text in written if text not in imports)])


def _shown_asserts(asserts: Sequence[str], limit: int) -> list[str]:
    """Return up to `limit` of the shortest one-line assertions, new answers before repeated ones."""
    answers: Counter[str] = Counter()
    ranked = []
    plain = (text for text in asserts if "\n" not in text and "lambda" not in text)
    for text in sorted((ast.unparse(ast.parse(text)) for text in plain), key=len):
        answer = re.split(r" == | is ", text)[-1]
        answers[answer] += 1
        ranked.append((answers[answer], len(text), text))
    return [text for *_, text in sorted(ranked)[:limit]]
