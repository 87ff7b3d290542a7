"""Find the names in statements of a test, and rewrite tests without pytest.

Used by `helpers.data.tasks.suite_cases`. `needed_names`, `bound_names` and `touched_names` carry its
slices. `rewritten` turns a slice into plain Python for the sandbox: `pytest.raises` becomes
try/except/else, `== pytest.approx(x)` a call of `close`, the function under test its bare name.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Sequence
from functools import lru_cache

CLOSE = '''def close(x, y, rel=None, abs=None):
    """As `x == pytest.approx(y, rel, abs)`, for numbers and lists and dicts of them."""
    rel, least = (1e-6 if rel is None and abs is None else rel or 0.0), (1e-12 if abs is None else abs)
    if isinstance(y, dict):
        return isinstance(x, dict) and x.keys() == y.keys() and all(close(x[k], y[k], rel, least) for k in y)
    if isinstance(y, (list, tuple)):
        return len(x) == len(y) and all(close(a, b, rel, least) for a, b in zip(x, y))
    return x == y or max(x - y, y - x) <= max(rel * max(y, -y), least)
'''

REMEMBERED = 4096  # statements whose names are cached; those of a module are needed for each of its tests
Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


@lru_cache(maxsize=REMEMBERED)
def bound_names(statement: ast.stmt) -> frozenset[str]:
    """Return the names that a statement assigns, imports or defines, but not those inside a definition."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return frozenset(alias.asname or alias.name.partition(".")[0] for alias in statement.names)
    if isinstance(statement, Scope):
        return frozenset({statement.name})
    names: set[str] = set()
    for node in ast.iter_child_nodes(statement):
        if isinstance(node, ast.stmt):
            names |= bound_names(node)
        elif not isinstance(node, ast.Lambda):
            names |= stored_names(node)
    return frozenset(names)


@lru_cache(maxsize=REMEMBERED)
def needed_names(node: ast.AST) -> frozenset[str]:
    """Return the names that `node` reads from its surroundings."""
    own: set[str] = set()
    loads: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.comprehension | ast.For):
            own |= stored_names(inner.target)
        if isinstance(inner, ast.For):
            own |= {n for s in inner.body if isinstance(s, ast.Assign) for n in bound_names(s)}
        elif isinstance(inner, ast.With):
            own |= {n for item in inner.items if item.optional_vars for n in stored_names(item.optional_vars)}
        elif isinstance(inner, ast.ExceptHandler) and inner.name:
            own.add(inner.name)
        elif isinstance(inner, Scope):
            own |= {argument.arg for argument in ast.walk(inner) if isinstance(argument, ast.arg)}
            own |= set() if isinstance(inner, ast.Lambda) else stored_names(inner)
        elif isinstance(inner, ast.AugAssign) and isinstance(inner.target, ast.Name):
            loads.add(inner.target.id)
        elif isinstance(inner, ast.Name) and not isinstance(inner.ctx, ast.Store):
            loads.add(inner.id)
    return frozenset(loads - own)


@lru_cache(maxsize=REMEMBERED)
def touched_names(statement: ast.stmt) -> frozenset[str]:
    """Return names of objects that a statement may change: `G.add_edge(0, 1)`, `d[0] = 1`, `f(d)`."""
    names: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            names |= {_root(node)}
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            names |= {_root(node.value.func)} | {a.id for a in node.value.args if isinstance(a, ast.Name)}
    return frozenset(names - {""})


def slice_before(
    before: Sequence[ast.stmt], asserted: ast.stmt, modules: set[str]
) -> tuple[list[ast.stmt], set[str]]:
    """Return the statements that `asserted` rests on, in order, and the names that none of them binds.

    Args:
        modules: names of modules; calling their functions does not change them.
    """
    wanted = set(needed_names(asserted))
    kept: list[ast.stmt] = []
    for statement in reversed(before):
        binds = bound_names(statement)
        if (binds | (touched_names(statement) - modules)) & wanted:
            kept.append(statement)
            if not isinstance(statement, ast.AugAssign | ast.If | ast.For | ast.While | ast.With | ast.Try):
                wanted -= binds
            wanted |= needed_names(statement)
    return kept[::-1], wanted


