"""What is measured on one completion: where it is cut, and how near it comes to what stands there.

White space at the ends of target and completion counts for nothing in any measure.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from helpers.code.first_statement import first_statement, open_brackets
from helpers.code.statements import syntax_errors
from helpers.data.completion_items import names_in
from helpers.lines import lines_of, with_newlines
from helpers.models.tokens import continuing_ids
from helpers.records import CompletionItem, CompletionScore


def cut_completion(kind: str, written: str, language: str) -> str:
    r"""Return the part of what a model wrote that counts: its first line; of a block, its first statement.

    Lines end with "\n" in it, whatever the model wrote.
    """
    written = with_newlines(written)
    return first_statement(written, language) if kind == "block" else written.partition("\n")[0]


def equals_target(item: CompletionItem, cut: str) -> bool:
    """Return whether a completion is the target, white space at the ends and kinds of line ends aside."""
    return cut.strip() == with_newlines(item.target).strip()


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
    target, text = with_newlines(item.target).strip(), cut.strip()
    is_exact = equals_target(item, cut)
    has_ended = has_ended or len(cut.rstrip()) < len(with_newlines(written).rstrip())
    return CompletionScore(
        item_id=item.id, kind=item.kind, path=item.path, arm=arm, text=cut, context=context,
        group=item.group,
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
