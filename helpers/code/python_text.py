"""Python as text: parse it without exceptions or warnings, and remove a common margin."""

from __future__ import annotations

import ast
import os
import re
import tokenize
import warnings
from collections.abc import Iterator

from helpers.lines import bare_lines


def parse(code: str) -> ast.Module | None:
    """Return the syntax tree, or None if there is none; warnings about the code are suppressed."""
    tree = parse_or_reason(code)
    return None if isinstance(tree, str) else tree


def without_margin(text: str) -> str:
    """Remove the common margin of all lines; whitespace-only lines keep what lies beyond it.

    `textwrap.dedent` would empty such lines and so change multi-line strings.
    """
    lines = text.split("\n")
    margins = [re.match(r"[ \t]*", line).group() for line in lines if line.strip()]
    margin = os.path.commonprefix(margins)  # noqa: RUF071 (these are no paths)
    if not margin:
        return text
    return "\n".join(line[len(margin) :] if line.startswith(margin) else line.lstrip(" \t") for line in lines)


def tokenize_python(code: str) -> Iterator[tokenize.TokenInfo]:
    """Yield the tokens of `code`, on the lines on which the parser sees them; columns count characters.

    Raises:
        tokenize.TokenError, SyntaxError: where the tokenizer stops.
    """
    return tokenize.generate_tokens((f"{line}\n" for line in bare_lines(code)).__next__)


def parse_or_reason(text: str) -> ast.Module | str:
    """Return the syntax tree, or one line that says where and why the text does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the code under study are not our concern
            return ast.parse(text)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except ValueError as error:
        return str(error)
    except (RecursionError, MemoryError):
        return "nested too deeply for the parser"
