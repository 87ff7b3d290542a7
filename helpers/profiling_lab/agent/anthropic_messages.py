"""Talk to a model over Anthropic's Messages interface, with the official client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from helpers.profiling_lab.agent.conversation import (
    Reply,
    ToolCall,
    ToolSpec,
    Turn,
    call_ids,
    token_counts,
    tool_name,
)  # fmt: skip
from helpers.profiling_lab.agent.endpoint_errors import AgentError, endpoint_error, read_answer, unusable

COUNTS_IN = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
THINKING = ("thinking", "redacted_thinking")  # has to come back unchanged, signature and all
CACHED = {"cache_control": {"type": "ephemeral"}}


class AnthropicChat:
    """A model behind Anthropic's interface; implements `Chat`."""

    def __init__(self, model: str, key: str, base_url: str, tools: Sequence[ToolSpec]) -> None:
        """Connect to `base_url`; empty stands for ANTHROPIC_BASE_URL or Anthropic's own address.

        Raises:
            AgentError: if the client is not installed.
        """
        try:
            import anthropic
        except ImportError as error:
            raise AgentError("the provider anthropic needs its client: pip install anthropic") from error
        # Without the client's retries: they know nothing of the run's time limit (see `patience`).
        self._client = anthropic.Anthropic(api_key=key, base_url=base_url or None, max_retries=0)
        self._key, self._model = key, model
        self._tools: list[Any] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
            for tool in tools
        ]
        self.name, self.host = f"anthropic:{model}", self._client.base_url.host

    def ask(self, system: str, turns: Sequence[Turn], *, max_tokens: int, timeout_s: float) -> Reply:
        """Implement `Chat.ask`."""
        messages: list[Any] = [_message(turn) for turn in turns]
        messages[-1]["content"][-1] |= CACHED  # the next request repeats everything up to here
        try:
            answer = self._client.messages.with_raw_response.create(
                model=self._model, max_tokens=max_tokens, system=system, messages=messages, tools=self._tools,
                timeout=timeout_s,
            )  # fmt: skip
            text = answer.http_response.text
        except Exception as error:
            # Without its cause, since the request that the error carries holds the key.
            raise endpoint_error(error, self._key) from None
        return _reply(read_answer(text), {"system": system, "messages": messages}, len(turns))


def _message(turn: Turn) -> dict[str, Any]:
    if isinstance(turn, str):
        return {"role": "user", "content": [{"type": "text", "text": turn}]}
    if isinstance(turn, Reply):
        return {"role": "assistant", "content": turn.blocks}
    results = [
        {"type": "tool_result", "tool_use_id": one.call_id, "content": one.text, "is_error": one.is_error}
        for one in turn
    ]
    return {"role": "user", "content": results}


def _reply(answer: dict[str, Any], sent: Any, turn: int) -> Reply:
    content = answer.get("content")
    if not isinstance(content, list):
        raise unusable("no message", answer)
    blocks = [block for block in content if isinstance(block, dict)]
    uses = [block for block in blocks if block.get("type") == "tool_use"]
    calls = tuple(
        _call(block, call_id)
        for block, call_id in zip(uses, call_ids([block.get("id") for block in uses], turn), strict=True)
    )
    texts = [block["text"] for block in blocks if block.get("type") == "text" and _is_text(block.get("text"))]
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    counted = [usage.get(name) or 0 for name in COUNTS_IN]
    tokens_in = sum(counted) if all(isinstance(count, int) for count in counted) else None
    counts = token_counts(sent, content, tokens_in, usage.get("output_tokens"))
    cut = answer.get("stop_reason") == "max_tokens"
    return Reply("\n".join(texts), calls, *counts, cut, answer, _sent_again(blocks, calls))


def _call(block: dict[str, Any], call_id: str) -> ToolCall:
    arguments = block.get("input")
    if isinstance(arguments, dict):
        return ToolCall(call_id, tool_name(block.get("name")), arguments)
    return ToolCall(call_id, tool_name(block.get("name")), {}, "the arguments are no JSON object")


def _sent_again(blocks: list[dict[str, Any]], calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    """Return the answer's blocks as the interface takes them back: no empty text, no call without an id."""
    kept: list[dict[str, Any]] = []
    waiting = iter(calls)
    for block in blocks:
        kind = block.get("type")
        if kind == "tool_use":
            call = next(waiting)
            kept.append({"type": kind, "id": call.id, "name": call.name, "input": call.arguments})
        elif kind in THINKING:
            kept.append(block)
        elif kind == "text" and _is_text(block.get("text")):
            kept.append({"type": kind, "text": block["text"]})
    if all(block["type"] in THINKING for block in kept):
        kept.append({"type": "text", "text": "(no answer)"})
    return kept


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
