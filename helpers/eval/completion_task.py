"""Put together what completion is measured on, and the form in which its results are kept."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.data.completion_items import completion_items
from helpers.data.splits import files_of
from helpers.errors import InsufficientDataError
from helpers.eval.completion_arms import CompletionResult, CompletionTask, Search
from helpers.eval.completion_comparison import answer_in_words, arm_to_use, compare_arms
from helpers.eval.completion_context import training_functions
from helpers.eval.completion_scores import group_of
from helpers.eval.retrieval import load_index, retrieve
from helpers.eval.token_roles import own_names
from helpers.machine.hardware import Runtime
from helpers.models.embedder import load_embedder
from helpers.records import Corpus, Function, SourceFile, Splits
from helpers.run.workspace import to_plain, write_json, write_jsonl
from helpers.settings import Profile

VALIDATION_PLACES = 45  # on which the retriever is chosen
LEAST_PLACES = 6  # of all kinds together, with which something can be said at all
SIDES = {"before": "track_c/index_before", "after": "track_c/index_after"}
EMBEDDER = "track_c/train/embedder"


def completion_task(
    corpus: Corpus,
    functions: Sequence[Function],
    splits: Splits,
    training: Sequence[SourceFile],
    profile: Profile,
    *,
    count: int,
    searches: Mapping[str, Search] | None = None,
) -> CompletionTask:
    """Draw places in all files of the test split, and collect what may be retrieved for them.

    Args:
        training: the files that the model was adapted on; nothing else is retrieved.
        count: places at most; fewer if the files have no more.
        searches: retrievers beside BM25.

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
        for side, files, most in (("test", test, count), ("validation", validation, VALIDATION_PLACES))
    }
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
        searches=searches or {},
    )  # fmt: skip


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


def completion_facts(
    task: CompletionTask, result: CompletionResult, *, samples: int, seed: int, training_seconds: float
) -> dict[str, Any]:
    """Return every figure of a comparison as plain values, with the arm to use and the answer in words.

    Args:
        samples, seed: of the bootstrap.
        training_seconds: that adapting the model took.
    """
    compared = to_plain(compare_arms(result.scores, samples=samples, seed=seed))
    return {
        "places": {
            "all": len(task.items),
            "files": len({item.path for item in task.items}),
            "kinds": dict(Counter(item.kind for item in task.items)),
            "groups": dict(Counter(map(group_of, task.items))),
            "languages": dict(Counter(item.language for item in task.items)),
        },
        "window": task.window,
        "context": to_plain(result.context),
        "seconds_per_completion": dict(result.seconds),
        "training_seconds": training_seconds,
        **compared,
        "arm_to_use": arm_to_use(compared["differences"]),
        "answer": answer_in_words(compared, result.seconds, training_seconds),
    }


def write_completion(
    folder: Path, task: CompletionTask, result: CompletionResult, facts: Mapping[str, Any]
) -> None:
    """Write `items.jsonl`, `completions.jsonl` (every arm's texts and scores) and `completion.json`."""
    write_jsonl(folder / "items.jsonl", task.items)
    write_jsonl(folder / "completions.jsonl", [row for some in result.scores.values() for row in some])
    write_json(folder / "completion.json", facts)
