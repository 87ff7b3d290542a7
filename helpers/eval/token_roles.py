"""Split token scores by role: docstrings, comments, the repository's own names, other code.

Python's own parser assigns the roles. `helpers.eval.file_scores` sums the scores by role, in the same pass
that computes bits per byte.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import tokenize
from collections.abc import Collection, Iterable

from transformers import PreTrainedTokenizerBase

from helpers.code.python_text import tokenize_python
from helpers.lines import lines_of
from helpers.models.tokens import token_offsets
from helpers.records import Function

ROLES = ("code", "docstring", "comment", "own_name")


def token_roles(tokenizer: PreTrainedTokenizerBase, text: str, own_names: Collection[str] = ()) -> list[str]:
    """Return the role of every token of `text`.

    A token takes the role of its first character that is not white space; a token of white space only
    takes the role of its first character.
    """
    characters = character_roles(text, frozenset(own_names))
    roles = []
    for begin, end in token_offsets(tokenizer, text):
        visible = next((at for at in range(begin, end) if not text[at].isspace()), begin)
        roles.append(characters[visible] if visible < len(characters) else "code")
    return roles


def own_names(functions: Iterable[Function]) -> frozenset[str]:
    """Collect the names that a repository defines and Python does not: functions, classes, parameters.

    Names of one or two characters are left out, because all code uses them.
    """
    known = {*dir(builtins), *keyword.kwlist, "self", "cls", "args", "kwargs"}
    names = {part for f in functions for part in (*f.qualname.split("."), *f.parameters)}
    return frozenset(name for name in names - known if len(name) > 2 and not name.startswith("__"))


def character_roles(text: str, names: frozenset[str] = frozenset()) -> list[str]:
    """Return the role of every character of `text`; all are code if Python cannot parse it."""
    roles = ["code"] * len(text)
    starts = [0]
    for line in lines_of(text):
        starts.append(starts[-1] + len(line))

    def paint(begin: tuple[int, int], end: tuple[int, int], role: str) -> None:
        first, last = starts[begin[0] - 1] + begin[1], starts[end[0] - 1] + end[1]
        roles[first:last] = [role] * (last - first)

    try:
        tree = ast.parse(text)
        tokens = list(tokenize_python(text))
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError):
        return roles
    docstrings = {  # the lines on which they begin
        node.body[0].lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node, clean=False) is not None
    }
    for token in tokens:
        if token.type == tokenize.COMMENT:
            paint(token.start, token.end, "comment")
        elif token.type == tokenize.STRING and token.start[0] in docstrings:
            paint(token.start, token.end, "docstring")
        elif token.type == tokenize.NAME and token.string in names:
            paint(token.start, token.end, "own_name")
    return roles
