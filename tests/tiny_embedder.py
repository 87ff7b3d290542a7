"""A BERT embedder 16 wide with its own word-piece vocabulary, and a small code base to search."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, BertTokenizerFast

from helpers.records import Function, Splits

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_().,:?#=+-[]'\""
VERBS = ("count", "remove", "merge", "sort", "split", "rotate", "paint", "weigh")
THINGS = ("apples", "rivers", "lamps", "tokens", "clouds", "doors", "stones", "letters", "wheels", "maps")


def save_tiny_embedder(folder: Path, prompts: dict[str, str] | None = None) -> Path:
    """Write a sentence-transformers model with random weights into `folder`."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *VERBS,
        *THINGS,
        "def",
        "return",
        "query",
        "passage",
    ]
    (folder / "vocab.txt").write_text("\n".join([*words, *LETTERS, *(f"##{c}" for c in LETTERS)]))
    tokenizer = BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), vocab=str(folder / "vocab.txt"))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"), max_seq_length=64)
    model = SentenceTransformer(
        modules=[transformer, Pooling(16, pooling_mode="mean"), Normalize()], prompts=prompts, device="cpu"
    )
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


def save_static_embedder(folder: Path, words: Collection[str]) -> Path:
    """Write a static embedder as model2vec does: weights in half precision, no list of modules."""
    folder.mkdir()
    vocabulary = {word: number for number, word in enumerate(["[UNK]", "[PAD]", *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[PAD]"])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    weights = np.random.default_rng(0).normal(size=(len(vocabulary), 12)).astype(np.float16)
    save_file({"embeddings": weights}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
    return folder


def function(
    path: str, name: str, docstring: str, body: str = "return None", nested: bool = False
) -> Function:
    """A Function record as extraction would give it."""
    code = f"def {name}(x):\n    {body}\n"
    module = path.removesuffix(".py").replace("/", ".")
    return Function(
        id=f"{path}::{name}", path=path, module=module, qualname=name, name=name,
        source=code.replace(":\n", f':\n    """{docstring}"""\n', 1) if docstring else code, code=code,
        docstring=docstring, doctests=0, parameters=("x",), start_line=1, end_line=3, is_method=False,
        is_nested=nested, is_async=False,
    )  # fmt: skip


def small_code_base() -> tuple[list[Function], Splits]:
    """80 functions in 10 files, six of them for training, one for validation, three for test."""
    functions = [
        function(f"pkg/{thing}.py", f"{verb}_{thing}", f"Returns {verb} of all {thing} in x, {verb} by {thing}.",
                 f"return {verb}(x, {number})")
        for number, thing in enumerate(THINGS)
        for verb in VERBS
    ]  # fmt: skip
    names = ["train"] * 6 + ["validation"] + ["test"] * 3
    return functions, Splits({f"pkg/{thing}.py": name for thing, name in zip(THINGS, names, strict=True)})
