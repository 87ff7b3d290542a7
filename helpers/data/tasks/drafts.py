"""Make drafts of the kinds that rest on running code: improvements and unit tests here.

Where a kind claims something about behaviour, its maker returns only what has been run. Repairs and
functions to write have files of their own (`repairs`, `implementations`). An improvement has a worse version
that passes all tests and costs more. Unit tests pass on the reference and fail on a mutant. The order of
drafts is seeded.
"""

from __future__ import annotations

import ast
import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from helpers.code.quality import is_gain, quality_costs
from helpers.data.tasks.branches import reaching_all
from helpers.data.tasks.draft import Draft, phrased
from helpers.data.tasks.execution import NOTICED, REFERENCE_STEPS, ExecutionContext, limited, run_in
from helpers.data.tasks.generated_tests import asserts_about, generated_test_program
from helpers.data.tasks.ground_truth import GroundTruth, program_of
from helpers.data.tasks.implementations import implementations
from helpers.data.tasks.phrasings import fenced_python
from helpers.data.tasks.repairs import repairs
from helpers.data.tasks.suite_rewriting import statements_for
from helpers.data.tasks.worsening import Worsened, worsened_versions
from helpers.records import TaskKind

WORSE_VERSIONS = 3  # of one function
SPARE = 2  # functions tried per wanted draft of a kind that has to be run once more
HELD_MUTANTS = 4  # mutants that a response's unit tests are run against
ASSERTS_SHOWN = 3  # assertions in a unit-test response
CASES_SHOWN = 2  # of these, at most, from the corpus's own tests
CASE_CHARS = 250  # longest case that is shown


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
        *repairs(truths, context, seed, workers, repair_form),
        *implementations(truths, context, seed, workers),
        *_improve(truths[: SPARE * wanted["improve"]], context, seed, workers),
        *_unit_tests(truths[: SPARE * wanted["unit_tests"]], context, seed, workers),
    ]


def _improve(
    truths: Sequence[GroundTruth], context: ExecutionContext, seed: int, workers: int
) -> list[Draft]:
    """Return improvements of functions whose tests reach every branch; those of others are spares."""
    reached, others = reaching_all(truths, context, workers)
    known = ("the tests reach every branch",)
    spares = _improvements(others, context, seed, workers)
    found = [
        replace(draft, verified=(*draft.verified, *known))
        for draft in _improvements(reached, context, seed, workers)
    ]
    return found + [replace(draft, is_spare=True) for draft in spares]


def _improvements(
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
        candidates += [(truth, versions[name]) for name in names[:WORSE_VERSIONS]]
    costs = quality_costs([version.source for _, version in candidates])
    goals = quality_costs([truth.code for truth, _ in candidates])
    programs = [program_of(truth, version.source, REFERENCE_STEPS) for truth, version in candidates]
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
