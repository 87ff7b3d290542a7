"""Tests that a model wrote, run as the untrusted code they are.

They are executed inside the sandbox beside the function under test and only their verdict comes
out, as one word. A response counts if it says "passed" on the reference and something else on at
least one mutant, so tests that always pass, or that never call the function, earn nothing.
"""

from __future__ import annotations

import ast

from helpers.eval.sandbox import Program

ENTRY_POINT = "run_generated_tests"
RUNNER = f"""
def {ENTRY_POINT}():
    import inspect, sys
    scope = dict(globals())
    known = set(scope)
    def run(function):
        parameters = inspect.signature(function).parameters.values()
        if all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
            function()
    try:
        exec(compile(TESTS, 'generated_tests', 'exec'), scope)
        for name, value in [item for item in scope.items() if item[0] not in known]:
            cases = sys.modules.get('unittest')
            if isinstance(value, type) and cases and issubclass(value, cases.TestCase):
                result = cases.TestResult()
                cases.defaultTestLoader.loadTestsFromTestCase(value).run(result)
                if not result.wasSuccessful():
                    return 'failed'
            elif isinstance(value, type) and name.startswith('Test'):
                for method in [m for m in dir(value) if m.startswith('test')]:
                    run(getattr(value(), method))
            elif name.startswith('test') and inspect.isfunction(value):
                run(value)
    except Exception as error:
        return type(error).__name__
    return 'passed'
"""
VERDICT = f"assert {ENTRY_POINT}() == 'passed'"


def asserts_about(tests: str, name: str) -> int:
    """Number of assert statements in `tests` that mention `name`; 0 if `tests` does not parse."""
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError):
        return 0
    return sum(
        isinstance(node, ast.Assert)
        and any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node.test))
        for node in ast.walk(tree)
    )


def without_definition(tests: str, name: str) -> str:
    """`tests` without functions called `name`: a response may not bring its own to be tested."""
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError):
        return tests
    kept = [node for node in tree.body if getattr(node, "name", None) != name]
    return ast.unparse(ast.Module(kept, [])) if len(kept) < len(tree.body) else tests


def generated_test_program(
    prelude: str, code: str, tests: str, *, timeout_s: float, memory_mb: int
) -> Program:
    """The program that passes exactly if `tests` pass on the function in `code`.

    As pytest would, functions named `test*` that need no argument, such methods of classes named
    `Test*`, and the cases of `unittest` are run.
    """
    runner = f"\nTESTS = {tests!r}\n{RUNNER}"
    return Program(f"{prelude}{code}\n{runner}", VERDICT, ENTRY_POINT, timeout_s, memory_mb)
