r"""Lines of a text as Python's parser numbers them.

Python ends a line at "\n", "\r\n" or a lone "\r", and nowhere else. `str.splitlines` also breaks at form
feeds, vertical tabs, NEL, the separators FS, GS and RS, U+2028 and U+2029; `split("\n")` misses a lone
"\r". Whoever looks up a line by a number from a syntax tree, a traceback or a person takes the lines from
here.
"""

from __future__ import annotations

import io


def lines_of(text: str) -> list[str]:
    r"""Return the lines of `text` with their ends; joined, they are `text` again.

    >>> lines_of("a\x0cb\r\rc\r\nd")
    ['a\x0cb\r', '\r', 'c\r\n', 'd']
    """
    return io.StringIO(text, newline="").readlines()


def bare_lines(text: str) -> list[str]:
    r"""Return the lines of `text` without their ends.

    >>> bare_lines("a\u2028b\rc\n")
    ['a\u2028b', 'c']
    """
    return [line.rstrip("\r\n") for line in lines_of(text)]


def with_newlines(text: str) -> str:
    r"""Return `text` with "\n" for every line end.

    >>> with_newlines("a\r\nb\rc")
    'a\nb\nc'
    """
    return text.replace("\r\n", "\n").replace("\r", "\n")


def indented(text: str, indent: str) -> str:
    """Return `text` with `indent` before each line that is not blank.

    `textwrap.indent` would also indent after the other characters at which `str.splitlines` breaks.
    """
    return "".join(indent + line if line.strip() else line for line in lines_of(text))
