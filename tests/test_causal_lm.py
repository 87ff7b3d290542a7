import json
import shutil

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file

from helpers.models.causal_lm import ModelError, add_lora, chat_prompt, load_adapted, load_causal_lm
from helpers.models.shapes import model_identity
from helpers.settings import TINY_CODE_LM, LoraSettings

RUNTIME = tiny_models.CPU_FP32
LORA = LoraSettings(rank=4, alpha=8)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_each_family_loads_by_the_same_call(tmp_path, family):
    folder = tiny_models.save(tmp_path / family, family)
    model, tok = load_causal_lm(str(folder), RUNTIME)
    assert not model.training
    assert model.dtype == torch.float32
    assert tok.pad_token == "<|fim_pad|>"
    assert model.get_input_embeddings().num_embeddings == len(tok)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_get_the_dtype_of_the_runtime(tmp_path, dtype):
    import dataclasses

    folder = tiny_models.save(tmp_path / "m", "qwen2")
    model, _ = load_causal_lm(str(folder), dataclasses.replace(RUNTIME, weight_dtype=dtype))
    assert model.dtype == dtype
    adapted = add_lora(model, LORA)
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_model_without_pad_token_gets_one_that_is_not_its_end(tmp_path, family):
    tok = tiny_models.tokenizer(pad=None)
    folder = tiny_models.save(tmp_path / "m", family, tok)
    model, loaded = load_causal_lm(str(folder), RUNTIME)
    assert loaded.pad_token_id not in (None, loaded.eos_token_id)
    assert model.get_input_embeddings().num_embeddings == len(loaded) == len(tok) + 1
    assert model.config.pad_token_id == model.generation_config.pad_token_id == loaded.pad_token_id
    again, _ = load_causal_lm(str(folder), RUNTIME)
    for first, second in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(first, second)


def test_a_pad_that_is_the_end_token_is_replaced_by_an_unused_special(tmp_path):
    tok = tiny_models.tokenizer(pad="<|endoftext|>", extra=("<|fim_pad|>",))
    folder = tiny_models.save(tmp_path / "m", "qwen2", tok)
    model, loaded = load_causal_lm(str(folder), RUNTIME)
    assert loaded.pad_token == "<|fim_pad|>"
    assert loaded.pad_token_id != loaded.eos_token_id
    assert len(loaded) == len(tok) == model.get_input_embeddings().num_embeddings


