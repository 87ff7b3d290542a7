"""What can go wrong with a model's endpoint, in words, and whether to ask again.

The clients of both providers raise exceptions of one shape, so that one reading serves both.
"""

from __future__ import annotations

import email.utils
import json
import time
from typing import Any

from helpers.errors import SuiteError

REFUSED = {401, 402, 403, 404}  # key, account or model: no other run would fare better
UNSUITABLE = {400, 413, 422}  # the request itself: too long, or a parameter that the endpoint does not know
AGAIN = {408, 409, 425, 429}  # and whatever is 500 or above
SHOWN_CHARACTERS = 300  # of what an endpoint says


class AgentError(SuiteError, RuntimeError):
    """The agent cannot start or go on; the message says what to do."""


class StoppedError(AgentError):
    """A person stopped the command."""

    exit_status = 130


class EndpointError(AgentError):
    """An endpoint gave no usable answer.

    Args:
        message: what happened, without any key.
        transient: whether the same request may succeed later.
        status: HTTP status, or None if there was no answer.
        retry_after_s: seconds that the endpoint asks to wait, or None.
    """

    def __init__(
        self, message: str, *, transient: bool, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.transient = transient
        self.status = status
        self.retry_after_s = retry_after_s


def endpoint_error(error: Exception, key: str) -> EndpointError:
    """Describe an exception of the clients `anthropic` and `openai`, with `key` blotted out."""
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        cause = error.__cause__ or error
        said = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
        # The client raises its own ValueError and TypeError for requests that it cannot build.
        lost = not isinstance(error, (ValueError, TypeError))
        return EndpointError(f"no answer from the endpoint ({hide(said, key)})", transient=lost)
    said = hide(" ".join(str(getattr(error, "message", "") or error).split()), key)[:SHOWN_CHARACTERS]
    headers = getattr(getattr(error, "response", None), "headers", {})
    return EndpointError(
        f"the endpoint answered HTTP {status}: {said}",
        transient=status in AGAIN or status >= 500,
        status=status,
        retry_after_s=retry_after_s(headers),
    )


def retry_after_s(headers: Any) -> float | None:
    """Return the wait by `retry-after-ms` or `retry-after`: seconds or a date (RFC 9110, 10.2.3)."""
    try:
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        pass
    given = headers.get("retry-after", "")
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def hide(text: str, key: str) -> str:
    """Return `text` without the key, which some endpoints repeat in their errors."""
    return text.replace(key, "***") if key else text


def read_answer(text: str) -> dict[str, Any]:
    """Parse the body of an answer; NaN becomes None and what UTF-8 lacks a question mark.

    Either would make the next request, which holds this answer, impossible to write.

    Raises:
        EndpointError: if it is no JSON object.
    """
    try:
        value = json.loads(text, parse_constant=lambda _: None)
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    shown = " ".join(text[:SHOWN_CHARACTERS].split())
    raise EndpointError(f"the endpoint's answer is no JSON object: {shown!r}", transient=True)


def unusable(what: str, answer: Any) -> EndpointError:
    """Return the error for an answer that is JSON but not of the protocol."""
    shown = json.dumps(answer, ensure_ascii=False)[:SHOWN_CHARACTERS]
    return EndpointError(f"the endpoint's answer is {what}: {shown}", transient=True)
