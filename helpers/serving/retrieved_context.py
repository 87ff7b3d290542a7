"""Code that is put in front of a prompt: what the run's index holds about it, and what an editor sends.

Queries and forms are those of the measured completion (`helpers.eval.completion_context`): the last lines
before the cursor are the query, and the best function stands last, next to the file's own code. If the run
measured completion, its heads and share are used. Functions that stand in the text already are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from helpers.code.languages import language_of
from helpers.errors import SuiteError
from helpers.eval.completion_choice import SHARES
from helpers.eval.completion_context import PromptForm, TrainingCode, heads_for, query_of, ranked_units
from helpers.lines import bare_lines
from helpers.records import CompletionItem, Document
from helpers.run.workspace import read_json, read_jsonl
from helpers.tools.search import CodeSearch

DOCUMENTS = "track_c/data/documents.jsonl"
MEASURED = "track_a/completion/completion.json"
MOST_UNITS = 24  # more do not fit into a prompt
LEAST_LINE = 8  # characters of a line that tells two functions apart


class ContextFilesError(SuiteError, ValueError):
    """A run without the files that retrieval for prompts needs."""


@dataclass(frozen=True)
class Place:
    """Where a model is asked to go on."""

    left: str
    right: str = ""
    path: str = ""  # of the file, if the editor said it
    extra: tuple[Document, ...] = ()  # chunks that the editor sends along, the most important one last


def run_functions(run_folder: Path) -> list[Document]:
    """Return every function of the run's code base, as code; none if Track C has no documents."""
    path = run_folder / DOCUMENTS
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = read_jsonl(path)
    # The first line of a document is its name in words.
    return [Document(row["id"], row["text"].partition("\n")[2], row["path"]) for row in rows]


class RetrievedContext:
    """Writes what stands in front of prompts of one run.

    Args:
        search: finds functions; None if only the editor's chunks are written.

    Raises:
        ContextFilesError: if there is something to search with, and no function to find.
    """

    def __init__(self, run_folder: Path, search: CodeSearch | None) -> None:
        self.search = search
        self._units = {one.id: one for one in run_functions(run_folder)} if search else {}
        if search and not self._units:
            raise ContextFilesError(
                f"{run_folder} holds no functions to retrieve ({DOCUMENTS}): serve it without --retrieve"
            )
        self._chosen = _measured_form(run_folder / MEASURED)
        self._repository = _repository(run_folder)

    def prompt(self, tokenizer: PreTrainedTokenizerBase, place: Place, room: int) -> list[int]:
        """Return a prompt of at most `room` tokens that ends at the place."""
        code, item, ranked = self._ranked(place)
        return self._form(tokenizer).prompt(code, item, place.left, ranked, room)[0]

    def front(self, tokenizer: PreTrainedTokenizerBase, place: Place, room: int) -> list[int]:
        """Return what `prompt` puts before the file's own code; nothing if there is nothing to put there."""
        code, item, ranked = self._ranked(place)
        return self._form(tokenizer).front(code, item, place.left, ranked, room)[0]

    def _form(self, tokenizer: PreTrainedTokenizerBase) -> PromptForm:
        known, heads = heads_for(tokenizer), self._chosen.get("heads")
        share = self._chosen.get("share", SHARES[0])
        return PromptForm(tokenizer, self._repository, heads if heads in known else known[0], share)

    def _ranked(self, place: Place) -> tuple[TrainingCode, CompletionItem, list[str]]:
        """Return what may stand in front, the place as an item, and the ids, best first."""
        extra = {f"extra {n}": _unit(f"extra {n}", one) for n, one in enumerate(place.extra)}
        item = _item(place)
        ranked = [*reversed(extra), *self._found(item, place)]
        return TrainingCode({**self._units, **extra}, {}), item, ranked

    def _found(self, item: CompletionItem, place: Place) -> list[str]:
        """Return the ids of functions, best first, that the text does not hold already."""
        query = query_of(item, place.left).text
        if self.search is None or not query.strip():
            return []
        code = TrainingCode(self._units, {})
        own = _lines(place.left) | _lines(place.right)
        return [
            unit
            for unit in ranked_units(code, item, self.search.scores(query))[:MOST_UNITS]
            if not _stands_in(self._units[unit], own)
        ]


def _item(place: Place) -> CompletionItem:
    return CompletionItem(
        id="request", kind="next_line", path=place.path, language=language_of(place.path) or "python", line=0,
        start=len(place.left), end=len(place.left), target="", seen=False, cross_file=False,
    )  # fmt: skip


def _unit(name: str, chunk: Document) -> Document:
    return Document(name, chunk.text, chunk.path or "snippet.py")


def _stands_in(unit: Document, own: set[str]) -> bool:
    """Return whether the lines of a function that tell it apart stand in the text, most of them at least."""
    lines = _lines(unit.text)
    return bool(lines) and len(lines & own) > len(lines) / 2


def _lines(text: str) -> set[str]:
    return {line.strip() for line in bare_lines(text) if len(line.strip()) >= LEAST_LINE}


def _measured_form(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path)["context"])
    except (OSError, KeyError, TypeError, ValueError):  # completion was not measured
        return {}


def _repository(run_folder: Path) -> str:
    """Return the code base's name: the last part of what the run's settings call it."""
    try:
        spec = str(read_json(run_folder / "run.json")["profile"]["corpus"]["spec"])
    except (OSError, KeyError, TypeError, ValueError):
        return "repository"
    return spec.rpartition(":")[2].rstrip("/").rpartition("/")[2] or "repository"


def chunks_of(extra: Iterable[Any]) -> tuple[Document, ...]:
    """Return an editor's chunks, objects with `filename` and `text`, as documents."""
    return tuple(Document(one.filename, one.text, one.filename) for one in extra)
