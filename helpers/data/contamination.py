"""Keep held-out functions, and benchmarks on request, out of the training pairs.

Code is compared without whitespace and, from `MIN_TOKENS` tokens on, as syntax with every identifier
blanked. Benchmark files are also compared by runs of `NGRAM_WORDS` words (13, as in Brown et al. 2020,
appendix C).
"""

from __future__ import annotations

import ast
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from helpers.code.near_duplicates import python_tokens
from helpers.code.python_text import parse_or_reason
from helpers.data.twins import MIN_TOKENS, blank_syntax
from helpers.errors import SuiteError
from helpers.paths import below_home

NGRAM_WORDS = 13
CODE_FIELDS = ("prompt", "canonical_solution", "code", "buggy", "solution")
TEXT_FIELDS = (*CODE_FIELDS, "text", "test", "test_list", "test_setup_code", "challenge_test_list")
WORD = re.compile(r"\w+")


class ContaminationError(SuiteError, ValueError):
    """A benchmark file cannot be read, or pairs hold held-out code; the message names them."""


class Benchmarks:
    """The problems of benchmark files that must not occur in the pairs."""

    def __init__(self, paths: Sequence[str | Path] = ()) -> None:
        """Read HumanEval's or MBPP's own files, `.jsonl` or `.jsonl.gz`; there may be none.

        Raises:
            ContaminationError: for a file that is missing or holds no problem rows.
        """
        self.sources: dict[str, int] = {}  # file name -> problems
        self._grams: set[tuple[str, ...]] = set()
        self._codes: set[str] = set()
        for path in map(below_home, paths):
            problems = _rows(path)
            self.sources[path.name] = len(problems)
            for row in problems:
                for text in (row.get(field, "") for field in TEXT_FIELDS):
                    self._grams |= _ngrams("\n".join(text) if isinstance(text, list) else str(text))
                whole = f"{row.get('prompt', '')}{row.get('canonical_solution', '')}"
                for code in (whole, *(str(row.get(field, "")) for field in CODE_FIELDS)):
                    self._codes |= set(_functions(code))

    def reason(self, text: str, code: str) -> str:
        """Return why a pair with this text and this code is contaminated; "" where it is not."""
        if self._codes and not self._codes.isdisjoint(fingerprints(code)):
            return "code of a benchmark"
        if self._grams and not self._grams.isdisjoint(_ngrams(text)):
            return f"{NGRAM_WORDS} words in a row of a benchmark"
        return ""


def check_held_out(pairs: Iterable[tuple[str, str, str]], held_out: Iterable[tuple[str, str]]) -> None:
    """Raise ContaminationError if a pair is about a held-out function or shares its code.

    Args:
        pairs: (pair id, function id, code of the function).
        held_out: (function id, code) of the test functions.
    """
    test = dict(held_out)
    codes = {mark for code in test.values() for mark in fingerprints(code)}
    offending = [
        pair for pair, function, code in pairs if function in test or not codes.isdisjoint(fingerprints(code))
    ]
    if offending:
        raise ContaminationError(
            f"{len(offending)} pairs hold held-out code, e.g. {offending[:5]}; split the corpus anew"
        )


def fingerprints(code: str) -> set[str]:
    """Return what equal code has in common: its text without whitespace, and its blanked functions."""
    squeezed = "".join(code.split())
    return {squeezed} | set(_functions(code)) if squeezed else set()


def _functions(code: str) -> Iterator[str]:
    """Yield each function of `code` that is not tiny, as blanked syntax without its docstring."""
    tree = parse_or_reason(code)
    if isinstance(tree, str):
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()]
            text = ast.unparse(node)
            if len(python_tokens(text)) >= MIN_TOKENS and (blanked := blank_syntax(text)):
                yield blanked


def _rows(path: Path) -> list[dict]:
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig") as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError, EOFError, RecursionError, zlib.error) as error:
        raise ContaminationError(f"the benchmark file {path} cannot be read: {error}") from error
    if not rows or not all(isinstance(row, dict) and "task_id" in row for row in rows):
        raise ContaminationError(f"{path} holds no benchmark problems: one JSON object with task_id a line")
    return rows


def _ngrams(text: str) -> set[tuple[str, ...]]:
    words = WORD.findall(text)
    return {tuple(words[i : i + NGRAM_WORDS]) for i in range(len(words) - NGRAM_WORDS + 1)}
