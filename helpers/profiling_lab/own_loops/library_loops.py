"""The usual training of each track: the library's trainer, with its defaults.

Model, adapter, examples, epochs and, for adapters, the course of the rate are those of the suite's own
training: the default rate would leave an adapter where it began, and over a dozen steps a linear instead of a
cosine decay alone moves the loss by .01, which says nothing about a loop. All else is as the library has it:
batches of eight padded to their longest, single precision, no validation.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
)

from helpers.machine.hardware import detect_runtime, set_seed
from helpers.models.causal_lm import add_lora, load_causal_lm
from helpers.models.embedder import load_embedder
from helpers.models.tokens import token_ids
from helpers.profiling_lab.own_loops.loop_data import LoopData
from helpers.settings import TrackASettings, TrackBSettings
from helpers.train.contrastive import pairs_dataset
from helpers.train.instruct import encode_pair


def train_texts_usual(data: LoopData, seed: int, out: Path) -> None:
    """Train Track A's adapter on pieces of at most a window, and save it to `out/adapter`."""
    settings = data.track_a
    window = settings.window

    def examples(tokenizer: Any) -> list[dict[str, Any]]:
        documents = [token_ids(tokenizer, text) for text in data.training_texts]
        starts = [(ids, at) for ids in documents for at in range(0, len(ids) - 1, window - 1)]
        return [{"input_ids": ids[at : at + window]} for ids, at in starts]

    _train_adapter(
        settings, seed, out, examples, lambda tokenizer: DataCollatorForLanguageModeling(tokenizer, mlm=False)
    )


def train_pairs_usual(data: LoopData, seed: int, out: Path) -> None:
    """Train Track B's adapter on pairs whose prompts are masked, and save it to `out/adapter`."""

    def examples(tokenizer: Any) -> list[dict[str, Any]]:
        encoded = [encode_pair(pair, tokenizer) for pair in data.training_pairs]
        return [{"input_ids": list(one.input_ids), "labels": list(one.labels)} for one in encoded]

    _train_adapter(data.track_b, seed, out, examples, DataCollatorForSeq2Seq)


def train_embedder_usual(data: LoopData, seed: int, out: Path) -> None:
    """Train all of Track C's embedder on the same rows, and save it to `out/embedder`."""
    set_seed(seed)
    runtime = detect_runtime()
    model = load_embedder(data.track_c.model, runtime)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(out / "checkpoints"), num_train_epochs=1, seed=seed, report_to="none",
            save_strategy="no", disable_tqdm=True, use_cpu=runtime.device.type == "cpu",
        ),
        train_dataset=pairs_dataset(data.queries, [[] for _ in data.queries.train], data.track_c),
        loss=MultipleNegativesRankingLoss(model),
    )  # fmt: skip
    trainer.train()
    model.save_pretrained(str(out / "embedder"), create_model_card=False)


def _train_adapter(
    settings: TrackASettings | TrackBSettings, seed: int, out: Path, examples: Any, collator: Any
) -> None:
    set_seed(seed)
    runtime = detect_runtime()
    base, tokenizer = load_causal_lm(settings.model, runtime, seed=seed)
    model = add_lora(base, settings.lora, seed=seed)
    rows = examples(tokenizer)
    steps = settings.epochs * math.ceil(len(rows) / TrainingArguments().train_batch_size)
    arguments = TrainingArguments(
        output_dir=str(out / "checkpoints"), num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate, lr_scheduler_type="cosine",
        warmup_steps=round(settings.warmup_fraction * steps), seed=seed, report_to="none", save_strategy="no",
        disable_tqdm=True, use_cpu=runtime.device.type == "cpu",
    )  # fmt: skip
    Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator(tokenizer)).train()
    model.save_pretrained(str(out / "adapter"), save_embedding_layers=False)
