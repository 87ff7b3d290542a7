"""Products in bfloat16: near those in float32, the same for a row whatever stands beside it, and undone."""

import dataclasses

import pytest
import tiny_models
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model

from helpers.eval.perplexity import evaluate_perplexity
from helpers.models import bfloat16_products as products
from helpers.models import generation, ragged_cache, text_writer
from helpers.models.bfloat16_products import bfloat16_products, products_pay
from helpers.models.causal_lm import add_lora
from helpers.models.cheaper_forms import cheaper_forms
from helpers.models.ragged_cache import Fed, ragged
from helpers.settings import LoraSettings

MIXED = dataclasses.replace(tiny_models.CPU_FP32, autocast_dtype=torch.bfloat16)
TEXTS = ["def f(a, b):\n    return a + b\n" * n + "class A:" * (n % 3) for n in range(1, 12)]
FAMILIES = ("llama", "qwen2")


def adapted(family):
    """A model with an adapter that changes what it computes, and its tokenizer."""
    tok = tiny_models.tokenizer()
    model = add_lora(tiny_models.model(family, len(tok)), LoraSettings(rank=4, alpha=8))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval(), tok


@pytest.fixture
def always(monkeypatch):
    """Small models count as large."""
    monkeypatch.setattr(products, "LEAST_WEIGHTS", 0)


@pytest.fixture(params=["decoder", "own layers"])
def independent(request, always, monkeypatch):
    """Read in both forms; skip where products in bfloat16 depend on neighbouring rows: both are unused then."""
    if request.param == "own layers":
        monkeypatch.setattr("helpers.models.reading_decoder.is_read_by_decoder", lambda model: False)
    if not products_pay(adapted("llama")[0], MIXED):
        pytest.skip("rows of bfloat16 products depend on their neighbours here")


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_float32_but_for_rounding_and_float32_comes_back(family):
    model, tok = adapted(family)
    ids = torch.tensor([tok(TEXTS[5])["input_ids"]])
    with torch.no_grad():
        exact = model(ids).logits
        with model.disable_adapter():
            untouched = model(ids).logits
        with bfloat16_products(model) as changed:
            rounded = model(ids).logits
        again = model(ids).logits
    layers = model.config.num_hidden_layers
    assert changed == 7 * layers + 1  # all linear layers of each block, and the head
    assert rounded.dtype == torch.float32
    assert torch.equal(again, exact)
    error = (rounded - exact).norm() / exact.norm()
    assert 0 < error < 0.05
    assert (untouched - exact).norm() / exact.norm() > 10 * error  # so the adapter takes part


def test_a_small_update_is_not_rounded_away():
    linear = torch.nn.Linear(64, 64, bias=False)
    torch.nn.init.constant_(linear.weight, 1.0)
    holder = torch.nn.ModuleDict({"q_proj": linear})
    inject_adapter_in_model(LoraConfig(r=1, lora_alpha=1, target_modules=["q_proj"]), holder)
    layer = holder["q_proj"]
    layer.lora_A["default"].weight.data.fill_(1 / 64)
    layer.lora_B["default"].weight.data.fill_(0.064)  # each weight grows by .001, an eighth of its last bit
    x = torch.cat([torch.ones(1, 32), -torch.ones(1, 32)], 1) + 1 / 64
    with torch.no_grad():
        update = layer(x) - linear(x)
        forward = products._product(layer, is_head=False)
        assert forward(x) - linear(x) == pytest.approx(update, rel=0.05)


def test_where_it_pays(always, monkeypatch):
    model, _ = adapted("llama")
    assert not products_pay(model, tiny_models.CPU_FP32)
    assert not products_pay(model, dataclasses.replace(MIXED, device=torch.device("cuda")))
    assert not products_pay(tiny_models.model("llama", 300).to(torch.bfloat16), MIXED)
    tried = []
    monkeypatch.setattr(
        products, "rows_are_independent", lambda *shape: bool(tried.append(shape[:2]) or True)
    )
    monkeypatch.setattr(products, "_can_attend", lambda *model: True)
    assert products_pay(model, MIXED)
    assert {(16, 16), (32, 16), (16, 32), (4, 16), (16, 4), (4, 32)} <= set(tried)  # weights and adapters
    monkeypatch.setattr(products, "rows_are_independent", lambda *shape: shape[0] != 4)
    assert not products_pay(model, MIXED)  # the adapters depend on their neighbours
    monkeypatch.setattr(products, "rows_are_independent", lambda *shape: True)
    monkeypatch.setattr(products, "_can_attend", lambda *model: False)
    assert not products_pay(model, MIXED)
    monkeypatch.setattr(products, "_can_attend", lambda *model: True)
    monkeypatch.setattr(products, "LEAST_WEIGHTS", 2**25)
    assert not products_pay(model, MIXED)


