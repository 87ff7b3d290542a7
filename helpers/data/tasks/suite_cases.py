"""Take cases out of the corpus's own test-suite: one assertion each, with just the statements it needs.

Test files are read, never imported or collected. An assertion (a plain one, a loop of assertions, an
expected exception) belongs to a function if that is the only function of the corpus that it asks about,
directly or through the variable it looks at; names are resolved through the test file's own imports. A
backward slice over the test, the set-up of its class and its module gives the statements it rests on. A
case that needs a fixture, a package beyond the corpus and the standard library, or pytest itself is left
out and counted. Whether a case holds is not known here: that takes a run
(`helpers.data.tasks.ground_truth`).
"""

from __future__ import annotations

import ast
import builtins
import copy
import io
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.code.secrets import mask_secrets
from helpers.data.tasks.purity import dotted
from helpers.data.tasks.suite_rewriting import bound_names, needed_names, rewritten, slice_before
from helpers.records import Corpus, Function

SETUP_METHODS = ("setup_class", "setUpClass", "setup_method", "setUp", "setup")
SKIPPED_MARKS = ("skip", "skipif", "skipIf", "xfail", "slow", "usefixtures")
COMPARISONS = ("_equal", "_equals", "_close", "_isomorphic")  # name endings of helpers that compare answers
MAX_CASE_CHARS = 900
MAX_CASE_LINES = 16
MAX_FILE_BYTES = 500_000
MAX_PARAMETER_ROWS = 3
LOCAL = "self_"  # `self.G` of a test class becomes the variable `self_G`


@dataclass(frozen=True)
class SuiteCase:
    """One assertion of the corpus's test-suite about one of its functions."""

    origin: str  # "algorithms/tests/test_dag.py::TestDAG.test_longest_path:41"
    body: str  # statements at the left margin, the assertion last; the function goes by its bare name


@dataclass(frozen=True)
class _Test:
    """One test function, flattened: the statements before its body, and the body."""

    name: str
    before: tuple[ast.stmt, ...]
    body: tuple[ast.stmt, ...]


@dataclass(frozen=True)
class _Asserted:
    """One assertion with all statements before it."""

    origin: str  # test and line, as in `SuiteCase`
    before: tuple[ast.stmt, ...]
    statement: ast.stmt
    imports: dict[str, str]


class TestSuite:
    """The assertions of a corpus's test files, by the function that they ask about.

    Reading attributes every assertion; its slice is made when the cases of a function are asked for.
    `counts` holds test files, tests, assertions, and why some are about no function or make no case.
    """

    __test__ = False  # not a test class, whatever its name

    def __init__(self, corpus: Corpus, functions: Sequence[Function]) -> None:
        """Read the files that `corpus` rejected as tests; `functions` are all of the corpus."""
        self.counts: Counter[str] = Counter()
        self._allowed = {f.module.partition(".")[0] for f in functions} | set(sys.stdlib_module_names)
        self._index: dict[str, list[Function]] = defaultdict(list)
        self._asserted: dict[str, list[_Asserted]] = defaultdict(list)
        for function in functions:
            if function.language == "python" and not (function.is_method or function.is_nested):
                self._index[function.name].append(function)
        for path in sorted(file.path for file in corpus.rejected if file.reason == "test"):
            tree = _parsed(Path(corpus.root) / path)
            if tree is not None:
                self.counts["test files"] += 1
                self._read(path, tree)

    def has(self, function: Function) -> bool:
        """Return whether some assertion asks about `function`."""
        return function.id in self._asserted

    def cases(self, function: Function, limit: int) -> tuple[SuiteCase, ...]:
        """Return up to `limit` distinct cases of `function`; its test functions take turns."""
        found: dict[str, SuiteCase] = {}
        turns: Counter[str] = Counter()
        ranked = []
        for place, asserted in enumerate(self._asserted.get(function.id, [])):
            test = asserted.origin.rpartition(":")[0]
            turns[test] += 1
            ranked.append((turns[test], place, asserted))
        for _, _, asserted in sorted(ranked, key=lambda row: row[:2]):
            if len(found) == limit:
                break
            body = self._body(asserted, function)
            if body is not None:
                found.setdefault(body, SuiteCase(asserted.origin, body))
        return tuple(found.values())

    def _read(self, path: str, tree: ast.Module) -> None:
        for test in _tests_of(tree):
            self.counts["tests"] += 1
            for before, statement in _assertions(test):
                self.counts["assertions"] += 1
                imports = _imports(before)
                subjects = _subjects(statement, before, imports, self._index)
                if len(subjects) == 1:
                    self.counts["asks about one function"] += 1
                    origin = f"{path}::{test.name}:{statement.lineno}"
                    asserted = _Asserted(origin, tuple(before), statement, imports)
                    self._asserted[subjects.pop().id].append(asserted)
                else:
                    self.counts["asks about several functions" if subjects else "asks about none"] += 1

    def _body(self, asserted: _Asserted, function: Function) -> str | None:
        """Return the statements of the case, or None; count the reason."""
        kept, missing = slice_before(asserted.before, asserted.statement, set(asserted.imports))
        reason, body = "", None
        if any(isinstance(node, ast.Assert) for statement in kept for node in ast.walk(statement)):
            reason = "rests on another assertion"
        elif missing - set(dir(builtins)) - {"pytest"}:
            reason = "needs a fixture"
        else:
            means = lambda node: _resolved(node, asserted.imports, self._index) is function  # noqa: E731
            body = rewritten([*kept, asserted.statement], function.name, means, self._allowed)
            if body is None:
                reason = "needs pytest or a package"
            elif len(body) > MAX_CASE_CHARS or body.count("\n") >= MAX_CASE_LINES:
                reason, body = "too long", None
        self.counts[reason or "cases made"] += 1
        return body


def _parsed(path: Path) -> ast.Module | None:
    try:
        if path.suffix != ".py" or path.stat().st_size > MAX_FILE_BYTES:
            return None
        data = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return ast.parse(mask_secrets(data.decode(encoding)).text)
    except (OSError, SyntaxError, ValueError, LookupError, RecursionError):
        return None


# --- tests ---------------------------------------------------------------------------------------


def _tests_of(tree: ast.Module) -> Iterator[_Test]:
    plain = tuple(node for node in tree.body if not _is_test(node))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and _is_test(node) and not _is_skipped(node):
            yield from _tests_of_class(node, plain)
        elif isinstance(node, ast.FunctionDef) and _is_test(node):
            yield from _with_parameters(node, node.name, plain)


def _is_test(node: ast.stmt) -> bool:
    if isinstance(node, ast.ClassDef):
        return any(isinstance(inner, ast.FunctionDef) and _is_test(inner) for inner in node.body)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")


def _tests_of_class(node: ast.ClassDef, before: tuple[ast.stmt, ...]) -> Iterator[_Test]:
    shared = []
    for inner in node.body:
        if isinstance(inner, ast.Assign | ast.AnnAssign):
            names = {name: LOCAL + name for name in bound_names(inner)}
            shared.append(_Renamed(names).visit(copy.deepcopy(inner)))  # a copy: `bound_names` caches
    methods = {inner.name: inner for inner in node.body if isinstance(inner, ast.FunctionDef)}
    for name in SETUP_METHODS:
        if name in methods:
            shared += [_WithoutSelf().visit(statement) for statement in methods[name].body]
    for name, method in methods.items():
        if _is_test(method):
            bare = copy.copy(method)
            bare.body = [_WithoutSelf().visit(statement) for statement in method.body]
            bare.args = copy.copy(method.args)
            bare.args.args = method.args.args[1:]
            yield from _with_parameters(bare, f"{node.name}.{name}", (*before, *shared))


def _with_parameters(node: ast.FunctionDef, name: str, before: tuple[ast.stmt, ...]) -> Iterator[_Test]:
    """Yield the test once for each of its first parameter rows; skip it if it needs fixtures."""
    if _is_skipped(node):
        return
    parameters = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
    if not parameters:
        yield _Test(name, before, tuple(node.body))
        return
    marks = [mark for mark in node.decorator_list if isinstance(mark, ast.Call) and len(mark.args) == 2]
    if len(node.decorator_list) != 1 or len(marks) != 1 or not dotted(marks[0].func).endswith("parametrize"):
        return
    names, rows = marks[0].args
    if not isinstance(rows, ast.List | ast.Tuple) or not isinstance(names, ast.Constant | ast.Tuple):
        return
    words = names.value if isinstance(names, ast.Constant) else ",".join(ast.literal_eval(names))
    listed = [word.strip() for word in str(words).split(",")]
    if set(listed) != parameters:
        return
    target = ", ".join(listed)
    for row in rows.elts[:MAX_PARAMETER_ROWS]:
        if not (isinstance(row, ast.Call) and dotted(row.func).endswith("param")):
            given = ast.parse(f"{target} = {ast.unparse(row)}").body[0]
            yield _Test(name, (*before, given), tuple(node.body))


