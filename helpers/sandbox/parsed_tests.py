"""A problem's tests, parsed once: which names they use, which functions to call, what they change."""

from __future__ import annotations

import ast
import builtins
import functools
import types
from collections.abc import Iterator
from typing import NamedTuple

# Modules whose use leaves no state behind in the judge, except random generators, which are reseeded
# for every program.
STATELESS = {"math", "cmath", "typing", "collections", "itertools", "functools", "operator", "string", "re",
             "copy", "heapq", "bisect", "fractions", "datetime", "statistics", "numbers",
             "networkx"}  # fmt: skip
DEFINING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTING = (ast.Import, ast.ImportFrom)
LEAVES_TRACE = (ast.ClassDef, ast.AsyncFunctionDef, ast.With, ast.AsyncWith, ast.AsyncFor, ast.Await)
TOUCHY_NAMES = {"breakpoint", "compile", "delattr", "eval", "exec", "exit", "globals", "input", "locals",
                "open", "quit", "setattr", "type", "vars"}  # fmt: skip


# Names of a function's only parameter that say it takes the function under test.
CANDIDATES = ("candidate", "func", "function", "fn", "f", "fun", "solution", "target", "implementation")
MAKERS = {"namedtuple", "NamedTuple", "make_dataclass", "Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"}
FILE_NAMES = {"open", "os", "tempfile", "shutil", "pathlib", "Path", "glob", "zipfile", "tarfile", "sqlite3",
              "mkdtemp", "mkstemp", "NamedTemporaryFile", "TemporaryDirectory", "getcwd", "chdir", "to_csv",
              "to_json", "to_excel", "to_pickle", "savefig", "savetxt", "save", "write_text",
              "write_bytes"}  # fmt: skip


class Tests(NamedTuple):
    """Tests that are ready to run."""

    code: types.CodeType
    wanted: tuple[str, ...]  # names that the program may have to provide
    calls: tuple[tuple[str, bool], ...]  # functions to call afterwards; True: with the candidate
    classes: tuple[str, ...]  # classes that they define
    traceless: bool  # whether running them leaves the process unchanged
    names: frozenset[str]  # names, attributes and imports that they mention; empty if traceless
    assigned: tuple[tuple[str, str], ...]  # attributes of modules that they may assign: (module, attribute)

    @property
    def touches_files(self) -> bool:
        """Whether they may write or read files, which then lie in the program's folder."""
        return not self.names.isdisjoint(FILE_NAMES)


@functools.lru_cache(maxsize=64)
def read_tests(text: str, entry_point: str) -> Tests:
    """Parse the tests; if they define the entry point themselves, that definition is dropped.

    Raises:
        SyntaxError, ValueError, RecursionError: if they do not parse.
    """
    tree = ast.parse(text)
    tree.body = [n for n in tree.body if not (isinstance(n, DEFINING) and n.name == entry_point)]
    nodes = list(ast.walk(tree))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    used = {node.id for node in names} | {entry_point}
    bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    imported = [name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    bound |= {name.asname or name.name for name in imported if name.name in STATELESS}
    wanted = {name for name in used - _defined(tree) if not hasattr(builtins, name)} | {entry_point}
    traceless = all(_traceless(node, bound) for node in nodes)
    return Tests(
        compile(tree, "<tests>", "exec", optimize=0),  # -O would drop their assertions
        tuple(sorted(wanted)),
        tuple(functions_to_call(tree, entry_point)),
        tuple(_classes(tree)),
        traceless,
        frozenset() if traceless else frozenset(used | set(_mentioned(nodes))),
        () if traceless else tuple(dict.fromkeys(_assigned(nodes))),
    )


def _mentioned(nodes: list[ast.AST]) -> Iterator[str]:
    """Yield the attributes and the imported names."""
    for node in nodes:
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, IMPORTING):
            yield from (each.name for each in node.names)
            if isinstance(node, ast.ImportFrom):
                yield from (node.module or "").split(".")


def _classes(tree: ast.Module) -> Iterator[str]:
    """Yield the classes that the tests define, also by calls such as `namedtuple`."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            called = node.value.func
            if (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) in MAKERS:
                yield from (each.id for each in node.targets if isinstance(each, ast.Name))


def _assigned(nodes: list[ast.AST]) -> Iterator[tuple[str, str]]:
    """Yield (module, attribute) for each assignment such as `sys.stdin = ...`."""
    aliases = {a.asname: a.name for n in nodes if isinstance(n, ast.Import) for a in n.names if a.asname}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            module = ast.unparse(node.value)
            yield aliases.get(module, module), node.attr


def _defined(tree: ast.Module) -> set[str]:
    """Return the names that the tests define or import at their top level, whatever the program does."""
    found = {node.name for node in tree.body if isinstance(node, DEFINING)}
    for node in tree.body:
        if isinstance(node, IMPORTING):
            found |= {each.asname or each.name.partition(".")[0] for each in node.names}
    return found


def functions_to_call(tree: ast.Module, entry_point: str) -> list[tuple[str, bool]]:
    """Return the functions that make up the tests, unless the tests call them themselves.

    These are HumanEval's `check`, functions `test*` without parameters or with parametrized ones, and
    functions `check*` and `test*` whose only parameter is named like a function under test.
    """
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    called = {
        node.func.id
        for statement in tree.body
        if functions and not isinstance(statement, DEFINING)
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
        elif node.name.startswith("test") and (required == 0 or _parametrized(node)):
            found.append((node.name, False))
        elif _takes_candidate(node, required, entry_point) and not _is_used(node, tree):
            found.append((node.name, True))
    return found


def _takes_candidate(node: ast.FunctionDef | ast.AsyncFunctionDef, required: int, entry_point: str) -> bool:
    """Return whether the name and the only parameter of a function say that it tests what it is given."""
    named = node.name.startswith(("check", "test"))
    return named and required == 1 and node.args.args[0].arg in (*CANDIDATES, entry_point)


def _parametrized(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether pytest would call the function once for each row of a table."""
    calls = [each.func for each in node.decorator_list if isinstance(each, ast.Call)]
    return any(isinstance(each, ast.Attribute) and each.attr == "parametrize" for each in calls)


def _is_used(function: ast.AST, tree: ast.Module) -> bool:
    """Return whether another top-level statement mentions the function."""
    return any(
        isinstance(node, ast.Name) and node.id == function.name
        for statement in tree.body
        if statement is not function
        for node in ast.walk(statement)
    )


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
