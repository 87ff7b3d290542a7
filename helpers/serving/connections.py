"""Connections that cannot be held open for nothing.

uvicorn waits without limit for a request to begin and for a client to read. A client that opens connections
and sends nothing, or reads nothing, would use up the process's files. Here such connections are closed, and
if there are too many, the oldest one whose request has not come whole goes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 1_280  # so that a thousand clients at once are all answered
OTHER_FILES = 128  # that a process has open beside them
HEAD_S = 10.0  # until the head of a request has come
READ_S = 30.0  # in which a client must take something of what is sent
WATCH_S = 2.0  # between two looks


def allowed_connections() -> int:
    """Raise this process's limit of open files if it has to be, and return how many connections fit."""
    try:
        import resource
    except ImportError:  # Windows
        return MOST_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted, endless = MOST_CONNECTIONS + OTHER_FILES, resource.RLIM_INFINITY
    if soft != endless and soft < wanted:
        more = wanted if hard == endless else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    return MOST_CONNECTIONS if soft == endless else max(1, min(MOST_CONNECTIONS, soft - OTHER_FILES))


class GuardedConnection(H11Protocol):
    """A connection that is closed if its client does nothing."""

    most, head_s, read_s, watch_s = MOST_CONNECTIONS, HEAD_S, READ_S, WATCH_S

    def connection_made(self, transport: Any) -> None:
        """Watch a new connection, and make room for it."""
        super().connection_made(transport)
        self._waiting_since = self._read_since = time.monotonic()
        self._unread = 0
        self._watch_task: asyncio.TimerHandle | None = self.loop.call_later(self.watch_s, self._watch)
        # What was told to close no longer counts, else a burst would close the same one again and again.
        guarded = (one for one in self.connections if isinstance(one, GuardedConnection))
        opened = [one for one in guarded if not one.transport.is_closing()]
        if len(opened) > self.most:
            waiting = [one for one in opened if one.is_idle or one.cycle.more_body]
            min(waiting, key=lambda one: one._waiting_since, default=self).transport.abort()

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
