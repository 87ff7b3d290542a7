"""What stands before the cursor in a prompt: code retrieved from the training side, then the file's own.

A query is the last lines before the cursor. It is searched for among the functions of the training side. The
best ones are written before the file, the very best last, next to the file's own code. A function too long
for its room gives the stretch of whole lines that shares most words with the query. Each has a head: Qwen's
marks `<|repo_name|>` and `<|file_sep|>` where the tokenizer has them, a comment with the path, or none. Which
form suits a model, no configuration says; `helpers.eval.completion_choice` finds out.

Where the tokenizer has marks of fill-in-the-middle, what stands behind the place is in the prompt, too.

The file that is completed and twins of its functions never come back: `check_context` raises.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from helpers.code.languages import language_of
from helpers.data.twins import find_twins
from helpers.errors import SuiteError
from helpers.eval.lexical import LexicalIndex, build_lexical_index, search_terms
from helpers.eval.ranking import ranking
from helpers.lines import lines_of
from helpers.models.infilling import SUFFIX_SHARE, infill_marks
from helpers.models.token_borders import held_back
from helpers.models.tokens import batch_token_ids, continuing_ids, last_ids, token_ids
from helpers.records import CompletionItem, Document, Function, Query, SourceFile

QUERY_LINES = 8  # of the left context that are not blank
LEAST_ROOM = 24  # tokens; a stretch of code shorter than that is not worth its head
Heads = Literal["marks", "comments", "none"]
REPOSITORY, FILE = "<|repo_name|>", "<|file_sep|>"


class ContextError(SuiteError, ValueError):
    """Retrieved code comes from the completed file, from a twin of it, or not from the training side."""


@dataclass(frozen=True)
class TrainingCode:
    """What may be retrieved: functions of the training side, or whole files of it."""

    units: Mapping[str, Document]  # by id
    barred: Mapping[str, Collection[str]]  # held-out path -> ids that hold a twin of one of its functions


def training_functions(
    functions: Sequence[Function], training: Collection[str], held_out: Collection[str], threshold: float
) -> TrainingCode:
    """Return the functions of the training files, without those nested in others.

    Args:
        training, held_out: paths of the files on both sides.
        threshold: similarity from which functions are twins, as the corpus' own.
    """
    outer = [f for f in functions if f.path in training and not f.is_nested]
    units = {f.id: Document(f.id, f.code, f.path) for f in outer}
    some = [f for f in functions if f.path in training or f.path in held_out]
    around = {f.id: _outer_id(f, outer) for f in some if f.path in training}
    barred: dict[str, set[str]] = defaultdict(set)
    for _, members in find_twins(some, threshold):
        known = {around[some[index].id] for index in members if some[index].path in training}
        for path in {some[index].path for index in members} & set(held_out):
            barred[path] |= known - {""}
    return TrainingCode(units, dict(barred))


def training_files(files: Sequence[SourceFile], functions: TrainingCode) -> TrainingCode:
    """Return whole files of the training side; one with a twin of a held-out function is barred as well."""
    barred = {
        path: {functions.units[unit].path for unit in found} for path, found in functions.barred.items()
    }
    return TrainingCode({file.path: Document(file.path, file.text, file.path) for file in files}, barred)


def query_of(item: CompletionItem, text: str) -> Query:
    """Return the last lines before the place as a query; `text` is that of its file."""
    lines = [line for line in lines_of(text[: item.start]) if line.strip()][-QUERY_LINES:]
    return Query(item.id, "".join(lines), "completion", {}, item.path, 0.0)


def code_index(code: TrainingCode) -> LexicalIndex:
    """Return BM25 over the code as it stands."""
    return build_lexical_index(list(code.units.values()), form=str)


def ranked_units(code: TrainingCode, item: CompletionItem, scores: Mapping[str, float]) -> list[str]:
    """Return the ids that may come back at a place, best first; what scores nothing does not."""
    barred = set(code.barred.get(item.path, ()))
    found = {
        unit: score for unit, score in scores.items()
        if score > 0 and unit in code.units and unit not in barred and code.units[unit].path != item.path
    }  # fmt: skip
    return ranking(found)


def check_context(code: TrainingCode, item: CompletionItem, context: Sequence[str]) -> None:
    """Check that nothing retrieved at a place gives its answer away.

    Raises:
        ContextError: for a unit of the item's file, one with a twin there, or one not of the training side.
    """
    for unit in context:
        if unit not in code.units:
            raise ContextError(f"{item.id}: {unit} is not of the training side")
        if code.units[unit].path == item.path:
            raise ContextError(f"{item.id}: {unit} is of the file that is completed")
        if unit in code.barred.get(item.path, ()):
            raise ContextError(f"{item.id}: {unit} holds a twin of a function of that file")


def heads_for(tokenizer: PreTrainedTokenizerBase) -> tuple[Heads, ...]:
    """Return the kinds of heads that a tokenizer can write, its family's marks first."""
    has_marks = {REPOSITORY, FILE} <= set(tokenizer.get_vocab())
    return ("marks", "comments", "none") if has_marks else ("comments", "none")


