"""Write a whole conversation as a chat model's template wants it, with every message as plain text.

`helpers.models.causal_lm.chat_ids` does this for one instruction, in the form that Track B trains and
measures; a conversation of one user's message is the same ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from transformers import PreTrainedTokenizerBase

from helpers.models.causal_lm import MARKER, PLAIN_PROMPT, ModelError
from helpers.models.hub import first_line
from helpers.models.tokens import mixed_ids, token_ids


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: str  # system, user, assistant
    text: str


def conversation_ids(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn]) -> list[int]:
    """Return the ids of a conversation, after which the model's answer begins.

    Nothing in a message is read as a special token. Without a chat template, instructions and responses
    follow each other in the plain form, and a system message stands before them.

    Raises:
        ModelError: if the template refuses the conversation, or changes or repeats a message.
    """
    if not tokenizer.chat_template:
        return token_ids(tokenizer, "".join(_plain(turn) for turn in turns))
    why = ""
    for as_list in (False, True):  # templates want either form
        try:
            frame = _rendered(
                tokenizer, [Turn(turn.role, f"{MARKER} {n}.") for n, turn in enumerate(turns)], as_list
            )
            whole = _rendered(tokenizer, turns, as_list)
        except Exception as error:  # a template is a program of its own, and may raise anything
            why = why or first_line(error)
            continue
        pieces = _pieces(frame, len(turns))
        for texts in ([turn.text for turn in turns], [turn.text.strip() for turn in turns]):
            parts = list(chain.from_iterable(zip_longest(pieces, texts, fillvalue=""))) if pieces else []
            if parts and "".join(parts) == whole:
                return mixed_ids(tokenizer, [(part, n % 2 == 0) for n, part in enumerate(parts)])
    raise ModelError(
        f"the chat template refuses this conversation: {why}" if why
        else "the chat template changes or repeats a message of this conversation"
    )  # fmt: skip


def _plain(turn: Turn) -> str:
    if turn.role == "user":
        return PLAIN_PROMPT.format(instruction=turn.text)
    return f"{turn.text}\n\n"


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], as_list: bool) -> str:
    said: list[dict[str, Any]] = [
        {"role": turn.role, "content": [{"type": "text", "text": turn.text}] if as_list else turn.text}
        for turn in turns
    ]
    return str(
        tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    )


def _pieces(frame: str, count: int) -> list[str]:
    """Return what stands before, between and after the marked messages; nothing unless each is there once."""
    pieces: list[str] = []
    for number in range(count):
        mark = f"{MARKER} {number}."
        if frame.count(mark) != 1:
            return []
        before, _, frame = frame.partition(mark)
        pieces.append(before)
    return [*pieces, frame]
