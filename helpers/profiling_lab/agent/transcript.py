"""The record of one run, written line by line as it happens: JSONL, one event a line."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from helpers.profiling_lab.agent.endpoint_errors import hide
from helpers.run.workspace import to_plain


class Transcript:
    """Appends events to a file; each is on disk when `tell` returns, so that a killed run leaves its story.

    Events: start (system, tools, limits), prompt, reply (as it came), result (of a tool), retry, grade, end.
    `s` counts the seconds of the run, without waiting for its turn.
    """

    def __init__(self, path: Path, key: str = "") -> None:
        """Create the file at `path`; `key` is never written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("x", encoding="utf-8")
        self._key, self._lock = key, threading.Lock()

    def tell(self, event: str, used_s: float, fields: dict[str, Any]) -> None:
        """Write one event with its fields."""
        row = {"event": event, "s": round(used_s, 3), **fields}
        # Plain ASCII, since a model may answer with halves of surrogate pairs.
        line = hide(json.dumps(to_plain(row), ensure_ascii=True), self._key)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
