"""Talk to a model over OpenAI's Chat Completions interface, which vLLM, llama.cpp and others speak too."""

from __future__ import annotations

import json
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

OWN_HOST = "api.openai.com"


class OpenAiChat:
    """A model behind an OpenAI-compatible interface; implements `Chat`."""

    def __init__(self, model: str, key: str, base_url: str, tools: Sequence[ToolSpec]) -> None:
        """Connect to `base_url`; empty stands for OPENAI_BASE_URL or OpenAI's own address.

        Raises:
            AgentError: if the client is not installed.
        """
        try:
            import openai
        except ImportError as error:
            raise AgentError("the provider openai needs its client: pip install openai") from error
        # Without the client's retries: they know nothing of the run's time limit (see `patience`).
        self._client = openai.OpenAI(api_key=key or "none", base_url=base_url or None, max_retries=0)
        self._key, self._model = key, model
        self._tools: list[Any] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.schema},
            }
            for tool in tools
        ]
        self.name, self.host = f"openai:{model}", self._client.base_url.host
        # OpenAI's newer models refuse `max_tokens`, and other servers do not know its successor.
        self._limit = "max_completion_tokens" if self.host == OWN_HOST else "max_tokens"

    def ask(self, system: str, turns: Sequence[Turn], *, max_tokens: int, timeout_s: float) -> Reply:
        """Implement `Chat.ask`."""
        messages: list[Any] = [{"role": "system", "content": system}]
        for turn in turns:
            messages += _messages(turn)
        limit: dict[str, Any] = {self._limit: max_tokens}
        try:
            answer = self._client.chat.completions.with_raw_response.create(
                model=self._model, messages=messages, tools=self._tools, timeout=timeout_s, **limit
            )
            text = answer.http_response.text
        except Exception as error:
            # Without its cause, since the request that the error carries holds the key.
            raise endpoint_error(error, self._key) from None
        return _reply(read_answer(text), messages, len(turns))


def _messages(turn: Turn) -> list[dict[str, Any]]:
    if isinstance(turn, str):
        return [{"role": "user", "content": turn}]
    if isinstance(turn, Reply):
        return [turn.blocks]
    return [{"role": "tool", "tool_call_id": one.call_id, "content": one.text} for one in turn]


def _reply(answer: dict[str, Any], sent: Any, turn: int) -> Reply:
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise unusable("no chat completion", answer)
    given = message.get("tool_calls")
    given = [call for call in given if isinstance(call, dict)] if isinstance(given, list) else []
    ids = call_ids([call.get("id") for call in given], turn)
    calls = tuple(_call(call.get("function"), call_id) for call, call_id in zip(given, ids, strict=True))
    text = message.get("content")
    text = text if isinstance(text, str) else ""
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    counts = token_counts(sent, message, usage.get("prompt_tokens"), usage.get("completion_tokens"))
    cut = choice.get("finish_reason") == "length"
    return Reply(text, calls, *counts, cut, answer, _sent_again(text, calls))


def _call(function: Any, call_id: str) -> ToolCall:
    function = function if isinstance(function, dict) else {}
    name, text = tool_name(function.get("name")), function.get("arguments")
    try:
        arguments = json.loads(text or "{}") if isinstance(text, str | None) else text
    except (ValueError, RecursionError) as error:
        return ToolCall(call_id, name, {}, f"the arguments are no JSON: {error}")
    if not isinstance(arguments, dict):
        return ToolCall(call_id, name, {}, "the arguments are no JSON object")
    return ToolCall(call_id, name, arguments)


def _sent_again(text: str, calls: tuple[ToolCall, ...]) -> dict[str, Any]:
    """Return the answer as a message of the next request; some servers fail on calls that are no JSON."""
    message: dict[str, Any] = {"role": "assistant", "content": text or ("" if calls else "(no answer)")}
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function",
             "function": {"name": call.name, "arguments": json.dumps(call.arguments)}}
            for call in calls
        ]  # fmt: skip
    return message
