"""Fenced blocks of a Markdown text (CommonMark 0.31, section 4.5), as models write them.

This goes beyond the standard. A fence may open after words on the same line and close after code. A
Python block that does not parse is extended to a later closing fence, because its docstring may contain
one. A fence that never closes ends with the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from helpers.code.python_text import parse, without_margin
from helpers.lines import with_newlines

OPENING = re.compile(r"^(?:.*?(?P<ticks>`{3,})|[ \t]*(?P<tildes>~{3,}))[ \t]*(?P<info>[^`]*)$")
INLINE = re.compile(r"```(?:python|py)?[ \t]*(\S[^\n`]*)```")
MOST_TRIED = 8  # closing fences tried for one block
PYTHON_TAGS = {"", "python", "py", "python3", "py3", "pycon", "ipython", "language-python", "sage"}


@dataclass(frozen=True)
class Block:
    """One fenced block: its lower-case `tag`, its `content` without margin, and its lines in the text."""

    tag: str
    content: str
    first_line: int  # 0-based line of the opening fence
    last_line: int  # line of the closing fence, or the text's last line
    closed: bool = True

    @property
    def is_python(self) -> bool:
        """Whether it may be Python: it is tagged so, or has no tag."""
        return self.tag in PYTHON_TAGS


def fenced_blocks(text: str) -> list[Block]:
    """Return all blocks in order; none lies inside another."""
    lines = with_newlines(text).split("\n")
    blocks: list[Block] = []
    at = 0
    while at < len(lines):
        opening = OPENING.match(lines[at])
        if opening and not INLINE.search(lines[at]):
            blocks.append(_block(lines, at, opening))
            at = blocks[-1].last_line
        at += 1
    return blocks


def without_blocks(text: str) -> str:
    """Return the text outside the blocks."""
    lines = with_newlines(text).split("\n")
    for block in reversed(fenced_blocks(text)):
        del lines[block.first_line : block.last_line + 1]
    return "\n".join(lines)


def _block(lines: list[str], start: int, opening: re.Match) -> Block:
    fence, tag = opening["ticks"] or opening["tildes"], _tag(opening["info"])
    ends = islice(_closings(lines, start, fence), MOST_TRIED)
    rest = Block(tag, without_margin("\n".join(lines[start + 1 :])), start, len(lines) - 1, closed=False)
    whole = [
        Block(tag, without_margin("\n".join([*lines[start + 1 : end], *last])), start, end)
        for end, last in ends
    ]
    if not whole:
        return rest
    parsing = (block for block in [*whole, rest] if block.content.strip() and parse(block.content))
    return next(parsing, whole[0]) if whole[0].is_python else whole[0]


def _closings(lines: list[str], start: int, fence: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each fence that may close the block opened at `start`: its line number, and code before it."""
    closing = re.compile(rf"^(.*?)[ \t]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$")
    for number in range(start + 1, len(lines)):
        found = closing.match(lines[number])
        if found:
            yield number, [found.group(1)] if found.group(1).strip() else []


def _tag(info: str) -> str:
    """Return `python` for `python title="x"`, `{.python}`, `Python 3` and `python:main.py`."""
    word = re.match(r"[{.\s]*([\w+-]*)", info)
    return word.group(1).lower() if word else ""
