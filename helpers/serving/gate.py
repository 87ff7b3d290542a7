"""Who may come in: whoever has the key; without a key, only programs on this machine.

A web page that a browser on this machine shows can make the browser ask `http://localhost`, also under a
name of its own that it points here. So without a key only the names of this machine are answered, and no
answer may be read by other origins. A page can still make a browser ask without reading the answer, so what a
browser asks for a page from elsewhere is refused too.
"""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import urlsplit

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
            names = ", ".join(sorted(LOCAL_NAMES - {"::1"}))
            name = request.headers.get("host", "").rpartition("]")
            host = f"{name[0]}]" if name[1] else name[2].partition(":")[0]
            if host.lower() not in LOCAL_NAMES:
                return ApiError(403, f"without a key only {names} are answered", kind="permission_error")
            if _is_foreign_page(request.headers.get("origin", "")):
                return ApiError(
                    403, f"without a key only pages of {names} may ask; start the server with a key",
                    kind="permission_error",
                )  # fmt: skip
            return None
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


def _is_foreign_page(origin: str) -> bool:
    """Return whether an Origin header names a web page that is not this machine's.

    Editors' views have schemes of their own, such as `vscode-webview`. `null` is what hides its origin.
    """
    try:
        parts = urlsplit(origin)
        return origin == "null" or (
            parts.scheme in ("http", "https") and (parts.hostname or "") not in LOCAL_NAMES
        )
    except ValueError:
        return True
