"""Stand-ins for the models of profile t4: real configurations and file formats, random weights.

`build(folder, texts, size)` writes Qwen2.5-Coder-0.5B, -0.5B-Instruct, -1.5B and e5-small-v2 look-alikes.
Widths, heads, normalisation, tied embeddings, bfloat16 checkpoints, special tokens, the form of the chat
template and generation defaults are the originals'. `SMALL` has two layers and 8,192 rows of vocabulary,
`FULL` as many as the originals; as there, the tokenizer uses fewer. They show that the code path works
and what it costs; what they say means nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer, models
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE, WordPiece
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

TOKENS = 8_192 - 256  # of the tokenizer, at most; the rows beyond are not used

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
# How Qwen2.5 cuts text before merging bytes.
WORDS = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+",
    )
)  # fmt: skip
CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' %}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{%- endif %}{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
SHAPES = {  # layers, hidden, intermediate, heads, key-value heads
    "Qwen2.5-Coder-0.5B": (24, 896, 4864, 14, 2),
    "Qwen2.5-Coder-0.5B-Instruct": (24, 896, 4864, 14, 2),
    "Qwen2.5-Coder-1.5B": (28, 1536, 8960, 12, 2),
    "Qwen2.5-Coder-1.5B-Instruct": (28, 1536, 8960, 12, 2),
}
EMBEDDER = "e5-small-v2"


@dataclass(frozen=True)
class Size:
    """How many layers and rows of vocabulary the stand-ins have at most."""

    layers: int
    vocabulary: int


SMALL, FULL = Size(2, 8_192), Size(28, 151_936)


def build(folder: Path, texts: list[str], size: Size, names: tuple[str, ...]) -> dict[str, Path]:
    """Write the stand-ins of these names below `folder`, tokenizers learnt from `texts`; name -> its folder.

    Those that are there already, whole, are kept.
    """
    for name in names:
        if not (folder / name / "built").exists():
            if name == EMBEDDER:
                _embedder(folder / name, texts, size)
            else:
                _causal_lm(folder / name, texts, size)
            (folder / name / "built").touch()
    return {name: folder / name for name in names}


def causal_config(name: str, size: Size, ids: dict[str, int]) -> Qwen2Config:
    """The configuration of one of `SHAPES`; `ids` are the special tokens'."""
    layers, hidden, intermediate, heads, kv = SHAPES[name]
    return Qwen2Config(
        vocab_size=size.vocabulary, hidden_size=hidden, intermediate_size=intermediate,
        num_hidden_layers=min(layers, size.layers), num_attention_heads=heads, num_key_value_heads=kv,
        max_position_embeddings=32_768, rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        rms_norm_eps=1e-6, tie_word_embeddings=True, bos_token_id=ids["<|endoftext|>"], pad_token_id=None,
        eos_token_id=ids["<|im_end|>" if name.endswith("Instruct") else "<|endoftext|>"],
    )  # fmt: skip


def _causal_lm(folder: Path, texts: list[str], size: Size) -> None:
    instruct = folder.name.endswith("Instruct")
    tokenizer = _qwen_tokenizer(texts, instruct)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIALS}
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(causal_config(folder.name, size, ids))
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    defaults = {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|endoftext|>"]}
    if instruct:
        ends = [ids["<|im_end|>"], ids["<|endoftext|>"]]
        defaults |= {"pad_token_id": ends[1], "eos_token_id": ends, "do_sample": True, "temperature": 0.7}
        defaults |= {"top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1}
    (folder / "generation_config.json").write_text(json.dumps(defaults))


def _qwen_tokenizer(texts: list[str], instruct: bool) -> PreTrainedTokenizerFast:
    raw = Tokenizer(BPE())
    raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=TOKENS - len(SPECIALS), initial_alphabet=alphabet)
    raw.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>" if instruct else "<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIALS),
        model_max_length=32_768,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _embedder(folder: Path, texts: list[str], size: Size) -> None:
    plain = folder.with_name("bert")
    raw = Tokenizer(WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    raw.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=4_096, special_tokens=specials))
    plain.mkdir(parents=True, exist_ok=True)
    words = [word for word, _ in sorted(raw.get_vocab().items(), key=lambda item: item[1])]
    (plain / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizerFast(str(plain / "vocab.txt")).save_pretrained(plain)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=min(30_522, size.vocabulary), hidden_size=384, num_hidden_layers=min(12, size.layers),
        num_attention_heads=12,
        intermediate_size=1536, max_position_embeddings=512,
    )  # fmt: skip
    BertModel(config).save_pretrained(plain)
    body = models.Transformer(str(plain), max_seq_length=512)
    pooling = models.Pooling(384, pooling_mode="mean")
    SentenceTransformer(modules=[body, pooling, models.Normalize()]).save(str(folder))
