"""What is measured on one completion: where it is cut, and how near it comes to what stands there.

White space at the ends of target and completion counts for nothing in any measure.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from helpers.code.literals import OTHER, lexemes
from helpers.code.statements import syntax_errors
from helpers.data.completion_items import names_in
from helpers.lines import lines_of
from helpers.models.tokens import continuing_ids
from helpers.records import CompletionItem

# At a statement's own margin, these go on with it.
GOES_ON = re.compile(r"(?:else|elif|except|finally|catch|case|default)\b|[)\]}]")
OPENING, CLOSING = frozenset("([{"), frozenset(")]}")


@dataclass(frozen=True)
class CompletionScore:
    """One completion and all that is measured on it."""

    item_id: str
    kind: str
    path: str
    arm: str
    text: str  # as cut by `cut_completion`
    context: tuple[str, ...]  # ids of what was put before the file, in that order
    group: str  # seen | cross-file | other, see `group_of`
    exact_match: bool
    edit_similarity: float  # 1 - Levenshtein distance / length of the longer text
    identifier_f1: float
    parses: bool  # with the completion in the target's place, the file has no more syntax errors
    stops: bool  # the model ended by itself, at the target's number of lines and of open brackets
    first_token: bool
    accepted_characters: int  # length of the common beginning


def group_of(item: CompletionItem) -> str:
    """Return the one group that an item is counted in: "seen" goes before "cross-file"."""
    return "seen" if item.seen else "cross-file" if item.cross_file else "other"


def cut_completion(kind: str, written: str, language: str) -> str:
    """Return the part of what a model wrote that counts: its first line; of a block, its first statement."""
    return first_statement(written, language) if kind == "block" else written.partition("\n")[0].rstrip("\r")


def first_statement(text: str, language: str) -> str:
    """Return the first statement of a text that may break off anywhere, without its last line's end.

    It goes on while brackets are open, lines are indented deeper than its first, or a line at its own margin
    begins with a word such as `else` or with a closing bracket.
    """
    taken: list[str] = []
    held: list[str] = []  # blank lines, which belong to it if it goes on
    margin, depth, is_open = 0, 0, True
    for line in lines_of(text):
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        is_inside = depth > 0 or is_open or indent > margin or (indent == margin and GOES_ON.match(bare))
        if not bare:
            held.append(line)
            continue
        if not is_inside:
            break
        margin = margin if any(part.strip() for part in taken) else indent
        taken += [*held, line]
        held = []
        depth = open_brackets("".join(taken), language)
        is_open = bare.startswith("@") or bare.endswith("\\")  # a decorator, a line that goes on
    return "".join(taken).rstrip("\r\n")


def open_brackets(code: str, language: str) -> int:
    """Return how many brackets a piece of code opens more than it closes, outside strings and comments."""
    marks = [x.text for x in lexemes(code, language) if x.kind == OTHER]
    return sum(mark in OPENING for mark in marks) - sum(mark in CLOSING for mark in marks)


def score_completion(
    item: CompletionItem,
    file_text: str,
    written: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    has_ended: bool,
    arm: str = "",
    context: tuple[str, ...] = (),
) -> CompletionScore:
    """Cut what a model wrote at `item` and measure it.

    Args:
        file_text: the text of the item's file.
        tokenizer: splits target and completion for `first_token`.
        has_ended: whether the model stopped before its budget of tokens was spent.
    """
    cut = cut_completion(item.kind, written, item.language)
    target, text = item.target.strip(), cut.strip()
    is_exact = text == target
    has_ended = has_ended or len(cut.rstrip()) < len(written.rstrip())
    return CompletionScore(
        item_id=item.id, kind=item.kind, path=item.path, arm=arm, text=cut, context=context,
        group=group_of(item),
        exact_match=is_exact,
        edit_similarity=edit_similarity(text, target),
        identifier_f1=identifier_f1(text, target, item.language),
        parses=is_exact or _parses(item, file_text, cut),
        stops=has_ended and _shape(text, item.language) == _shape(target, item.language),
        first_token=continuing_ids(tokenizer, text)[:1] == continuing_ids(tokenizer, target)[:1],
        accepted_characters=common_beginning(text, target),
    )  # fmt: skip


def edit_similarity(one: str, other: str) -> float:
    """Return 1 - d / length of the longer text, where d is Levenshtein's distance (1966); 1 for no text.

    >>> edit_similarity("kitten", "sitting")  # 3 edits, 7 characters
    0.5714285714285714
    """
    longer = max(len(one), len(other))
    if not longer:
        return 1.0
    row = list(range(len(other) + 1))
    for number, character in enumerate(one, 1):
        before, row = row, [number]
        for place, (expected, (corner, above)) in enumerate(zip(other, pairwise(before), strict=True)):
            row.append(min(above + 1, row[place] + 1, corner + (character != expected)))
    return 1.0 - row[-1] / longer


def identifier_f1(text: str, target: str, language: str) -> float:
    """Return the harmonic mean of precision and recall of the target's identifiers, each counted as often
    as it stands there; 1 if neither text has any.

    >>> identifier_f1("add(a, b)", "add(a, a, c)", "python")  # 2 of 3 are right, 2 of 4 are found
    0.5714285714285714
    """
    found, wanted = Counter(names_in(text, language)), Counter(names_in(target, language))
    both, total = (found & wanted).total(), found.total() + wanted.total()
    return 2 * both / total if total else 1.0


def common_beginning(one: str, other: str) -> int:
    """Return how many characters two texts have in common at their start."""
    return next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _shape(code: str, language: str) -> tuple[int, int]:
    return sum(1 for line in lines_of(code) if line.strip()), open_brackets(code, language)


def _parses(item: CompletionItem, file_text: str, cut: str) -> bool:
    spliced = file_text[: item.start] + cut + file_text[item.end :]
    errors = syntax_errors(spliced, item.language)
    return not errors or errors <= syntax_errors(file_text, item.language)
