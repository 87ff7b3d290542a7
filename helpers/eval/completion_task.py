"""Put together what completion is measured on, measure it with a run's models, and keep the results.

The notebook's stage and `python -m helpers completion` both call `measure_completion`.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from helpers.data.completion_items import completion_items
from helpers.data.splits import files_of
from helpers.errors import InsufficientDataError
from helpers.eval.completion_arms import CompletionResult, CompletionTask, Search, run_arms
from helpers.eval.completion_comparison import CHAT, TUNED_CHAT
from helpers.eval.completion_context import training_functions
from helpers.eval.completion_results import completion_figures, write_completion
from helpers.eval.retrieval import load_index, retrieve
from helpers.eval.token_roles import own_names
from helpers.machine.hardware import Runtime
from helpers.models.causal_lm import load_adapted, load_causal_lm
from helpers.models.embedder import load_embedder
from helpers.records import Corpus, Function, SourceFile, Splits
from helpers.run.workspace import read_json, to_plain
from helpers.settings import LEAST_PLACES, Profile

VALIDATION_PLACES = 45  # on which the retriever is chosen, at most
SIDES = {"before": "track_c/index_before", "after": "track_c/index_after"}
EMBEDDER = "track_c/train/embedder"
ADAPTER = "track_a/train/adapter"
CHAT_ADAPTER = "track_b/train/adapter"


def completion_task(
    corpus: Corpus,
    functions: Sequence[Function],
    splits: Splits,
    training: Sequence[SourceFile],
    profile: Profile,
    *,
    count: int,
) -> CompletionTask:
    """Draw places in all files of the test split, and collect what may be retrieved for them.

    Args:
        training: the files that the model is adapted on; nothing else is retrieved.
        count: places at most; fewer if the files have no more.

    Raises:
        InsufficientDataError: if the held-out files have almost no places.
    """
    test, validation = files_of(corpus, splits, "test"), files_of(corpus, splits, "validation")
    passed_over: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for function in functions:
        if function.id in splits.excluded_functions:
            passed_over[function.path].append((function.start_line, function.end_line))
    names = own_names(dataclasses.replace(function, parameters=()) for function in functions)
    drawn = {
        side: completion_items(
            files, training, count=most, seed=profile.seed, own_names=names, passed_over=passed_over
        )
        for side, files, most in (
            ("test", test, count), ("validation", validation, min(count, VALIDATION_PLACES)),
        )
    }  # fmt: skip
    if len(drawn["test"]) < LEAST_PLACES:
        raise InsufficientDataError(
            f"the held-out files have {len(drawn['test'])} places for completions of at least "
            f"{LEAST_PLACES}; use a larger corpus"
        )
    held_out = {file.path: file.text for file in (*test, *validation)}
    code = training_functions(
        functions, {file.path for file in training}, held_out, profile.corpus.near_duplicate_threshold
    )
    return CompletionTask(
        drawn["test"], drawn["validation"], held_out, training, code, corpus.name, profile.track_a.window,
        batch_size=profile.track_b.generation_batch,
    )  # fmt: skip


def measure_completion(
    task: CompletionTask, profile: Profile, run_folder: Path, runtime: Runtime, out: Path
) -> dict[str, Any]:
    """Measure every arm with the models of a run, and write places, completions and figures into `out`.

    Args:
        task: from `completion_task`, with the searches by embedder that the run has.
        run_folder: holds Track A's adapter.

    Returns:
        The content of `completion.json` (`completion_facts`).
    """
    model = profile.track_a.model
    result = run_arms(
        task,
        lambda: load_causal_lm(model, runtime),
        lambda: load_adapted(model, run_folder / ADAPTER, runtime),
        runtime,
        _chat_models(profile, run_folder, runtime) if profile.completion.chat else {},
    )
    took = float(read_json((run_folder / ADAPTER).parent / "stage.json")["seconds"])
    options = {"samples": profile.track_a.bootstrap_samples, "seed": profile.seed}
    facts = completion_facts(task, result, **options, training_seconds=took)
    write_completion(out, task.items, result.scores, facts)
    return facts


def embedder_searches(run_folder: Path, profile: Profile, runtime: Runtime) -> dict[str, Search]:
    """Return a search by Track C's embedder before and after its training, for each that a run holds."""
    settings = profile.track_c
    encoding = {"batch_size": settings.encode_batch, "max_tokens": settings.max_tokens}
    specs = {"before": settings.model, "after": str(run_folder / EMBEDDER)}

    def search(side: str) -> Search:
        def by_embedder(queries: Sequence[Any]) -> dict[str, dict[str, float]]:
            model = load_embedder(specs[side], runtime)
            return retrieve(model, queries, load_index(run_folder / SIDES[side]), runtime, **encoding)

        return by_embedder

    there = [side for side, place in SIDES.items() if (run_folder / place).is_dir()]
    return {
        f"embedder_{side}": search(side)
        for side in there
        if side == "before" or (run_folder / EMBEDDER).is_dir()
    }


def _chat_models(profile: Profile, run_folder: Path, runtime: Runtime) -> dict[str, Callable[[], Any]]:
    """Return how to load Track B's model before and after its training; of both tracks' base, only after.

    Raises:
        InsufficientDataError: if the run holds no adapter of Track B.
    """
    model, adapter = profile.track_b.model, run_folder / CHAT_ADAPTER
    if not adapter.is_dir():
        raise InsufficientDataError(f"{run_folder} holds no chat model to try ({CHAT_ADAPTER})")
    models: dict[str, Callable[[], Any]] = {}
    if model != profile.track_a.model:
        models[CHAT] = lambda: load_causal_lm(model, runtime)
    models[TUNED_CHAT] = lambda: load_adapted(model, adapter, runtime)
    return models


def completion_facts(
    task: CompletionTask, result: CompletionResult, *, samples: int, seed: int, training_seconds: float
) -> dict[str, Any]:
    """Return every figure of a comparison as plain values, with the arm to use and the answer in words.

    Args:
        samples, seed: of the bootstrap.
        training_seconds: that adapting the model took.
    """
    return {
        "repository": task.repository,
        "window": task.window,
        "context": to_plain(result.context),
        "seconds_per_completion": dict(result.seconds),
        "training_seconds": training_seconds,
        **completion_figures(task.items, result.scores, samples=samples, seed=seed),
    }
