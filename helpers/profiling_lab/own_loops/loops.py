"""The three comparisons: the suite's training, the library's, and the score of what either trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sentence_transformers import SentenceTransformer

from helpers.eval.perplexity import evaluate_perplexity
from helpers.machine.hardware import detect_runtime
from helpers.models.causal_lm import load_adapted
from helpers.profiling_lab.own_loops.library_loops import (
    train_embedder_usual,
    train_pairs_usual,
    train_texts_usual,
)
from helpers.profiling_lab.own_loops.loop_data import LoopData
from helpers.train.continued_pretraining import train_language_model
from helpers.train.contrastive import ValidationMRR, train_embedder
from helpers.train.instruct import collator, encode_pair, response_loss, train_instruct

Train = Callable[[LoopData, int, Path], None]  # data, seed, folder for what is trained


@dataclass(frozen=True)
class Loop:
    """One track's comparison."""

    track: str  # "A", "B" or "C"
    library: str  # whose defaults
    ours: Train
    usual: Train
    score: Callable[[LoopData, Path], float]  # of what either saved, on held-out data
    figure: str
    lower_is_better: bool
    tolerance: float  # by which ours may be worse


def score_texts(data: LoopData, folder: Path) -> float:
    """Return the loss in nats per token on the held-out files."""
    settings, runtime = data.track_a, detect_runtime()
    model, tokenizer = load_adapted(settings.model, folder / "adapter", runtime)
    found = evaluate_perplexity(
        model, tokenizer, data.held_out_texts, window=settings.window, stride=settings.window
    )
    return found.nll_nats / found.n_tokens


def score_pairs(data: LoopData, folder: Path) -> float:
    """Return the loss in nats per response token on the held-out pairs, in single precision."""
    runtime = dataclasses.replace(detect_runtime(), autocast_dtype=None)
    model, tokenizer = load_adapted(data.track_b.model, folder / "adapter", runtime)
    examples = [encode_pair(pair, tokenizer) for pair in data.held_out_pairs]
    return response_loss(model, examples, collator(tokenizer), runtime, batch=8)


def score_embedder(data: LoopData, folder: Path) -> float:
    """Return MRR@10 of the held-out queries over their answers and 300 other functions."""
    runtime = detect_runtime()
    queries = dataclasses.replace(data.queries, validation=data.queries.test)
    measure = ValidationMRR(queries, data.track_c, runtime, seed=0)
    return measure.value(SentenceTransformer(str(folder / "embedder"), device=runtime.device.type)) or 0.0


def _train_a(data: LoopData, seed: int, out: Path) -> None:
    train_language_model(
        data.track_a, data.training_texts, data.validation_texts, detect_runtime(), seed=seed, out_dir=out
    )


def _train_b(data: LoopData, seed: int, out: Path) -> None:
    train_instruct(
        data.track_b, data.training_pairs, data.validation_pairs, detect_runtime(), seed=seed, out_dir=out
    )


def _train_c(data: LoopData, seed: int, out: Path) -> None:
    train_embedder(data.track_c, data.queries, detect_runtime(), seed=seed, out_dir=out)


LOOPS = (
    Loop("A", "transformers", _train_a, train_texts_usual, score_texts, "loss", True, 0.01),
    Loop("B", "transformers", _train_b, train_pairs_usual, score_pairs, "loss", True, 0.01),
    Loop("C", "sentence-transformers", _train_c, train_embedder_usual, score_embedder, "MRR@10", False, 0.01),
)  # fmt: skip
