"""Useful tokens per second of Track A's training beside `transformers.Trainer` and TRL's `SFTTrainer`.

    python benchmarks/training_throughput.py [--model SPEC] [--tokens 60000] [--rank R --window W]

All train the same adapter on the same files. "padded" is what most notebooks do: whole files cut at the
window, a piece a row, padded to the window, `Trainer` with bfloat16 where the machine multiplies it, all else
at its defaults but for the batch. "TRL" packs the files into full rows ("wrapped": no token is lost, and
documents see each other); it takes part if `trl` is installed (`pip install --no-deps trl==1.16.0`).
Ours is `helpers.train.trainer.run_training` with the profile's settings: pieces packed into full rows,
bfloat16 where the machine multiplies it, cheaper forms of the same step, its layers compiled as in a training
of the profile's length if the model has no packed form. All take as many rows a step. Counted are tokens that
are not padding. The rate is that of the steps after what a training takes once, which is timed apart with a
single batch: `once_seconds` (`once_seconds_at_first`: with nothing compiled before).
`whole_run_tokens_per_second` counts that, too, over as many tokens as the profile's run trains on. Each way
works in a process of its own and they take turns, so that a busy machine slows all; on such a machine the
ratio per second of processor time is the steadier one.

Also told: the share of the machine's own rate of bfloat16 matrix products that our step's arithmetic
reaches. Its operations per token: for each layer 4 a frozen weight and 6 an adapter's, or 6 a weight where
the sum of both is trained and that is less; 4 a weight of the head, 6 where its rows are trained; attention's
products over the half of the scores that is used. Nothing recomputed or thrown away counts. The machine's
rate is that of square matrices of 2,048; narrow models multiply narrow ones, so the rate of the step's own
shapes stands beside it: a step that did nothing else would reach that share and no more.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

from helpers.data.corpus import load_corpus
from helpers.data.draw import draw_files
from helpers.machine.hardware import Runtime, can_compile, detect_runtime, hardware_facts, set_seed
from helpers.machine.usage import peak_memory_gib, stopwatch
from helpers.models.causal_lm import add_lora, load_causal_lm, load_tokenizer
from helpers.models.packed_decoder import is_covered
from helpers.models.shapes import model_shape
from helpers.models.tokens import token_ids
from helpers.profiles import PROFILES
from helpers.settings import LoraSettings, TrackASettings
from helpers.train.continued_pretraining import MICRO_BATCH_TOKENS
from helpers.train.packing import collate_packed, pack_documents
from helpers.train.trainer import Hyperparameters, TrainingData, run_training

WAYS = ("padded", "TRL", "ours")
SIDE = 2048  # of the square matrices whose product gives the machine's rate


def operations_per_token(settings: TrackASettings) -> float:
    """Floating-point operations that one training step needs for a token, forward and backward."""
    shape, rank = model_shape(settings.model), settings.lora.rank
    layer = sum(min(4 * a * b + 6 * rank * (a + b), 6 * a * b) for a, b in shape.linears)
    attended = shape.layers * shape.heads * shape.head_dim * settings.window / 2
    head = (6 if settings.train_embeddings else 4) * shape.hidden * shape.vocabulary
    return float(shape.layers * layer + head + 12 * attended)


def product_seconds(rows: int, inner: int, columns: int) -> float:
    """Of one bfloat16 product (rows, inner) x (inner, columns) on this machine; the best of ten."""
    a = torch.randn(rows, inner, dtype=torch.bfloat16)
    b = torch.randn(inner, columns, dtype=torch.bfloat16)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def product_rate() -> float:
    """Operations per second of bfloat16 products of square matrices."""
    return 2.0 * SIDE**3 / product_seconds(SIDE, SIDE, SIDE)


def own_shapes_rate(settings: TrackASettings) -> float:
    """Operations per second of the products of the layers and the head alone, forward and both backward."""
    shape, tokens = model_shape(settings.model), MICRO_BATCH_TOKENS["cpu"]
    matrices = [*shape.linears * shape.layers, (shape.hidden, shape.vocabulary)]
    operations = sum(6.0 * tokens * a * b for a, b in matrices)
    seconds = {
        (a, b): product_seconds(tokens, a, b) + product_seconds(tokens, b, a) + product_seconds(b, tokens, a)
        for a, b in set(matrices)
    }
    return operations / sum(seconds[pair] for pair in matrices)


def cut_pieces(documents: list[list[int]], window: int) -> list[list[int]]:
    """Cut documents into pieces of `window` tokens, each beginning with the last of the one before."""
    return [d[at : at + window] for d in documents for at in range(0, len(d) - 1, window - 1)]


def usual_arguments(settings: TrackASettings, runtime: Runtime, out: str) -> dict[str, Any]:
    """Arguments of the trainers that are not ours."""
    return {
        "output_dir": out, "num_train_epochs": 1, "report_to": "none", "save_strategy": "no",
        "disable_tqdm": True, "use_cpu": runtime.device.type == "cpu",
        "bf16": runtime.autocast_dtype == torch.bfloat16, "fp16": runtime.autocast_dtype == torch.float16,
        "per_device_train_batch_size": settings.batch_sequences, "learning_rate": settings.learning_rate,
    }  # fmt: skip


def train_padded(model, tokenizer, documents, settings: TrackASettings, out: str, runtime) -> int:
    """`Trainer` over padded pieces; the number of tokens that were no padding."""
    pieces = cut_pieces(documents, settings.window)
    rows = [
        dict(tokenizer.pad({"input_ids": piece}, padding="max_length", max_length=settings.window))
        for piece in pieces
    ]
    arguments = TrainingArguments(**usual_arguments(settings, runtime, out))
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator).train()
    return sum(len(piece) for piece in pieces)


def train_trl(model, tokenizer, documents, settings: TrackASettings, out: str, runtime) -> int:
    """TRL's `SFTTrainer` over packed rows; the number of tokens."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        **usual_arguments(settings, runtime, out), packing=True, packing_strategy="wrapped",
        max_length=settings.window, gradient_checkpointing=False,
    )  # fmt: skip
    data = Dataset.from_dict({"input_ids": documents})
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    return sum(map(len, trainer.train_dataset["input_ids"]))


