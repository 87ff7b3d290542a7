"""Which name a string literal is given to, in any form of assignment of the supported languages.

The tokens before a literal are read backwards: an operator (`=`, `:=`, `:`, `=>`, `==`, `or`, `||`, ...)
leads to the name it assigns to (`assignment_targets`), a bracket to the call (`assignment_calls`), container
or entry around it. So `password: str = "..."`, `{"password": "..."}`, `environ.get("PASSWORD", "...")`,
`add_argument("--password", default="...")`, `#define PASSWORD "..."` and `user, password = "...", "..."`
are read by the same few rules. Their words are in `assignment_words`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from helpers.code.assignment_calls import ONLY_PLACES, given_by_call, is_looked_up, joins
from helpers.code.assignment_targets import (
    after_lambda,
    defined,
    is_entry,
    is_named,
    is_neutral,
    is_secret_string,
    name_in_lead,
    name_of_branch,
)
from helpers.code.assignment_words import (
    BRANCHES,
    COMPARES,
    DEFINES,
    DESCRIBING,
    GETTER,
    NAMING,
    SAME_VALUE,
    STATES,
    VALUE_ANNOTATIONS,
    holds_default,
)
from helpers.code.bracketed import Bracketed
from helpers.code.literals import COMMENT, STRING, Lexeme
from helpers.code.secret_names import SECRET, is_plural, parts_of_name, strength_of

MAX_BRACKETS = 6  # that a value may stand in, and still be given to a name outside them
MAX_DEPTH = 100  # of the brackets around a list or object that a name is sought for
MIN_PIECE_CHARS = 3
COMPARISONS = {"==", "===", "!=", "!=="}
MAX_TOKENS_OF_BODY, MAX_TOKENS_OF_TYPE = 40, 8
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
                or _compared_with(code, at, after)
                or _annotated(code, at)
                or _beside(code, at)
                or _returned_by(code, at)
                or (None if language else _stated(code, at))
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
    return [piece for piece in pieces if not ONLY_PLACES.fullmatch(piece.text)], end


def _name_of(code: Bracketed, at: int, nth: int = -1) -> Named | None:
    """Return the secret's name that the value at a token is given to, and whether directly.

    Args:
        nth: the place of the value within a tuple or list that was left; -1 for none.
    """
    direct = True
    wrapper: Named | None = None
    for _ in range(MAX_BRACKETS):
        lead, commas = code.lead(at)
        lead = after_lambda(code, lead)
        found = name_in_lead(code, lead, nth)
        if found is not None:
            if found and not _is_described(code, at):
                return found, direct
            return None if found else wrapper
        bracket = code.around[at]
        if bracket < 0:
            return defined(code, lead) or wrapper
        if code.text(bracket) != "(":
            return _in_container(code, at, lead, direct, commas) or wrapper
        caller = code.caller(bracket)
        neutral = is_neutral(code, lead)
        if lead and not neutral and is_named(code, lead):
            return None  # another argument's value
        if caller < 0:
            if not lead and (name := _named_before(code, at)):
                return name, direct and (name.startswith("-") or code.is_pair(bracket))
            nth, at = commas, bracket
            continue
        if is_looked_up(code, bracket):
            return wrapper
        given = given_by_call(code, bracket, caller, at, neutral)
        is_same_value = code.text(caller) in SAME_VALUE or joins(code, bracket)
        if given and not is_same_value:
            return (given.name, direct and given.direct) if given.name else wrapper
        if given and given.name:
            wrapper = (given.name, direct)
        direct = direct and (is_same_value or neutral)
        nth, at = -1, code.chain_start(caller)
    return None


def _in_container(code: Bracketed, at: int, lead: list[int], direct: bool, nth: int) -> Named | None:
    """Return the secret's name that a value in square brackets or braces is given to."""
    bracket = code.around[at]
    kind = code.text(bracket)
    caller = code.caller(bracket)
    is_indexed = (caller >= 0 and code.text(bracket - 1) != "!") or bracket - 1 in code.opener
    if kind == "[" and is_indexed:
        return None  # a subscript
    if not lead and (name := _named_before(code, at)):
        return name, direct and (name.startswith("-") or code.is_pair(bracket))
    if kind == "{" and not code.is_python:
        name = code.text(caller) if caller >= 0 and not lead else ""
        name = name if strength_of(name) else ""
        ends_block = not lead or code.text(lead[-1]) == "=>"
        if name or (ends_block and (name := name_of_branch(code, bracket))):
            return name, direct
    if kind == "{" and lead and holds_default(_key(code, lead)):
        return _of_object(code, bracket)
    outer = _outer_name(code, bracket, nth if kind == "[" else -1)
    if lead and kind == "{" and is_entry(code, lead):
        is_one_of_several = outer and (is_plural(outer) or _is_chosen_from(code, bracket))
        return (outer, direct and not is_plural(outer)) if is_one_of_several else None
    return (outer, direct) if outer and strength_of(outer) >= SECRET else None


