"""Draw up the tests of one function: doctests, the corpus's own test cases, recorded answers.

The reference (without decorators, with its module's globals in scope) runs in the sandbox on its doctests
and on generated calls. An answer that is the same twice becomes an assertion: a doctest if the docstring
promises that answer, else a recorded answer. Cases of the corpus's test-suite keep the values that its
authors wrote. A case stays if it holds in any process (`helpers.data.tasks.stability`). In the end the
reference must pass the whole set in one more process.
"""

from __future__ import annotations

import ast
import doctest
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from helpers.code.secrets import holds_secret
from helpers.data.tasks.candidate_cases import doctest_cases, generated_calls
from helpers.data.tasks.execution import (
    MEMORY_MB,
    REFERENCE_STEPS,
    ExecutionContext,
    module_prelude,
    program,
    run_in,
    strip_decorators,
)
from helpers.data.tasks.stability import Doubt, Subject, examine_stability
from helpers.data.tasks.suite_cases import SuiteCase, TestSuite
from helpers.data.tasks.suite_rewriting import CLOSE
from helpers.lines import bare_lines, indented
from helpers.machine.progress import progress
from helpers.records import Function
from helpers.sandbox.api import Recorded, record_outputs

MAX_CALLS = 12
RECORDED_S = 1.0  # processor seconds for all calls together; a slower reference is not used
MAX_ASSERTS = 10
MAX_SUITE_CASES = 6
MAX_ASSERT_CHARS = 400

NO_TEST, UNSOUND = "no test holds", "reference fails its tests"


@dataclass(frozen=True)
class TestSet:
    """Tests that one function passes."""

    __test__ = False  # not a test class, whatever its name

    setup: str  # import line, statements of the doctest
    asserts: tuple[str, ...]  # plain statements from doctests and recorded answers
    suite: tuple[SuiteCase, ...]
    promised: tuple[bool, ...]  # for each of `asserts`, whether the docstring promises the value

    @property
    def n_cases(self) -> int:
        """Number of assertions and cases together."""
        return len(self.asserts) + len(self.suite)

    @property
    def sources(self) -> dict[str, int]:
        """Source of the cases -> number."""
        doctests = sum(self.promised)
        recorded = len(self.asserts) - doctests
        return {"doctest": doctests, "recorded": recorded, "test-suite": len(self.suite)}

    @property
    def text(self) -> str:
        """Set-up, assertions, and each case of the test-suite as a function that the sandbox calls."""
        parts = [self.setup, *self.asserts, self._helper, *self.functions]
        return "\n".join(part for part in parts if part).rstrip() + "\n"

    @property
    def preparation(self) -> str:
        """Code that has to run before any case."""
        return "\n".join(part for part in (self.setup, self._helper) if part)

    @property
    def functions(self) -> tuple[str, ...]:
        """Each case of the test-suite as a function that the sandbox calls."""
        there = set(bare_lines(self.setup))  # a case need not repeat these imports
        found = []
        for number, case in enumerate(self.suite, start=1):
            lines = [line for line in bare_lines(case.body) if line not in there or "import" not in line]
            body = indented("\n".join(lines), "    ")
            found.append(f"def test_{number}():  # {case.origin}\n{body}\n")
        return tuple(found)

    @property
    def _helper(self) -> str:
        return CLOSE if any("close(" in case.body for case in self.suite) else ""

    def only(self, places: Sequence[int]) -> TestSet:
        """Return the set reduced to the cases at `places`; assertions count before those of the suite."""
        asserts = [place for place in places if place < len(self.asserts)]
        suite = [place - len(self.asserts) for place in places if place >= len(self.asserts)]
        return replace(
            self,
            asserts=tuple(self.asserts[place] for place in asserts),
            promised=tuple(self.promised[place] for place in asserts),
            suite=tuple(self.suite[place] for place in suite),
        )


@dataclass(frozen=True)
class DrawnTests:
    """The tests of one function, or why it has none, and the reasons for which cases were left out."""

    function: Function
    tests: TestSet | None
    reason: str = ""
    left_out: Counter[str] = field(default_factory=Counter)
    doubt: Doubt | None = None  # cases left out for a reason not known yet


