"""The program that a completion makes of a prompt: a continued body, a whole answer, a fenced block.

A completion continues the prompt as it is if that compiles. If it does not, lines after the body are dropped
(a closing fence, prose, a function that was cut off), or the code of a chat answer is taken. What an answer
computes is never changed, only how it is brought:

- a body that lost its margin gets that of the prompt's end;
- blanks that Python refuses, such as no-break spaces, become plain ones where it refuses them;
- `from __future__` imports move to the top, which alone is their place;
- if a program fails while it is loaded, top-level statements that read standard input are dropped, as a
  script's `__main__` part is not run either;
- a method of a class `Solution`, LeetCode's form, serves as the function that was asked for, and a function
  as the method.
"""

from __future__ import annotations

import ast
import re
import unicodedata
import warnings

from helpers.code.extraction import defines, extract_code, parse
from helpers.lines import bare_lines, lines_of

MAX_CUTS = 200  # places where a body may end that are tried
MAX_UNSEEN = 200  # characters without a shape that are replaced; each costs a compilation
NO_BREAK = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
MARGIN = re.compile(rf"^[ \t]*{NO_BREAK.pattern}(?:[ \t]|{NO_BREAK.pattern})*", re.MULTILINE)
UNSEEN = "invalid non-printable character"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
LEETCODE = "Solution"
SCRIPT_ENTRY = "run_script"
SCRIPT = """SOURCE = {source!r}


def run_script(text):
    import io
    import os
    import sys

    descriptor, name = os.open("standard input", os.O_RDWR | os.O_CREAT | os.O_TRUNC), "standard input"
    os.unlink(name)
    os.write(descriptor, text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.dup2(descriptor, 0)
    before, output = (sys.stdin, sys.stdout), io.TextIOWrapper(io.BytesIO(), write_through=True)
    sys.stdin, sys.stdout = open(descriptor, encoding="utf-8"), output
    try:
        exec(compile(SOURCE, "solution.py", "exec"), {{"__name__": "__main__"}})
    except SystemExit:
        pass
    finally:
        sys.stdin, sys.stdout = before
    return output.buffer.getvalue().decode()
"""


def whole_program(prompt: str, entry_point: str, completion: str) -> str:
    """Return the program to run: the prompt with the completion in place, or the completion alone."""
    if not completion.strip():
        return prompt + "\n    raise NotImplementedError\n" if prompt else ""
    return _with_function(_program(prompt, entry_point, _without_unseen(prompt, completion)), entry_point)


def _program(prompt: str, entry_point: str, completion: str) -> str:
    plain = prompt + completion
    fenced = "```" in completion or "~~~" in completion
    if not fenced and compiles(plain):
        return plain
    if prompt and completion.lstrip("\r\n")[:1].isspace():
        kept = _body(prompt, completion)
        if kept is not None:
            return prompt + kept
    code = extract_code(completion, entry_point=entry_point)
    if code is not None and (not prompt or defines(code, entry_point) or _leetcode(code, entry_point)):
        return prefixed(preamble(prompt, entry_point), code)
    for body in (code, completion):
        for indented in _indented(prompt, body) if body is not None and prompt else ():
            if compiles(indented):
                return indented
    return plain  # does not compile, so it fails with the compiler's message


def script_program(completion: str) -> str:
    """Return a program whose `run_script(text)` runs the answer on standard input and returns its output."""
    code = completion if compiles(completion) else extract_code(completion)
    return SCRIPT.format(source=completion if code is None else code)


def compiles(code: str) -> bool:
    """Return whether Python accepts `code`; parsing alone would allow a `return` outside a function."""
    return _refusal(code) is None


def _refusal(code: str) -> Exception | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(code, "solution.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return error
    return None


def without_reading(program: str, entry_point: str) -> str:
    """Return the program without the top-level statements that read standard input, and those that need them.

    It is meant for programs that fail while they are loaded: others may mention standard input and not read.
    """
    tree = parse(program)
    if tree is None:
        return program
    functions = [node for node in tree.body if isinstance(node, FUNCTIONS) and node.name != entry_point]
    readers, lost, dropped = {"input"}, set[str](), set[int]()
    for _ in functions:  # a function that calls a reader is one
        readers |= {node.name for node in functions if _reads(node, readers)}
    for node in tree.body:
        if isinstance(node, (*DEFINITIONS, ast.Import, ast.ImportFrom)):
            continue
        names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
        if _reads(node, readers) or any(n.id in lost for n in names if isinstance(n.ctx, ast.Load)):
            lost |= {n.id for n in names if isinstance(n.ctx, ast.Store)}
            dropped |= set(range(node.lineno - 1, node.end_lineno or node.lineno))
    kept = "".join("\n" if at in dropped else line for at, line in enumerate(lines_of(program)))
    return kept if dropped and defines(kept, entry_point) and compiles(kept) else program


def _reads(code: ast.AST, readers: set[str]) -> bool:
    """Return whether code calls one of `readers`, or mentions `stdin`."""
    return any(
        (isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in readers)
        or (isinstance(n, ast.Attribute) and n.attr == "stdin")
        for n in ast.walk(code)
    )


def prefixed(before: str, code: str) -> str:
    """Return `code` after `before`; its `from __future__` imports come first, as Python wants them."""
    tree = parse(code)
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)] if tree else []
    found = [node for node in imports if node.module == "__future__"]
    if not found or not before.strip():
        return before + code
    lines = lines_of(code)
    for node in found:
        for at in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[at] = "\n"
    first = "".join(f"{ast.unparse(node)}\n" for node in found)
    moved = f"{first}{before}{''.join(lines)}"
    return moved if compiles(moved) else before + code  # several statements may share a line


