"""Completion with a run's adapted model: the adapter is used, the pieces add up, errors are clear."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizer_families
import torch
from tiny_models import CPU_FP32, save
from tokenizer_families import CODE, FAMILIES
from typer.testing import CliRunner

from helpers.__main__ import app
from helpers.eval.completion_results import FACTS, FOLDER
from helpers.models.causal_lm import add_lora, generate, load_adapted, load_causal_lm
from helpers.models.tokens import token_ids
from helpers.profiles import SMOKE
from helpers.run.workspace import write_json, write_jsonl
from helpers.settings import LoraSettings
from helpers.tools.complete import (
    ADAPTER,
    CompletionError,
    PromptSource,
    _Pieces,
    complete_code,
    newest_adapted_run,
    prompt_from,
)
from helpers.tools.retrieved_prompt import RetrievalError, chosen_context, retrieving_prompt

ROOT = Path(__file__).parents[1]
WINDOW = 48


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A run whose adapter changes what the model writes."""
    folder = tmp_path_factory.mktemp("runs") / "cpu-1"
    base = str(save(folder.parent / "base", "qwen2"))
    model = add_lora(load_causal_lm(base, CPU_FP32)[0], LoraSettings(rank=4, alpha=8))
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.5)
    model.save_pretrained(str(folder / ADAPTER))
    write_json(
        folder / "run.json",
        {"profile": replace(SMOKE, track_a=replace(SMOKE.track_a, window=WINDOW, stride=WINDOW))},
    )
    return folder


def test_the_pieces_are_the_adapted_models_greedy_text(run_folder):
    pieces: list[str] = []
    text = complete_code(run_folder, "def add(", CPU_FP32, max_tokens=24, on_text=pieces.append)
    base = str(run_folder.parent / "base")
    adapted = load_adapted(base, run_folder / ADAPTER, CPU_FP32)
    plain = load_causal_lm(base, CPU_FP32)
    [[expected]] = generate(*adapted, ["def add("], CPU_FP32, max_new_tokens=24)
    [[untouched]] = generate(*plain, ["def add("], CPU_FP32, max_new_tokens=24)
    assert text == "".join(pieces) == expected
    assert text != untouched


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pieces_add_up_to_the_text_after_the_prompt_over_all_cuts(family):
    tok = tokenizer_families.tokenizer(family)
    ids = token_ids(tok, CODE)
    whole = tok.decode(ids, clean_up_tokenization_spaces=False)
    for cut in range(1, len(ids)):
        pieces: list[str] = []
        streamer = _Pieces(tok, ids[:cut], "", pieces.append)
        streamer.put(torch.tensor([ids[:cut]]))
        for token in ids[cut:]:
            streamer.put(torch.tensor([token]))
        streamer.end()
        assert tok.decode(ids[:cut], clean_up_tokenization_spaces=False) + "".join(pieces) == whole
        assert streamer.text == "".join(pieces)
        assert len(pieces) > 1 or len(ids) - cut < 30


