"""Which name a call gives its argument to: by its own name, or by the argument before."""

from __future__ import annotations

import re
from typing import NamedTuple

from helpers.code.assignment_targets import is_secret_string
from helpers.code.assignment_words import (
    AUTHENTICATES,
    BEARS,
    COMPARES,
    COMPARING,
    EXPECTING,
    FALLS_BACK,
    FILLS,
    GETS,
    GETTER,
    GIVES,
    KEYED,
    LOGS_IN,
    OPENS,
    SAME_VALUE,
    SETS,
    TELLS,
)
from helpers.code.bracketed import FORWARD, Bracketed
from helpers.code.secret_names import PASSWORD, SECRET, parts_of_name, strength_of

COPIES = re.compile(r"cpy|cmp|equal|compare|cat|set|assign|define|flag|printf", re.IGNORECASE)
# The name in a selector of a page: `#password`, `input[name=password]`.
SELECTED = re.compile(r"(?:^[#.]|\[(?:name|id|type|data-[\w-]+)=[\"']?)([\w-]+)")
# The name before the last directive of a format: `PASSWORD=%s`.
FORMATTED = re.compile(r"\A\W*([A-Za-z_][\w-]*)[\"']?\s*[=:]\s*(?:[A-Z][a-z]+ )?(?:%s|\{\})[^%{}]{0,4}\Z")


CHECKS = re.compile(r"(?i:check|verify)(?=[A-Z_])_?")
OPTION_OF = re.compile(r"--([A-Za-z][\w-]*)[ =][<\[][^<>\[\]]*[>\]]\Z")  # of a command: --password <value>
ONLY_PLACES = re.compile(r"(?:\{\d?\}|%s)+")
LOOKUPS = {"var", "getenv", "get", "env", "var_os"}
MAX_TOKENS_OF_LOOKUP = 8
COMPARING_MODULES = {"assert", "require", "expect"}


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
    if joins(code, bracket):
        return None
    named, nth = _named_arguments(code, bracket, at)
    callee = code.tokens[caller].text
    chain = "".join(code.text(k) for k in range(max(0, caller - 2), caller + 1))
    if COMPARING.search(callee) or code.text(caller - 2) in COMPARING_MODULES:
        name = _compared(code, bracket, at)
        if strength_of(name) >= SECRET or (name and not KEYED.search(chain)):
            return Given(name, True)
        named = []
    if name := _selected(code, caller):
        return Given(name, True)
    if named:
        name = named[-1]
        gives = COPIES.search(callee) or not GIVES.isdisjoint(parts_of_name(chain))
        return Given(name.lstrip("*"), bool(COPIES.search(callee) if name.startswith("*") else gives))
    if callee in COMPARES and nth == 0 and code.text(caller - 1) in (".", "->", "::"):
        receiver = code.text(caller - 2)
        if strength_of(receiver):
            return Given(receiver, True)
    if nth >= 1 and AUTHENTICATES.search(chain):
        return Given("password", True)
    if nth >= 1 and LOGS_IN.search(chain):
        return Given("credentials", False)
    if KEYED.search(chain):
        return Given("secret", False)
    if BEARS.search(callee) and nth == 0:
        return Given("bearer", True)
    return _given_by_callee(callee, nth, neutral)


def joins(code: Bracketed, bracket: int) -> bool:
    """Return whether what a bracket encloses is joined, as by `concat!(...)` or `"".join([...])`."""
    if bracket < 0:
        return False
    names = [code.text(k) for k in range(max(0, bracket - 3), bracket)]
    closing = code.closer.get(bracket, -1)
    if {"concat", "join"} & set(names) or (closing > 0 and code.text(closing + 2) == "join"):
        return True
    by_macro, by_sign, by_method = bracket + 1, bracket - 2, bracket - 3
    return (
        ("format" in names and (_only_places(code, by_macro) or _only_places(code, by_method)))
        or (code.text(bracket - 1) == "%" and _only_places(code, by_sign))
    )  # fmt: skip


def _only_places(code: Bracketed, at: int) -> bool:
    """Return whether a string holds nothing but places for other strings."""
    return code.is_string(at) and bool(ONLY_PLACES.fullmatch(code.tokens[at].text))


def _named_arguments(code: Bracketed, bracket: int, at: int) -> tuple[list[str], int]:
    """Return the secrets' names among the arguments before a token, variables with a star, and its number."""
    named: list[str] = []
    k = max(bracket + 1, at - FORWARD)
    nth = 0
    callee = code.text(bracket - 1)
    while k < at:
        if code.text(k) in OPENS and callee not in FILLS:
            close = code.closer.get(k, k)
            k = close if close < at else k
        elif code.text(k) == ",":
            nth += 1
        elif code.is_string(k) and code.text(k - 1) in ("(", ",", "\n"):
            named += _names_in_string(code, k, callee)
        elif code.is_name(k) and strength_of(code.text(k)) and code.text(k + 1) == ",":
            named.append("*" + code.text(k))
        k += 1
    return named, nth


