"""Which name a call gives its argument to: by its own name, or by the argument before."""

from __future__ import annotations

import re
from typing import NamedTuple

from helpers.code.assignment_targets import is_secret_string
from helpers.code.assignment_words import COMPARES, GETS, KEYED, LOGS_IN, OPENS, SAME_VALUE, SETS
from helpers.code.bracketed import FORWARD, Bracketed
from helpers.code.secret_names import SECRET, name_words, strength_of

COPIES = re.compile(r"cpy|cmp|equal|compare|cat|set|assign", re.IGNORECASE)


class Given(NamedTuple):
    """What a call says about its argument."""

    name: str  # the secret's name it is given to; "" for another
    direct: bool  # as it stands


def given_by_call(code: Bracketed, bracket: int, caller: int, at: int, neutral: bool) -> Given | None:
    """Return which name a call gives the argument at a token to, or None if it does not decide.

    Args:
        bracket: that opens the arguments.
        caller: the token that names what is called.
        neutral: whether the argument's own name says nothing, such as `default=`.
    """
    named, nth = _named_arguments(code, bracket, at)
    callee = code.tokens[caller].text
    if named:
        name = named[-1]
        return Given(name.lstrip("*"), not name.startswith("*") or bool(COPIES.search(callee)))
    if callee in COMPARES and nth == 0 and code.text(caller - 1) in (".", "->", "::"):
        receiver = code.text(caller - 2)
        if strength_of(receiver):
            return Given(receiver, True)
    chain = "".join(code.text(k) for k in range(max(0, caller - 2), caller + 1))
    if nth >= 1 and LOGS_IN.search(chain):
        return Given("credentials", False)
    if KEYED.search(chain):
        return Given("key", False)
    return _given_by_callee(callee, nth, neutral)


def joins(code: Bracketed, bracket: int) -> bool:
    """Return whether what a bracket encloses is joined, as by `concat!(...)` or `"".join([...])`."""
    if bracket < 0:
        return False
    names = [code.text(k) for k in range(max(0, bracket - 3), bracket)]
    closing = code.closer.get(bracket, -1)
    return bool({"concat", "join"} & set(names)) or (closing > 0 and code.text(closing + 2) == "join")


def _named_arguments(code: Bracketed, bracket: int, at: int) -> tuple[list[str], int]:
    """Return the secrets' names among the arguments before a token, variables with a star, and its number."""
    named: list[str] = []
    k = max(bracket + 1, at - FORWARD)
    nth = 0
    while k < at:
        if code.text(k) in OPENS:
            close = code.closer.get(k, k)
            k = close if close < at else k
        elif code.text(k) == ",":
            nth += 1
        elif code.is_string(k) and is_secret_string(code, k) and code.text(k - 1) in ("(", ",", "\n"):
            named.append(code.tokens[k].text)
        elif code.is_name(k) and strength_of(code.text(k)) and code.text(k + 1) == ",":
            named.append("*" + code.text(k))
        k += 1
    return named, nth


def _given_by_callee(callee: str, nth: int, neutral: bool) -> Given | None:
    """Return what the name of a call alone says about its nth argument."""
    strength = strength_of(callee)
    setter = SETS.match(callee)
    if setter and nth == 0 and strength_of(callee[setter.end() :]):
        return Given(callee[setter.end() :], True)
    if strength and not neutral:
        if callee[0].isupper() and strength < SECRET:
            return Given(callee, False)
        is_plain = not _gets(callee) and name_words(callee)[0] not in ("make", "hash", "check", "is")
        return Given(callee if is_plain else "", nth == 0 and is_plain and callee not in SAME_VALUE)
    if _gets(callee) and callee not in SAME_VALUE and not neutral:
        return Given("", False)
    if callee in ("getenv", "env", "config", "get", "var") and nth == 0 and not neutral:
        return Given("", False)
    return None


def _gets(callee: str) -> bool:
    """Return whether a call looks something up, so that what it is given names a value."""
    words = name_words(callee) or [callee]
    return words[0] in GETS or words[-1] in ("argument", "option")
