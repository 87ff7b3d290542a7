"""Find functions whose tests reach every branch: only there would a test notice a branch that is lost.

An improvement may leave nothing out that the function does. Planted bugs do not show whether it could: a
branch that no test reaches can be deleted, which even counts as a gain.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from helpers.data.tasks.execution import NOTICED, ExecutionContext, run_in
from helpers.data.tasks.ground_truth import GroundTruth, program_of

REACHED = ast.parse("raise BaseException('reached')").body[0]  # nothing but a bare `except` catches it


def reaching_all(
    truths: Sequence[GroundTruth], context: ExecutionContext, workers: int
) -> tuple[list[GroundTruth], list[GroundTruth]]:
    """Return the functions whose tests reach every branch, and the others, both in the order given."""
    marked = [list(marked_branches(truth.code)) for truth in truths]
    programs = [program_of(truth, code) for truth, some in zip(truths, marked, strict=True) for code in some]
    ends = iter(run_in(context, programs, workers=workers, what="run branches"))
    found: tuple[list[GroundTruth], list[GroundTruth]] = ([], [])
    for truth, some in zip(truths, marked, strict=True):
        reached = [next(ends).status in NOTICED for _ in some]
        found[0 if all(reached) else 1].append(truth)
    return found


def marked_branches(code: str) -> Iterator[str]:
    """Yield a function once for each of its branches, with an exception where that one begins.

    Branches are the blocks of all statements in the function, and the way past an `if` without `else`.

    >>> for marked in marked_branches("def f(x):\\n    if x:\\n        x = 1\\n    return x"):
    ...     print(marked.count("raise"), "else" in marked)
    1 False
    1 True
    """
    for place in range(len(_blocks(ast.parse(code)))):
        tree = ast.parse(code)
        _blocks(tree)[place].insert(0, REACHED)
        yield ast.unparse(tree) + "\n"


def _blocks(tree: ast.Module) -> list[list[ast.stmt]]:
    """Return the lists of statements below the function's own body, in the order of `ast.walk`."""
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    found = []
    for node in (node for node in ast.walk(function) if node is not function):
        lists = [getattr(node, name, None) for name in ("body", "orelse", "finalbody")]
        found += [block for block in lists if isinstance(block, list) and block]
        if isinstance(node, ast.If) and not node.orelse:
            found.append(node.orelse)
    return found
