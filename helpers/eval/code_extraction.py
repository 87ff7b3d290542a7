"""The code in a model's answer: fences removed, chatter around it cut off."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings

FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+.-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.M | re.S)
PYTHON_TAGS = {"", "python", "py", "python3", "py3", "pycon", "ipython"}
STARTS = ("def ", "async def ", "class ", "import ", "from ", "@", "assert ", "if ", "for ", "try:", "with ")
MAX_LINES = 2000


def extract_code(response: str, *, entry_point: str | None = None) -> str | None:
    """Return the Python code of `response`, or None where it holds none that parses.

    Of several fenced blocks the first that defines `entry_point` counts, else the longest that
    parses. Without fences the whole answer is taken if it is code; else the longest run of lines
    that parses, from the first line that starts like code. An answer cut off in the middle yields
    None, or what stood complete before the cut.
    """
    text = response.replace("\r\n", "\n")
    for special in ("<|im_end|>", "<|endoftext|>", "<|im_start|>"):
        text = text.split(special, 1)[0]
    blocks = [
        textwrap.dedent(match.group(3))
        for match in FENCE.finditer(text)
        if match.group(2).lower() in PYTHON_TAGS
    ]
    codes = [code for code in map(_whole_or_run, blocks) if code]
    if entry_point:
        codes = [code for code in codes if defines(code, entry_point)] or codes
        if codes and defines(codes[0], entry_point):
            return codes[0]
    if codes:
        return max(codes, key=len)
    if blocks:
        return None
    return _whole_or_run(text)


def defines(code: str, name: str) -> bool:
    """Whether `code` parses and binds `name` at its top level by def, class or assignment."""
    tree = parse(code)
    if tree is None:
        return False
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            return True
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in node.targets
        ):
            return True
    return False


def parse(code: str) -> ast.Module | None:
    """The syntax tree, or None; warnings about odd escapes are the model's affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def is_code(code: str) -> bool:
    """Whether `code` parses and holds more than bare names and strings (as a line of prose may)."""
    tree = parse(code)
    if tree is None:
        return False
    inert = (
        ast.Name,
        ast.Constant,
        ast.Tuple,
        ast.Attribute,
        ast.Compare,
        ast.BinOp,
        ast.UnaryOp,
        ast.BoolOp,
    )
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, inert)) for node in tree.body)


def _whole_or_run(text: str) -> str | None:
    dedented = textwrap.dedent(text)
    if is_code(dedented):
        return dedented.strip("\n") + "\n"
    lines = dedented.splitlines()[:MAX_LINES]
    for start, line in enumerate(lines):
        if not line.startswith(STARTS):
            continue
        for end in _ends(lines, start):
            code = "\n".join(lines[start:end])
            if is_code(code):
                return code.strip("\n") + "\n"
    return None


def _ends(lines: list[str], start: int) -> list[int]:
    """Where a run from `start` may end, longest first: before lines that begin at the margin."""
    ends = [len(lines)]
    ends += [i for i in range(len(lines) - 1, start, -1) if lines[i] and not lines[i][0].isspace()]
    return ends
