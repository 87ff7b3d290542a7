"""List what lies below a folder, and reject what its path rules out; no source file is opened here.

Bytecode caches (`__pycache__`), the Finder's `__MACOSX` and version-control folders belong to tools, differ
from machine to machine and are not looked at. Everything else is listed; a folder that is not entered is
one entry with its number of files. An `include` pattern that spells out a path (`vendor/ours/*`,
`tests/helpers.py`) overrides the rules that judge by name, and git's.

What git ignores stays out. A folder named like build output or copied code stays out, too, unless git
tracks what is in it; then more than the name has to say so (`helpers.data.folder_marks`).
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from helpers.code.languages import language_of, settings_language
from helpers.data.folder_marks import reason_by_marks, reason_by_name
from helpers.data.git_rules import Attributes, GitRules, read_attributes
from helpers.settings import CorpusSettings

IGNORED_FOLDERS = {"__pycache__", ".ipynb_checkpoints", "__MACOSX", ".git", ".hg", ".svn"}
NOTEBOOK = ".ipynb"
IGNORED = "ignored by git"
TEST_FOLDERS = {"test", "tests", "__tests__"}
TEST_FILES = ("test_*.py", "*_test.py", "tests.py", "test.py", "conftest.py")
OTHER_TEST_FILES = ("*.test.*", "*.spec.*", "*_test.*", "*_unittest.*", "test_*", "*test.java", "*tests.java")


def walk(
    root: Path, settings: CorpusSettings, *, only: str = "", git: GitRules | None = None
) -> Iterator[tuple[str, Path, str]]:
    """Yield (relative path, location, reason or "") of each file, and of each folder not entered.

    Args:
        only: the only file of `root` to list.
        git: what git says about `root`; None: nothing, and no .gitignore is read either.
    """
    attributes = read_attributes(root) if git else Attributes()
    # A stack instead of os.walk, since folders may be nested deeper than Python can recurse. `outer` is why
    # the files of a folder that is entered for its tracked files stay out if they are not tracked.
    pending = [("", root, git.above if git else (), "")]
    while pending:
        prefix, folder, rules, outer = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield prefix or "./", folder, f"cannot be read: {error.strerror}"
            continue
        rules = git.with_folder(rules, folder, prefix) if git else rules
        for entry in entries:
            # Names that are not UTF-8 are written with escapes, since paths go into JSON and Markdown.
            path = prefix + os.fsencode(entry.name).decode("utf-8", "backslashreplace")
            location = Path(entry.path)
            if (only and path != only) or entry.name in IGNORED_FOLDERS:
                continue
            if entry.is_symlink():
                yield path, location, f"symbolic link: {_link_kind(location, root)}"
            elif entry.is_dir(follow_symlinks=False):
                own = outer or (IGNORED if git and git.ignores(f"{path}/", rules) else "")
                reason, outer_below = _folder_reason(path, location, root, own, git, attributes)
                if reason and not _is_named(path, settings):
                    yield f"{path}/", location, reason
                else:
                    below = "" if _is_named(path, settings) else outer_below
                    pending.append((f"{path}/", location, rules, below))
            else:
                own = outer or (IGNORED if git and git.ignores(path, rules) else "")
                own = "" if git and git.tracks(path) else own
                yield path, location, _path_reason(path, settings, own or attributes.reason(path))


def _folder_reason(
    path: str, folder: Path, root: Path, own: str, git: GitRules | None, attributes: Attributes
) -> tuple[str, str]:
    """Return why a whole folder is left out, or ""; and why its untracked files are, if it is entered.

    Args:
        own: why the folder would be left out if git did not track it, or "".
    """

    def not_entered(reason: str) -> tuple[str, str]:  # files are counted only for folders that are left out
        return (f"{reason}: folder of {_count_files(folder)} files, not entered" if reason else ""), ""

    if git and (path in git.submodules or (git.in_repository and (folder / ".git").exists())):
        empty = "submodule: empty: git submodule update --init fetches it", ""
        return not_entered("submodule") if _count_files(folder) else empty
    if reason := "hidden" if folder.name.startswith(".") else attributes.reason(f"{path}/"):
        return not_entered(reason)
    vouched = attributes.vouches(f"{path}/")
    tracked = git.tracks(f"{path}/") if git else None
    by_name = "" if vouched else reason_by_name(folder)
    if tracked or (tracked is None and not own and git and git.in_repository):
        reason = "" if vouched else reason_by_marks(folder, root)
        return not_entered(reason) if reason else ("", (own or by_name) if tracked else "")
    return not_entered(own or by_name)


def _path_reason(path: str, settings: CorpusSettings, own: str) -> str:
    """Return why a file is rejected by its path and by what git says (`own`), or ""."""
    parts = PurePosixPath(path)
    if any(fnmatch.fnmatch(path, pattern) for pattern in settings.exclude):
        return "excluded by pattern"
    if settings.include and not any(fnmatch.fnmatch(path, pattern) for pattern in settings.include):
        return "excluded by pattern: matches no include"
    named = _is_named(path, settings)
    if own and not named:
        return own
    if parts.name.startswith(".") and not named:
        return "hidden"
    is_notebook = parts.suffix.lower() == NOTEBOOK
    if is_notebook and not settings.notebooks:
        return "notebook"
    language = "python" if is_notebook else language_of(path)
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