def test_a_long_prompt_loses_its_start_and_sampling_follows_its_seed(run_folder):
    tail = "x" * (WINDOW - 8)  # one token a character: what is left of the window
    short, long = (
        complete_code(run_folder, prompt, CPU_FP32, max_tokens=8) for prompt in (tail, "y" * 90 + tail)
    )
    assert short == long
    drawn = [
        complete_code(run_folder, "def f", CPU_FP32, max_tokens=16, temperature=1.0, seed=s)
        for s in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_prompt_comes_from_a_text_or_the_head_of_a_file(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("import os\n\ndef f():\n    pass\n")
    assert prompt_from("def g(", None, None) == "def g("
    assert prompt_from(None, file, 3) == "import os\n\ndef f():\n"
    assert prompt_from(None, file, None) == file.read_text()


@pytest.mark.parametrize(
    ("text", "content", "line", "says"),
    [
        (None, None, None, "give the code to continue"),
        ("x", "y", None, "give the code to continue"),
        ("x", None, 3, "--line goes with --file"),
        ("  \n", None, None, "the prompt is empty"),
        (None, "a = 1\nb = 2\n", 3, "has 2 lines; --line 3 is not one"),
        (None, "a = 1\n", 0, "--line 0 is not one"),
        (None, b"\xff\xfe\x00", None, "it is not UTF-8 text"),
    ],
)
def test_nothing_to_continue_is_refused(tmp_path, text, content, line, says):
    file = None
    if content is not None:
        file = tmp_path / "a.py"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CompletionError, match=says):
        prompt_from(text, file, line)


def test_a_missing_file_a_missing_run_and_impossible_sizes_are_refused(run_folder, tmp_path):
    with pytest.raises(CompletionError, match="No such file"):
        prompt_from(None, tmp_path / "none.py", 1)
    with pytest.raises(CompletionError, match="no run in"):
        complete_code(tmp_path / "none", "x", CPU_FP32, max_tokens=4)
    with pytest.raises(CompletionError, match="no adapted language model"):
        complete_code(tmp_path, "x", CPU_FP32, max_tokens=4)
    with pytest.raises(CompletionError, match=f"between 1 and {WINDOW - 1} for this model, not {WINDOW}"):
        complete_code(run_folder, "x", CPU_FP32, max_tokens=WINDOW)
    with pytest.raises(CompletionError, match="must be 0"):
        complete_code(run_folder, "x", CPU_FP32, max_tokens=4, temperature=-1.0)


DOCUMENTS = [
    {"id": "shop/a.py::settle", "path": "shop/a.py",
     "text": "settle (shop a)\ndef settle(ticket):\n    return ticket.settle(region)\n"},
    {"id": "shop/b.py::renew", "path": "shop/b.py",
     "text": "renew (shop b)\ndef renew(ticket):\n    return ticket.renew(grace)\n"},
]  # fmt: skip


@pytest.fixture
def compared(run_folder):
    """Function of an arm: the run with a comparison that found it best, and two indexed functions."""

    def found(arm, retriever="bm25"):
        context = {"retriever": retriever, "heads": "none", "share": 0.9}
        facts = {"arm_to_use": arm, "answer": "Use it.", "repository": "shop", "context": context}
        write_json(run_folder / FOLDER / FACTS, facts)
        write_jsonl(run_folder / "track_c/data/documents.jsonl", DOCUMENTS)
        return run_folder

    yield found
    for path in (FOLDER, "track_c"):
        shutil.rmtree(run_folder / path, ignore_errors=True)


def test_retrieved_code_stands_before_the_prompt_but_never_its_own_file(compared, tmp_path):
    run, tokenizer = (
        compared("adapted+retrieved"),
        load_causal_lm(str(compared("base").parent / "base"), CPU_FP32)[1],
    )
    chosen, text = chosen_context(run), "x = ticket.settle(region)"

    def read(file):
        ids, used = retrieving_prompt(run, chosen, tokenizer, text, file, room=300, runtime=CPU_FP32)
        return tokenizer.decode(ids), used

    found, used = read(None)
    assert used == ("shop/b.py::renew", "shop/a.py::settle")  # the best one last
    assert found.endswith("def settle(ticket):\n    return ticket.settle(region)\n\n" + text)
    own = tmp_path / "work/shop/a.py"
    own.parent.mkdir(parents=True)
    found, used = read(own)
    assert used == ("shop/b.py::renew",)
    assert found.endswith(text)
    assert "def settle" not in found


@pytest.mark.parametrize("arm", ["base", "base+retrieved", "adapted", "adapted+retrieved"])
def test_an_arm_is_its_model_after_its_prompt(compared, arm):
    run, text = compared(arm), "x = ticket.settle(region)"
    base = str(run.parent / "base")
    model, tokenizer = (
        load_adapted(base, run / ADAPTER, CPU_FP32)
        if arm.startswith("adapted")
        else load_causal_lm(base, CPU_FP32)
    )
    ids = token_ids(tokenizer, text)
    if arm.endswith("+retrieved"):
        ids, used = retrieving_prompt(
            run, chosen_context(run), tokenizer, text, None, room=WINDOW - 8, runtime=CPU_FP32
        )
        assert used
    [[expected]] = generate(model, tokenizer, [ids], CPU_FP32, max_new_tokens=8)
    assert complete_code(run, text, CPU_FP32, max_tokens=8, source=PromptSource(arm)) == expected
    done = CliRunner().invoke(
        app, ["complete", "--run", str(run), "--prompt", text, "--max-tokens", "8", "--retrieve"]
    )
    assert done.stdout == expected + "\n"
    assert done.stderr.startswith(f"arm: {arm}. Use it.\n")


def test_what_cannot_be_retrieved_is_said(compared, run_folder):
    with pytest.raises(RetrievalError, match="no comparison of completions"):
        complete_code(run_folder, "x", CPU_FP32, max_tokens=4, source=PromptSource("adapted+retrieved"))
    run = compared("adapted+retrieved", retriever="embedder_after")
    with pytest.raises(RetrievalError, match="no longer holds the index"):
        complete_code(run, "x = ticket", CPU_FP32, max_tokens=4, source=PromptSource("adapted+retrieved"))
    (run / "track_c/data/documents.jsonl").unlink()
    with pytest.raises(RetrievalError, match="no documents of Track C"):
        complete_code(run, "x", CPU_FP32, max_tokens=4, source=PromptSource("adapted+retrieved"))
    with pytest.raises(CompletionError, match="there is no arm 'best'; there are base, "):
        complete_code(run, "x", CPU_FP32, max_tokens=4, source=PromptSource("best"))
    refused = CliRunner().invoke(app, ["complete", "--prompt", "x", "--retrieve", "--arm", "base"])
    assert refused.exit_code == 2
    run = compared("adapted+retrieved")
    write_jsonl(run / "track_c/data/documents.jsonl", [])
    with pytest.raises(RetrievalError, match=r"documents\.jsonl is empty"):
        complete_code(run, "x", CPU_FP32, max_tokens=4, source=PromptSource("adapted+retrieved"))


def test_the_newest_run_with_an_adapter_is_taken(tmp_path):
    with pytest.raises(CompletionError, match="no run with an adapted language model"):
        newest_adapted_run(tmp_path)
    for name, age in (("cpu-3", 300), ("cpu-1", 100), ("cpu-2", 200)):
        (tmp_path / name / ADAPTER).mkdir(parents=True)
        os.utime(tmp_path / name / ADAPTER, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / "cpu-9-unfinished").mkdir()
    assert newest_adapted_run(tmp_path).name == "cpu-1"


def test_the_command_prints_the_answer_alone_or_one_sentence(run_folder, tmp_path, command):
    words = ["complete", "--prompt", "def add(", "--max-tokens", "8", "--run"]
    process = [sys.executable, "-m", "helpers", *words, str(run_folder)]
    done = subprocess.run(process, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == complete_code(run_folder, "def add(", CPU_FP32, max_tokens=8) + "\n"
    failed = command(*words, str(tmp_path / "none"))
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("error: there is no run in")
