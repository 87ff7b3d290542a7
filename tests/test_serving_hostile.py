"""Clients that do harm to `serve`, on purpose or not: each gets its answer or is let go, and others are served.

All of it happens on this machine, with bounded counts and times.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import select
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import served_run
import uvicorn
from uvicorn.server import ServerState

from helpers.models import text_writer
from helpers.models.text_writer import Decoding
from helpers.serving.connections import GuardedConnection
from helpers.serving.http_server import KEY_VARIABLE, ServeError, ServeRequest, checked_key, is_local
from helpers.serving.request_shapes import ChatRequest, CompletionRequest, InfillRequest, NativeRequest
from helpers.serving.written_text import TextRequest, WrittenText

KEY = "a key of more than 16 letters".replace(" ", "-")
SHORT = {"model": "code-base", "prompt": "def f", "max_tokens": 4}
# Sampled, as whole runs of a greedy text's repetitions are written in one step.
LONG = {"model": "chat-base", "prompt": "def f", "max_tokens": 400, "temperature": 1.0, "seed": 1}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return served_run.save_run(tmp_path_factory.mktemp("runs") / "cpu-1")


@pytest.fixture(scope="module")
def served(run_folder):
    limits = {"body_bytes": 10_000, "body_s": 60.0, "request_s": 60.0, "queue": 4}
    models = served_run.without_ends(served_run.load(run_folder, "code-base", "code-adapted", "chat-base"))
    with served_run.serving(run_folder, models, **limits) as running:
        yield running


@pytest.fixture(scope="module")
def more_models(run_folder):
    """Models for servers beside `served`, one at a time: a model belongs to one engine."""
    models = served_run.load(run_folder, "code-base", "code-adapted", "chat-base")
    return run_folder, served_run.without_ends(models)


@pytest.fixture
def slow_steps(monkeypatch):
    """Let every step of the models take 20 ms, so that a long text takes seconds."""
    step = text_writer.TextWriter.step

    def slowly(writer):
        time.sleep(0.02)
        return step(writer)

    monkeypatch.setattr(text_writer.TextWriter, "step", slowly)


def post(served, body, path="/v1/completions", headers=(), timeout_s=60.0):
    """Return status, headers and JSON of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=timeout_s)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, data, dict(headers))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, json.loads(content) if content[:1] == b"{" else content


def sent(served, head: bytes) -> socket.socket:
    """Open a connection, send some bytes and keep it."""
    opened = socket.create_connection(("127.0.0.1", served.port), timeout=60)
    opened.sendall(head)
    return opened


@pytest.fixture
def gate(monkeypatch):
    """Let the models' steps wait until this event is set."""
    step, opened = text_writer.TextWriter.step, threading.Event()
    monkeypatch.setattr(text_writer.TextWriter, "step", lambda writer: (opened.wait(60), step(writer))[1])
    yield opened
    opened.set()


def wait_until(holds, timeout_s=60.0):
    until = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b'{"prompt": "x', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1, 2]", "must be a JSON object, not list"),
        (b'{"prompt": "x", "temperature": NaN}', "NaN is no JSON number"),
        (b'{"prompt": "x", "temperature": 1e999}', "temperature"),
        (b'{"prompt": "\\ud800"}', "not JSON"),
        (b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"prompt": ' + b"[" * 4900, "not JSON"),
        (b'{"prompt": {"a": 1}}', "prompt"),
        (b'{"max_tokens": 3}', "prompt: Field required"),
    ],
)
def test_bodies_that_are_no_requests_get_400_in_the_apis_form(served, body, says):
    status, _, answer = post(served, body)
    assert status == 400
    assert says in answer["error"]["message"]
    assert set(answer["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/completions", CompletionRequest),
        ("/v1/chat/completions", ChatRequest),
        ("/completion", NativeRequest),
        ("/infill", InfillRequest),
    ],
)
def test_no_value_of_any_field_makes_the_server_fail(served, path, shape):
    usual = {
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 2,
        "input_prefix": "x",
        "n_predict": 2,
    }
    usual |= {} if shape is ChatRequest else {"prompt": "x"}
    for field in shape.model_fields:
        for value in (10**400, -(10**400), 1e-308, True, [], ""):
            if value == 10**400 and field in ("max_tokens", "max_completion_tokens", "n_predict"):
                continue  # as many as fit, which takes seconds
            body = {**usual, "temperature": 0.5, field: value}
            assert post(served, body, path)[0] in (200, 400, 404), body


