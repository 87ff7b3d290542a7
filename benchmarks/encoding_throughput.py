"""Texts per second of `helpers.models.embedder.encode` beside `SentenceTransformer.encode` as it comes.

Both encode the same functions with the same model and the same limit in tokens; the second with its own
defaults (float32, batches of 32). Also told: how much of each function's ten nearest functions is the same.
Run on an idle machine: `python benchmarks/encoding_throughput.py [--model SPEC] [--corpus SPEC]`.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from helpers.data.corpus import load_corpus
from helpers.data.functions import extract_functions
from helpers.data.retrieval_pairs import document_text
from helpers.eval.retrieval import build_index, search
from helpers.models.embedder import encode, load_embedder
from helpers.runtime import detect_runtime, hardware_facts, peak_memory_gib, stopwatch
from helpers.settings import PROFILES

NEIGHBOURS = 10


def main() -> None:
    settings = PROFILES["cpu"].track_c
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=settings.model)
    parser.add_argument("--corpus", default=PROFILES["cpu"].corpus.spec)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=2, help="the fastest counts")
    arguments = parser.parse_args()

    runtime = detect_runtime()
    texts = [document_text(function) for function in extract_functions(load_corpus(arguments.corpus))]
    model = load_embedder(arguments.model, runtime)
    model.max_seq_length = min(arguments.max_tokens, model.max_seq_length)
    encode(model, texts[:64], kind="document", runtime=runtime)  # warm up both paths alike
    model.encode(texts[:64])

    def ours() -> np.ndarray:
        return encode(
            model, texts, kind="document", runtime=runtime, batch_size=settings.encode_batch,
            max_tokens=arguments.max_tokens,
        )  # fmt: skip

    def usual() -> np.ndarray:
        return model.encode(texts, prompt=model.prompts.get("document") or None, normalize_embeddings=True)

    seconds, vectors = {}, {}
    for name, run in (("ours", ours), ("usual", usual)):
        for _ in range(arguments.repeats):
            with stopwatch() as took:
                vectors[name] = run()
            seconds[name] = min(took["seconds"], seconds.get(name, float("inf")))
    print(
        json.dumps(
            {
                "texts": len(texts),
                "max_tokens": model.max_seq_length,
                "texts_per_second": {name: round(len(texts) / value, 1) for name, value in seconds.items()},
                "speedup": round(seconds["usual"] / seconds["ours"], 2),
                "same_top10": round(same_neighbours(vectors["ours"], vectors["usual"]), 4),
                "peak_memory_gib": round(peak_memory_gib(), 2),
                "hardware": hardware_facts(runtime),
            },
            indent=2,
        )
    )


def same_neighbours(first: np.ndarray, second: np.ndarray) -> float:
    """Mean share of the ten nearest rows that two sets of vectors agree on."""
    ids = [str(row) for row in range(len(first))]
    pairs = zip(*(search(build_index(v, ids), v, NEIGHBOURS) for v in (first, second)), strict=True)
    return float(np.mean([len(a.keys() & b.keys()) / len(a) for a, b in pairs]))


if __name__ == "__main__":
    main()
