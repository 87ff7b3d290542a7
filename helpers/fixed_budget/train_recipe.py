"""The fixed-budget lab: train one recipe on titles under the challenge's rules and score it.

`run_recipe` loads the titles, trains the tokenizer on their training part, builds the model, trains
for seven passes and scores the validation part with the frozen metric; the rules are checked before
and after (`helpers.fixed_budget.rules`). A run lies in a folder of its own with its log, and goes on
after a kill along the loss curve that it would have had.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import datetime
import inspect
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from helpers.errors import SuiteError
from helpers.fixed_budget import metric
from helpers.fixed_budget import model as title_lm
from helpers.fixed_budget import objective as title_objective
from helpers.fixed_budget import rules as budget_rules
from helpers.fixed_budget import stream as title_stream
from helpers.fixed_budget import titles as title_sets
from helpers.fixed_budget import tokenizer as title_tokenizer
from helpers.fixed_budget.objective import objective
from helpers.fixed_budget.recipes import RECIPES, SCALES, Recipe, Scale
from helpers.fixed_budget.rules import SEED
from helpers.fixed_budget.stream import TitleStream
from helpers.machine.hardware import Runtime, can_compile, hardware_facts, package_versions
from helpers.run.folder import code_revision
from helpers.run.workspace import Workspace, digest, read_json, to_plain, write_json
from helpers.train import from_scratch as pretraining
from helpers.train.from_scratch import PretrainingSettings, Schedule, pretrain, read_log

SAMPLES, SAMPLE_TOKENS, SAMPLE_TEMPERATURE = 6, 32, 0.8
CHECKPOINT_PAUSE_S = 10.0
COMPILED_ON_GPU = 2_000  # steps from which on it pays there: compiling takes as long as about a thousand


class RecipeError(SuiteError, ValueError):
    """A recipe or scale that does not exist, or titles too few for it."""


@dataclass(frozen=True)
class BudgetRun:
    """One finished run: what it was, what it scored, what it cost."""

    name: str
    data: dict[str, str | int]  # spec, sha256, titles, training, validation, repeated titles
    scale: str
    seed: int
    spread: bool
    is_challenge: bool  # the challenge's data, at full scale, under its seed
    score: metric.BudgetScore
    curve: tuple[tuple[int, float, float], ...]  # step, training tokens seen, full nats per character
    parameters: int
    vocabulary: int
    steps: int
    tokens: int  # targets trained on
    seconds: float  # training alone
    tokens_per_second: float
    peak_memory_gib: float
    precision: str
    hardware: dict[str, str | int | float]
    versions: dict[str, str]
    commit: str
    finished: str  # UTC, ISO 8601
    samples: tuple[str, ...]
    recipe: dict
    side_by_side: int = 1  # runs that shared the machine; with more than one, seconds tell little


def find_recipe(name: str) -> Recipe:
    """The recipe of that name; RecipeError with the names that there are."""
    if name not in RECIPES:
        raise RecipeError(f"no recipe {name!r} for titles; there are {', '.join(RECIPES)}")
    return RECIPES[name]


def find_scale(name: str) -> Scale:
    """The scale of that name; RecipeError with the names that there are."""
    if name not in SCALES:
        raise RecipeError(f"no scale {name!r}; there are {', '.join(SCALES)}")
    return SCALES[name]


def run_recipe(
    recipe: Recipe,
    data: str,
    *,
    scale: Scale,
    out: Path,
    runtime: Runtime,
    seed: int = SEED,
    spread: bool = False,
    resume: bool = False,
    known_data: dict[str, str] | None = None,
    side_by_side: int = 1,
) -> BudgetRun:
    """Train and score `recipe`, or return the finished run of the same everything where `resume`.

    Args:
        recipe: at full scale; `scale` is applied here.
        data: `hn`, `file:PATH` or `docstrings`.
        out: the run's folder is `out/<data>-<scale>/<recipe>-<seed>`.
        spread: allow another seed, and mark the run; see `budget_rules.check_settings`.
        resume: keep a finished run, go on with an interrupted one; otherwise begin anew.
        known_data: digests of the data that this run must agree with (`budget_rules.check_text`).
        side_by_side: how many runs share the machine at the time; told in the result.

    Raises:
        RuleBroken: before or after training, naming the rule.
        TitleSetError: for data that cannot be loaded.
        RecipeError: if the scale leaves too few titles for one step.
    """
    recipe = scale.applied(recipe)
    budget_rules.check_settings(recipe, seed=seed, spread=spread)
    budget_rules.check_metric()
    titles = title_sets.load_titles(data, seed=SEED, limit=scale.titles)
    split = title_sets.split_titles(titles, recipe.validation_fraction)
    budget_rules.check_text(data, titles, split, scale, known_data)
    precision = _precision(recipe, runtime)
    folder = runs_folder(out, titles.spec, scale)
    name = f"{_slug(recipe.name)}-{seed}"
    if not resume:
        for left in (folder / name, folder / f"{name}.partial"):
            shutil.rmtree(left, ignore_errors=True)
    versions = package_versions()
    key = [recipe, titles.sha256, scale, seed, str(precision.autocast_dtype), versions, _code_digest()]
    stage = Workspace(folder, folder.name).stage(
        name,
        key,
        lambda place: _run(recipe, titles, split, scale, seed, spread, precision, side_by_side, place),
    )
    return read_run(read_json(stage / "result.json"))


def runs_folder(out: Path, spec: str, scale: Scale) -> Path:
    """Where the runs on these titles at this scale lie."""
    return out / f"{_slug(spec)}-{scale.name}"


def read_run(fields: dict) -> BudgetRun:
    """A run from its JSON: a finished run's `result.json`, or a part of the lab's report."""
    curve = tuple(tuple(point) for point in fields["curve"])
    score, samples = metric.BudgetScore(**fields["score"]), tuple(fields["samples"])
    return BudgetRun(**fields | {"score": score, "curve": curve, "samples": samples})


def _run(
    recipe: Recipe, titles: title_sets.TitleSet, split: title_sets.TitleSplit, scale: Scale, seed: int,
    spread: bool, runtime: Runtime, side_by_side: int, place: Path,
) -> None:  # fmt: skip
    tokenizer = title_tokenizer.train_tokenizer(recipe.tokenizer, recipe.vocabulary, split.train)
    budget_rules.check_tokenizer(tokenizer, split)
    separator = tokenizer.separator_id
    stream = TitleStream(tokenizer.encode(split.train), recipe, separator, seed)
    validation = torch.cat(tokenizer.encode(split.validation))
    text = title_sets.joined(split.validation)  # the denominator: before any tokenizer
    if stream.steps < 1 or len(validation) <= stream.tokens_per_step:
        raise RecipeError(
            f"{len(titles.titles)} titles are too few for batches of {stream.tokens_per_step} tokens: "
            "their validation part must fill one; give more titles"
        )
    model = title_lm.build(recipe.model, tokenizer.vocabulary, recipe.block, separator, seed)
    compiled = recipe.compiled and can_compile(runtime.device)
    if compiled and runtime.device.type == "cpu":  # there the compiler's own attention is the faster one
        for member in model.members:
            member.set_attn_implementation("eager")
    shape = {"batch": recipe.batch, "block": recipe.block, "device": runtime.device}

    def validate(trained: title_lm.TitleLM) -> dict[str, float]:
        with _as_scored():
            nats = metric.full_sum(trained, validation, separator_id=separator, **shape)
        return {"full_nats_per_character": nats / len(text)}

    result = pretrain(
        model,
        stream,
        PretrainingSettings(
            schedule=Schedule(
                recipe.schedule,
                steps=stream.steps,
                warmup=round(recipe.warmup * stream.steps),
                decay=round(recipe.decay * stream.steps),
            ),
            optimizer=recipe.optimizer,
            seed=seed,
            evaluate_every=max(1, stream.steps // recipe.epochs),
            checkpoint_every=max(1, stream.steps // 40),
            checkpoint_pause_s=CHECKPOINT_PAUSE_S,
            compile=compiled and (runtime.device.type == "cpu" or stream.steps >= COMPILED_ON_GPU),
        ),
        runtime,
        place,
        evaluate=validate,
        loss_function=lambda some, batch: objective(some, batch, r_drop=recipe.r_drop, compiled=compiled),
        after_step=model.after_step,
        what=f"{recipe.name}, seed {seed}",
    )
    budget_rules.check_passes(result.tokens, stream.train_tokens)
    budget_rules.check_metric()
    with _as_scored():
        budget_rules.check_blindness(
            lambda ids: model(ids.to(runtime.device)), validation, block=recipe.block, separator_id=separator
        )
        score = metric.evaluate(
            model, validation, n_characters=len(text), n_titles=len(split.validation),
            separator=title_sets.SEPARATOR, separator_id=separator, **shape,
        )  # fmt: skip
        samples = _sample(model, tokenizer, recipe.block, seed, runtime.device)
    challenge = titles.spec == "hn" and scale.name == "full" and seed == SEED
    run = BudgetRun(
        name=recipe.name,
        data={
            "spec": titles.spec,
            "sha256": titles.sha256,
            "titles": len(titles.titles),
            "training_titles": len(split.train),
            "validation_titles": len(split.validation),
            "repeated_titles": split.repeated,
        },
        scale=scale.name,
        seed=seed,
        spread=spread,
        is_challenge=challenge,
        score=score,
        curve=tuple(
            (row["step"], row["tokens"], row["evaluation"]["full_nats_per_character"])
            for row in read_log(place)
            if "evaluation" in row
        ),
        parameters=model.n_parameters,
        vocabulary=tokenizer.vocabulary,
        steps=result.steps,
        tokens=result.tokens,
        seconds=result.seconds,
        tokens_per_second=round(result.tokens_per_second, 1),
        peak_memory_gib=result.peak_memory_gib,
        precision=str(runtime.autocast_dtype or torch.float32).removeprefix("torch."),
        hardware=hardware_facts(runtime),
        versions=package_versions(),
        commit=code_revision(),
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        samples=tuple(samples),
        recipe=to_plain(recipe),
        side_by_side=side_by_side,
    )
    write_json(place / "result.json", run)
    (place / pretraining.CHECKPOINT).unlink(missing_ok=True)


@torch.inference_mode()
def _sample(
    model: title_lm.TitleLM, tokenizer: title_tokenizer.TitleTokenizer, block: int, seed: int,
    device: torch.device,
) -> list[str]:  # fmt: skip
    """Titles drawn from the model, each begun by a separator: what it has learned, to look at."""
    chance = torch.Generator(device).manual_seed(seed)
    ids = torch.full((SAMPLES, 1), tokenizer.separator_id, device=device)
    for _ in range(min(SAMPLE_TOKENS, block - 1)):
        shares = (model(ids)[:, -1].float() / SAMPLE_TEMPERATURE).softmax(-1)
        ids = torch.cat([ids, torch.multinomial(shares, 1, generator=chance)], 1)
    titles = []
    for row in ids[:, 1:].tolist():
        end = row.index(tokenizer.separator_id) if tokenizer.separator_id in row else len(row)
        titles.append(tokenizer.decode(torch.tensor([*row[:end], tokenizer.separator_id])))
    return titles


@contextlib.contextmanager
def _as_scored() -> Iterator[None]:
    """Float32 products without rounding to TF32, and no compiled forms: every model is scored alike."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _precision(recipe: Recipe, runtime: Runtime) -> Runtime:
    """The runtime in the recipe's precision. float16 is not used: it would need a loss scaler."""
    autocast = runtime.autocast_dtype if recipe.mixed_precision else None
    if autocast == torch.float16:
        autocast = None
    # Tensor cores may round float32 products (TF32) only where the recipe allows rounding at all.
    torch.set_float32_matmul_precision("high" if recipe.mixed_precision else "highest")
    return dataclasses.replace(runtime, weight_dtype=torch.float32, autocast_dtype=autocast)


def _code_digest() -> str:
    """Of the modules that decide a figure, comments and formatting aside: other code, another run."""
    modules = (title_sets, title_tokenizer, title_stream, title_objective, metric, title_lm, pretraining)
    return digest([ast.unparse(ast.parse(inspect.getsource(module))) for module in modules])


def _slug(text: str) -> str:
    """A folder name: letters and digits, anything else as a hyphen."""
    return "-".join("".join(c if c.isalnum() else " " for c in text).lower().split())
