"""Prose by models: prompts, a chat model on this machine, an endpoint served here; keys stay secret."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from helpers.data.tasks import prose_models
from helpers.data.tasks.prose import LanguageRequest, SourceFacts
from helpers.data.tasks.prose_models import LanguageError, instruction_for, language_generator
from helpers.records import Function
from helpers.settings import SettingsError, check_language
from tests import tiny_models

KEY = "sk-very-secret"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def function(
    name: str = "add", code: str = "def add(first, second):\n    return first + second\n"
) -> Function:
    return Function(
        id=f"m.py::{name}", path="m.py", module="m", qualname=name, name=name, source=code, code=code,
        docstring="", doctests=0, parameters=("first", "second"), start_line=1, end_line=2, is_method=False,
        is_nested=False, is_async=False,
    )  # fmt: skip


REQUESTS = [LanguageRequest("explain", function()), LanguageRequest("paraphrase", text="Fix `{name}`.")]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.seen.append((self.path, self.headers.get("Authorization"), body))
            status = server.statuses.pop(0) if server.statuses else server.status
        text = f"Echo of {len(body['messages'][0]['content'])} characters."
        answer = {
            "id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        }  # fmt: skip
        reply = json.dumps(answer if status == 200 else {"error": {"message": f"no: {KEY}"}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    made.seen, made.status, made.statuses, made.lock = [], 200, [], threading.Lock()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    yield made
    made.shutdown()
    made.server_close()


def spec(server: ThreadingHTTPServer) -> str:
    return f"openai:coder@http://127.0.0.1:{server.server_address[1]}/v1"


def test_an_endpoint_answers_in_order_and_gets_the_key_from_the_environment(server, capfd) -> None:
    generator = language_generator(spec(server), tiny_models.CPU_FP32)
    assert generator.name == "openai:coder"
    answers = generator.write(REQUESTS)
    assert answers == [f"Echo of {len(instruction_for(request))} characters." for request in REQUESTS]
    assert {path for path, _, _ in server.seen} == {"/v1/chat/completions"}
    assert {key for _, key, _ in server.seen} == {f"Bearer {KEY}"}
    assert all(body["model"] == "coder" and body["temperature"] == 0 for _, _, body in server.seen)
    shown = "".join(capfd.readouterr())
    assert "127.0.0.1" in shown  # the destination of the code is printed
    assert KEY not in shown + repr(vars(generator))


def test_the_client_tries_again_and_one_failure_is_no_answer(server, monkeypatch) -> None:
    server.statuses = [500, 429]
    assert language_generator(spec(server), tiny_models.CPU_FP32).write(REQUESTS[:1])[0].startswith("Echo")
    assert len(server.seen) == 3
    monkeypatch.setattr(prose_models, "RETRIES", 0)
    server.statuses = [503]
    assert language_generator(spec(server), tiny_models.CPU_FP32).write(REQUESTS[:1]) == [None]


@pytest.mark.parametrize(
    ("status", "says"), [(401, "OPENAI_API_KEY"), (404, "model's name"), (500, "in a row")]
)
def test_an_endpoint_that_refuses_or_is_down_is_named_without_the_key(
    server, monkeypatch, status, says
) -> None:
    monkeypatch.setattr(prose_models, "RETRIES", 0)
    server.status = status
    with pytest.raises(LanguageError, match=says) as caught:
        language_generator(spec(server), tiny_models.CPU_FP32).write(REQUESTS * 5)
    assert KEY not in str(caught.value)
    assert caught.value.__suppress_context__


def test_without_address_and_key_nothing_is_sent(monkeypatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LanguageError, match="set OPENAI_API_KEY"):
        language_generator("openai:coder", tiny_models.CPU_FP32)


@pytest.mark.parametrize(
    "bad", ["parrot", "openai", "openai:", "chat:", "openai:m@ftp://h", "deterministic:x"]
)
def test_settings_that_mean_nothing_are_refused(bad) -> None:
    with pytest.raises(SettingsError):
        check_language(bad)


def test_a_key_in_the_address_is_refused() -> None:
    for bad in (f"openai:m@https://u:{KEY}@host/v1", f"openai:m@https://host/v1?key={KEY}"):
        with pytest.raises(SettingsError, match="OPENAI_API_KEY") as caught:
            check_language(bad)
        assert KEY not in str(caught.value)


def test_a_chat_model_writes_through_its_template(tmp_path, monkeypatch) -> None:
    tokenizer = tiny_models.tokenizer(extra=("<|im_start|>", "<|im_end|>"))
    tokenizer.chat_template = TEMPLATE
    folder = tiny_models.save(tmp_path / "chat", "qwen2", tokenizer, context=1024)
    monkeypatch.setattr(prose_models, "MAX_ANSWER_TOKENS", 8)
    prompts: list[list[int]] = []
    real = prose_models.generate

    def watched(model, tokenizer, given, runtime, **options):
        prompts.extend(given)
        return real(model, tokenizer, given, runtime, **options)

    monkeypatch.setattr(prose_models, "generate", watched)
    generator = language_generator(f"chat:{folder}", tiny_models.CPU_FP32)
    answers = generator.write(REQUESTS)
    assert len(answers) == 2
    assert all(answer is None or answer == answer.strip() for answer in answers)
    assert answers == generator.write(REQUESTS)
    assert generator.write([]) == []
    prompt = tokenizer.decode(prompts[0])
    assert prompt.startswith("<|im_start|>user\nExplain")
    assert prompt.endswith("<|im_start|>assistant\n")


def test_requests_name_what_has_to_be_in_the_answer() -> None:
    asked = instruction_for(LanguageRequest("docstring", function()))
    assert "`first`, `second`" in asked
    assert "Returns" in asked
    assert function().code.strip() in asked
    silent = function("silent", "def silent():\n    pass\n")
    assert "Returns" not in instruction_for(LanguageRequest("docstring", silent))
    assert "{name}" in instruction_for(REQUESTS[1])
    assert isinstance(language_generator("deterministic", tiny_models.CPU_FP32), SourceFacts)
