"""The cache of folders converted from GGUF files: where each lies, and whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from helpers.machine.cache_folder import default_cache_dir

VERSION = 1  # of the conversion; part of a folder's name
RECORD = "gguf.json"


@dataclass(frozen=True)
class GgufRecord:
    """What a converted folder was made from."""

    file: str  # name of the file, without its folder
    name: str  # the model's, as the file gives it
    architecture: str
    quantisation: str
    sha256: str
    licence: str
    repaired: tuple[str, ...]  # what differs from the file, in words
    sizes: Mapping[str, int]  # file of the folder -> bytes


def cache_folder_of(sha256: str) -> Path:
    """Return where the folder converted from the file with this digest lies, whether or not it exists."""
    return default_cache_dir() / f"gguf-{sha256[:32]}-{VERSION}"


def is_whole(folder: Path) -> bool:
    """Return whether a converted folder holds each of its files in full length."""
    try:
        sizes = read_record(folder).sizes
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, TypeError):
        return False


def read_record(folder: Path) -> GgufRecord:
    """Read what a converted folder was made from; OSError, ValueError or TypeError if it does not say."""
    stored = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return GgufRecord(**{**stored, "repaired": tuple(stored["repaired"])})
