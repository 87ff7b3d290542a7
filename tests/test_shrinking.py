"""The adapter is scaled down as far as the gain allows, both in the model and on disk."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from safetensors.torch import load_file

from helpers.models.causal_lm import add_lora, load_adapted, load_causal_lm
from helpers.models.structure import output_head
from helpers.settings import LoraSettings
from helpers.train.shrinking import WEIGHTS, shrink_adapter

LORA = LoraSettings(rank=4, alpha=8)  # rank-stabilised: the update's own factor is 8 / sqrt(4)


def scale_of(model) -> float:
    """Return the factor by which the update of one layer is multiplied."""
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


def test_an_adapter_that_does_not_help_is_scaled_down(tmp_path):
    base = str(tiny_models.save(tmp_path / "base", "qwen2"))
    model, _ = _adapted(base, tmp_path)
    worse = shrink_adapter(
        model, tmp_path / "adapter", lambda m: 2.0 + scale_of(m), untouched=2.0, keep_gain=0.97
    )
    assert worse == 0.6  # less of what harms
    assert shrink_adapter(model, tmp_path / "adapter", lambda m: 2.0, untouched=2.0, keep_gain=0.97) == 0.6


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_trained_rows_of_the_embedding_shrink_with_the_rest(tmp_path, name):
    base = str(tiny_models.save(tmp_path / "base", name))
    model, _ = _adapted(base, tmp_path, name, tokens=[5, 7])
    (rows,) = (w for n, w in load_file(tmp_path / "adapter" / WEIGHTS).items() if "tokens_delta" in n)
    untouched = load_causal_lm(base, tiny_models.CPU_FP32)[0].get_input_embeddings().weight[[5, 7]]
    assert (rows - untouched).abs().min() > 0.4  # moved by a half, see below
    scales = iter([1.0, 0.9, 0.8])  # what is validated: the whole adapter first
    seen = []

    def validate(candidate) -> float:
        seen.append((candidate.get_input_embeddings().weight[[5, 7]] - untouched).mean().item())
        return 1.0 if next(scales) > 0.85 else 5.0

    assert shrink_adapter(model, tmp_path / "adapter", validate, untouched=2.0, keep_gain=0.9) == 0.9
    assert seen == pytest.approx([0.5, 0.45, 0.4], abs=1e-4)
    after, _ = load_adapted(base, tmp_path / "adapter", tiny_models.CPU_FP32)
    for adapted in (model, after):
        for table in (adapted.get_input_embeddings(), output_head(adapted)):  # tied: both
            assert torch.allclose(table.weight[[5, 7]], untouched + 0.45, atol=1e-5)
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.allclose(after(ids).logits, model(ids).logits, atol=1e-5)


def _adapted(base: str, tmp_path, name: str = "qwen2", tokens: list[int] | None = None):
    model = add_lora(tiny_models.model(name, len(tiny_models.tokenizer())), LORA, tokens=tokens)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.3)
            elif "tokens_delta" in name:
                parameter.add_(0.5)
    model.save_pretrained(str(tmp_path / "adapter"))
    return load_adapted(base, tmp_path / "adapter", tiny_models.CPU_FP32)
