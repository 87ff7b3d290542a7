"""Tiny models of each family with a byte-level tokenizer, built on the spot for tests."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from helpers.machine.hardware import Decision, Runtime

CPU_FP32 = Runtime(
    torch.device("cpu"), torch.float32, None, "sdpa", 8.0, (Decision("precision", "float32", "a test"),)
)
FAMILIES = ("gpt2", "llama", "qwen2")
TEXT = "def add(first, second):\n    return first + second\n\n\nclass Größe:\n    wert = 1\n" * 4


def tokenizer(*, pad: str | None = "<|fim_pad|>", eos: str = "<|endoftext|>", extra: tuple[str, ...] = ()):
    """A byte-level BPE of about 300 tokens; `pad=None` leaves it without a pad token."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    specials = [eos, *([pad] if pad and pad != eos else []), *extra]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([TEXT], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=eos, pad_token=pad)


def model(family: str, vocabulary: int, *, seed: int = 0, context: int = 128):
    """A two-layer model 16 wide with weights large enough for distinct predictions."""
    torch.manual_seed(seed)
    shared = {"vocab_size": vocabulary, "eos_token_id": 0, "bos_token_id": None, "pad_token_id": None}
    if family == "gpt2":
        made = GPT2LMHeadModel(GPT2Config(n_positions=context, n_embd=16, n_layer=2, n_head=2, **shared))
    else:
        config_class, model_class = {
            "llama": (LlamaConfig, LlamaForCausalLM),
            "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        }[family]
        made = model_class(
            config_class(
                hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, max_position_embeddings=context, tie_word_embeddings=family == "qwen2", **shared,
            )
        )  # fmt: skip
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.3)
    return made.eval()


def save(folder: Path, family: str, tok=None, **options) -> Path:
    """Write a tiny model with its tokenizer as a plain Hugging Face folder."""
    tok = tok or tokenizer()
    model(family, len(tok), **options).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder
