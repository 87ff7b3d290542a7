"""`python -m helpers serve` with the official OpenAI client: what is written is what the run's code writes."""

from __future__ import annotations

import base64
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openai
import pytest
import served_run
from served_run import FIM, RUNTIME, WINDOW
from typer.testing import CliRunner

from helpers.__main__ import app
from helpers.errors import SuiteError
from helpers.models import text_writer
from helpers.models.causal_lm import chat_ids, generate
from helpers.models.embedder import encode
from helpers.models.token_borders import HeldText, held_back
from helpers.models.tokens import token_ids
from helpers.serving import routes
from helpers.serving.prompts import Prompts
from helpers.serving.retrieved_context import RetrievedContext
from helpers.tools.complete import complete_code

PROMPT = "def add(first"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return served_run.save_run(tmp_path_factory.mktemp("runs") / "cpu-1")


@pytest.fixture(scope="module")
def served(run_folder):
    with served_run.serving(run_folder, served_run.load(run_folder)) as running:
        yield running


@pytest.fixture(scope="module")
def client(served):
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def copies(run_folder):
    """The same models again: those of the server belong to its engine."""
    return served_run.load(run_folder)


def written(copies, name, prompt, **options):
    lm = copies.lms[name]
    return generate(lm.model, lm.tokenizer, [prompt], RUNTIME, **options)[0]


def test_all_models_of_the_run_are_listed(client):
    names = [model.id for model in client.models.list()]
    assert names == [
        "code-base", "code-adapted", "chat-base", "chat-adapted", "infill", "embed-base", "embed-adapted"
    ]  # fmt: skip
    assert client.models.retrieve("code-base").id == "code-base"


def test_a_greedy_completion_is_the_text_that_the_command_prints(client, served, run_folder):
    got = client.completions.create(model="code-adapted", prompt=PROMPT, max_tokens=24)
    assert got.choices[0].text == complete_code(run_folder, PROMPT, RUNTIME, max_tokens=24)
    assert got.choices[0].finish_reason == "length"
    read = len(token_ids(served.models.lms["code-adapted"].tokenizer, PROMPT))
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (read, 24)


@pytest.mark.parametrize("asked", [24, 1])
def test_white_space_that_the_model_writes_first_takes_nothing_of_the_answer(
    client, served, run_folder, asked
):
    tokenizer = served.models.lms["code-adapted"].tokenizer
    prompt = f"{PROMPT}\n        "
    held = held_back(tokenizer, prompt)
    assert held
    got = client.completions.create(model="code-adapted", prompt=prompt, max_tokens=asked)
    assert got.choices[0].text == complete_code(run_folder, prompt, RUNTIME, max_tokens=asked)
    assert got.usage.completion_tokens == asked
    read = len(token_ids(tokenizer, prompt.removesuffix(held)))
    assert read <= got.usage.prompt_tokens <= read + HeldText(tokenizer, held).most_before


def test_an_answer_of_any_length_leaves_a_short_prompt_whole(copies):
    lm = copies.lms["code-adapted"]
    prompt = f"{PROMPT}\n        "
    held = held_back(lm.tokenizer, prompt)
    ids = token_ids(lm.tokenizer, prompt.removesuffix(held))
    ready = Prompts(RetrievedContext(), retrieves=False).completion(lm, prompt, asked=-1)
    assert (ready.ids, ready.held) == (ids, held)
    assert ready.new_tokens == lm.window - len(ids) - HeldText(lm.tokenizer, held).most_before


def test_base_and_adapted_stand_side_by_side(client, copies):
    texts = {
        name: client.completions.create(model=name, prompt=PROMPT, max_tokens=24).choices[0].text
        for name in ("code-base", "code-adapted", "chat-adapted")
    }
    assert texts == {name: written(copies, name, PROMPT, max_new_tokens=24)[0] for name in texts}
    assert len(set(texts.values())) == 3


