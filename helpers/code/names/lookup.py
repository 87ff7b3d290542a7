"""Resolve dotted names in installed packages, and look up which arguments functions accept.

The standard library, numpy, networkx and packages allowed by `allow_import` are imported for
inspection; for all others the source is read (`modules`).
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import types
import warnings
from functools import cache
from typing import Any

from helpers.code.names.modules import is_installed, offered_names

ALIASES = {"np": "numpy", "nx": "networkx", "pd": "pandas", "plt": "matplotlib.pyplot", "sp": "scipy"}
NEVER_IMPORT = {"antigravity", "this", "idlelib", "turtle", "turtledemo", "__main__", "lib2to3"}
LOOKED_INTO = {"numpy", "networkx"}
UNTOLD = (object, type, dict, print)  # `inspect.signature` misreports these


def resolve(dotted: list[str]) -> tuple[Any, str | None]:
    """Resolve `["nx", "utils", "pairwise"]`, which starts at an alias or module.

    Returns:
        The object, None if it cannot be determined for certain; and the path up to its first missing
        part, None if no part is known to be missing.
    """
    parts = [*ALIASES.get(dotted[0], dotted[0]).split("."), *dotted[1:]]
    found: Any = import_module(parts[0])
    if found is None:
        return None, _missing_in_source(parts)
    for index, part in enumerate(parts[1:], start=1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = getattr(found, part)
            except AttributeError:
                name = f"{found.__name__}.{part}" if isinstance(found, types.ModuleType) else ""
                found = import_module(name)
                if found is None:
                    return None, (None if is_installed(name) else ".".join(parts[: index + 1]))
            except Exception:
                return None, None
        if not isinstance(found, types.ModuleType | type):
            return (None if parts[index + 1 :] else found), None
    return found, None


def _missing_in_source(parts: list[str]) -> str | None:
    """Find the first missing part of a path by reading the source of a package that is not imported."""
    module = parts[0]
    for index, part in enumerate(parts[1:], start=1):
        if is_installed(f"{module}.{part}"):
            module = f"{module}.{part}"
            continue
        offered = offered_names(module)
        return None if offered is None or part in offered else ".".join(parts[: index + 1])
    return None


@cache
def import_module(name: str) -> types.ModuleType | None:
    """Import a module; return None if it does not exist or may not be imported."""
    if not name or not may_import(name.partition(".")[0]) or name.endswith(".__main__"):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except Exception:
        return None


def may_import(top: str) -> bool:
    """Return whether a top-level package may be imported for inspection."""
    return top not in NEVER_IMPORT and (top in sys.stdlib_module_names or top in LOOKED_INTO | _allowed)


_allowed: set[str] = set()


def allow_import(name: str) -> None:
    """Allow the corpus's own package to be imported for inspection."""
    _allowed.add(name.partition(".")[0])
    import_module.cache_clear()


def keywords_of(function: Any) -> frozenset[str] | None:
    """Return the keyword arguments that `function` accepts; None if it accepts any or they are unknown."""
    if not callable(function) or function in UNTOLD:
        return None
    dispatched = getattr(function, "orig_func", None)  # networkx wraps its algorithms
    function = dispatched or function
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    own = frozenset(p.name for p in parameters if p.kind not in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL))
    return own | {"backend", "backend_kwargs"} if dispatched else own


def argument_names(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[str]:
    """Return all parameter names of a definition."""
    taken = node.args
    ordered = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg]
    return [argument.arg for argument in ordered if argument]


def attribute_chain(node: ast.expr) -> list[str] | None:
    """Return `["a", "b", "c"]` for `a.b.c`; None if the expression does not start at a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else None
