"""Contrastive tuning of an embedder on (query, function) pairs of the training files.

InfoNCE with in-batch negatives (`MultipleNegativesRankingLoss`) in batches without contradictions, plus hard
negatives, which the untouched model mines from the training files. Each pass over the pairs uses another
wording of the query and other hard negatives, so that neither is memorised. A profile can restrict
training to the topmost layers: for a few hundred pairs that suffices, and a step costs less. The state
with the best validation MRR@10 is kept.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainingArguments,
    util,
)
from sentence_transformers.evaluation import SentenceEvaluator
from sentence_transformers.losses import MultipleNegativesRankingLoss
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from helpers.data.queries.documents import short_form
from helpers.data.queries.retrieval_data import RetrievalData
from helpers.errors import SuiteError
from helpers.eval.retrieval import VectorIndex, index_documents, mean_scores, qrels_of, retrieve, score_run
from helpers.machine.hardware import Runtime, set_seed
from helpers.machine.processes import this_rank_only, world_size
from helpers.machine.progress import bar
from helpers.machine.usage import return_freed_memory, stopwatch
from helpers.models.embedder import is_static, limit_tokens, load_embedder, plain_texts
from helpers.records import Document, Query
from helpers.run.workspace import digest, write_json, write_text
from helpers.settings import TrackCSettings
from helpers.train.checkpoints import SaveSchedule, newest_whole_checkpoint, step_of, written_whole
from helpers.train.contrastive_batches import CountingTrainer
from helpers.train.fallbacks import in_float32_after_overflow, require_finite
from helpers.train.hard_negatives import mine_hard_negatives

VALIDATION_K = 10
# Documents beside the validation answers; encoding the whole corpus would cost too much.
VALIDATION_DISTRACTORS = 300
VALIDATIONS = 3  # per training; each costs as much as several steps
_VALIDATION_METRIC = f"validation_mrr@{VALIDATION_K}"


class ContrastiveError(SuiteError, ValueError):
    """The pairs or the model cannot be trained as the settings ask."""


def train_embedder(
    settings: TrackCSettings,
    data: RetrievalData,
    runtime: Runtime,
    *,
    seed: int,
    out_dir: Path,
    index: VectorIndex | None = None,
) -> dict[str, Any]:
    """Tune `settings.model` on `data.train` and keep its best state in `out_dir/"embedder"`.

    Args:
        runtime: device and precision; weights stay float32.
        seed: of batches and dropout.
        out_dir: also holds checkpoints, from which an interrupted call resumes; they are removed at the end.
        index: the documents as the untouched model encodes them, if known; saves encoding them again.

    Returns:
        The contents of `out_dir/history.json`: losses by step, validation by passes done ("epoch"), the best
        of these, mining counts, seconds.

    Raises:
        ContrastiveError: for fewer than two pairs, or if only some layers are to learn and the model does
            not hold its layers in one list.
        NonFiniteLossError: if the loss is NaN or infinite, after float16 also in float32.
    """
    if len(data.train) < 2:
        raise ContrastiveError(f"contrastive training needs at least 2 pairs, there are {len(data.train)}")
    return in_float32_after_overflow(
        lambda machine: _train(settings, data, machine, seed, out_dir, index), runtime
    )


def pairs_dataset(
    data: RetrievalData, negatives: Sequence[Sequence[str]], settings: TrackCSettings
) -> Dataset:
    """Return columns anchor, positive, negative_1 ... as `MultipleNegativesRankingLoss` takes them.

    The rows are `settings.epochs` passes over the pairs, one after another. Each pass takes the next
    wording of every query and its next hard `negatives` (ids by query, hardest first), and starts over when
    these run out.
    """
    text_of = {document.id: short_form(document.text) for document in data.documents}
    each = settings.hard_negatives if all(negatives) else 0
    columns: dict[str, list[str]] = {"anchor": [], "positive": []}
    columns |= {f"negative_{place + 1}": [] for place in range(each)}
    for number in range(settings.epochs):
        for query, ids in zip(data.train, negatives, strict=True):
            wordings = (query.text, *data.rewordings.get(query.id, ()))
            columns["anchor"].append(wordings[number % len(wordings)])
            columns["positive"].append(text_of[next(iter(query.relevant))])
            for place in range(each):
                columns[f"negative_{place + 1}"].append(text_of[ids[(number * each + place) % len(ids)]])
    return Dataset.from_dict(columns)


def freeze_lower_layers(model: SentenceTransformer, trained: int) -> None:
    """Freeze all but the `trained` topmost layers; 0, or as many as there are, trains the whole model.

    Frozen parts lose their dropout too, so that they give the same values at every step. A static embedder
    has a single layer. ContrastiveError is raised if a transformer does not hold its layers in one list.
    """
    if is_static(model):
        return
    encoder = model[0].auto_model
    count = encoder.config.num_hidden_layers
    if not 0 < trained < count:
        return
    lists = (module for module in encoder.modules() if isinstance(module, torch.nn.ModuleList))
    layers = next((module for module in lists if len(module) == count), None)
    if layers is None:
        raise ContrastiveError(
            f"no list of {count} layers in {type(encoder).__name__}: set track_c.trained_layers=0"
        )
    learning = layers[count - trained :]
    encoder.requires_grad_(False)
    learning.requires_grad_(True)
    for module in set(encoder.modules()) - set(learning.modules()):
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def _train(
    settings: TrackCSettings, data: RetrievalData, runtime: Runtime, seed: int, out_dir: Path,
    index: VectorIndex | None,
) -> dict[str, Any]:  # fmt: skip
    set_seed(seed)
    processes = PartialState(cpu=runtime.device.type == "cpu")
    model = load_embedder(settings.model, runtime)
    limit_tokens(model, settings.max_tokens)
    with stopwatch() as mining_took:
        negatives, mining = mine_hard_negatives(model, data, settings, runtime, index)
    # On a CPU, plain products are a tenth faster, forward and backward.
    if runtime.device.type == "cpu" and not is_static(model):
        model[0].auto_model.set_attn_implementation("eager")
    freeze_lower_layers(model, settings.trained_layers)
    dataset = pairs_dataset(data, negatives, settings)
    dataset = Dataset.from_dict({name: plain_texts(model, dataset[name]) for name in dataset.column_names})
    validation = ValidationMRR(data, settings, runtime, seed)
    untouched = validation(model)
    checkpoints = out_dir / "checkpoints"
    trainer = CountingTrainer(
        model=model,
        args=_arguments(settings, model, dataset, runtime, seed, checkpoints, bool(data.validation)),
        train_dataset=dataset,
        loss=MultipleNegativesRankingLoss(
            model, scale=settings.scale, similarity_fct=_cosine, gather_across_devices=world_size() > 1
        ),
        evaluator=validation if data.validation else None,
        callbacks=[_LoopCallback(min(settings.epochs, VALIDATIONS))],
    )
    trainer.remove_callback(PrinterCallback)  # it prints every loss; the history keeps them
    key = digest([settings, seed, len(dataset), str(runtime.autocast_dtype)])
    with processes.main_process_first():
        checkpoint = newest_whole_checkpoint(checkpoints, key)
    with stopwatch() as took:
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    if world_size() == 1:  # several processes take full batches only, and share them
        trainer.require_every_row(len(dataset), first_batch=step_of(checkpoint) if checkpoint else 0)
    history = _history(trainer, untouched, mining, dataset, settings.epochs)
    history |= {"mining_seconds": mining_took["seconds"], "training_seconds": took["seconds"]}
    if processes.is_main_process:
        save_embedder(trainer.model, out_dir / "embedder", settings, data, [seed])
        write_json(out_dir / "history.json", history)
        shutil.rmtree(checkpoints, ignore_errors=True)
    processes.wait_for_everyone()
    return history


def _arguments(
    settings: TrackCSettings, model: SentenceTransformer, dataset: Dataset, runtime: Runtime, seed: int,
    folder: Path, validated: bool,
) -> SentenceTransformerTrainingArguments:  # fmt: skip
    steps = math.ceil(len(dataset) / settings.batch_pairs)  # about: rows that contradict need more
    kinds = {name: "query" if name == "anchor" else "document" for name in dataset.column_names}
    prompts = {name: model.prompts[kind] for name, kind in kinds.items()}
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,  # the data set holds every pass
        per_device_train_batch_size=settings.batch_pairs,
        accelerator_config={"split_batches": True},  # each process takes its part of a batch
        dataloader_drop_last=world_size() > 1,  # several processes can share full batches only
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup_fraction * steps),
        lr_scheduler_type="linear",
        prompts=prompts if any(prompts.values()) else None,
        bf16=runtime.autocast_dtype is torch.bfloat16,
        fp16=runtime.autocast_dtype is torch.float16,
        use_cpu=runtime.device.type == "cpu",
        seed=seed,
        data_seed=seed,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would replace a NaN by the mean of the other losses
        save_strategy="epoch",
        eval_strategy="epoch" if validated else "no",
        load_best_model_at_end=validated,
        metric_for_best_model=f"eval_{_VALIDATION_METRIC}" if validated else None,
        greater_is_better=True if validated else None,
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _cosine(queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    """Return cosines in float32: at a scale of 50, rounding to bfloat16 would move logits by 0.2."""
    with torch.autocast(queries.device.type, enabled=False):
        return util.cos_sim(queries.float(), documents.float())


class ValidationMRR(SentenceEvaluator):
    """MRR@10 of the validation queries over their answers and a fixed draw of other documents."""

    def __init__(self, data: RetrievalData, settings: TrackCSettings, runtime: Runtime, seed: int) -> None:
        super().__init__()
        self.primary_metric = _VALIDATION_METRIC
        self.queries: Sequence[Query] = data.validation
        self.runtime = runtime
        self.sizes = {"batch_size": settings.encode_batch, "max_tokens": settings.max_tokens}
        answers = {i for query in data.validation for i in query.relevant}
        allowed = set(data.train_documents) - answers
        others = [document for document in data.documents if document.id in allowed]
        rows = np.random.default_rng(seed).permutation(len(others))[:VALIDATION_DISTRACTORS]
        self.documents: list[Document] = [d for d in data.documents if d.id in answers]
        self.documents += [others[row] for row in sorted(rows)]

    def __call__(
        self, model: SentenceTransformer, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Measure `model`; the trainer passes the other arguments, which are ignored."""
        return_freed_memory()  # training and encoding ask for other sizes: each would add to the other's
        value = self.value(model)
        return_freed_memory()
        return {} if value is None else {_VALIDATION_METRIC: value}

    def value(self, model: SentenceTransformer) -> float | None:
        """Return the MRR@10 of `model`; None without validation queries."""
        if not self.queries:
            return None
        with this_rank_only():  # the trainer calls this on the first rank only
            index = index_documents(model, self.documents, self.runtime, **self.sizes)
            run = retrieve(model, self.queries, index, self.runtime, **self.sizes)
        return mean_scores(score_run(run, qrels_of(self.queries), VALIDATION_K))[f"mrr@{VALIDATION_K}"]


