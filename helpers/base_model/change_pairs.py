"""Commit-like training text: a function before and after a change.

Code models are trained on commits because changes teach what plain files don't: to copy what stays,
and to notice what is wrong. Each pair here is one plain text without an instruction or a question.
`PAIR_KINDS` gives the share of each kind:

- fix: the function with one planted fault (`helpers.data.tasks.bugs`), then as its author wrote it
- diff: the same, with the change written as removed and added lines
- copy: the same function under two file names
- scramble: a copy whose words are shuffled first, so that only copying can predict the next word. Half of
  them repeat a few words, so that only several preceding words show where to copy from
- rename: the function with one local name replaced throughout, then with the original name
- docstring: the function without its docstring, then with it
- describe: the function without its docstring, then the docstring alone
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import random
import re
from collections.abc import Iterator, Sequence
from multiprocessing import get_context

from helpers.data.tasks.bugs import OPERATORS, BugError, make_bugs
from helpers.lines import bare_lines, lines_of
from helpers.machine.progress import progress
from helpers.records import SourceFile

FILE_SEPARATOR = "<|file_sep|>"
PAIR_KINDS = {
    "fix": 0.25, "diff": 0.08, "copy": 0.27, "scramble": 0.25, "rename": 0.07, "docstring": 0.05,
    "describe": 0.03,
}  # fmt: skip
NEW_NAMES = ("value", "item", "result", "current", "total", "data")
WORD = r"\w+"
FEW_WORDS = 12
MIN_LINES, MAX_LINES, MAX_CHARACTERS = 3, 40, 1_600


def change_pairs(
    files: Sequence[SourceFile], seed: int, *, per_function: int = 1, processes: int = 1
) -> list[tuple[str, str]]:
    """Return (kind, text) of up to `per_function` pairs from every fitting function, shuffled with `seed`."""
    jobs = [(file.text, f"{seed}:{file.path}", per_function) for file in files]
    found: list[tuple[str, str]] = []
    with get_context("spawn").Pool(processes) if processes > 1 else contextlib.nullcontext() as pool:
        made = pool.imap(_of_file, jobs, chunksize=32) if pool else map(_of_file, jobs)
        for part in progress(made, "make pairs", total=len(jobs), unit="file"):
            found += part
    random.Random(f"{seed}:pairs").shuffle(found)
    return found


def window_sized_functions(text: str) -> Iterator[str]:
    """Yield the dedented source of a file's functions and methods that fit a training window.

    One that spells the separator is left out: a pair would not show where its halves meet.
    """
    lines = bare_lines(text)
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
        part = lines[first : node.end_lineno]
        indent = len(part[0]) - len(part[0].lstrip())
        if not MIN_LINES <= len(part) <= MAX_LINES or any(line[:indent].strip() for line in part):
            continue
        source = "\n".join(line[indent:] for line in part) + "\n"
        if len(source) <= MAX_CHARACTERS and FILE_SEPARATOR not in source and _parses(source):
            yield source


def _of_file(job: tuple[str, str, int]) -> list[tuple[str, str]]:
    text, seed, per_function = job
    rng = random.Random(seed)
    pairs = []
    for source in window_sized_functions(text):
        for kind in rng.choices(list(PAIR_KINDS), weights=list(PAIR_KINDS.values()), k=per_function):
            if made := MAKERS[kind](source, rng):
                pairs.append((kind, made))
    return pairs


def before_after(before: str, after: str) -> str:
    """Join two states of one function into one text."""
    return f"{FILE_SEPARATOR}before\n{before}{FILE_SEPARATOR}after\n{after}"


def _planted(source: str, rng: random.Random) -> tuple[str | None, str]:
    """Return the function with one planted fault (None if no operator fits) and as its author wrote it.

    Half of the functions lose their docstring first.
    """
    source = (rng.random() < 0.5 and _without_docstring(source)) or source
    names = list(OPERATORS)
    rng.shuffle(names)
    for name in names[:6]:
        try:
            bugs = make_bugs(source, operators=(name,))
        except BugError:
            break
        if bugs:
            return rng.choice(bugs).source, source
    return None, source


def _fix(source: str, rng: random.Random) -> str | None:
    buggy, source = _planted(source, rng)
    return buggy and before_after(buggy, source)


def _diff(source: str, rng: random.Random) -> str | None:
    buggy, source = _planted(source, rng)
    if not buggy:
        return None
    changed = difflib.unified_diff(bare_lines(buggy), bare_lines(source), n=0, lineterm="")
    lines = [line for line in changed if line[:1] in "+-" and line[:3] not in ("---", "+++")]
    return f"{FILE_SEPARATOR}before\n{buggy}{FILE_SEPARATOR}diff\n" + "\n".join(lines) + "\n"


def _copy(source: str, rng: random.Random) -> str:
    name = re.search(r"def (\w+)", source)
    stem = name.group(1) if name else "module"
    first, second = rng.sample(["utils", "core", "base", "common", "lib", "tools", stem, f"{stem}_v2"], 2)
    return f"{FILE_SEPARATOR}{first}.py\n{source}{FILE_SEPARATOR}{second}.py\n{source}"


def _scramble(source: str, rng: random.Random) -> str:
    words = re.findall(WORD, source)
    if rng.random() < 0.5:
        few = rng.sample(words, min(FEW_WORDS, len(words)))
        words = rng.choices(few, k=len(words))
    rng.shuffle(words)
    mixed = iter(words)
    return _copy(re.sub(WORD, lambda _: next(mixed), source), rng)


def _rename(source: str, rng: random.Random) -> str | None:
    tree = ast.parse(source)
    local = sorted({n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)})
    local = [name for name in local if len(name) > 1 and f"{name}=" not in source.replace(" =", "")]
    if not local:
        return None
    old = rng.choice(local)
    new = rng.choice([*NEW_NAMES, f"{old}_", f"new_{old}", f"_{old}"])
    if re.search(rf"\b{new}\b", source):
        return None
    other = re.sub(rf"(?<![\w.'\"]){re.escape(old)}\b(?!['\"])", new, source)
    return before_after(other, source) if other != source and _parses(other) else None


def _docstring(source: str, rng: random.Random) -> str | None:
    bare = _without_docstring(source)
    return bare and before_after(bare, source)


def _describe(source: str, rng: random.Random) -> str | None:
    bare = _without_docstring(source)
    if not bare:
        return None
    return f"{bare}{FILE_SEPARATOR}docstring\n{ast.get_docstring(ast.parse(source).body[0])}\n"


def _without_docstring(source: str) -> str | None:
    """Drop the docstring's lines; None if the function has none, or nothing else."""
    function = ast.parse(source).body[0]
    if not ast.get_docstring(function) or len(function.body) < 2:
        return None
    lines, node = lines_of(source), function.body[0]
    del lines[node.lineno - 1 : node.end_lineno]
    bare = "".join(lines)
    return bare if _parses(bare) else None


def _parses(source: str) -> bool:
    try:
        return isinstance(ast.parse(source).body[0], ast.FunctionDef | ast.AsyncFunctionDef)
    except (SyntaxError, ValueError, IndexError):
        return False


MAKERS = {
    "fix": _fix, "diff": _diff, "copy": _copy, "scramble": _scramble,
    "rename": _rename, "docstring": _docstring, "describe": _describe,
}  # fmt: skip
