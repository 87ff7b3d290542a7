"""Digests of the files of a finished stage, which tell a whole copy from a damaged one."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 (hex) of each file below `folder` by its path, but for `Workspace`'s records."""
    digests = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in ("inputs.json", "stage.json"):
            with path.open("rb") as stream:
                digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests
