"""A digest of the code of a stage: of exactly those modules of this package that its `build` uses.

A changed module thus invalidates the stages that use it and leaves the other finished ones alone. The
modules are determined without running the code: starting from the functions, classes and objects that
`build` names or holds, along every import, wherever it is written. Comments, docstrings and imports for
type checkers have no influence.

It misses a class defined in a notebook, a module whose name is composed at run time, and the value of a
variable that `build` reads. Such a value belongs among the stage's inputs.
"""

from __future__ import annotations

import ast
import dataclasses
import dis
import functools
import hashlib
import json
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sources:
    """The modules of one package as text, and those among them that no stage's digest includes."""

    package: str
    texts: Mapping[str, str]  # dotted name -> source; a package's name stands for its `__init__`
    left_out: frozenset[str] = frozenset()

    @classmethod
    def read(cls, folder: Path, left_out: Iterable[str] = ()) -> Sources:
        """Read every Python file below `folder`, which has the package's name."""
        texts = {}
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            texts[name] = path.read_text(encoding="utf-8")
        return cls(folder.name, texts, frozenset(left_out))

    def closure(self, roots: Iterable[str]) -> list[str]:
        """Return the modules `roots` and all that they reach, sorted, without going through `left_out`."""
        found: set[str] = set()
        waiting = [module for root in roots if (module := self.module(root))]
        while waiting:
            module = waiting.pop()
            if module in found or module in self.left_out:
                continue
            found.add(module)
            parent = module.rpartition(".")[0]
            named = self.parsed(module)[1] | ({parent} if parent else set())
            waiting += [other for name in named if (other := self.module(name))]
        return sorted(found)

    def module(self, name: str) -> str | None:
        """Return the module that a dotted name is or lies in; None outside the package."""
        while name and name not in self.texts:
            name = name.rpartition(".")[0]
        return name or None

    def parsed(self, module: str) -> tuple[str, frozenset[str]]:
        """Return the SHA-256 of a module's syntax tree (see `_parse`), and what the module names."""
        has_modules = any(other.startswith(f"{module}.") for other in self.texts)
        base = module if has_modules else module.rpartition(".")[0]
        return _parse(self.texts[module], self.package, base)


# Modules left out of every digest:
# - Settings, profiles and their parser: their text changes with every new setting, and the values that a
#   stage reads are among its inputs.
# - The session, the tracks and their controls: they decide when a stage is built, not what it contains,
#   and they import everything. The functions that the session wraps for `rows` are followed.
# - Progress and stage names: they change no result.
# The sources are read once, when the process starts. Later edits do not change the code that is running.
LEFT_OUT = (
    "settings", "profiles", "overrides", "tracks.session", "tracks.a", "tracks.b", "tracks.c",
    "tracks.controls_a", "tracks.controls_c", "tracks.completion", "machine.progress", "run.stage_names",
)  # fmt: skip
OURS = Sources.read(Path(__file__).resolve().parents[1], (f"helpers.{module}" for module in LEFT_OUT))


def code_digest(build: Callable[..., Any], sources: Sources | None = None) -> str:
    """Return the SHA-256 of the package code that `build` runs; equal wherever Python is the same."""
    sources = sources or OURS
    used = Used(build, sources)
    trees = {module: sources.parsed(module)[0] for module in sources.closure(used.modules)}
    return hashlib.sha256(json.dumps([trees, sorted(used.functions)]).encode()).hexdigest()


