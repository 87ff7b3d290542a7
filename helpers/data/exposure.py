"""Tell what a model may already have seen of the corpus, and which files it cannot have seen.

For the embedded model this is known: the list of its training sources lies beside its weights. For a hub
model, at most the date is known up to which its code was gathered. Files that changed later are measured
separately. A git history tells when each file changed; an installed package is compared with its newest
release from before the date (`helpers.data.older_release`). Without either, the note says so, and no files
are measured separately.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.code.near_duplicates import file_tokens, near_duplicates, shingles
from helpers.data.corpus_spec import CorpusError, run_git
from helpers.data.older_release import NoOlderReleaseError, older_release
from helpers.lines import bare_lines
from helpers.models.gguf.header import GgufError
from helpers.models.gguf.sources import find_gguf
from helpers.models.shapes import model_folder
from helpers.records import Corpus
from helpers.settings import CorpusSettings

# Beginning of a model's name -> day before which its code was gathered. On the hub the maker's name stands
# before it; a GGUF file gives its own.
CUT_OFFS = {
    ("Qwen", "Qwen2.5-Coder"): datetime.date(2024, 2, 1),  # technical report, arXiv 2409.12186
    ("HuggingFaceTB", "SmolLM2"): datetime.date(2024, 11, 1),  # day on which the weights were published
}
SOURCES = "training.json"  # training record beside the weights of a model of this project


@dataclass(frozen=True)
class Exposure:
    """What is known about a model having seen a corpus."""

    status: str  # "unseen", "trained_on", "partly_unseen" or "unknown"
    note: str  # the reason for `status`, in one sentence
    unseen: tuple[str, ...] = ()  # sorted paths whose present text the model cannot have seen


def exposure(model: str, corpus: Corpus) -> Exposure:
    """Return whether `model` may have seen `corpus`, as far as that is known.

    A package index is asked only for an installed package and a model with a known cut-off.
    """
    if (sources := _own_sources(model)) is not None:
        names = {corpus.name, corpus.import_name, *_distributions(corpus)}
        if seen := sorted(sources & {name.lower() for name in names if name}):
            named = f"{', '.join(seen)} is among the sources that {model} was trained on"
            return Exposure("trained_on", f"{named}: what it gains here says little")
        return Exposure("unseen", f"{corpus.name} is not among the sources that {model} was trained on")
    cut_off = _cut_off(model)
    if cut_off is None:
        unknown = f"nothing is known of what {model} was trained on"
        return Exposure("unknown", f"{unknown}: it may have seen these files")
    if corpus.spec.startswith("installed:"):
        return _by_older_release(model, corpus, cut_off)
    return _by_history(model, corpus, cut_off)


def _cut_off(model: str) -> datetime.date | None:
    """Return the day before which the model's code was gathered, by its name on the hub or in its file."""
    try:
        gguf = find_gguf(model)
    except GgufError:
        gguf = None
    own = "" if gguf is None else gguf.model_name().replace(" ", "-").lower()
    for (maker, family), day in CUT_OFFS.items():
        if model.startswith(f"{maker}/{family}") or own.startswith(family.lower()):
            return day
    return None


def _by_older_release(model: str, corpus: Corpus, cut_off: datetime.date) -> Exposure:
    """Take as unseen the files that are no near copy of a file in the newest release before the cut-off.

    Uses the corpus's near-duplicate threshold: a file of which only a line or two changed has been seen.
    """
    owners = sorted(_distributions(corpus))
    try:
        if not owners:
            raise NoOlderReleaseError(f"{corpus.name} comes from no package index")
        older = older_release(owners[0], cut_off)
    except NoOlderReleaseError as error:
        return _undated(model, cut_off, str(error))
    threshold = CorpusSettings().near_duplicate_threshold
    copies = _near_copies([file.text for file in corpus.files], older.texts, threshold)
    unseen = [file for number, file in enumerate(corpus.files) if number not in copies]
    texts, known = set(older.texts), {line for text in older.texts for line in _lines(text)}
    lines = [line for file in unseen for line in _lines(file.text)]
    stood = sum(line in known for line in lines) / max(len(lines), 1)
    differing = sum(file.text not in texts for file in corpus.files)
    return Exposure(
        "partly_unseen",
        f"{len(unseen)} of {len(corpus.files)} files are new or much changed since {older.name} "
        f"{older.version}, the newest release from before {cut_off}, up to which the code that {model} was "
        f"trained on was gathered (similarity to every file of it below {threshold:g}; {stood:.0%} of their "
        f"lines stood there, and {differing} files differ at all; what was public by then but not released "
        "may have been seen)",
        tuple(sorted(file.path for file in unseen)),
    )


def _near_copies(texts: Sequence[str], older: Sequence[str], threshold: float) -> set[int]:
    """Return the positions of `texts` that equal one of `older`, or are at least `threshold` similar."""
    known = set(older)
    equal = {number for number, text in enumerate(texts) if text in known}
    sets = [shingles(file_tokens(text)) for text in (*older, *texts)]
    alike = (group for group in near_duplicates(sets, threshold) if group[0] < len(older))
    return equal | {number - len(older) for group in alike for number in group if number >= len(older)}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in bare_lines(text) if line.strip()]


def _by_history(model: str, corpus: Corpus, cut_off: datetime.date) -> Exposure:
    """Take as unseen the files that a commit touched on or after the cut-off."""
    if not (changed := last_changes(corpus)):
        return _undated(model, cut_off, "a git working tree with its history would tell")
    unseen = tuple(sorted(path for path, day in changed.items() if day >= cut_off))
    return Exposure(
        "partly_unseen",
        f"{len(unseen)} of {len(corpus.files)} files changed on or after {cut_off}, before which the code "
        f"that {model} was trained on was gathered",
        unseen,
    )


def _undated(model: str, cut_off: datetime.date, why: str) -> Exposure:
    return Exposure(
        "unknown",
        f"{model} was trained on code gathered before {cut_off}; when these files changed is not known "
        f"here ({why}), so that it may have seen any of them",
    )


def last_changes(corpus: Corpus) -> dict[str, datetime.date]:
    """Return path -> day of the last commit that touched the file; empty without a git history.

    Files that no commit touched are left out. In a shallow clone nothing is known about any file.
    """
    command = "-c core.quotePath=off log --format=%x00%cs --name-only --relative -- ."
    try:
        if run_git(["rev-parse", "--is-shallow-repository"], cwd=Path(corpus.root)) != "false":
            return {}
        log = run_git(command.split(), cwd=Path(corpus.root))
    except (CorpusError, OSError):
        return {}
    wanted, found = {file.path for file in corpus.files}, {}
    for commit in log.split("\0")[1:]:  # newest first
        day, *paths = commit.split("\n")
        for path in paths:
            if path in wanted:
                found.setdefault(path, datetime.date.fromisoformat(day))
    return found


def _own_sources(model: str) -> set[str] | None:
    """Return the packages that a model of this project was trained on; None for any other model."""
    try:
        phases = json.loads((model_folder(model) / SOURCES).read_text())
        last = next(phase["corpus"] for phase in reversed(phases) if "corpus" in phase)
        return {source["name"].lower() for source in last["sources"]}
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None


def _distributions(corpus: Corpus) -> list[str]:
    top = corpus.import_name.split(".")[0]
    return importlib.metadata.packages_distributions().get(top, []) if top else []
