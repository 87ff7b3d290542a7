"""Tiny GGUF files, written as llama.cpp's converter writes them."""

import json
from pathlib import Path

import gguf
import numpy as np
import tiny_models
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

FAMILIES = ("llama", "qwen2")
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<note>")
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
HEADS, KV_HEADS = 4, 2
F32, Q8_0, Q4_0 = (gguf.GGMLQuantizationType[name] for name in ("F32", "Q8_0", "Q4_0"))
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def vocabulary(specials=SPECIALS) -> tuple[list[str], list[str]]:
    """Tokens in order of their ids, and merges, of a byte-level BPE with `specials` first."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator([tiny_models.TEXT], trainer)
    stored = json.loads(raw.to_str())["model"]
    tokens = sorted(stored["vocab"], key=stored["vocab"].get)
    return tokens, [pair if isinstance(pair, str) else " ".join(pair) for pair in stored["merges"]]


def model(family: str, *, tied: bool, seed: int = 0, specials=SPECIALS):
    """A two-layer model 64 wide; widths are multiples of 32, which quantisation needs."""
    torch.manual_seed(seed)
    config_class, model_class = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    }[family]
    made = model_class(config_class(
        vocab_size=len(vocabulary(specials)[0]), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, max_position_embeddings=128, rms_norm_eps=1e-5, tie_word_embeddings=tied,
    ))  # fmt: skip
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.0, 0.3)
    return made.float().eval()


def llama_cpp_name(name: str) -> str:
    """What llama.cpp calls a parameter of transformers."""
    if name.startswith("model.layers."):
        _, _, layer, rest = name.split(".", 3)
        module, _, kind = rest.rpartition(".")
        return f"blk.{layer}.{NAMES[module]}.{kind}"
    return {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }[name]


def as_stored(family: str, name: str, values: np.ndarray) -> np.ndarray:
    """llama.cpp interleaves the rows of Llama's queries and keys, two halves of each head."""
    heads = {"attn_q.weight": HEADS, "attn_k.weight": KV_HEADS}.get(".".join(name.split(".")[-2:]))
    if family != "llama" or heads is None:
        return values
    return values.reshape(heads, 2, -1, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)


def write(
    path: Path,
    family: str = "llama",
    *,
    tied: bool = True,
    made=None,
    kind=F32,
    head_kind=None,
    fields=None,
    rule="smollm",
    drop=(),
    specials=SPECIALS,
) -> Path:
    """Write a model with its vocabulary.

    Args:
        made: the model; by default `model(family, tied=tied)`.
        kind, head_kind: formats of the matrices, and of a head that is stored though it is tied.
        fields: more key-value pairs; a value of None leaves a pair out.
        drop: names of tensors that are left out.
    """
    made = made or model(family, tied=tied, specials=specials)
    writer = gguf.GGUFWriter(path, family)
    tokens, merges = vocabulary(specials)
    pairs = {
        "general.name": "Tiny", "general.file_type": int(gguf.LlamaFileType.MOSTLY_Q8_0 if kind is Q8_0 else gguf.LlamaFileType.ALL_F32),
        f"{family}.block_count": 2, f"{family}.context_length": 128, f"{family}.embedding_length": 64, f"{family}.feed_forward_length": 96,
        f"{family}.attention.head_count": HEADS, f"{family}.attention.head_count_kv": KV_HEADS,
        f"{family}.rope.freq_base": 10000.0, f"{family}.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": rule, "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": [3 if token in specials else 1 for token in tokens],
        "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.padding_token_id": 2, "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.add_bos_token": False, "tokenizer.chat_template": TEMPLATE,
    } | (fields or {})  # fmt: skip
    for key, value in pairs.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)
    weights = dict(made.named_parameters())
    if head_kind is not None:
        weights["lm_head.weight"] = made.get_output_embeddings().weight
    for name, parameter in weights.items():
        stored = llama_cpp_name(name)
        if stored in drop:
            continue
        values = np.ascontiguousarray(as_stored(family, stored, parameter.detach().numpy()))
        wanted = head_kind if head_kind is not None and name == "lm_head.weight" else kind
        wanted = wanted if values.ndim == 2 else F32
        writer.add_tensor(
            stored, values if wanted is F32 else gguf.quantize(values, wanted), raw_dtype=wanted
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def dequantised(path: Path, *names: str) -> dict[str, np.ndarray]:
    """llama.cpp's name of each tensor, or of those named -> its values, by the gguf package's own reader."""
    return {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type)
        for tensor in gguf.GGUFReader(path).tensors
        if not names or tensor.name in names
    }
