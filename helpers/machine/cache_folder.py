"""Where the suite keeps what it makes once and uses in many runs: clones, archives, converted models."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache_dir() -> Path:
    """Return `$XDG_CACHE_HOME/adapt-a-code-model`, below ~/.cache if the variable is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adapt-a-code-model"