def _is_skipped(node: ast.FunctionDef | ast.ClassDef) -> bool:
    names = (dotted(m.func if isinstance(m, ast.Call) else m) for m in node.decorator_list)
    return any(name.rpartition(".")[2] in SKIPPED_MARKS for name in names)


class _WithoutSelf(ast.NodeTransformer):
    """Turn `self.G` and `cls.G` into the variable `self_G`."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            return ast.copy_location(ast.Name(LOCAL + node.attr, node.ctx), node)
        return node


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.copy_location(ast.Name(self.names.get(node.id, node.id), node.ctx), node)


# --- assertions ------------------------------------------------------------------------------------


def _assertions(test: _Test) -> Iterator[tuple[list[ast.stmt], ast.stmt]]:
    """Yield (statements before, assertion) for each assertion at the top level of the test."""
    before = list(test.before)
    for statement in test.body:
        if _asserts(statement):
            yield list(before), statement
        else:
            before.append(statement)


def _asserts(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.For):
        kinds = {type(inner) for inner in statement.body}
        return not statement.orelse and ast.Assert in kinds and kinds <= {ast.Assert, ast.Assign}
    if isinstance(statement, ast.With):
        opened = statement.items[0].context_expr
        named = statement.items[0].optional_vars is not None
        return not named and isinstance(opened, ast.Call) and dotted(opened.func) == "pytest.raises"
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return dotted(statement.value.func) == "pytest.raises"
    return isinstance(statement, ast.Assert)


def _subjects(
    asserted: ast.stmt, before: Sequence[ast.stmt], imports: dict[str, str], index: dict[str, list[Function]]
) -> set[Function]:
    """Return the functions asked about: called in the assertion itself, else behind its variables."""
    parts = [asserted]
    if isinstance(asserted, ast.For):
        parts = [asserted.iter, *asserted.body]
    elif isinstance(asserted, ast.With):
        parts = asserted.body
    direct = {f for part in parts for f in _outermost(part, imports, index)}
    if direct:
        return direct
    names = set().union(*(needed_names(part) for part in parts))
    sources: dict[str, ast.stmt] = {}
    for statement in before:
        if isinstance(statement, ast.Assign):
            sources |= dict.fromkeys(bound_names(statement) & names, statement)
    return {f for statement in sources.values() for f in _outermost(statement.value, imports, index)}


def _outermost(
    node: ast.AST, imports: dict[str, str], index: dict[str, list[Function]]
) -> Iterator[Function]:
    """Yield the functions called in `node`, except in arguments of others and except comparisons."""
    if isinstance(node, ast.Call):
        raises = dotted(node.func) == "pytest.raises" and len(node.args) > 1
        function = _resolved(node.args[1] if raises else node.func, imports, index)
        if function is not None and not function.name.endswith(COMPARISONS):
            yield function
            return
    for child in ast.iter_child_nodes(node):
        yield from _outermost(child, imports, index)


def _resolved(node: ast.AST, imports: dict[str, str], index: dict[str, list[Function]]) -> Function | None:
    """Return the one function that a name like `nx.algorithms.dag.is_dag` can mean, or None."""
    root, _, rest = dotted(node).partition(".")
    if root not in imports:
        return None
    prefix, _, name = f"{imports[root]}.{rest}".rstrip(".").rpartition(".")
    fitting = [f for f in index.get(name, ()) if f.module == prefix or f.module.startswith(prefix + ".")]
    exact = [f for f in fitting if f.module == prefix]
    return exact[0] if len(exact) == 1 else fitting[0] if len(fitting) == 1 else None


def _imports(statements: Sequence[ast.stmt]) -> dict[str, str]:
    """Return local name -> dotted name for every name that an absolute import binds."""
    names: dict[str, str] = {}
    for statement in statements:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                top = alias.name.partition(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(statement, ast.ImportFrom) and not statement.level and statement.module:
            names |= {a.asname or a.name: f"{statement.module}.{a.name}" for a in statement.names}
    return names
