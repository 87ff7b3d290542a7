"""The program that a completion makes of a prompt: a continued body, a whole answer, a fenced block.

Nothing of an answer is mended. A completion continues the prompt as it is if that compiles. If it does not,
lines after the body are dropped (a closing fence, prose, a function that was cut off), or the code of a
chat answer is taken.
"""

from __future__ import annotations

import ast
import re
import warnings

from helpers.code.extraction import defines, extract_code, parse
from helpers.lines import bare_lines, lines_of

MAX_CUTS = 200  # places where a body may end that are tried
SCRIPT_ENTRY = "run_script"
SCRIPT = """SOURCE = {source!r}


def run_script(text):
    import io
    import sys

    before, output = (sys.stdin, sys.stdout), io.TextIOWrapper(io.BytesIO(), write_through=True)
    sys.stdin, sys.stdout = io.TextIOWrapper(io.BytesIO(text.encode())), output
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
    plain = prompt + completion
    fenced = "```" in completion or "~~~" in completion
    if not fenced and compiles(plain):
        return plain
    if prompt and completion.lstrip("\r\n")[:1].isspace():
        kept = _body(prompt, completion)
        if kept is not None:
            return prompt + kept
    code = extract_code(completion, entry_point=entry_point)
    if code is not None and (not prompt or defines(code, entry_point)):
        return preamble(prompt, entry_point) + code
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(code, "solution.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


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
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        if isinstance(node, kinds) and node.name == entry_point:
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
