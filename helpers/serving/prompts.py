"""Turn what a request says into the tokens that a model reads, and into how many it may write.

Prompt and answer share the model's window. An answer may be as long as asked for, but a long prompt keeps at
least half of the window; then it loses its start, as everywhere else. Conversations are never cut.

Tokenizers are not made for several threads, so all of this runs in the engine's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from helpers.errors import SuiteError
from helpers.models.conversations import Turn, conversation_ids
from helpers.models.token_borders import HeldText, held_back
from helpers.models.tokens import last_ids
from helpers.serving.infill_prompts import middle_prompt, template_prompt
from helpers.serving.retrieved_context import Place, RetrievedContext
from helpers.serving.served_models import ServedLm

USUAL_NEW_TOKENS = 64  # of a completion whose request does not say
LONGEST_TOKEN = 32  # characters; of a text that is cut to its last tokens, no more than so many each are read


class PromptError(SuiteError, ValueError):
    """A prompt that a model cannot read; `field` is the request's."""

    def __init__(self, message: str, field: str, code: str = "") -> None:
        super().__init__(message)
        self.field, self.code = field, code


@dataclass(frozen=True)
class ReadyPrompt:
    """The tokens that a model reads, and how many it may write after them."""

    ids: list[int]
    new_tokens: int
    has_suffix: bool = False  # what stands after the place is among the tokens
    held: str = ""  # white space that the model writes first and nobody gets, see `token_borders`


class Prompts:
    """Writes the prompts of one run's models.

    Args:
        context: puts code in front of prompts of Track A's models.
        retrieves: whether it searches the run's index; else only an editor's chunks are put in front.
    """

    def __init__(self, context: RetrievedContext, *, retrieves: bool) -> None:
        self.context, self.retrieves = context, retrieves

    def completion(
        self, lm: ServedLm, prompt: str | Sequence[int], suffix: str = "", asked: int | None = None
    ) -> ReadyPrompt:
        """Return the prompt that a text, or tokens, are; with a suffix, what lies between is asked for.

        Raises:
            PromptError: for an empty prompt, unknown tokens, or a suffix that the model can do nothing with.
        """
        if suffix:
            if lm.marks is None:
                raise PromptError(
                    f"{lm.name} cannot fill in a middle: {lm.why_no_infill}; leave suffix out", "suffix"
                )
            if not isinstance(prompt, str):
                raise PromptError("a suffix goes with a prompt of text, not of tokens", "prompt")
            return self.infill(lm, Place(prompt, suffix), "", asked or USUAL_NEW_TOKENS)
        if isinstance(prompt, str):
            new = _half(lm, asked or USUAL_NEW_TOKENS)
            room = lm.window - new
            if lm.marks and (ids := template_prompt(lm.tokenizer, lm.marks, prompt, room)):
                return ReadyPrompt(ids, new, has_suffix=True)
            if self.retrieves and not lm.is_chat:
                return self.infill(lm, Place(prompt), "", asked or USUAL_NEW_TOKENS)
            text = _end_of(prompt, lm)
            held = held_back(lm.tokenizer, text)
            ids = last_ids(lm.tokenizer, text.removesuffix(held), lm.window)
            return dataclasses.replace(_cut(lm, ids, asked, _before(lm, held)), held=held)
        if any(token >= len(lm.tokenizer) for token in prompt):
            raise PromptError(f"{lm.name} knows tokens below {len(lm.tokenizer)}", "prompt")
        return _cut(lm, [*prompt], asked)

    def infill(self, lm: ServedLm, place: Place, begun: str, asked: int) -> ReadyPrompt:
        """Return the prompt at a place in a file, with the suffix if the model can fill in a middle.

        Args:
            begun: what stands on the place's line already, after which the model goes on.
        """
        new = _half(lm, asked)
        room = lm.window - new
        place = Place(
            _end_of(place.left, lm), place.right[: lm.window * LONGEST_TOKEN], place.path, place.extra
        )
        if lm.marks is None or not place.right.strip():
            whole = Place(place.left + begun, place.right, place.path, place.extra)
            if not whole.left:
                raise PromptError("there is nothing to continue: prefix and prompt are empty", "input_prefix")
            held = held_back(lm.tokenizer, whole.left)
            whole = dataclasses.replace(whole, left=whole.left.removesuffix(held))
            room -= _before(lm, held)
            return ReadyPrompt(self.context.prompt(lm.tokenizer, whole, room), new, held=held)
        front = self.context.front(lm.tokenizer, place, room)
        ids = middle_prompt(lm.tokenizer, lm.marks, place.left, place.right, room - len(front), begun)
        return ReadyPrompt([*front, *ids], new, has_suffix=True)

    def chat(self, lm: ServedLm, turns: Sequence[Turn], asked: int | None) -> ReadyPrompt:
        """Return the prompt of a conversation.

        Raises:
            PromptError: if it leaves no room for an answer in the model's window.
            ModelError: if the chat template refuses it.
        """
        most = lm.window * LONGEST_TOKEN
        ids = conversation_ids(lm.tokenizer, turns) if sum(len(t.text) for t in turns) <= most else None
        if ids is None or len(ids) >= lm.window:
            length = f"{len(ids)} tokens" if ids else f"more than {most} characters"
            raise PromptError(
                f"the conversation is too long: {length}, and {lm.name} reads and writes at most "
                f"{lm.window} tokens together",
                "messages", "context_length_exceeded",
            )  # fmt: skip
        left = lm.window - len(ids)
        return ReadyPrompt(ids, min(asked, left) if asked and asked > 0 else left)


def _cut(lm: ServedLm, ids: list[int], asked: int | None, before: int = 0) -> ReadyPrompt:
    """Return a prompt that leaves room for its answer, and for tokens that are written before it."""
    if not ids:
        raise PromptError("the prompt is empty: there is nothing to continue", "prompt")
    most = max(lm.window - len(ids), lm.window // 2, before + 1)
    new = min(USUAL_NEW_TOKENS if asked is None else asked if asked > 0 else lm.window, most - before)
    return ReadyPrompt(ids[-(lm.window - new - before) :], new)


def _before(lm: ServedLm, held: str) -> int:
    """Return how many tokens may be written before the text itself."""
    return HeldText(lm.tokenizer, held).most_before if held else 0


def _half(lm: ServedLm, asked: int) -> int:
    """Return how many tokens an answer may have that leaves at least half of the window to its prompt."""
    return max(1, min(asked, lm.window // 2) if asked > 0 else lm.window // 2)


def _end_of(text: str, lm: ServedLm) -> str:
    return text[-lm.window * LONGEST_TOKEN :]