def _key(code: Bracketed, lead: list[int]) -> str:
    """Return the key of an entry, or ""."""
    return code.tokens[lead[-2]].text if len(lead) >= 2 and code.text(lead[-1]) in ("=", ":") else ""


def _of_object(code: Bracketed, bracket: int) -> Named | None:
    """Return the secret's name that an object with a default is given to: `x("password", {default: ...})`."""
    is_labelled = code.is_string(bracket - 1) and is_secret_string(code, bracket - 1)  # a block of HCL
    label = code.tokens[bracket - 1].text if is_labelled else ""
    name = label or _named_before(code, bracket) or _outer_name(code, bracket, -1)
    return (name, True) if strength_of(name) >= SECRET else None


def _is_chosen_from(code: Bracketed, bracket: int) -> bool:
    """Return whether one entry of a dictionary is taken at once: `{"prod": "..."}[stage]`."""
    after = code.closer.get(bracket, len(code.tokens)) + 1
    return code.text(after) == "[" or (code.text(after), code.text(after + 1)) == (".", "get")


def _is_described(code: Bracketed, at: int) -> bool:
    """Return whether an entry only says something of its name: `ICONS = {"token": "..."}`."""
    bracket = code.around[at]
    if code.text(bracket) != "{" or code.caller(bracket) >= 0:
        return False
    lead, _ = code.lead(bracket)
    places = [place for place, k in enumerate(lead) if code.text(k) in ("=", ":")]
    if not places or not places[0]:
        return False
    words = parts_of_name(code.tokens[lead[places[0] - 1]].text)
    return bool(words) and not {words[-1], words[-1].removesuffix("s")}.isdisjoint(DESCRIBING)


def _outer_name(code: Bracketed, bracket: int, nth: int) -> str:
    """Return the secret's name that a list, set or dictionary is given to, or ""."""
    if code.depth[bracket] > MAX_DEPTH:
        return ""
    is_block = code.text(bracket) == "{" and not code.is_python
    if is_block and code.text(bracket - 1) in (")", "else", "try", ""):
        return ""
    found = _name_of(code, bracket, nth)
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


def _compared_with(code: Bracketed, at: int, after: int) -> Named | None:
    """Return the secret's name that follows a value and a comparison: `"..." == password`."""
    if code.text(after) == ")" and code.text(after + 1) in COMPARISONS | {"="}:
        after += 1
    name = ""
    is_pattern = code.text(after) == "=" and code.text(code.caller(code.around[at]) - 1) == "let"
    if code.text(after) in COMPARISONS or is_pattern:
        name = code.operand(after + 1)
    elif code.text(after) == "." and code.text(after + 1) in COMPARES and code.text(after + 2) == "(":
        name = code.operand(after + 3)
    name = GETTER.sub("", name)
    return (name, True) if strength_of(name) else None


