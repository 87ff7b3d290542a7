"""The records of a conversation with tools, free of any provider's format."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

CHARACTERS_PER_TOKEN = 4  # of English and code; used only where an endpoint counts no tokens


@dataclass(frozen=True)
class ToolSpec:
    """A tool as the model sees it; `schema` is the JSON Schema of its arguments."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """A call that the model asks for; `problem` says why `arguments` cannot be read, or is empty."""

    id: str
    name: str
    arguments: dict[str, Any]
    problem: str = ""


@dataclass(frozen=True)
class ToolResult:
    """The text that a tool call is answered with."""

    call_id: str
    text: str
    is_error: bool = False


@dataclass(frozen=True)
class Reply:
    """One answer of the model.

    `raw` is the message as it came, for the transcript; `blocks` is what the provider wants to see again in
    the next request. `cut` says that the answer ended at its limit of tokens, perhaps inside a call.
    """

    text: str
    calls: tuple[ToolCall, ...]
    tokens_in: int
    tokens_out: int
    estimated: bool  # the endpoint counted no tokens; the counts are from the number of characters
    cut: bool
    raw: dict[str, Any]
    blocks: Any = None


Turn = str | Reply | tuple[ToolResult, ...]  # the user's text, the model's answer, the tools' results


class Chat(Protocol):
    """A model behind an endpoint. It keeps no state, so that concurrent conversations can share it."""

    name: str
    host: str

    def ask(self, system: str, turns: Sequence[Turn], *, max_tokens: int, timeout_s: float) -> Reply:
        """Return the model's next answer.

        Raises:
            EndpointError: if none came, or none that can be read.
        """
        ...


def tool_name(value: Any) -> str:
    """Return `value` as a name that providers accept when the conversation is sent again."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", value)[:64] if isinstance(value, str) and value else "unnamed"


def call_ids(given: Sequence[Any], turn: int) -> list[str]:
    """Return one id per call: the given one if it is a text of its own, else one made from its place."""
    ids: list[str] = []
    for place, value in enumerate(given):
        usable = isinstance(value, str) and value and value not in ids
        ids.append(value if usable else f"call_{turn}_{place}")
    return ids


def token_counts(sent: Any, received: Any, tokens_in: Any, tokens_out: Any) -> tuple[int, int, bool]:
    """Return the tokens sent and received, and whether they had to be estimated from the characters."""
    if _is_count(tokens_in) and _is_count(tokens_out) and tokens_in + tokens_out:
        return tokens_in, tokens_out, False
    return _estimate(sent), _estimate(received), True


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _estimate(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False)) // CHARACTERS_PER_TOKEN + 1
