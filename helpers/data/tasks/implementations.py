"""Make drafts of functions to write: from signature and documentation, tested by what their authors wrote.

A request has to tell what the tests ask for. So it shows what the docstring says, not its summary alone, and
the tests are the doctests and the code base's own. Recorded answers fit a repair, which starts from the
function itself; of a function that is only described they can ask what its documentation leaves open: the
answer on an argument that it excludes, one of several equally good results, an attribute that nobody names.
They are used only as far as functions with tests by their authors are too few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from helpers.code.docstrings import beyond_summary, read_docstring, stub, with_docstring
from helpers.code.edits import SourceText
from helpers.code.python_text import parse
from helpers.data.tasks.draft import Draft, phrased
from helpers.data.tasks.execution import NOTICED, ExecutionContext, run_in
from helpers.data.tasks.expected_answers import expected_answer, expected_values
from helpers.data.tasks.ground_truth import MIN_MUTATION_SCORE, GroundTruth, program_of
from helpers.data.tasks.phrasings import fenced_python

TOLD_CHARS = 500  # of the documentation beyond the summary
MIN_BY_AUTHORS = 2  # different answers; a wrong function may give one by chance
MAX_EXPECTED = 6  # expected values that are tried as answers to everything


def implementations(
    truths: Sequence[GroundTruth], context: ExecutionContext, seed: int, workers: int
) -> list[Draft]:
    """Return functions to write, with the tests by their authors; those with recorded answers are spares.

    Left out are functions that a body without thought passes (`thoughtless`), and as tests by authors count
    only those that expect `MIN_BY_AUTHORS` different answers and notice as many planted bugs as the tests of
    a verified function must.

    The answer repeats the summary as its docstring: a model that learns to leave it out leaves it out
    everywhere.
    """
    described = [truth for truth in truths if read_docstring(truth.function.docstring).summary]
    fair = _noticing(_strong([_by_authors(truth) for truth in described], context, workers), context, workers)
    known = {truth.function.id for truth in fair}
    others = _noticing([one for one in described if one.function.id not in known], context, workers)
    return [_draft(truth, seed) for truth in fair] + [_draft(truth, seed, is_spare=True) for truth in others]


def thoughtless(stub_code: str, tests: str, parameters: Sequence[str]) -> Iterator[str]:
    """Yield functions that a test set has to refuse: empty, an argument, one expected value for everything.

    Args:
        stub_code: signature and docstring.
        tests: whose assertions compare with the expected values.
        parameters: names of the function's parameters.
    """
    name = SourceText(stub_code).function.name
    expected = list(dict.fromkeys(expected_values(tests, name)))
    results = [name for name in parameters if name.isidentifier()] + expected[:MAX_EXPECTED]
    for body in ("pass", *(f"return ({result})" for result in results)):
        code = f"{stub_code.rstrip()}\n    {body}\n"
        if parse(code) is not None:
            yield code


def _by_authors(truth: GroundTruth) -> GroundTruth:
    """Return the function with the tests that its authors wrote: doctests and cases of the test-suite."""
    tests = truth.test_set
    places = [place for place, promised in enumerate(tests.promised) if promised]
    places += range(len(tests.asserts), tests.n_cases)
    return replace(truth, test_set=tests.only(places))


def _strong(truths: Sequence[GroundTruth], context: ExecutionContext, workers: int) -> list[GroundTruth]:
    """Return the functions whose tests kill enough mutants, with the figures of these tests."""
    truths = [truth for truth in truths if _n_expected(truth) >= MIN_BY_AUTHORS]
    programs = [program_of(truth, bug.source) for truth in truths for bug in truth.mutants]
    ends = iter(run_in(context, programs, workers=workers, what="run mutants on the authors' tests"))
    found = []
    for truth in truths:
        killed = tuple(bug for bug in truth.mutants if next(ends).status in NOTICED)
        told = truth.n_mutants - (truth.n_killed - len(truth.mutants))  # without those that a limit stopped
        now = replace(truth, mutants=killed, n_killed=len(killed), n_mutants=told)
        found += [now] if told and now.mutation_score >= MIN_MUTATION_SCORE else []
    return found


def _n_expected(truth: GroundTruth) -> int:
    """Return how many different answers the cases ask for; a test that compares otherwise counts once."""
    name, tests = truth.function.name, truth.test_set
    found = {expected_answer(text, name) or text for text in tests.asserts}
    return len(found | {expected_answer(c.body, name) or c.origin.rpartition(":")[0] for c in tests.suite})


def _noticing(truths: Sequence[GroundTruth], context: ExecutionContext, workers: int) -> list[GroundTruth]:
    """Return the functions whose tests notice every body without thought."""
    bodies = [list(thoughtless(_stub(one), one.tests, one.function.parameters)) for one in truths]
    programs = [program_of(truth, code) for truth, some in zip(truths, bodies, strict=True) for code in some]
    ends = iter(run_in(context, programs, workers=workers, what="run stubs"))
    noticed = [[next(ends).status in NOTICED for _ in some] for some in bodies]
    return [truth for truth, all_of in zip(truths, noticed, strict=True) if all(all_of)]


def _stub(truth: GroundTruth) -> str:
    return stub(truth.code, read_docstring(truth.function.docstring).summary)


def _draft(truth: GroundTruth, seed: int, *, is_spare: bool = False) -> Draft:
    checks = (
        f"reference passes {truth.n_cases} tests{'' if is_spare else ' by its authors'}",
        "an empty body, an argument and one expected value for all fail them",
    )
    docstring = truth.function.docstring
    answer = fenced_python(with_docstring(truth.code, read_docstring(docstring).summary))
    draft = phrased(Draft("implement", truth.function, _stub(truth), answer, checks, truth), seed)
    told = beyond_summary(docstring, TOLD_CHARS)
    return replace(draft, instruction=f"{draft.instruction}\n\n{told}".rstrip(), is_spare=is_spare)
