"""The decoder for reading gives the states of the model's own layers, but for rounding, and no others."""

from __future__ import annotations

import dataclasses

import pytest
import tiny_models
import torch
from peft import LoraConfig, get_peft_model

from helpers.models import bfloat16_products, ragged_cache, reading_decoder
from helpers.models.causal_lm import add_lora
from helpers.models.generation import writing_form
from helpers.models.ragged_cache import Fed, ragged
from helpers.models.reading_decoder import ReadingDecoder, bfloat16_form, is_read_by_decoder
from helpers.models.structure import hidden_states
from helpers.settings import LoraSettings

MIXED = dataclasses.replace(tiny_models.CPU_FP32, autocast_dtype=torch.bfloat16)
TEXTS = [[7 + (3 * n + place) % 40 for place in range(n)] for n in (5, 1, 90, 33, 70, 2)]
FAMILIES = ("llama", "qwen2")  # grouped queries; biases


def shaken(family: str, *, rank: int = 4) -> torch.nn.Module:
    """A model whose norms, biases and adapters all change what it computes; rank 0: without adapters."""
    model = tiny_models.model(family, 50)
    if rank:
        model = add_lora(model, LoraSettings(rank=rank, alpha=8))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "norm" in name or name.endswith("bias"):
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.3
    return model.eval()


@pytest.fixture
def independent(monkeypatch):
    """Small models count as large; skip where rows of products depend on their neighbours."""
    monkeypatch.setattr(bfloat16_products, "LEAST_WEIGHTS", 0)
    if not bfloat16_products.products_pay(shaken("llama"), MIXED):
        pytest.skip("rows of bfloat16 products depend on their neighbours here")


def read(model: torch.nn.Module, form: ReadingDecoder | torch.dtype | None, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode(), ragged(model, 1, form) as cache:
        return cache.states([Fed(0, 0, ids, 0)])


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_as_near_to_float32_as_those_of_the_layers_in_bfloat16(family, rank):
    model = shaken(family, rank=rank)
    texts = [torch.tensor([ids]) for ids in TEXTS]
    with torch.no_grad():
        exact = torch.cat([hidden_states(model, ids)[0] for ids in texts])
    decoder = ReadingDecoder(model)
    found = torch.cat([read(model, decoder, ids) for ids in TEXTS])
    with bfloat16_products.bfloat16_products(model):
        own = torch.cat([read(model, torch.bfloat16, ids) for ids in TEXTS])
    assert found.dtype == torch.float32
    assert 0 < (found - exact).norm() < 1.5 * (own - exact).norm() < 0.2 * exact.norm()


def test_in_float32_only_the_order_of_sums_differs(monkeypatch):
    monkeypatch.setattr(ReadingDecoder, "dtype", torch.float32)
    for family in FAMILIES:
        model = shaken(family)
        with torch.no_grad():
            exact = hidden_states(model, torch.tensor([TEXTS[2]]))[0]
        assert torch.allclose(read(model, ReadingDecoder(model), TEXTS[2]), exact, atol=1e-5)


def test_updates_below_the_last_bit_of_outputs_are_kept_on_average():
    generator = torch.Generator().manual_seed(2)
    holder = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(64, 64, bias=False)})
    model = get_peft_model(holder, LoraConfig(r=1, lora_alpha=1, target_modules=["q_proj"]))
    layer = model.base_model.model["q_proj"]
    layer.base_layer.weight.data = torch.randn(64, 64, generator=generator).to(torch.bfloat16).float()
    layer.lora_A["default"].weight.data.fill_(0).index_fill_(1, torch.tensor([0]), 1)
    layer.lora_B["default"].weight.data.fill_(2**-8)
    x = torch.randn(4000, 64, generator=generator).to(torch.bfloat16)
    x[:, 0] = 0.25  # so each output, of about 8, grows by 2^-10: a thirtieth of its last bit
    product = reading_decoder._Product.of(reading_decoder.LinearGroup.of([layer], torch.bfloat16))
    with torch.no_grad():
        grown = product(x).float() - layer.base_layer(x.float())
    assert float(grown.mean()) == pytest.approx(2**-10, rel=0.1)


@pytest.mark.parametrize("piece", [5, 128])
@pytest.mark.parametrize("family", FAMILIES)
def test_states_do_not_depend_on_what_is_read_together(family, piece, independent, monkeypatch):
    monkeypatch.setattr(ragged_cache, "PIECE", {"cpu": piece})
    model = shaken(family)
    decoder = ReadingDecoder(model)
    assert decoder.rows_are_independent()
    with torch.inference_mode(), ragged(model, len(TEXTS), decoder) as cache:
        together = cache.states([Fed(slot, 0, ids, 0) for slot, ids in enumerate(TEXTS)])
    for ids, states in zip(TEXTS, together.split([len(ids) for ids in TEXTS]), strict=True):
        assert torch.equal(read(model, decoder, ids), states)
        with torch.inference_mode(), ragged(model, 1, decoder) as cache:
            for place, token in enumerate(ids):
                assert torch.equal(cache.states([Fed(0, place, [token], 0)])[0], states[place])


@pytest.mark.parametrize("what", ["gpt2", "dora", "two adapters", "disabled", "merged", "sliding window"])
def test_other_models_are_read_by_their_own_layers(what):
    model = tiny_models.model("gpt2" if what == "gpt2" else "qwen2", 50)
    if what == "sliding window":
        model.config.layer_types = ["sliding_attention"] * model.config.num_hidden_layers
    elif what != "gpt2":
        config = LoraConfig(r=2, target_modules=["q_proj"], use_dora=what == "dora")
        model = get_peft_model(model, config)
    if what == "two adapters":
        model.add_adapter("second", config)
        model.base_model.set_adapter(["default", "second"])
    if what == "merged":
        model.merge_adapter()
    if what == "disabled":
        with model.disable_adapter():
            assert not is_read_by_decoder(model.eval())
        assert is_read_by_decoder(model)
        return
    assert not is_read_by_decoder(model.eval())


def test_the_head_multiplies_in_float32_meanwhile_and_all_comes_back(independent):
    model = shaken("llama")
    with bfloat16_form(model) as form:
        assert isinstance(form, ReadingDecoder)
        assert [n for n, m in model.named_modules() if "forward" in m.__dict__] == [
            "base_model.model.lm_head"
        ]
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_where_rows_of_joined_products_depend_on_others_the_own_layers_are_used(independent, monkeypatch):
    monkeypatch.setattr(ReadingDecoder, "rows_are_independent", lambda self: False)
    with writing_form(shaken("llama"), MIXED) as form:
        assert form == torch.bfloat16


def test_every_shape_of_product_is_tried(monkeypatch):
    tried = set()
    monkeypatch.setattr(
        reading_decoder, "rows_are_independent", lambda *shape: bool(tried.add(shape[:3]) or True)
    )
    assert ReadingDecoder(shaken("qwen2")).rows_are_independent()
    # Width 16, inner 32, queries 16, keys and values 8 each; rank 4: qkv, o, gate and up, down.
    assert {(32, 16 + 12, True), (16, 16 + 4, False), (64, 16 + 8, False), (16, 32 + 4, False)} <= tried
    assert {(12, 16, False), (4, 16, False), (8, 16, False), (4, 32, False)} <= tried
