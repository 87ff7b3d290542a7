"""Load a corpus: one code base, its accepted files, and every rejected file with the reason.

`load_corpus` is all that a caller needs. `helpers.data.corpus_spec` finds the code, `helpers.data.cleaning`
decides which files are taken. Nothing of the code base is imported or run here.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from helpers.code.secrets import count_kinds
from helpers.data.cleaning import clean_folder
from helpers.data.corpus_spec import CorpusError, resolve_spec
from helpers.data.git_rules import all_tracked, git_rules
from helpers.data.licences import licence_files, licence_warning
from helpers.records import Corpus, RejectedFile
from helpers.settings import CorpusSettings, public_spec

NAMEABLE = {  # reasons that an `include` pattern overrides
    "submodule", "ignored by git", "hidden", "vendored", "build output", "test", "generated", "minified",
}  # fmt: skip
FEW_FILES = 100  # with fewer, the suite still runs but says that its figures rest on little code


def load_corpus(
    spec: str, settings: CorpusSettings | None = None, *, cache_dir: Path | None = None
) -> Corpus:
    """Read one code base by the rules of `helpers.data.cleaning`.

    Args:
        spec: where the code lies; overrides `settings.spec`, which an empty string stands for.
            installed:NAME      a package or module of this Python, found without importing it
            path:DIR            a folder, relative to the current one
            git:URL[@revision]  a shallow clone (https, ssh, git, file or a local path)
            zip:FILE            an archive; a single top folder inside it is entered
        settings: limits and patterns; default `CorpusSettings()`.
        cache_dir: where clones and unpacked archives stay, because their code is run from there later;
            default `$XDG_CACHE_HOME/adapt-a-code-model`, or a folder below ~/.cache.

    Returns:
        The corpus. `files` and `rejected` are sorted by path; `sha256` covers the paths and hashes of the
        accepted files. Few accepted files, or none, are no error: see `corpus_warnings`.

    Raises:
        CorpusError: if the spec is malformed or unsafe, or there is no code at all.
    """
    settings = settings or CorpusSettings()
    spec = spec or settings.spec
    source = resolve_spec(spec, cache_dir)
    # An installed package lies in a folder that repositories ignore, and is no working tree itself.
    kind = spec.partition(":")[0]
    git = None if kind == "installed" else git_rules(source.root, look_above=kind == "path")
    if git and source.is_git_archive:
        git = all_tracked(git, source.root)
    files, rejected = clean_folder(source.root, settings, only=source.only, git=git)
    if not files and not rejected:
        why = "the folder is empty; name one that holds source files"
        raise CorpusError(f"nothing to read in {public_spec(spec)!r}: {why}")
    hashes = sorted(f"{file.sha256}  {file.path}\n" for file in files)
    return Corpus(
        spec=public_spec(spec), name=source.name, version=source.version, licence=source.licence,
        root=str(source.root), import_name=source.import_name, files=files, rejected=rejected,
        sha256=hashlib.sha256("".join(hashes).encode()).hexdigest(),
        licence_files=licence_files(source.root, (file.path for file in rejected)),
    )  # fmt: skip


def rejection_counts(rejected: tuple[RejectedFile, ...]) -> dict[str, int]:
    """Return reason -> number of entries, most frequent first, then by name."""
    return dict(Counter(sorted(file.reason for file in rejected)).most_common())


def secret_counts(corpus: Corpus) -> dict[str, int]:
    """Return kind -> number of secrets masked in the accepted files."""
    return count_kinds(tuple(kind for file in corpus.files for kind in file.masked))


def corpus_warnings(corpus: Corpus) -> list[str]:
    """Return what a person should know first: no usable files, licence doubts, secrets found."""
    warnings = []
    if not corpus.files:
        left_out = ", ".join(f"{n} {reason}" for reason, n in rejection_counts(corpus.rejected).items())
        warnings.append(
            f"No source file could be used, so nothing was measured (left out: {left_out}). {_advice(corpus)}"
        )
    warnings.append(licence_warning(corpus.licence, corpus.licence_files))
    if secrets := secret_counts(corpus):
        named = ", ".join(f"{count} {kind}" for kind, count in secrets.items())
        warnings.append(
            f"Secrets were found in the code and masked before any data were made from it ({named}). Other "
            "kinds may have been missed, and anyone who has seen this repository may know them."
        )
    return [warning for warning in warnings if warning]


def _advice(corpus: Corpus) -> str:
    """Return what would help a corpus of which nothing was taken, by the reasons found."""
    reasons = {file.reason for file in corpus.rejected}
    advice = ["Name a folder with the source itself"]
    if "notebook" in reasons:
        advice.append("take the code of notebooks with --set corpus.notebooks=true")
    if "language not wanted" in reasons:
        advice.append("name its language with --set corpus.languages=LANGUAGE")
    if "submodule" in reasons:
        advice.append("fetch submodules with git submodule update --init and name one as path:FOLDER")
    if reasons & {"too small", "too large"}:
        advice.append("move the limits with --set corpus.min_file_bytes=N or corpus.max_file_bytes=N")
    if reasons & NAMEABLE:
        how = "--set corpus.include=PATTERN, such as tests/*"
        advice.append(f"include what was left out by its path with {how}")
    return ", or ".join(advice)


def summary_line(corpus: Corpus) -> str:
    """Return one sentence on what was accepted, and a warning if that is little."""
    size = sum(file.n_bytes for file in corpus.files)
    line = (
        f"{corpus.name} {corpus.version}".strip() + f" ({corpus.licence}): {len(corpus.files)} files, "
        f"{size / 1e6:.2f} MB taken; {len(corpus.rejected)} entries rejected"
    )
    if 0 < len(corpus.files) < FEW_FILES:
        line += f". Fewer than {FEW_FILES} files: expect wide intervals and perhaps a track that cannot run"
    return line
