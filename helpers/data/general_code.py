"""Provide general Python: a fixed slice to measure forgetting, and other files to rehearse against it.

The slice comes from packages that the requirements install and that the embedded model was not trained on,
never from the corpus. A hub model may have seen them, but forgetting compares before and after on the same
files. Rehearsal takes standard-library files, on which the embedded model was trained.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import random
import sysconfig
from collections.abc import Collection
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from helpers.data.draw import draw_files
from helpers.errors import SuiteError
from helpers.records import SourceFile

# Import name -> distribution name; all are dependencies of the requirements.
PACKAGES = {
    "matplotlib": "matplotlib", "PIL": "pillow", "jinja2": "Jinja2", "jsonschema": "jsonschema",
    "nbformat": "nbformat", "requests": "requests",
}  # fmt: skip
MIN_BYTES, MAX_BYTES = 2_000, 12_000
SKIPPED_FOLDERS = {"tests", "test", "_vendor", "__pycache__"}


class GeneralCodeError(SuiteError, RuntimeError):
    """None of the packages with general code is installed."""


def general_code_texts(n: int, seed: int, *, exclude: str = "") -> list[str]:
    """Return up to `n` source files, drawn by `seed` from the packages in turn.

    Args:
        exclude: import name of the corpus; its package is left out, and so are files that contain the name.

    Raises:
        GeneralCodeError: if no package is installed.
    """
    queues = []
    for package in sorted(PACKAGES):
        if package != exclude and (files := _files_of(package)):
            random.Random(f"{seed}:general code:{package}").shuffle(files)
            queues.append(files)
    if not queues:
        names = ", ".join(sorted(PACKAGES))
        raise GeneralCodeError(f"none of {names} is installed; install one to measure forgetting")
    texts: list[str] = []
    while len(texts) < n and any(queues):
        for files in queues:
            if files and len(texts) < n:
                text = files.pop(0).read_text(encoding="utf-8", errors="replace")
                if not exclude or exclude not in text:
                    texts.append(text)
    return texts


def rehearsal_texts(
    tokenizer: PreTrainedTokenizerBase, token_budget: int, seed: int, *, held_out: Collection[str] = ()
) -> list[str]:
    """Return whole standard-library files, drawn by `seed`, of about `token_budget` tokens together.

    Args:
        held_out: texts of the corpus that nothing may be trained on; a corpus can hold copies of the
            standard library. Their copies are left out, whatever their blank lines and line ends.
    """
    if token_budget <= 0:
        return []
    never = {_without_blank_lines(text) for text in held_out}
    files = [file for file in standard_library_files() if _without_blank_lines(file.text) not in never]
    return [file.text for file in draw_files(files, tokenizer, token_budget, seed)]


def standard_library_files() -> list[SourceFile]:
    """Return the standard library's files of middle size, by path; tests and programs are left out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    skipped = SKIPPED_FOLDERS | {"site-packages", "idlelib", "lib2to3", "turtledemo"}
    return [
        SourceFile(
            path.relative_to(root).as_posix(), path.read_text(encoding="utf-8", errors="replace"), "",
            path.stat().st_size,
        )
        for path in _source_files(root, skipped)
    ]  # fmt: skip


def general_code_sources(exclude: str = "") -> dict[str, str]:
    """Return distribution name -> installed version of the packages `general_code_texts` draws from."""
    found = {}
    for package, distribution in sorted(PACKAGES.items()):
        if package != exclude and importlib.util.find_spec(package):
            try:
                found[distribution] = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:  # a folder, or another distribution's package
                found[distribution] = "unknown"
    return found


def _without_blank_lines(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


def _files_of(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    return _source_files(Path(next(iter(spec.submodule_search_locations))), SKIPPED_FOLDERS)


def _source_files(root: Path, skipped: set[str]) -> list[Path]:
    return sorted(
        path
        for path in root.rglob("*.py")
        if not skipped & set(path.relative_to(root).parts[:-1])
        and MIN_BYTES <= path.stat().st_size <= MAX_BYTES
    )
