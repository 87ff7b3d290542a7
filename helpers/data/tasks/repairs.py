"""Make drafts of repairs: a function with one planted bug, the line marked, that a test notices.

No repair is asked for of a line that could as well be taken out: passing would prove nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from difflib import SequenceMatcher

from helpers.code.python_text import parse
from helpers.data.tasks.bugs import Bug
from helpers.data.tasks.draft import Draft, phrased
from helpers.data.tasks.execution import NOTICED, ExecutionContext, run_in
from helpers.data.tasks.ground_truth import GroundTruth, program_of
from helpers.data.tasks.phrasings import fenced_python, mark_line, spliced
from helpers.lines import bare_lines

VERSIONS_PER_FUNCTION = 6


def repairs(
    truths: Sequence[GroundTruth], context: ExecutionContext, seed: int, workers: int, form: str
) -> list[Draft]:
    """Return the repairs of each function; `form`: the whole "function" is asked for, or the "line"."""
    matters = _lines_that_matter(truths, context, workers)
    return [draft for truth in truths for draft in _repairs_of(truth, matters, seed, form)]


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
                programs.append(program_of(truth, spliced(truth.code, line, trivial)))
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


def _repairs_of(truth: GroundTruth, matters: set[tuple[str, int]], seed: int, form: str) -> list[Draft]:
    rng = random.Random(f"{seed}:bugs:{truth.function.id}")
    noticed = [bug for bug in truth.mutants if (truth.function.id, bug.line) in matters]
    passes = f"reference passes {truth.n_cases} tests"
    checks = (passes, "given fails them", "removing the line fails them")
    drafts = []
    for bug in rng.sample(noticed, min(len(noticed), VERSIONS_PER_FUNCTION)):
        detail = {"operator": bug.operator, "line": str(bug.line), "given": bug.source, "form": form}
        response = _fixed_line(truth.code, bug) if form == "line" else told_and_fixed(truth.code, bug)
        if response is None:  # the fault spans several lines
            continue
        draft = Draft("fix_bug", truth.function, bug.source, response, checks, truth, detail)
        shown = mark_line(bug.source, bug.line, above=form == "function")
        drafts.append(phrased(draft, seed, shown=shown, key=f"{bug.operator}:{bug.line}"))
    return drafts


def told_and_fixed(code: str, bug: Bug) -> str:
    """Return an answer that first says what the marked line must be, then gives the whole function.

    A model that copies the function first copies the fault too: by then a mark far above tells the line that
    must change from the others. Nothing is said where one sentence cannot say it.
    """
    line = _fixed_line(code, bug)
    told = f"The marked line must be `{line}`." if line else _missing(code, bug)
    answer = fenced_python(code)
    return f"{told}\n\n{answer}" if told and told.count("`") == 2 else answer


def _missing(code: str, bug: Bug) -> str:
    """Say what is missing next to the marked line, if one statement is and nothing else differs; else ""."""
    given, right = bare_lines(bug.source), bare_lines(code)
    matcher = SequenceMatcher(None, given, right, autojunk=False)
    changes = [change for change in matcher.get_opcodes() if change[0] != "equal"]
    if len(changes) != 1 or changes[0][0] != "insert":
        return ""
    (_, before, _, start, end), *_ = changes
    side = {bug.line - 1: "Before", bug.line: "After"}.get(before)
    first, *block = right[start:end]
    line = first.strip()
    if side is None or not line or line.startswith("#"):
        return ""
    if not block:
        return f"{side} the marked line, `{line}` is missing."
    is_header = line.endswith(":") and all(_indent(inner) > _indent(first) for inner in block)
    return f"{side} the marked line, `{line}` and its block are missing." if is_header else ""


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _fixed_line(code: str, bug: Bug) -> str | None:
    """Return the line of `code` that `bug` changed; None if putting it back does not give `code`."""
    lines = bare_lines(code)
    if bug.line > len(lines):
        return None
    line = lines[bug.line - 1].strip()
    return line if spliced(bug.source, bug.line, line).split() == code.split() else None
