"""What editor plugins send to `serve`, in their own shapes, and what they read of its answers.

The shapes are those of llama.vscode and llama.vim (POST /infill), and of Continue's providers `openai` (legacy
completions, streamed) and `llama.cpp` (POST /completion, streamed).
"""

from __future__ import annotations

import json

import httpx
import pytest
import served_run
from served_run import RUNTIME

from helpers.models.causal_lm import generate
from helpers.models.tokens import token_ids
from helpers.serving.retrieved_context import Place, chunks_of
from helpers.tools.complete import complete_code
from helpers.tools.retrieved_prompt import retrievable_code

PREFIX = "import math\n\n\ndef area(radius):\n"
BEGUN = "    return "
SUFFIX = "\n\n\nprint(area(2))\n"
CHUNKS = [
    {"text": "def perimeter(radius):\n    return 2 * radius\n", "time": 1, "filename": "shapes.py"},
    {"text": "def volume(radius):\n    return 4 * radius\n", "time": 2, "filename": "solids.py"},
]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return served_run.save_run(tmp_path_factory.mktemp("runs") / "cpu-1")


@pytest.fixture(scope="module")
def models(run_folder):
    return served_run.load(run_folder)


@pytest.fixture(scope="module")
def served(run_folder):
    """A server with models of its own: they belong to its engine."""
    with served_run.serving(run_folder, served_run.load(run_folder)) as running:
        yield running


@pytest.fixture(scope="module")
def editor(served):
    with httpx.Client(base_url=served.url, timeout=60) as client:
        yield client


def llama_vscode(**changes):
    """The body that llama.vscode posts."""
    return {
        "input_prefix": PREFIX, "input_suffix": SUFFIX, "input_extra": [], "prompt": BEGUN, "n_predict": 20,
        "top_k": 40, "top_p": 0.99, "stream": False, "samplers": ["top_k", "top_p", "infill"],
        "cache_prompt": True, "t_max_prompt_ms": 500, "t_max_predict_ms": 2500, **changes,
    }  # fmt: skip


def test_infill_goes_on_from_the_prefix_where_the_model_cannot_fill_in(editor, models, run_folder):
    answer = editor.post("/infill", json=llama_vscode()).json()
    assert answer["content"] == complete_code(run_folder, PREFIX + BEGUN, RUNTIME, max_tokens=20)
    assert answer["has_suffix"] is False
    assert answer["generation_settings"]["n_ctx"] == served_run.WINDOW
    assert answer["tokens_predicted"] == answer["timings"]["predicted_n"] == 20
    assert answer["timings"]["prompt_n"] == len(
        token_ids(models.lms["code-adapted"].tokenizer, (PREFIX + BEGUN).rstrip())
    )
    assert {"prompt_ms", "prompt_per_second", "predicted_ms", "predicted_per_second"} <= set(
        answer["timings"]
    )


def infill_ids(lm, left, right, begun):
    ids = [lm.tokenizer.convert_tokens_to_ids(mark) for mark in served_run.FIM]
    parts = [token_ids(lm.tokenizer, part) for part in (left, right, begun)]
    return [ids[0], *parts[0], ids[1], *parts[1], ids[2], *parts[2]]


def test_infill_fills_in_where_the_model_can(editor, models):
    lm = models.lms["infill"]
    answer = editor.post("/infill", json=llama_vscode(model="infill")).json()
    wanted = generate(
        lm.model, lm.tokenizer, [infill_ids(lm, PREFIX, SUFFIX, BEGUN)], RUNTIME, max_new_tokens=20
    )
    assert answer["content"] == wanted[0][0]
    assert answer["has_suffix"] is True


def test_an_editors_chunks_stand_in_front_under_their_paths(served, models, editor):
    lm = models.lms["infill"]
    place = Place(PREFIX, SUFFIX, "", chunks_of([_Chunk(**c) for c in CHUNKS], 1000))
    front = lm.tokenizer.decode(served.prompts.context.front(lm.tokenizer, place, 400))
    first, last = (f"# {chunk['filename']}\n{chunk['text']}" for chunk in CHUNKS)
    assert front.index(first) < front.index(last)  # the newest one stands next to the file's own code
    with_chunks = editor.post("/infill", json=llama_vscode(model="infill", input_extra=CHUNKS)).json()
    assert with_chunks["tokens_evaluated"] > len(infill_ids(lm, PREFIX, SUFFIX, BEGUN))


def test_of_too_many_chunks_the_important_ones_are_read():
    """To choose among the lines of a MiB of chunks would keep the engine busy for many seconds."""
    many = [_Chunk(text=f"{n:03}" * 10, time=n, filename="a.py") for n in range(100)]
    kept = chunks_of(many, 100)
    assert [one.text for one in kept] == [("097" * 10)[:28], "098" * 10, "099" * 10]
    assert sum(len(one.text) + len(one.path) for one in kept) <= 100
    assert [one.text for one in chunks_of(many[:2], 1000)] == ["000" * 10, "001" * 10]
    assert chunks_of([_Chunk(text="x", time=1, filename="long" * 100)], 100) == ()