def test_a_pad_among_the_models_several_ends_is_replaced(tmp_path):
    tok = tiny_models.tokenizer(pad="<|endoftext|>", eos="<|im_end|>", extra=("<|fim_pad|>",))
    folder = tiny_models.save(tmp_path / "m", "qwen2", tok)
    ends = [tok.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>")]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    _, loaded = load_causal_lm(str(folder), RUNTIME)
    assert loaded.pad_token == "<|fim_pad|>"


def test_the_embedded_model_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, tok = load_causal_lm(TINY_CODE_LM, RUNTIME)
    attention = 256 * 256 + 256 + 2 * (256 * 128 + 128) + 256 * 256
    layer = attention + 3 * 256 * 768 + 2 * 256
    assert sum(p.numel() for p in model.parameters()) == 8192 * 256 + 6 * layer + 256  # head tied
    assert (tok.eos_token_id, tok.pad_token_id) == (0, 6)
    prompt = chat_prompt(tok, "Say hello.")
    assert prompt == "<|im_start|>user\nSay hello.<|im_end|>\n<|im_start|>assistant\n"
    ids = tok(prompt, add_special_tokens=False).input_ids
    assert ids.count(tok.convert_tokens_to_ids("<|im_start|>")) == 2


@pytest.mark.parametrize(
    "spec",
    [
        "./nowhere",
        "/no/such/model",
        "helpers/models/none",
        "~/none",
        "a/b/c",
        "",
        "..\\models",
        "~no-such-user/model",
        f"./{'n' * 300}",
    ],
)
def test_a_missing_folder_is_said(spec):
    with pytest.raises(ModelError, match="give an existing one, or a hub name"):
        load_causal_lm(spec, RUNTIME)


def test_a_hub_name_without_network_says_what_to_do():
    with pytest.raises(ModelError, match=r"Check the name and the connection.*tiny_code_lm"):
        load_causal_lm("nobody/no-such-model", RUNTIME)


def test_a_folder_without_a_model_is_said(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        load_causal_lm(str(tmp_path), RUNTIME)
    (tmp_path / "config.json").write_text("{ not json")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_causal_lm(str(tmp_path), RUNTIME)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_lora_starts_as_the_identity_on_every_linear_layer_but_the_head(family):
    model = tiny_models.model(family, 50)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        before = model(ids).logits
        adapted = add_lora(model, LORA, seed=3)
        assert torch.equal(adapted(ids).logits, before)
    trainable = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert trainable
    assert all("lora_" in name and "lm_head" not in name for name in trainable)
    per_layer = {"gpt2": 4, "llama": 7, "qwen2": 7}[family]
    assert len(trainable) == 2 * per_layer * 2


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_weights_after_merging_are_weights_plus_scaled_product(family):
    model = tiny_models.model(family, 50)
    adapted = add_lora(model, LORA, seed=3)
    generator = torch.Generator().manual_seed(1)
    layers = [m for m in adapted.modules() if hasattr(m, "lora_A") and m.lora_A]
    expected = []
    with torch.no_grad():
        for layer in layers:
            layer.lora_B["default"].weight.normal_(generator=generator)
            product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
            product = product.T if family == "gpt2" else product
            expected.append(layer.base_layer.weight + product * 8 / 4**0.5)  # rank-stabilised scale
        ids = torch.arange(12)[None]
        unmerged = adapted(ids).logits
        adapted.merge_adapter()
        for layer, wanted in zip(layers, expected, strict=True):
            assert torch.allclose(layer.base_layer.weight, wanted, atol=1e-5)
        assert torch.allclose(adapted(ids).logits, unmerged, atol=1e-3)


def test_the_scale_without_rank_stabilisation():
    adapted = add_lora(tiny_models.model("qwen2", 50), LoraSettings(rank=4, alpha=8, use_rslora=False))
    assert {m.scaling["default"] for m in adapted.modules() if hasattr(m, "lora_A") and m.lora_A} == {2.0}


def test_adapters_depend_on_their_seed_alone():
    def first_a(seed):
        torch.manual_seed(torch.randint(0, 9999, ()).item())
        adapted = add_lora(tiny_models.model("qwen2", 50), LORA, seed=seed)
        return next(p for name, p in adapted.named_parameters() if "lora_A" in name)

    assert torch.equal(first_a(1), first_a(1))
    assert not torch.equal(first_a(1), first_a(2))


@pytest.fixture
def saved(tmp_path):
    folder = tiny_models.save(tmp_path / "base", "qwen2")
    model, _ = load_causal_lm(str(folder), RUNTIME)
    adapted = add_lora(model, LORA)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
        logits = adapted(torch.arange(12)[None]).logits
    adapted.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    return folder, tmp_path / "adapter", logits


def test_a_saved_adapter_comes_back_in_effect(saved):
    folder, adapter, logits = saved
    fresh, _ = load_causal_lm(str(folder), RUNTIME)
    adapted, _ = load_adapted(str(folder), adapter, RUNTIME)
    with torch.no_grad():
        again = adapted(torch.arange(12)[None]).logits
        plain = fresh(torch.arange(12)[None]).logits
    assert torch.allclose(again, logits, atol=1e-6)
    assert not torch.allclose(again, plain, atol=1e-2)


def test_an_adapter_whose_names_do_not_fit_is_refused(saved):
    folder, adapter, _ = saved
    file = adapter / "adapter_model.safetensors"
    save_file({name.replace("layers.0", "layers.7"): t for name, t in load_file(file).items()}, file)
    with pytest.raises(ModelError, match="was not applied"):
        load_adapted(str(folder), adapter, RUNTIME)


def test_a_damaged_adapter_is_refused_in_words(saved):
    folder, adapter, _ = saved
    file, config = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    whole = file.read_bytes()
    for kept in (0, 5, len(whole) // 2):
        file.write_bytes(whole[:kept])
        with pytest.raises(ModelError, match=r"is damaged .*--resume"):
            load_adapted(str(folder), adapter, RUNTIME)
    file.write_bytes(whole)
    for text in ("{}", "[]", '{"peft_type": "LORA"', '{"peft_type": "NONE"}'):
        config.write_text(text)
        with pytest.raises(ModelError, match="adapter in"):
            load_adapted(str(folder), adapter, RUNTIME)


def test_an_adapter_of_another_size_or_none_at_all_is_refused(saved, tmp_path):
    folder, adapter, _ = saved
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"r": 2}))
    with pytest.raises(ModelError, match="does not fit"):
        load_adapted(str(folder), adapter, RUNTIME)
    shutil.rmtree(adapter)
    with pytest.raises(ModelError, match="train it first"):
        load_adapted(str(folder), adapter, RUNTIME)


def test_chat_prompt_uses_the_template_or_a_plain_form():
    tok = tiny_models.tokenizer()
    assert chat_prompt(tok, "Add {braces}.") == "### Instruction:\nAdd {braces}.\n\n### Response:\n"
    tok.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}{% if add_generation_prompt %}[answer]{% endif %}"
    assert chat_prompt(tok, "Hi") == "[user] Hi [answer]"


def test_a_model_is_another_when_what_is_loaded_changes_and_not_when_its_card_does(tmp_path):
    folder = tiny_models.save(tmp_path / "model", "qwen2")
    as_made = model_identity(str(folder))
    (folder / "README.md").write_text("A card.")
    assert model_identity(str(folder)) == as_made
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"rms_norm_eps": 1e-3}))
    assert model_identity(str(folder)) != as_made
