"""Plant named bugs in real source text: each adds one fault and leaves every other byte unchanged.

`make_bugs` lists all single-fault versions of a function, in the spirit of SWE-smith's procedural
mutations (Yang et al. 2025). Edits are made in the text, at positions taken from the syntax tree, so
comments, blank lines and quoting stay as their author left them. A version is listed only if it parses and
its tree differs from the original's. Whether it *behaves* differently is not known here: that takes a run
(`helpers.data.tasks.ground_truth`).

Docstrings, decorators and annotations are never edited.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import UnionType
from typing import Any

from helpers.code.edits import Edit, SourceEditError, SourceText
from helpers.code.python_text import parse
from helpers.errors import SuiteError
from helpers.lines import lines_of


class BugError(SuiteError, ValueError):
    """The source holds no function to plant a bug in, or an operator name does not exist."""


@dataclass(frozen=True)
class Bug:
    """One single-fault version of a function."""

    operator: str  # key of OPERATORS
    source: str  # the whole function, fault included
    line: int  # 1-based line of `source` at which the fault begins
    original: str  # the text that was replaced
    replacement: str  # the text now in its place


def make_bugs(source: str, *, operators: tuple[str, ...] | None = None) -> tuple[Bug, ...]:
    """Return all single-fault versions of the function in `source`, by position, then operator name.

    Args:
        source: one (dedented) function definition; decorators are allowed.
        operators: names from OPERATORS; all of them when None.

    Raises:
        BugError: if `source` does not parse, holds no function, or an operator is unknown.
    """
    names = tuple(OPERATORS) if operators is None else operators
    if unknown := sorted(set(names) - set(OPERATORS)):
        raise BugError(f"unknown bug operators {unknown}; known: {', '.join(OPERATORS)}")
    try:
        text = SourceText(source)
    except SourceEditError as error:
        raise BugError(str(error)) from error
    found: dict[str, tuple[int, Bug]] = {}
    unchanged = ast.dump(text.tree)
    for name in names:
        for edit in OPERATORS[name][1](text):
            mutant = text.apply(edit)
            tree = None if mutant in found else parse(mutant)
            if tree is not None and ast.dump(tree) != unchanged:
                line = min(text.line_of(edit), max(1, len(lines_of(mutant))))
                original = text.data[edit.start : edit.end].decode()
                found[mutant] = (edit.start, Bug(name, mutant, line, original, edit.text))
    return tuple(bug for _, bug in sorted(found.values(), key=lambda item: (item[0], item[1].operator)))


def nodes_of(text: SourceText, kinds: type | UnionType) -> Iterator[Any]:
    """Yield the nodes of the body that are of the given kinds, in source order."""
    return (node for node in text.nodes if isinstance(node, kinds))


# --- operators: each yields the edits it can make -----------------------------------------------

_COMPARE_FLIP = {
    ast.Lt: ("<", ">"), ast.Gt: (">", "<"), ast.LtE: ("<=", ">="), ast.GtE: (">=", "<="),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"), ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"),
}  # fmt: skip
_COMPARE_EDGE = {ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">")}
_ARITHMETIC = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "+"), ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"), ast.Mod: ("%", "//"), ast.Pow: ("**", "*"), ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}  # fmt: skip
_PAIRS = """append/extend add/discard keys/values successors/predecessors in_degree/out_degree
in_edges/out_edges nodes/edges startswith/endswith lower/upper popleft/pop union/intersection
succ/pred _succ/_pred min/max any/all ceil/floor number_of_nodes/number_of_edges find/rfind
add_edges_from/add_nodes_from is_directed/is_multigraph"""
_RIVALS = {"sum": "len", "sorted": "list", "update": "setdefault", "strip": "lstrip", "split": "rsplit"}
for _one, _, _other in (pair.partition("/") for pair in _PAIRS.split()):
    _RIVALS |= {_one: _other, _other: _one}


def _compare(text: SourceText, *, table: dict) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Compare):
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
            if type(operator) in table:
                yield from text.between(left, right, *table[type(operator)])


_flipped = partial(_compare, table=_COMPARE_FLIP)
_wrong_edge = partial(_compare, table=_COMPARE_EDGE)


def _is_int(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


def _off_by_one(text: SourceText) -> Iterator[Edit]:
    for node in text.nodes:
        if _is_int(node):
            yield text.replace(node, str(node.value + 1))
        is_range = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"
        if is_range and node.args and not node.keywords and not _is_int(node.args[-1]):
            _, end = text.span(node.args[min(1, len(node.args) - 1)])
            yield Edit(end, end, " - 1")


def _wrong_index(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Subscript):
        index = node.slice
        if isinstance(index, ast.UnaryOp) and isinstance(index.op, ast.USub) and _is_int(index.operand):
            yield text.replace(index, "0")
        elif _is_int(index):
            yield text.replace(index, "-1" if index.value == 0 else str(index.value - 1))


def _swapped_arguments(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Call):
        if len(node.args) >= 2:
            first, second = node.args[:2]
            if not isinstance(first, ast.Starred) and not isinstance(second, ast.Starred):
                start, middle = text.span(first)
                resume, end = text.span(second)
                gap = text.data[middle:resume].decode()
                if "#" not in gap:
                    yield Edit(start, end, text.code(second) + gap + text.code(first))


def _dropped_negation(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.UnaryOp):
        if isinstance(node.op, ast.Not):
            yield Edit(text.span(node)[0], text.span(node.operand)[0], "")
        elif isinstance(node.op, ast.USub):
            yield text.replace(node, text.code(node.operand))


def _added_negation(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.If | ast.While | ast.IfExp):
        if isinstance(node.test, ast.Name | ast.Call | ast.Attribute | ast.Subscript):
            yield text.replace(node.test, f"not {text.code(node.test)}")


def _swapped_boolean(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.BoolOp):
        token, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from text.between(left, right, token, new)


def _wrong_arithmetic(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.BinOp):
        if type(node.op) in _ARITHMETIC:
            yield from text.between(node.left, node.right, *_ARITHMETIC[type(node.op)])


def _wrong_update(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.AugAssign):
        if type(node.op) in _ARITHMETIC:
            token = _ARITHMETIC[type(node.op)][0] + "="
            yield from text.between(node.target, node.value, token, "=")
            yield from text.between(node.target, node.value, token, _ARITHMETIC[type(node.op)][1] + "=")


def _wrong_variable(text: SourceText) -> Iterator[Edit]:
    """Yield edits that replace a variable by another local one that already has a value there."""
    arguments = text.function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    first_bound = {argument.arg: 0 for argument in every}
    for node in text.nodes:
        for target, value in _bindings(node):
            for inner in ast.walk(target):
                if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                    first_bound.setdefault(inner.id, text.span(value)[1])
    names = list(first_bound)
    for node in nodes_of(text, ast.Name):
        if isinstance(node.ctx, ast.Load) and node.id in first_bound:
            place, start = text.span(node)[0], names.index(node.id)
            turns = names[start + 1 :] + names[:start]
            other = next((name for name in turns if first_bound[name] <= place), None)
            if other is not None:
                yield text.replace(node, other)


def _bindings(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Yield (target, expression that gives its value) of a statement, except comprehensions."""
    if isinstance(node, ast.Assign):
        yield from ((target, node.value) for target in node.targets)
    elif isinstance(node, ast.For):
        yield node.target, node.iter
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield node.target, node.value
    elif isinstance(node, ast.With):
        yield from ((i.optional_vars, i.context_expr) for i in node.items if i.optional_vars is not None)


