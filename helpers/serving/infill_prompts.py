"""Prompts that ask a model for what stands between a prefix and a suffix ("fill in the middle").

Each family has marks of its own. A vocabulary may hold them though the model never saw them in training, as
the embedded base model's does, so `infills` measures whether a model makes use of a suffix.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.eval.completion_choice import targets_nats
from helpers.lines import lines_of
from helpers.machine.hardware import Runtime
from helpers.models.infilling import SUFFIX_SHARE, InfillMarks
from helpers.models.tokens import continuing_ids, separated_by_marks, token_ids
from helpers.records import Document

OTHERS = ("<|repo_name|>", "<|file_sep|>", "<repo_name>", "<file_sep>")  # in prompts of several files
PROBES = 6  # functions on which `infills` decides
PROBE_LINES = (5, 24)  # of such a function


def middle_prompt(
    tokenizer: PreTrainedTokenizerBase, marks: InfillMarks, left: str, right: str, room: int, begun: str = ""
) -> list[int]:
    """Return prefix, suffix, middle with their marks, in at most `room` tokens.

    The suffix loses its end, and the prefix its start.

    Args:
        begun: the middle's beginning, after which the model goes on.
    """
    middle = continuing_ids(tokenizer, begun) if begun else []
    after = continuing_ids(tokenizer, right)[: int(room * SUFFIX_SHARE)]
    left_room = max(0, room - len(after) - len(middle) - 3)
    before = token_ids(tokenizer, left)
    return marks.psm(before[max(0, len(before) - left_room) :], after, middle)


def template_prompt(
    tokenizer: PreTrainedTokenizerBase, marks: InfillMarks, text: str, room: int
) -> list[int] | None:
    """Return the ids of a prompt in which an editor has written the marks as text; None for any other text.

    Editors that know the family send `<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>` as a plain prompt. Only
    a text that has each of the three exactly once, in this order, is read so. If it is too long for `room`
    tokens, what stands before the first mark is left out.
    """
    places = [text.find(mark) for mark in marks.spelt]
    if min(places) < 0 or places != sorted(places) or any(text.count(mark) != 1 for mark in marks.spelt):
        return None
    ids = separated_by_marks(tokenizer, text, (*marks.spelt, *OTHERS))
    if len(ids) <= room:
        return ids
    left, _, rest = text.partition(marks.spelt[0])[2].partition(marks.spelt[1])
    right, _, begun = rest.partition(marks.spelt[2])
    return middle_prompt(tokenizer, marks, left, right, room, begun)


def infills(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    marks: InfillMarks,
    documents: Sequence[Document],
    room: int,
    runtime: Runtime,
) -> bool:
    """Return whether the lines in the middle of functions are more probable once their suffix is given.

    Without any function to try, the vocabulary is believed.

    Args:
        documents: functions; some of them are tried.
        room: tokens of a prompt.
    """
    low, high = PROBE_LINES
    fitting = [lines for one in documents if low <= len(lines := lines_of(one.text)) <= high]
    chosen = fitting[:: max(1, len(fitting) // PROBES)][:PROBES]
    filled, plain = [], []
    for lines in chosen:
        at = len(lines) // 2
        left, target, right = "".join(lines[:at]), lines[at], "".join(lines[at + 1 :])
        wanted = continuing_ids(tokenizer, target)
        filled.append((middle_prompt(tokenizer, marks, left, right, room), wanted))
        plain.append((token_ids(tokenizer, left)[-room:], wanted))
    costs = [sum(targets_nats(model, asked, runtime)) for asked in (filled, plain)]
    return costs[0] < costs[1] or not chosen
