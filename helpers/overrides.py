"""Change single settings by name: `track_a.epochs=1`, `failure_cases=12`, `corpus.languages=python|go`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

MOST_DIGITS = 15  # of a whole number: every float, JSON reader and library holds it exactly


def with_setting(settings: Any, path: str, text: str) -> Any:
    """Return a copy of the dataclass `settings` with the field at `path` set to `text`, parsed by its type.

    Words of a list are separated by `|`. A field whose metadata say `settable: False` is no setting.

    >>> Track = dataclasses.make_dataclass("Track", [("epochs", int, 2), ("languages", tuple, ("c",))])
    >>> with_setting(with_setting(Track(), "epochs", "5"), "languages", "python|go")
    Track(epochs=5, languages=('python', 'go'))

    Raises:
        ValueError: for a name that does not exist or a value that does not fit.
    """
    name, _, below = path.partition(".")
    names = [f.name for f in dataclasses.fields(settings) if f.metadata.get("settable", True)]
    if name not in names:
        raise ValueError(f"there is no setting {name!r}; there are {', '.join(names)}")
    current = getattr(settings, name)
    if dataclasses.is_dataclass(current):
        if not below:
            inner = ", ".join(f.name for f in dataclasses.fields(current))
            raise ValueError(f"{name!r} is a group; set one of {inner}")
        return dataclasses.replace(settings, **{name: with_setting(current, below, text)})
    if below:
        raise ValueError(f"{name!r} has no parts")
    return dataclasses.replace(settings, **{name: _read(text, current, name)})


def _read(text: str, current: Any, name: str) -> Any:
    kind = type(current)
    if kind is tuple and all(isinstance(part, str) for part in current):
        return tuple(part.strip() for part in text.split("|") if part.strip())
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{name} is true or false, not {text!r}")
        return text.lower() == "true"
    if kind not in (int, float, str):
        raise ValueError(f"{name} cannot be set this way")
    if kind is str:
        return text
    digits = text.lstrip("+").replace("_", "").lstrip("0")
    if kind is int and digits.isdecimal() and len(digits) > MOST_DIGITS:
        raise ValueError(f"{name} is too large: give at most {MOST_DIGITS} digits")
    try:
        number = kind(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        takes = "whole number" if kind is int else "number"
        raise ValueError(f"{name} takes a {takes}, not {text!r}")
    if number < 0:
        raise ValueError(f"{name} cannot be negative")
    return number
