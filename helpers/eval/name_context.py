"""What exists: the names, attributes, modules and signatures that an answer may refer to.

Built once per corpus from its functions (and files, if given), the standard library and what is
installed. Only the standard library, the corpus' own package (if installed) and packages already
imported are imported to look inside; of other packages only the existence is asked.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import importlib
import importlib.util
import inspect
import keyword
import re
import sys
import types
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from helpers.eval.code_extraction import parse
from helpers.records import Function, SourceFile

ALIASES = {"np": "numpy", "nx": "networkx", "pd": "pandas", "plt": "matplotlib.pyplot", "sp": "scipy"}
NEVER_IMPORT = {"antigravity", "this", "idlelib", "turtle", "turtledemo", "__main__", "lib2to3"}
LOOKED_INTO = {"numpy", "networkx"}
LOOKED_AT = ("collections", "itertools", "functools", "random", "re", "math", "io", "pathlib", "datetime",
             "decimal", "fractions", "threading", "logging", "json", "operator", "heapq", "os", "os.path",
             "string", "sys", "time", "inspect", "ast", "types", "numpy")  # fmt: skip
WORD = re.compile(r"[A-Za-z_]\w*")
BUILTIN_TYPES = (str, bytes, int, float, complex, bool, list, tuple, dict, set, frozenset, range, slice,
                 BaseException, object, type, types.FunctionType, types.ModuleType,
                 types.GeneratorType)  # fmt: skip


@dataclass(frozen=True)
class NameContext:
    """Everything known to exist.

    `names` may stand alone (functions, classes, module globals), `attributes` may follow a dot on an
    object of unknown class. `receivers` gives the attributes of parameters whose class is known by
    convention (networkx: `G`). `parameters` belong to the function under discussion, if there is one.
    """

    import_name: str = ""
    names: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()
    signatures: dict[str, frozenset[str] | None] = field(default_factory=dict)  # None: takes any keyword
    receivers: dict[str, frozenset[str]] = field(default_factory=dict)
    known_words: frozenset[str] = frozenset()
    parameters: frozenset[str] | None = None

    @classmethod
    def from_functions(
        cls,
        functions: Iterable[Function],
        import_name: str = "",
        files: Iterable[SourceFile] = (),
        *,
        installed: bool = False,
    ) -> NameContext:
        """Collect names from `functions` and the whole `files`.

        Args:
            import_name: the corpus' package, "" for a loose folder.
            installed: whether that package is an installed one that may be imported to look inside;
                code of a folder is never run for this, its names are read from the source.
        """
        functions = list(functions)
        if installed and import_name:
            allow_import(import_name)
        names: set[str] = set()
        attributes: set[str] = set()
        signatures: dict[str, frozenset[str] | None] = {}
        texts = [function.source for function in functions] + [file.text for file in files]
        for function in functions:
            names.update(function.qualname.split("."))
            names.update(function.module.split("."))
        for text in texts:
            tree = parse(text)
            if tree is not None:
                _collect(tree, names, attributes, signatures)
        package = import_module(import_name) if import_name else None
        if package is not None:
            names.update(dir(package))
            attributes.update(dir(package))
        for kind in BUILTIN_TYPES:
            attributes.update(dir(kind))
        return cls(
            import_name=import_name,
            names=frozenset(names),
            attributes=frozenset(attributes | names),
            signatures=signatures,
            receivers=_receivers(package),
        )

    def about(self, source: str, *more: str) -> NameContext:
        """The same universe, seen from one function: its parameters, and every word of the texts given.

        Args:
            source: the function under discussion, as the task shows it.
            more: further texts that the answer may quote (module context, tests).
        """
        tree = parse(source) or ast.Module(body=[], type_ignores=[])
        own = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        parameters = frozenset(argument_names(own[0])) if own else None
        words = frozenset(word for text in (source, *more) for word in WORD.findall(text))
        return dataclasses.replace(self, known_words=self.known_words | words, parameters=parameters)

    def knows_name(self, name: str) -> bool:
        """Whether `name` may stand alone."""
        return (
            hasattr(builtins, name)
            or name in self.names
            or name in self.known_words
            or name in ALIASES
            or name in sys.stdlib_module_names
            or name.startswith("__")
            or keyword.iskeyword(name)
        )

    def knows_attribute(self, name: str) -> bool:
        """Whether some object that may occur has an attribute `name`."""
        return name in self.attributes or name in self.known_words or name in _library_attributes()


def resolve(dotted: list[str]) -> tuple[Any, str | None]:
    """Follow `["nx", "utils", "pairwise"]` from an alias or module: (object, first missing part or None).

    The object is None where the path cannot be followed for certain.
    """
    module = import_module(ALIASES.get(dotted[0], dotted[0]))
    if module is None:
        return None, None
    found: Any = module
    for place, part in enumerate(dotted[1:], start=1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = getattr(found, part)
            except AttributeError:
                name = f"{found.__name__}.{part}" if isinstance(found, types.ModuleType) else ""
                found = import_module(name) if name else None
                if found is None:
                    return None, ".".join(dotted[: place + 1])
            except Exception:
                return None, None
        if not isinstance(found, types.ModuleType | type):
            rest = dotted[place + 1 :]
            return (found, None) if not rest else (None, None)
    return found, None


def module_exists(name: str, context: NameContext) -> bool:
    """Whether `import name` could work: standard library, installed, or a module of the corpus."""
    top = name.partition(".")[0]
    parts = set(name.split("."))
    if top == context.import_name or (context.import_name == "" and parts <= context.names):
        if import_module(context.import_name) is None:
            return parts <= context.names
        return import_module(name) is not None
    if _may_import(top):
        return import_module(name) is not None
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


@cache
def import_module(name: str) -> types.ModuleType | None:
    """The module, or None where there is none or it is not one that may be imported."""
    if not name or not _may_import(name.partition(".")[0]) or name.endswith(".__main__"):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except Exception:
        return None


def _may_import(top: str) -> bool:
    if top in NEVER_IMPORT:
        return False
    return top in sys.stdlib_module_names or top in LOOKED_INTO or top in _allowed


_allowed: set[str] = set()


def allow_import(name: str) -> None:
    """Let the corpus' own package be imported to look inside."""
    _allowed.add(name.partition(".")[0])
    import_module.cache_clear()