def _annotated(code: Bracketed, at: int) -> Named | None:
    """Return the secret's name of an annotated field: `@Value("...") String key`."""
    lead, bracket = _own_argument(code, at)
    caller = code.caller(bracket) if bracket > 0 else -1
    neutral = is_neutral(code, lead)
    outer = code.around[caller] if caller > 0 else -1
    if caller > 0 and code.text(caller - 1) == "@" and (neutral or code.text(caller) in VALUE_ANNOTATIONS):
        k = code.closer.get(bracket, len(code.tokens)) + 1
    elif neutral and outer > 0 and code.text(outer) == "[" and code.text(outer - 1) == "#":
        k = code.closer.get(outer, len(code.tokens)) + 1
    else:
        return None
    names: list[str] = []
    while k < len(code.tokens) and code.text(k) not in (";", "=", "{", ")", ",", ":"):
        names += [code.text(k)] if code.is_name(k) else []
        k += 1
    return (names[-1], True) if names and strength_of(names[-1]) else None


def _own_argument(code: Bracketed, at: int) -> tuple[list[int], int]:
    """Return the lead and the bracket of the argument that a value is: `default = String::from("...")`."""
    lead, _ = code.lead(at)
    bracket = code.around[at]
    while code.text(bracket) == "(" and not is_named(code, lead):
        caller = code.caller(bracket)
        if code.text(caller) not in SAME_VALUE or code.text(caller - 1) == "@":
            break
        lead, _ = code.lead(code.chain_start(caller))
        bracket = code.around[caller]
    if code.text(bracket) == "{" and code.text(bracket - 1) == "(" and code.text(bracket - 3) == "@":
        bracket -= 1  # an annotation with an object: @Column({default: "..."})
    return lead, bracket


def _beside(code: Bracketed, at: int) -> Named | None:
    """Return the secret's name that stands beside a value: `{Name: "password", Value: "..."}`."""
    lead, bracket = _own_argument(code, at)
    if bracket < 0 or not is_neutral(code, lead):
        return None
    for begin in code.arguments(bracket):
        k = begin + 2
        is_name = code.text(begin + 1) in ("=", ":") and code.is_string(k) and k != at
        is_name = is_name and code.tokens[begin].text.lower() in NAMING
        if is_name and is_secret_string(code, k):
            return code.tokens[k].text, True
    return None


def _returned_by(code: Bracketed, at: int) -> Named | None:
    """Return the name of the function, a secret's, that returns a value or ends with it."""
    while code.text(code.around[at]) == "(":
        caller = code.caller(code.around[at])
        if code.text(caller) not in SAME_VALUE:
            break
        at = code.chain_start(caller)
    bracket = code.around[at]
    if code.text(at - 1) not in ("return", "{", "\n") or (code.text(bracket) or "{") != "{":
        return None
    for k in range(at - 1, max(-1, at - MAX_TOKENS_OF_BODY), -1):
        place = _function_at(code, k)
        if place > 0 and code.text(place) not in BRANCHES:
            name = GETTER.sub("", code.text(place))
            is_value = code.text(at - 1) == "return" or code.text(place - 1) == "fn"
            return (name, True) if strength_of(name) >= SECRET and is_value else None
    return None


def _function_at(code: Bracketed, k: int) -> int:
    """Return the token that names the function whose definition, or body, begins at a token, or -1."""
    if code.text(k) in DEFINES:
        return code.closer.get(k + 1, k) + 1  # after the receiver, as in Go: func (c Config) Name()
    if code.text(k) != "{":
        return -1
    before = k - 1
    while before > k - MAX_TOKENS_OF_TYPE and code.text(before) not in (")", "{", "}", ";", ""):
        before -= 1
    return code.opener.get(before, 0) - 1 if code.text(before) == ")" else -1


def _stated(code: Bracketed, at: int) -> Named | None:
    """Return the secret's name right before a value in prose: `the password is "..."`."""
    k = at - 1
    is_said = code.text(k) in ("is", "was")
    if code.text(k) in STATES:
        k -= 1
    name = code.text(k)
    if name.lower() == "pass" and not is_said:
        return None  # the verb: pass `verbosity=1` to
    return (name, True) if code.is_name(k) and strength_of(name) >= SECRET else None
