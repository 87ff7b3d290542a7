"""A tiny finished run: a base model, an adapter that changes it, held-out files with their scores."""

from __future__ import annotations

from pathlib import Path

import tiny_gguf
import tokenizer_families
import torch
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, BertModel

from helpers.eval.perplexity import evaluate_perplexity
from helpers.machine.hardware import Runtime
from helpers.models.causal_lm import add_lora, load_adapted, load_causal_lm
from helpers.run.workspace import write_json, write_jsonl
from helpers.settings import LoraSettings

PLAIN = Runtime(torch.device("cpu"), torch.float32, None, "sdpa", 1.0, ())
WINDOW, STRIDE = 48, 24
MAX_TOKENS = 24
TEXTS = (
    "def add(first, second):\n    return first + second\n\n\nclass Größe:\n    wert = 12345\n",
    "# a comment that says <|im_end|> and goes on\nfor i in range(10):\n\tprint(i)\n\n\n" * 3,
)


def write(
    folder: Path, family: str = "llama", *, tied: bool = True, lora: LoraSettings | None = None, tokens=None,
    specials=tiny_gguf.SPECIALS,
) -> Path:  # fmt: skip
    """Write the run; its base is the GGUF file `base.gguf` beside it."""
    base = tiny_gguf.write(folder / "base.gguf", family, tied=tied, specials=specials)
    spec, run = f"gguf:{base}", folder / "runs" / "smoke-1"
    model, tokenizer = load_causal_lm(spec, PLAIN)
    adapted = add_lora(model, lora or LoraSettings(rank=4, alpha=8, dropout=0.0), seed=1, tokens=tokens)
    torch.manual_seed(2)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name or "trainable_tokens_delta" in name:
                weight.normal_(0.0, 0.1)
    adapter = run / "track_a/train/adapter"
    adapted.save_pretrained(adapter)
    tokenizer.save_pretrained(adapter)
    settings = {"model": spec, "window": WINDOW, "stride": STRIDE}
    write_json(run / "run.json", {"profile": {"name": "smoke", "seed": 17, "track_a": settings}})
    paths = [f"module_{number}.py" for number in range(len(TEXTS))]
    rows = [{"path": path, "text": text} for path, text in zip(paths, TEXTS, strict=True)]
    write_jsonl(run / "track_a/data/test.jsonl", rows)
    scores = evaluate_perplexity(
        *load_adapted(spec, adapter, PLAIN), TEXTS, window=WINDOW, stride=STRIDE
    ).texts
    write_jsonl(
        run / "track_a/files.jsonl",
        [{"path": path, "n_bytes": s.n_bytes, "n_tokens": s.n_tokens, "nll_after": s.nll_nats}
         for path, s in zip(paths, scores, strict=True)],
    )  # fmt: skip
    return run


def write_embedder(run: Path) -> Path:
    """Write a run with a tuned embedder and a few held-out queries and functions."""
    tokenizer = tokenizer_families.tokenizer("WordPiece")
    torch.manual_seed(0)
    model = BertModel(BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    ))  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.5)
    embedder = run / "track_c/train/embedder"
    model.save_pretrained(embedder)
    tokenizer.save_pretrained(embedder)
    whole = SentenceTransformer(str(embedder), device="cpu")
    whole.prompts = {"query": "find: ", "document": ""}
    whole.save(str(embedder))
    settings = {"model": "package:tiny", "max_tokens": MAX_TOKENS}
    write_json(run / "run.json", {"profile": {"name": "smoke", "seed": 17, "track_c": settings}})
    queries = ["add two numbers", "what ends with [SEP]", "sort " * 30]
    write_jsonl(run / "track_c/data/test.jsonl", [{"id": str(i), "text": q} for i, q in enumerate(queries)])
    documents = [*TEXTS, "def f(x): return x", "x"]
    write_jsonl(
        run / "track_c/data/documents.jsonl", [{"id": str(i), "text": d} for i, d in enumerate(documents)]
    )
    return run
