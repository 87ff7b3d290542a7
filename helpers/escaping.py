"""Text of a repository, written so that Markdown shows it as it is and loads nothing.

File names, licences, branches, docstrings and messages that quote them may hold anything: images, HTML,
formulas, pipes, backticks. Whatever Markdown would read as more than text becomes a code span, which no
renderer looks into. HTML is escaped where it is written, by `html.escape` or a template.
"""

from __future__ import annotations

import html
import re
from itertools import zip_longest

# A code span that our own messages hold; a repository's is as harmless.
SPAN = re.compile(r"(?<!\S)([(“]*`[^`]+`[,;:.)”]*)(?!\S)")
WRITTEN_SPAN = re.compile(r"((?<!`)(`+)(?!`).+?(?<!`)\2(?!`))")
SPACES = re.compile(r"[ \t\r\n\f\v\x1c-\x1f\x85\u2028\u2029]+")
# Controls, halves of surrogate pairs, and marks that turn the direction of the text around.
UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
HALVES = re.compile("[\ud800-\udfff]")
SPECIAL = re.compile(
    r"[`$~\\*]|\b_|_\b"  # code, formula, emphasis
    r"|<[A-Za-z/!?]|&#?\w"  # HTML
    r"|!\[|\][(\[:]|\w://|\bwww\."  # image, link
)
STRICTLY_SPECIAL = re.compile(rf"{SPECIAL.pattern}|[_<>\[\]]")
AT_START = re.compile(r"#.*|>.*|[-+=:]+|\d{1,9}[.)]")  # a heading, quotation, rule or list
PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
PUNCTUATED = re.compile(r"([(“]*)(.*?)([,;:.)”]*)", re.DOTALL)


def visible(text: str) -> str:
    """Return `text` with characters that cannot be seen or stored written as escapes, such as `\\x1b`.

    Line ends and tabs stay, and so do letters and symbols of every alphabet.

    >>> visible("a\\x1b[31m")
    'a\\\\x1b[31m'
    """
    return UNSEEN.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def storable(text: str) -> str:
    """Return `text` with lone halves of surrogate pairs as escapes; no file or tokenizer takes them.

    A string literal may hold one (`"\\ud800"`), and so may JSON.
    """
    return text.encode("utf-8", "backslashreplace").decode() if HALVES.search(text) else text


def inline(text: str, *, names_as_code: bool = False) -> str:
    """Return `text` on one line of Markdown, words with a meaning in Markdown as code spans.

    The result is safe inside a paragraph, a list item or a heading; use `cell` in a table. Code spans of
    the text stay.

    Args:
        names_as_code: also set words as code that only look technical (`a_name`, `[x]`, `a<b`).

    >>> inline("see ![logo](https://example.org/a.png) by me")
    'see `![logo](https://example.org/a.png)` by me'
    """
    special = STRICTLY_SPECIAL if names_as_code else SPECIAL
    parts = SPAN.split(SPACES.sub(" ", visible(text)).strip(" "))
    shown = []
    for place, part in enumerate(parts):
        if place % 2:  # a code span, as `SPAN` has one group
            shown.append(part)
            continue
        words = part.split(" ")
        shown.append(" ".join(_word(word, special) for word in words))
    line = "".join(shown)
    first, blank, rest = line.partition(" ")
    return f"{code_span(first)}{blank}{rest}" if AT_START.fullmatch(first) else line


def cell(text: str, *, names_as_code: bool = False) -> str:
    """Return `text` as the cell of a Markdown table: `inline`, no pipe of which ends the cell.

    >>> cell("a|b `c|d`")
    'a\\\\|b <code>c&#124;d</code>'
    """
    line = inline(text, names_as_code=names_as_code)
    parts = WRITTEN_SPAN.split(line)  # text, then (span, its backticks, text) for each span
    between = [part.replace("|", "\\|") for part in parts[::3]]
    written = zip(parts[1::3], parts[2::3], strict=True)
    spans = [_html_span(span, len(fence)) if "|" in span else span for span, fence in written]
    return "".join(text for pair in zip_longest(between, spans, fillvalue="") for text in pair)


def code_span(text: str) -> str:
    """Return `text` as a code span on one line, in more backticks than it holds in a row.

    >>> code_span("a`b")
    '``a`b``'
    """
    line = SPACES.sub(" ", visible(text))
    fence = _longer_than(line, 1)
    room = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{room}{line}{room}{fence}" if line.strip() else ""


def code_block(text: str, language: str = "text") -> str:
    """Return `text` as a fenced code block, in a fence so long that no line of it can close it."""
    body = visible(text.replace("\r\n", "\n").replace("\r", "\n")).rstrip()
    fence = _longer_than(body, 3)
    return f"{fence}{language}\n{body}\n{fence}"


def html_text(text: str) -> str:
    """Return `text` for the inside of an HTML element, its line ends as `<br>`.

    >>> html_text("<b>\\n&")
    '&lt;b&gt;<br>&amp;'
    """
    return html.escape(visible(text)).replace("\n", "<br>")


def _word(word: str, special: re.Pattern[str]) -> str:
    if not special.search(word):
        return word
    before, core, after = PUNCTUATED.fullmatch(word).groups()  # type: ignore[union-attr]
    while after.startswith(")") and core.count("(") > core.count(")"):
        core, after = f"{core})", after[1:]
    return f"{before}{code_span(core)}{after}" if special.search(core) else code_span(word)


def _longer_than(text: str, least: int) -> str:
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def _html_span(span: str, fence: int) -> str:
    """Return a code span as HTML without a pipe, which no Markdown dialect shows in a cell's code alike."""
    text = span[fence:-fence].strip(" ")
    return f"<code>{PUNCTUATION.sub(lambda sign: f'&#{ord(sign.group())};', text)}</code>"
