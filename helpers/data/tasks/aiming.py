"""Aim tests that a model wrote at the function under test, however they come by its name.

Tests are written as if they stood in a file of their own: they import the function from the library or from
a module that the model made up, or call it through a module. Run like that, they would test the original,
which no mutant changes, or end at the import.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from itertools import compress

from helpers.code.names.lookup import ALIASES
from helpers.code.names.modules import is_installed
from helpers.code.python_text import parse
from helpers.data.tasks.candidate_cases import Unqualify
from helpers.data.tasks.execution import home_module
from helpers.data.tasks.generated_tests import without_definition
from helpers.data.tasks.suite_rewriting import stored_names


def aimed_at(tests: str, name: str, prelude: str) -> str:
    """Return `tests` such that `name`, imported or behind a module, is the function under test.

    Its own definition goes, and so do imports of that name; `nx.name` becomes `name`. Under another name, an
    import from a foreign package stays (`from math import gcd as expected`), for tests may compare with it.
    Imports of modules that exist nowhere go as well. Tests that do not parse come back unchanged.

    Args:
        prelude: of the task; the package that it names is the library under test.
    """
    tests = without_definition(tests, name)
    tree = parse(tests)
    try:
        return tests if tree is None else _aimed(tests, tree, name, home_module(prelude).partition(".")[0])
    except RecursionError:  # nested too deep to be written again: `f(x).a.a.a...`
        return tests


def _aimed(tests: str, tree: ast.Module, name: str, library: str) -> str:
    before = ast.unparse(tree)
    bound = stored_names(tree) | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    modules = dict(_imported_modules(tree))
    known = {alias: module for alias, module in ALIASES.items() if module == library} | modules

    def is_aimed_at(root: str) -> bool:
        return root in known and root not in bound and not _is_foreign(known[root], library)

    read = _names_read(tree)
    tree = Unqualify(name, is_aimed_at).visit(tree)
    unneeded = read - _names_read(tree)  # a made-up module would end the tests at its import
    tree = ast.fix_missing_locations(_WithoutImports(name, unneeded, library).visit(tree))
    after = ast.unparse(tree)
    return tests if after == before else after


def _imported_modules(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (name, dotted origin) of each name that an import binds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, node.module or ""


def _is_foreign(module: str, library: str) -> bool:
    """Return whether a module exists and belongs to another package than the library under test."""
    top = module.partition(".")[0]
    return top not in ("", library) and (top in sys.stdlib_module_names or is_installed(top))


def _is_made_up(module: str, library: str) -> bool:
    """Return whether a module with this dotted name is none of the library, nor of any that exists."""
    return module.partition(".")[0] not in ("", library) and not _is_foreign(module, library)


def _names_read(tree: ast.Module) -> set[str]:
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


class _WithoutImports(ast.NodeTransformer):
    """Leave out imports of `name` and of what is `unneeded`; `pass` stands where nothing else is left."""

    def __init__(self, name: str, unneeded: set[str], library: str) -> None:
        self.name, self.unneeded, self.library = name, unneeded, library

    def visit_Import(self, node: ast.Import) -> ast.AST:
        stays = [not self._goes(one) and not _is_made_up(one.name, self.library) for one in node.names]
        node.names = list(compress(node.names, stays))
        return node if node.names else ast.Pass()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.stmt]:
        foreign = not node.level and _is_foreign(node.module or "", self.library)
        kept: list[ast.alias] = []
        others: list[ast.stmt] = []
        for alias in node.names:
            if self._goes(alias):
                continue
            if alias.name == self.name and alias.asname and not foreign:
                target = ast.Name(alias.asname, ast.Store())
                others.append(ast.Assign([target], ast.Name(self.name, ast.Load())))
            elif alias.name != "*" or not _is_made_up(node.module or "", self.library):
                kept.append(alias)
        node.names = kept
        return [*([node] if kept else []), *others] or ast.Pass()

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """Leave out `f = nx.f`, by now `f = f`: within a function it would read its own local."""
        match node:
            case ast.Assign(targets=[ast.Name(id=left)], value=ast.Name(id=right)):
                return ast.Pass() if left == right == self.name else node
        return node

    def _goes(self, alias: ast.alias) -> bool:
        bound = alias.asname or alias.name.partition(".")[0]
        return bound == self.name or bound in self.unneeded
