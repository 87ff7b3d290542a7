"""Establish functions whose behaviour is known because it was run: reference, tests, mutants killed.

Each candidate gets a set of tests (`helpers.data.tasks.test_sets`: doctests, cases of the corpus's own
test-suite, recorded answers). The reference passes all of them under every condition that should not
matter, within a twentieth of a program's limits. Single-fault mutants (`helpers.data.tasks.bugs`) measure
how strong the tests are: mutation score = mutants that fail at least one test / mutants run. A function
whose score is below `MIN_MUTATION_SCORE` is not used. Two sorts of mutants are counted but never used as
bugs: those that survive, since they may be equivalent to the reference, and those that only reach a limit.
A mutant that passes once and fails once counts as not run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from helpers.data.tasks.bugs import Bug, make_bugs
from helpers.data.tasks.candidate_cases import looks_testable
from helpers.data.tasks.execution import (
    MAX_STEPS,
    ExecutionContext,
    execution_context,
    import_line,
    module_prelude,
    program,
    settled_in,
    strip_decorators,
)
from helpers.data.tasks.purity import OUTSIDE, PurityRule, counted_reasons
from helpers.data.tasks.stability import Doubt
from helpers.data.tasks.suite_cases import TestSuite
from helpers.data.tasks.test_sets import DrawnTests, TestSet, draw_up_tests
from helpers.records import Corpus, Function
from helpers.sandbox.api import Program

MIN_MUTATION_SCORE = 0.6
MIN_MUTANTS = 2  # with fewer mutants, the share says nothing about the tests
MAX_MUTANTS = 8


@dataclass(frozen=True)
class GroundTruth:
    """One verified function."""

    function: Function
    code: str  # source without decorators and docstring; mutants are made from it
    prelude: str  # code that puts the names of the function's module in scope
    test_set: TestSet
    mutants: tuple[Bug, ...]  # mutants that give a wrong answer or an error in at least one test
    n_killed: int  # `mutants`, and those that run into a limit or crash
    n_mutants: int  # mutants that were run and ended the same way twice

    @property
    def tests(self) -> str:
        """Text of all tests."""
        return self.test_set.text

    @property
    def n_cases(self) -> int:
        """Number of assertions and cases together."""
        return self.test_set.n_cases

    @property
    def mutation_score(self) -> float:
        """Return the share of the executed mutants that the tests killed."""
        return self.n_killed / self.n_mutants


def program_of(truth: GroundTruth, code: str, max_steps: int = MAX_STEPS) -> Program:
    """Return the program that runs the function's tests on `code` in its place."""
    return program(truth.function, code, truth.tests, prelude=truth.prelude, max_steps=max_steps)


def verify_functions(
    functions: Sequence[Function],
    corpus: Corpus,
    *,
    wanted: int,
    seed: int,
    workers: int,
    suite: TestSuite | None = None,
) -> tuple[list[GroundTruth], dict[str, int], dict[str, str], list[Doubt]]:
    """Verify functions in seeded order until `wanted` of them are usable.

    Functions that `helpers.data.tasks.purity` rules out are counted and not run.

    Args:
        suite: the corpus's own tests; none are used when None.

    Returns:
        The verified functions; counts of functions by outcome, of mutants, and of cases left out; the
        outcome of every function that was run, by id; and the cases whose answer changed, to be explained
        by `helpers.data.tasks.stability.explain_doubts`.
    """
    counts: Counter[str] = Counter()
    rule = PurityRule(corpus, functions)
    refused = {function.id: rule.reason(function) for function in functions}
    counts.update(counted_reasons(refused.values()))
    order = _in_order([f for f in functions if refused[f.id] in ("", OUTSIDE)], suite, seed)
    verified: list[GroundTruth] = []
    context, alias = execution_context(corpus), import_line(corpus)
    ran: dict[str, str] = {}
    doubts: list[Doubt] = []
    size = max(8, min(40, wanted))
    for start in range(0, len(order), size):
        if len(verified) >= wanted:
            break
        batch = [f for f in order[start : start + size] if not refused[f.id]]
        for drawn, truth, outcome in _verify_batch(batch, alias, context, suite, seed, workers):
            counts[outcome] += 1
            counts.update(left_out(drawn.left_out))
            doubts += [drawn.doubt] if drawn.doubt else []
            ran[drawn.function.id] = outcome
            verified += [truth] if truth else []
    return verified, {**counts, **_mutant_counts(verified)}, ran, doubts


