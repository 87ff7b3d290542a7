"""Find the functions of a file that a request to write another one of it shows.

Who adds a function to a file has the file before them. So does a model that is asked for one: it sees the
functions of the same file that are most alike in name, parameters and summary, each with its summary as
docstring. Twins of the function are never among them (`helpers.data.twins`), nor functions that use it:
without it they would not be there.

A copy of a function that is shown must not pass as an answer. So copies are run, except of functions that
may not be run at all (`helpers.data.tasks.purity`).
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from helpers.code.docstrings import read_docstring, with_docstring
from helpers.code.python_text import parse
from helpers.data.queries.letters import NAME, name_parts, same_form
from helpers.data.tasks.execution import strip_decorators
from helpers.data.tasks.phrasings import fenced_python, unfenced
from helpers.data.twins import find_twins
from helpers.records import Function
from helpers.settings import CorpusSettings

MOST_SHOWN = 2
SAME_FILE = "The same file holds:"


@dataclass(frozen=True)
class Shown:
    """What a request shows of a function's file."""

    codes: tuple[str, ...] = ()  # the most alike last, so that it is read last
    copies: tuple[str, ...] = ()  # of those that may be run, under the function's name

    @property
    def detail(self) -> dict[str, str]:
        """What a pair or task carries of it; nothing where nothing is shown."""
        return {"shown": json.dumps(self.codes), "copies": json.dumps(self.copies)} if self.codes else {}


class Neighbours:
    """The functions at the top of each file, to be shown in requests."""

    def __init__(
        self,
        functions: Sequence[Function],
        tokens: Callable[[str], int],
        room: int,
        may_run: Callable[[Function], bool] = lambda _: True,
    ) -> None:
        """Take a corpus's Python functions.

        Args:
            tokens: counts the tokens of a text.
            room: tokens of all that one request may show; none is shown for 0.
            may_run: whether a copy of a function may be run.
        """
        self.tokens, self.room, self.may_run = tokens, room, may_run
        self.copied: set[str] = set()  # ids of the functions of which copies were handed out
        self._by_path: dict[str, list[Function]] = defaultdict(list)
        self._twins: dict[str, set[str]] = defaultdict(set)
        self._terms: dict[str, frozenset[str]] = {}  # of the functions asked about, by id
        own = [f for f in functions if not (f.is_method or f.is_nested or _is_stub(f))] if room else []
        for function in own:
            self._by_path[function.path].append(function)
        for _, members in find_twins(own, CorpusSettings().near_duplicate_threshold) if own else []:
            group = {own[index].id for index in members}
            for name in group:
                self._twins[name] |= group

    def of(self, function: Function) -> Shown:
        """Return what a request to write `function` shows of its file."""
        others = [one for one in self._by_path.get(function.path, ()) if self._may_show(one, function)]
        alike = [
            (-_overlap(self._said(function), self._said(one)), place) for place, one in enumerate(others)
        ]
        chosen: list[Function] = []
        for _, place in sorted(alike):
            more = [others[place], *chosen]
            if len(more) <= MOST_SHOWN and self.tokens(above(map(_shown, more))) <= self.room:
                chosen = more
        runnable = [one for one in chosen if self.may_run(one)]
        self.copied.update(one.id for one in runnable)
        copies = (renamed(strip_decorators(one.code), function.name) for one in runnable)
        return Shown(tuple(map(_shown, chosen)), tuple(copies))

    def _may_show(self, one: Function, function: Function) -> bool:
        name = same_form(function.name)
        if one.id == function.id or one.id in self._twins[function.id] or one.is_async != function.is_async:
            return False
        return name not in map(same_form, (one.name, *NAME.findall(same_form(one.code))))

    def _said(self, function: Function) -> frozenset[str]:
        """Return the words of name, parameters and summary."""
        if function.id not in self._terms:
            said = " ".join((function.name, *function.parameters, read_docstring(function.docstring).summary))
            parts = (name_parts(name) for name in NAME.findall(same_form(said)))
            self._terms[function.id] = frozenset(part for some in parts for part in some)
        return self._terms[function.id]


def above(codes: Iterable[str]) -> str:
    """Return what stands above a request that shows `codes`; "" for none."""
    blocks = [fenced_python(code) for code in codes]
    return "\n\n".join([SAME_FILE, *blocks, ""]) if blocks else ""


def shown_codes(detail: Mapping[str, str]) -> list[str]:
    """Return the functions of its file that a pair or task with this `detail` shows above its request."""
    return json.loads(detail.get("shown", "[]"))


def request_alone(instruction: str, detail: Mapping[str, str]) -> str:
    """Return the instruction of a pair or task with this `detail` without what it shows of the file."""
    prefix = above(shown_codes(detail))
    return instruction.removeprefix(prefix).removeprefix(unfenced(prefix))


def renamed(code: str, name: str) -> str:
    """Return a function without decorators under another name, as a copy of it would answer a request."""
    return re.sub(r"^((?:async\s+)?def\s+)[^\s(\[]+", lambda found: found[1] + name, code, count=1)


def _shown(function: Function) -> str:
    summary = read_docstring(function.docstring).summary
    return with_docstring(function.code, summary) if summary else function.code


def _is_stub(function: Function) -> bool:
    """Return whether a function has no body, as those marked with `overload` have."""
    tree = parse(function.code)
    body = getattr(tree.body[0], "body", []) if tree and tree.body else []
    return all(isinstance(node, ast.Pass) or _is_constant(node) for node in body)


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the Jaccard similarity of two sets."""
    return len(one & other) / len(one | other) if one | other else 0.0
