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
    """Return the repairs of each function; `form` says what is asked for: its whole, or the "line"."""
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

    A model that copies the function first copies the fault too: the line that it is about to change has been
    told apart by then only by a mark far above.
    """
    given, right = bare_lines(bug.source), bare_lines(code)
    changes = SequenceMatcher(None, given, right, autojunk=False).get_opcodes()
    kind, before, _, at, _ = next(change for change in changes if change[0] != "equal")
    answer, line = fenced_python(code), right[at].strip() if at < len(right) else ""
    if not line or "`" in line:
        return answer
    if kind == "replace" and before + 1 == bug.line:
        return f"The marked line must be `{line}`.\n\n{answer}"
    if kind == "insert" and before + 1 in (bug.line, bug.line + 1):
        side = "Before" if before < bug.line else "After"
        return f"{side} the marked line, `{line}` is missing.\n\n{answer}"
    return answer  # several lines at once


def _fixed_line(code: str, bug: Bug) -> str | None:
    """Return the line of `code` that `bug` changed; None if putting it back does not give `code`."""
    lines = bare_lines(code)
    if bug.line > len(lines):
        return None
    line = lines[bug.line - 1].strip()
    return line if spliced(bug.source, bug.line, line).split() == code.split() else None
