"""Failed answers of Track B: a category for each, and what was measured on it.

One-line answers are compared with the marked line and the correct one, change by change; whole answers with
the given code and the reference, line by line. For answers that ran, the evidence includes what the failed
test expected. Checks run from the crudest failure to the subtlest; the first that applies is the category.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Sequence

from helpers.code.extraction import answered_line, defines, extract_code, is_cut_off
from helpers.code.fences import fenced_blocks
from helpers.code.python_text import parse, without_margin
from helpers.data.tasks.phrasings import BUG_MARK, spliced
from helpers.escaping import code_span
from helpers.eval.failures import clip
from helpers.eval.response_scoring import RUN_KINDS
from helpers.lines import bare_lines
from helpers.records import Failure, ResponseScore, Task

LOOP_LINES = 4  # a loop fills at least this many lines
LONGEST_ROUND = 8  # most lines that one round of a loop has
DETAIL_CHARS = 200  # shown of what the scorer says
COPYING = ("fix_bug", "improve", "docstring")  # answers of these kinds repeat most of the given code
# A failed line of tests as the sandbox tells it; its quotes are those of `repr`.
TESTED = re.compile(r"""(?:^|line \d+, )(['"])(assert .*)\1: (\w+)(?:: (.*))?$""", re.S)
RAISED = re.compile(r"""^the (?:tests|program): (?:line \d+, (['"]).*?\1: )?(\w+)(?=: |$)""", re.S)
Finding = tuple[str, str]  # category, evidence
OUTCOMES = ("passed", "wrong", "error", "timeout", "no code")


def track_b_failures(scores: Sequence[ResponseScore], tasks: Sequence[Task]) -> list[Failure]:
    """Collect the greedy responses after training that did not pass, except infrastructure errors.

    Args:
        scores: all scores after training; only sample 0 is used.
    """
    by_id = {task.id: task for task in tasks}
    failures = []
    for score in sorted(scores, key=lambda s: s.task_id):
        if score.sample or score.passed or score.status == "infrastructure_error":
            continue
        task = by_id[score.task_id]
        category, evidence = _diagnose(score, task)
        told = clip(score.detail, DETAIL_CHARS)
        evidence += f" Scorer: {told}" if told not in evidence else ""
        shown = clip(task.instruction), clip(task.reference) or "no reference answer", clip(score.response)
        failures.append(Failure("track_b", category, task.id, *shown, evidence))
    return failures


def outcome(score: ResponseScore) -> str:
    """Return which of `OUTCOMES` an answer came to; "" if this machine could not judge it.

    A program that ended with an exception other than a failed assertion is an error, not a wrong answer.
    """
    if score.passed or score.status == "infrastructure_error":
        return "passed" if score.passed else ""
    if score.status in ("unparsable", "empty") or not score.response.strip():
        return "no code"
    if score.status == "failed":
        category = _run_category(score)
        return "error" if category.startswith("raises ") else "wrong"
    return "timeout" if score.status == "timeout" else "error"


def _diagnose(score: ResponseScore, task: Task) -> Finding:
    if not score.response.strip():
        return "empty answer", "The response holds nothing but white space."
    if task.detail.get("form") == "line":
        return _diagnose_line(score, task)
    return _diagnose_text(score, task) or _diagnose_code(score, task)


# --- one-line answers --------------------------------------------------------------------------


def _diagnose_line(score: ResponseScore, task: Task) -> Finding:
    number = int(task.detail["line"])
    marked = bare_lines(task.detail["given"])[number - 1].strip()
    wanted = answered_line(task.reference)
    got = answered_line(score.response).removesuffix(BUG_MARK.strip()).rstrip()
    if _words(got) == _words(marked):
        return "returned the input unchanged", f"The answer is the marked line; {_needed(marked, wanted)}."
    if score.status == "unparsable":
        error = _syntax_error(spliced(task.detail["given"], number, got))
        return "does not parse", f"{code_span(clip(got, 100))} in place of the marked line: {error}."
    if score.invented_names:
        return _invented(score)
    needed, made = _changes(marked, wanted), _changes(marked, got)
    besides = [_shown(change) for change in made if change not in needed]
    done = [_shown(change) for change in needed if change in made]
    evidence = f"In the marked line {_needed(marked, wanted)}; of this the answer makes "
    evidence += ", ".join(done) or "nothing"
    evidence += f", and changes {', '.join(besides[:4])}." if besides else "."
    return _run_category(score), f"{evidence}{_expectation(score)}"


def _needed(marked: str, wanted: str) -> str:
    return "the repair needs " + (", ".join(map(_shown, _changes(marked, wanted))) or "other white space")


def _changes(before: str, after: str) -> list[tuple[str, str]]:
    """Return (old words, new words) for each place where two lines differ."""
    old, new = (re.findall(r"\w+|[^\w\s]", text) for text in (before, after))
    changes = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "replace" and b - a == d - c:
            changes += [(was, now) for was, now in zip(old[a:b], new[c:d], strict=True) if was != now]
        elif kind != "equal":
            changes.append((" ".join(old[a:b]), " ".join(new[c:d])))
    return changes


def _shown(change: tuple[str, str]) -> str:
    old, new = (clip(part, 60) for part in change)
    if not old:
        return f"{code_span(new)} added"
    return f"{code_span(old)} → {code_span(new)}" if new else f"{code_span(old)} dropped"


# --- whole answers: the text -------------------------------------------------------------------


def _diagnose_text(score: ResponseScore, task: Task) -> Finding | None:
    """Return a finding visible in the text alone, or None if the code has to be examined."""
    response = score.response
    lines = [line.strip() for line in bare_lines(_first_block(response)) if line.strip()]
    reference = extract_code(task.reference) or task.reference
    code = extract_code(response, entry_point=None if task.kind == "unit_tests" else task.entry_point)
    round_, times, first = _closing_loop(lines)
    many = f"{len(round_)} lines" if len(round_) > 1 else "line"
    repeats = f"{times} times the same {many}: `{clip(' / '.join(round_), 120)}`"
    if _begins_with(lines, reference):
        rest = f"it comes {repeats}" if times else "it goes on with other text"
        evidence = f"The answer begins with the reference, line by line; then {rest}."
        return "right, then does not stop", evidence
    if times:
        return "repeats itself", f"From line {first} on it comes {repeats}."
    where = f"The response has {len(response):,} characters in {len(lines)} lines"
    blocks = fenced_blocks(response)
    if blocks and not blocks[-1].closed and score.status == "unparsable":
        return "cut off before the end", f"{where}; the code block that it opens never closes."
    if score.status == "unparsable":
        return "does not parse", f"{where}; {_syntax_error(_first_block(response))}."
    given = task.detail.get("given", "")
    if code and given and task.kind in COPYING and _words(code) == _words(given):
        missing = _changed_lines(code, reference)
        return "returned the input unchanged", f"The code is the one given. Missing change: {missing}."
    return None


def _first_block(response: str) -> str:
    """Return the first code block, or the whole response if it has none."""
    blocks = [block.content for block in fenced_blocks(response) if block.is_python]
    return without_margin(blocks[0] if blocks else response)


def _closing_loop(lines: Sequence[str]) -> tuple[list[str], int, int]:
    """Return the lines repeated at the end of a text, how often they occur, and their first line number.

    The count is 0 if there is no loop. Line numbers start at 1. The last round may be cut off.
    """
    for length in range(1, LONGEST_ROUND + 1):
        for cut in range(length + 1):
            end = len(lines) - cut
            round_, rest = list(lines[max(0, end - length) : end]), lines[end:]
            whole_rest = rest[:-1] == round_[: max(cut - 1, 0)]
            if len(round_) < length or not whole_rest or not all(map(str.startswith, round_, rest)):
                continue
            times = 1
            while lines[max(0, end - (times + 1) * length) : end - times * length] == round_:
                times += 1
            if times >= 3 and times * length >= LOOP_LINES:
                return round_, times, end - times * length + 1
    return [], 0, 0


def _begins_with(lines: Sequence[str], reference: str) -> bool:
    wanted = [line.strip() for line in bare_lines(reference) if line.strip()]
    return len(lines) > len(wanted) and list(lines[: len(wanted)]) == wanted


# --- whole answers: the code -------------------------------------------------------------------


def _diagnose_code(score: ResponseScore, task: Task) -> Finding:
    if task.kind in ("explain", "unit_tests"):
        return _invented(score) if score.invented_names else _diagnose_checks(score, task)
    entry = task.entry_point.rpartition(".")[2]
    code = extract_code(score.response, entry_point=entry) or score.response
    reference = extract_code(task.reference) or task.reference
    if not defines(code, entry):
        if is_cut_off(score.response, entry):
            return "cut off before the end", f"The answer ends within the function `{task.entry_point}`."
        return "function missing", f"The code parses but does not define `{task.entry_point}`."
    departure = _departure(code, task, reference)
    if score.status in ("timeout", "crashed") and task.kind in RUN_KINDS:
        return score.status, departure or _similarity(code, reference)
    if score.invented_names:
        category, evidence = _invented(score)
        return category, f"{evidence} {departure}".rstrip()
    if task.kind == "docstring":
        return _diagnose_checks(score, task, departure)
    if score.detail.startswith("no gain"):
        return "no gain", f"Behaviour is kept, but nothing is better. {_similarity(code, reference)}"
    category = "lost its way while copying" if departure else _run_category(score)
    return category, f"{departure or _similarity(code, reference)}{_expectation(score)}"


def _departure(code: str, task: Task, reference: str) -> str:
    """Describe where a copy departs from both the given code and the reference.

    It is "" if it never does, or if the task asks for no copy.
    """
    given = task.detail.get("given", "")
    if task.kind not in COPYING or not given:
        return ""
    known = {_words(line) for text in (given, reference) for line in bare_lines(text)}
    body = _without_docstring_lines(code) if task.kind == "docstring" else bare_lines(code)
    for number, line in enumerate(body, 1):
        if line.strip() and _words(line) not in known:
            nearest = difflib.get_close_matches(line.strip(), [k.strip() for k in bare_lines(given)], 1, 0.3)
            instead = f"; the code given has {code_span(clip(nearest[0], 100))}" if nearest else ""
            reads = code_span(clip(line.strip(), 100))
            return f"It copies as far as line {number}, which reads {reads}{instead}."
    return ""


def _without_docstring_lines(code: str) -> list[str]:
    lines = bare_lines(code)
    tree = parse(code)
    for node in ast.walk(tree) if tree else ():
        match node:
            case ast.Expr(value=ast.Constant(value=str()), lineno=first, end_lineno=int(last)):
                lines[first - 1 : last] = [""] * (last - first + 1)
    return lines


def _diagnose_checks(score: ResponseScore, task: Task, departure: str = "") -> Finding:
    """Name the failed check of an answer that is judged by checks."""
    named = {
        "the code itself was changed": "changed the code it was to document",
        "no docstring": "no docstring",
        "not described": "parameters left out",
        "no such parameter": "describes what is not there",
        "the return value": "return value left out",
        "kills 0 of": "tests that notice nothing",
        "no assert": "no test of the function",
        "fewer than": "too short",
        "code instead": "code instead of prose",
        "not mentioned": "parameters left out",
        "not in the code": "names what the code does not use",
        "not called": "names calls that the code does not make",
        "said to return": "return value made up",
        "says the same": "says the same again and again",
        "breaks off": "cut off before the end",
    }
    otherwise = _tests_category(score) if task.kind == "unit_tests" else "failed its checks"
    category = next((name for start, name in named.items() if score.detail.startswith(start)), otherwise)
    told = clip(score.detail, DETAIL_CHARS) or score.status
    return category, departure or f"The check that failed: {told}."


def _tests_category(score: ResponseScore) -> str:
    """Return how tests that the model wrote failed on the right function."""
    category = _run_category(score)
    if category.startswith("raises "):
        return f"tests that raise {category.removeprefix('raises ')}"
    return "asserts that do not hold" if category == "wrong value" else category


def _run_category(score: ResponseScore) -> str:
    if score.status in ("timeout", "crashed"):
        return score.status
    raised = RAISED.search(score.detail)
    return f"raises {raised[2]}" if raised and raised[2] != "AssertionError" else "wrong value"


def _expectation(score: ResponseScore) -> str:
    """Say what the first failed test called and expected; "" if the scorer's detail names no test."""
    tested = TESTED.search(score.detail)
    tree = parse(tested[2]) if tested else None
    test = tree.body[0].test if tree and isinstance(tree.body[0], ast.Assert) else None
    if tested is None or not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return ""
    call, expected = ast.unparse(test.left), ast.unparse(test.comparators[0])
    got = f"{tested[3]}: {tested[4]}" if tested[3] != "AssertionError" else "another value"
    return f" Expected of `{clip(call, 100)}`: `{clip(expected, 60)}`; got {clip(got, 80)}."


def _invented(score: ResponseScore) -> Finding:
    names = ", ".join(f"`{name}`" for name in score.invented_names[:5])
    count = len(score.invented_names)
    told = "1 name that does" if count == 1 else f"{count} names that do"
    return "invented names", f"{told} not exist: {names}."


def _similarity(code: str, reference: str) -> str:
    alike = difflib.SequenceMatcher(None, reference.split(), code.split(), autojunk=False).ratio()
    return f"Its words are {alike:.0%} the reference's; differences: {_changed_lines(code, reference)}."


def _words(code: str) -> str:
    """Return the words of code, ignoring layout and comments (the bug mark is a comment)."""
    return " ".join(re.sub(r"#[^\r\n]*", "", code).split())


def _syntax_error(code: str) -> str:
    try:
        ast.parse(code)
    except SyntaxError as error:
        line = (bare_lines(code)[error.lineno - 1 : error.lineno] or [""])[0] if error.lineno else ""
        return f"line {error.lineno}, {code_span(clip(line.strip(), 80))}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return str(error)
    return "no Python could be found in it"


def _changed_lines(got: str, wanted: str, limit: int = 3) -> str:
    """Return the first `limit` lines of a diff from `got` to `wanted`."""
    diff = difflib.unified_diff(bare_lines(got), bare_lines(wanted), lineterm="", n=0)
    lines = [d for d in diff if d[:1] in "+-" and d[:3] not in ("+++", "---") and d[1:].strip()]
    shown = " ".join(f"`{clip(line, 100)}`" for line in lines[:limit])
    return f"{shown} and {len(lines) - limit} more" if len(lines) > limit else shown or "white space only"
