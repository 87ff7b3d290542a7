"""Keep the cases that hold in any process; leave out and count those that depend on more than the code.

The reference answers every case again in separate warm processes that differ in everything that should not
matter (`helpers.sandbox.run_conditions`): each case twice per process, in changing order, with other objects
in memory every time. A case that fails once is dropped; the other cases of its function stay. At the end,
`explain_doubts` finds out what a dropped answer depends on, by changing one thing at a time. A case is also
dropped if it starts threads, or if its function's cases together would take more than a twentieth of a
program's limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from helpers.data.tasks.execution import (
    MEMORY_MB,
    REFERENCE_LOOPS,
    REFERENCE_STEPS,
    TIMEOUT_S,
    ExecutionContext,
    module_prelude,
    strip_decorators,
)
from helpers.records import Function
from helpers.sandbox.api import SandboxError
from helpers.sandbox.examination import CaseResult, Cases, examine_cases
from helpers.sandbox.run_conditions import ALONE, BASE, VARIATIONS, RunConditions

THREADS = "answer depends on the timing of threads"
TOO_DEAR = "takes more than a twentieth of the limit"
NEVER_HELD = "does not hold for the reference"
UNEXPLAINED = "answer changes from process to process"
MOST_SLEPT_S = 0.1  # by one case; sleep depends on elapsed time, not on steps
ROUNDS_ALONE = 6  # runs of a case while its reason is sought, so that chance does not hide it


@dataclass(frozen=True)
class Subject:
    """One function with its cases, as `helpers.sandbox.examination.Cases` takes them."""

    function: Function
    setup: str
    cases: tuple[str, ...]
    recorded: tuple[bool, ...]  # for each case, whether the reference has answered it before


@dataclass
class Stability:
    """What was found out about one subject's cases."""

    left_out: dict[int, str] = field(default_factory=dict)  # place -> reason
    doubtful: set[int] = field(default_factory=set)  # places whose reason is not known yet
    steps: dict[int, int] = field(default_factory=dict)  # place -> steps of its most expensive run
    loops: dict[int, float] = field(default_factory=dict)

    def kept(self, count: int) -> list[int]:
        """Return the places of the cases that are left of `count`."""
        return [place for place in range(count) if place not in self.left_out]

    @property
    def reasons(self) -> Counter[str]:
        """Reason -> number of cases, without those in doubt."""
        return Counter(reason for place, reason in self.left_out.items() if place not in self.doubtful)


@dataclass(frozen=True)
class Doubt:
    """Cases of one subject that held in one process and not in another."""

    subject: Subject
    places: tuple[int, ...]
    others: tuple[int, ...] = ()  # cases that were kept; that they ran before may be the reason


def examine_stability(
    subjects: Sequence[Subject], context: ExecutionContext, *, workers: int
) -> list[Stability]:
    """Run every case under `BASE` and all of `VARIATIONS`; return what failed of each subject.

    Raises:
        SandboxError: if the sandbox cannot run most of them under some of these conditions.
    """
    found = [Stability() for _ in subjects]
    for number, conditions in enumerate((BASE, *VARIATIONS)):
        what = f"test references, {number + 1} of {1 + len(VARIATIONS)}"
        for place, results in _under(conditions, subjects, found, context, workers, what):
            for case in _note(found[place], subjects[place], results, conditions):
                if number == 0 and not subjects[place].recorded[case]:
                    found[place].left_out[case] = NEVER_HELD
                else:
                    found[place].left_out[case] = UNEXPLAINED
                    found[place].doubtful.add(case)
    for one, subject in zip(found, subjects, strict=True):
        _within_limits(one, len(subject.cases))
    return found


def explain_doubts(doubts: Sequence[Doubt], context: ExecutionContext, *, workers: int) -> list[Counter[str]]:
    """Return reason -> cases of each doubt: the first single condition under which each case fails."""
    left = [set(doubt.places) for doubt in doubts]
    reasons: list[Counter[str]] = [Counter() for _ in doubts]
    for cause, conditions in ALONE.items():
        asked = [place for place, cases in enumerate(left) if cases]
        cases = [sorted({*doubts[place].places, *doubts[place].others}) for place in asked]
        items = [_cases(doubts[place].subject, some) for place, some in zip(asked, cases, strict=True)]
        results = examine_cases(
            items, conditions, workers=workers, preload=context.preload, python_path=context.python_path,
            rounds=ROUNDS_ALONE, what="ask what answers depend on",
        )  # fmt: skip
        for place, numbers, some in zip(asked, cases, results, strict=True):
            failed = left[place] & {case for case, one in zip(numbers, some, strict=True) if not one.passed}
            reasons[place][f"answer depends {cause}"] += len(failed)
            left[place] -= failed
    for counts, cases in zip(reasons, left, strict=True):
        counts[UNEXPLAINED] += len(cases)
    return [+counts for counts in reasons]


def _under(
    conditions: RunConditions,
    subjects: Sequence[Subject],
    found: Sequence[Stability],
    context: ExecutionContext,
    workers: int,
    what: str,
) -> list[tuple[int, dict[int, CaseResult]]]:
    """Run the remaining cases under `conditions`; return (place of a subject, case -> result)."""
    left = {place: found[place].kept(len(subject.cases)) for place, subject in enumerate(subjects)}
    left = {place: cases for place, cases in left.items() if cases}
    items = [_cases(subjects[place], cases) for place, cases in left.items()]
    results = examine_cases(
        items, conditions, workers=workers, preload=context.preload, python_path=context.python_path,
        what=what,
    )  # fmt: skip
    troubles = [one.trouble for some in results for one in some if one.trouble]
    if troubles and 2 * len(troubles) > sum(map(len, results)):
        raise SandboxError(f"most references cannot be run under {conditions}: {troubles[0]}")
    named = (dict(zip(cases, some, strict=True)) for cases, some in zip(left.values(), results, strict=True))
    return list(zip(left, named, strict=True))


def _note(
    one: Stability, subject: Subject, results: dict[int, CaseResult], conditions: RunConditions
) -> list[int]:
    """Record what the cases took, leave out those beyond limits or with threads, return the failed ones.

    A case that the sandbox itself could not run does not count as failed. Neither does one that expects
    an AssertionError under `python -O`, which drops the assertion that would raise it.
    """
    failed = []
    for case, result in results.items():
        one.steps[case] = max(one.steps.get(case, 0), result.steps)
        one.loops[case] = max(one.loops.get(case, 0.0), result.loops)
        expected = conditions.optimize and "except AssertionError" in subject.cases[case]
        if result.limit or result.slept_s > MOST_SLEPT_S:
            one.left_out[case] = TOO_DEAR
        elif not result.passed and not result.trouble and not expected:
            failed.append(case)
        elif result.threads:
            one.left_out[case] = THREADS
    return failed


def _within_limits(one: Stability, count: int) -> None:
    """Drop the most expensive cases until the whole set takes no more than a reference may."""
    steps, loops = 0, 0.0
    for case in sorted(one.kept(count), key=lambda case: (one.steps[case], case)):
        if steps + one.steps[case] > REFERENCE_STEPS or loops + one.loops[case] > REFERENCE_LOOPS:
            one.left_out[case] = TOO_DEAR
        else:
            steps, loops = steps + one.steps[case], loops + one.loops[case]


def _cases(subject: Subject, places: Sequence[int]) -> Cases:
    code = module_prelude(subject.function) + strip_decorators(subject.function.code)
    cases, name = tuple(subject.cases[place] for place in places), subject.function.name
    return Cases(code, subject.setup, cases, name, TIMEOUT_S, MEMORY_MB, REFERENCE_STEPS)
