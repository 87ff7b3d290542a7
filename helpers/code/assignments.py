"""Which name a string literal is given to, in any form of assignment of the supported languages.

The tokens before a literal are read backwards: an operator (`=`, `:=`, `:`, `=>`, `==`, `or`, `||`, ...)
leads to the name it assigns to (`assignment_targets`), a bracket to the call (`assignment_calls`), container
or entry around it. So `password: str = "..."`, `{"password": "..."}`, `environ.get("PASSWORD", "...")`,
`add_argument("--password", default="...")`, `#define PASSWORD "..."` and `user, password = "...", "..."`
are read by the same few rules. Their words are in `assignment_words`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from helpers.code.assignment_calls import given_by_call, joins
from helpers.code.assignment_targets import (
    defined,
    is_entry,
    is_named,
    is_neutral,
    is_secret_string,
    name_in_lead,
)
from helpers.code.assignment_words import DEFINES, SAME_VALUE, VALUE_ANNOTATIONS
from helpers.code.bracketed import Bracketed
from helpers.code.literals import COMMENT, STRING, Lexeme
from helpers.code.secret_names import SECRET, is_plural, strength_of

MAX_BRACKETS = 6  # that a value may stand in, and still be given to a name outside them
MIN_PIECE_CHARS = 3
Named = tuple[str, bool]  # a secret's name, and whether a value is given to it as it stands


@dataclass(frozen=True)
class Assigned:
    """String literals that make one value, and the name it is given to."""

    name: str
    strength: int  # of `secret_names.strength_of`
    pieces: tuple[Lexeme, ...]
    direct: bool  # assigned as it stands, not through a call or a container


def assigned_strings(tokens: Sequence[Lexeme], language: str) -> Iterator[Assigned]:
    """Yield the values of string literals that are given to a name that promises a secret.

    Args:
        tokens: of `literals.lexemes`, comments and line breaks included.
        language: of the text; "" if it is none.
    """
    if not any(token.kind == STRING and len(token.text) >= MIN_PIECE_CHARS for token in tokens):
        return
    code = Bracketed([token for token in tokens if token.kind != COMMENT], language)
    after = 0
    for at in [at for at, token in enumerate(code.tokens) if token.kind == STRING]:
        if at < after:
            continue  # joined to the string before
        pieces, after = _joined(code, at)
        if any(len(piece.text) >= MIN_PIECE_CHARS for piece in pieces):
            found = (
                _name_of(code, at)
                or _compared_with(code, after)
                or _annotated(code, at)
                or _returned_by(code, at)
            )
            if found:
                name, direct = found
                yield Assigned(name, strength_of(name), tuple(pieces), direct)


def _joined(code: Bracketed, at: int) -> tuple[list[Lexeme], int]:
    """Return the literals that are joined from here on, by nothing or by +, and where they end."""
    pieces = [code.tokens[at]]
    end = at + 1
    glue = {"+", "\\", ","} if joins(code, code.around[at]) else {"+", "\\"}
    while True:
        following = end
        while code.text(following) == "\n":
            following += 1
        if code.text(following) in glue:
            following += 1
        elif following > end and code.around[at] < 0 and code.is_python:
            break  # the next line is a statement of its own
        while code.text(following) == "\n":
            following += 1
        if not code.is_string(following):
            break
        pieces.append(code.tokens[following])
        end = following + 1
    return pieces, end


def _name_of(code: Bracketed, at: int) -> Named | None:
    """Return the secret's name that the value at a token is given to, and whether directly."""
    direct = True
    nth = -1  # of the value within a tuple that was left
    wrapper: Named | None = None
    for _ in range(MAX_BRACKETS):
        lead, commas = code.lead(at)
        found = name_in_lead(code, lead, nth)
        if found is not None:
            return (found, direct) if found else wrapper
        bracket = code.around[at]
        if bracket < 0:
            return defined(code, lead) or wrapper
        if code.text(bracket) != "(":
            return _in_container(code, at, lead, direct)
        caller = code.caller(bracket)
        neutral = is_neutral(code, lead)
        if lead and not neutral and is_named(code, lead):
            return None  # another argument's value
        if caller < 0:
            if not lead and (name := _named_before(code, at)):
                return name, direct and (name.startswith("-") or code.is_pair(bracket))
            nth, at = commas, bracket
            continue
        given = given_by_call(code, bracket, caller, at, neutral)
        is_same_value = code.text(caller) in SAME_VALUE
        if given and not is_same_value:
            return (given.name, direct and given.direct) if given.name else wrapper
        if given and given.name:
            wrapper = (given.name, direct)
        direct = direct and is_same_value
        nth, at = -1, code.chain_start(caller)
    return None


