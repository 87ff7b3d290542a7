"""Track A's training: a LoRA adapter that continues pretraining on a repository's files."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState
from peft import PeftModel
from transformers import PreTrainedModel

from helpers.data.general_code import rehearsal_texts
from helpers.eval.perplexity import evaluate_perplexity
from helpers.machine.hardware import Runtime, can_compile, set_seed
from helpers.machine.memory import Fit
from helpers.machine.processes import world_size
from helpers.machine.usage import return_freed_memory
from helpers.models.causal_lm import add_lora, load_adapted, load_causal_lm
from helpers.models.footprint import planned_fit
from helpers.models.packed_decoder import is_covered
from helpers.models.tokens import token_ids
from helpers.run.workspace import write_json
from helpers.settings import TrackASettings
from helpers.train.fallbacks import with_fallbacks
from helpers.train.infilled_pieces import infilled_pieces
from helpers.train.packing import PackedRow, collate_packed, pack_texts
from helpers.train.shrinking import shrink_adapter
from helpers.train.trainer import Hyperparameters, TrainingData, TrainingHistory, run_training

MICRO_BATCH_TOKENS = {"cpu": 4096, "cuda": 2048}  # fed at once, with their activations kept
VALIDATIONS_PER_EPOCH = 2
# Compiling the embedded model takes as long as training on 150,000 tokens and saves a fifth of the time.
TOKENS_WORTH_COMPILING = 1_000_000


def train_language_model(
    settings: TrackASettings,
    train_texts: Sequence[str],
    validation_texts: Sequence[str],
    runtime: Runtime,
    *,
    seed: int,
    out_dir: Path,
    held_out: Sequence[str] = (),
    full: bool = False,
) -> TrainingHistory:
    """Train an adapter on `train_texts`, and keep the one with the best validation in bits per byte.

    Files are packed into rows of `settings.window` tokens; attention cannot cross file boundaries. Where the
    tokenizer has the marks, `settings.fim_share` of them is written as fill-in-the-middle. Two
    things counter forgetting: standard-library files are mixed in, `settings.rehearsal_share` tokens of
    them for each token of `train_texts`, and the adapter is scaled down as far as `settings.keep_gain` of
    the validated gain allows (`helpers.train.shrinking`). If memory or float16's range does not suffice,
    training starts again with less (`helpers.train.fallbacks.with_fallbacks`).

    The returned history is also written to `out_dir/history.json`; `helpers.models.causal_lm.load_adapted`
    loads the adapter from `out_dir/adapter`.

    Args:
        held_out: texts that must not be mixed in, beside `validation_texts`.
        full: train and keep all weights instead of an adapter, as a reference.

    Raises:
        ModelError: if the model cannot be loaded.
        TrainingError: if there is nothing to train on or the loss is not finite.
        PerplexityError: if the validation texts hold nothing to score.
    """
    return with_fallbacks(
        lambda machine, fit: _train(
            settings, train_texts, validation_texts, held_out, machine, fit, seed, out_dir, full
        ),
        runtime,
        out_dir,
    )


def _train(
    settings: TrackASettings, train_texts: Sequence[str], validation_texts: Sequence[str],
    held_out: Sequence[str], runtime: Runtime, fit: Fit, seed: int, out_dir: Path, full: bool,
) -> TrainingHistory:  # fmt: skip
    """Train once, on one machine's terms; the parameters are those of `train_language_model`."""
    set_seed(seed)
    base, tokenizer = load_causal_lm(settings.model, runtime, seed=seed)
    own = [token_ids(tokenizer, text) for text in train_texts]
    budget = round(sum(map(len, own)) * settings.rehearsal_share)
    rehearsal = rehearsal_texts(tokenizer, budget, seed, held_out=[*validation_texts, *held_out])
    plain, pieces = infilled_pieces(
        train_texts, tokenizer, settings.window, share=settings.fim_share, seed=seed
    )
    rows = pack_texts([*plain, *rehearsal], tokenizer, settings.window, pieces)
    micro_batch = max(1, MICRO_BATCH_TOKENS[runtime.device.type] // settings.window)
    fit = planned_fit(
        fit, base.config, runtime, settings.lora, micro_batch, settings.window,
        embeddings=settings.train_embeddings,
    )  # fmt: skip
    tokens = sorted({token for ids in own for token in ids}) if settings.train_embeddings else None
    model = base if full else add_lora(base, settings.lora, seed=seed, tokens=tokens)

    def bits_per_byte(candidate: PreTrainedModel | PeftModel) -> float:
        return evaluate_perplexity(
            candidate, tokenizer, validation_texts, window=settings.window, stride=settings.window,
            runtime=runtime, what="validate",
        ).bits_per_byte  # fmt: skip

    history = run_training(
        model,
        tokenizer,
        TrainingData(rows, collate_packed, bits_per_byte),
        Hyperparameters(
            epochs=settings.epochs, learning_rate=settings.learning_rate,
            batch_sequences=settings.batch_sequences, micro_batch=micro_batch,
            warmup_fraction=settings.warmup_fraction, seed=seed, validations_per_epoch=VALIDATIONS_PER_EPOCH,
            compiled=not is_covered(model) and _worth_compiling(settings, rows, runtime),
        ),
        runtime,
        out_dir,
        fit=fit,
        what="train the language model",
    )  # fmt: skip
    history = dataclasses.replace(history, infilled_documents=len(train_texts) - len(plain))
    del base, model
    gc.collect()
    return_freed_memory()  # before another copy of the model is loaded
    if PartialState().is_main_process:
        write_json(out_dir / "history.json", history)
    if full or settings.keep_gain >= 1:
        PartialState().wait_for_everyone()
        return history
    if PartialState().is_main_process:  # only this process's history holds the scale
        adapter = out_dir / "adapter"
        # Read back, because the model in memory has the last weights, not the best.
        kept, _ = load_adapted(settings.model, adapter, runtime, seed=seed)
        before = history.validation[0]
        scale = shrink_adapter(kept, adapter, bits_per_byte, untouched=before, keep_gain=settings.keep_gain)
        history = dataclasses.replace(history, adapter_scale=scale)
        write_json(out_dir / "history.json", history)
    PartialState().wait_for_everyone()
    return history


def _worth_compiling(settings: TrackASettings, rows: Sequence[PackedRow], runtime: Runtime) -> bool:
    """Whether compiling saves more time than it takes; False where that was not measured."""
    if runtime.device.type != "cpu" or not can_compile(runtime.device) or world_size() > 1:
        return False
    return settings.epochs * len(rows) * settings.window >= TOKENS_WORTH_COMPILING
