"""Exports of a run: what is written computes what was measured, and what does not is refused and leaves nothing.

llama.cpp and ONNX Runtime compute where they are installed. Without them the files are read back by this
project's own loader, which does not share the writer's code.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import zipfile
from types import ModuleType, SimpleNamespace

import gguf
import numpy as np
import pytest
import tiny_gguf
import tiny_models
import tiny_run
import torch
from tiny_run import PLAIN
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen2Config

from helpers.models.causal_lm import load_causal_lm
from helpers.models.gguf.header import read_header
from helpers.models.infilling import infill_mark_ids
from helpers.settings import LoraSettings
from helpers.take_home import export_run as exporting
from helpers.take_home.engine_job import EngineAnswer, EngineError
from helpers.take_home.export_run import ExportRequest, export_run, offer_download
from helpers.take_home.gguf_vocabulary import vocabulary_fields
from helpers.take_home.gguf_weights import named_tensors, plain_store, rotary_order, shape_fields
from helpers.take_home.hf_folder import write_hf
from helpers.take_home.k_quants import k_store, mixed_type
from helpers.take_home.llama_engine import find_llama
from helpers.take_home.measured_model import ExportError, load_measured, merged_model, run_facts
from helpers.take_home.ollama_model import modelfile, template, turn_form
from helpers.take_home.proof import BOUNDS, ask, compare_logits, prove, summary
from helpers.take_home.transformers_engine import tokenizer_loader

IDS = torch.arange(3, 60).unsqueeze(0)
RS = LoraSettings(rank=4, alpha=8, dropout=0.0, use_rslora=True)
MARKS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
needs_llama = pytest.mark.skipif(find_llama() is None, reason="no llama.cpp: pip install xllamacpp")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def llama_run(tmp_path_factory):
    """Llama-style, head tied, from a GGUF file; rows of the embedding are trained, too."""
    return tiny_run.write(tmp_path_factory.mktemp("llama"), tokens=[40, 41, 300])


@pytest.fixture(scope="module")
def qwen_run(tmp_path_factory):
    """Qwen2-style with a head of its own, adapters scaled by the root of their rank."""
    return tiny_run.write(tmp_path_factory.mktemp("qwen"), "qwen2", tied=False, lora=RS)


@pytest.fixture(scope="module")
def infill_run(tmp_path_factory):
    """Qwen2-style, with the marks of fill-in-the-middle as the family has them."""
    specials = (*tiny_gguf.SPECIALS, "<|fim_pad|>", *MARKS)
    return tiny_run.write(tmp_path_factory.mktemp("infill"), "qwen2", specials=specials)


@pytest.fixture
def run(request):
    return request.getfixturevalue(
        {"llama": "llama_run", "qwen2": "qwen_run", "infill": "infill_run"}[request.param]
    )


every = pytest.mark.parametrize("run", ["llama", "qwen2", "infill"], indirect=True)
both = pytest.mark.parametrize("run", ["llama", "qwen2"], indirect=True)


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS).logits


def measured_of(run):
    return load_measured(run_facts(run, "a"), PLAIN)


def exported(run, tmp_path, to="gguf", kinds=("f16",)):
    said: list[str] = []
    done = export_run(ExportRequest(run, to, kinds=kinds, out=tmp_path / "out"), PLAIN, said.append)
    return done, said


# What is written.


@both
def test_the_merged_model_computes_what_base_and_adapter_do(run):
    measured = measured_of(run)
    apart = logits(measured.model)
    with measured.model.disable_adapter():
        untouched = logits(measured.model)
    merged = logits(merged_model(measured))
    assert torch.allclose(merged, apart, atol=1e-4)
    assert not torch.allclose(merged, untouched, atol=0.1)


@both
def test_a_written_file_is_the_model_for_a_reader_that_shares_no_code(run, tmp_path):
    """bf16 rounds by 2^-9, which the reader must find in every tensor and nothing else."""
    measured = measured_of(run)
    done, _ = exported(run, tmp_path, kinds=("bf16",))
    file = done.folder / "model-bf16.gguf"
    apart = logits(measured.model)[0].numpy()
    merged = merged_model(measured)
    stored = tiny_gguf.dequantised(file)
    weights = {tiny_gguf.llama_cpp_name(name): value for name, value in merged.named_parameters()}
    family = merged.config.model_type
    assert stored.keys() == weights.keys()
    for name, value in weights.items():
        wanted = tiny_gguf.as_stored(family, name, value.detach().numpy())
        assert np.allclose(stored[name].reshape(wanted.shape), wanted, rtol=2**-8, atol=0), name
    again, tokenizer = load_causal_lm(f"gguf:{file}", PLAIN)
    assert compare_logits(apart, logits(again)[0].numpy(), 1).mean_kl < 1e-2
    for text in tiny_run.TEXTS:
        assert tokenizer(text).input_ids == measured.tokenizer(text).input_ids
    assert tokenizer.chat_template == measured.tokenizer.chat_template
    assert read_header(file).fields["general.file_type"] == gguf.LlamaFileType.MOSTLY_BF16


def test_the_rotary_order_pairs_the_halves_of_each_head():
    config = LlamaConfig(hidden_size=16, num_attention_heads=4, num_key_value_heads=2, head_dim=4)
    assert rotary_order("model.layers.0.self_attn.k_proj.weight", config).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert len(rotary_order("model.layers.0.self_attn.q_proj", config)) == 16
    assert rotary_order("model.layers.0.self_attn.v_proj.weight", config) is None
    qwen = Qwen2Config(hidden_size=16, num_attention_heads=4, num_key_value_heads=2)
    assert rotary_order("model.layers.0.self_attn.k_proj.weight", qwen) is None


def test_a_lora_file_gives_the_merged_weights_by_llama_cpps_own_formula(qwen_run, tmp_path):
    done, _ = exported(qwen_run, tmp_path, kinds=("lora",))
    assert sorted(p.name for p in done.folder.iterdir()) == [
        "README.md",
        "adapter-lora.gguf",
        "base-f16.gguf",
        "export.json",
    ]
    reader = gguf.GGUFReader(done.folder / "adapter-lora.gguf")
    assert reader.get_field("general.type").contents() == "adapter"
    alpha = reader.get_field("adapter.lora.alpha").contents()
    assert alpha == pytest.approx(8 * math.sqrt(4))  # PEFT's scale 8 / sqrt(4), times the rank
    parts = {tensor.name: tensor.data for tensor in reader.tensors}
    base, whole = (dict(named_tensors(model)) for model in (
        load_causal_lm(f"gguf:{qwen_run.parents[1] / 'base.gguf'}", PLAIN)[0], merged_model(measured_of(qwen_run))
    ))  # fmt: skip
    changed = [name.removesuffix(".lora_a") for name in parts if name.endswith(".lora_a")]
    assert len(changed) == 2 * 7
    for name in changed:
        down, up = parts[f"{name}.lora_a"], parts[f"{name}.lora_b"]
        assert np.allclose(base[name] + alpha / len(down) * up @ down, whole[name], atol=1e-5), name


def test_an_adapter_with_trained_embedding_rows_is_no_lora_file(llama_run, tmp_path):
    with pytest.raises(ExportError, match="train_embeddings=false"):
        exported(llama_run, tmp_path, kinds=("lora",))
    assert list(tmp_path.iterdir()) == []


@both
def test_a_folder_for_plain_from_pretrained(run, tmp_path):
    done, said = exported(run, tmp_path, to="hf")
    model = AutoModelForCausalLM.from_pretrained(done.folder)
    assert torch.allclose(logits(model), logits(measured_of(run).model), atol=1e-4)
    assert "quantization_config" not in json.loads((done.folder / "config.json").read_text())
    assert not set(model.generation_config.eos_token_id) - {0, 2}
    record = json.loads((done.folder / "export.json").read_text())
    proof = record["proofs"]["model.safetensors"]
    assert proof["proven"]
    lengths = [len(measured_of(run).tokenizer(text).input_ids) for text in tiny_run.TEXTS]
    assert proof["logits"]["positions"] == 10 * sum(min(64, n) for n in lengths)
    assert proof["bits_per_byte"]["export"] == pytest.approx(proof["bits_per_byte"]["run"], rel=1e-4)
    assert str(tmp_path) not in (done.folder / "config.json").read_text()
    card = (done.folder / "README.md").read_text()
    loader = proof["says"]["tokenizer"]
    assert f"tokenizer = {loader}.from_pretrained" in card
    if loader == "AutoTokenizer":
        tokenizer = AutoTokenizer.from_pretrained(done.folder)
        assert tokenizer.chat_template == tiny_gguf.TEMPLATE
    assert any("bits per byte" in line for line in said)
    assert len({file.stat().st_mode for file in done.folder.iterdir()}) == 1  # whoever reads one reads all


def test_vocabulary_and_roles_are_named_for_llama_cpp():
    tokenizer = tiny_models.tokenizer(
        extra=("<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|repo_name|>", "<reponame>")
    )
    tokenizer.chat_template = tiny_gguf.TEMPLATE
    special = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    rows = len(tokenizer) + 3
    ends = (
        special["<|endoftext|>"],
        special["<|repo_name|>"],
        special["<|im_end|>"],
        special["<|fim_prefix|>"],
    )
    fields = vocabulary_fields(tokenizer, rows, ends, tiny_run.TEXTS)
    assert fields["tokenizer.ggml.eos_token_id"] == special["<|endoftext|>"]
    assert fields["tokenizer.ggml.eot_token_id"] == special["<|im_end|>"]
    assert "tokenizer.ggml.eom_token_id" not in fields
    assert fields["tokenizer.ggml.fim_pre_token_id"] == special["<|fim_prefix|>"]
    assert fields["tokenizer.ggml.fim_rep_token_id"] == special["<|repo_name|>"]
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert fields["tokenizer.chat_template"] == tiny_gguf.TEMPLATE
    types = fields["tokenizer.ggml.token_type"]
    assert {types[number] for number in special.values()} == {3}
    assert types[-3:] == [5, 5, 5]
    assert len(fields["tokenizer.ggml.tokens"]) == len(set(fields["tokenizer.ggml.tokens"])) == rows
    with pytest.raises(ExportError, match="rows"):
        vocabulary_fields(tokenizer, len(tokenizer) - 1, ends, ())


@pytest.mark.parametrize("is_special", [True, False])
def test_marks_of_fill_in_the_middle_have_keys_and_none_of_an_end(is_special):
    """Qwen2.5-Coder's are no special tokens; the run ends a text at them, llama.cpp cannot."""
    tokenizer = tiny_models.tokenizer()
    tokenizer.add_tokens([AddedToken(mark, special=is_special, normalized=False) for mark in MARKS])
    ids = tokenizer.convert_tokens_to_ids(list(MARKS))
    fields = vocabulary_fields(tokenizer, len(tokenizer), (0, *ids), tiny_run.TEXTS)
    assert [fields[f"tokenizer.ggml.fim_{key}_token_id"] for key in ("pre", "suf", "mid")] == ids
    assert not {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"} & set(fields)


def test_a_tokenizer_that_llama_cpp_would_cut_otherwise_is_refused():
    tokenizer = tiny_models.tokenizer()
    from tokenizers import pre_tokenizers

    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation("isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    with pytest.raises(ExportError, match="none of the rules of splitting"):
        vocabulary_fields(tokenizer, len(tokenizer), (0,), tiny_run.TEXTS)


@pytest.mark.parametrize(
    "change",
    [{"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}}, {"hidden_act": "gelu"}],
)
def test_a_model_that_llama_cpp_would_compute_otherwise_is_refused(change):
    with pytest.raises(ExportError, match="--to hf"):
        shape_fields(LlamaConfig(**change))


def test_values_beyond_float16_are_refused():
    with pytest.raises(ExportError, match="--type bf16"):
        plain_store("f16")("blk.0.attn_q.weight", np.full((2, 32), 7e4, np.float32))
    stored, kind = plain_store("bf16")("blk.0.attn_q.weight", np.full((2, 32), 7e4, np.float32))
    assert gguf.dequantize(stored, kind) == pytest.approx(7e4, rel=2**-8)


def test_the_mixture_q4_k_m_gives_more_bits_to_the_head_and_some_layers():
    """As llama-quantize does for 16 layers: the first two, the last two, and every third between."""
    more = [i for i in range(16) if mixed_type(f"blk.{i}.ffn_down.weight", 16, tied=True).name == "Q6_K"]
    assert more == [0, 1, 4, 7, 10, 13, 14, 15]
    assert mixed_type("token_embd.weight", 16, tied=True).name == "Q6_K"
    assert mixed_type("token_embd.weight", 16, tied=False).name == "Q4_K"
    assert mixed_type("output.weight", 16, tied=False).name == "Q6_K"
    assert mixed_type("blk.0.attn_q.weight", 16, tied=True).name == "Q4_K"


# Ollama.

SYSTEM_FIRST = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_ollamas_template_has_the_form_of_the_models_own():
    tokenizer = tiny_models.tokenizer(extra=("<|im_start|>", "<|im_end|>", *MARKS))
    tokenizer.chat_template = SYSTEM_FIRST
    form = turn_form(tokenizer)
    assert form.first == "<|im_start|>system\nBe kind.<|im_end|>\n"
    assert form.around["user"] == ("<|im_start|>user\n", "<|im_end|>\n")
    assert form.answer == "<|im_start|>assistant\n"
    written = template(tokenizer)
    assert "<|fim_prefix|>{{ .Prompt }}<|fim_suffix|>{{ .Suffix }}<|fim_middle|>" in written
    assert '{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n' in written
    tokenizer.init_kwargs["fill_in_the_middle"] = False  # the model never saw the marks
    assert ".Suffix" not in template(tokenizer)


@pytest.mark.parametrize(
    "odd",
    [
        "{% for m in messages %}{{ loop.index }} {{ m.role }}: {{ m.content }}\n{% endfor %}",
        "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}",
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if not loop.last %}|{% endif %}{% endfor %}",
        None,
    ],
)
def test_a_template_of_another_form_is_refused(odd):
    tokenizer = tiny_models.tokenizer()
    tokenizer.chat_template = odd
    with pytest.raises(ExportError, match="--to gguf"):
        turn_form(tokenizer)


def test_a_modelfile_stops_at_every_end(qwen_run):
    lines = modelfile(measured_of(qwen_run), "model-f16.gguf", 128).splitlines()
    assert lines[0] == "FROM ./model-f16.gguf"
    stops = {line for line in lines if line.startswith("PARAMETER stop")}
    assert stops == {'PARAMETER stop "<|im_end|>"', 'PARAMETER stop "<|endoftext|>"'}


# The proof.


def test_the_divergence_is_the_one_computed_by_hand():
    """p = (1/2, 1/2) from q = (1/4, 3/4): KL = ln 2 - ln(3)/2."""
    p, q = np.log([[0.5, 0.5]]).astype(np.float32), np.log([[0.25, 0.75]]).astype(np.float32)
    found = compare_logits(np.concatenate([p, q]), np.concatenate([q + 7, q]), 1)
    assert found.largest_kl == pytest.approx(math.log(2) - math.log(3) / 2, abs=1e-6)
    assert found.mean_kl == pytest.approx(found.largest_kl / 2)
    assert found.largest_difference == pytest.approx(7 + math.log(1.5), rel=1e-5)
    assert found.positions == 2
    with pytest.raises(ExportError, match="shape"):
        compare_logits(p, np.zeros((1, 3), np.float32), 1)
    with pytest.raises(ExportError, match="not finite"):
        compare_logits(p, np.full((1, 2), np.nan, np.float32), 1)


def test_a_token_that_is_as_likely_is_no_other_choice():
    """The measured model prefers token 0 by .01 and by .5 nats; the export takes token 1 both times."""
    measured = np.array([[1.0, 0.99, 0.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]], np.float32)
    export = np.array([[1.0, 1.01, 0.0], [0.5, 1.0, 0.0], [0.0, 1.0, 0.5]], np.float32)
    found = compare_logits(measured, export, 1)
    assert found.same_argmax == pytest.approx(1 / 3)
    assert found.same_or_tied == pytest.approx(2 / 3)


@pytest.mark.parametrize("fault", ["heads", "adapter", "ids", "template", "ends"])
def test_a_wrong_export_is_refused_and_leaves_nothing(fault, qwen_run, tmp_path, monkeypatch):
    true_engine = exporting.transformers_engine

    def spoil(folder, whole):
        if fault == "heads":  # exchange two key heads in one layer
            weight = whole.model.layers[0].self_attn.k_proj.weight.data
            weight[:] = weight.roll(len(weight) // 2, 0)
        elif fault == "adapter":  # the base alone
            whole.load_state_dict(
                load_causal_lm(f"gguf:{qwen_run.parents[1] / 'base.gguf'}", PLAIN)[0].state_dict()
            )

    def write(measured, whole, folder):
        spoil(folder, whole)
        write_hf(measured, whole, folder)

    def engine(folder, loader):
        def compute(job, scratch) -> EngineAnswer:
            answer = true_engine(folder, loader)(job, scratch)
            change = {
                "ids": {"token_ids": tuple((*ids, 5) for ids in answer.token_ids)},
                "template": {"chat_template": answer.chat_template + " "},
                "ends": {"ends": (False, *answer.ends[1:])},
            }
            return dataclasses.replace(answer, **change.get(fault, {}))

        return compute

    write_hf = exporting.write_hf
    monkeypatch.setattr(exporting, "write_hf", write)
    monkeypatch.setattr(exporting, "transformers_engine", engine)
    says = {"ids": "other token ids", "template": "chat template", "ends": "would not end"}
    with pytest.raises(ExportError, match=says.get(fault, "does not compute what was measured")):
        exported(qwen_run, tmp_path, to="hf")
    assert list(tmp_path.iterdir()) == []


def test_without_an_engine_nothing_counts_as_proven(qwen_run, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "find_llama", lambda: None)
    done, _ = exported(qwen_run, tmp_path)
    assert "pip install xllamacpp" in done.lines[0]
    assert done.lines[0].startswith("NOT PROVEN")
    proof = json.loads((done.folder / "export.json").read_text())["proofs"]["model-f16.gguf"]
    assert proof == {"proven": False, "reason": proof["reason"]}


def test_an_export_is_replaced_only_if_asked(qwen_run, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "find_llama", lambda: None)
    done, _ = exported(qwen_run, tmp_path)
    (done.folder / "model-f16.gguf").write_text("mine")
    request = ExportRequest(qwen_run, "gguf", out=done.folder)
    with pytest.raises(ExportError, match="--replace"):
        export_run(request, PLAIN)
    assert (done.folder / "model-f16.gguf").read_text() == "mine"
    export_run(dataclasses.replace(request, replace=True), PLAIN, lambda line: None)
    assert (done.folder / "model-f16.gguf").stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_two_exports_at_once_the_first_one_stays(qwen_run, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def other_export():
        out.mkdir(exist_ok=True)
        (out / "export.json").write_text("the first one's")

    monkeypatch.setattr(exporting, "find_llama", other_export)
    with pytest.raises(ExportError, match="already there"):
        exported(qwen_run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "export.json").read_text() == "the first one's"


def test_llama_cpp_may_go_on_after_a_mark_but_not_after_an_end(infill_run, tmp_path):
    """It has no key for marks of fill-in-the-middle, at which the run ends a text."""
    measured = measured_of(infill_run)
    write_hf(measured, merged_model(measured_of(infill_run)), tmp_path)
    questions, marks = ask(measured, tmp_path), infill_mark_ids(measured.tokenizer)
    loader = tokenizer_loader(tmp_path, questions.job.texts, questions.token_ids)
    answer = exporting.transformers_engine(tmp_path, loader)(questions.job, tmp_path)
    ends = {measured.tokenizer.convert_ids_to_tokens(end): end for end in measured.ends}
    assert {"<|endoftext|>", *MARKS} <= set(ends)

    def proved(goes_on_after, kind="f16", no_ends=marks):
        kept = tuple(end != ends[goes_on_after] for end in measured.ends)
        changed = dataclasses.replace(answer, ends=kept)
        return prove(measured, questions, lambda job, scratch: changed, kind, no_ends)

    found = proved("<|fim_suffix|>")
    assert found["goes_on_after"] == ["<|fim_suffix|>"]
    assert "goes on after <|fim_suffix|>, where the run ends a text" in summary(found)
    with pytest.raises(ExportError, match=r"would not end a text at <\|endoftext\|>"):
        proved("<|endoftext|>")
    with pytest.raises(ExportError, match=r"would not end a text at <\|fim_suffix\|>"):
        proved("<|fim_suffix|>", "float32", ())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"to": "onnx"}, "--to takes hf, gguf"),
        ({"kinds": ("q3",)}, "--type takes f16"),
        ({"to": "ollama", "kinds": ("f16", "q8_0")}, "one --type"),
        ({"track": "b"}, "holds no adapted model of Track B .*it has the adapter of Track A"),
        ({"track": "c"}, "--track takes a or b"),
        ({"to": "onnx-embedder"}, "no tuned embedder"),
        ({"to": "onnx-embedder", "track": "a"}, "leave --track out"),
        ({"to": "hf", "kinds": ("q8_0",)}, "leave --type out"),
    ],
)
def test_wrong_wishes_are_refused_in_words(change, says, qwen_run, tmp_path):
    request = dataclasses.replace(ExportRequest(qwen_run, "gguf", out=tmp_path / "out"), **change)
    with pytest.raises(ExportError, match=says):
        export_run(request, PLAIN, lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_the_bounds_grow_with_what_a_format_loses():
    kinds = ["float32", "f16", "bf16", "q8_0", "q4_k_m"]
    assert list(BOUNDS) == kinds
    assert [BOUNDS[kind].mean_kl for kind in kinds] == sorted(BOUNDS[kind].mean_kl for kind in kinds)
    assert (BOUNDS["f16"].mean_kl, BOUNDS["f16"].same_argmax) == (1e-2, 0.995)


def test_the_button_on_colab_packs_the_export_when_it_is_pressed(tmp_path, monkeypatch, capsys):
    assert not offer_download(tmp_path)
    calls, sent = {}, []
    colab = ModuleType("google.colab")
    colab.files = SimpleNamespace(download=sent.append)
    colab.output = SimpleNamespace(register_callback=calls.__setitem__)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    folder = tmp_path / "track_a-gguf"
    folder.mkdir()
    (folder / "model-f16.gguf").write_bytes(b"weights")
    assert offer_download(folder)
    assert not sent
    (press,) = calls.values()
    press()
    with zipfile.ZipFile(sent[0]) as packed:
        assert packed.read("track_a-gguf/model-f16.gguf") == b"weights"


# Where llama.cpp is installed.


@needs_llama
@every
def test_llama_cpp_computes_what_was_measured(run, tmp_path):
    kinds = ("f16", "q8_0", "lora") if run.parents[1].name.startswith("qwen") else ("f16", "q8_0")
    done, _ = exported(run, tmp_path, kinds=kinds)
    record = json.loads((done.folder / "export.json").read_text())
    assert len(record["proofs"]) == len(kinds)
    assert all(proof["proven"] and proof["engine"] for proof in record["proofs"].values())
    assert record["proofs"]["model-f16.gguf"]["logits"]["mean_kl"] < 1e-3


@needs_llama
def test_llama_cpp_finds_a_mistake_that_no_static_check_sees(llama_run, tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.take_home.gguf_weights.rotary_order", lambda name, config: None)
    with pytest.raises(ExportError, match="does not compute what was measured"):
        exported(llama_run, tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_llama
def test_q4_k_m_is_written_by_llama_cpps_own_code():
    values = np.random.default_rng(0).normal(size=(4, 512)).astype(np.float32)
    stored, kind = k_store(8, tied=True)("blk.3.attn_q.weight", values)
    assert kind.name == "Q4_K"
    assert np.abs(gguf.dequantize(stored, kind) - values).mean() < 0.1
    narrow = np.ascontiguousarray(values[:, :96])
    assert k_store(8, tied=True)("blk.3.attn_q.weight", narrow)[1].name == "Q5_0"
    assert k_store(8, tied=True)("token_embd.weight", narrow)[1].name == "Q8_0"


# The embedder.


def test_onnx_runtime_gives_the_tuned_embedders_vectors(tmp_path):
    run = tiny_run.write_embedder(tmp_path / "run")
    done, _ = exported(run, tmp_path, to="onnx-embedder")
    proof = json.loads((done.folder / "export.json").read_text())["proofs"]["model.onnx"]
    assert proof["proven"]
    assert proof["least_cosine"] > 0.9999
    settings = json.loads((done.folder / "embedder.json").read_text())
    assert settings["prompts"] == {"query": "find: ", "document": ""}
    assert settings["max_tokens"] == tiny_run.MAX_TOKENS


def test_q4_k_m_without_llama_cpp_is_refused_before_anything_is_loaded(llama_run, tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.take_home.k_quants.find_llama", lambda: None)
    told = []
    request = ExportRequest(llama_run, "gguf", kinds=("f16", "q4_k_m"), out=tmp_path / "out")
    with pytest.raises(EngineError, match="pip install xllamacpp"):
        export_run(request, PLAIN, told.append)
    assert told == []


def test_packages_that_write_onnx_are_named_if_they_are_missing(tmp_path, monkeypatch):
    run = tiny_run.write_embedder(tmp_path / "run")
    monkeypatch.setattr("helpers.take_home.onnx_embedder.WRITERS", ("no_such_writer",))
    with pytest.raises(EngineError, match="pip install onnx onnxruntime"):
        exported(run, tmp_path, to="onnx-embedder")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
