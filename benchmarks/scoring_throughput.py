"""Tokens per second of scoring held-out files in float32, beside bfloat16 products, and what those change.

    python benchmarks/scoring_throughput.py [--model SPEC] [--tokens 3000] [--window 1024] [--stride 512]

All ways score the same files of the corpus by the same windows, in one process, one after the other, in
`--rounds` rounds; the fastest round counts. Reported are scored tokens per second of wall and of processor
time, and each way's bits per byte less those of float32. On a busy machine the ratios per second of
processor time, with OMP_NUM_THREADS=1, are the steadier ones.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from helpers.data.corpus import load_corpus
from helpers.eval.perplexity import evaluate_perplexity
from helpers.machine.hardware import detect_runtime, hardware_facts
from helpers.models.causal_lm import load_causal_lm
from helpers.models.tokens import token_ids
from helpers.profiles import PROFILES

WAYS = ("float32", "bfloat16 products", "bfloat16 inputs of products")


def texts_of(corpus: str, tokenizer, least: int) -> list[str]:
    """Return files, spread evenly over the corpus, that have `least` tokens together."""
    files = load_corpus(corpus).files
    texts, count = [], 0
    for file in files[:: max(1, len(files) // 50)]:
        if count >= least:
            break
        texts.append(file.text)
        count += len(token_ids(tokenizer, file.text))
    return texts


@contextlib.contextmanager
def products_of(way: str) -> Iterator[None]:
    """Let float32 products on a CPU take their inputs in bfloat16, for the way that is called so."""
    usual = torch.backends.mkldnn.matmul.fp32_precision
    if way == WAYS[2]:
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = usual


def measure(model, tokenizer, texts: list[str], way: str, runtime, sizes: dict[str, int]) -> dict[str, Any]:
    """Score all texts once."""
    mixed = dataclasses.replace(runtime, autocast_dtype=torch.bfloat16) if way == WAYS[1] else None
    wall, spent = time.perf_counter(), time.process_time()
    with products_of(way):
        result = evaluate_perplexity(model, tokenizer, texts, runtime=mixed, what=way, **sizes)
    wall, spent = time.perf_counter() - wall, time.process_time() - spent
    return {
        "tokens_per_second": round(result.n_tokens / wall, 1),
        "tokens_per_cpu_second": round(result.n_tokens / spent, 1),
        "bits_per_byte": result.bits_per_byte,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=PROFILES["cpu"].track_a.model)
    parser.add_argument("--corpus", default=PROFILES["cpu"].corpus.spec)
    parser.add_argument("--tokens", type=int, default=3000)
    parser.add_argument("--window", type=int, default=PROFILES["t4"].track_a.window)
    parser.add_argument("--stride", type=int, default=PROFILES["t4"].track_a.stride)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()

    runtime = detect_runtime()
    model, tokenizer = load_causal_lm(options.model, runtime)
    texts = texts_of(options.corpus, tokenizer, options.tokens)
    sizes = {"window": options.window, "stride": options.stride}
    measure(model, tokenizer, [texts[0][:500]], WAYS[0], runtime, sizes)  # warm up
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            found[way].append(measure(model, tokenizer, texts, way, runtime, sizes))
    best = {way: max(rounds, key=lambda row: row["tokens_per_cpu_second"]) for way, rounds in found.items()}
    for row in best.values():
        row["delta_bits_per_byte"] = row["bits_per_byte"] - best[WAYS[0]]["bits_per_byte"]
        row["speedup_per_cpu_second"] = round(
            row["tokens_per_cpu_second"] / best[WAYS[0]]["tokens_per_cpu_second"], 2
        )
    print(json.dumps({"files": len(texts), **sizes, "hardware": hardware_facts(runtime), **best}, indent=2))


if __name__ == "__main__":
    main()