def _bodies(text: SourceText) -> Iterator[tuple[ast.AST, str, list[ast.stmt]]]:
    for node in [text.function, *text.nodes]:
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list) and body:
                yield node, field, body


def _dropped_branch(text: SourceText) -> Iterator[Edit]:
    for node, field, body in _bodies(text):
        for statement in body:
            if isinstance(statement, ast.If) and not statement.orelse and field != "orelse":
                yield from text.delete_statement(statement, body)
        if isinstance(node, ast.If) and field == "orelse" and not isinstance(body[0], ast.If):
            last_line = node.body[-1].end_lineno
            yield Edit(text.starts[last_line], text.starts[body[-1].end_lineno], "")


def _dropped_statement(text: SourceText) -> Iterator[Edit]:
    for _, _, body in _bodies(text):
        for statement in body:
            is_call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            if is_call or isinstance(statement, ast.AugAssign | ast.Continue | ast.Break):
                yield from text.delete_statement(statement, body)


def _wrong_default(text: SourceText) -> Iterator[Edit]:
    arguments = text.function.args
    for node in [*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)]:
        if isinstance(node, ast.Constant):
            if isinstance(node.value, bool):
                yield text.replace(node, str(not node.value))
            elif isinstance(node.value, int | float):
                yield text.replace(node, repr(node.value + 1))
            elif isinstance(node.value, str) and node.value:
                yield text.replace(node, "None")