@pytest.mark.parametrize("what", ["gpt2", "dora", "two adapters", "bias of an adapter"])
def test_models_that_are_not_covered_whole_stay_in_float32(what, always, monkeypatch):
    monkeypatch.setattr(products, "rows_are_independent", lambda *shape: True)
    monkeypatch.setattr(products, "_can_attend", lambda *model: True)
    model = tiny_models.model("gpt2" if what == "gpt2" else "llama", 300)
    if what != "gpt2":
        options = {"use_dora": what == "dora", "lora_bias": what == "bias of an adapter"}
        config = LoraConfig(r=2, target_modules=["q_proj"], **options)
        model = get_peft_model(model, config)
    if what == "two adapters":
        model.add_adapter("second", config)
        model.base_model.set_adapter(["default", "second"])
    assert not products_pay(model.eval(), MIXED)


def test_dropout_is_none_outside_training(always, monkeypatch):
    monkeypatch.setattr(products, "rows_are_independent", lambda *shape: True)
    monkeypatch.setattr(products, "_can_attend", lambda *model: True)
    model = add_lora(tiny_models.model("llama", 300), LoraSettings(rank=2, alpha=2, dropout=0.1))
    assert products_pay(model.eval(), MIXED)
    assert not products_pay(model.train(), MIXED)


def test_trained_rows_of_the_embedding_take_part(independent):
    tok = tiny_models.tokenizer()
    model = add_lora(
        tiny_models.model("qwen2", len(tok)), LoraSettings(rank=4, alpha=8), tokens=[5, 6, 7, 8, 40, 41]
    ).eval()
    for name, parameter in model.named_parameters():
        if "trainable_tokens" in name:
            parameter.data.mul_(3)
    exact = evaluate_perplexity(model, tok, TEXTS, window=40, stride=24)
    rounded = evaluate_perplexity(model, tok, TEXTS, runtime=MIXED, window=40, stride=24)
    assert rounded.bits_per_byte == pytest.approx(exact.bits_per_byte, rel=0.01)
    assert rounded.nll_nats != exact.nll_nats


@pytest.mark.parametrize("rank", [1, 16])  # with 16, training sums adapters and weights
def test_scores_within_a_training_are_those_outside_and_training_goes_on(rank, independent):
    tok = tiny_models.tokenizer()
    model = add_lora(tiny_models.model("llama", len(tok)), LoraSettings(rank=rank, alpha=rank)).eval()
    sizes = {"window": 40, "stride": 40, "runtime": MIXED}
    ids = torch.tensor([tok(TEXTS[3])["input_ids"]])
    outside = evaluate_perplexity(model, tok, TEXTS, **sizes)
    with cheaper_forms(model):
        before = model(input_ids=ids).logits
        changed = {name for name, module in model.named_modules() if "forward" in module.__dict__}
        assert bool(changed) == (rank == 16)
        inside = evaluate_perplexity(model, tok, TEXTS, **sizes)
        assert {n for n, module in model.named_modules() if "forward" in module.__dict__} == changed
        assert torch.equal(model(input_ids=ids).logits, before)
    assert inside.texts == outside.texts
    assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("piece", [5, 128])
@pytest.mark.parametrize("family", FAMILIES)
def test_states_do_not_depend_on_what_is_read_together(family, piece, independent, monkeypatch):
    monkeypatch.setattr(ragged_cache, "PIECE", {"cpu": piece})
    model, tok = adapted(family)
    texts = [tok(text)["input_ids"] for text in TEXTS]
    with torch.inference_mode(), bfloat16_products(model):
        with ragged(model, len(texts), torch.bfloat16) as cache:
            together = cache.states([Fed(slot, 0, ids, 0) for slot, ids in enumerate(texts)])
        together = together.split([len(ids) for ids in texts])
        for ids, states in zip(texts, together, strict=True):
            with ragged(model, 1, torch.bfloat16) as cache:
                assert torch.equal(cache.states([Fed(0, 0, ids[:-1], 0)]), states[:-1])
                assert torch.equal(cache.states([Fed(0, len(ids) - 1, ids[-1:], 0)]), states[-1:])


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_texts_do_not_depend_on_the_batch_or_on_drafts(temperature, independent, monkeypatch):
    model, tok = adapted("llama")

    def written(some, batch_size):
        return generation.generate(
            model, tok, some, MIXED, n=2 if temperature else 1, temperature=temperature, max_new_tokens=24,
            batch_size=batch_size,
        )  # fmt: skip

    whole = written(TEXTS, 64)
    assert written(TEXTS, 3) == whole
    assert written(TEXTS, 1) == whole
    monkeypatch.setattr(text_writer.Drafts, "choose", lambda self, rows, limits, worth: [(0, [])] * len(rows))
    assert written(TEXTS, 64) == whole


def test_scores_are_those_of_float32_but_for_rounding(independent):
    model, tok = adapted("llama")
    sizes = {"window": 40, "stride": 24}
    exact = evaluate_perplexity(model, tok, TEXTS, **sizes)
    rounded = evaluate_perplexity(model, tok, TEXTS, runtime=MIXED, **sizes)
    assert rounded.n_tokens == exact.n_tokens
    assert rounded.nll_nats != exact.nll_nats
    assert rounded.bits_per_byte == pytest.approx(exact.bits_per_byte, rel=0.01)
    parts = [evaluate_perplexity(model, tok, [text], runtime=MIXED, batch_size=1, **sizes) for text in TEXTS]
    assert [part.texts[0] for part in parts] == list(rounded.texts)
