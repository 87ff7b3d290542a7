"""Judge answers that need no program to run: prose, docstrings, and answers without code."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter

from helpers.code.docstrings import (
    described_names,
    docstring_of,
    read_docstring,
    returns_a_value,
    same_code,
    undescribed,
)
from helpers.code.extraction import answered_line, defines, extract_code, is_cut_off, parse
from helpers.code.fences import without_blocks
from helpers.code.names.checker import invented_names
from helpers.code.names.context import NameContext
from helpers.data.tasks.aiming import aimed_at
from helpers.data.tasks.claims import false_statement
from helpers.data.tasks.execution import home_module
from helpers.data.tasks.generated_tests import asserts_about
from helpers.data.tasks.phrasings import spliced
from helpers.lines import bare_lines
from helpers.records import Task

MIN_WORDS = 8  # of an explanation
RUN_WORDS, MOST_TIMES = 8, 3  # words in a row, and how often they may come in an explanation
# Words and signs with which no sentence ends.
UNFINISHED = re.compile(
    r"(?:[,([{]|\b(?:an?|the|of|from|into|and|or|nor|but|is|are|was|were|that|which|whose|with|if|as|its|than|then|"
    r"their|when|where|because))$",
    re.IGNORECASE,
)
RECEIVERS = ("self", "cls")  # the first parameter of methods, which no reader needs explained
Verdict = tuple[str, str]  # status, detail


def answer_code(task: Task, text: str) -> str | None:
    """Return the code of an answer to `task`; None for prose, and where no code parses."""
    if task.kind == "explain":
        return None
    if task.detail.get("form") == "line":
        line = answered_line(text)
        whole = spliced(task.detail["given"], int(task.detail["line"]), line)
        return whole if line and parse(whole) is not None else None
    return extract_code(text, entry_point=None if task.kind == "unit_tests" else task.entry_point)


def invented_in_answer(task: Task, text: str, code: str | None, names: NameContext | None) -> tuple[str, ...]:
    """Return the names in an answer to `task` that do not exist; none if `names` is None or no text is there.

    Training pairs are filtered, and references and answers scored, by this call alone. What the task shows
    counts as existing: the code, the instruction and its module's name. A docstring is also read as prose.

    Args:
        code: what `answer_code` returns for `text`.
    """
    if names is None or not text.strip():
        return ()
    answer = code if code and task.detail.get("form") == "line" else text
    known = names.about(task.detail["code"], task.instruction, home_module(task.prelude))
    found = set(invented_names(answer, context=known))
    tree = parse(code) if task.kind == "docstring" and code else None
    for node in tree.body if tree else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.update(invented_names(ast.get_docstring(node) or "", context=known))
    return tuple(sorted(found))


def verdict_without_running(
    task: Task, text: str, code: str | None, invented: tuple[str, ...]
) -> Verdict | None:
    """Return the verdict on an answer if no program has to run for it, else None."""
    if not text.strip():
        return "empty", "no text"
    if task.kind == "explain":
        return _judge_explanation(task, text, invented)
    if code is None:
        return "unparsable", "no code that parses"
    if task.kind == "unit_tests":
        if not asserts_about(aimed_at(code, task.entry_point, task.prelude), task.entry_point):
            return "failed", f"no assert about {task.entry_point}"
        return None
    if not defines(code, task.entry_point):
        if is_cut_off(text, task.entry_point):
            return "failed", f"the function {task.entry_point} is cut off"
        return "failed", f"no function {task.entry_point}"
    return _judge_docstring(task, code) if task.kind == "docstring" else None


def _judge_docstring(task: Task, code: str) -> Verdict:
    parameters = tuple(json.loads(task.detail["parameters"]))
    try:
        docstring = docstring_of(code)
    except ValueError as error:
        return "unparsable", str(error)
    if not same_code(code, task.detail["given"]):
        return "failed", "the code itself was changed"
    if not read_docstring(docstring).summary:
        return "failed", "no docstring"
    if missing := undescribed(docstring, parameters):
        return "failed", f"not described: {', '.join(missing)}"
    if foreign := [name for name in described_names(docstring) if name not in parameters]:
        return "failed", f"no such parameter: {', '.join(foreign)}"
    if returns_a_value(task.detail["given"]) and read_docstring(docstring).returns is None:
        return "failed", "the return value is not described"
    return "passed", ""


def _repeats_itself(prose: str) -> bool:
    """Return whether one run of `RUN_WORDS` words comes more than `MOST_TIMES` times."""
    words = prose.lower().split()
    runs = Counter(tuple(words[at : at + RUN_WORDS]) for at in range(len(words) - RUN_WORDS + 1))
    return max(runs.values(), default=0) > MOST_TIMES


def _breaks_off(prose: str) -> bool:
    """Return whether the last line ends where no sentence can; many a whole one lacks its full stop."""
    last = bare_lines(prose.rstrip() or ".")[-1].strip()
    return last.count("`") % 2 == 1 or bool(UNFINISHED.search(last))


def _judge_explanation(task: Task, text: str, invented: tuple[str, ...]) -> Verdict:
    """Judge the form and what can be checked; no verdict on truth as a whole.

    The request shows the function's name, so an explanation need not repeat it, nor `self` and `cls`.
    """
    words = set(re.findall(r"\w+", text))
    parameters = [name for name in json.loads(task.detail["parameters"]) if name not in RECEIVERS]
    missing = [name for name in parameters if name not in words]
    if len(text.split()) < MIN_WORDS:
        return "failed", f"fewer than {MIN_WORDS} words"
    if defines(extract_code(text, entry_point=task.entry_point) or "", task.entry_point):
        return "failed", "code instead of an explanation"
    if missing:
        return "failed", f"not mentioned: {', '.join(missing)}"
    if invented:
        return "failed", f"does not exist: {', '.join(invented)}"
    prose = without_blocks(text)
    if _repeats_itself(prose):
        return "failed", "says the same again and again"
    if _breaks_off(prose):
        return "failed", "breaks off within a sentence"
    given = task.detail["given"]
    if fault := false_statement(text, given, name=task.entry_point, instruction=task.instruction):
        return "failed", fault
    return "passed", ""
