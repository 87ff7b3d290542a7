"""Paths as a person writes them, taken without an error for those that cannot exist.

Up to Python 3.13 `Path.exists` and its kin raise for a name that is too long or a folder that may not be
searched; `os.path.exists`, `isdir` and `isfile` answer False.
"""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """Return `path` with a leading `~` expanded; that of an unknown user stays, and names nothing."""
    return Path(os.path.expanduser(path))