def written_first(tokenizer: PreTrainedTokenizerBase, item: CompletionItem, text: str) -> str:
    """Return the white space before a place that prompts lack and the model writes first.

    With fill-in-the-middle there is none: models learned it from text that was cut anywhere.
    """
    return "" if infill_marks(tokenizer) is not None else held_back(tokenizer, text[: item.start])


class PromptForm:
    """Writes prompts with retrieved code under heads of one kind.

    Args:
        repository: its name, which stands in the marks.
        share: of a prompt's tokens that retrieved code may take at most.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        repository: str,
        heads: Heads,
        share: float,
        *,
        left_to_right: bool = False,
    ) -> None:
        """Write prompts left to right, up to the place, if asked to; else as fill-in-the-middle where the
        tokenizer can, and elsewhere up to what is `written_first`.
        """
        vocabulary = tokenizer.get_vocab()
        self.tokenizer, self.heads, self.share = tokenizer, heads, share
        self.has_marks = heads == "marks"
        self.infill = None if left_to_right else infill_marks(tokenizer)
        self.left_to_right = left_to_right
        self._lines: dict[Document, tuple[list[str], list[int], list[frozenset[str]]]] = {}
        self._file = [vocabulary[FILE]] if self.has_marks else []
        self._start = (
            [vocabulary[REPOSITORY], *token_ids(tokenizer, f"{repository}\n")] if self.has_marks else []
        )

    def prompt(
        self, code: TrainingCode, item: CompletionItem, text: str, ranked: Sequence[str], room: int
    ) -> tuple[list[int], tuple[str, ...]]:
        """Return the prompt at a place, and the ids of the units in it, the best one last.

        Without units that fit it is `plain`, as without retrieval.

        Args:
            text: of the item's file.
            ranked: ids of units, best first.
            room: tokens of the whole prompt.
        """
        before, used = self.front(code, item, text, ranked, room)
        if not used:
            return self.plain(item, text, room), ()
        return self._around(before, item, text, room), used

    def front(
        self, code: TrainingCode, item: CompletionItem, text: str, ranked: Sequence[str], room: int
    ) -> tuple[list[int], tuple[str, ...]]:
        """Return what `prompt` puts before the file's own code, and the ids of the units in it."""
        query = set(search_terms(query_of(item, text).text))
        found = self._retrieved(code, query, item.path, ranked, room)
        if not found:
            return [], ()
        used = tuple(unit for unit, _ in found)
        check_context(code, item, used)
        return [*self._start, *(token for _, ids in found for token in ids), *self._head(item.path)], used

    def plain(self, item: CompletionItem, text: str, room: int) -> list[int]:
        """Return the prompt at a place without retrieved code: the end of what stands before it, and with
        fill-in-the-middle the beginning of what stands behind it.
        """
        if self.infill is None:
            return last_ids(self.tokenizer, self._left(item, text), room)
        return self._around([], item, text, room)

    def _left(self, item: CompletionItem, text: str) -> str:
        """Return what stands before the place, without what the model is to write first."""
        left = text[: item.start]
        return left if self.left_to_right else left.removesuffix(written_first(self.tokenizer, item, text))

    def _around(self, before: list[int], item: CompletionItem, text: str, room: int) -> list[int]:
        """Return `before` and the file's own code around the place."""
        if self.infill is None:
            return before + self._own(self._left(item, text), room - len(before))
        room -= 3  # marks
        behind = continuing_ids(self.tokenizer, text[item.end :])[: int(room * SUFFIX_SHARE)]
        own = self._own(text[: item.start], max(1, room - len(before) - len(behind)))
        if self.has_marks:  # a file of its own, after those that were retrieved
            return before + self.infill.psm(own, behind)
        return self.infill.psm([*before, *own], behind)

    def _retrieved(
        self, code: TrainingCode, query: set[str], path: str, ranked: Sequence[str], room: int
    ) -> list[tuple[str, list[int]]]:
        """Return id and tokens of each unit that fits its share of a prompt, the best one last."""
        left = int(room * self.share) - len(self._start) - len(self._head(path))
        found: list[tuple[str, list[int]]] = []
        for unit in ranked:
            if left < LEAST_ROOM:
                break
            if ids := self._unit(code.units[unit], query, left):
                left -= len(ids)
                found.insert(0, (unit, ids))
        return found

    def _own(self, left: str, room: int) -> list[int]:
        """Return the end of the file's own code, from the start of a line on if it has to be cut."""
        ids = continuing_ids(self.tokenizer, left)
        cut = ids[-room:]
        if len(cut) == len(ids):
            return cut
        for number, token in enumerate(cut[: len(cut) // 2]):
            text = self.tokenizer.decode([token])
            if "\n" in text:  # a token may hold the next line's indentation too
                return cut[number + text.endswith("\n") :]
        return cut

    def _head(self, path: str) -> list[int]:
        if self.heads == "none":
            return []
        if self.has_marks:
            return [*self._file, *token_ids(self.tokenizer, f"{path}\n")]
        mark = "#" if language_of(path) == "python" else "//"
        return token_ids(self.tokenizer, f"{mark} {path}\n")

    def _unit(self, unit: Document, query: set[str], room: int) -> list[int]:
        """Return a unit's code under its head, cut to `room` tokens; nothing if too little of it fits."""
        head = self._head(unit.path)
        if unit not in self._lines:
            lines = lines_of(unit.text.strip("\r\n") + ("\n" if self.has_marks else "\n\n"))
            words = [frozenset(search_terms(line)) for line in lines]
            sizes = [len(ids) for ids in batch_token_ids(self.tokenizer, lines)]
            self._lines[unit] = (lines, sizes, words)
        lines, sizes, words = self._lines[unit]
        first, last = _best_stretch([line & query for line in words], sizes, room - len(head))
        if sum(sizes[first:last]) < min(LEAST_ROOM, sum(sizes)):
            return []
        # Encoded as one, since tokens may reach over line ends; they are no more than those of the lines.
        return [*head, *continuing_ids(self.tokenizer, "".join(lines[first:last]))[: room - len(head)]]


def _best_stretch(shared: Sequence[frozenset[str]], sizes: Sequence[int], room: int) -> tuple[int, int]:
    """Return first and last (exclusive) of the whole lines that fit and share most words with the query.

    Args:
        shared: the words of each line that the query has too.
        sizes: tokens of each line.
    """
    best, chosen = -1, (0, 0)
    last = size = 0
    for first in range(len(sizes)):
        while last < len(sizes) and size + sizes[last] <= room:
            size += sizes[last]
            last += 1
        found = len(frozenset().union(*shared[first:last]))
        if found > best and last > first:
            best, chosen = found, (first, last)
        if last == len(sizes):
            break
        if last > first:
            size -= sizes[first]
        else:
            last = first + 1  # a line that does not fit by itself
    return chosen


def _outer_id(function: Function, outer: Sequence[Function]) -> str:
    """Return the id of the function around a nested one, or its own; "" if it lies in none."""
    if not function.is_nested:
        return function.id
    inside = (
        f.id for f in outer
        if f.path == function.path and f.start_line <= function.start_line <= f.end_line
    )  # fmt: skip
    return next(inside, "")