def _in_container(code: Bracketed, at: int, lead: list[int], direct: bool) -> Named | None:
    """Return the secret's name that a value in square brackets or braces is given to."""
    bracket = code.around[at]
    kind = code.text(bracket)
    caller = code.caller(bracket)
    is_indexed = (caller >= 0 and code.text(bracket - 1) != "!") or bracket - 1 in code.opener
    if kind == "[" and is_indexed:
        return None  # a subscript
    if not lead and (name := _named_before(code, at)):
        return name, direct and (name.startswith("-") or code.is_pair(bracket))
    if kind == "{" and not code.is_python and caller >= 0 and not lead:
        name = code.text(caller)
        if strength_of(name):
            return name, direct
    outer = _outer_name(code, bracket)
    if lead and kind == "{" and is_entry(code, lead):
        return (outer, False) if outer and is_plural(outer) else None
    return (outer, direct) if outer and strength_of(outer) >= SECRET else None


def _outer_name(code: Bracketed, bracket: int) -> str:
    """Return the secret's name that a list, set or dictionary is given to, or ""."""
    is_block = code.text(bracket) == "{" and not code.is_python
    if is_block and code.text(bracket - 1) in (")", "else", "try", ""):
        return ""
    found = _name_of(code, bracket)
    return found[0] if found else ""


def _named_before(code: Bracketed, at: int) -> str:
    """Return the secret's name in the string just before a value, as in `("password", "...")`."""
    k = at - 1
    while code.text(k) == "\n":
        k -= 1
    if code.text(k) != ",":
        return ""
    k -= 1
    return code.tokens[k].text if code.is_string(k) and is_secret_string(code, k) else ""


def _compared_with(code: Bracketed, after: int) -> Named | None:
    """Return the secret's name that follows a value and a comparison: `"..." == password`."""
    name = code.text(after + 1)
    return (name, True) if code.text(after) in ("==", "===") and strength_of(name) else None


def _annotated(code: Bracketed, at: int) -> Named | None:
    """Return the secret's name of an annotated field, as in `@Value("...") String key`."""
    bracket = code.around[at]
    if bracket < 2 or code.text(bracket - 2) != "@" or code.text(bracket - 1) not in VALUE_ANNOTATIONS:
        return None
    k = code.closer.get(bracket, len(code.tokens)) + 1
    names = []
    while k < len(code.tokens) and code.text(k) not in (";", "=", "{", ")", ","):
        names.append(code.text(k))
        k += 1
    return (names[-1], True) if names and strength_of(names[-1]) else None


def _returned_by(code: Bracketed, at: int) -> Named | None:
    """Return the name of the function, a secret's, that returns a value or ends with it."""
    bracket = code.around[at]
    if code.text(at - 1) not in ("return", "{", "\n") or (code.text(bracket) or "{") != "{":
        return None
    for k in range(at - 1, max(-1, at - 40), -1):
        opened = code.opener.get(k - 1, -1) if code.text(k) == "{" else -1
        name = code.text(k + 1) if code.text(k) in DEFINES else code.text(opened - 1) if opened > 0 else ""
        if name:
            name = re.sub(r"^(?:get|default|load|read)_?(?=\w)", "", name)
            is_value = code.text(at - 1) == "return" or code.text(k) == "fn"
            return (name, True) if strength_of(name) >= SECRET and is_value else None
    return None
