"""Give every row of a Markdown table the same number of cells.

nbconvert's reader shows no table at all, only its text, if one row has a cell more or less than the others.
"""

from __future__ import annotations

import re

RULE = re.compile(r" {0,3}\|? *:?-+:? *(?:\| *:?-+:? *)*\|? *")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
CELL_END = re.compile(r"(?<!\\)\|")


def even_tables(text: str) -> str:
    """Return the Markdown `text` with empty cells added to every row that is shorter than another one.

    What stands in fenced code blocks stays as it is, and so does every table whose rows are even.

    >>> print(even_tables("| a | b |\\n| --- | --- |\\n| 1 | 2 | 3 |"))
    | a | b | |
    | --- | --- | --- |
    | 1 | 2 | 3 |
    """
    lines = text.split("\n")
    fence = ""
    place = 0
    while place < len(lines):
        line = lines[place]
        if found := FENCE.match(line):
            if not fence:
                fence = found[1]
            elif found[1].startswith(fence) and line.strip() == found[1]:
                fence = ""
        elif not fence and place and RULE.fullmatch(line) and "|" in line and "|" in lines[place - 1]:
            end = place
            while end + 1 < len(lines) and "|" in lines[end + 1] and not FENCE.match(lines[end + 1]):
                end += 1
            lines[place - 1 : end + 1] = _even(lines[place - 1 : end + 1])
            place = end
        place += 1
    return "\n".join(lines)


def _even(rows: list[str]) -> list[str]:
    """Return a table's lines, header and rule first, each with as many cells as the longest one."""
    counts = [len(_cells(row)) for row in rows]
    most = max(counts)
    if min(counts) == most:
        return rows
    filler = ["", " ---"] + [""] * len(rows)
    return [
        row if count == most else "|" + "|".join(_cells(row) + [f"{fill} "] * (most - count)) + "|"
        for row, count, fill in zip(rows, counts, filler, strict=False)
    ]


def _cells(row: str) -> list[str]:
    inner = row.strip().removeprefix("|")
    inner = re.sub(r"(?<!\\)\|$", "", inner)
    return CELL_END.split(inner)