def _without_unseen(prompt: str, completion: str) -> str:
    """Return the completion with plain blanks for those that Python refuses, and without unseen marks.

    The compiler says where they are, so that those in strings and comments stay.
    """
    if compiles(prompt + completion):
        return completion
    # Margins first: where plain blanks stand beside others, the compiler counts the plain ones alone.
    completion = MARGIN.sub(lambda margin: NO_BREAK.sub(" ", margin.group()), completion)
    for _ in range(MAX_UNSEEN):
        error = _refusal(prompt + completion)
        if not isinstance(error, SyntaxError) or not error.msg.startswith(UNSEEN):
            break
        lines = lines_of(prompt + completion)
        at = sum(map(len, lines[: (error.lineno or 1) - 1])) + (error.offset or 1) - 1 - len(prompt)
        kind = unicodedata.category(completion[at]) if 0 <= at < len(completion) else ""
        if kind not in ("Zs", "Cf"):
            break
        completion = completion[:at] + (" " if kind == "Zs" else "") + completion[at + 1 :]
    return completion


def closed_prompt(prompt: str) -> str | None:
    """Return the prompt as source that parses: an open function or class gets a `pass`. None if it cannot."""
    for text in (prompt, *(f"{prompt}\n{' ' * indent}pass\n" for indent in (4, 8, 2, 12))):
        if compiles(text):
            return text
    return None


def preamble(prompt: str, entry_point: str) -> str:
    """Return the prompt up to the function or class under test: its imports and helpers."""
    closed = closed_prompt(prompt)
    tree = parse(closed) if closed is not None else None
    for node in tree.body if tree else ():
        if isinstance(node, DEFINITIONS) and node.name == entry_point:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            return "".join(lines_of(prompt)[: first - 1])
    return ""


def _body(prompt: str, completion: str) -> str | None:
    """Return the completion without what follows the body; None if no part of it continues the prompt."""
    lines = lines_of(completion)
    margins = [at for at, line in enumerate(lines) if at and line.strip() and not line[0].isspace()]
    for end in [len(lines), *margins[: -MAX_CUTS - 1 : -1], *margins[:1]]:
        kept = "".join(lines[:end])
        if kept.strip() and compiles(prompt + kept):
            return kept
    return None


def _indented(prompt: str, body: str) -> list[str]:
    """Return the prompt with a body that lost its margin: that of the first line, or of all lines."""
    last = next((line for line in reversed(bare_lines(prompt)) if line.strip()), "")
    margin = re.match(r"[ \t]*", last).group()
    margin += "    " if last.rstrip().endswith(":") else ""
    start = prompt if prompt.endswith("\n") else f"{prompt}\n"
    return [
        f"{start}{margin}{body.lstrip(' ')}",
        start + "".join(f"{margin}{line}\n" for line in bare_lines(body)),
    ]


def _with_function(program: str, entry_point: str) -> str:
    """Return the program with LeetCode's method under the name that was asked for, if it has no function."""
    if not _leetcode(program, entry_point):
        return program
    return f"{program.rstrip()}\n\n\n{entry_point} = {LEETCODE}().{entry_point}\n"


def with_class(program: str, method: str) -> str:
    """Return the program with a function as LeetCode's method, if it has the function and not the class."""
    if not defines(program, method) or defines(program, LEETCODE):
        return program
    return f"{program.rstrip()}\n\n\nclass {LEETCODE}:\n    {method} = staticmethod({method})\n"


def _leetcode(program: str, entry_point: str) -> bool:
    """Return whether only a class `Solution` defines the function, beside at most a prompt's open one."""
    tree = parse(program)
    for node in tree.body if tree and entry_point != LEETCODE else ():
        if isinstance(node, FUNCTIONS) and node.name == entry_point and not _is_open(node):
            return False
    return any(
        isinstance(method, FUNCTIONS) and method.name == entry_point and not method.decorator_list
        for node in (tree.body if tree and entry_point != LEETCODE else ())
        if isinstance(node, ast.ClassDef) and node.name == LEETCODE
        for method in node.body
    )


def _is_open(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function has no body beside its docstring."""
    return all(isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant) for n in function.body)
