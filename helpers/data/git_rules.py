"""Know what git ignores and tracks below a folder, and which parts of it are other repositories.

Ignore rules are read from the .gitignore files themselves, so git need not be installed. What is tracked is
known only if git can be asked; where it cannot, whatever a repository does not ignore counts as tracked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from helpers.data.corpus_spec import CorpusError, run_git

MAX_RULES_BYTES = 1_000_000  # of one .gitignore or .gitmodules file; git reads larger ones, people write none
SUBMODULE_MODE = "160000"


@dataclass(frozen=True)
class _Rules:
    """The patterns of one file, and the folder that they are relative to."""

    base: str  # "" or "a/b/", relative to the top of the rules
    patterns: tuple[tuple[re.Pattern[str], bool], ...]  # and whether a match ignores (or keeps, after a !)

    def verdict(self, path: str) -> bool | None:
        """Return whether these rules ignore a path, which ends with / for a folder; None: they don't say."""
        inner = path.removeprefix(self.base)
        matching = (ignores for regex, ignores in reversed(self.patterns) if _names(regex, inner))
        return next(matching, None)


@dataclass(frozen=True)
class GitRules:
    """What git says about the files below one folder, the root."""

    in_repository: bool = False  # the root is, or lies in, a working tree that does not ignore it
    tracked: frozenset[str] | None = None  # files and their folders ("a/b/"); None: git could not be asked
    submodules: frozenset[str] = frozenset()  # folders, without a slash at the end
    prefix: str = ""  # the root's place in the working tree, "" or "a/b/"
    above: tuple[_Rules, ...] = field(default=(), repr=False)  # rules from outside the root, weakest first

    def with_folder(self, rules: tuple[_Rules, ...], folder: Path, path: str) -> tuple[_Rules, ...]:
        """Return `rules` and those of the folder's own .gitignore; `path` is "" or ends with a slash."""
        own = _read_rules(folder / ".gitignore", self.prefix + path)
        return (*rules, own) if own.patterns else rules

    def ignores(self, path: str, rules: tuple[_Rules, ...]) -> bool:
        """Return whether an entry is ignored; the folder around it is not. A folder's path ends with /."""
        verdicts = (file.verdict(self.prefix + path) for file in reversed(rules))
        return bool(next((verdict for verdict in verdicts if verdict is not None), False))

    def tracks(self, path: str) -> bool | None:
        """Return whether git tracks a file, or something in a folder ("a/b/"); None: nobody knows."""
        return None if self.tracked is None else path in self.tracked


def git_rules(root: Path, *, look_above: bool) -> GitRules:
    """Read what git says about `root`.

    Args:
        look_above: also look for a repository that `root` lies in. Its rules count unless they ignore the
            root itself: a person who names such a folder wants it read.
    """
    top = _top_of(root) if look_above else root if (root / ".git").exists() else None
    if top is None:
        return GitRules(submodules=_declared_submodules(root))
    prefix = "" if top == root else root.relative_to(top).as_posix() + "/"
    above: tuple[_Rules, ...] = tuple(
        rules for file in (_global_rules(top), _common_folder(top) / "info" / "exclude")
        if (rules := _read_rules(file, "")).patterns
    )  # fmt: skip
    whole = GitRules(above=above)
    folder, path = top, ""
    for part in PurePosixPath(prefix).parts:
        above = whole.with_folder(above, folder, path)
        folder, path = folder / part, f"{path}{part}/"
        if whole.ignores(path, above):
            return GitRules(submodules=_declared_submodules(root))
    declared = {
        module.removeprefix(prefix) for module in _declared_submodules(top) if module.startswith(prefix)
    }
    tracked, linked = _ask_git(root)
    if prefix and tracked is not None and not tracked:  # copied into a repository that does not know it
        return GitRules(submodules=frozenset(declared | linked))
    return GitRules(True, tracked, frozenset(declared | linked), prefix, above)


def all_tracked(rules: GitRules, root: Path) -> GitRules:
    """Return the rules of a folder in which git tracks every file, such as an unpacked `git archive`."""
    files = (path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())
    return replace(rules, in_repository=True, tracked=frozenset(_with_folders(files)))


@dataclass(frozen=True)
class Attributes:
    """What .gitattributes says about vendored and generated files, in the words of GitHub's linguist."""

    vendored: _Rules = _Rules("", ())
    generated: _Rules = _Rules("", ())

    def reason(self, path: str) -> str:
        """Return "vendored", "generated" or "" for a file, or for a folder, whose path ends with /."""
        if self.vendored.verdict(path):
            return "vendored"
        return "generated" if self.generated.verdict(path) else ""

    def vouches(self, folder: str) -> bool:
        """Return whether the files in a folder ("a/b/") are said not to be vendored."""
        return self.vendored.verdict(f"{folder}any") is False


