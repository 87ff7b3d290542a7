"""Split token scores by role: docstrings, comments, the repository's own names, other code.

Python's own parser assigns the roles, and the scores come from the same pass that computes bits per byte:
pass a `RoleTally` as `observe` to `helpers.eval.perplexity.evaluate_perplexity`.
"""

from __future__ import annotations

import ast
import builtins
import io
import keyword
import math
import tokenize
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from helpers.records import Function

ROLES = ("code", "docstring", "comment", "own_name")


@dataclass(frozen=True)
class RoleScore:
    """Scores of the tokens of one role; `accuracy` is the share that the model ranked first."""

    n_tokens: int
    nll_nats: float
    perplexity: float
    accuracy: float


class RoleTally:
    """Sums of NLL and top-1 hits by role, collected while `evaluate_perplexity` scores `texts`.

    A token takes the role of its first character that is not white space; a token of white space only
    takes the role of its first character. Text that Python cannot parse counts as code throughout.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], own_names: Collection[str] = ()
    ) -> None:
        names = frozenset(own_names)
        self._roles = [_token_roles(tokenizer, text, names) for text in texts]
        self._nll = dict.fromkeys(ROLES, 0.0)
        self._hits = dict.fromkeys(ROLES, 0)
        self._count = dict.fromkeys(ROLES, 0)

    def __call__(self, text: int, first: int, losses: torch.Tensor, hits: torch.Tensor) -> None:
        """Add the scores of consecutive tokens; the signature is that of `perplexity.Observer`."""
        roles = self._roles[text][first : first + len(losses)]
        for role, loss, hit in zip(roles, losses.tolist(), hits.tolist(), strict=True):
            self._nll[role] += loss
            self._hits[role] += hit
            self._count[role] += 1

    def scores(self) -> dict[str, RoleScore]:
        """Return role -> score, for the roles that occurred."""
        return {
            role: RoleScore(
                n, self._nll[role], math.exp(min(self._nll[role] / n, 700.0)), self._hits[role] / n
            )
            for role in ROLES
            if (n := self._count[role])
        }


def own_names(functions: Iterable[Function]) -> frozenset[str]:
    """Collect the names that a repository defines and Python does not: functions, classes, parameters.

    Names of one or two characters are left out, because all code uses them.
    """
    known = {*dir(builtins), *keyword.kwlist, "self", "cls", "args", "kwargs"}
    names = {part for f in functions for part in (*f.qualname.split("."), *f.parameters)}
    return frozenset(name for name in names - known if len(name) > 2 and not name.startswith("__"))


def character_roles(text: str, names: frozenset[str] = frozenset()) -> list[str]:
    """Return the role of every character of `text`."""
    roles = ["code"] * len(text)
    starts = [0]
    for line in text.split("\n"):  # not splitlines: in Python a form feed does not end a line
        starts.append(starts[-1] + len(line) + 1)

    def paint(begin: tuple[int, int], end: tuple[int, int], role: str) -> None:
        first, last = starts[begin[0] - 1] + begin[1], starts[end[0] - 1] + end[1]
        roles[first:last] = [role] * (last - first)

    if "\r" in text.replace("\r\n", "\n"):
        return roles  # ast and tokenize disagree on whether a lone carriage return ends a line
    try:
        tree = ast.parse(text)
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError):
        return roles
    docstrings = {_docstring_start(node) for node in ast.walk(tree)}
    for token in tokens:
        if token.type == tokenize.COMMENT:
            paint(token.start, token.end, "comment")
        elif token.type == tokenize.STRING and token.start[0] in docstrings:
            paint(token.start, token.end, "docstring")
        elif token.type == tokenize.NAME and token.string in names:
            paint(token.start, token.end, "own_name")
    return roles


def _docstring_start(node: ast.AST) -> int | None:
    """Return the line on which the docstring of a module, class or function begins."""
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    first = node.body[0] if node.body else None
    is_text = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    return first.lineno if first and is_text else None


def _token_roles(tokenizer: PreTrainedTokenizerBase, text: str, names: frozenset[str]) -> list[str]:
    characters = character_roles(text, names)
    offsets = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    ).offset_mapping
    roles = []
    for begin, end in offsets:
        visible = next((at for at in range(begin, end) if not text[at].isspace()), begin)
        roles.append(characters[visible] if visible < len(characters) else "code")
    return roles
