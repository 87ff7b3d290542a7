"""Small edits of a function's text at positions taken from its syntax tree.

A `SourceText` knows where every node of a function lies in the UTF-8 bytes of its source. An `Edit`
replaces one span of these bytes, so comments, blank lines and quoting around it stay as their author
wrote them. The operators that plant bugs or make code worse build on this.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from helpers.errors import SuiteError
from helpers.lines import lines_of

SKIPPED_FIELDS = ("decorator_list", "annotation", "returns", "type_params")


class SourceEditError(SuiteError, ValueError):
    """The source does not parse or holds no function definition."""


@dataclass(frozen=True)
class Edit:
    """Replacement of the bytes `start:end` of the source by `text`."""

    start: int
    end: int
    text: str


class SourceText:
    """The bytes of one function definition with its syntax tree and the nodes of its body.

    `nodes` are in source order, without docstrings, f-strings, annotations and decorators.

    Raises:
        SourceEditError: if the source does not parse or has no function at its top level.
    """

    def __init__(self, source: str) -> None:
        try:
            self.tree = ast.parse(source)
        except (SyntaxError, ValueError) as error:
            raise SourceEditError(f"source does not parse: {error}") from error
        functions = [n for n in self.tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        if not functions:
            raise SourceEditError("source holds no function definition at its top level")
        self.function = functions[0]
        self.data = source.encode()
        self.starts = [0, *accumulate(len(line.encode()) for line in lines_of(source))]
        self.nodes = list(_body_nodes(self.function))

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Return the byte offsets of a node: the first, and one past the last."""
        start = self.starts[node.lineno - 1] + node.col_offset
        return start, self.starts[node.end_lineno - 1] + node.end_col_offset

    def code(self, node: ast.AST) -> str:
        """Return a node's text as it is in the source."""
        start, end = self.span(node)
        return self.data[start:end].decode()

    def replace(self, node: ast.AST, text: str) -> Edit:
        """Return the edit that replaces `node` by `text`."""
        return Edit(*self.span(node), text)

    def between(self, left: ast.AST, right: ast.AST, token: str, new: str) -> Iterator[Edit]:
        """Replace the operator `token` between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self.data[start:end].decode()
        pattern = r"\s+".join(re.escape(word) for word in token.split())
        matches = list(re.finditer(pattern, gap))
        if len(matches) == 1 and "#" not in gap:
            lead = start + len(gap[: matches[0].start()].encode())
            yield Edit(lead, lead + len(matches[0].group().encode()), new)

    def delete_statement(self, statement: ast.stmt, body: list[ast.stmt]) -> Iterator[Edit]:
        """Remove a statement with its lines, or replace it by `pass` if it is the whole body."""
        start, end = self.span(statement)
        if len(body) == 1:
            yield Edit(start, end, "pass")
            return
        first, last = self.starts[statement.lineno - 1], self.starts[statement.end_lineno]
        if not self.data[first:start].strip() and self.data[end:last].split(b"#")[0].strip() == b"":
            yield Edit(first, last, "")

    def line_of(self, edit: Edit) -> int:
        """Return the 1-based source line at which an edit begins."""
        return min(bisect_right(self.starts, edit.start), max(1, len(self.starts) - 1))

    def apply(self, edit: Edit) -> str:
        """Return the whole source with one edit applied."""
        return (self.data[: edit.start] + edit.text.encode() + self.data[edit.end :]).decode()


def _body_nodes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """Yield the body's nodes in source order, without docstrings, annotations and nested decorators."""
    stack: list[ast.AST] = list(reversed(function.body))
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant | ast.JoinedStr):
            continue
        if isinstance(node, ast.JoinedStr):  # positions inside f-strings are unreliable before 3.12
            continue
        yield node
        fields = [value for name, value in ast.iter_fields(node) if name not in SKIPPED_FIELDS]
        children = [child for value in fields for child in (value if isinstance(value, list) else [value])]
        stack.extend(child for child in reversed(children) if isinstance(child, ast.AST))