class Used:
    """The modules and functions reached from a callable through what it names or holds."""

    def __init__(self, build: Callable[..., Any], sources: Sources):
        self.modules: set[str] = set()
        self.functions: set[str] = set()  # `_fingerprint` of those outside the package's modules
        self._sources = sources
        self._seen: dict[int, Any] = {}  # by id; holding the value keeps its id from being reused
        self._visit(build, opened=True)

    def _visit(self, value: Any, *, opened: bool) -> None:
        """Add what `value` leads to; a function from outside the package is followed only if `opened`."""
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, str | bytes | int | float | None):
            return
        if isinstance(value, Mapping):
            self._visit_all(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            self._visit_all(value)
        elif isinstance(value, functools.partial):
            self._visit_all([value.func, *value.args, *value.keywords.values()])
        elif isinstance(value, types.MethodType):
            self._visit_all([value.__func__, value.__self__])
        elif isinstance(value, types.ModuleType):
            self._add_module(value)
        elif isinstance(value, types.FunctionType):
            self._add_function(value, opened)
        elif _is_record(value):  # plain data: follow its values, not its class
            self._visit_all(getattr(value, field.name) for field in dataclasses.fields(value))
        else:  # a class, an object with methods, or a function wrapped into an object
            self._add_if_ours(getattr(value, "__module__", None))

    def _visit_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self._visit(value, opened=True)

    def _add_if_ours(self, name: Any) -> bool:
        module = self._sources.module(name) if isinstance(name, str) else None
        if module is None or module in self._sources.left_out:
            return False
        self.modules.add(module)
        return True

    def _add_module(self, module: types.ModuleType) -> None:
        if self._add_if_ours(module.__name__) and hasattr(module, "__path__"):
            # It is unknown which modules are used through a package's name, so all count.
            self.modules |= {m for m in self._sources.texts if m.startswith(f"{module.__name__}.")}

    def _add_function(self, function: types.FunctionType, opened: bool) -> None:
        ours = self._add_if_ours(function.__module__)
        if not ours and not opened:
            return
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        self._visit_all([*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()])
        if ours:  # its module's digest covers its text and imports
            return
        self.functions.add(_fingerprint(function.__code__))
        for name in _global_names(function.__code__):
            value = function.__globals__.get(name)
            same_module = getattr(value, "__globals__", None) is function.__globals__
            self._visit(value, opened=same_module)


MADE_BY_DATACLASS = frozenset(vars(dataclasses.make_dataclass("Made", [], frozen=True, order=True)))


def _is_record(value: Any) -> bool:
    """Return whether `value` is of a dataclass without methods or properties of its own."""
    own = {name: v for kind in type(value).__mro__[:-1] for name, v in vars(kind).items()}
    behaves = (callable(v) or hasattr(v, "__get__") for n, v in own.items() if n not in MADE_BY_DATACLASS)
    return dataclasses.is_dataclass(type(value)) and not any(behaves)


def _is_filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield `code` and the code of everything defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _global_names(code: types.CodeType) -> list[str]:
    reads = {"LOAD_GLOBAL", "LOAD_NAME"}
    return sorted({i.argval for one in _codes(code) for i in dis.get_instructions(one) if i.opname in reads})


def _fingerprint(code: types.CodeType) -> str:
    """Return a function's byte code, names and constants as text, independent of its position."""
    parts = []
    for one in _codes(code):
        constants = [_constant(value) for value in one.co_consts if not isinstance(value, types.CodeType)]
        names = [*one.co_names, *one.co_varnames, *one.co_freevars, *one.co_cellvars]
        parts.append([one.co_code.hex(), names, constants])
    return json.dumps(parts)


def _constant(value: Any) -> str:
    if isinstance(value, frozenset):  # its order differs between processes
        return repr(sorted(map(repr, value)))
    return repr(value)


@functools.cache
def _parse(text: str, package: str, base: str) -> tuple[str, frozenset[str]]:
    """Digest the syntax of a module's `text`, and collect the dotted names that it imports or names.

    A string that contains a dotted name in `package` counts as naming it. Relative imports start from `base`.
    """
    tree = _WithoutProse().visit(ast.parse(text))
    dotted = re.compile(rf"\b{re.escape(package)}(?:\.\w+)+")
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = base.rsplit(".", node.level - 1)[0] if node.level > 1 else base
            origin = ".".join(filter(None, [above if node.level else "", node.module]))
            names |= {f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= set(dotted.findall(node.value))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), frozenset(names)


class _WithoutProse(ast.NodeTransformer):
    """Removes what does nothing at run time: docstrings, and imports for type checkers."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        """Drop a string that is a whole statement."""
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """Keep only the `else` of `if TYPE_CHECKING`."""
        self.generic_visit(node)
        return node.orelse if ast.unparse(node.test).split(".")[-1] == "TYPE_CHECKING" else node