def test_a_seed_gives_the_samples_of_the_measured_code_and_a_stream_adds_up_to_them(client, copies):
    options = {
        "model": "code-base",
        "prompt": PROMPT,
        "max_tokens": 20,
        "n": 3,
        "temperature": 0.9,
        "seed": 5,
    }
    got = client.completions.create(**options)
    wanted = written(copies, "code-base", PROMPT, n=3, temperature=0.9, seed=5, max_new_tokens=20)
    assert [choice.text for choice in got.choices] == wanted
    assert len(set(wanted)) == 3
    parts, reasons = ["", "", ""], {}
    for event in client.completions.create(**options, stream=True, stream_options={"include_usage": True}):
        for choice in event.choices:
            parts[choice.index] += choice.text
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert parts == wanted
    assert set(reasons) == {0, 1, 2}
    assert event.usage == got.usage


def test_several_prompts_and_tokens_are_taken(client, served, copies):
    prompts = [PROMPT, "class A", "import math as m\n"]
    got = client.completions.create(model="code-base", prompt=prompts, max_tokens=12)
    options = {"max_new_tokens": 12}
    assert [c.text for c in got.choices] == [
        *(written(copies, "code-base", prompt, **options)[0] for prompt in prompts[:2]),
        # The line's end is written by the model, which may join it with what comes next.
        written(copies, "code-base", prompts[2].rstrip(), begins=["\n"], **options)[0],
    ]
    ids = token_ids(served.models.lms["code-base"].tokenizer, PROMPT)
    by_ids = client.completions.create(model="code-base", prompt=ids, max_tokens=12)
    assert by_ids.choices[0].text == got.choices[0].text


def test_a_stop_string_ends_the_text_before_it_and_is_never_streamed(client, copies):
    (whole,) = written(copies, "code-base", PROMPT, max_new_tokens=40)
    stop = next(whole[at : at + 2] for at in range(12, 38) if whole.index(whole[at : at + 2]) >= 8)
    wanted = whole[: whole.index(stop)]
    options = {"model": "code-base", "prompt": PROMPT, "max_tokens": 40, "stop": [stop, "never there"]}
    got = client.completions.create(**options)
    assert (got.choices[0].text, got.choices[0].finish_reason) == (wanted, "stop")
    pieces = [e.choices[0].text for e in client.completions.create(**options, stream=True)]
    assert "".join(pieces) == wanted
    assert len(pieces) > 3