def _wrong_constant(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Constant):
        if isinstance(node.value, bool):
            yield text.replace(node, str(not node.value))
        elif isinstance(node.value, float):
            yield text.replace(node, repr(node.value + 1.0))


def _wrong_call(text: SourceText) -> Iterator[Edit]:
    for node in text.nodes:
        if isinstance(node, ast.Attribute) and node.attr in _RIVALS:
            _, end = text.span(node)
            yield Edit(end - len(node.attr.encode()), end, _RIVALS[node.attr])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _RIVALS:
            yield text.replace(node.func, _RIVALS[node.func.id])


def _lost_return(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Return):
        returned = node.value.value if isinstance(node.value, ast.Constant) else node.value
        if returned is not None:
            yield text.replace(node, text.code(node.value))


def _swapped_unpacking(text: SourceText) -> Iterator[Edit]:
    for node in text.nodes:
        is_target = isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Store)
        if is_target and len(node.elts) == 2 and all(isinstance(e, ast.Name) for e in node.elts):
            start, middle = text.span(node.elts[0])
            resume, end = text.span(node.elts[1])
            yield Edit(start, end, node.elts[1].id + text.data[middle:resume].decode() + node.elts[0].id)


def _wrong_jump(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Break | ast.Continue):
        yield text.replace(node, "continue" if isinstance(node, ast.Break) else "break")


OPERATORS: dict[str, tuple[str, Callable[[SourceText], Iterator[Edit]]]] = {
    "flip_comparison": ("a comparison is reversed: < for >, == for !=, in for not in", _flipped),
    "wrong_boundary": ("a comparison includes or excludes its boundary by mistake: < for <=", _wrong_edge),
    "off_by_one": ("an integer or the end of a range is one off", _off_by_one),
    "wrong_index": ("another element is taken: x[-1] for x[0]", _wrong_index),
    "swapped_arguments": ("the first two arguments of a call are swapped", _swapped_arguments),
    "dropped_negation": ("a `not` or a minus sign is lost", _dropped_negation),
    "added_negation": ("a condition is negated", _added_negation),
    "swapped_boolean": ("`and` for `or`, or the other way round", _swapped_boolean),
    "wrong_arithmetic": ("an arithmetic or bit operator is replaced by another", _wrong_arithmetic),
    "wrong_update": ("an augmented assignment becomes a plain one, or uses another operator", _wrong_update),
    "wrong_variable": ("another local variable is read", _wrong_variable),
    "dropped_branch": ("an `if` or an `else` is missing", _dropped_branch),
    "dropped_statement": ("a call, an update, a `break` or a `continue` is missing", _dropped_statement),
    "wrong_default": ("a parameter has another default", _wrong_default),
    "wrong_constant": ("a boolean or a float has another value", _wrong_constant),
    "wrong_call": ("a sibling function or method is called: min for max", _wrong_call),
    "lost_return": ("a value is computed but not returned", _lost_return),
    "swapped_unpacking": ("two unpacked names are swapped", _swapped_unpacking),
    "wrong_jump": ("`break` for `continue`, or the other way round", _wrong_jump),
}
