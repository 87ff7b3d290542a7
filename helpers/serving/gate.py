"""Who may come in: whoever has the key; without a key, only programs on this machine.

A web page that a browser on this machine shows can make the browser ask `http://localhost`, also under a
name of its own that it points here. So without a key only the names of this machine are answered, and no
answer may be read by other origins.
"""

from __future__ import annotations

import hmac
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from helpers.serving.replies import ApiError

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
OPEN_PATHS = frozenset({"/health", "/v1/health"})


class Gate:
    """Middleware that answers those who may not come in."""

    def __init__(self, app: Any, key: str = "") -> None:
        self.app, self.key = app, key.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and (refusal := self._refusal(Request(scope))):
            await JSONResponse(refusal.body, refusal.status, headers=refusal.headers)(scope, receive, send)
        elif scope["type"] != "websocket":
            await self.app(scope, receive, send)

    def _refusal(self, request: Request) -> ApiError | None:
        if not self.key:
            name = request.headers.get("host", "").rpartition("]")
            host = f"{name[0]}]" if name[1] else name[2].partition(":")[0]
            if host.lower() in LOCAL_NAMES:
                return None
            return ApiError(
                403, f"without a key only {', '.join(sorted(LOCAL_NAMES - {'::1'}))} are answered",
                kind="permission_error",
            )  # fmt: skip
        if request.url.path in OPEN_PATHS:
            return None
        given = request.headers.get("authorization", "")
        given = given[7:] if given[:7].lower() == "bearer " else request.headers.get("x-api-key", "")
        # Compared in constant time, so that answers do not tell how much of a guess is right.
        if hmac.compare_digest(given.strip().encode(), self.key):
            return None
        return ApiError(
            401, "the key is missing or wrong: send it as `Authorization: Bearer KEY`",
            kind="authentication_error", code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
