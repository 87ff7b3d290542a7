"""What a model may have seen of the corpus before it was adapted, and which files it cannot have seen.

For the embedded model that is known: the list of its training sources lies beside its weights. For hub
models at most the date is known up to which their code was gathered; files that changed after it are a
slice of their own. When a file last changed is known where the corpus lies in a git working tree with its
history. An installed package does not say when its files changed, nor does a fetched revision without
its history; the note says so then, and there is no slice.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from helpers.models.shapes import model_folder
from helpers.records import Corpus

# Beginning of a model's name -> day before which its code was gathered, as its makers say.
CUT_OFFS = {
    "Qwen/Qwen2.5-Coder": datetime.date(2024, 2, 1),  # technical report, arXiv 2409.12186
}
SOURCES = "training.json"  # of a model of this project


@dataclass(frozen=True)
class Exposure:
    """`status` is "unseen", "trained_on", "partly_unseen" or "unknown"; `note` says why in one sentence."""

    status: str
    note: str
    unseen: frozenset[str] = field(default_factory=frozenset)  # paths changed after the cut-off, if any


def exposure(model: str, corpus: Corpus) -> Exposure:
    """What is known of `model` having seen `corpus`."""
    sources = _own_sources(model)
    if sources is not None:
        names = {corpus.name, corpus.import_name, *_distributions(corpus)}
        if seen := sorted(sources & {name.lower() for name in names if name}):
            named = f"{', '.join(seen)} is among the sources that {model} was trained on"
            return Exposure("trained_on", f"{named}: what it gains here says little")
        return Exposure("unseen", f"{corpus.name} is not among the sources that {model} was trained on")
    cut_off = next((day for name, day in CUT_OFFS.items() if model.startswith(name)), None)
    if cut_off is None:
        return Exposure(
            "unknown", f"nothing is known of what {model} was trained on: it may have seen these files"
        )
    changed = last_changes(corpus)
    if not changed:
        return Exposure(
            "unknown",
            f"{model} was trained on code gathered before {cut_off}; when these files changed is not known "
            "here (a git working tree with its history would tell), so that it may have seen any of them",
        )
    unseen = frozenset(path for path, day in changed.items() if day >= cut_off)
    return Exposure(
        "partly_unseen",
        f"{len(unseen)} of {len(corpus.files)} files changed on or after {cut_off}, before which the code "
        f"that {model} was trained on was gathered",
        unseen,
    )


def last_changes(corpus: Corpus) -> dict[str, datetime.date]:
    """Path -> day of the commit that last touched the file; empty without a git history.

    Files that no commit touched are left out. Where the history is cut off (a shallow clone), nothing is
    known of any.
    """
    root = Path(corpus.root)
    if _git(root, "rev-parse", "--is-shallow-repository") != "false":
        return {}
    log = _git(
        root, "-c", "core.quotePath=off", "log", "--format=%x00%cs", "--name-only", "--relative", "--", "."
    )
    wanted, found = {file.path for file in corpus.files}, {}
    for commit in log.split("\0")[1:]:  # newest first
        day, *paths = commit.split("\n")
        for path in paths:
            if path in wanted:
                found.setdefault(path, datetime.date.fromisoformat(day))
    return found


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            errors="replace",
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _own_sources(model: str) -> set[str] | None:
    """Names of the packages that a model of this project was trained on; None for any other model."""
    try:
        stretches = json.loads((model_folder(model) / SOURCES).read_text())
        last = next(stretch["corpus"] for stretch in reversed(stretches) if "corpus" in stretch)
        return {source["name"].lower() for source in last["sources"]}
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None


def _distributions(corpus: Corpus) -> list[str]:
    top = corpus.import_name.split(".")[0]
    return importlib.metadata.packages_distributions().get(top, []) if top else []