def statements_for(setup: str, asserts: Sequence[str]) -> list[str]:
    """Return the statements of `setup`, in order, that some of the assertions rest on."""
    before = ast.parse(setup).body
    modules = {name for s in before if isinstance(s, ast.Import | ast.ImportFrom) for name in bound_names(s)}
    kept: set[int] = set()
    for text in asserts:
        for asserted in ast.parse(text).body:
            kept |= {id(statement) for statement in slice_before(before, asserted, modules)[0]}
    return [ast.unparse(statement) for statement in before if id(statement) in kept]


def rewritten(
    statements: Sequence[ast.stmt], name: str, is_subject: Callable[[ast.AST], bool], allowed: set[str]
) -> str | None:
    """Return the statements as plain Python that calls the function under test by its bare `name`.

    None if pytest is still needed, a package outside `allowed` is imported, or `name` means something else.
    `is_subject` tells whether a name or attribute node means the function under test.
    """
    rewrite = _Rewrite(name, is_subject)
    kept: list[ast.stmt] = []
    for statement in statements:
        changed = rewrite.visit(copy.deepcopy(statement))
        if isinstance(changed, ast.Import | ast.ImportFrom):
            changed = _import_without(changed, name, allowed)
            if changed is None:
                return None
        elif name in bound_names(changed):
            return None
        if "pytest" in {n.id for n in ast.walk(changed) if isinstance(n, ast.Name)}:
            return None
        kept.append(ast.fix_missing_locations(changed))
    used = {n.id for statement in kept for n in ast.walk(statement) if isinstance(n, ast.Name)}
    for statement in kept:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            statement.names = [a for a in statement.names if (a.asname or a.name.partition(".")[0]) in used]
    return "\n".join(ast.unparse(s) for s in kept if getattr(s, "names", True))


class _Rewrite(ast.NodeTransformer):
    def __init__(self, name: str, is_subject: Callable[[ast.AST], bool]) -> None:
        self.name, self.is_subject = name, is_subject

    def visit_Name(self, node: ast.Name) -> ast.AST:
        is_read = isinstance(node.ctx, ast.Load) and self.is_subject(node)
        return ast.copy_location(ast.Name(self.name, node.ctx), node) if is_read else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if self.is_subject(node):
            return ast.copy_location(ast.Name(self.name, ast.Load()), node)
        return self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """Turn `x == pytest.approx(y)`, from either side, into `close(x, y)`."""
        self.generic_visit(node)
        if len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
            for one, other in ((node.left, node.comparators[0]), (node.comparators[0], node.left)):
                is_call = isinstance(other, ast.Call) and len(other.args) == 1
                if is_call and ast.unparse(other.func) in ("pytest.approx", "approx"):
                    called = ast.Call(ast.Name("close", ast.Load()), [one, other.args[0]], other.keywords)
                    return ast.copy_location(called, node)
        return node

    def visit_With(self, node: ast.With) -> ast.AST:
        """Make `with pytest.raises(E): f()` fail unless E is raised."""
        self.generic_visit(node)
        opened = node.items[0].context_expr
        if not (isinstance(opened, ast.Call) and ast.unparse(opened.func) == "pytest.raises" and opened.args):
            return node
        return _expected(opened.args[0], node.body)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """Make `pytest.raises(E, f, x)` fail unless E is raised."""
        self.generic_visit(node)
        call = node.value
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.raises" and len(call.args) > 1:
            kind, function, *arguments = call.args
            return _expected(kind, [ast.Expr(ast.Call(function, arguments, call.keywords))])
        return node


def _expected(kind: ast.expr, body: list[ast.stmt]) -> ast.Try:
    missing = ast.parse("raise AssertionError('an exception was expected')").body
    return ast.Try(body, [ast.ExceptHandler(kind, None, [ast.Pass()])], missing, [])


def _import_without(
    statement: ast.Import | ast.ImportFrom, name: str, allowed: set[str]
) -> ast.Import | ast.ImportFrom | None:
    """Remove pytest and the function under test from the import; return None if it needs another package."""
    if isinstance(statement, ast.ImportFrom) and (statement.level or not statement.module):
        return None
    module = "" if isinstance(statement, ast.Import) else statement.module
    tops = {(module or alias.name).partition(".")[0] for alias in statement.names}
    if not tops <= allowed | {"pytest"}:
        return None
    is_pytest = lambda alias: (module or alias.name) == "pytest"  # noqa: E731
    statement.names = [
        a for a in statement.names if not is_pytest(a) and (a.asname or a.name) != name and a.name != "*"
    ]
    return statement


def stored_names(node: ast.AST) -> set[str]:
    """Return the names that `node` assigns to."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
