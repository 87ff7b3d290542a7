"""Cheaper forms of a training step give the same loss and gradients, and are used only where they pay."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import tiny_models
import torch

from helpers.machine.hardware import can_compile
from helpers.models.causal_lm import add_lora
from helpers.models.cheaper_forms import (
    cheaper_forms,
    merged_adapters,
    plain_attention,
    summed_adapters,
)
from helpers.models.structure import hidden_states, output_head, plain_model
from helpers.models.token_loss import summed_token_loss
from helpers.settings import LoraSettings
from helpers.train.packing import collate_packed, pack_documents

HIGH = LoraSettings(rank=8, alpha=16)  # models are 16 wide: 3 * 8 * 32 >= 16 * 16


def adapted(family: str, lora: LoraSettings = HIGH) -> torch.nn.Module:
    model = add_lora(tiny_models.model(family, 50), lora)  # in evaluation mode: dropout would differ
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # at its start B is zero, and A would have no gradient
            torch.nn.init.normal_(parameter, 0.0, 0.1)
    return model


def packed_batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    documents = [torch.randint(2, 50, (n,), generator=generator).tolist() for n in (5, 9, 3, 40, 7)]
    return collate_packed(pack_documents(documents, 16, pad_id=1))


def step(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    hidden = hidden_states(model, batch["input_ids"], position_ids=batch["position_ids"])
    loss, _ = summed_token_loss(output_head(model), hidden, batch["labels"])
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_loss_and_gradients_are_those_of_the_usual_forms(family):
    model, batch = adapted(family), packed_batch()
    loss, gradients = step(model, batch)
    with cheaper_forms(model):
        cheaper_loss, cheaper_gradients = step(model, batch)
        assert plain_model(model).config._attn_implementation == "eager"
    assert cheaper_loss == pytest.approx(loss, rel=1e-5)
    assert gradients.keys() == cheaper_gradients.keys() != set()
    for name, gradient in gradients.items():
        error = (cheaper_gradients[name] - gradient).norm() / gradient.norm()
        assert error < 1e-4, name


def test_afterwards_the_model_computes_as_before():
    model, batch = adapted("qwen2"), packed_batch()
    forwards = {name: module.forward.__qualname__ for name, module in model.named_modules()}
    usual = plain_model(model).config._attn_implementation
    before = step(model, batch)[0]
    with cheaper_forms(model):
        step(model, batch)
        changed = {
            n for n, m in model.named_modules() if getattr(m.forward, "__qualname__", "") != forwards[n]
        }
        assert changed
    assert {name: module.forward.__qualname__ for name, module in model.named_modules()} == forwards
    assert plain_model(model).config._attn_implementation == usual
    assert step(model, batch)[0] == before


@pytest.mark.parametrize(
    ("family", "lora", "layers"),
    [
        ("llama", HIGH, 14),  # seven in each of two blocks
        ("llama", dataclasses.replace(HIGH, rank=2), 4),  # keys and values: 3 * 2 * (16 + 8) >= 16 * 8
        ("llama", dataclasses.replace(HIGH, rank=1), 0),
        ("llama", dataclasses.replace(HIGH, dropout=0.1), 0),
        ("gpt2", HIGH, 0),  # its layers hold their weights transposed
    ],
)
def test_weights_are_summed_only_where_that_is_less_work(family, lora, layers):
    with summed_adapters(adapted(family, lora)) as changed:
        assert changed == layers


def test_merged_adapters_give_the_same_logits_and_leave_no_trace():
    model, ids = adapted("llama", LoraSettings(rank=2, alpha=4)), torch.arange(40)[None]
    with torch.no_grad():
        wanted, plain = model(ids).logits, model.get_base_model()
        with merged_adapters(model) as changed:
            assert changed == 14  # seven in each of two layers
            found = model(ids).logits
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        assert torch.equal(model(ids).logits, wanted)
        with model.disable_adapter():
            assert not torch.allclose(plain(ids).logits, wanted, atol=1e-3)
    with merged_adapters(model.half()) as changed:
        assert changed == 0  # sums would be rounded


def test_large_scores_stay_with_the_fused_kernel(monkeypatch):
    model, batch = tiny_models.model("llama", 50), packed_batch()
    rows, length = batch["input_ids"].shape
    needed = 2 * 4 * rows * length * length * 8  # two layers of four heads, eight bytes a score
    used = []
    model.base_model.register_forward_hook(lambda *_: used.append(model.config._attn_implementation))
    for limit in (needed, needed - 1):
        monkeypatch.setattr("helpers.models.cheaper_forms.MAX_SCORE_BYTES", limit)
        with plain_attention(model):
            hidden_states(model, batch["input_ids"])
    assert used == ["eager", "sdpa"]


def test_layers_are_compiled_for_full_batches_in_training_only(monkeypatch):
    model, seen = adapted("qwen2").train(), []

    def compile(forward, *, dynamic):
        def compiled(hidden, *others, **options):
            seen.append(tuple(hidden.shape[:2]))
            return forward(hidden, *others, **options)

        return compiled

    monkeypatch.setattr(torch, "compile", compile)
    batch = packed_batch()
    rows = len(batch["input_ids"])
    fewer = {name: tensor[: rows - 1] for name, tensor in batch.items()}
    usual = [module.forward for module in model.modules()]
    with cheaper_forms(model, rows):
        step(model, batch)
        assert seen == [(rows, 16)] * plain_model(model).config.num_hidden_layers
        step(model, fewer)
        step(model.eval(), batch)
        assert len(seen) == plain_model(model).config.num_hidden_layers
    assert [module.forward for module in model.modules()] == usual


def test_layers_that_cannot_be_compiled_run_as_they_are(monkeypatch):
    def failing(graph, inputs):
        raise OSError("no compiler")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=failing))
    model, batch = adapted("qwen2").train(), packed_batch()
    loss, gradients = step(model, batch)
    with cheaper_forms(model, len(batch["input_ids"])):
        again, compiled_gradients = step(model, batch)
    assert again == pytest.approx(loss, rel=1e-5)
    assert compiled_gradients.keys() == gradients.keys()


@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="needs a C++ compiler")
def test_compiled_layers_give_the_loss_and_the_gradients_of_plain_ones():
    model, batch = adapted("qwen2").train(), packed_batch()
    loss, gradients = step(model, batch)
    with cheaper_forms(model, len(batch["input_ids"])):
        compiled_loss, compiled_gradients = step(model, batch)
    assert compiled_loss == pytest.approx(loss, rel=1e-5)
    assert compiled_gradients.keys() == gradients.keys() != set()
    for name, gradient in gradients.items():
        assert (compiled_gradients[name] - gradient).norm() / gradient.norm() < 1e-4, name
