"""List what lies below a folder, and reject what its path rules out; no file is opened here.

Bytecode caches (`__pycache__`) and version-control folders belong to tools, differ from machine to machine
and are ignored. Everything else is listed; a folder that is not entered is one entry with its number of
files. An `include` pattern that spells out a path (`vendor/ours/*`, `tests/helpers.py`) overrides the
rules that judge by name.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from helpers.code.languages import language_of, settings_language
from helpers.settings import CorpusSettings

IGNORED_FOLDERS = {"__pycache__", ".git", ".hg", ".svn"}
VENDORED_FOLDERS = {
    "vendor", "_vendor", "vendored", "_vendored", "third_party", "thirdparty", "3rdparty",
    "extern", "externals", "node_modules", "bower_components", "site-packages", "dist-packages",
}  # fmt: skip
BUILD_MARKS = ("pyvenv.cfg", "CACHEDIR.TAG")  # virtual environments; caches and Rust's target/
BUILD_FOLDERS = {"build", "_build", "dist", "venv", "env", "__pypackages__", "htmlcov"}
TEST_FOLDERS = {"test", "tests", "__tests__"}
TEST_FILES = ("test_*.py", "*_test.py", "tests.py", "test.py", "conftest.py")
OTHER_TEST_FILES = ("*.test.*", "*.spec.*", "*_test.*", "*_unittest.*", "test_*", "*test.java", "*tests.java")


def walk(root: Path, settings: CorpusSettings, *, only: str = "") -> Iterator[tuple[str, Path, str]]:
    """Yield (relative path, location, reason or "") of each file, and of each folder not entered.

    `only` names the only file of `root` to list.
    """
    # A stack instead of os.walk, since folders may be nested deeper than Python can recurse.
    pending: list[tuple[str, Path]] = [("", root)]
    while pending:
        prefix, folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield prefix or "./", folder, f"cannot be read: {error.strerror}"
            continue
        for entry in entries:
            # Names that are not UTF-8 are written with escapes, since paths go into JSON and Markdown.
            path = prefix + os.fsencode(entry.name).decode("utf-8", "backslashreplace")
            location = Path(entry.path)
            if (only and path != only) or entry.name in IGNORED_FOLDERS:
                continue
            if entry.is_symlink():
                yield path, location, f"symbolic link: {_link_kind(location, root)}"
            elif entry.is_dir(follow_symlinks=False):
                reason = "" if _is_named(path, settings) else _folder_reason(location)
                if reason:
                    size = f"folder of {_count_files(location)} files, not entered"
                    yield f"{path}/", location, f"{reason}: {size}"
                else:
                    pending.append((f"{path}/", location))
            else:
                yield path, location, _path_reason(path, settings)


def _folder_reason(folder: Path) -> str:
    """Return why a whole folder is left out, or ""; a package that is named `build` is kept."""
    name = folder.name
    if name.startswith("."):
        return "hidden"
    if name in VENDORED_FOLDERS:
        return "vendored"
    is_marked = name.endswith(".egg-info") or any((folder / mark).is_file() for mark in BUILD_MARKS)
    if is_marked or (name in BUILD_FOLDERS and not (folder / "__init__.py").is_file()):
        return "build output"
    return ""


def _path_reason(path: str, settings: CorpusSettings) -> str:
    """Return why a file is rejected by its path alone, or ""."""
    parts = PurePosixPath(path)
    if any(fnmatch.fnmatch(path, pattern) for pattern in settings.exclude):
        return "excluded by pattern"
    if settings.include and not any(fnmatch.fnmatch(path, pattern) for pattern in settings.include):
        return "excluded by pattern: matches no include"
    named = _is_named(path, settings)
    if parts.name.startswith(".") and not named:
        return "hidden"
    if parts.suffix.lower() == ".ipynb":
        return "notebook"
    language = language_of(path)
    if not language:
        return f"not source code: {parts.suffix.lower() or 'no suffix'}"
    if settings_language(language) not in settings.languages:
        return f"language not wanted: {settings_language(language)}"
    tests = [folder for folder in parts.parents if folder.name.lower() in TEST_FOLDERS]
    patterns = TEST_FILES if language == "python" else OTHER_TEST_FILES
    is_test = bool(tests) or any(fnmatch.fnmatch(parts.name.lower(), pattern) for pattern in patterns)
    if is_test and not named and not any(_is_named(str(folder), settings) for folder in tests):
        return "test"
    return ""


def _is_named(path: str, settings: CorpusSettings) -> bool:
    """Return whether an `include` pattern spells out this folder or file, not merely matches it."""
    return any(pattern == path or pattern.startswith(f"{path}/") for pattern in settings.include)


def _link_kind(location: Path, root: Path) -> str:
    try:
        target = location.resolve(strict=True)
    except (OSError, RuntimeError):  # a loop is a RuntimeError before Python 3.13
        return "loop or missing target"
    return "within the corpus" if target.is_relative_to(root.resolve()) else "leads outside"


def _count_files(folder: Path) -> int:
    """Count the files below a folder that is not entered, up to 100,000."""
    count, pending = 0, [folder]
    while pending and count < 100_000:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(Path(entry.path))
                    else:
                        count += 1
        except OSError:
            continue
    return count
