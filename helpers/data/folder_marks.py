"""Tell build output and copied code by the name of a folder, or by more than its name.

Names alone decide where nobody knows what belongs to a repository. In a repository, people call packages
of their own `build` or `vendor`, too; there, a folder is left out if it shows what made it or where it came
from. A single file that was copied into it, such as six.py, shows that by the holder of its copyright.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.code.languages import language_of
from helpers.data.licences import LICENCE_FILE

VENDORED_FOLDERS = {
    "vendor", "_vendor", "vendored", "_vendored", "third_party", "thirdparty", "3rdparty",
    "extern", "externals", "node_modules", "bower_components", "site-packages", "dist-packages",
}  # fmt: skip
BUILD_FOLDERS = {"build", "_build", "dist", "venv", "env", "__pypackages__", "htmlcov"}
# Virtual environments (venv, conda); caches and Rust's target/; CMake.
BUILD_MARKS = ("pyvenv.cfg", "conda-meta", "CACHEDIR.TAG", "CMakeCache.txt")
BUILT_BY_SETUPTOOLS = ("bdist.*", "lib.*-*", "temp.*-*")
VENDOR_LISTS = (
    "modules.txt",
    "vendor.txt",
    "vendor.json",
    "vendor.conf",
    "autoload.php",
)  # of what was copied
MANIFESTS = {
    "package.json", "bower.json", "composer.json", "setup.py", "setup.cfg", "pyproject.toml", "Cargo.toml",
    "go.mod", "pom.xml", "PKG-INFO", "METADATA",
}  # fmt: skip
HEAD_BYTES = 3_000  # of a file, in which it states whose it is
MAX_OWN_FILES = 200  # outside folders of copies, in which the holders of the repository are looked for
HOLDER = re.compile(
    r"(?:copyright|\(c\)|©)(?:\s|\(c\)|©|copyright|by\b|[\d,.–:-])*([^\W\d_][^\n|*<(]{2,60})", re.IGNORECASE
)
NO_HOLDERS = {"notice", "notices", "holder", "holders", "owner", "and", "or", "the", "law", "laws"}
MANIFEST_DEPTH = 3  # folders below a folder of copies: node_modules/@scope/name
ENTRY_POINTS = ("main", "module", "browser", "unpkg", "jsdelivr", "types", "typings", "bin", "exports")


def reason_by_name(folder: Path) -> str:
    """Return "vendored", "build output" or "" for a folder's name; a package named `build` is kept."""
    if folder.name in VENDORED_FOLDERS:
        return "vendored"
    is_package = (folder / "__init__.py").is_file()
    return "build output" if _is_marked(folder) or (folder.name in BUILD_FOLDERS and not is_package) else ""


def reason_by_marks(folder: Path, root: Path) -> str:
    """Return "vendored" or "build output" if more than the folder's name says so, else "".

    Copied code has a list of what was copied, licences other than the root's, packages with manifests of
    their own, or files of somebody who holds the copyright of no other file. Build output has marks of the
    tool that made it, or is what a package.json beside it delivers.
    """
    if folder.name in VENDORED_FOLDERS and _is_copied(folder, root):
        return "vendored"
    if _is_marked(folder) or (folder.name in BUILD_FOLDERS and _is_delivered(folder)):
        return "build output"
    return ""


def _is_marked(folder: Path) -> bool:
    if folder.name.endswith(".egg-info") or any((folder / mark).exists() for mark in BUILD_MARKS):
        return True
    names = _names(folder) if folder.name in BUILD_FOLDERS else ()
    return any(fnmatch.fnmatch(name, pattern) for name in names for pattern in BUILT_BY_SETUPTOOLS)


def _is_copied(folder: Path, root: Path) -> bool:
    if any((folder / name).is_file() for name in VENDOR_LISTS):
        return True
    own = {_content(root / name) for name in _names(root) if LICENCE_FILE.fullmatch(name)}
    for depth, inner in _folders_below(folder):
        names = _names(inner)
        if depth and MANIFESTS.intersection(names):
            return True
        licences = (inner / name for name in names if LICENCE_FILE.fullmatch(name))
        if any(file.is_file() and _content(file) not in own for file in licences):
            return True
    return _is_held_by_others(folder, root)


def _is_held_by_others(folder: Path, root: Path) -> bool:
    """Return whether a file states a holder of its copyright that nothing outside folders of copies does."""
    stated = [set(_holders(head)) for head in _heads(folder, copies=True)]
    if not any(stated):
        return False
    licences = (_content(root / name) for name in _names(root) if LICENCE_FILE.fullmatch(name))
    own = {holder for text in (*licences, *_heads(root, copies=False)) for holder in _holders(text)}
    return any(holders and holders.isdisjoint(own) for holders in stated)


def _holders(text: bytes) -> Iterator[str]:
    """Yield who holds the copyright of a text: the first two words of each name."""
    for found in HOLDER.finditer(text.decode("utf-8", "replace")):
        words = re.findall(r"\w+", found.group(1).lower())
        if words and words[0] not in NO_HOLDERS:
            yield " ".join(words[:2])


def _heads(folder: Path, *, copies: bool) -> Iterator[bytes]:
    """Yield the beginnings of the source files below a folder, with or without those in folders of copies."""
    left = MAX_OWN_FILES
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(n for n in folders if n[:1] != "." and (copies or n not in VENDORED_FOLDERS))
        for name in sorted(files):
            if left and language_of(name):
                left -= 1
                yield _content(Path(at, name))[:HEAD_BYTES]


def _is_delivered(folder: Path) -> bool:
    """Return whether the package.json beside a folder names files in it as what the package delivers."""
    try:
        package = json.loads(_content(folder.parent / "package.json"))
    except ValueError:
        return False
    named = _texts([package.get(key) for key in ENTRY_POINTS]) if isinstance(package, dict) else ()
    return any(text.removeprefix("./").startswith(f"{folder.name}/") for text in named)


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value, keys aside; the stack is explicit, as JSON may nest deeply."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        pending += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()


def _folders_below(folder: Path) -> Iterator[tuple[int, Path]]:
    pending = [(0, folder)]
    while pending:
        depth, inner = pending.pop()
        yield depth, inner
        if depth < MANIFEST_DEPTH:
            below = (inner / name for name in _names(inner))
            pending += [(depth + 1, path) for path in below if path.is_dir() and not path.is_symlink()]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []  # the walk lists it as unreadable


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()[:1_000_000] if file.is_file() else b""
    except OSError:
        return b""
