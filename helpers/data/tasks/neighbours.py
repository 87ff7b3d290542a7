"""Find the functions of a file that a request to write another one of it shows.

Who adds a function to a file has the file before them. So does a model that is asked for one: it sees the
functions of the same file that are most alike in name, parameters and summary, each with its summary as
docstring. Functions that use the one to be written are left out: without it they would not be there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence

from helpers.code.docstrings import read_docstring, with_docstring
from helpers.data.queries.letters import NAME, name_parts, same_form
from helpers.data.tasks.execution import strip_decorators
from helpers.data.tasks.phrasings import fenced_python
from helpers.records import Function

MOST_SHOWN = 2
SAME_FILE = "The same file holds:"


class Neighbours:
    """The functions at the top of each file, to be shown in requests."""

    def __init__(self, functions: Sequence[Function], tokens: Callable[[str], int], room: int) -> None:
        """Take a corpus's Python functions.

        Args:
            tokens: counts the tokens of a text.
            room: tokens of all that one request may show; none is shown for 0.
        """
        self.tokens, self.room = tokens, room
        self._known: dict[str, frozenset[str]] = {}  # the terms of the functions asked about, by id
        self._by_path: dict[str, list[Function]] = defaultdict(list)
        for function in functions:
            if not function.is_method and not function.is_nested:
                self._by_path[function.path].append(function)

    def of(self, function: Function) -> tuple[str, ...]:
        """Return code of other functions of its file, the most alike last, so that it is read last."""
        if not self.room:
            return ()
        uses = re.compile(rf"\b{re.escape(function.name)}\b")
        others = [one for one in self._by_path[function.path] if not uses.search(one.code)]
        alike = [
            (-_overlap(self._terms(function), self._terms(one)), place) for place, one in enumerate(others)
        ]
        found: list[str] = []
        left = self.room
        for _, place in sorted(alike):
            if len(found) == MOST_SHOWN:
                break
            code = _shown(others[place])
            size = self.tokens(fenced_python(code))
            if size <= left:
                found.append(code)
                left -= size
        return tuple(reversed(found))

    def _terms(self, function: Function) -> frozenset[str]:
        if function.id not in self._known:
            said = " ".join((function.name, *function.parameters, read_docstring(function.docstring).summary))
            parts = (name_parts(name) for name in NAME.findall(same_form(said)))
            self._known[function.id] = frozenset(part for some in parts for part in some)
        return self._known[function.id]


def with_neighbours(instruction: str, shown: Sequence[str]) -> str:
    """Return the instruction below the functions that it shows of its file, if any."""
    blocks = [fenced_python(code) for code in shown]
    return "\n\n".join([SAME_FILE, *blocks, instruction]) if blocks else instruction


def renamed(code: str, name: str) -> str:
    """Return a function under another name, as a copy of it would answer a request."""
    return re.sub(r"\bdef\s+\w+", f"def {name}", code, count=1)


def _shown(function: Function) -> str:
    code, summary = strip_decorators(function.code), read_docstring(function.docstring).summary
    return with_docstring(code, summary) if summary else code


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the Jaccard similarity of two sets."""
    return len(one & other) / len(one | other) if one | other else 0.0
