"""The first statement of a text that may break off anywhere, such as what a model writes.

No parser reads such a text, so the end is found by lines, indentation and brackets alone.
"""

from __future__ import annotations

import re

from helpers.code.literals import OTHER, lexemes
from helpers.lines import lines_of

# At a statement's own margin, these go on with it. A `case` is no such word: its `switch` holds it in
# brackets, and where the statement is itself a case, the next one ends it.
GOES_ON = re.compile(r"(?:else|elif|except|finally|catch)\b")
# Lines that only announce what follows: a decorator or annotation, the parameters of a template.
ANNOUNCES = re.compile(r"@[\w.$]+\s*(?:\(.*\))?|template\s*<.*>", re.DOTALL)
OPENING, CLOSING = frozenset("([{"), frozenset(")]}")


def first_statement(text: str, language: str) -> str:
    """Return the first statement of a text that may break off anywhere, without its last line's end.

    It goes on while brackets are open, lines are indented deeper than its first, or a line at its own margin
    begins with a word such as `else` or, in languages with braces, with the brace of its body.
    """
    taken: list[str] = []
    held: list[str] = []  # blank lines, which belong to it if it goes on
    margin, depth, begun = 0, 0, 0  # begun: the line of `taken` with which the last whole line of code began
    is_open = True
    for line in lines_of(text):
        bare = line.strip()
        if not bare:
            held.append(line)
            continue
        indent = len(line[: len(line) - len(line.lstrip())].expandtabs())
        goes_on = indent == margin and (GOES_ON.match(bare) or _is_body(bare, taken, language))
        if not (depth > 0 or is_open or indent > margin or goes_on):
            break
        margin = margin if any(part.strip() for part in taken) else indent
        taken += [*held, line]
        held = []
        depth = open_brackets("".join(taken), language)
        is_open = bare.endswith("\\")
        if depth <= 0 and not is_open:
            is_open = _announces("".join(taken[begun:]).strip(), language)
            begun = len(taken)
    return "".join(taken).rstrip("\r\n")


def statement_has_ended(text: str, language: str) -> bool:
    """Return whether `first_statement` of a text stays the same, whatever is written after it.

    That is so once a whole line of code stands behind the statement: a part of one may become an `else`.
    """
    whole = "".join(line for line in lines_of(text) if line.endswith(("\n", "\r")))
    return len(first_statement(whole, language)) < len(whole.rstrip())


def open_brackets(code: str, language: str) -> int:
    """Return how many brackets a piece of code opens more than it closes, outside strings and comments."""
    marks = [x.text for x in lexemes(code, language) if x.kind == OTHER]
    return sum(mark in OPENING for mark in marks) - sum(mark in CLOSING for mark in marks)


def _is_body(bare: str, taken: list[str], language: str) -> bool:
    """Return whether a line opens the body of the statement whose head was taken."""
    if language == "python" or not taken or not bare.startswith("{"):
        return False
    return not taken[-1].rstrip().endswith((";", "}"))


def _announces(line: str, language: str) -> bool:
    return line.startswith("@") if language == "python" else bool(ANNOUNCES.fullmatch(line))
