"""A server that plays a model by a script, over both providers' protocols.

It keeps no conversations: the place in the script is the number of the model's answers in the request, so that
conversations side by side each get the whole script.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Say:
    """One answer: a text, calls as (tool, arguments), and how it is told. Text arguments are sent as they are."""

    text: str | None = ""
    calls: Sequence[tuple[Any, Any]] = ()
    cut: bool = False
    usage: tuple[int, int] | None = (100, 10)


@dataclass(frozen=True)
class Fail:
    """An answer that is none: an HTTP status with headers and a body. Status 0 hangs up, -1 never answers."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str = '{"error": {"message": "no"}}'


class ScriptedModel:
    """The server; `requests` are the bodies it got. `faults` are played first, whatever the conversation."""

    def __init__(self, script: Sequence[Say | Fail] | Callable[[int], Say | Fail]) -> None:
        self.script, self.faults = script, []
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.before: Callable[[int], Any] = lambda place: None
        self.ended = threading.Event()
        model, self.lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                model.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        place = sum(message["role"] == "assistant" for message in body["messages"])
        with self.lock:
            self.requests.append(body)
            said = (handler.headers.get("Authorization") or "").removeprefix("Bearer ")
            self.keys.add(handler.headers.get("x-api-key") or said)
            move = self.faults.pop(0) if self.faults else None
        self.before(place)
        move = move or (self.script(place) if callable(self.script) else self.script[place])
        if isinstance(move, Say):
            tell = anthropic_message if handler.path == "/v1/messages" else openai_completion
            move = Fail(200, body=json.dumps(tell(move, place)))
        if move.status == -1:
            self.ended.wait(30)
        if move.status <= 0:
            handler.close_connection = True
            return
        reply = move.body.encode("utf-8", "surrogatepass")
        handler.send_response(move.status)
        for name, value in {"Content-Type": "application/json", **move.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(reply)))
        handler.end_headers()
        handler.wfile.write(reply)


def anthropic_message(say: Say, place: int) -> dict[str, Any]:
    content: list[Any] = [{"type": "text", "text": say.text}] if say.text is not None else []
    content += [
        {"type": "tool_use", "id": f"toolu_{place}_{nth}", "name": name, "input": arguments}
        for nth, (name, arguments) in enumerate(say.calls)
    ]
    stop = "max_tokens" if say.cut else "tool_use" if say.calls else "end_turn"
    answer = {
        "id": "1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": content,
        "stop_reason": stop,
    }
    if say.usage:
        answer["usage"] = {"input_tokens": say.usage[0], "output_tokens": say.usage[1]}
    return answer


def openai_completion(say: Say, place: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": say.text}
    if say.calls:
        message["tool_calls"] = [
            {
                "id": f"call_x{place}_{nth}",
                "type": "function",
                "function": {
                    "name": name,
                    "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
                },
            }
            for nth, (name, arguments) in enumerate(say.calls)
        ]
    stop = "length" if say.cut else "tool_calls" if say.calls else "stop"
    answer = {"id": "1", "object": "chat.completion", "created": int(time.time()), "model": "m",
              "choices": [{"index": 0, "finish_reason": stop, "message": message}]}  # fmt: skip
    if say.usage:
        answer["usage"] = {"prompt_tokens": say.usage[0], "completion_tokens": say.usage[1]}
    return answer
