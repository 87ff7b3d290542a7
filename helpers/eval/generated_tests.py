"""Tests that a model wrote, run as the untrusted code they are.

They are executed inside the sandbox beside the function under test and only their verdict comes
out, as one word. A response counts if it says "passed" on the reference and something else on at
least one mutant, so tests that always pass, or that never call the function, earn nothing.
"""

from __future__ import annotations

import ast

from helpers.eval.sandbox import Program

ENTRY_POINT = "run_generated_tests"
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

    Functions named `test_*` that take no arguments are called, as pytest would.
    """
    runner = (
        f"\ndef {ENTRY_POINT}():\n"
        f"    scope = dict(globals())\n"
        f"    try:\n"
        f"        exec(compile({tests!r}, 'generated_tests', 'exec'), scope)\n"
        f"        for name, value in list(scope.items()):\n"
        f"            if name.startswith('test_') and name not in globals():\n"
        f"                value()\n"
        f"    except Exception as error:\n"
        f"        return type(error).__name__\n"
        f"    return 'passed'\n"
    )
    return Program(f"{prelude}{code}\n{runner}", VERDICT, ENTRY_POINT, timeout_s, memory_mb)
