"""Write the same behaviour worse, in named ways, so that the original is the improvement.

Each operator is the inverse of a refactoring that a linter asks for. Edits are made in the text, at tree
positions (`helpers.code.edits`), so formatting and comments stay. That behaviour is kept is only a hope
until the tests have run: `isinstance` and `type(...) ==` differ for subclasses, `== True` differs for
values that are merely true.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from helpers.code.edits import Edit, SourceText
from helpers.code.python_text import parse
from helpers.data.tasks.bugs import nodes_of
from helpers.lines import lines_of

# Assigned by `unused_variable` and never read: names that people typically leave behind.
LEFTOVERS = (
    ("count", "0"), ("seen", "set()"), ("result", "None"), ("found", "False"), ("cache", "{}"),
    ("total", "0"), ("items", "[]"), ("previous", "None"), ("done", "False"), ("index", "0"),
)  # fmt: skip


@dataclass(frozen=True)
class Worsened:
    """A worse version of a function."""

    operator: str  # key of WORSENINGS
    source: str


def worsened_versions(source: str) -> tuple[Worsened, ...]:
    """Return all single-step worse versions of the function in `source`, by operator, then position.

    Raises:
        SourceEditError: if `source` does not parse or holds no function.
    """
    text = SourceText(source)
    found: dict[str, Worsened] = {}
    for name, (_, operator) in WORSENINGS.items():
        for edit in operator(text):
            worse = text.apply(edit)
            if worse != source and parse(worse) is not None:
                found.setdefault(worse, Worsened(name, worse))
    return tuple(found.values())


def _negated_test(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Compare):
        token = {ast.NotIn: "in", ast.IsNot: "is"}.get(type(node.ops[0]))
        if token and len(node.ops) == 1:
            left, right = text.code(node.left), text.code(node.comparators[0])
            yield text.replace(node, f"not {left} {token} {right}")


def _compared_to_none(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Compare):
        other = node.comparators[0]
        tokens = {ast.Is: ("is", "=="), ast.IsNot: ("is not", "!=")}.get(type(node.ops[0]))
        if tokens and len(node.ops) == 1 and isinstance(other, ast.Constant) and other.value is None:
            yield from text.between(node.left, other, *tokens)


def _compared_to_true(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.If | ast.While):
        test = node.test
        if isinstance(test, ast.Call | ast.Name):
            yield text.replace(test, f"{text.code(test)} == True")
            continue
        negated = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
        if negated and isinstance(test.operand, ast.Call | ast.Name):
            yield text.replace(test, f"{text.code(test.operand)} == False")


def _named_before_return(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Return):
        if isinstance(node.value, ast.Call | ast.BinOp | ast.Compare):
            indent = " " * node.col_offset
            yield text.replace(node, f"result = {text.code(node.value)}\n{indent}return result")


def _redundant_else(text: SourceText) -> Iterator[Edit]:
    bodies = (getattr(n, name, None) for n in [text.function, *text.nodes] for name in ("body", "orelse"))
    for body in (body for body in bodies if isinstance(body, list)):
        for here, after in itertools.pairwise(body):
            leaves = isinstance(here, ast.If) and not here.orelse and isinstance(here.body[-1], ast.Return)
            if leaves and isinstance(after, ast.Return) and after is body[-1]:
                indent = " " * here.col_offset
                yield text.replace(after, f"else:\n{indent}    {text.code(after)}")


def _spelled_out_boolean(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Return):
        if isinstance(node.value, ast.Compare):
            indent = " " * node.col_offset
            lines = (f"if {text.code(node.value)}:", "    return True", "return False")
            yield text.replace(node, f"\n{indent}".join(lines))


def _type_equality(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Call):
        is_check = isinstance(node.func, ast.Name) and node.func.id == "isinstance" and len(node.args) == 2
        if is_check and isinstance(node.args[1], ast.Name):
            value, kind = map(text.code, node.args)
            yield text.replace(node, f"type({value}) == {kind}")


def _called_literal(text: SourceText) -> Iterator[Edit]:
    for node in text.nodes:
        if isinstance(node, ast.List) and not node.elts and isinstance(node.ctx, ast.Load):
            yield text.replace(node, "list()")
        elif isinstance(node, ast.Dict) and not node.keys:
            yield text.replace(node, "dict()")


def _manual_loop(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Return | ast.Assign):
        if isinstance(node.value, ast.ListComp):
            comprehension = node.value
            first = comprehension.generators[0]
            if len(comprehension.generators) > 1 or first.is_async or len(lines_of(text.code(node))) > 1:
                continue
            name = "result" if isinstance(node, ast.Return) else text.code(node.targets[0])
            lines = [f"{name} = []", f"for {text.code(first.target)} in {text.code(first.iter)}:"]
            depth = "    "
            for condition in first.ifs:
                lines.append(f"{depth}if {text.code(condition)}:")
                depth += "    "
            lines.append(f"{depth}{name}.append({text.code(comprehension.elt)})")
            if isinstance(node, ast.Return):
                lines.append("return result")
            yield text.replace(node, f"\n{' ' * node.col_offset}".join(lines))


def _unused_variable(text: SourceText) -> Iterator[Edit]:
    taken = {n.id for n in text.nodes if isinstance(n, ast.Name)}
    taken |= {argument.arg for argument in ast.walk(text.function.args) if isinstance(argument, ast.arg)}
    free = [(name, value) for name, value in LEFTOVERS if name not in taken]
    for node in text.nodes:
        if free and isinstance(node, ast.Return | ast.For) and node in text.function.body:
            start, _ = text.span(node)
            name, value = free[len(text.data) % len(free)]
            yield Edit(start, start, f"{name} = {value}\n{' ' * node.col_offset}")


def _default_none(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Call):
        is_get = isinstance(node.func, ast.Attribute) and node.func.attr == "get"
        if is_get and len(node.args) == 1 and not node.keywords:
            _, end = text.span(node.args[0])
            yield Edit(end, end, ", None")


def _useless_pass(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.If | ast.For):
        _, end = text.span(node.body[-1])
        yield Edit(end, end, f"\n{' ' * node.body[-1].col_offset}pass")


def _nested_if(text: SourceText) -> Iterator[Edit]:
    for node in text.nodes:
        both = isinstance(node, ast.If) and isinstance(node.test, ast.BoolOp) and not node.orelse
        if both and isinstance(node.test.op, ast.And) and len(node.test.values) == 2:
            one, other = (text.code(value) for value in node.test.values)
            is_one_line = node.body[0].lineno == node.test.end_lineno  # if a and b: c
            if not is_one_line and len(lines_of(text.code(node.test))) == 1:
                start, end = text.span(node)
                indent = " " * node.col_offset
                body_at = text.starts[node.test.end_lineno]
                inner = "    ".join(lines_of(text.data[body_at:end].decode()))
                yield Edit(start, end, f"if {one}:\n{indent}    if {other}:\n    {inner}")


def _yoda_condition(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Compare):
        token = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: ">", ast.Gt: "<"}.get(type(node.ops[0]))
        constant = [isinstance(operand, ast.Constant) for operand in (node.left, *node.comparators)]
        if token and constant == [False, True]:
            left, right = text.code(node.left), text.code(node.comparators[0])
            yield text.replace(node, f"{right} {token} {left}")


def _listed_first(text: SourceText) -> Iterator[Edit]:
    """Yield lists that are built only to be read once: `any([...])`, `sorted(list(x))`."""
    for node in nodes_of(text, ast.Call):
        if isinstance(node.func, ast.Name) and len(node.args) == 1:
            (given,) = node.args
            if node.func.id in ("any", "all") and isinstance(given, ast.GeneratorExp):
                inside = text.code(given).removeprefix("(").removesuffix(")")
                yield Edit(text.span(node.func)[1], text.span(node)[1], f"([{inside}])")
            elif node.func.id in ("sorted", "set") and isinstance(given, ast.Name | ast.Attribute | ast.Call):
                yield text.replace(given, f"list({text.code(given)})")


def _called_comprehension(text: SourceText) -> Iterator[Edit]:
    for node in text.nodes:
        if isinstance(node, ast.SetComp):
            yield text.replace(node, f"set([{text.code(node)[1:-1]}])")
        elif isinstance(node, ast.DictComp):
            key, value = text.code(node.key), text.code(node.value)
            rest = text.data[text.span(node.value)[1] : text.span(node)[1] - 1].decode()
            yield text.replace(node, f"dict([({key}, {value}){rest}])")


def _spelled_out_choice(text: SourceText) -> Iterator[Edit]:
    for node in nodes_of(text, ast.Assign):
        if isinstance(node.value, ast.IfExp) and len(node.targets) == 1:
            name, choice, indent = text.code(node.targets[0]), node.value, " " * node.col_offset
            lines = (f"if {text.code(choice.test)}:", f"    {name} = {text.code(choice.body)}",
                     "else:", f"    {name} = {text.code(choice.orelse)}")  # fmt: skip
            yield text.replace(node, f"\n{indent}".join(lines))


WORSENINGS: dict[str, tuple[str, Callable[[SourceText], Iterator[Edit]]]] = {
    "negated_test": ("`not x in y` for `x not in y`", _negated_test),
    "compared_to_none": ("`x == None` for `x is None`", _compared_to_none),
    "compared_to_true": ("`if x == True` for `if x`", _compared_to_true),
    "named_before_return": ("a value is given a name only to be returned", _named_before_return),
    "redundant_else": ("an `else` after a `return`", _redundant_else),
    "spelled_out_boolean": ("`if c: return True`, `return False` for `return c`", _spelled_out_boolean),
    "type_equality": ("`type(x) == T` for `isinstance(x, T)`", _type_equality),
    "called_literal": ("`list()` for `[]`", _called_literal),
    "manual_loop": ("a loop with `append` for a list comprehension", _manual_loop),
    "unused_variable": ("a variable that nothing reads", _unused_variable),
    "nested_if": ("`if a:` around `if b:` for `if a and b`", _nested_if),
    "yoda_condition": ("`0 == x` for `x == 0`", _yoda_condition),
    "listed_first": ("`any([...])` for `any(...)`, `sorted(list(x))` for `sorted(x)`", _listed_first),
    "called_comprehension": (
        "`set([...])` for a set comprehension, `dict([...])` likewise",
        _called_comprehension,
    ),
    "spelled_out_choice": ("four lines for `x = a if c else b`", _spelled_out_choice),
    "default_none": ("`d.get(k, None)` for `d.get(k)`", _default_none),
    "useless_pass": ("a `pass` after other statements", _useless_pass),
}
