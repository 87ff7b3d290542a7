"""What is sent back: OpenAI's objects, llama.cpp's, and errors in OpenAI's form."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from helpers.serving.served_models import ServedEmbedder, ServedLm, ServedModels
from helpers.serving.written_text import WrittenText

OWNER = "adapt-a-code-model"


class ApiError(Exception):
    """An answer other than success, in OpenAI's form."""

    def __init__(
        self, status: int, message: str, *, kind: str = "invalid_request_error", param: str | None = None,
        code: str | None = None, headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def models_reply(models: ServedModels, created: int) -> dict[str, Any]:
    """Return the list of models; `fill_in_the_middle` and `window` are not OpenAI's."""
    return {"object": "list", "data": [model_reply(models, name, created) for name in models.names]}


def model_reply(models: ServedModels, name: str, created: int) -> dict[str, Any]:
    """Return one model of the list."""
    one: ServedLm | ServedEmbedder = models.lms.get(name) or models.embedders[name]
    reply = {"id": name, "object": "model", "created": created, "owned_by": OWNER, "base": one.spec}
    if isinstance(one, ServedLm):
        reply |= {"window": one.window, "chat": one.is_chat, "fill_in_the_middle": one.marks is not None}
    return reply


def usage_of(texts: Sequence[WrittenText]) -> dict[str, int]:
    """Count tokens as OpenAI does: each prompt once, however many texts were written after it."""
    prompts = {text.index: len(text.job.prompt) + text.job.before for text in texts}
    read, new = sum(prompts.values()), sum(text.job.written for text in texts)
    return {"prompt_tokens": read, "completion_tokens": new, "total_tokens": read + new}


class CompletionForm:
    """Objects of /v1/completions, whole and in pieces."""

    prefix, whole_object, piece_object = "cmpl-", "text_completion", "text_completion"

    def __init__(self, model: str) -> None:
        self.head = {"id": f"{self.prefix}{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, texts: Sequence[WrittenText]) -> dict[str, Any]:
        """Return the answer with all texts."""
        choices = [
            {"index": n, **self._content(text.text), "logprobs": None, "finish_reason": text.reason}
            for n, text in enumerate(texts)
        ]
        return {**self.head, "object": self.whole_object, "choices": choices, "usage": usage_of(texts)}

    def start(self, number: int) -> list[dict[str, Any]]:
        """Return the pieces before the first text of choice `number`."""
        return []

    def piece(self, number: int, added: str, reason: str) -> dict[str, Any]:
        """Return what choice `number` got; `reason` is "" unless it ends."""
        choice = {"index": number, **self._delta(added), "logprobs": None, "finish_reason": reason or None}
        return {**self.head, "object": self.piece_object, "choices": [choice]}

    def last(self, texts: Sequence[WrittenText]) -> dict[str, Any]:
        """Return the piece with the number of tokens."""
        return {**self.head, "object": self.piece_object, "choices": [], "usage": usage_of(texts)}

    def _content(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def _delta(self, added: str) -> dict[str, Any]:
        return {"text": added}


class ChatForm(CompletionForm):
    """Objects of /v1/chat/completions."""

    prefix, whole_object, piece_object = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def start(self, number: int) -> list[dict[str, Any]]:
        """Return the piece that names the role."""
        choice = {"index": number, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        return [{**self.head, "object": self.piece_object, "choices": [choice]}]

    def _content(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def _delta(self, added: str) -> dict[str, Any]:
        return {"delta": {"content": added} if added else {}}


def native_reply(text: WrittenText, has_suffix: bool) -> dict[str, Any]:
    """Return llama.cpp's answer to /completion and /infill, as far as editors read it.

    `has_suffix` is ours: whether the model saw what stands after the place.
    """
    times, read, new = text.times, len(text.job.prompt) + text.job.before, text.job.written
    prompt_s, new_s = max(times.first - times.asked, 0.0), max(times.last - times.first, 0.0)
    return {
        "index": 0, "content": text.text, "stop": True, "model": text.lm.name, "has_suffix": has_suffix,
        "tokens_predicted": new, "tokens_evaluated": read, "tokens_cached": read + new, "truncated": False,
        "stop_type": "limit" if text.reason == "length" else "eos",
        "generation_settings": {"n_ctx": text.lm.window, "temperature": text.job.decoding.temperature},
        "timings": {
            "prompt_n": read, "prompt_ms": 1000 * prompt_s, "prompt_per_second": _per_second(read, prompt_s),
            "predicted_n": new, "predicted_ms": 1000 * new_s, "predicted_per_second": _per_second(new, new_s),
        },
    }  # fmt: skip


def empty_native_reply(lm: ServedLm) -> dict[str, Any]:
    """Return the answer to a request for no token at all, with which editors announce what comes."""
    return {
        "index": 0, "content": "", "stop": True, "model": lm.name, "tokens_predicted": 0, "truncated": False,
        "generation_settings": {"n_ctx": lm.window}, "stop_type": "limit",
    }  # fmt: skip


def embeddings_reply(name: str, vectors: np.ndarray, tokens: int, in_base64: bool) -> dict[str, Any]:
    """Return the vectors (n, d), as numbers or as base64 of little-endian float32."""
    rows = vectors.astype("<f4")
    data = [
        {
            "object": "embedding", "index": number,
            "embedding": base64.b64encode(row.tobytes()).decode() if in_base64 else row.tolist(),
        }
        for number, row in enumerate(rows)
    ]  # fmt: skip
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": name, "usage": usage}


def _per_second(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
