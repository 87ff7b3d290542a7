"""The decoder for reading gives the states of the model's own layers, but for rounding, and no others."""

from __future__ import annotations

import dataclasses

import pytest
import tiny_models
import torch
from peft import AdaLoraConfig, IA3Config, LNTuningConfig, LoraConfig, VeraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

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
    return shake(model)


def shake(model: torch.nn.Module) -> torch.nn.Module:
    """Change norms, biases and adapters, whose first values would hide a mistake."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "norm" in name or name.endswith("bias") or "trainable_tokens" in name:
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


class Builds:
    """Models that differ in what adapters and layers they have."""

    @staticmethod
    def some_projections(family):
        config = LoraConfig(r=4, target_modules=["k_proj", "up_proj"], rank_pattern={"up_proj": 3})
        return get_peft_model(tiny_models.model(family, 50), config)

    @staticmethod
    def upper_layers(family):
        return add_lora(tiny_models.model(family, 50), LoraSettings(rank=4, alpha=8, layers=1))

    @staticmethod
    def scaled_by_root(family):
        options = {"use_rslora": True, "lora_dropout": 0.5, "target_modules": "all-linear"}
        return get_peft_model(tiny_models.model(family, 50), LoraConfig(r=4, **options))

    @staticmethod
    def trained_rows(family):
        lora = LoraSettings(rank=4, alpha=8)
        return add_lora(tiny_models.model(family, 50), lora, tokens=[5, 6, 7, 8, 9, 10])

    @staticmethod
    def other_shape(family):
        rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
        common = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 10, "rope_parameters": rope}
        if family == "qwen2":
            model = Qwen2ForCausalLM(Qwen2Config(**common, **heads, use_sliding_window=False))
        else:
            config = LlamaConfig(**common, **heads, attention_bias=True, mlp_bias=True)
            model = LlamaForCausalLM(config)
        return add_lora(model, LoraSettings(rank=2, alpha=8))


BUILDS = [name for name in vars(Builds) if not name.startswith("_")]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_in_float32_only_the_order_of_sums_differs_from_the_own_layers(family, build, monkeypatch):
    monkeypatch.setattr(ReadingDecoder, "dtype", torch.float32)
    monkeypatch.setattr(ragged_cache, "PIECE", {"cpu": 7})
    model = shake(getattr(Builds, build)(family))
    assert is_read_by_decoder(model)
    with torch.no_grad():
        exact = [model(torch.tensor([ids])).logits[0] for ids in TEXTS]
    lengths = (3, 1, 17, 20, 2, 5)  # of the runs that follow: some are computed together
    with torch.inference_mode(), ragged(model, len(TEXTS), ReadingDecoder(model)) as cache:
        at = [0] * len(TEXTS)
        while any(start < len(ids) for start, ids in zip(at, TEXTS, strict=True)):
            fed = [
                Fed(slot, at[slot], ids[at[slot] : at[slot] + n], min(2, len(ids[at[slot] : at[slot] + n])))
                for slot, (ids, n) in enumerate(zip(TEXTS, lengths, strict=True))
                if at[slot] < len(ids)
            ]
            found = cache.read(fed).split([one.wanted for one in fed])
            for one, logits in zip(fed, found, strict=True):
                at[one.slot] += len(one.tokens)
                wanted = exact[one.slot][at[one.slot] - one.wanted : at[one.slot]]
                assert torch.allclose(logits, wanted, atol=1e-4)


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
    if not decoder.rows_are_independent():
        pytest.skip("rows of joined products depend on their neighbours here")
    with torch.inference_mode(), ragged(model, len(TEXTS), decoder) as cache:
        together = cache.states([Fed(slot, 0, ids, 0) for slot, ids in enumerate(TEXTS)])
    for ids, states in zip(TEXTS, together.split([len(ids) for ids in TEXTS]), strict=True):
        assert torch.equal(read(model, decoder, ids), states)
        with torch.inference_mode(), ragged(model, 1, decoder) as cache:
            for place, token in enumerate(ids):
                assert torch.equal(cache.states([Fed(0, place, [token], 0)])[0], states[place])


def test_adapters_of_other_kinds_are_not_passed_over():
    for config in (
        AdaLoraConfig(target_modules=["q_proj"], total_step=10),
        VeraConfig(r=2, target_modules=["q_proj"]),
        IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
        LNTuningConfig(target_modules=["input_layernorm"]),
    ):
        assert not is_read_by_decoder(get_peft_model(tiny_models.model("llama", 50), config).eval())


@pytest.mark.parametrize(
    "what", ["gpt2", "dora", "two adapters", "disabled", "merged", "sliding window", "a bias"]
)
def test_other_models_are_read_by_their_own_layers(what):
    model = tiny_models.model("gpt2" if what == "gpt2" else "qwen2", 50)
    if what == "sliding window":
        model.config.layer_types = ["sliding_attention"] * model.config.num_hidden_layers
    elif what == "a bias":
        model.base_model.layers[1].mlp.up_proj.bias = torch.nn.Parameter(torch.ones(32))
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


def test_the_head_multiplies_in_float32_meanwhile_and_all_comes_back(independent, monkeypatch):
    monkeypatch.setattr(ReadingDecoder, "rows_are_independent", lambda self: True)
    model = shaken("llama")
    with bfloat16_form(model) as form:
        assert isinstance(form, ReadingDecoder)
        assert [n for n, m in model.named_modules() if "forward" in m.__dict__] == [
            "base_model.model.lm_head"
        ]
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_where_rows_of_joined_products_depend_on_others_the_own_layers_are_used(independent, monkeypatch):
    monkeypatch.setattr(ReadingDecoder, "rows_are_independent", lambda self: False)
    model = shaken("llama")
    with writing_form(model, MIXED) as form:
        assert form == torch.bfloat16
        replaced = [name for name, module in model.named_modules() if "forward" in module.__dict__]
        assert len(replaced) == 7 * model.config.num_hidden_layers + 1


def test_every_shape_of_product_is_tried(monkeypatch):
    tried = set()
    monkeypatch.setattr(
        reading_decoder, "rows_are_independent", lambda *shape: bool(tried.add(shape[:3]) or True)
    )
    assert ReadingDecoder(shaken("qwen2")).rows_are_independent()
    # Width 16, inner 32, queries 16, keys and values 8 each; rank 4: qkv, o, gate and up, down.
    assert {(32, 16 + 12, True), (16, 16 + 4, False), (64, 16 + 8, False), (16, 32 + 4, False)} <= tried
    assert {(12, 16, False), (4, 16, False), (8, 16, False), (4, 32, False)} <= tried