def train_ours(model, tokenizer, documents, settings: TrackASettings, out: str, runtime) -> int:
    """This project's loop over packed rows."""
    rows = pack_documents(documents, settings.window, pad_id=tokenizer.pad_token_id)
    hyperparameters = Hyperparameters(
        epochs=1,
        learning_rate=settings.learning_rate,
        batch_sequences=settings.batch_sequences,
        micro_batch=max(1, MICRO_BATCH_TOKENS[runtime.device.type] // settings.window),
        warmup_fraction=settings.warmup_fraction,
        seed=0,
        compiled=can_compile(runtime.device) and not is_covered(model),
    )
    data = TrainingData(rows, collate_packed, validate=lambda candidate: 1.0)
    history = run_training(model, tokenizer, data, hyperparameters, runtime, Path(out))
    return history.useful_tokens


def measure(way: str, documents: list[list[int]], settings: TrackASettings) -> dict[str, float]:
    """Train once in this process, which finds nothing compiled by an earlier one."""
    with tempfile.TemporaryDirectory() as compiled:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = compiled
        return _measure(way, documents, settings)


def _measure(way: str, documents: list[list[int]], settings: TrackASettings) -> dict[str, float]:
    runtime = detect_runtime()
    set_seed(0)
    base, tokenizer = load_causal_lm(settings.model, runtime)
    own = sorted({token for ids in documents for token in ids}) if settings.train_embeddings else None
    model = add_lora(base, settings.lora, tokens=own).train()
    loaded = peak_memory_gib()

    def timed(some: list[list[int]]) -> tuple[int, float, float]:
        """Tokens, seconds and processor seconds."""
        spent = time.process_time()
        with tempfile.TemporaryDirectory() as out, stopwatch() as took:
            train = {"ours": train_ours, "TRL": train_trl, "padded": train_padded}[way]
            tokens = train(model, tokenizer, some, settings, out, runtime)
        return tokens, took["seconds"], time.process_time() - spent

    batch = [list(itertools.chain(*documents))[: settings.batch_sequences * (settings.window - 1) + 1]]
    _, at_first, _ = timed(batch)
    few, once, few_spent = timed(batch)
    tokens, seconds, spent = timed(documents)
    rate = (tokens - few) / (seconds - once)
    whole_run = settings.epochs * settings.train_tokens * (1 + settings.rehearsal_share)
    return {
        "tokens": tokens,
        "tokens_per_second": rate,
        "tokens_per_cpu_second": (tokens - few) / (spent - few_spent),
        "once_seconds_at_first": at_first - few / rate,
        "once_seconds": once - few / rate,
        "whole_run_tokens_per_second": whole_run / (whole_run / rate + at_first - few / rate),
        "peak_memory_gib": peak_memory_gib(),
        "of_it_with_the_model_loaded": loaded,
    } | (
        {"product_rate": product_rate(), "own_shapes_rate": own_shapes_rate(settings)}
        if way == "ours" and runtime.device.type == "cpu"
        else {}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=PROFILES["cpu"].track_a.model)
    parser.add_argument("--corpus", default=PROFILES["cpu"].corpus.spec)
    parser.add_argument("--tokens", type=int, default=60_000, help="of whole files, trained on once a repeat")
    parser.add_argument("--rank", type=int, help="of adapters alone, without embeddings, as for real models")
    parser.add_argument("--window", type=int, help="tokens of a row")
    parser.add_argument("--rows", type=int, help="of a step")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    settings = PROFILES["cpu"].track_a
    settings = dataclasses.replace(settings, model=options.model)
    if options.rank:
        lora = LoraSettings(rank=options.rank, alpha=2 * options.rank)
        settings = dataclasses.replace(settings, lora=lora, train_embeddings=False)
    if options.window:
        settings = dataclasses.replace(settings, window=options.window, stride=options.window // 2)
    if options.rows:
        settings = dataclasses.replace(settings, batch_sequences=options.rows)
    ways = [way for way in WAYS if way != "TRL" or importlib.util.find_spec("trl")]
    tokenizer = load_tokenizer(options.model)
    files = draw_files(load_corpus(options.corpus).files, tokenizer, options.tokens, 0)
    documents = [token_ids(tokenizer, file.text) for file in files]
    done: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    spawn = multiprocessing.get_context("spawn")
    for _ in range(options.repeats):
        for way in ways:
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:  # a process each: its peak is its own
                done[way].append(pool.submit(measure, way, documents, settings).result())
    middle = {
        way: {name: round(statistics.median(row[name] for row in rows), 2) for name in rows[0]}
        for way, rows in done.items()
    }
    rates = [row.get("product_rate", 0.0) for row in done["ours"]]
    own = [row.get("own_shapes_rate", 0.0) for row in done["ours"]]
    reached = [row["tokens_per_second"] * operations_per_token(settings) for row in done["ours"]]
    report = {
        "files": len(files),
        **middle,
        "times_as_fast_as": {
            way: {
                name: [round(o[name] / u[name], 2) for u, o in zip(done[way], done["ours"], strict=True)]
                for name in ("tokens_per_second", "whole_run_tokens_per_second", "tokens_per_cpu_second")
            }
            for way in ways[:-1]
        },
        "operations_per_token": operations_per_token(settings),
        "share_of_product_rate": [round(r / p, 3) for r, p in zip(reached, rates, strict=True) if p],
        "share_if_only_the_products_took_time": [
            round(o / p, 3) for o, p in zip(own, rates, strict=True) if p
        ],
        "hardware": hardware_facts(detect_runtime()),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
