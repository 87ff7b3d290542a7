"""Problems in the forms of published benchmarks, as prompt, entry point, tests and reference.

| form | fields that tell it |
|---|---|
| HumanEval, also HumanEval+ of Hugging Face | `prompt`, `entry_point`, `test` |
| BigCodeBench | `complete_prompt`, `entry_point`, `test` |
| MultiPL-E (Python) | `prompt`, `tests`, `name` |
| MBPP and its sanitized form; MBPP+ has its full suite in `test` | `test_list`, `code` |
| EvalPlus' own files | `base_input`, `plus_input`; the reference gives the expected values |
| ClassEval | `class_name`, `test`, `solution_code` |
| LiveCodeBench | `question_content`, `public_test_cases`, `private_test_cases`, `starter_code` |

The tests get the prompt's helper functions and classes from the prompt, not from the sample. As in
published scores, MBPP's `challenge_test_list` is not used.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from helpers.code.extraction import parse
from helpers.lines import lines_of
from helpers.sandbox.parsed_tests import functions_to_call
from helpers.tools.answers import (
    SCRIPT_ENTRY,
    closed_prompt,
    prefixed,
    script_program,
    whole_program,
    with_class,
)
from helpers.tools.case_tests import evalplus_tests, livecodebench_tests
from helpers.tools.score_rows import ScoreError, read_rows, text_field

SHAPES = (
    "'test' with 'prompt' or 'complete_prompt' (HumanEval, BigCodeBench), 'test_list' with 'code' (MBPP), "
    "'base_input' (EvalPlus), 'class_name' (ClassEval), 'public_test_cases' (LiveCodeBench), 'tests' with "
    "'prompt' (MultiPL-E)"
)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FAILS = re.compile(r"assert|expect|raise|fail|exit|check|verify|match|compare|should", re.IGNORECASE)
OURS = {"helpers", "solution", "tests"}


@dataclass(frozen=True)
class Problem:
    """One problem of any form: the text before a completion, and the tests."""

    task_id: str
    prompt: str  # "" for MBPP
    entry_point: str
    tests: str
    reference: str | None = None  # a program that must pass, or the problem cannot be scored
    unscorable: str = ""  # why its tests cannot be run here
    is_script: bool = False  # whether the program reads standard input and prints
    method: str = ""  # LiveCodeBench's name for the function that a class `Solution` wraps

    def program(self, completion: str) -> str:
        """Return the program that a completion makes."""
        if self.is_script:
            return script_program(completion)
        program = whole_program(self.prompt, self.entry_point, completion)
        return with_class(program, self.method) if self.method else program


def read_problems(path: Path) -> dict[str, Problem]:
    """Read problems of any form, in file order, keyed by task id.

    Raises:
        ScoreError: for a row of another form, and for tests that cannot test anything; names the line.
    """
    found: dict[str, Problem] = {}
    for where, row in read_rows(path):
        problem = _problem(where, row)
        if problem.task_id in found:
            raise ScoreError(f"{where}: task_id {problem.task_id!r} occurs twice")
        found[problem.task_id] = problem
    if not found:
        raise ScoreError(f"{path} holds no problem")
    return found


def _problem(where: str, row: dict[str, Any]) -> Problem:
    if "test_list" in row:
        return _mbpp(where, row)
    if "base_input" in row and "test" not in row:
        return _evalplus(where, row)
    if "public_test_cases" in row:
        return _livecodebench(where, row)
    if "class_name" in row and "test" in row:
        return _class_eval(where, row)
    if "test" in row or ("tests" in row and "prompt" in row):
        return _human_eval(where, row)
    raise ScoreError(
        f"{where}: the row has neither HumanEval's field 'test' nor MBPP's 'test_list' nor those of another "
        f"known form. Known are {SHAPES}"
    )


def _human_eval(where: str, row: dict[str, Any]) -> Problem:
    if row.get("language", "py") not in ("py", "python"):
        raise ScoreError(f"{where}: the problem is in {row['language']}; only Python is run")
    prompt = text_field(where, row, "complete_prompt" if "complete_prompt" in row else "prompt")
    test = text_field(where, row, "test" if "test" in row else "tests")
    closed = closed_prompt(prompt)
    entry_point = _entry_point(where, row, closed)
    solution = row.get("canonical_solution")
    reference = whole_program(prompt, entry_point, solution) if isinstance(solution, str) else None
    trusted = f"{closed}\n" if closed is not None else ""
    tests = prefixed(trusted, _renamed(where, test, entry_point))
    return _checked(where, row, prompt, entry_point, tests, reference)


def _entry_point(where: str, row: dict[str, Any], closed: str | None) -> str:
    """Return the field `entry_point`, or without it the last function or class that the prompt defines."""
    if "entry_point" in row:
        entry_point = text_field(where, row, "entry_point")
        if not entry_point.isidentifier():
            raise ScoreError(f"{where}: entry_point {entry_point!r} is not a name")
        return entry_point
    tree = parse(closed) if closed is not None else None
    names = [node.name for node in tree.body if isinstance(node, DEFINITIONS)] if tree else []
    if not names:
        raise ScoreError(f"{where}: no field 'entry_point', and the prompt defines no function or class")
    return names[-1]


def _renamed(where: str, test: str, entry_point: str) -> str:
    """Give a test function that is called like the function under test another name."""
    tree = parse(test)
    if tree is None:
        raise ScoreError(f"{where}: the tests do not parse")
    lines = lines_of(test) if entry_point in ("check", "test") else []
    for node in tree.body if lines else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == entry_point:
            at = node.lineno - 1
            lines[at] = re.sub(rf"\bdef\s+{entry_point}\b", "def check_candidate", lines[at], count=1)
    return "".join(lines) or test


def _mbpp(where: str, row: dict[str, Any]) -> Problem:
    imports, asserts = row.get("test_imports") or [], row["test_list"]
    if not isinstance(imports, list) or not isinstance(asserts, list) or not asserts:
        raise ScoreError(f"{where}: 'test_list' must be a non-empty list, and 'test_imports' a list if given")
    tests = [*imports, row.get("test_setup_code") or "", *asserts]
    if not all(isinstance(test, str) for test in tests):
        raise ScoreError(f"{where}: 'test_list' must be a non-empty list of assert statements")
    if "test" in row:
        tests.append(text_field(where, row, "test"))
    text = _parsed(where, "\n".join(tests).replace("\r\n", "\n") + "\n")
    code = text_field(where, row, "code")
    return _checked(where, row, "", _mbpp_entry_point(where, code, text), text, code)


def _mbpp_entry_point(where: str, code: str, tests: str) -> str:
    """Return the function or class that the tests call and the reference program defines."""
    reference = parse(code.replace("\r\n", "\n"))
    if reference is None:
        raise ScoreError(f"{where}: the reference program in 'code' does not parse")
    nodes = list(ast.walk(ast.parse(tests)))
    calls = [n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    used = [n.id for n in nodes if isinstance(n, ast.Name)]
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    defined = [node.name for node in reference.body if isinstance(node, functions)]
    defined += [node.name for node in reference.body if isinstance(node, ast.ClassDef)]
    assigned = [node for node in reference.body if isinstance(node, ast.Assign)]
    defined += [each.id for node in assigned for each in node.targets if isinstance(each, ast.Name)]
    for mentioned in (calls, used):
        for name in defined:
            if name in mentioned:
                return name
    raise ScoreError(f"{where}: the tests call no function that the program in 'code' defines")


def _evalplus(where: str, row: dict[str, Any]) -> Problem:
    prompt, solution = text_field(where, row, "prompt"), text_field(where, row, "canonical_solution")
    closed = closed_prompt(prompt)
    entry_point = _entry_point(where, row, closed)
    reference = whole_program(prompt, entry_point, solution)
    tests = evalplus_tests(where, row, entry_point, reference)
    own = f"{closed}\n" if closed is not None and prompt.strip() else ""
    return _checked(where, row, prompt, entry_point, own + tests, reference)


def _class_eval(where: str, row: dict[str, Any]) -> Problem:
    imports = row.get("import_statement", [])
    imports = [imports] if isinstance(imports, str) else imports
    if not all(isinstance(line, str) for line in imports):
        raise ScoreError(f"{where}: 'import_statement' must be a list of strings")
    prompt = "".join(f"{line}\n" for line in imports)
    name, test = text_field(where, row, "class_name"), text_field(where, row, "test")
    solution = row.get("solution_code")
    reference = whole_program(prompt, name, solution) if isinstance(solution, str) else None
    return _checked(where, row, prompt, name, _parsed(where, prefixed(f"{prompt}\n", test)), reference)


def _livecodebench(where: str, row: dict[str, Any]) -> Problem:
    prompt, entry_point, tests, method = livecodebench_tests(where, row)
    return replace(_checked(where, row, prompt, entry_point, tests, None), method=method)


def _checked(
    where: str, row: dict[str, Any], prompt: str, entry_point: str, tests: str, reference: str | None
) -> Problem:
    """Return the problem; refuse tests that would test nothing, and say what keeps others from running."""
    tree = ast.parse(_parsed(where, tests))
    reason = _missing_module(tree) or _unfilled_parameter(tree, entry_point)
    if not reason and not _tests_something(tree, entry_point):
        raise ScoreError(
            f"{where}: the tests never use {entry_point!r}. They need assertions about it at the top level, "
            f"check(candidate), functions test_*() or a test class"
        )
    if not reason and not _can_fail(tree):
        raise ScoreError(f"{where}: the tests assert nothing, so every answer would pass")
    task_id = next((row[name] for name in ("task_id", "question_id", "name") if name in row), None)
    if not isinstance(task_id, str | int):
        raise ScoreError(f"{where}: field 'task_id' must be a string or a number")
    is_script = entry_point == SCRIPT_ENTRY
    return Problem(str(task_id), prompt, entry_point, tests, reference, reason, is_script)


def _tests_something(tree: ast.Module, entry_point: str) -> bool:
    """Return whether running the tests calls anything that uses the function under test."""
    body = [node for node in tree.body if getattr(node, "name", None) != entry_point]
    called = dict(functions_to_call(ast.Module(body, []), entry_point))
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    methods = [each.name for node in classes for each in node.body if isinstance(each, DEFINITIONS)]
    if called or any(name.startswith("test") for name in methods):
        given = {
            node.args.args[0].arg
            for node in body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and called.get(node.name)
        }
        return any(_uses(node, {entry_point} | given) for node in body)
    statements = [node for node in body if not isinstance(node, (*DEFINITIONS, ast.Import, ast.ImportFrom))]
    return any(isinstance(n, ast.Name) and n.id == entry_point for s in statements for n in ast.walk(s))


def _can_fail(tree: ast.Module) -> bool:
    """Return whether tests assert or raise, or call something that may: assertEqual, pytest.raises, exit."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert | ast.Raise):
            return True
        if isinstance(node, ast.Attribute | ast.Name):
            name = node.attr if isinstance(node, ast.Attribute) else node.id
            if FAILS.search(name):
                return True
    return False


