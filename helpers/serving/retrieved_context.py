"""Code that is put in front of a prompt: what the run's index holds about it, and what an editor sends.

Queries, forms and functions are those of `helpers.tools.retrieved_prompt`, here loaded once for many
requests. If the run's comparison of completions chose BM25, BM25 searches, else the search of
`python -m helpers search`. Functions that stand in the text already are left out: editors do not say which
file is edited.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from helpers.code.languages import language_of
from helpers.eval.completion_choice import BM25, SHARES
from helpers.eval.completion_context import (
    PromptForm,
    TrainingCode,
    code_index,
    heads_for,
    query_of,
    ranked_units,
)
from helpers.lines import bare_lines
from helpers.machine.hardware import Runtime
from helpers.records import CompletionItem, Document
from helpers.tools.retrieved_prompt import UNNAMED, RetrievalError, chosen_context, retrievable_code
from helpers.tools.search import CodeSearch

MOST_UNITS = 24  # more do not fit into a prompt
LEAST_LINE = 8  # characters of a line that tells two functions apart


@dataclass(frozen=True)
class Place:
    """Where a model is asked to go on."""

    left: str
    right: str = ""
    path: str = ""  # of the file in the repository, if it is known
    extra: tuple[Document, ...] = ()  # chunks that the editor sends along, the most important one last


class RetrievedContext:
    """Writes what stands in front of the prompts of one run.

    Args:
        code: what may be retrieved; nothing if only the editor's chunks are written.
        search: scores of functions for a query.
        form: repository, heads and share of `PromptForm`; "" as heads takes the tokenizer's own.
    """

    def __init__(
        self,
        code: TrainingCode | None = None,
        search: Callable[[str], Mapping[str, float]] | None = None,
        form: Mapping[str, Any] | None = None,
    ) -> None:
        self._code, self._search = code or TrainingCode({}, {}), search
        self._form_options = dict(form or {"repository": "repository", "heads": "", "share": SHARES[0]})

    def prompt(self, tokenizer: PreTrainedTokenizerBase, place: Place, room: int) -> list[int]:
        """Return a prompt of at most `room` tokens that ends at the place."""
        code, item, ranked = self._ranked(place)
        return self._form(tokenizer).prompt(code, item, place.left, ranked, room)[0]

    def front(self, tokenizer: PreTrainedTokenizerBase, place: Place, room: int) -> list[int]:
        """Return what `prompt` puts before the file's own code; nothing if there is nothing to put there."""
        code, item, ranked = self._ranked(place)
        return self._form(tokenizer).front(code, item, place.left, ranked, room)[0]

    def found(self, place: Place) -> list[str]:
        """Return the ids of the functions for a place, best first, without those that its text holds."""
        item = _item(place)
        query = query_of(item, place.left).text
        if self._search is None or not query.strip():
            return []
        own = _lines(place.left) | _lines(place.right)
        ranked = ranked_units(self._code, item, self._search(query))[:MOST_UNITS]
        return [unit for unit in ranked if not _stands_in(self._code.units[unit], own)]

    def _form(self, tokenizer: PreTrainedTokenizerBase) -> PromptForm:
        options, known = self._form_options, heads_for(tokenizer)
        heads = options["heads"] if options["heads"] in known else known[0]
        return PromptForm(tokenizer, options["repository"], heads, options["share"], left_to_right=True)

    def _ranked(self, place: Place) -> tuple[TrainingCode, CompletionItem, list[str]]:
        """Return what may stand in front, the place as an item, and the ids, best first."""
        extra = {
            f"extra {n}": Document(f"extra {n}", one.text, one.path or UNNAMED)
            for n, one in enumerate(place.extra)
        }
        ranked = [*reversed(extra), *self.found(place)]
        return TrainingCode({**self._code.units, **extra}, {}), _item(place), ranked


def run_context(run_folder: Path, runtime: Runtime) -> RetrievedContext:
    """Return what puts functions of a run's index in front of prompts.

    Raises:
        RetrievalError, SearchError: if the run lacks Track C's documents or index.
    """
    code = retrievable_code(run_folder)
    try:
        chosen = chosen_context(run_folder)
    except RetrievalError:  # completion was not measured
        search = CodeSearch(run_folder, runtime)
        return RetrievedContext(code, search.scores)
    if chosen.retriever != BM25:
        return RetrievedContext(code, CodeSearch(run_folder, runtime).scores, chosen.form)
    words = code_index(code)
    return RetrievedContext(
        code, lambda query: dict(zip(words.ids, words.scores(query).tolist(), strict=True)), chosen.form
    )


def chunks_of(extra: Sequence[Any], most: int) -> tuple[Document, ...]:
    """Return an editor's chunks, objects with `filename` and `text`, as documents.

    Args:
        extra: the most important one last.
        most: characters of all names and texts; what goes beyond is left out, from the front, since to
            choose among the lines of more than a prompt can hold takes seconds.
    """
    kept: list[Document] = []
    for one in reversed(extra):
        text = one.text[: max(0, most - len(one.filename))]
        most -= len(one.filename) + len(text)
        if not text:
            break
        kept.append(Document(one.filename, text, one.filename))
    return tuple(reversed(kept))


def _item(place: Place) -> CompletionItem:
    at = len(place.left)
    language = language_of(place.path or UNNAMED)
    return CompletionItem(
        "request", "next_line", place.path or UNNAMED, language, 1, at, at, "", False, False
    )


def _stands_in(unit: Document, own: set[str]) -> bool:
    """Return whether most of the lines that tell a function apart stand in the text."""
    lines = _lines(unit.text)
    return bool(lines) and len(lines & own) > len(lines) / 2


def _lines(text: str) -> set[str]:
    return {line.strip() for line in bare_lines(text) if len(line.strip()) >= LEAST_LINE}
