"""Run tests that a model wrote as the untrusted code they are.

They run inside the sandbox beside the function under test, and only their verdict comes out: "passed", or the
line that failed and what it raised. A response counts if it says "passed" on the reference and anything else
on at least one mutant, so tests that always pass or never call the function earn nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

ENTRY_POINT = "run_generated_tests"
TOLD_CHARS = 200  # of the line that failed, and of what its exception says
RUNNER = f"""
def {ENTRY_POINT}():
    import inspect, sys
    scope = dict(globals())
    known = set(scope)
    def told(error):
        line, trace, lines = 0, error.__traceback__, TESTS.split('\\n')
        while trace:
            if trace.tb_frame.f_code.co_filename == 'generated_tests':
                line = trace.tb_lineno
            trace = trace.tb_next
        failed = ''.join(lines[line - 1 : line]).strip()[:{TOLD_CHARS}]
        where = 'line %d, %r: ' % (line, failed) if line else ''
        try:
            said = ' '.join(str(error).split())[:{TOLD_CHARS}]
        except Exception:
            said = ''
        return where + type(error).__name__ + (': ' + said if said else '')
    def run(function):
        parameters = inspect.signature(function).parameters.values()
        if all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
            function()
    def run_cases(value, unittest):
        errors = []
        class Result(unittest.TestResult):
            def addFailure(self, test, err):
                errors.append(err[1])
                super().addFailure(test, err)
            def addError(self, test, err):
                errors.append(err[1])
                super().addError(test, err)
            def addSubTest(self, test, subtest, err):
                errors.extend(err[1:2] if err else ())
                super().addSubTest(test, subtest, err)
        result = Result()
        unittest.defaultTestLoader.loadTestsFromTestCase(value).run(result)
        if not result.wasSuccessful():
            return told(errors[0]) if errors else 'a test passes that was expected to fail'
    try:
        exec(compile(TESTS, 'generated_tests', 'exec'), scope)
        for name, value in [item for item in scope.items() if item[0] not in known]:
            cases = sys.modules.get('unittest')
            if isinstance(value, type) and cases and issubclass(value, cases.TestCase):
                if fault := run_cases(value, cases):
                    return fault
            elif isinstance(value, type) and name.startswith('Test'):
                for method in [m for m in dir(value) if m.startswith('test')]:
                    run(getattr(value(), method))
            elif name.startswith('test') and inspect.isfunction(value):
                run(value)
    except Exception as error:
        return told(error)
    return 'passed'
"""
VERDICT = f"verdict = {ENTRY_POINT}()\nassert verdict == 'passed', verdict"
WRAPPING = f"line 2, {VERDICT.splitlines()[1]!r}: AssertionError: "  # what the sandbox says around a verdict


def asserts_about(tests: str, name: str) -> int:
    """Return the number of checks in `tests` of what `name` returns; 0 if `tests` does not parse.

    Checks are assert statements, unittest's `self.assert...` calls, `with pytest.raises(...)`, and `try`
    statements that raise AssertionError if no exception came. They may mention `name` itself, or a
    variable that was computed from it, however indirectly. `aiming` has made `name` of `nx.name`; behind a
    value it is something else (`G.degree`).
    """
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError):
        return 0
    nodes = list(ast.walk(tree))
    bindings = [(_names(value), targets) for node in nodes for value, targets in _bindings(node)]
    known, before = {name}, set()
    while known != before:
        before = known
        known = known.union(*(targets for names, targets in bindings if names & known))
    return sum(bool(known & _names(checked)) for node in nodes for checked in _checked(node))


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _bindings(node: ast.AST) -> Iterator[tuple[ast.AST, set[str]]]:
    """Yield (value, names that receive it) of one node that binds names."""
    if isinstance(node, ast.Assign):
        yield node.value, set().union(*map(_names, node.targets))
    elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value is not None:
        yield node.value, _names(node.target)
    elif isinstance(node, ast.For | ast.comprehension):
        yield node.iter, _names(node.target)
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield node.context_expr, _names(node.optional_vars)


def _checked(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what a node checks, if it is a check."""
    if isinstance(node, ast.Assert):
        yield node.test
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr.startswith("assert"):
            yield node
    elif (isinstance(node, ast.Try) and _raises_assertion_error(node)) or (
        isinstance(node, ast.With) and any(_is_pytest_raises(item.context_expr) for item in node.items)
    ):
        yield ast.Module(node.body, [])


def _raises_assertion_error(node: ast.AST) -> bool:
    raised = [part.exc for part in ast.walk(node) if isinstance(part, ast.Raise)]
    return any(exc is not None and "AssertionError" in _names(exc) for exc in raised)


def _is_pytest_raises(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Attribute) and part.attr == "raises" for part in ast.walk(node))


def without_definition(tests: str, name: str) -> str:
    """Return `tests` without functions called `name`: a response must not test its own version."""
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError):
        return tests
    kept = [node for node in tree.body if getattr(node, "name", None) != name]
    return ast.unparse(ast.Module(kept, [])) if len(kept) < len(tree.body) else tests


def generated_test_program(prelude: str, code: str, tests: str) -> tuple[str, str, str]:
    """Return (source, tests, entry point) of a program that passes exactly if `tests` pass on `code`.

    As in pytest, it runs functions named `test*` that need no argument, such methods of classes named
    `Test*`, and the cases of `unittest`.
    """
    return f"{prelude}{code}\n\nTESTS = {tests!r}\n{RUNNER}", VERDICT, ENTRY_POINT


def told_of_tests(detail: str) -> str:
    """Return the detail of such a program's outcome in the words that any other tests get."""
    return detail.replace(WRAPPING, "", 1)
