"""See what a model's folder holds before a library fails on it with words about something else."""

from __future__ import annotations

import json
from pathlib import Path

LFS_POINTER = b"version https://git-lfs"
POINTER_BYTES = 1024  # a pointer is shorter
ADAPTER = "adapter_config.json"


def folder_problem(folder: Path) -> str:
    """Return what is wrong with the model in `folder`, and what to do; "" if nothing shows.

    Files that Git LFS has not fetched are found, and adapters, which are no models by themselves.
    """
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.stat().st_size < POINTER_BYTES and _starts_as_pointer(file):
            name = file.relative_to(folder).as_posix()
            return (
                f"the folder {str(folder)!r} holds only a Git LFS pointer in place of {name}: run "
                "`git lfs pull` in it, or download the file itself"
            )
    if (folder / ADAPTER).is_file():
        return f"the folder {str(folder)!r} {adapter_advice(_base_of(folder / ADAPTER))}"
    return ""


def adapter_advice(base: str) -> str:
    """Say that something is an adapter of `base` ("" if unknown), and what to do."""
    of, instead = (f" of {base!r}", f"{base!r}") if base else ("", "its base model")
    return (
        f"is an adapter{of}, not a model: save it merged (PEFT's merge_and_unload), or name {instead} instead"
    )


def _starts_as_pointer(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(LFS_POINTER)) == LFS_POINTER


def _base_of(config: Path) -> str:
    try:
        return str(json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"] or "")
    except (OSError, ValueError, KeyError, TypeError):  # the advice is the same without its name
        return ""
