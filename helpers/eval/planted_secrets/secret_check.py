"""Measure recall and precision of the masking of secrets, on planted ones and on harmless look-alikes.

An item is a few lines of code with one value. A secret counts as found if nothing of its value is left in the
masked text; a look-alike counts as wrongly masked if its text changes at all. Precision is what is right
among the masked items, with as many secrets as look-alikes.

The rules were written while looking at the splits `tune` and `dev`. `dev` has forms, names and words of its
own, by another author than those of `tune` and `test`. `test` has the forms of `tune` and some that no other
split has, with names and words of its own; nobody looks at its mistakes. Code as it is found may hold other
forms of both kinds.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.code.secrets import mask_secrets
from helpers.eval.planted_secrets import development, development_later
from helpers.eval.planted_secrets.forms import (
    HARMLESS,
    HARMLESS_ELSEWHERE,
    HARMLESS_HELD_OUT,
    HELD_OUT,
    NAMELESS,
    SECRETS,
)
from helpers.eval.planted_secrets.values import ALPHANUMERIC, DEV, PROSE, TEST, Source
from helpers.eval.planted_secrets.values import SPLITS as SPLITS
from helpers.eval.statistics import Estimate, proportion

N_ITEMS = 2_400  # secrets, and as many look-alikes
Form = tuple[str, str]  # language, text with fields


@dataclass(frozen=True)
class PlantedItem:
    """A piece of code, and the parts of its secret; a look-alike has none."""

    language: str
    form: str
    rule: str  # by which the value was made
    code: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class SecretCheck:
    """What the masking did with the items of one split."""

    split: str
    recall: Estimate
    precision: Estimate
    recall_of_new_forms: Estimate | None  # of the forms that `test` has alone; None for the others
    by_language: dict[str, tuple[int, ...]]  # secrets, found, look-alikes, wrongly masked
    missed: tuple[PlantedItem, ...]
    wrongly_masked: tuple[PlantedItem, ...]


def check_secrets(split: str = "test", seed: int = 17, n: int = N_ITEMS) -> SecretCheck:
    """Mask `n` planted secrets and `n` look-alikes (about 4 s for 2,400) and count what was right.

    Raises:
        ValueError: if there is no such split, or `n` is below 1.
    """
    if n < 1:
        raise ValueError(f"at least one item is needed, got {n}")
    secrets, harmless = planted_secrets(split, seed, n), look_alikes(split, seed, n)
    found = [_is_found(item) for item in secrets]
    masked = [mask_secrets(item.code, item.language).text != item.code for item in harmless]
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for first, items, hits in ((0, secrets, found), (2, harmless, masked)):
        for item, hit in zip(items, hits, strict=True):
            counts[item.language][first] += 1
            counts[item.language][first + 1] += hit
    flagged = [True] * sum(found) + [False] * sum(masked)
    own = {form for _, form in _pairs(HELD_OUT)}
    in_own = [hit for item, hit in zip(secrets, found, strict=True) if split == TEST and item.form in own]
    return SecretCheck(
        split, proportion(found), proportion(flagged or [False]), proportion(in_own) if in_own else None,
        {language: tuple(row) for language, row in sorted(counts.items())},
        tuple(item for item, hit in zip(secrets, found, strict=True) if not hit),
        tuple(item for item, hit in zip(harmless, masked, strict=True) if hit),
    )  # fmt: skip


def check_facts(check: SecretCheck) -> dict[str, Any]:
    """Return a check for the data card: its `figures`, and the counts `by_language`, as rows of tables."""
    figures = [
        {"figure": name, "value": round(found.value, 4), "95% interval": _interval(found), "n": found.n}
        for name, found in (
            ("recall", check.recall),
            ("recall on forms of this split alone", check.recall_of_new_forms),
            ("precision", check.precision),
        )
        if found
    ]
    counted = ("planted secrets", "masked", "look-alikes", "masked by mistake")
    rows = [
        {"language": name} | dict(zip(counted, row, strict=True)) for name, row in check.by_language.items()
    ]
    return {"figures": figures, "by_language": rows}


def summary_lines(check: SecretCheck, show: int = 0) -> list[str]:
    """Return a check as lines of text, with up to `show` mistakes of each kind."""
    facts = check_facts(check)
    lines = [f"split {check.split}"]
    lines += [", ".join(f"{key} {value}" for key, value in row.items()) for row in facts["figures"]]
    lines += [", ".join(f"{key} {value}" for key, value in row.items()) for row in facts["by_language"]]
    for title, items in (("missed", check.missed), ("masked by mistake", check.wrongly_masked)):
        lines += [f"{title}, {item.language}, {item.rule}: {item.code.strip()!r}" for item in items[:show]]
    return lines


def _interval(found: Estimate) -> str:
    return "{:.4f} to {:.4f}".format(*found.ci95)


def planted_secrets(split: str, seed: int, n: int) -> list[PlantedItem]:
    """Return `n` pieces of code that hold one secret each, over all forms in turn."""
    source = Source(split, seed)
    forms = [*_pairs(SECRETS), *_pairs({"python": NAMELESS})]
    forms = _of_split(
        split, forms, _pairs(HELD_OUT), _pairs(development.SECRETS) + _pairs(development_later.SECRETS)
    )
    return [_secret_item(source, *form) for form in itertools.islice(itertools.cycle(forms), n)]


def look_alikes(split: str, seed: int, n: int) -> list[PlantedItem]:
    """Return `n` harmless pieces of code that look as if they held a secret, over all forms in turn."""
    source = Source(split, seed)
    forms = [*_pairs({"python": HARMLESS}), *_pairs(HARMLESS_ELSEWHERE)]
    forms = _of_split(
        split,
        forms,
        _pairs(HARMLESS_HELD_OUT),
        _pairs(development.HARMLESS) + _pairs(development_later.HARMLESS),
    )
    found = []
    for language, form in itertools.islice(itertools.cycle(forms), n):
        fields = _name_fields(source.name(source.random.random() < 0.5)) | _harmless_fields(source)
        found.append(PlantedItem(language, form, "harmless", form.format(**fields) + "\n"))
    return found


def _of_split(split: str, common: list[Form], of_test: list[Form], of_dev: list[Form]) -> list[Form]:
    """Return the forms of a split; what both `dev` and `test` hold is left to `test`."""
    if split == DEV:
        return [form for form in of_dev if form not in of_test]
    return [*common, *(of_test if split == TEST else ())]


def _pairs(forms: Mapping[str, Sequence[str]]) -> list[Form]:
    return [(language, form) for language, some in forms.items() for form in some]


def _is_found(item: PlantedItem) -> bool:
    masked = mask_secrets(item.code, item.language).text
    return not any(part in masked for part in item.parts)


def _secret_item(source: Source, language: str, form: str) -> PlantedItem:
    """Return a form filled with a secret that it can hold."""
    while True:
        rule, value, is_password = source.secret()
        unquoted = any(field in form for field in ("{e}", "{d}", "{u}", "{l}", "{t}"))
        if not (unquoted and (" " in value or _is_unfit(value, form))) and not (
            rule == "UUID" and "{l}" in form
        ):
            break
    name = source.name(is_password)
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    half = len(value) // 2
    halves = [part.replace("\\", "\\\\").replace('"', '\\"') for part in (value[:half], value[half:])]
    single = value.replace("\\", "\\\\").replace("'", "\\'")
    basic = base64.b64encode(f"{source.word()}:{value}".encode()).decode()
    json_text = value.replace("\\", "/").replace('"', "'")
    key_line = base64.b64encode(hashlib.sha384(value.encode()).digest()).decode()
    texts = {
        "v": quoted, "q": single, "a": halves[0], "b": halves[1], "w": value, "B": basic,
        "f": quoted.replace("{", "{{").replace("}", "}}"), "g": value.replace("`", "-"),
        "m": value.replace("\\", "\\\\").replace("`", "\\`").replace("${", "\\${"),
        "h": value.replace('"', "'").replace(")", "("), "r": value.replace("'", "-").replace("\\", "/"),
        "j": json_text.replace("'", "-"), "j2": json_text,
        "J": json_text.replace("'", "-").replace("`", "-"), "K": key_line,
        "t": value, "e": value, "d": value, "u": value, "l": value,
    }  # fmt: skip
    code = form.format(**_name_fields(name), x=source.word(), **texts)
    parts = [text for field, text in texts.items() if "{" + field + "}" in form]
    return PlantedItem(language, form, rule, code + "\n", tuple(parts))


def _is_unfit(value: str, form: str) -> bool:
    """Return whether a value cannot stand unquoted in a form: quotes, delimiters, what a URL would encode."""
    if "{l}" in form:
        return not set(value) <= set(ALPHANUMERIC + "-_.+/=") or len(value) < 16
    unfit = "\"'`\\;<>${}" + ("/@:?#&% ,[]^|" if "{u}" in form else "&, ")
    return bool(set(unfit) & set(value)) or value[0] in "#*-=:!|%>@,.~?"


def _name_fields(name: str) -> dict[str, str]:
    words = name.split("_")
    pascal = "".join(word.title() for word in words)
    camel = words[0] + pascal[len(words[0]) :]
    return {"s": name, "N": name.upper(), "c": camel, "P": pascal, "k": name.replace("_", "-")}


def _harmless_fields(source: Source) -> dict[str, str]:
    first, second = source.word(), source.word()
    return {
        "w": first, "w2": second, "W": first.title(), "W2": second.title(),
        "i": str(source.random.randint(1, 2030)), "h": source.random.randbytes(32).hex(),
        "g": source.random.randbytes(20).hex(), "o": base64.b64encode(source.random.randbytes(48)).decode(),
        "U": source.uuid(), "p": source.random.choice(PROSE), "x": source.word(),
    }  # fmt: skip
