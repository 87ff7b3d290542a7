"""Train one recipe on titles under the challenge's rules, and score it.

`run_recipe` loads the titles, trains the tokenizer on their training part, builds the model, trains
for seven epochs and scores the validation part with the frozen metric. The rules are checked before
and after training (`helpers.fixed_budget.rules`). Each run has its own folder with its log; a killed
run resumes along the loss curve that it would have had.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import datetime
import functools
import inspect
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from helpers.fixed_budget import frozen_metric, title_loss, title_model, title_stream
from helpers.fixed_budget import rules as budget_rules
from helpers.fixed_budget import titles as title_sets
from helpers.fixed_budget import tokenizer as title_tokenizer
from helpers.fixed_budget.frozen_metric import BudgetScore
from helpers.fixed_budget.recipes import Recipe, RecipeError, Scale
from helpers.fixed_budget.results import RESULT, BudgetRun, read_run, run_name, runs_folder
from helpers.fixed_budget.rules import SEED
from helpers.fixed_budget.title_loss import summed_title_loss
from helpers.fixed_budget.title_model import TitleLM
from helpers.fixed_budget.title_stream import TitleStream
from helpers.fixed_budget.tokenizer import TitleTokenizer
from helpers.machine.hardware import Runtime, can_compile, hardware_facts, package_versions
from helpers.run.folder import code_revision
from helpers.run.workspace import Workspace, digest, read_json, to_plain, write_json
from helpers.train import from_scratch
from helpers.train.from_scratch import (
    Evaluation,
    PretrainingResult,
    PretrainingSettings,
    Schedule,
    train_from_scratch,
)
from helpers.train.step_log import read_log

SAMPLES, SAMPLE_TOKENS, SAMPLE_TEMPERATURE = 6, 32, 0.8
CHECKPOINT_PAUSE_S = 10.0
COMPILED_ON_GPU = 2_000  # steps from which compiling pays on a GPU: it costs about a thousand steps


@dataclass(frozen=True)
class ComparisonSettings:
    """What the runs of one comparison share."""

    data: str  # `hn`, `file:PATH` or `docstrings`
    scale: Scale
    out: Path  # a run's folder is `out/<data>-<scale>/<recipe>-<seed>`
    resume: bool = False  # keep finished runs and resume interrupted ones; otherwise start over
    known_data: dict[str, str] | None = None  # spec -> digest that the titles must have
    side_by_side: int = 1  # how many runs share the machine; recorded with the result


@dataclass(frozen=True)
class _Job:
    """One run whose settings and text have passed the rules."""

    recipe: Recipe  # at its scale
    titles: title_sets.TitleSet
    split: title_sets.TitleSplit
    scale: Scale
    seed: int
    spread: bool
    runtime: Runtime  # in the recipe's precision
    side_by_side: int


def run_recipe(
    recipe: Recipe, shared: ComparisonSettings, runtime: Runtime, *, seed: int = SEED, spread: bool = False
) -> BudgetRun:
    """Train and score `recipe`; when resuming, return an identical finished run instead.

    Args:
        recipe: at full scale; the scale of `shared` is applied here.
        seed: of the weights and the training.
        spread: allow another seed, and mark the run; see `rules.check_settings`.

    Raises:
        RuleBroken: before or after training, naming the rule.
        TitleSetError: if the data cannot be loaded.
        RecipeError: if the scale leaves too few titles for one step.
    """
    scale = shared.scale
    recipe = scale.applied(recipe)
    budget_rules.check_settings(recipe, seed=seed, spread=spread)
    budget_rules.check_metric()
    titles = title_sets.load_titles(shared.data, seed=SEED, limit=scale.titles)
    split = title_sets.split_titles(titles, recipe.validation_fraction)
    budget_rules.check_text(shared.data, titles, split, scale, shared.known_data)
    precision = _precision(recipe, runtime)
    job = _Job(recipe, titles, split, scale, seed, spread, precision, shared.side_by_side)
    folder = runs_folder(shared.out, titles.spec, scale)
    name = run_name(recipe.name, seed)
    if not shared.resume:
        for left in (folder / name, folder / f"{name}.partial"):
            shutil.rmtree(left, ignore_errors=True)
    versions = package_versions()
    key = [recipe, titles.sha256, scale, seed, str(precision.autocast_dtype), versions, _code_digest()]
    stage = Workspace(folder).stage(name, key, lambda at: _train_and_score(job, at))
    return read_run(read_json(stage / RESULT))


def _train_and_score(job: _Job, folder: Path) -> None:
    """Train, check what ran against the rules, score, and write the result into `folder`."""
    recipe, split, device = job.recipe, job.split, job.runtime.device
    tokenizer = title_tokenizer.train_tokenizer(recipe.tokenizer, recipe.vocabulary, split.train)
    budget_rules.check_tokenizer(tokenizer, split)
    separator_id = tokenizer.separator_id
    stream = TitleStream(tokenizer.encode(split.train), recipe, separator_id, job.seed)
    validation = torch.cat(tokenizer.encode(split.validation))
    n_characters = len(title_sets.joined(split.validation))  # of the text before any tokenizer
    shape = {"separator_id": separator_id, "batch": recipe.batch, "block": recipe.block, "device": device}
    if stream.steps < 1 or len(validation) <= stream.tokens_per_step:
        raise RecipeError(
            f"{len(job.titles.titles)} titles are too few for batches of {stream.tokens_per_step} tokens: "
            "the validation part must fill one batch; use more titles"
        )
    model = title_model.build_title_lm(
        recipe.model, tokenizer.vocabulary, recipe.block, separator_id, job.seed
    )

    def full_loss(candidate: TitleLM) -> dict[str, float]:
        with _as_scored():
            nats = frozen_metric.full_sum(candidate, validation, **shape)
        return {"full_nats_per_character": nats / n_characters}

    trained = _train(job, model, stream, full_loss, folder)
    budget_rules.check_passes(trained.tokens, stream.train_tokens)
    budget_rules.check_metric()
    with _as_scored():
        budget_rules.check_blindness(
            lambda ids: model(ids.to(device)), validation, block=recipe.block, separator_id=separator_id
        )
        score = frozen_metric.evaluate(
            model, validation, n_characters=n_characters, n_titles=len(split.validation),
            separator=title_sets.SEPARATOR, **shape,
        )  # fmt: skip
        samples = _sample(model, tokenizer, recipe.block, job.seed, device)
    run = _record(job, trained, score, folder, parameters=model.n_parameters,
                  vocabulary=tokenizer.vocabulary, samples=tuple(samples))  # fmt: skip
    write_json(folder / RESULT, run)
    (folder / from_scratch.CHECKPOINT).unlink(missing_ok=True)


def _train(
    job: _Job, model: TitleLM, stream: TitleStream, evaluate: Evaluation, folder: Path
) -> PretrainingResult:
    """Train `model` in place with the recipe's schedule; log and checkpoints go to `folder`."""
    recipe, runtime = job.recipe, job.runtime
    compiled = recipe.compiled and can_compile(runtime.device)
    if compiled and runtime.device.type == "cpu":  # where compiled attention beats the fused kernel
        for member in model.members:
            member.set_attn_implementation("eager")
    settings = PretrainingSettings(
        schedule=Schedule(
            recipe.schedule,
            steps=stream.steps,
            warmup=round(recipe.warmup * stream.steps),
            decay=round(recipe.decay * stream.steps),
        ),
        optimizer=recipe.optimizer,
        seed=job.seed,
        evaluate_every=max(1, stream.steps // recipe.epochs),
        checkpoint_every=max(1, stream.steps // 40),
        checkpoint_pause_s=CHECKPOINT_PAUSE_S,
        compile=compiled and (runtime.device.type == "cpu" or stream.steps >= COMPILED_ON_GPU),
        label=f"{recipe.name}, seed {job.seed}",
    )
    loss = functools.partial(summed_title_loss, r_drop=recipe.r_drop, compiled=compiled)
    return train_from_scratch(
        model, stream, settings, runtime, folder, evaluate=evaluate, loss_function=loss,
        after_step=model.after_step,
    )  # fmt: skip


def _record(
    job: _Job, trained: PretrainingResult, score: BudgetScore, folder: Path, **facts: Any
) -> BudgetRun:
    """Put together what is recorded of a run; `facts` are further fields of `BudgetRun`."""
    titles, split = job.titles, job.split
    return BudgetRun(
        name=job.recipe.name,
        data={
            "spec": titles.spec,
            "sha256": titles.sha256,
            "titles": len(titles.titles),
            "training_titles": len(split.train),
            "validation_titles": len(split.validation),
            "repeated_titles": split.repeated,
        },
        scale=job.scale.name,
        seed=job.seed,
        spread=job.spread,
        is_challenge=titles.spec == "hn" and job.scale.name == "full" and job.seed == SEED,
        score=score,
        curve=tuple(
            (row["step"], row["tokens"], row["evaluation"]["full_nats_per_character"])
            for row in read_log(folder)
            if "evaluation" in row
        ),
        steps=trained.steps,
        tokens=trained.tokens,
        seconds=trained.seconds,
        tokens_per_second=round(trained.tokens_per_second, 1),
        peak_memory_gib=trained.peak_memory_gib,
        precision=str(job.runtime.autocast_dtype or torch.float32).removeprefix("torch."),
        hardware=hardware_facts(job.runtime),
        versions=package_versions(),
        commit=code_revision(),
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        recipe=to_plain(job.recipe),
        side_by_side=job.side_by_side,
        **facts,
    )


@torch.inference_mode()
def _sample(
    model: TitleLM, tokenizer: TitleTokenizer, block: int, seed: int, device: torch.device
) -> list[str]:
    """Sample titles from the model, each starting after a separator, to show what it has learned."""
    generator = torch.Generator(device).manual_seed(seed)
    ids = torch.full((SAMPLES, 1), tokenizer.separator_id, device=device)
    for _ in range(min(SAMPLE_TOKENS, block - 1)):
        probabilities = (model(ids)[:, -1].float() / SAMPLE_TEMPERATURE).softmax(-1)
        ids = torch.cat([ids, torch.multinomial(probabilities, 1, generator=generator)], 1)
    titles = []
    for row in ids[:, 1:].tolist():
        end = row.index(tokenizer.separator_id) if tokenizer.separator_id in row else len(row)
        titles.append(tokenizer.decode(torch.tensor([*row[:end], tokenizer.separator_id])))
    return titles


@contextlib.contextmanager
def _as_scored() -> Iterator[None]:
    """Score every model alike: float32 products without TF32 rounding, nothing compiled."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _precision(recipe: Recipe, runtime: Runtime) -> Runtime:
    """Return the runtime in the recipe's precision, never float16, which would need a loss scaler."""
    autocast = runtime.autocast_dtype if recipe.mixed_precision else None
    if autocast == torch.float16:
        autocast = None
    # Tensor cores may round float32 products (TF32) only if the recipe allows rounding at all.
    torch.set_float32_matmul_precision("high" if recipe.mixed_precision else "highest")
    return dataclasses.replace(runtime, weight_dtype=torch.float32, autocast_dtype=autocast)


def _code_digest() -> str:
    """Hash the modules that decide a figure, without comments and formatting, to tell runs apart."""
    parts = (title_sets, title_tokenizer, title_stream, title_loss, frozen_metric, title_model, from_scratch)
    return digest([ast.unparse(ast.parse(inspect.getsource(module))) for module in parts])
