"""String literals, comments, names and operators of source text in any supported language.

One scanner reads all languages, since it has to read what is no file as well: code inside a string, a
comment, a message. It never fails. A quote that nothing closes counts as an operator.
"""

from __future__ import annotations

import re
from typing import NamedTuple

NAME, STRING, COMMENT, OTHER = "name", "string", "comment", "other"


class Lexeme(NamedTuple):
    """One token; `start` and `end` enclose what a string holds, or all of any other token."""

    kind: str
    text: str  # a string's content, without prefix and quotes
    start: int
    end: int
    prefix: str = ""  # letters before a string's quotes, in lower case


PLAIN = re.compile(
    r"(?P<space>[^\S\n]+)|(?P<newline>\n)|(?P<name>(?:[^\W\d]|\$)[\w$]*)|(?P<number>\d[\w.]*)"
    r"|(?P<op>:=|::|=>|->|===|!==|==|!=|<=|>=|\|\|=|\?\?=|\?:|\+=|\|\||&&|\?\?|.)",
    re.DOTALL,
)
# A token that begins no string or comment, with the spaces before it: this rule alone reads most tokens.
PLAIN_ALONE = re.compile(
    r"[^\S\n]*+(?:(?P<newline>\n)|(?P<name>(?:[^\W\d]|\$)[\w$]*+)(?![\"'`#])|(?P<number>\d[\w.]*+)"
    r"|(?P<op>:=|::|=>|->|===|!==|==|!=|<=|>=|\|\|=|\?\?=|\?:|\+=|\|\||&&|\?\?|[^\"'`#/\w\s$]))"
)
STRING_START = re.compile(r"[A-Za-z]{0,2}8?R?#{0,8}[\"'`]")
RAW_START = re.compile(r'(?:(b|c)?r(#*)"|(?:u8|[uUL])?R"([^\s()\\"]{0,16})\()')
PREFIX = re.compile(r"(?:[rRbBfFuUtT]{1,2}|u8|L|c)(?=[\"'])")
SIMPLE = {
    quote: re.compile(rf"(?:[^{quote}\\\n]|\\(?:.|\n))*{quote}", re.DOTALL) for quote in ('"', "'")
}  # fmt: skip
RUST = re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL)  # may hold line breaks
TRIPLE = {quote: re.compile(rf"(?:[^\\]|\\.)*?{quote * 3}", re.DOTALL) for quote in ('"', "'")}
BACKTICK = re.compile(r"(?:[^`\\]|\\.)*`", re.DOTALL)
GO_RAW = re.compile(r"[^`]*`")
CHARACTER = re.compile(r"(?:[^'\\\n]|\\[^\n']{0,9}'?)'")
HASH_COMMENT = re.compile(r"#[^\n]*")
SLASH_COMMENT = re.compile(r"//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
# A regular expression of JavaScript, where no value stands before the slash.
SLASHED = re.compile(r"/(?![*/])(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*")
BEFORE_SLASHED = set("(,=:[!&|?{};+") | {"return", "=>", "&&", "||", "==", "===", "\n"}
SCRIPTS = {"javascript", "typescript", "tsx"}
# A word of JavaScript after which a string may follow without a blank.
KEYWORD_BEFORE = re.compile(r"(?<![\w$])(?:return|case|typeof|in|of|from|import|else|yield|await|throw)\Z")
ANY = ""  # text of no known language


def lexemes(text: str, language: str = ANY) -> list[Lexeme]:
    """Return the tokens of a text in order; line breaks between them are tokens of their own."""
    found: list[Lexeme] = []
    at = 0
    before = "\n"
    name = PLAIN_ALONE.groupindex["name"]
    while at < len(text):
        if match := PLAIN_ALONE.match(text, at):
            group = match.lastindex or 0
            before = match[group]
            found.append(Lexeme(NAME if group == name else OTHER, before, match.start(group), match.end()))
            at = match.end()
            continue
        token, at = _next(text, at, language, before)
        if token:
            found.append(token)
            before = token.text if token.kind != STRING else '"'
    return found


def _next(text: str, at: int, language: str, before: str) -> tuple[Lexeme | None, int]:
    """Return the token at a place (None for a space) and where the next one begins."""
    character = text[at]
    if STRING_START.match(text, at) and (string := _string(text, at, language)):
        return string
    if (character == "#" and language in ("python", ANY)) or text.startswith(("//", "/*"), at):
        rule = HASH_COMMENT if character == "#" else SLASH_COMMENT
        is_comment = character == "#" or language not in ("python", ANY)
        if is_comment and (match := rule.match(text, at)):
            return Lexeme(COMMENT, match.group(), at, match.end()), match.end()
    is_slashed = character == "/" and language in SCRIPTS and before in BEFORE_SLASHED
    if is_slashed and (match := SLASHED.match(text, at)):
        return Lexeme(OTHER, "/", at, match.end()), match.end()
    match = PLAIN.match(text, at)
    if match.lastgroup == "space":
        return None, match.end()
    kind = NAME if match.lastgroup == "name" else OTHER
    return Lexeme(kind, match.group(), at, match.end()), match.end()


def _may_follow_name(text: str, at: int, language: str) -> bool:
    """Return whether a quote right after a letter begins a string, and is no apostrophe or lifetime."""
    quote = text[at]
    if language in SCRIPTS:  # the text of JSX holds apostrophes: <p>don't</p>
        return quote == "`" or bool(KEYWORD_BEFORE.search(text, max(0, at - 7), at))
    return language == "python" or (bool(language) and quote == '"')


def _string(text: str, at: int, language: str) -> tuple[Lexeme, int] | None:
    """Return the string literal that begins here and where it ends; None if there is none."""
    if at and (text[at - 1].isalnum() or text[at - 1] == "_") and not _may_follow_name(text, at, language):
        return None
    if language in ("rust", "c", "cpp", ANY) and (raw := RAW_START.match(text, at)):
        close = f'){raw.group(3)}"' if raw.group(3) is not None else '"' + raw.group(2)
        end = text.find(close, raw.end())
        return (
            (Lexeme(STRING, text[raw.end() : end], raw.end(), end, "r"), end + len(close))
            if end > 0
            else None
        )
    letters = PREFIX.match(text, at)
    prefix = letters.group() if letters else ""
    at += len(prefix)
    quote = text[at]
    if quote not in "\"'`":
        return None
    opened = at + 1
    rule = SIMPLE.get(quote)
    if quote == "`":
        rule = {"go": GO_RAW, "python": None, "rust": None}.get(language, BACKTICK)
    elif text.startswith(quote * 3, at) and language in ("python", "java", ANY):
        rule, opened = TRIPLE[quote], at + 3
    elif quote == '"' and language == "rust":
        rule = RUST
    elif quote == "'" and language not in ("python", ANY, *SCRIPTS):
        rule = CHARACTER
    match = rule.match(text, opened) if rule else None
    if not match:
        return None
    end = match.end() - (opened - at)
    return Lexeme(STRING, text[opened:end], opened, end, prefix.lower()), match.end()
