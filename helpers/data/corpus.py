"""The corpus: one code base, its accepted files, and every rejected one with the reason.

`load_corpus` is all a caller needs. Where the code comes from is `sources`, what is taken of it is
`cleaning`; nothing of the code base is imported or run here.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from helpers.code.secrets import count_kinds
from helpers.data.cleaning import clean_folder
from helpers.data.licences import licence_files, licence_warning
from helpers.data.sources import CorpusError, resolve_spec
from helpers.records import Corpus, RejectedFile
from helpers.settings import CorpusSettings, public_spec

__all__ = [
    "FEW_FILES", "CorpusError", "corpus_warnings", "load_corpus", "rejection_counts", "secret_counts",
    "summary_line",
]  # fmt: skip

FEW_FILES = 100  # below it the suite runs, and says that its figures rest on little code


def load_corpus(
    spec: str, settings: CorpusSettings | None = None, *, cache_dir: Path | None = None
) -> Corpus:
    """Read one code base by the rules of `helpers.data.cleaning`.

    Args:
        spec: where the code lies; wins over `settings.spec`. An empty string takes the latter.
            installed:NAME      a package or module of this Python, found without importing it
            path:DIR            a folder, relative to the current one
            git:URL[@revision]  a shallow clone (https, ssh, git, file or a local path)
            zip:FILE            an archive; one top folder inside it is stepped into
        settings: limits and patterns; default `CorpusSettings()`.
        cache_dir: where clones and unpacked archives are kept, because code is run from there
            later; default `$XDG_CACHE_HOME/adapt-a-code-model`, else below ~/.cache.

    Returns:
        The corpus; `files` and `rejected` are sorted by path, `sha256` covers the accepted files'
        (path, sha256) pairs. Few files or none at all are no error, as long as there is something to
        list: see `summary_line` and `corpus_warnings`.

    Raises:
        CorpusError: when the spec is malformed or unsafe, or there is no code at all.
    """
    settings = settings or CorpusSettings()
    spec = spec or settings.spec
    source = resolve_spec(spec, cache_dir)
    files, rejected = clean_folder(source.root, settings, only=source.only)
    if not files and not rejected:
        raise CorpusError(
            f"nothing to read in {spec!r}: the folder is empty; name one that holds source files"
        )
    return Corpus(
        spec=public_spec(spec), name=source.name, version=source.version, licence=source.licence,
        root=str(source.root), import_name=source.import_name, files=files, rejected=rejected,
        sha256=_digest((file.path, file.sha256) for file in files),
        licence_files=licence_files(source.root, (file.path for file in rejected)),
    )  # fmt: skip


def rejection_counts(rejected: tuple[RejectedFile, ...]) -> dict[str, int]:
    """Reason -> number of entries, most frequent first, then by name."""
    counts = Counter(file.reason for file in rejected)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def secret_counts(corpus: Corpus) -> dict[str, int]:
    """Kind -> number of secrets that were masked in the accepted files."""
    return count_kinds(tuple(kind for file in corpus.files for kind in file.masked))


def corpus_warnings(corpus: Corpus) -> list[str]:
    """What a person should know first: nothing to use, doubts about the licence, secrets that were found."""
    warnings = []
    if not corpus.files:
        counted_reasons = ", ".join(
            f"{n} {reason}" for reason, n in rejection_counts(corpus.rejected).items()
        )
        warnings.append(
            f"No source file could be used, so that nothing was measured (left out: {counted_reasons}). "
            "Name a folder with the source itself, or take what was left out by its place with "
            "--set corpus.include=PATTERN, such as tests/*"
        )
    warnings.append(licence_warning(corpus.licence, corpus.licence_files))
    if secrets := secret_counts(corpus):
        named = ", ".join(f"{count} {kind}" for kind, count in secrets.items())
        warnings.append(
            f"Secrets were found in the code and masked before anything was made of it ({named}). Other "
            "kinds may have been missed; whoever has seen this repository may hold them."
        )
    return [warning for warning in warnings if warning]


def summary_line(corpus: Corpus) -> str:
    """One sentence on what was taken, with a warning where it is little."""
    size = sum(file.n_bytes for file in corpus.files)
    line = (
        f"{corpus.name} {corpus.version}".strip() + f" ({corpus.licence}): {len(corpus.files)} files, "
        f"{size / 1e6:.2f} MB taken; {len(corpus.rejected)} entries rejected"
    )
    if 0 < len(corpus.files) < FEW_FILES:
        line += f". Fewer than {FEW_FILES} files: expect wide intervals and perhaps a track that cannot run"
    return line


def _digest(pairs) -> str:
    """SHA-256 over the sorted (path, sha256) pairs."""
    lines = sorted(f"{digest}  {path}\n" for path, digest in pairs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
