"""Python as text: parse it without a fuss, take a common margin off."""

from __future__ import annotations

import ast
import re
import warnings


def parse(code: str) -> ast.Module | None:
    """The syntax tree, or None; warnings about odd escapes are the model's affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def without_margin(text: str) -> str:
    """`text` with the common margin of its lines taken off; lines of white space keep what is beyond it.

    `textwrap.dedent` empties such lines, which changes strings that run over several lines.
    """
    lines = text.split("\n")
    margins = [re.match(r"[ \t]*", line).group(0) for line in lines if line.strip()]
    if not margins:
        return text
    margin = min(margins, key=len)
    while margin and not all(other.startswith(margin) for other in margins):
        margin = margin[:-1]
    if not margin:
        return text
    return "\n".join(line[len(margin) :] if line.startswith(margin) else line.lstrip(" \t") for line in lines)


def parse_or_reason(text: str) -> ast.Module | str:
    """The syntax tree, or one line that says where and why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the code under study are not ours
            return ast.parse(text)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except ValueError as error:
        return str(error)
    except (RecursionError, MemoryError):
        return "nested too deeply for the parser"
