"""Paths as a person gives them: on the command line, in a setting, or in a notebook's form."""

from __future__ import annotations

import os
from pathlib import Path

from helpers.errors import SuiteError


class PathError(SuiteError, ValueError):
    """A path that begins with the home folder of a user who does not exist."""


def expanded(path: str | Path) -> Path:
    """Return `path` with a leading `~` expanded; that of an unknown user stays, and names nothing.

    Ask `os.path.exists`, `isdir` or `isfile` whether it is there: up to Python 3.13 `Path.exists` and its kin
    raise for a name that is too long or a folder that may not be searched.
    """
    return Path(os.path.expanduser(path))


def below_home(place: str | Path) -> Path:
    """Return `place` with the home folder for a leading `~`, which a shell leaves in `--out=~/x`.

    Unlike `expanded` it refuses a user who does not exist: a folder called `~name` would be made.

    Raises:
        PathError: for `~name` without such a user.
    """
    path = expanded(place)
    if path.parts and path.parts[0].startswith("~"):
        raise PathError(f"there is no home folder {str(place)!r}; begin with ./ if that is a name")
    return path
