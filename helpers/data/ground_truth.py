"""Functions whose behaviour is known because it was run: reference, tests, and mutants they kill.

For each candidate function the reference (decorators taken off, module globals in scope) is run in
the sandbox on its doctests and on generated calls; what it answers twice alike becomes a test. The
reference must pass its own tests in a fresh process, and single-fault mutants
(`helpers.data.bugs`) show how strong the tests are: mutation score = mutants that fail at least
one test / mutants run. A function whose tests kill less than `MIN_MUTATION_SCORE` is not used.
Surviving mutants may be equivalent to the reference; they are counted and never serve as bugs.
"""

from __future__ import annotations

import ast
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest

from helpers.data.bugs import Bug, make_bugs
from helpers.data.cases import doctest_cases, generated_calls, looks_testable
from helpers.data.source_edits import SourceText
from helpers.eval.sandbox import Outcome, Program, Recorded, record_outputs, run_programs
from helpers.progress import progress
from helpers.records import Corpus, Function

MIN_MUTATION_SCORE = 0.6
MIN_MUTANTS = 2  # fewer say nothing about the tests
MAX_MUTANTS = 8
MAX_CALLS = 12
MAX_TESTS = 10
MAX_ASSERT_CHARS = 400
MAX_CODE_CHARS = 4000
TIMEOUT_S = 1.0
MEMORY_MB = 1024


@dataclass(frozen=True)
class ExecutionContext:
    """What the sandbox needs so that a corpus' functions run."""

    preload: tuple[str, ...]  # modules imported once in the warm process
    python_path: tuple[str, ...]  # folders put on sys.path


@dataclass(frozen=True)
class GroundTruth:
    """One verified function."""

    function: Function
    reference: str  # source without decorators, docstring kept
    code: str  # the same without docstring: what mutants are made of
    prelude: str  # puts the names of the function's module in scope
    tests: str  # import line, set-up, plain assert statements
    asserts: tuple[str, ...]  # the assert statements alone
    n_cases: int
    mutants: tuple[Bug, ...]  # those that fail at least one test
    n_mutants: int  # all that were run

    @property
    def mutation_score(self) -> float:
        """Killed mutants / mutants run."""
        return len(self.mutants) / self.n_mutants


def verify_functions(
    functions: Sequence[Function], corpus: Corpus, *, wanted: int, seed: int, workers: int
) -> tuple[list[GroundTruth], dict[str, int]]:
    """Verify functions in seeded order until `wanted` of them are usable.

    Returns:
        The verified functions, and how many functions were looked at by outcome ("verified",
        "no test holds", "reference fails its tests", "tests too weak", ...), with the sums
        "mutants run", "mutants killed" and "mutants survived".
    """
    counts: Counter[str] = Counter()
    plain = [function for function in functions if _is_plain(function)]
    order = sorted((f for f in plain if not _imports_a_package(f, corpus)), key=lambda f: f.id)
    random.Random(f"{seed}:ground truth").shuffle(order)
    order.sort(key=looks_testable, reverse=True)  # stable: the rest only if these do not suffice
    verified: list[GroundTruth] = []
    context = execution_context(corpus)
    alias = import_line(corpus)
    counts["method, nested, async or oversized"] = len(functions) - len(plain)
    counts["imports a package when called"] = len(plain) - len(order)
    size = max(8, min(40, wanted))
    for start in range(0, len(order), size):
        if len(verified) >= wanted:
            break
        for truth, outcome in _verify_batch(order[start : start + size], alias, context, seed, workers):
            counts[outcome] += 1
            if truth is not None:
                verified.append(truth)
    counts["mutants run"] = sum(truth.n_mutants for truth in verified)
    counts["mutants killed"] = sum(len(truth.mutants) for truth in verified)
    counts["mutants survived"] = counts["mutants run"] - counts["mutants killed"]
    return verified, dict(counts)


def execution_context(corpus: Corpus) -> ExecutionContext:
    """Package to preload and folder to import it from, for an installed or a loose code base."""
    if corpus.spec.startswith("installed:"):
        return ExecutionContext((corpus.import_name,) if corpus.import_name else (), ())
    return ExecutionContext((), (corpus.root,))


def import_line(corpus: Corpus) -> str:
    """How the code base imports itself most often (`import networkx as nx`); "" for a loose folder."""
    if not corpus.import_name:
        return ""
    pattern = re.compile(rf"^\s*(import {re.escape(corpus.import_name)}(?: as \w+)?)\s*$", re.MULTILINE)
    found = Counter(line for file in corpus.files for line in pattern.findall(file.text))
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return ranked[0][0] if ranked else f"import {corpus.import_name}"


def module_prelude(function: Function) -> str:
    """Code that puts all names of the function's own module in scope, private ones too."""
    return (
        "import importlib as _importlib\n"
        f"globals().update({{_k: _v for _k, _v in vars(_importlib.import_module({function.module!r}))"
        '.items() if not _k.startswith("__")})\n'
    )


def strip_decorators(source: str) -> str:
    """`source` from its `def` on: decorators may register names, and cannot be applied twice."""
    line = SourceText(source).function.lineno
    return "".join(source.splitlines(keepends=True)[line - 1 :])


def _is_plain(function: Function) -> bool:
    is_plain = not (function.is_method or function.is_nested or function.is_async)
    return is_plain and "#" not in function.id and len(function.code) <= MAX_CODE_CHARS


