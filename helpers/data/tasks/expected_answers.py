"""Tell what a test case expects a function to answer."""

from __future__ import annotations

import ast

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