def draw_up_tests(
    functions: Sequence[Function],
    alias: str,
    context: ExecutionContext,
    suite: TestSuite | None,
    *,
    seed: int,
    workers: int,
) -> list[DrawnTests]:
    """Return a test set for each function, or why it has none (`NO_TEST`, `UNSOUND`).

    Args:
        alias: import line at the start of the tests, e.g. "import networkx as nx".
        suite: the corpus's own tests; none are used when None.
    """
    with ThreadPoolExecutor(max_workers=workers) as pool:
        recorded = pool.map(lambda f: _recorded(f, alias, context, seed), functions)
        drafts = list(progress(recorded, "record answers", total=len(functions)))
    full = [
        replace(draft, suite=suite.cases(f, MAX_SUITE_CASES)) if suite else draft
        for f, draft in zip(functions, drafts, strict=True)
    ]
    subjects = [_subject(f, tests) for f, tests in zip(functions, full, strict=True)]
    found = examine_stability(subjects, context, workers=workers)
    kept = [tests.only(one.kept(tests.n_cases)) for tests, one in zip(full, found, strict=True)]
    tried = [(f, tests) for f, tests in zip(functions, kept, strict=True) if tests.n_cases]
    programs = [
        program(f, strip_decorators(f.code), tests.text, max_steps=REFERENCE_STEPS) for f, tests in tried
    ]
    outcomes = iter(run_in(context, programs, workers=workers, what="run references"))
    drawn = []
    for place, (subject, one) in enumerate(zip(subjects, found, strict=True)):
        doubtful, others = tuple(sorted(one.doubtful)), tuple(one.kept(len(subject.cases)))
        doubt = Doubt(subject, doubtful, others) if doubtful else None
        holds = bool(kept[place].n_cases) and next(outcomes).passed
        reason = "" if holds else UNSOUND if full[place].n_cases else NO_TEST
        drawn.append(DrawnTests(functions[place], kept[place] if holds else None, reason, one.reasons, doubt))
    return drawn


def _subject(function: Function, tests: TestSet) -> Subject:
    recorded = (True,) * len(tests.asserts) + (False,) * len(tests.suite)
    return Subject(function, tests.preparation, (*tests.asserts, *tests.functions), recorded)


def _recorded(function: Function, alias: str, context: ExecutionContext, seed: int) -> TestSet:
    """Return the reference's answers as assertions; leave out the doctests if their set-up fails."""
    doctests = doctest_cases(function)
    calls = list(generated_calls(function, limit=MAX_CALLS, seed=seed))
    for setup, checks in ((doctests.setup, doctests.checks), ("", ())):
        head = "\n".join(filter(None, (alias, setup)))
        answers = record_outputs(
            module_prelude(function) + strip_decorators(function.code),
            [*(check[0] for check in checks), *calls], entry_point=function.name, setup=head,
            preload=context.preload, python_path=context.python_path, timeout_s=RECORDED_S,
            memory_mb=MEMORY_MB, max_steps=REFERENCE_STEPS,
        )  # fmt: skip
        answered = zip(checks, answers, strict=False)
        kept = {call for (call, want, flags), answer in answered if promise_kept(want, flags, answer)}
        if chosen := _choose(answers, len(checks)):
            promised = tuple(answer.call in kept for answer in chosen)
            return TestSet(head, tuple(str(answer.assertion) for answer in chosen), (), promised)
        if not setup and not checks:
            break
    return TestSet(alias, (), (), ())


def promise_kept(want: str, flags: int, answer: Recorded) -> bool:
    """Return whether the recorded answer prints as the docstring says; False if it is no literal."""
    if answer.value_source is None:
        return False
    try:
        got = repr(ast.literal_eval(answer.value_source))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return doctest.OutputChecker().check_output(want, got + "\n", flags | doctest.NORMALIZE_WHITESPACE)


def _choose(recorded: Sequence[Recorded], n_doctests: int) -> list[Recorded]:
    """Return at most `MAX_ASSERTS` answers: doctests first, then calls, new answers before repeated ones."""
    distinct: dict[str, tuple[int, Recorded]] = {}
    for index, item in enumerate(recorded):
        fits = item.status == "returned" and item.assertion and len(item.assertion) <= MAX_ASSERT_CHARS
        if fits and not holds_secret(item.assertion):
            distinct.setdefault(item.assertion, (index, item))
    answers: Counter[str | None] = Counter()
    ranked = []
    for index, item in distinct.values():
        answers[item.value_source] += 1
        ranked.append((answers[item.value_source], index >= n_doctests, index))
    chosen = sorted(index for *_, index in sorted(ranked)[:MAX_ASSERTS])
    return [recorded[index] for index in chosen]
