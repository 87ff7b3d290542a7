"""What an operator assigns to: the names left of `=`, `:`, `=>`, `==`, `or` before a value."""

from __future__ import annotations

from helpers.code.assignment_words import (
    ASSIGNS,
    BRANCHES,
    DECLARES,
    GETTER,
    HEADS,
    LABELS,
    NO_TARGETS,
    SAME_VALUE,
    TYPES,
    says_nothing,
)
from helpers.code.bracketed import Bracketed
from helpers.code.secret_names import IDENTIFIER, SECRET, strength_of

MAX_NAME_CHARS = 80
AUTHS = ("auth", "basic_auth", "credentials")


def name_in_lead(code: Bracketed, lead: list[int], nth: int) -> str | None:
    """Return the secret's name that a value is assigned to, "" for another name, None for no name.

    Args:
        lead: the tokens before the value in its statement or argument.
        nth: which value of a tuple it is; -1 if it is in none.
    """
    place = len(lead) - 1
    fallen_back = False
    while place >= 0:
        text = code.text(lead[place])
        if text in code.alternatives:
            fallen_back = True
        elif text in ASSIGNS:
            if text == ":" and any(code.text(k) == "?" for k in lead[:place]):
                place = next(p for p in range(place - 1, -1, -1) if code.text(lead[p]) == "?")
                continue
            names = _targets(code, lead, place, nth)
            if text == "=" and any(code.text(k) == "=>" for k in lead[place:]):
                names = [GETTER.sub("", name) for name in names]  # of a function that returns the value
            for name in names:
                if strength_of(name):
                    return name
            ends = text != "=>" and names and not any(map(says_nothing, names)) and not fallen_back
            if ends and not _goes_on_outside(code, lead, place):
                return ""
        elif text == "in" and place and strength_of(code.text(lead[place - 1])):
            return code.text(lead[place - 1])
        elif fallen_back and (name := _operand(code, lead[place])):
            return name
        place -= 1
    return None


def is_secret_string(code: Bracketed, at: int) -> bool:
    """Return whether a string holds a secret's name."""
    content = code.tokens[at].text.strip().rpartition("/")[2]
    return len(content) < MAX_NAME_CHARS and bool(IDENTIFIER.fullmatch(content)) and strength_of(content) > 0


def is_entry(code: Bracketed, lead: list[int]) -> bool:
    """Return whether a value has a key of its own."""
    return any(code.text(k) in (":", "=>", "=") for k in lead)


def is_named(code: Bracketed, lead: list[int]) -> bool:
    """Return whether an argument has a name of its own."""
    return any(code.text(k) in ("=", ":") for k in lead)


def after_lambda(code: Bracketed, lead: list[int]) -> list[int]:
    """Return what follows the head of a lambda that an argument consists of: `f(lambda x: "...")`."""
    if not lead or code.text(lead[0]) != "lambda":
        return lead
    colons = [place for place, k in enumerate(lead) if code.text(k) == ":"]
    return lead[colons[0] + 1 :] if colons else lead


def is_neutral(code: Bracketed, lead: list[int]) -> bool:
    """Return whether an argument's name says nothing, such as `default=`."""
    for place, k in enumerate(lead):
        if code.text(k) in ("=", ":"):
            return place > 0 and says_nothing(code.tokens[lead[place - 1]].text)
    return False


def name_of_branch(code: Bracketed, bracket: int) -> str:
    """Return the secret's name that a block's value is assigned to: `let key = match x { _ => "..." }`."""
    lead, _ = code.lead(bracket)
    for place, k in enumerate(lead[:-1]):
        if code.text(k) == "=" and code.text(lead[place + 1]) in BRANCHES:
            return name_in_lead(code, lead[: place + 1], -1) or ""
    return ""


def defined(code: Bracketed, lead: list[int]) -> tuple[str, bool] | None:
    """Return the name of `#define NAME "..."`."""
    words = [code.text(k) for k in lead if code.text(k) != "\\"]
    if len(words) >= 2 and words[-2] == "define" and strength_of(words[-1]):
        return words[-1], True
    return None


def _goes_on_outside(code: Bracketed, lead: list[int], place: int) -> bool:
    """Return whether an operator's target may stand further left, or around its brackets."""
    bracket = code.around[lead[place]]
    is_in_container = bracket >= 0 and code.text(bracket) in "[{"
    return is_in_container or any(code.text(k) in ("=", ":=") for k in lead[:place])


def _operand(code: Bracketed, at: int) -> str:
    """Return the secret's name that an operand before `or` names: a name, or a string in its brackets."""
    if at in code.opener:
        for k in range(code.opener[at] + 1, at):
            if code.is_string(k) and is_secret_string(code, k):
                return code.tokens[k].text
        return ""
    return code.text(at) if code.is_name(at) and strength_of(code.text(at)) else ""


def _targets(code: Bracketed, lead: list[int], place: int, nth: int) -> list[str]:
    """Return the names left of an operator that may be what it assigns to, the likeliest first."""
    left = lead[:place]
    after = [k for k in lead[place + 1 :] if code.text(k) == ","]
    left = _after_label(code, left)
    for p in range(len(left) - 1, -1, -1):  # of `a = "x", b = "y"` only `b` is meant
        if code.text(left[p]) in ("=", ":=") or code.text(left[p]) in NO_TARGETS:
            left = left[p + 1 :]
            break
    left = _after_last_comma_of_assignment(code, lead, left)
    nth = nth if nth >= 0 else len(after)
    groups = code.split(left)
    if len(groups) == 1 and (inside := _unpacked(code, left)):
        left, groups = inside, code.split(inside)
    if len(groups) > 1:
        left = groups[min(nth, len(groups) - 1)]
    colons = [p for p, k in enumerate(left) if code.text(k) == ":"]
    if colons and colons[0] > 0:
        left = left[: colons[0]]
    names = _names_at_end(code, left)
    if names and len(groups) == 1 and nth == 1 and names[0].lower() in AUTHS:
        return ["password"]
    return names


def _after_label(code: Bracketed, left: list[int]) -> list[int]:
    """Return what follows the colon of a label, or of a statement's head: `case 1: a`, `if x: a`."""
    labels = [p for p, k in enumerate(left) if code.text(k) in LABELS]
    if not labels and left and code.is_python and code.text(left[0]) in HEADS:
        labels = [0]
    colons = [p for p, k in enumerate(left) if labels and p > labels[-1] and code.text(k) == ":"]
    return left[colons[0] + 1 :] if colons and colons[0] + 1 < len(left) else left


def _unpacked(code: Bracketed, left: list[int]) -> list[int]:
    """Return the tokens in the brackets of a target such as `let (a, b): Type`, or none."""
    place = 0
    while place < len(left) and code.text(left[place]) in DECLARES:
        place += 1
    place += place > 0 and code.text(left[place] if place < len(left) else -1) in ("Some", "Ok")
    rest = left[place:]
    is_whole = rest and rest[0] in code.opener and (len(rest) == 1 or code.text(rest[1]) == ":")
    return list(range(code.opener[rest[0]] + 1, rest[0])) if is_whole and code.text(rest[0]) in ")]" else []


def _after_last_comma_of_assignment(code: Bracketed, lead: list[int], left: list[int]) -> list[int]:
    """Return only what follows the comma where an assignment precedes it: `a = "x", b = "y"`."""
    if len(left) < len(lead) and left and lead[0] != left[0]:
        commas = [p for p, k in enumerate(left) if code.text(k) == ","]
        if commas:
            return left[commas[-1] + 1 :]
    return left


def _names_at_end(code: Bracketed, left: list[int]) -> list[str]:
    """Return the last name of a target, and the one before where the last is a type or says nothing.

    A name that firmly promises a secret comes first.
    """
    return sorted(_last_names(code, left), key=lambda name: strength_of(name) < SECRET)


def _last_names(code: Bracketed, left: list[int]) -> list[str]:
    """Return the last name of a target, then any before it that may be meant instead."""
    names: list[str] = []
    converted = False  # by a call such as `.to_string()`
    for k in reversed(left):
        text = code.text(k)
        if code.is_string(k):
            content = code.tokens[k].text.strip()
            return [*names, content if IDENTIFIER.fullmatch(content) else "_"]
        if k in code.opener and text == "]":
            if inner := _name_in_index(code, k):
                return [*names, inner]
        elif text == ")" and code.text(code.opener.get(k, 0) - 1) in SAME_VALUE and not names:
            converted = True
        elif code.is_name(k) and converted:
            converted = False
        elif code.is_name(k):
            if text.isupper() and code.text(k - 1) == "]" and strength_of(text) < SECRET:
                continue  # a macro after a declared array
            names.append(_kebab_name(code, k))
            if not (text in TYPES or says_nothing(text) or _is_type_or_macro(code, k)):
                return names
        elif text not in ("*", "&", ".", "->", "?", "!", "\n", "[", "]", "::"):
            return names
    return names


def _name_in_index(code: Bracketed, closing: int) -> str:
    """Return the key that an index holds: a string, or a secret's name, or ""."""
    inner = range(code.opener[closing] + 1, closing)
    if strings := [code.tokens[k].text for k in inner if code.is_string(k)]:
        return strings[-1]
    constants = [code.text(k) for k in inner if code.is_name(k)]
    return constants[-1] if constants and strength_of(constants[-1]) else ""


def _is_type_or_macro(code: Bracketed, k: int) -> bool:
    """Return whether a name follows the one declared: `password PROGMEM = `, `Password Key = `."""
    if not code.is_name(k - 1) or strength_of(code.text(k)) >= SECRET or code.text(k - 1) in ("pass", "Pass"):
        return False
    return code.text(k).isupper() or strength_of(code.text(k - 1)) >= SECRET


def _kebab_name(code: Bracketed, k: int) -> str:
    """Return a name with the parts before it that hyphens join to it, in text that is no code."""
    name = code.text(k)
    while code.is_text and code.text(k - 1) == "-" and code.is_name(k - 2):
        if code.tokens[k - 2].end + 1 != code.tokens[k].start:
            break
        name = f"{code.text(k - 2)}-{name}"
        k -= 2
    return name