def test_a_deep_body_is_no_crash(served):
    status, _, answer = post(served, b'{"prompt": ' + b"[" * 4000 + b"]" * 4000 + b"}")
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"


def test_wrong_routes_and_methods_get_the_same_form(served):
    assert post(served, SHORT, "/v1/nothing")[0] == 404
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("GET", "/v1/completions")
    answer = connection.getresponse()
    assert (answer.status, "GET is not for" in json.loads(answer.read())["error"]["message"]) == (405, True)
    connection.close()


def test_a_large_body_is_refused_before_it_is_read_or_as_soon_as_it_is_too_large(served):
    status, _, answer = post(served, {"prompt": "x" * 20_000})
    assert (status, answer["error"]["code"]) == (413, "request_too_large")
    huge = sent(
        served, b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{"
    )
    assert huge.recv(100).startswith(b"HTTP/1.1 413 ")
    huge.close()
    chunks = sent(served, b"POST /infill HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunks.sendall((b"400\r\n" + b"x" * 1024 + b"\r\n") * 11)
    assert chunks.recv(100).startswith(b"HTTP/1.1 413 ")
    chunks.close()
    assert post(served, SHORT)[0] == 200


def test_a_body_that_does_not_come_is_waited_for_no_longer_than_allowed(more_models):
    """A server of its own: a busy machine may need half a second for bodies that do come."""
    with served_run.serving(*more_models, body_s=0.5) as impatient:
        begun = time.monotonic()
        slow = sent(
            impatient, b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{"
        )
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - begun > 0.5
        slow.close()


def test_what_is_no_http_is_answered_and_closed(served):
    garbage = sent(served, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    assert garbage.recv(100).startswith(b"HTTP/1.1 400 ")
    garbage.close()
    assert post(served, SHORT)[0] == 200


def test_a_full_queue_says_so_at_once_and_empties(served, gate):
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(post, served, SHORT) for _ in range(4)]
        wait_until(lambda: served.engine.unfinished == 4)
        status, headers, answer = post(served, SHORT)
        assert (status, answer["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(headers["Retry-After"]) >= 1
        assert not any(job.done() for job in running)
        gate.set()
        assert [job.result()[0] for job in running] == [200] * 4
    assert post(served, SHORT)[0] == 200


def test_a_place_is_free_when_its_client_hears_of_the_end(served):
    """Otherwise one client that asks again at once could be told that the queue is full."""
    lm, places = served.models.lms["code-base"], []

    def heard(text):
        if text.has_ended:
            places.append(served.engine.unfinished)

    wait_until(lambda: served.engine.unfinished == 0)
    served.engine.write([WrittenText(lm, [1, 2, 3], TextRequest(Decoding(4)), heard)])
    wait_until(lambda: places)
    call = served.engine.call(lambda: 1)
    call.add_done_callback(lambda _: places.append(served.engine.unfinished))
    call.result(10)
    fails = served.engine.call(lambda: 1 / 0)
    fails.add_done_callback(lambda _: places.append(served.engine.unfinished))
    assert isinstance(fails.exception(10), ZeroDivisionError)
    wait_until(lambda: len(places) == 3)
    assert places == [0, 0, 0]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_has_its_text_given_up(served, slow_steps, stream):
    body = json.dumps({**LONG, "stream": stream}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    client = sent(served, head + body)
    model = served.models.lms["chat-base"].model
    wait_until(lambda: model in served.engine._desks and served.engine._desks[model].texts)
    (text,) = served.engine._desks[model].texts.values()
    client.close()
    wait_until(lambda: served.engine.unfinished == 0)
    assert text.is_given_up()
    assert len(text.job.new) < 400
    assert post(served, SHORT)[0] == 200


def test_what_waits_for_the_engine_is_dropped_with_its_client(served, gate, monkeypatch):
    """Else clients that ask for much and go away would keep the engine busy for minutes."""
    prepared, model = [], served.models.lms["code-base"].model
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, served, SHORT)
        wait_until(lambda: model in served.engine._desks and served.engine._desks[model].texts)
        monkeypatch.setattr(served.prompts, "completion", lambda *asked: prepared.append(asked))
        body = json.dumps(SHORT).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        client = sent(served, head.encode() + body)
        wait_until(lambda: served.engine.unfinished == 2)
        client.close()
        wait_until(lambda: len(served.server.server_state.tasks) == 1)
        gate.set()
        assert running.result()[0] == 200
    wait_until(lambda: served.engine.unfinished == 0)
    assert not prepared


def test_a_text_that_takes_too_long_ends_with_an_error(more_models, slow_steps):
    with served_run.serving(*more_models, request_s=2.0) as hurried:  # long enough to begin a stream
        status, _, answer = post(hurried, LONG)
        assert (status, answer["error"]["code"]) == (504, "timeout")
        status, _, content = post(hurried, {**LONG, "stream": True})
        events = content.decode().strip().split("\n\n")
        assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "timeout"
        wait_until(lambda: hurried.engine.unfinished == 0)


def test_a_failing_model_fails_its_request_and_nothing_else(served, monkeypatch):
    lm = served.models.lms["code-base"]
    monkeypatch.setattr(lm.model, "forward", lambda **_: 1 / 0)
    status, _, answer = post(served, SHORT)
    assert (status, answer["error"]["type"]) == (500, "server_error")
    assert "ZeroDivisionError" in answer["error"]["message"]
    assert post(served, {**SHORT, "model": "code-adapted"})[0] == 200
    monkeypatch.undo()
    assert post(served, SHORT)[0] == 200
    wait_until(lambda: served.engine.unfinished == 0)  # the answer goes out a moment earlier


def test_only_the_key_opens_and_only_health_is_open_without(more_models):
    with served_run.serving(*more_models, key=KEY) as locked:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"},
                        {"Authorization": f"Bearer {KEY}x"}, {"Authorization": "Bearer \xe9"}):  # fmt: skip
            status, answered, answer = post(locked, SHORT, headers=headers.items())
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key"), headers
            assert answered["WWW-Authenticate"] == "Bearer"
        for headers in ({"Authorization": f"Bearer {KEY}"}, {"X-Api-Key": KEY}):
            assert post(locked, SHORT, headers=headers.items())[0] == 200
        connection = http.client.HTTPConnection("127.0.0.1", locked.port, timeout=60)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()


def test_without_a_key_a_web_page_cannot_ask_under_a_name_of_its_own(served):
    assert post(served, SHORT, headers={"Host": f"evil.example:{served.port}"}.items())[0] == 403
    for name in ("localhost", f"127.0.0.1:{served.port}", f"[::1]:{served.port}"):
        assert post(served, SHORT, headers={"Host": name}.items())[0] == 200
    for origin in ("http://evil.example", "https://localhost.evil.example", "null", "http://[x"):
        status, _, answer = post(served, SHORT, headers={"Origin": origin}.items())
        assert (status, answer["error"]["type"]) == (403, "permission_error"), origin
    for origin in ("http://localhost:3000", "http://127.0.0.1", "http://[::1]:8", "vscode-webview://1a2b"):
        assert post(served, SHORT, headers={"Origin": origin}.items())[0] == 200


def test_other_addresses_need_a_key_and_a_long_one(tmp_path, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert [is_local(h) for h in ("localhost", "127.0.0.1", "127.9.9.9", "::1")] == [True] * 4
    assert [is_local(h) for h in ("0.0.0.0", "::", "192.168.1.2", "example.org", "")] == [False] * 5
    assert checked_key(ServeRequest(tmp_path)) == ""
    with pytest.raises(ServeError, match="a key is required"):
        checked_key(ServeRequest(tmp_path, host="0.0.0.0"))
    with pytest.raises(ServeError, match="at least 16"):
        checked_key(ServeRequest(tmp_path, key="short"))
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert checked_key(ServeRequest(tmp_path, host="0.0.0.0")) == KEY


def test_connections_that_say_nothing_are_let_go_and_others_are_served(served, monkeypatch):
    monkeypatch.setattr(GuardedConnection, "most", 20)
    monkeypatch.setattr(GuardedConnection, "watch_s", 0.1)
    quiet = [sent(served, b"POST /v1/comp" if n % 2 else b"") for n in range(60)]
    assert post(served, SHORT)[0] == 200
    wait_until(lambda: len(served.server.server_state.connections) <= 20)
    monkeypatch.setattr(GuardedConnection, "head_s", 0.3)
    wait_until(lambda: not served.server.server_state.connections)
    for one in quiet:
        with contextlib.suppress(ConnectionResetError):
            assert one.recv(10) == b""
        one.close()


class Transport:
    """A connection's end, as far as one that is taken or let go needs it."""

    def __init__(self):
        self.closing = False

    def is_closing(self):
        return self.closing

    def abort(self):
        self.closing = True

    def get_extra_info(self, name):
        return None


@pytest.mark.parametrize("is_begun", [False, True])
def test_of_too_many_connections_the_oldest_without_a_whole_request_go(is_begun, monkeypatch):
    """A burst is taken before any connection that was told to close is gone."""
    monkeypatch.setattr(GuardedConnection, "most", 20)
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n{"

    async def waits(scope, receive, send):
        await asyncio.Event().wait()

    async def burst():
        config = uvicorn.Config(waits, http=GuardedConnection, lifespan="off")
        config.load()
        state = ServerState()
        made = [GuardedConnection(config, state, {}) for _ in range(60)]
        for one in made:
            one.connection_made(Transport())
            if is_begun:
                one.data_received(head)
        kept = [number for number, one in enumerate(made) if not one.transport.closing]
        for one in made:
            one._watch_task.cancel()
        for task in state.tasks:
            task.cancel()
        return kept

    assert asyncio.run(burst()) == [*range(40, 60)]


def test_a_thousand_connections_are_answered_though_few_files_may_be_open():
    """In a process of its own, as the limit of open files is one of the process."""
    code = (
        "import resource as r; from helpers.serving.connections import allowed_connections as a; "
        "r.setrlimit(r.RLIMIT_NOFILE, (256, r.getrlimit(r.RLIMIT_NOFILE)[1])); print(a()); "
        "print(r.getrlimit(r.RLIMIT_NOFILE)[0]); r.setrlimit(r.RLIMIT_NOFILE, (300, 300)); print(a())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["1280", "1408", "172"]


def test_a_client_that_reads_nothing_is_let_go(monkeypatch):
    monkeypatch.setattr(GuardedConnection, "read_s", 0.5)
    monkeypatch.setattr(GuardedConnection, "watch_s", 0.1)
    ended = threading.Event()

    async def endless(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for _ in range(100):
                await send({"type": "http.response.body", "body": b"x" * 2**20, "more_body": True})
                if scope["path"] == "/watched" and (await receive())["type"] == "http.disconnect":
                    break
        finally:
            ended.set()

    server = uvicorn.Server(
        uvicorn.Config(endless, http=GuardedConnection, lifespan="off", log_level="critical")
    )
    opened = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: server.run(sockets=[opened]), daemon=True)
    thread.start()
    lazy = socket.create_connection(opened.getsockname()[:2], timeout=60)
    lazy.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert select.select([lazy], [], [], 60)[0]
    begun = time.monotonic()
    assert ended.wait(60)
    assert time.monotonic() - begun > 0.3
    lazy.close()
    server.should_exit = True
    thread.join(60)
    assert not thread.is_alive()


def test_sixty_clients_at_once_are_all_answered(more_models):
    with served_run.serving(*more_models, queue=32) as busy, ThreadPoolExecutor(60) as pool:
        answers = [one[0] for one in pool.map(lambda _: post(busy, SHORT), range(120))]
        assert set(answers) <= {200, 429}
        assert answers.count(200) >= 32
        assert post(busy, SHORT)[0] == 200
        wait_until(lambda: busy.engine.unfinished == 0)
