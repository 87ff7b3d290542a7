"""Frozen weights in 4 bits, as larger models need them, on the CPU back end."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from bitsandbytes.nn import Linear4bit

from helpers.machine.hardware import detect_runtime
from helpers.models.causal_lm import add_lora, load_adapted, load_causal_lm
from helpers.profiles import PROFILES
from helpers.settings import TINY_CODE_LM, LoraSettings
from helpers.train.continued_pretraining import train_language_model

TEXTS = ["def area(width, height):\n    return width * height\n" * 12] * 6


@pytest.fixture(scope="module")
def runtime():
    return detect_runtime(nf4=True)


def test_linear_layers_are_four_bit_and_only_adapters_learn(runtime) -> None:
    base, tokenizer = load_causal_lm(TINY_CODE_LM, runtime)
    assert isinstance(base.model.layers[0].mlp.up_proj, Linear4bit)
    model = add_lora(base, LoraSettings(rank=4, alpha=8))
    model.eval()
    ids = tokenizer(TEXTS[0], return_tensors="pt").input_ids
    with torch.no_grad():
        model(input_ids=ids)  # an evaluation before training must not spoil the gradient
    model.train()
    model(input_ids=ids, labels=ids).loss.backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert learning
    assert all("lora_" in name for name in learning)
    assert all(p.dtype == torch.float32 for n, p in model.named_parameters() if p.requires_grad)


def test_training_on_four_bit_weights_lowers_the_loss_and_reloads(runtime, tmp_path) -> None:
    settings = dataclasses.replace(PROFILES["smoke"].track_a, epochs=2, learning_rate=2e-3)
    history = train_language_model(settings, TEXTS, TEXTS[:1], runtime, seed=3, out_dir=tmp_path)
    assert history.best_validation < history.validation[0]
    model, _ = load_adapted(settings.model, tmp_path / "adapter", runtime)
    assert any(isinstance(module, Linear4bit) for module in model.modules())