def keywords_of(function: Any) -> frozenset[str] | None:
    """Names that `function` takes as keyword arguments; None if it takes any or cannot be asked."""
    function = getattr(function, "orig_func", function)  # networkx wraps its algorithms
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters) | {"backend"}


def argument_names(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[str]:
    """All parameter names of a definition."""
    a = node.args
    named = [*a.posonlyargs, *a.args, *a.kwonlyargs, *([a.vararg] if a.vararg else [])]
    return [argument.arg for argument in (*named, *([a.kwarg] if a.kwarg else []))]


def attribute_chain(node: ast.expr) -> list[str] | None:
    """`["a", "b", "c"]` for `a.b.c`; None where it does not start at a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else None


def _collect(tree: ast.Module, names: set[str], attributes: set[str], signatures: dict) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
            taken = None if node.args.kwarg else frozenset(argument_names(node)) | {"backend"}
            if node.name in signatures and signatures[node.name] != taken:
                taken = None  # two functions of one name: nothing certain
            signatures[node.name] = taken
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute):
            attributes.add(node.attr)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                names.update((alias.asname or alias.name).split("."))
    for node in tree.body:
        for target in ast.walk(node) if isinstance(node, ast.Assign | ast.AnnAssign) else ():
            if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                names.add(target.id)


def _receivers(package: types.ModuleType | None) -> dict[str, frozenset[str]]:
    """Attributes by name of parameter, where a code base has a firm convention."""
    if package is None or package.__name__ != "networkx":
        return {}
    kinds = (package.Graph, package.DiGraph, package.MultiGraph, package.MultiDiGraph)
    known = frozenset(name for kind in kinds for name in dir(kind()))
    return dict.fromkeys(("G", "H", "graph", "DG", "MG", "UG"), known)


@lru_cache(maxsize=1)
def _library_attributes() -> frozenset[str]:
    """Attributes of common standard-library objects and of numpy arrays."""
    found: set[str] = set()
    for module in LOOKED_AT:
        loaded = import_module(module)
        for name, value in vars(loaded).items() if loaded else ():
            found.add(name)
            if isinstance(value, type):
                found.update(dir(value))
    found.update(dir(re.compile("").match("")))
    return frozenset(found)
