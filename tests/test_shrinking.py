"""The adapter is scaled down as far as the gain allows, in the model and on disk alike."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from safetensors.torch import load_file

from helpers.models.causal_lm import add_lora, load_adapted
from helpers.settings import LoraSettings
from helpers.train.shrinking import WEIGHTS, shrink_adapter

LORA = LoraSettings(rank=4, alpha=8)  # rank-stabilised: the update's own factor is 8 / sqrt(4)


def scale_of(model) -> float:
    """What the update of one layer is multiplied by, as a share of what it was."""
    scaling = model.get_base_model().model.layers[0].self_attn.q_proj.scaling["default"]
    return scaling / (8 / 4**0.5)


@pytest.mark.parametrize(
    ("keep_gain", "chosen"),
    [(1.0, 1.0), (0.995, 1.0), (0.98, 0.9), (0.95, 0.8), (0.5, 0.6)],  # gains: .99, .96, .91, .84
)
def test_the_smallest_scale_that_keeps_enough_is_taken(tmp_path, keep_gain, chosen):
    base = str(tiny_models.save(tmp_path / "base", "qwen2"))
    model, _ = _adapted(base, tmp_path)
    before = load_file(tmp_path / "adapter" / WEIGHTS)

    def validate(candidate) -> float:  # a parabola with its lowest point, 1, at the whole adapter
        return 2.0 - scale_of(candidate) * (2.0 - scale_of(candidate))

    found = shrink_adapter(model, tmp_path / "adapter", validate, untouched=2.0, keep_gain=keep_gain)
    assert found == chosen
    assert scale_of(model) == pytest.approx(chosen)
    after, _ = load_adapted(base, tmp_path / "adapter", tiny_models.CPU_FP32)
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.allclose(after(ids).logits, model(ids).logits, atol=1e-5)
    saved = load_file(tmp_path / "adapter" / WEIGHTS)
    assert all(torch.equal(saved[n], w * chosen if "lora_B" in n else w) for n, w in before.items())


def test_of_an_adapter_that_does_not_help_less_is_taken(tmp_path):
    base = str(tiny_models.save(tmp_path / "base", "qwen2"))
    model, _ = _adapted(base, tmp_path)
    worse = shrink_adapter(
        model, tmp_path / "adapter", lambda m: 2.0 + scale_of(m), untouched=2.0, keep_gain=0.97
    )
    assert worse == 0.6  # less of what harms
    assert shrink_adapter(model, tmp_path / "adapter", lambda m: 2.0, untouched=2.0, keep_gain=0.97) == 0.6


def _adapted(base: str, tmp_path):
    model = add_lora(tiny_models.model("qwen2", len(tiny_models.tokenizer())), LORA)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.3)
    model.save_pretrained(str(tmp_path / "adapter"))
    return load_adapted(base, tmp_path / "adapter", tiny_models.CPU_FP32)