def _uses(code: ast.AST, names: set[str]) -> bool:
    """Return whether code mentions one of `names`, in whatever way, or imports the program."""
    for node in ast.walk(code):
        said = [getattr(node, field, None) for field in ("id", "attr", "value")]  # value: of a string
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported = {getattr(node, "module", None), *(each.name for each in node.names)}
            if imported & (OURS | names):
                return True
        if names & {each for each in said if isinstance(each, str)}:
            return True
    return False


def _missing_module(tree: ast.Module) -> str:
    """Return that the tests need a module which is not installed, or ""."""
    tried = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.Try) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in [] if id(node) in tried else names:
            top = name.partition(".")[0]
            if top not in OURS | sys.stdlib_module_names and importlib.util.find_spec(top) is None:
                return f"it needs the module {top!r}, which is not installed"
    return ""


def _unfilled_parameter(tree: ast.Module, entry_point: str) -> str:
    """Return that a test function takes an argument which nothing here provides, or ""."""
    called = {name for name, _ in functions_to_call(tree, entry_point)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            required = node.args.args[: len(node.args.args) - len(node.args.defaults)]
            if required and node.name not in called | used | {entry_point}:
                return f"its test {node.name} takes {required[0].arg!r}, which only pytest provides"
    return ""


def _parsed(where: str, tests: str) -> str:
    if parse(tests) is None:
        raise ScoreError(f"{where}: the tests do not parse")
    return tests
