"""Digests of the files that a stage consists of."""

from __future__ import annotations

import hashlib
from pathlib import Path

RECORDS = ("inputs.json", "stage.json")  # written by the workspace, beside the stage's files


def file_digests(folder: Path) -> dict[str, str]:
    """Return path -> SHA-256 (hex) of every file below `folder`, except the stage's own records."""
    digests = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in RECORDS:
            with path.open("rb") as stream:
                digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests
