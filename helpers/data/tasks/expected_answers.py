"""Tell what test cases expect a function to answer."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from helpers.code.python_text import parse

SIZE = "a size"
SIZES = {"len", "order", "size", "number_of_nodes", "number_of_edges"}  # functions and methods that count


def expected_answer(case: str, name: str) -> str:
    """Return the answer that the last assertion of `case` expects of function `name`.

    Returns:
        The expected value's source, looked up where the case names it first; `SIZE` where only the number of
        parts is compared, since any parts of that number would do; "" where the assertion compares in another
        way.

    >>> expected_answer("want = [1, 2]\\nassert f(3) == want", "f"), expected_answer("assert not f(0)", "f")
    ('[1, 2]', 'False')
    >>> expected_answer("g = f(3)\\nassert len(g) == 3", "f"), expected_answer("assert same(f(3), g)", "f")
    ('a size', '')
    """
    tree = parse(case)
    body = tree.body if tree else []
    test = body[-1].test if body and isinstance(body[-1], ast.Assert) else None
    values, answers = _assigned(body, name)
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq | ast.Is):
        sides = (test.left, test.comparators[0])
        ours = [side for side in sides if _comes_from(side, name, answers)]
        if len(ours) != 1:
            return ""
        (other,) = (side for side in sides if side is not ours[0])
        return SIZE if _counts(ours[0]) else ast.unparse(_value_of(other, values))
    is_negated = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
    asked = test.operand if is_negated else test
    is_answer = _is_call(asked, name) or (isinstance(asked, ast.Name) and asked.id in answers)
    return str(not is_negated) if is_answer else ""


def expected_values(tests: str, name: str) -> Iterator[str]:
    """Yield what the assertions of `tests` compare with, on whichever side: expected answers of `name`.

    Where a name is compared, the values come that `tests` assigns to it; what holds a call of `name` is no
    expectation.

    >>> list(expected_values("want = [1, 2]\\ng = f(4)\\nassert f(3) == want\\nassert 0 == len(g)", "f"))
    ['[1, 2]', '0']
    """
    tree = parse(tests) or ast.Module([], [])
    assigned: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        for target in node.targets if isinstance(node, ast.Assign) else ():
            assigned.setdefault(ast.unparse(target), []).append(node.value)
    answers = {own for own, values in assigned.items() if any(_comes_from(v, name, set()) for v in values)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare):
            for side in (node.test.left, *node.test.comparators):
                values = assigned.get(side.id, []) if isinstance(side, ast.Name) else [side]
                yield from (ast.unparse(value) for value in values if not _comes_from(value, name, answers))


def _assigned(body: list[ast.stmt], name: str) -> tuple[dict[str, ast.expr], set[str]]:
    """Return the last value of each name that a case assigns, and the names for what `name` answered."""
    values: dict[str, ast.expr] = {}
    answers: set[str] = set()
    for node in body:
        if isinstance(node, ast.Assign):
            for target in (one for one in node.targets if isinstance(one, ast.Name)):
                values[target.id] = node.value
                (answers.add if _comes_from(node.value, name, answers) else answers.discard)(target.id)
    return values, answers


def _comes_from(node: ast.expr, name: str, answers: set[str]) -> bool:
    return any(
        _is_call(part, name) or (isinstance(part, ast.Name) and part.id in answers) for part in ast.walk(node)
    )


def _is_call(node: ast.AST | None, name: str) -> bool:
    return isinstance(node, ast.Call) and _called(node) == name


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _counts(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _called(node) in SIZES


def _value_of(node: ast.expr, values: dict[str, ast.expr]) -> ast.expr:
    return values.get(node.id, node) if isinstance(node, ast.Name) else node
