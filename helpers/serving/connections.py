"""Connections that cannot be held open for nothing.

uvicorn waits without limit for a request to begin and for a client to read. A client that opens connections
and sends nothing, or reads nothing, would use up the process's files. Here such connections are closed, and
if there are too many, the one that has waited longest for its request goes first.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 256  # a process may usually open 1,024 files
HEAD_S = 10.0  # until the head of a request has come
READ_S = 30.0  # in which a client must take something of what is sent
WATCH_S = 2.0  # between two looks


class GuardedConnection(H11Protocol):
    """A connection that is closed if its client does nothing."""

    most, head_s, read_s, watch_s = MOST_CONNECTIONS, HEAD_S, READ_S, WATCH_S

    def connection_made(self, transport: Any) -> None:
        """Watch a new connection, and make room for it."""
        super().connection_made(transport)
        self._waiting_since = self._read_since = time.monotonic()
        self._unread = 0
        self._watch_task: asyncio.TimerHandle | None = self.loop.call_later(self.watch_s, self._watch)
        if len(self.connections) > self.most:
            idle = [one for one in self.connections if isinstance(one, GuardedConnection) and one.is_idle]
            oldest = min(idle, key=lambda one: one._waiting_since, default=self)
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        if self._watch_task is not None:
            self._watch_task.cancel()
            self._watch_task = None
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Note that the next request is waited for."""
        self._waiting_since = time.monotonic()
        super().on_response_complete()

    @property
    def is_idle(self) -> bool:
        """Return whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        now, unread = time.monotonic(), self.transport.get_write_buffer_size()
        if not unread or unread < self._unread:
            self._read_since = now
        self._unread = unread
        is_stuck = now - self._read_since > self.read_s
        if is_stuck or (self.is_idle and now - self._waiting_since > self.head_s):
            self.transport.abort()
            return
        self._watch_task = self.loop.call_later(self.watch_s, self._watch)