def _imports_a_package(function: Function, corpus: Corpus) -> bool:
    """Whether a call imports something that is neither standard nor the corpus: paid in every run."""
    names = set()
    for node in SourceText(function.code).nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return bool(names - set(sys.stdlib_module_names) - {corpus.import_name})


def _verify_batch(
    functions: Sequence[Function], alias: str, context: ExecutionContext, seed: int, workers: int
) -> list[tuple[GroundTruth | None, str]]:
    drafts = _draft_tests(functions, alias, context, seed, workers)
    sound = _passes([d for d in drafts if d[1]], context, workers)
    results: list[tuple[GroundTruth | None, str]] = []
    runs: list[tuple[Function, str, tuple[str, ...], list[Bug]]] = []
    for function, tests, asserts in drafts:
        if not tests:
            results.append((None, "no test holds"))
        elif not sound[function.id]:
            results.append((None, "reference fails its tests"))
        else:
            runs.append((function, tests, asserts, _sample_mutants(function, seed)))
    programs = [
        Program(module_prelude(f) + bug.source, tests, f.name, TIMEOUT_S, MEMORY_MB)
        for f, tests, _, bugs in runs
        for bug in bugs
    ]
    outcomes = iter(_run(programs, context, workers))
    for function, tests, asserts, bugs in runs:
        ends = [next(outcomes) for _ in bugs]
        killed = tuple(b for b, end in zip(bugs, ends, strict=True) if not end.passed and _counts(end))
        run = sum(_counts(end) for end in ends)
        if run < MIN_MUTANTS:
            results.append((None, "too few mutants"))
        elif len(killed) / run < MIN_MUTATION_SCORE:
            results.append((None, "tests too weak"))
        else:
            reference = strip_decorators(function.source)
            code = strip_decorators(function.code)
            truth = GroundTruth(
                function, reference, code, module_prelude(function), tests, asserts, len(asserts), killed, run
            )
            results.append((truth, "verified"))
    return results


def _draft_tests(
    functions: Sequence[Function], alias: str, context: ExecutionContext, seed: int, workers: int
) -> list[tuple[Function, str, tuple[str, ...]]]:
    """(function, whole test text, its asserts) from what the reference answers; "" if nothing holds."""

    def draft(function: Function) -> tuple[Function, str, tuple[str, ...]]:
        doctests = doctest_cases(function)
        calls = list(generated_calls(function, limit=MAX_CALLS, seed=seed))
        for setup, checks in ((doctests.setup, [check[0] for check in doctests.checks]), ("", [])):
            head = "\n".join(filter(None, (alias, setup)))
            recorded = record_outputs(
                module_prelude(function) + strip_decorators(function.code), [*checks, *calls],
                entry_point=function.name, setup=head, preload=context.preload,
                python_path=context.python_path, timeout_s=TIMEOUT_S, memory_mb=MEMORY_MB,
            )  # fmt: skip
            asserts = _choose(recorded, len(checks))
            if asserts:
                head = f"{head}\n" if head else ""
                return function, head + "\n".join(asserts) + "\n", asserts
            if not setup and not checks:
                break
        return function, "", ()

    with ThreadPoolExecutor(max_workers=workers) as pool:
        return list(progress(pool.map(draft, functions), "record answers", total=len(functions)))


def _choose(recorded: Sequence[Recorded], n_doctests: int) -> tuple[str, ...]:
    """At most `MAX_TESTS` assertions: doctests first, then calls, new answers before repeated ones."""
    usable = [
        (index, item)
        for index, item in enumerate(recorded)
        if item.status == "returned" and item.assertion and len(item.assertion) <= MAX_ASSERT_CHARS
    ]
    answers: Counter[str] = Counter()
    ranked = []
    for index, item in usable:
        answers[item.value_source] += 1
        ranked.append((answers[item.value_source], index >= n_doctests, index, item.assertion))
    chosen = sorted(ranked)[:MAX_TESTS]
    return tuple(dict.fromkeys(text for *_, text in sorted(chosen, key=lambda row: row[2])))


def _counts(outcome: Outcome) -> bool:
    """Whether an outcome says something about the program; an infrastructure error does not."""
    return outcome.status != "infrastructure_error"


def _passes(drafts, context, workers) -> dict[str, bool]:
    programs = [
        Program(module_prelude(f) + strip_decorators(f.code), tests, f.name, TIMEOUT_S, MEMORY_MB)
        for f, tests, _ in drafts
    ]
    outcomes = _run(programs, context, workers)
    return {draft[0].id: outcome.passed for draft, outcome in zip(drafts, outcomes, strict=True)}


def _run(programs: list[Program], context: ExecutionContext, workers: int) -> list[Outcome]:
    return run_programs(programs, workers=workers, preload=context.preload, python_path=context.python_path)


def _sample_mutants(function: Function, seed: int) -> list[Bug]:
    """Up to `MAX_MUTANTS`, operators taking turns so that none crowds out the others."""
    by_operator: dict[str, list[Bug]] = {}
    for bug in make_bugs(strip_decorators(function.code)):
        by_operator.setdefault(bug.operator, []).append(bug)
    rng = random.Random(f"{seed}:mutants:{function.id}")
    columns = [rng.sample(bugs, len(bugs)) for _, bugs in sorted(by_operator.items())]
    rng.shuffle(columns)
    turns = [bug for row in zip_longest(*columns) for bug in row if bug is not None]
    return turns[:MAX_MUTANTS]
