"""A problem's tests, parsed once: which names they use, which functions to call, what they change."""

from __future__ import annotations

import ast
import builtins
import functools
import types
from typing import NamedTuple

# Modules whose use leaves no state behind in the judge, except random generators, which are reseeded
# for every program.
STATELESS = {"math", "cmath", "typing", "collections", "itertools", "functools", "operator", "string", "re",
             "copy", "heapq", "bisect", "fractions", "datetime", "statistics", "numbers",
             "networkx"}  # fmt: skip
LEAVES_TRACE = (ast.ClassDef, ast.AsyncFunctionDef, ast.With, ast.AsyncWith, ast.AsyncFor, ast.Await)
TOUCHY_NAMES = {"breakpoint", "compile", "delattr", "eval", "exec", "exit", "globals", "input", "locals",
                "open", "quit", "setattr", "type", "vars"}  # fmt: skip


class Tests(NamedTuple):
    """Tests that are ready to run."""

    code: types.CodeType
    wanted: tuple[str, ...]  # names that the program may have to provide
    calls: tuple[tuple[str, bool], ...]  # functions to call afterwards; True: with the candidate
    classes: bool  # whether they define classes
    traceless: bool  # whether running them leaves the process unchanged


@functools.lru_cache(maxsize=64)
def read_tests(text: str, entry_point: str) -> Tests:
    """Parse the tests; if they define the entry point themselves, that function is dropped.

    Raises:
        SyntaxError, ValueError, RecursionError: if they do not parse.
    """
    tree = ast.parse(text)
    defining = (ast.FunctionDef, ast.AsyncFunctionDef)
    tree.body = [n for n in tree.body if not (isinstance(n, defining) and n.name == entry_point)]
    nodes = list(ast.walk(tree))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    used = {node.id for node in names} | {entry_point}
    bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    imported = [name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    bound |= {name.asname or name.name for name in imported if name.name in STATELESS}
    return Tests(
        compile(tree, "<tests>", "exec", optimize=0),  # -O would drop their assertions
        tuple(sorted(name for name in used if name == entry_point or not hasattr(builtins, name))),
        tuple(_functions_to_call(tree)),
        any(isinstance(node, ast.ClassDef) for node in tree.body),
        all(_traceless(node, bound) for node in nodes),
    )


def _functions_to_call(tree: ast.Module) -> list[tuple[str, bool]]:
    """Return HumanEval's `check` and `test_*` functions, unless the tests call them themselves."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    called = {
        node.func.id
        for statement in tree.body
        if functions and not isinstance(statement, ast.FunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    found = []
    for node in functions:
        if node.name in called:
            continue
        required = len(node.args.args) - len(node.args.defaults)
        if node.name == "check" and required <= 1 <= len(node.args.args):
            found.append((node.name, True))
        elif node.name.startswith("test") and required == 0:
            found.append((node.name, False))
    return found


def _traceless(node: ast.AST, bound: set[str]) -> bool:
    """Return whether running this node changes only the tests' own variables.

    The tests are trusted: this looks for what tests do in good faith, not for tricks.
    """
    if isinstance(node, LEAVES_TRACE):
        return False
    if isinstance(node, ast.Import):
        return all(name.name in STATELESS for name in node.names)
    if isinstance(node, ast.ImportFrom):
        return node.module in STATELESS
    if isinstance(node, ast.Name):
        return node.id not in TOUCHY_NAMES and not node.id.startswith("__")
    if isinstance(node, ast.Attribute):
        if not isinstance(node.ctx, ast.Load) or node.attr.startswith("_"):
            return False
        # A name that the tests do not bind may be a module in the program, such as `random`.
        base = node.value
        known = not isinstance(base, ast.Name) or base.id in bound or base.id in STATELESS
        return known or hasattr(builtins, base.id)
    return True
