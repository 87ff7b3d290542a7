"""`python -m helpers completion`: the arms of a finished run, on the very data that it was trained on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import tiny_models
import torch
from typer.testing import CliRunner

from helpers.__main__ import app
from helpers.code.functions import extract_functions
from helpers.data.corpus import load_corpus
from helpers.data.draw import draw_splits
from helpers.data.splits import split_corpus
from helpers.models.causal_lm import add_lora, load_causal_lm
from helpers.profiles import SMOKE
from helpers.run.folder import settings_of
from helpers.run.workspace import digest, read_json, read_jsonl, write_json
from helpers.settings import LoraSettings, Profile
from helpers.tools.complete import ADAPTER
from helpers.tools.completion_run import FOLDER, CompletionRunError, measure_run

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A finished Track A over this project's own training loops, by a tiny model of random weights."""
    folder = tmp_path_factory.mktemp("runs") / "smoke-1"
    base = str(tiny_models.save(folder.parent / "base", "qwen2"))
    track = dataclasses.replace(SMOKE.track_a, model=base, window=96, train_tokens=150_000)
    corpus = dataclasses.replace(SMOKE.corpus, spec=f"path:{ROOT / 'helpers/train'}")
    profile = dataclasses.replace(SMOKE, corpus=corpus, track_a=track)
    model = add_lora(load_causal_lm(base, tiny_models.CPU_FP32)[0], LoraSettings(rank=4, alpha=8))
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.5)
    model.save_pretrained(str(folder / ADAPTER))
    loaded = load_corpus("", corpus)
    functions = extract_functions(loaded)
    files = draw_splits(loaded, split_corpus(loaded, functions, corpus, profile.seed), track, profile.seed)
    write_json(folder / "run.json", {"profile": profile})
    known = digest([file.text for file in files["training"]])
    write_json(folder / "track_a/section.json", {"data": {"training_sha256": known}})
    write_json(folder / "track_a/train/stage.json", {"seconds": 90.0})
    return folder


def test_the_command_measures_the_arms_and_keeps_them(run_folder):
    done = CliRunner().invoke(app, ["completion", "--run", str(run_folder), "--places", "9"])
    assert done.exit_code == 0, done.output
    facts = read_json(run_folder / FOLDER / "completion.json")
    assert facts["answer"] in done.output
    assert facts["places"]["all"] == len(read_jsonl(run_folder / FOLDER / "items.jsonl")) == 9
    assert facts["training_seconds"] == 90
    for arm, measured in facts["arms"].items():
        assert f"{arm:18}{measured['exact_match']['value']:10.3f}"[:18] in done.output
    assert done.output.count(" - base: ") == 3
    kept = read_jsonl(run_folder / FOLDER / "completions.jsonl")
    texts = {arm: [row["text"] for row in kept if row["arm"] == arm] for arm in ("base", "adapted")}
    assert texts["base"] != texts["adapted"]


def test_a_corpus_that_has_changed_is_refused(run_folder, monkeypatch):
    changed = {"data": {"training_sha256": "0" * 64}}
    monkeypatch.setattr(
        "helpers.tools.completion_run.read_json",
        lambda path: changed if path.name == "section.json" else read_json(path),
    )
    with pytest.raises(CompletionRunError, match="no longer gives the training files"):
        measure_run(run_folder, tiny_models.CPU_FP32, count=9)


@pytest.mark.parametrize(
    ("place", "count", "why"),
    [
        ("nowhere", 9, "there is no run in"),
        (".", 9, "holds no finished Track A"),
        ("smoke-1", 5, "at least 6"),
    ],
)
def test_what_cannot_be_measured_is_said(run_folder, place, count, why):
    with pytest.raises(CompletionRunError, match=why):
        measure_run(run_folder.parent / place, tiny_models.CPU_FP32, count=count)


def test_settings_come_back_from_their_json_form(run_folder):
    plain = read_json(run_folder / "run.json")["profile"]
    again = settings_of(Profile, plain | {"a setting of another version": 1})
    assert again.fingerprint() == settings_of(Profile, plain).fingerprint()
    assert again.track_a.lora == SMOKE.track_a.lora
    assert again.corpus.languages == SMOKE.corpus.languages
