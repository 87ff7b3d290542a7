"""The names that a module offers, read from its source without running it.

It is used for installed packages that may not be imported here, and for a corpus that is a folder.
"""

from __future__ import annotations

import ast
import importlib.util
import os
from functools import cache
from pathlib import Path

from helpers.code.python_text import parse

BINARY = (".so", ".pyd")


def is_installed(module: str) -> bool:
    """Return whether an installed package, or a submodule of one, has this dotted name."""
    return _locate(module) is not None


@cache
def offered_names(module: str) -> frozenset[str] | None:
    """Return the names that `from module import …` can import, including submodules.

    Return None if the source does not say: the module is missing or compiled, has a module-level
    `__getattr__`, creates names at run time, or star-imports from such a module.
    """
    path = _locate(module)
    if path is None or path.suffix in BINARY:
        return None
    is_package = path.is_dir() or path.stem == "__init__"
    folder = path if path.is_dir() else path.parent
    names = set(_submodules(folder)) if is_package else set()
    if path.is_dir():
        return frozenset(names)
    tree = parse(path.read_text(encoding="utf-8", errors="replace"))
    if tree is None:
        return None
    package = module if is_package else module.rpartition(".")[0]
    own = names_of_tree(tree, package)
    return None if own is None else frozenset(names | own | {"__name__", "__doc__", "__file__", "__all__"})


def submodules(package: str) -> list[str]:
    """Return the dotted names of `package` and its public Python submodules, without tests."""
    path = _locate(package)
    if path is None or not (path.is_dir() or path.stem == "__init__"):
        return [package]
    found = [package]
    for name in sorted(_submodules(path if path.is_dir() else path.parent)):
        if not name.startswith(("_", "test", "idle")):
            inner = _locate(f"{package}.{name}")
            found += submodules(f"{package}.{name}") if inner and inner.suffix not in BINARY else []
    return found


def names_of_tree(tree: ast.Module, package: str = "") -> frozenset[str] | None:
    """Return the names that running this module binds; None if that is unknown (see `offered_names`).

    `package` is the package that relative star imports refer to.
    """
    names: set[str] = set()
    for node in _statements(tree.body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name == "__getattr__":
                return None
            names.add(node.name)
        elif isinstance(node, ast.Import):
            names.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name != "*":
                    names.add(alias.asname or alias.name)
                    continue
                starred = offered_names(_absolute(node, package))
                if starred is None:
                    return None
                names |= starred
        else:
            if _writes_unseen_names(node):
                return None
            names.update(n.id for n in ast.walk(node) if isinstance(n, ast.Name) and not is_load(n))
    return None if "__getattr__" in names else frozenset(names)


@cache
def _locate(module: str) -> Path | None:
    """Locate a module's file, or a package's folder if it has no `__init__`, without importing parents."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top) if top else None
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if not rest:
        has_file = spec.origin and spec.origin not in ("built-in", "frozen", "namespace")
        return Path(spec.origin) if has_file else next(iter(folders), None)
    path: Path | None = None
    for part in rest:
        path = next((p for folder in folders if (p := _inside(folder, part))), None)
        if path is None:
            return None
        folders = [path if path.is_dir() else path.parent] if path.suffix in ("", ".py") else []
        if path.suffix == ".py" and path.stem != "__init__":
            folders = []
    return path


def _inside(folder: Path, part: str) -> Path | None:
    for path in (folder / part / "__init__.py", folder / f"{part}.py"):
        if os.path.isfile(path):  # unlike Path.is_file, returns False for a name that is too long
            return path
    binary = next((p for p in folder.glob(f"{part}.*") if p.suffix in BINARY), None)
    return binary or (folder / part if os.path.isdir(folder / part) else None)


def _submodules(folder: Path) -> list[str]:
    return [p.name.partition(".")[0] for p in folder.iterdir() if p.is_dir() or p.suffix in (".py", *BINARY)]


def _statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return statements that run with the module, including those in `if`, `try`, `with` and loops."""
    found: list[ast.stmt] = []
    for node in body:
        found.append(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for name in ("body", "orelse", "finalbody"):
            found += _statements(getattr(node, name, []))
        for handler in getattr(node, "handlers", []):
            found += _statements(handler.body)
    return found


def _writes_unseen_names(node: ast.stmt) -> bool:
    """Return whether a statement may bind unseen names: `globals()`, `sys.modules[…]`, `exec`."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
            if part.func.id in ("globals", "vars", "locals", "exec", "setattr"):
                return True
        elif isinstance(part, ast.Attribute) and part.attr == "modules":
            return True
    return False


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    kept = parts[: len(parts) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


def is_load(node: ast.Name | ast.Attribute) -> bool:
    """Return whether a name or attribute is read here, not bound or deleted."""
    return isinstance(node.ctx, ast.Load)