class _LoopCallback(TrainerCallback):
    """Shows progress, spaces `validations` evenly, and stops at the first NaN."""

    def __init__(self, validations: int) -> None:
        self.validations = validations

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        self.schedule = SaveSchedule(math.ceil(state.max_steps / self.validations), state.max_steps)
        self.bar = bar("tune embedder", total=state.max_steps, unit="step")
        self.bar.update(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        self.bar.update(1)
        # After the last step, the strategy "epoch" saves and validates by itself.
        if self.schedule.is_due(state.global_step) and state.global_step < state.max_steps:
            control.should_save = True
            control.should_evaluate = args.eval_strategy != "no"

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, Any] | None = None, **others: Any,
    ) -> None:  # fmt: skip
        require_finite((logs or {}).get("loss", 0.0), "loss", state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        self.bar.close()


def _history(
    trainer: CountingTrainer, untouched: dict[str, float], mining: dict[str, int],
    dataset: Dataset, passes: int,
) -> dict[str, Any]:  # fmt: skip
    log = trainer.state.log_history
    key = f"eval_{_VALIDATION_METRIC}"
    epochs = [{"epoch": round(row["epoch"] * passes, 3), "mrr@10": row[key]} for row in log if key in row]
    best = max(epochs, key=lambda row: row["mrr@10"], default=None)
    return {
        "pairs": len(dataset) // passes,
        "columns": list(dataset.column_names),
        "steps": trainer.state.global_step,
        "loss": [{"step": row["step"], "loss": row["loss"]} for row in log if "loss" in row],
        "validation_before": untouched.get(_VALIDATION_METRIC),
        "validation": epochs,
        "best_epoch": best["epoch"] if best else None,
        "mining": mining,
    }


def save_embedder(
    model: SentenceTransformer, folder: Path, settings: TrackCSettings, data: RetrievalData,
    seeds: Sequence[int],
) -> None:  # fmt: skip
    """Write a tuned model and its card to `folder`, which is never half written."""
    with written_whole(folder) as partial:
        model.save_pretrained(str(partial), create_model_card=False)
        write_text(partial / "README.md", _card(settings, data, seeds))


def _card(settings: TrackCSettings, data: RetrievalData, seeds: Sequence[int]) -> str:
    mean = f", averaged over the weights of {len(seeds)} such trainings" if len(seeds) > 1 else ""
    part = f"the {settings.trained_layers} topmost layers" if settings.trained_layers else "the whole model"
    return (
        "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n---\n\n"
        "# Code search embedder\n\n"
        f"{settings.model}, tuned on {len(data.train)} pairs. A pair is a docstring query and its function's "
        "name, module path, first line and words. Negatives are the batch's other functions and "
        f"{settings.hard_negatives} mined ones per pair. Training made {settings.epochs} passes, each with "
        f"other wordings, over {part}: batches of {settings.batch_pairs}, learning rate "
        f"{settings.learning_rate}, scale {settings.scale}, at most {settings.max_tokens} tokens, "
        f"seed {', '.join(map(str, seeds))}{mean}.\n\n"
        'Load it with `SentenceTransformer(folder)`. Encode queries with `prompt_name="query"`, code '
        'with `prompt_name="document"`.\n'
    )
