"""Two processes (gloo) train as one does: the same losses, the same validation, one adapter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
import torch

from helpers.train.sharing import EvenlyShared, ignoring_fillers

ROOT = Path(__file__).parents[1]
SCRIPT = """
import dataclasses, json, sys
from pathlib import Path
import tiny_models, torch
from helpers.settings import LoraSettings, TrackASettings
from helpers.train.language_model import train_language_model
torch.set_num_threads(1)
texts = [f"def function_{i}(value):\\n    return value + {i}\\n\\n\\n" * 5 for i in range(6)]
settings = TrackASettings(
    model=sys.argv[1], window=32, stride=16, train_tokens=0, validation_tokens=0, test_tokens=0, epochs=2,
    learning_rate=1e-2, batch_sequences=4, warmup_fraction=0.1, lora=LoraSettings(rank=4, alpha=8), rehearsal_share=0.0,
)
out = Path(sys.argv[2])
train_language_model(settings, texts[:5], texts[5:], tiny_models.CPU_FP32, seed=3, out_dir=out)
"""


def train(model: Path, out: Path, *launcher: str) -> dict:
    script = out.with_suffix(".py")
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    environment["ACCELERATE_USE_CPU"] = "true"
    command = [sys.executable, "-W", "ignore", *launcher, str(script), str(model), str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in out.iterdir()) == ["adapter", "history.json"]
    return json.loads((out / "history.json").read_text())


def test_two_processes_give_the_losses_of_one(tmp_path) -> None:
    model = tiny_models.save(tmp_path / "model", "qwen2")
    one = train(model, tmp_path / "one")
    launch = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")  # fmt: skip
    two = train(model, tmp_path / "two", *launch)
    assert (one["processes"], one["micro_batch"]) == (1, 4)
    assert (two["processes"], two["micro_batch"]) == (2, 2)
    assert len(one["train_loss"]) > 4
    assert two["train_loss"] == pytest.approx(one["train_loss"], abs=1e-4)
    assert two["validation"] == pytest.approx(one["validation"], abs=1e-4)
    assert two["best_step"] == one["best_step"]


def test_fillers_make_numbers_even_and_count_for_nothing() -> None:
    shared = EvenlyShared(list("abcde"), at_once=4)
    assert len(shared) == 8
    order = list(shared.sampler(seed=1))
    assert sorted(order[:5]) == [0, 1, 2, 3, 4]
    assert order[5:] == [5, 6, 7]
    collate = ignoring_fillers(lambda items: {"labels": torch.ones(len(items), 3, dtype=torch.long)})
    labels = collate([shared[i] for i in order[4:]])["labels"]
    assert labels.tolist() == [[1, 1, 1]] + [[-100] * 3] * 3
    assert len(EvenlyShared(list("abcd"), at_once=4)) == 4


def test_another_epoch_another_order() -> None:
    sampler = EvenlyShared(list(range(50)), at_once=8).sampler(seed=1)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