def _names_in_string(code: Bracketed, at: int, callee: str) -> list[str]:
    """Return the secret's name that a string argument holds and that the next argument is given to."""
    text = code.tokens[at].text
    if formatted := FORMATTED.search(text):
        return [formatted.group(1)] if strength_of(formatted.group(1)) else []
    if callee in TELLS:
        return []
    if callee in FILLS and (selected := SELECTED.search(text)):
        return [selected.group(1)] if strength_of(selected.group(1)) else []
    if option := OPTION_OF.search(text):
        return [option.group(1)] if strength_of(option.group(1)) else []
    return [text] if is_secret_string(code, at) else []


def _compared(code: Bracketed, bracket: int, at: int) -> str:
    """Return the secret's name among the other arguments of a call that compares."""
    for begin in code.arguments(bracket):
        name = GETTER.sub("", code.operand(begin)) if begin != at else ""
        if strength_of(name):
            return name
        for k in range(begin, min(begin + MAX_TOKENS_OF_LOOKUP, at)):
            if code.is_string(k) and code.text(k - 2) in LOOKUPS and is_secret_string(code, k):
                return code.tokens[k].text
    return ""


def _selected(code: Bracketed, caller: int) -> str:
    """Return the secret's name in a call before, of what is filled: `entry("...").or_insert("...")`."""
    k = caller - 2
    callee = code.text(caller)
    while code.text(k) in ("not", "resolves", "rejects") and code.text(k - 1) == ".":
        k -= 2  # expect(password).not.toBe("...")
    while code.text(k + 1) in (".", "->") and k in code.opener:
        opened = code.opener[k]
        before = code.text(opened - 1)
        if before in EXPECTING:
            return name if strength_of(name := GETTER.sub("", code.operand(opened + 1))) else ""
        if callee == "arg" and code.is_string(k - 1) and code.tokens[k - 1].text.startswith("--"):
            return code.tokens[k - 1].text if is_secret_string(code, k - 1) else ""  # the option before
        for at in range(opened + 1, k) if callee in FALLS_BACK else ():
            if code.is_string(at) and is_secret_string(code, at):  # env::var("TOKEN").unwrap_or("...")
                return code.tokens[at].text
        for at in range(opened + 1, k) if callee in FILLS else ():
            if code.text(at - 1) == "&" and strength_of(code.text(at)):
                return code.text(at)  # value<string>(&password)->default_value("...")
            if code.is_string(at) and (names := _names_in_string(code, at, callee)):
                return names[0]
        k = opened - 3
    return ""


def _given_by_callee(callee: str, nth: int, neutral: bool) -> Given | None:
    """Return what the name of a call alone says about its nth argument."""
    strength = strength_of(callee)
    setter = SETS.match(callee)
    if setter and nth in (0, 2) and strength_of(callee[setter.end() :]):
        return Given(callee[setter.end() :], True)
    if nth == 0 and (checker := CHECKS.match(callee)) and strength_of(callee[checker.end() :]) == PASSWORD:
        return Given(callee[checker.end() :], False)
    if strength and not neutral:
        if callee[0].isupper() and strength < SECRET:
            return Given(callee, False)
        is_plain = not _gets(callee) and parts_of_name(callee)[0] not in ("make", "hash", "check", "is")
        return Given(callee if is_plain else "", nth == 0 and is_plain and callee not in SAME_VALUE)
    if _gets(callee) and callee not in SAME_VALUE and not neutral:
        return Given("", False)
    if callee in LOOKUPS | {"config"} and nth == 0 and not neutral:
        return Given("", False)
    return None


def is_looked_up(code: Bracketed, bracket: int) -> bool:
    """Return whether a call's result is asked for something at once: `Entry("app", "me").get_password()`."""
    after = code.closer.get(bracket, len(code.tokens)) + 1
    after += code.text(after) == "?"
    callee = code.text(after + 1)
    return (
        code.text(after) == "." and code.text(after + 2) == "(" and callee not in SAME_VALUE and _gets(callee)
    )


def _gets(callee: str) -> bool:
    """Return whether a call looks something up, so that what it is given names a value."""
    words = parts_of_name(callee) or [callee]
    return words[0] in GETS or words[-1] in ("argument", "option")
