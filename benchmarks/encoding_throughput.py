"""Texts per second of `helpers.models.embedder.encode` beside `SentenceTransformer.encode` as it comes.

Both encode the same functions with the same model and the same limit in tokens; the second with its own
defaults (float32, batches of 32). Each works in a process of its own, so that its peak memory is its own, and
they take turns, so that a busy machine slows both. Also told: how much of each function's ten nearest
functions is the same.
Run on an idle machine: `python -m benchmarks.encoding_throughput [--model SPEC] [--corpus SPEC]`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from helpers.code.functions import extract_functions
from helpers.data.corpus import load_corpus
from helpers.data.queries.documents import document_text
from helpers.eval.retrieval import build_index, nearest
from helpers.machine.hardware import detect_runtime, hardware_facts
from helpers.machine.usage import peak_memory_gib, stopwatch
from helpers.models.embedder import encode, load_embedder
from helpers.profiles import PROFILES

NEIGHBOURS = 10
WARM_UP = 64  # texts
SIDES = ("ours", "usual")

_loaded: dict = {}  # runtime and model of this process


def main() -> None:
    settings = PROFILES["cpu"].track_c
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=settings.model)
    parser.add_argument("--corpus", default=PROFILES["cpu"].corpus.spec)
    parser.add_argument("--max-tokens", type=int, default=256)
    usual = settings.encode_batch * settings.max_tokens
    parser.add_argument("--batch-tokens", type=int, default=usual, help="tokens in one of our batches")
    parser.add_argument("--texts", type=int, default=0, help="the first so many functions; 0 takes all")
    parser.add_argument("--repeats", type=int, default=2, help="the fastest counts")
    arguments = parser.parse_args()

    texts = [document_text(function) for function in extract_functions(load_corpus(arguments.corpus))]
    texts = texts[: arguments.texts or None]
    batch = max(1, arguments.batch_tokens // arguments.max_tokens)
    done: dict[str, list] = {side: [] for side in SIDES}
    spawn = multiprocessing.get_context("spawn")
    pools = {side: ProcessPoolExecutor(1, mp_context=spawn) for side in SIDES}
    for repeat in range(arguments.repeats):
        for side, pool in pools.items():
            ready = texts[:WARM_UP] if repeat == 0 else []
            job = pool.submit(measure, side, arguments.model, texts, arguments.max_tokens, batch, ready)
            done[side].append(job.result())
    for pool in pools.values():
        pool.shutdown()
    best = {side: min(rows, key=lambda row: row["seconds"]) for side, rows in done.items()}
    same = same_neighbours(*(best[side]["vectors"] for side in SIDES))
    print(
        json.dumps(
            {
                "texts": len(texts),
                "max_tokens": arguments.max_tokens,
                "texts_per_second": {s: round(len(texts) / best[s]["seconds"], 1) for s in SIDES},
                "speedup": round(best["usual"]["seconds"] / best["ours"]["seconds"], 2),
                "same_top10": round(same, 4),
                "peak_memory_gib": {s: round(done[s][-1]["peak_memory_gib"], 2) for s in SIDES},
                "hardware": hardware_facts(detect_runtime()),
            },
            indent=2,
        )
    )


def measure(
    side: str, model_spec: str, texts: list[str], max_tokens: int, batch: int, warm_up: list[str]
) -> dict:
    """Encode `texts` once in this process: seconds, vectors and the process' peak memory so far."""
    if not _loaded:
        _loaded["runtime"] = detect_runtime()
        _loaded["model"] = load_embedder(model_spec, _loaded["runtime"])
    runtime, model = _loaded["runtime"], _loaded["model"]
    model.max_seq_length = min(max_tokens, model.max_seq_length)

    def run(some: list[str]) -> np.ndarray:
        if side == "ours":
            sizes = {"batch_size": batch, "max_tokens": max_tokens}
            return encode(model, some, kind="document", runtime=runtime, **sizes)
        return model.encode(some, prompt=model.prompts.get("document") or None, normalize_embeddings=True)

    if warm_up:
        run(warm_up)
    with stopwatch() as took:
        vectors = run(texts)
    return {"seconds": took["seconds"], "vectors": vectors, "peak_memory_gib": peak_memory_gib()}


def same_neighbours(first: np.ndarray, second: np.ndarray) -> float:
    """Mean share of the ten nearest rows that two sets of vectors agree on."""
    ids = [str(row) for row in range(len(first))]
    pairs = zip(*(nearest(build_index(v, ids), v, NEIGHBOURS) for v in (first, second)), strict=True)
    return float(np.mean([len(a.keys() & b.keys()) / len(a) for a, b in pairs]))


if __name__ == "__main__":
    main()
