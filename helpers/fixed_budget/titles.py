"""Short texts for the fixed-budget lab: headlines, lines of a file, or first lines of docstrings.

A set is loaded, shuffled with its seed, and split into a training and a validation part. Its SHA-256
covers every title in order, so two runs with the same digest saw the same text. Titles are not
changed, except that surrounding spaces and line breaks are removed.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import importlib.metadata
import importlib.util
import platform
import random
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.errors import SuiteError
from helpers.escaping import storable
from helpers.machine.cache_folder import default_cache_dir
from helpers.machine.progress import progress
from helpers.paths import expanded
from helpers.run.workspace import WorkspaceError, digest, write_text

SEPARATOR = "<eos>"  # written after every title; part of the scored text, as in the challenge
HN_DATASET = "julien040/hacker-news-posts"
HN_REVISION = "d210f96ddcc592f324c3108dd1d7b7edc03ca788"
HN_ROWS = 828_133  # in that revision
HN_TITLES = 100_000

# Import name -> distribution name; "" stands for the standard library.
DOCSTRING_PACKAGES = {
    "": "", "matplotlib": "matplotlib", "numpy": "numpy", "pandas": "pandas", "scipy": "scipy",
    "sklearn": "scikit-learn", "statsmodels": "statsmodels", "sympy": "sympy", "torch": "torch",
    "transformers": "transformers",
}  # fmt: skip
MIN_CHARS, MAX_CHARS = 16, 120  # of a docstring's first line: about as long as headlines
SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"}


class TitleSetError(SuiteError, ValueError):
    """The titles cannot be loaded; the message says why and what to do."""


@dataclass(frozen=True)
class TitleSet:
    """Titles, shuffled with a seed."""

    spec: str  # as given, but a file without its folder
    titles: tuple[str, ...]
    seed: int

    @property
    def sha256(self) -> str:
        """Digest of all titles in order, a line feed after each."""
        return text_sha256(self.titles)


@dataclass(frozen=True)
class TitleSplit:
    """Training and validation titles; a title is in both only if the set repeats it."""

    train: tuple[str, ...]
    validation: tuple[str, ...]

    @property
    def repeated(self) -> int:
        """Number of validation titles that also occur, verbatim, in the training part."""
        seen = set(self.train)
        return sum(title in seen for title in self.validation)


def load_titles(spec: str, *, seed: int, limit: int | None = None) -> TitleSet:
    """Load a set of titles and shuffle it with `seed`.

    Args:
        spec: `hn`, `file:PATH` (one title per line, plain or .gz) or `docstrings`.
        seed: of the shuffle.
        limit: keep only that many titles, after shuffling.

    Raises:
        TitleSetError: for an unknown spec, an unreadable file, or fewer than 20 titles.
    """
    kind, _, rest = spec.partition(":")
    shown = f"file:{Path(rest).name}" if kind == "file" else spec
    if spec == "hn":
        titles = _clean(_hacker_news(seed))[:HN_TITLES]
    elif spec == "docstrings" or (kind == "file" and rest):
        titles = _clean(_docstring_lines() if kind == "docstrings" else _file_lines(expanded(rest)))
        random.Random(seed).shuffle(titles)
    else:
        raise TitleSetError(f"cannot read the titles {spec!r}: use hn, docstrings or file:PATH")
    titles = titles[:limit]
    if len(titles) < 20:
        raise TitleSetError(f"{shown} gives {len(titles)} titles; at least 20 are needed")
    return TitleSet(shown, tuple(titles), seed)


def split_titles(titles: TitleSet, validation_fraction: float) -> TitleSplit:
    """Split off the last titles, a share of `validation_fraction`, exactly as the challenge does."""
    n = int(len(titles.titles) * (1 - validation_fraction))
    return TitleSplit(titles.titles[:n], titles.titles[n:])


def joined(titles: Iterable[str]) -> str:
    """Return the scored text, a separator after each title; its length is the metric's denominator."""
    return "".join(title + SEPARATOR for title in titles)


def text_sha256(titles: Iterable[str]) -> str:
    """Return the SHA-256 (hex) over the titles in order, a line feed after each."""
    total = hashlib.sha256()
    for title in titles:
        total.update(title.encode("utf-8", "surrogatepass") + b"\n")
    return total.hexdigest()


def _clean(lines: Iterable[str]) -> list[str]:
    """Strip the lines; drop those that are empty or contain the separator."""
    return [title for line in lines if (title := line.strip()) and SEPARATOR not in title]


def _hacker_news(seed: int) -> list[str]:
    """Return the challenge's selection: the first titles of the pinned data set after its own shuffle."""
    import datasets

    try:
        rows = datasets.load_dataset(HN_DATASET, split="train", revision=HN_REVISION)
    except Exception as error:  # many layers can fail: offline, disk full, data set moved
        raise TitleSetError(
            f"cannot load {HN_DATASET} at {HN_REVISION[:12]} ({type(error).__name__}: {error}); is the "
            "network up? Offline, use file:PATH or docstrings"
        ) from error
    if len(rows) != HN_ROWS:
        raise TitleSetError(f"{HN_DATASET} has {len(rows)} rows, not {HN_ROWS}: this is a different data set")
    return rows.shuffle(seed=seed).take(HN_TITLES)["title"]


def _file_lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as stream:
            is_gzip = stream.read(2) == b"\x1f\x8b"
        with (gzip.open if is_gzip else open)(path, "rt", encoding="utf-8", newline="\n") as stream:
            yield from stream
    except OSError as error:
        raise TitleSetError(f"cannot read {path.name}: {error.strerror or error}") from error
    except (UnicodeDecodeError, EOFError) as error:
        raise TitleSetError(f"cannot read {path.name} as UTF-8 text: {error}") from error


def _docstring_lines() -> list[str]:
    """Return the distinct first docstring lines of the installed packages, cached by their versions."""
    versions = {"": platform.python_version()}
    for package, distribution in DOCSTRING_PACKAGES.items():
        if package and importlib.util.find_spec(package):
            try:
                versions[package] = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:  # a plain folder, or of another distribution
                continue
    key = digest([versions, MIN_CHARS, MAX_CHARS, sorted(SKIPPED_FOLDERS)])[:16]
    cached = default_cache_dir() / f"docstrings-{key}.txt"
    if cached.is_file():
        return cached.read_text(encoding="utf-8").split("\n")[:-1]
    files = [path for package in sorted(versions) for path in _files_of(package)]
    lines = list(dict.fromkeys(line for path in progress(files, "docstrings") for line in _first_lines(path)))
    try:
        write_text(cached, "".join(f"{line}\n" for line in lines))
    except WorkspaceError as error:
        warnings.warn(f"the docstrings are not cached, and are read again next time: {error}", stacklevel=2)
    return lines


def _files_of(package: str) -> list[Path]:
    root = Path(sysconfig.get_paths()["stdlib"])
    if package:
        root = Path(next(iter(importlib.util.find_spec(package).submodule_search_locations)))
    return sorted(p for p in root.rglob("*.py") if not SKIPPED_FOLDERS & set(p.relative_to(root).parts[:-1]))


def _first_lines(path: Path) -> Iterator[str]:
    """Yield first lines of a file's docstrings that are about as long as a headline."""
    source = path.read_bytes()
    if b'"""' not in source and b"'''" not in source:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd escapes in other people's code
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = storable(ast.get_docstring(node) or "").partition("\n")[0]
            line = " ".join(first.split())
            if MIN_CHARS <= len(line) <= MAX_CHARS and " " in line:
                yield line