class _Chunk:
    def __init__(self, text, time, filename):
        self.text, self.filename = text, filename


def test_an_announcement_without_tokens_is_answered_at_once(editor):
    body = {
        "input_prefix": "", "input_suffix": "", "input_extra": CHUNKS, "prompt": "", "n_predict": 0,
        "samplers": [], "cache_prompt": True, "t_max_prompt_ms": 500, "t_max_predict_ms": 1,
    }  # fmt: skip
    answer = editor.post("/infill", json=body)
    assert (answer.status_code, answer.json()["content"]) == (200, "")


def test_lines_with_less_indentation_end_an_infill(editor, models):
    lm = models.lms["code-adapted"]
    whole = editor.post("/infill", json=llama_vscode(n_predict=60, prompt="")).json()["content"]
    kept = editor.post("/infill", json=llama_vscode(n_predict=60, prompt="", n_indent=400)).json()["content"]
    assert whole.startswith(kept)
    assert kept.count("\n") <= 1  # no line but the cursor's has 400 blanks
    if "\n" in whole.rstrip():
        assert len(kept) < len(whole)
    assert lm.name == "code-adapted"


def test_continues_openai_provider_reads_a_stream_of_completions(editor, run_folder):
    body = {
        "model": "code-adapted", "prompt": PREFIX, "max_tokens": 16, "stop": ["\r\r\r"], "stream": True,
        "temperature": 0.0,
    }  # fmt: skip
    with editor.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    text = "".join(event["choices"][0]["text"] for event in events)
    assert text == complete_code(run_folder, PREFIX, RUNTIME, max_tokens=16)


def test_continues_llama_cpp_provider_reads_a_stream_of_contents(editor, run_folder):
    body = {"prompt": PREFIX, "stream": True, "n_predict": 16, "stop": ["\r\r\r"], "temperature": 0.0}
    with editor.stream("POST", "/completion", json=body) as answer:
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    assert "".join(e["content"] for e in events) == complete_code(run_folder, PREFIX, RUNTIME, max_tokens=16)
    assert [e["stop"] for e in events] == [False] * (len(events) - 1) + [True]


def test_llama_vscodes_chat_and_embeddings_are_answered_without_a_models_name(editor):
    chat = {
        "messages": [{"role": "system", "content": "You are an expert coder."}, {"role": "user", "content": "hi"}],
        "stream": False, "cache_prompt": True, "samplers": "edkypmxt", "temperature": 0.8, "dynatemp_range": 0,
        "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1, "presence_penalty": 0,
        "frequency_penalty": 0, "max_tokens": -1, "timings_per_token": False,
    }  # fmt: skip
    answer = editor.post("/v1/chat/completions", json=chat).json()
    assert answer["model"] == "chat-adapted"
    assert isinstance(answer["choices"][0]["message"]["content"], str)
    embedded = editor.post(
        "/v1/embeddings", json={"input": "some text", "model": "GPT-4", "encoding_format": "float"}
    ).json()
    assert (embedded["model"], len(embedded["data"][0]["embedding"])) == ("embed-adapted", 16)


def test_retrieved_code_stands_in_front_but_nothing_that_the_file_holds_already(run_folder, models):
    with served_run.serving(run_folder, served_run.load(run_folder, "code-adapted"), retrieve=True) as served:
        lm, context = models.lms["code-adapted"], served.prompts.context
        unit = retrievable_code(run_folder).units["pkg/wheels.py::weigh_wheels"]
        place = Place("# weigh wheels\nresult = weigh_wheels(x")
        assert context.found(place)[0] == unit.id
        text = lm.tokenizer.decode(context.prompt(lm.tokenizer, place, 400))
        assert text.endswith(place.left)
        assert f"# {unit.path}\n{unit.text.strip()}" in text
        held = Place(f"{unit.text}\n{place.left}")
        assert unit.id not in context.found(held)
        of_file = Place(place.left, path=unit.path)
        assert unit.id not in context.found(of_file)
        body = {"model": "code-adapted", "prompt": place.left, "max_tokens": 8}
        answer = httpx.post(f"{served.url}/v1/completions", json=body, timeout=60).json()
        ids = context.prompt(lm.tokenizer, place, lm.window - 8)
        wanted = generate(lm.model, lm.tokenizer, [ids], RUNTIME, max_new_tokens=8)
        assert answer["choices"][0]["text"] == wanted[0][0]
        assert answer["usage"]["prompt_tokens"] == len(ids) > len(token_ids(lm.tokenizer, place.left))