def left_out(reasons: Counter[str]) -> dict[str, int]:
    """Return the numbers of cases left out, named as in the counts of `verify_functions`."""
    return {f"cases left out: {reason}": count for reason, count in reasons.items()}


def _in_order(functions: Sequence[Function], suite: TestSuite | None, seed: int) -> list[Function]:
    """Return the functions in seeded order, those that look testable before all others."""
    order = sorted(functions, key=lambda function: function.id)
    random.Random(f"{seed}:ground truth").shuffle(order)
    return sorted(  # stable, so the seeded order stays within both halves
        order, key=lambda f: looks_testable(f) or (suite is not None and suite.has(f)), reverse=True
    )


def _mutant_counts(verified: Sequence[GroundTruth]) -> dict[str, int]:
    run, killed = sum(t.n_mutants for t in verified), sum(t.n_killed for t in verified)
    return {
        "mutants run": run,
        "mutants killed": killed,
        "mutants killed by a limit alone, not used": killed - sum(len(t.mutants) for t in verified),
        "mutants that survived (equivalent or unnoticed), dropped": run - killed,
    }


def _verify_batch(
    functions: Sequence[Function],
    alias: str,
    context: ExecutionContext,
    suite: TestSuite | None,
    seed: int,
    workers: int,
) -> list[tuple[DrawnTests, GroundTruth | None, str]]:
    results: list[tuple[DrawnTests, GroundTruth | None, str]] = []
    runs: list[tuple[DrawnTests, TestSet, str, list[Bug]]] = []
    for drawn in draw_up_tests(functions, alias, context, suite, seed=seed, workers=workers):
        if drawn.tests is None:
            results.append((drawn, None, drawn.reason))
        else:
            code = strip_decorators(drawn.function.code)
            runs.append((drawn, drawn.tests, code, _sample_mutants(drawn.function, code, seed)))
    programs = [program(one.function, bug.source, t.text) for one, t, _, bugs in runs for bug in bugs]
    outcomes = iter(settled_in(context, programs, workers=workers, what="run mutants"))
    for drawn, tests, code, bugs in runs:
        function = drawn.function
        ends = [(bug, next(outcomes)) for bug in bugs]
        told = [(bug, end) for bug, end in ends if end is not None]
        killed = [(bug, end) for bug, end in told if not end.passed]
        if len(told) < MIN_MUTANTS:
            results.append((drawn, None, "too few mutants"))
        elif len(killed) / len(told) < MIN_MUTATION_SCORE:
            results.append((drawn, None, "tests too weak"))
        else:
            usable = tuple(bug for bug, end in killed if end.status == "failed")
            prelude = module_prelude(function)
            truth = GroundTruth(function, code, prelude, tests, usable, len(killed), len(told))
            results.append((drawn, truth, "verified"))
    return results


def _sample_mutants(function: Function, code: str, seed: int) -> list[Bug]:
    """Return up to `MAX_MUTANTS`; operators take turns, so that none crowds out the others."""
    by_operator: dict[str, list[Bug]] = {}
    for bug in make_bugs(code):
        by_operator.setdefault(bug.operator, []).append(bug)
    rng = random.Random(f"{seed}:mutants:{function.id}")
    columns = [rng.sample(bugs, len(bugs)) for _, bugs in sorted(by_operator.items())]
    rng.shuffle(columns)
    turns = [bug for row in zip_longest(*columns) for bug in row if bug is not None]
    return turns[:MAX_MUTANTS]