def read_attributes(root: Path) -> Attributes:
    """Return what the .gitattributes file at the top says with linguist-vendored and linguist-generated."""
    lines = [line.split() for line in _lines(root / ".gitattributes")]
    found = []
    for name in ("linguist-vendored", "linguist-generated"):
        patterns = []
        for pattern, *words in filter(None, lines):
            if {name, f"{name}=true"} & set(words):
                patterns.append(pattern)
            elif {f"-{name}", f"!{name}", f"{name}=false"} & set(words):
                patterns.append(f"!{pattern}")
        found.append(_Rules("", tuple(_patterns(patterns))))
    return Attributes(*found)


def _names(regex: re.Pattern[str], path: str) -> bool:
    """Return whether a pattern names this very entry: whether it names a folder above was asked before."""
    if "ps_d" not in regex.groupindex:  # "**" at the end names what is inside a folder
        return regex.search(path.rstrip("/")) is not None
    ends = (match.end("ps_d") for match in regex.finditer(path))
    return any(end in (-1, len(path)) for end in ends)


def _read_rules(file: Path, base: str) -> _Rules:
    """Return the patterns of an ignore file; none if it is absent, no regular file, or unreadable."""
    return _Rules(base, tuple(_patterns(_lines(file))))


def _patterns(lines: Iterable[str]) -> Iterator[tuple[re.Pattern[str], bool]]:
    for line in lines:
        try:
            # pathspec takes "a/**/", the folders inside a, for a itself.
            spec = GitIgnoreSpec.from_lines([re.sub(r"/\*\*/\s*$", "/**/*/", _forward_ranges(line))])
        except (ValueError, re.error):  # no pattern, such as "!" alone: git passes over such lines, too
            continue
        yield from ((p.regex, bool(p.include)) for p in spec.patterns if p.regex is not None)


def _forward_ranges(line: str) -> str:
    """Return a pattern with "z" for each range such as "z-a" inside brackets: git takes the start alone."""

    def mended(brackets: re.Match[str]) -> str:
        parts = re.split(r"([^\\])-([^\]\\])(-?)", brackets[0][:-1])  # text, start, end, hyphen, text, ...
        text, hyphens = parts[0], ""
        for start, end, hyphen, rest in zip(parts[1::4], parts[2::4], parts[3::4], parts[4::4], strict=True):
            text += f"{start}-{end}{hyphen}{rest}" if start <= end else start + rest
            hyphens += hyphen if start > end else ""  # meant as itself, which it is at the end
        return f"{text}{hyphens}]"

    return re.sub(r"(?<!\\)\[[!^]?\]?[^\]]*\]", mended, line)


def _read(file: Path) -> str:
    try:
        if not file.is_file() or file.is_symlink():  # git does not follow links to them either
            return ""
        return file.read_bytes()[:MAX_RULES_BYTES].decode("utf-8", "replace").removeprefix("\ufeff")
    except OSError:
        return ""  # the walk lists what cannot be read


def _lines(file: Path) -> list[str]:
    """Return the lines as git counts them, at "\\n" alone: a name may hold a form feed or U+2028."""
    return [line.removesuffix("\r") for line in _read(file).split("\n")]


def _top_of(root: Path) -> Path | None:
    return next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), None)


def _common_folder(top: Path) -> Path:
    """Return the repository's folder, which a linked worktree or submodule keeps elsewhere."""
    folder = top / ".git"
    if link := re.match(r"gitdir: (.+)", _read(folder)):
        folder = top / link.group(1).strip()
        if common := _read(folder / "commondir").strip():
            folder = folder / common
    return folder


def _global_rules(top: Path) -> Path:
    """Return the person's own ignore file, as git would find it."""
    with suppress(CorpusError):  # without git, or without such a setting: the default place
        return Path(run_git(["config", "--type=path", "--get", "core.excludesFile"], cwd=top))
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "git" / "ignore"


def _declared_submodules(top: Path) -> frozenset[str]:
    """Return the folders that .gitmodules names."""
    paths = re.findall(r"^\s*path\s*=\s*(.+?)\s*$", _read(top / ".gitmodules"), re.MULTILINE)
    return frozenset(path.strip('"').strip("/") for path in paths)


def _ask_git(root: Path) -> tuple[frozenset[str] | None, set[str]]:
    """Return the tracked files below `root` with their folders, and the submodules; (None, ...): unknown."""
    try:
        listed = run_git(["ls-files", "--stage", "-z"], cwd=root)
    except CorpusError:  # git is missing, or refuses this folder
        return None, set()
    entries = [entry.partition("\t") for entry in listed.split("\0") if "\t" in entry]
    modules = {path for facts, _, path in entries if facts.startswith(SUBMODULE_MODE)}
    return frozenset(_with_folders(path for _, _, path in entries if path not in modules)), modules


def _with_folders(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        yield path
        yield from (f"{folder}/" for folder in PurePosixPath(path).parents if folder.name)
