"""Fenced blocks of a Markdown text (CommonMark 0.31, section 4.5), as models write them.

Beyond the standard: a fence may open behind words on the same line and close behind code; a block
that holds Python goes on to a later closing fence where it does not parse before (a docstring may
show a fence of its own); a fence that never closes ends with the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from helpers.code.python_text import parse, without_margin

OPENING = re.compile(r"^(?:.*?(?P<ticks>`{3,})|[ \t]*(?P<tildes>~{3,}))[ \t]*(?P<info>[^`]*)$")
INLINE = re.compile(r"```(?:python|py)?[ \t]*(\S[^\n`]*)```")
MOST_TRIED = 8  # closing fences
PYTHON_TAGS = {"", "python", "py", "python3", "py3", "pycon", "ipython", "language-python", "sage"}


@dataclass(frozen=True)
class Block:
    """One fenced block: `tag` in lower case, `content` without its margin, its lines in the text."""

    tag: str
    content: str
    first_line: int  # 0-based, of the opening fence
    last_line: int  # of the closing fence, or the last of the text
    closed: bool = True

    @property
    def is_python(self) -> bool:
        """Whether its tag, or the lack of one, lets it hold Python."""
        return self.tag in PYTHON_TAGS


def fenced_blocks(text: str) -> list[Block]:
    """All blocks in order; none lies inside another."""
    lines = text.split("\n")
    blocks: list[Block] = []
    at = 0
    while at < len(lines):
        opening = OPENING.match(lines[at])
        if opening is None or INLINE.search(lines[at]):
            at += 1
            continue
        block = _block(lines, at, opening)
        blocks.append(block)
        at = block.last_line + 1
    return blocks


def without_blocks(text: str) -> str:
    """The text outside of the blocks."""
    lines: list[str | None] = list(text.split("\n"))
    for block in fenced_blocks(text):
        lines[block.first_line : block.last_line + 1] = [None] * (block.last_line + 1 - block.first_line)
    return "\n".join(line for line in lines if line is not None)


def _block(lines: list[str], start: int, opening: re.Match) -> Block:
    fence, tag = opening["ticks"] or opening["tildes"], _tag(opening["info"])
    ends = list(_closings(lines, start, fence))
    rest = Block(tag, without_margin("\n".join(lines[start + 1 :])), start, len(lines) - 1, closed=False)
    whole = [
        Block(tag, without_margin("\n".join([*lines[start + 1 : end], *last])), start, end)
        for end, last in ends[:MOST_TRIED]
    ]
    if not whole:
        return rest
    if whole[0].is_python:
        parsing = (block for block in [*whole, rest] if block.content.strip() and parse(block.content))
        return next(parsing, whole[0])
    return whole[0]


def _closings(lines: list[str], start: int, fence: str) -> Iterator[tuple[int, list[str]]]:
    """(line, what stands before the fence on it) of fences that may close one opened at `start`."""
    closing = re.compile(rf"^(.*?)[ \t]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$")
    for number in range(start + 1, len(lines)):
        found = closing.match(lines[number])
        if found:
            yield number, [found.group(1)] if found.group(1).strip() else []


def _tag(info: str) -> str:
    """`python` of `python title="x"`, `{.python}`, `Python 3`, `python:main.py`."""
    word = re.match(r"[{.\s]*([\w+-]*)", info)
    return word.group(1).lower() if word else ""