def test_a_long_prompt_loses_its_start_but_keeps_half_of_the_window(client, copies):
    long = "xyz=" * WINDOW  # a token a character
    got = client.completions.create(model="code-adapted", prompt=long, max_tokens=4 * WINDOW)
    assert (got.usage.prompt_tokens, got.choices[0].finish_reason) == (WINDOW // 2, "length")
    kept = long[-WINDOW // 2 :]
    assert got.choices[0].text == written(copies, "code-adapted", kept, max_new_tokens=WINDOW // 2)[0]


def test_chat_reads_the_prompt_that_track_b_measures(client, served, copies):
    lm, question = served.models.lms["chat-adapted"], "Write <|im_end|> to a file."
    wanted = written(copies, "chat-adapted", chat_ids(lm.tokenizer, question), max_new_tokens=16)[0]
    options = {"model": "chat-adapted", "messages": [{"role": "user", "content": question}], "max_tokens": 16}
    got = client.chat.completions.create(**options)
    assert got.choices[0].message.content == wanted
    assert got.usage.prompt_tokens == len(chat_ids(lm.tokenizer, question))
    events = list(client.chat.completions.create(**options, stream=True))
    assert events[0].choices[0].delta.role == "assistant"
    assert "".join(e.choices[0].delta.content or "" for e in events) == wanted
    assert events[-1].choices[0].finish_reason in ("stop", "length")


def test_embeddings_are_those_of_the_run_as_numbers_and_as_base64(client, copies):
    texts = ["count apples", "weigh wheels and " * 20]
    model = copies.embedders["embed-adapted"].model
    wanted = encode(model, texts, kind="document", runtime=RUNTIME)
    got = client.embeddings.create(model="embed-adapted", input=texts)  # this client asks for base64
    assert np.array_equal(np.array([row.embedding for row in got.data], dtype=np.float32), wanted)
    plain = client.embeddings.create(model="embed-adapted", input=texts, encoding_format="float")
    assert np.allclose([row.embedding for row in plain.data], wanted, atol=1e-7)
    raw = client.embeddings.with_raw_response.create(
        model="embed-adapted", input=texts[0], encoding_format="base64"
    ).http_response.json()  # fmt: skip
    decoded = np.frombuffer(base64.b64decode(raw["data"][0]["embedding"]), dtype="<f4")
    assert np.allclose(decoded, wanted[0], atol=1e-6)
    assert got.usage.prompt_tokens == sum(
        min(64, len(row)) for row in model.tokenizer(texts, truncation=True, max_length=64)["input_ids"]
    )


def test_many_texts_are_embedded_in_pieces_so_that_others_are_served_between(client, copies, monkeypatch):
    sizes = []

    def encoded(model, texts, **options):
        sizes.append(len(texts))
        return encode(model, texts, **options)

    monkeypatch.setattr(routes, "encode", encoded)
    texts = [f"count {number} apples" for number in range(40)]
    got = client.embeddings.create(model="embed-adapted", input=texts)
    assert sizes == [16, 16, 8]
    model = copies.embedders["embed-adapted"].model
    wanted = encode(model, texts, kind="document", runtime=RUNTIME)
    assert np.allclose([row.embedding for row in got.data], wanted, atol=1e-5)
    assert got.usage.prompt_tokens == sum(map(len, model.tokenizer(texts)["input_ids"]))


def test_a_temperature_next_to_nothing_is_greedy(client):
    """Logits divided by 1e-30 are infinite, and their softmax is no number."""
    asked = {"model": "code-adapted", "prompt": "def area(", "max_tokens": 12, "seed": 3}
    greedy = client.completions.create(**asked, temperature=0).choices[0].text
    for tiny in (1e-300, 1e-30, 1e-9):
        assert client.completions.create(**asked, temperature=tiny).choices[0].text == greedy


def test_a_suffix_is_filled_in_where_the_model_can_and_refused_elsewhere(client, served, copies):
    lm = served.models.lms["infill"]
    left, right = "def add(a, b):\n    ", "\n    return total\n"
    ids = {mark: lm.tokenizer.convert_tokens_to_ids(mark) for mark in FIM}
    prompt = [
        ids[FIM[0]],
        *token_ids(lm.tokenizer, left),
        ids[FIM[1]],
        *token_ids(lm.tokenizer, right),
        ids[FIM[2]],
    ]
    wanted = written(copies, "infill", prompt, max_new_tokens=16)[0]
    got = client.completions.create(model="infill", prompt=left, suffix=right, max_tokens=16)
    assert got.choices[0].text == wanted
    spelt = f"{FIM[0]}{left}{FIM[1]}{right}{FIM[2]}"  # as editors write it
    assert client.completions.create(model="infill", prompt=spelt, max_tokens=16).choices[0].text == wanted
    assert client.completions.create(model="code-base", prompt=spelt, max_tokens=16).choices[0].text != wanted
    with pytest.raises(openai.BadRequestError, match=r"cannot fill in a middle.*leave suffix out") as error:
        client.completions.create(model="code-adapted", prompt=left, suffix=right)
    assert error.value.param == "suffix"


@pytest.mark.parametrize(
    ("options", "param", "says"),
    [
        ({"temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"n": 2}, "n", "needs a temperature above 0"),
        ({"n": 2, "temperature": 1e-30}, "n", "needs a temperature above 0"),
        ({"n": 99}, "n", "less than or equal to 16"),
        ({"max_tokens": "many"}, "max_tokens", "valid integer"),
        ({"logprobs": 3}, "logprobs", "not supported"),
        ({"echo": True}, "echo", "not supported"),
        ({"presence_penalty": 0.5}, "presence_penalty", "not supported"),
        ({"prompt": ""}, "prompt", "nothing to continue"),
        ({"prompt": [10**6]}, "prompt", "knows tokens below"),
        ({"stop": [""]}, "stop", "at least 1 character"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(client, options, param, says):
    with pytest.raises(openai.BadRequestError, match=says) as error:
        client.completions.create(**{"model": "code-base", "prompt": PROMPT, **options})
    assert (error.value.param or "").split(".")[0] == param
    assert error.value.type == "invalid_request_error"


def test_wrong_models_and_conversations_are_refused(client):
    user = [{"role": "user", "content": "hi"}]
    with pytest.raises(openai.NotFoundError, match="there are code-base, "):
        client.completions.create(model="gpt-4o", prompt=PROMPT)
    with pytest.raises(openai.NotFoundError, match="there are embed-base, "):
        client.embeddings.create(model="code-base", input="x")
    with pytest.raises(openai.BadRequestError, match="no chat model; take chat-base or chat-adapted"):
        client.chat.completions.create(model="code-base", messages=user)
    with pytest.raises(openai.BadRequestError, match="too long") as error:
        client.chat.completions.create(model="chat-base", messages=[{"role": "user", "content": "x" * 600}])
    assert error.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="call no tools"):
        client.chat.completions.create(model="chat-base", messages=user, tools=[{"type": "function"}])
    with pytest.raises(openai.BadRequestError, match="last message must be the user's"):
        client.chat.completions.create(
            model="chat-base", messages=[*user, {"role": "assistant", "content": "x"}]
        )


def test_many_requests_at_once_each_get_the_text_they_would_get_alone(client, copies):
    """Ragged batches: other prompts, rules and models in the same steps change nothing."""
    wanted = {}
    for number in range(12):
        name = ("code-base", "code-adapted", "chat-base")[number % 3]
        options = {"max_new_tokens": 8 + number, "temperature": 0.8 * (number % 2), "seed": number}
        wanted[number] = (name, f"def f{number}(", options)
    texts = {n: written(copies, name, prompt, **options)[0] for n, (name, prompt, options) in wanted.items()}
    start = threading.Barrier(len(wanted))

    def ask(number):
        name, prompt, options = wanted[number]
        start.wait()
        got = client.completions.create(
            model=name, prompt=prompt, max_tokens=options["max_new_tokens"],
            temperature=options["temperature"], seed=options["seed"],
        )  # fmt: skip
        return got.choices[0].text

    with ThreadPoolExecutor(len(wanted)) as pool:
        assert dict(zip(wanted, pool.map(ask, wanted), strict=True)) == texts


def test_ctrl_c_lets_a_stream_end_and_the_command_ends_with_status_0(run_folder, monkeypatch):
    """In this process: the command runs in the main thread, as signals demand, and a client in another."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread alone")
    step = text_writer.TextWriter.step
    monkeypatch.setattr(text_writer.TextWriter, "step", lambda writer: (time.sleep(0.01), step(writer))[1])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, seen, ended = f"http://127.0.0.1:{port}", [], threading.Event()

    def talk():
        try:
            ask = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=20)
            stream = ask.completions.create(
                model="code-base", prompt=PROMPT, max_tokens=100, stream=True, temperature=0.7, seed=3
            )
            for event in stream:
                if not seen:
                    os.kill(os.getpid(), signal.SIGINT)
                seen.append(event.choices[0])
        finally:
            if not seen and not ended.is_set():  # else the server would run for ever
                os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=talk)
    other.start()
    command = ["serve", "--run", str(run_folder), "--port", str(port), "--only", "code-base"]
    done = CliRunner().invoke(app, command)
    ended.set()
    other.join(60)
    assert done.exit_code == 0, done.output
    assert f"ready at {url}/v1" in done.output
    assert "this machine only" in done.output
    assert done.output.rstrip().endswith("stopped")
    assert seen[-1].finish_reason in ("stop", "length")
    assert len(seen) > 3


def test_what_cannot_be_served_is_one_sentence(run_folder, tmp_path):
    taken = socket.create_server(("127.0.0.1", 0))
    for options, says in (
        (["--run", str(tmp_path / "none")], "there is no run in"),
        (["--run", str(tmp_path)], "is no run folder: run.json is missing"),
        (
            ["--run", str(run_folder), "--only", "code-adpated"],
            "has no model 'code-adpated' to serve; it has code-base",
        ),
        (["--run", str(run_folder), "--host", "0.0.0.0"], "a key is required"),
        (["--run", str(run_folder), "--port", str(taken.getsockname()[1])], "cannot listen on"),
    ):
        done = CliRunner().invoke(app, ["serve", *options])
        assert says in str(done.exception), options
        assert isinstance(done.exception, SuiteError)
    taken.close()
