"""Measure completion on a finished run: untouched or adapted model, with or without retrieved code.

The corpus is read and split again as the run did, which is checked: the training files must be the very
same. Held-out places, completions and figures are written to `track_a/completion` in the run folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.code.functions import extract_functions
from helpers.data.corpus import load_corpus
from helpers.data.draw import draw_splits
from helpers.data.splits import split_corpus
from helpers.errors import SuiteError
from helpers.eval.completion_comparison import ARMS, PRIMARY, cost_in_words
from helpers.eval.completion_results import FOLDER
from helpers.eval.completion_task import ADAPTER, completion_task, embedder_searches, measure_completion
from helpers.machine.hardware import Runtime
from helpers.run.folder import recorded_profile
from helpers.run.workspace import digest, read_json
from helpers.settings import LEAST_PLACES, CompletionSettings, Profile, SettingsError

SHOWN = (PRIMARY, "edit_similarity", "identifier_f1", "parses", "stops", "first_token", "accepted_characters")


class CompletionRunError(SuiteError, ValueError):
    """A run on which completion cannot be measured; the message says why and what to do."""


def measure_run(
    run_folder: Path, runtime: Runtime, *, count: int | None = None, chat: bool = False
) -> dict[str, Any]:
    """Measure the arms on the held-out files of a finished run, and write the results into its folder.

    Args:
        count: places at most; by default what the run's settings say.
        chat: also try Track B's model, before and after its training.

    Returns:
        The content of `completion.json` (`helpers.eval.completion_task.completion_facts`).

    Raises:
        CompletionRunError: if the folder holds no finished Track A, or its corpus is no longer what it was.
        InsufficientDataError: if the held-out files have almost no places.
    """
    if count is not None and count < LEAST_PLACES:
        raise CompletionRunError(f"--places must be at least {LEAST_PLACES}, not {count}")
    profile, known = _finished(run_folder)
    if chat:
        asked = dataclasses.replace(profile.completion, chat=True)
        profile = dataclasses.replace(profile, completion=asked)
    corpus = load_corpus(profile.corpus.spec, profile.corpus)
    functions = extract_functions(corpus)
    splits = split_corpus(corpus, functions, profile.corpus, profile.seed)
    training = draw_splits(corpus, splits, profile.track_a, profile.seed)["training"]
    if digest([file.text for file in training]) != known:
        raise CompletionRunError(
            f"{profile.corpus.spec} no longer gives the training files of {run_folder}: it has changed "
            "since, or the run was made by another version; make a new run"
        )
    places = count or profile.completion.places or CompletionSettings().places
    task = completion_task(corpus, functions, splits, training, profile, count=places)
    task = dataclasses.replace(task, searches=embedder_searches(run_folder, profile, runtime))
    return measure_completion(task, profile, run_folder, runtime, run_folder / FOLDER)


def completion_table(facts: Mapping[str, Any]) -> list[str]:
    """Return the arms' figures, their differences and the answer as lines of text."""
    places = facts["places"]
    kinds = ", ".join(f"{n} {kind}" for kind, n in places["kinds"].items())
    context = facts["context"]
    lines = [
        f"{places['all']} places in {places['files']} held-out files: {kinds}",
        f"retrieved by {context['retriever']}, heads: {context['heads']}, at most {context['share']:.0%} of "
        f"a prompt; chosen on {context['places']} places of validation files",
        "",
        f"{'':20}" + "".join(f"{name.replace('_', ' '):>21}" for name in SHOWN) + f"{'seconds':>9}",
    ]
    for arm, measured in facts["arms"].items():
        cells = "".join(_cell(measured[name]) for name in SHOWN)
        took = facts["seconds_per_completion"].get(arm)
        lines.append(f"{arm:20}{cells}" + (f"{took:9.2f}" if took is not None else ""))
    lines += ["", f"differences of {PRIMARY.replace('_', ' ')}, in points (p after Holm):"]
    for row in facts["differences"]:
        if row["measure"] == PRIMARY:
            low, high = (100 * bound for bound in row["ci95"])
            lines.append(
                f"  {row['second']} - {row['first']}: {100 * row['value']:+.1f} ({low:+.1f} to {high:+.1f}), "
                f"p = {row['p_holm']:.2g}"
            )
    missing = [arm for arm in ARMS if arm not in facts["arms"]]
    cost = cost_in_words(facts["seconds_per_completion"], facts["training_seconds"])
    chat = [facts["chat"]["answer"]] if "chat" in facts else []
    return [*lines, *(f"not measured: {arm}" for arm in missing), "", facts["answer"], *chat, cost]


def _cell(estimate: Mapping[str, Any]) -> str:
    low, high = estimate["ci95"]
    return f"{estimate['value']:.3f} ({low:.3f}-{high:.3f})".rjust(21)


def _finished(run_folder: Path) -> tuple[Profile, str]:
    """Return the run's settings, and the digest of its training texts."""
    if not run_folder.is_dir():
        raise CompletionRunError(
            f"there is no run in {run_folder}: make one with `make run`, or name its folder"
        )
    try:
        profile = recorded_profile(run_folder)
        known = read_json(run_folder / "track_a/section.json")["data"]["training_sha256"]
        read_json(run_folder / ADAPTER / "adapter_config.json")
    except SettingsError as error:
        raise CompletionRunError(str(error)) from error
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CompletionRunError(
            f"{run_folder} holds no finished Track A: either it is not a run folder below runs/, or that "
            "track did not finish; make a run with `make run`"
        ) from error
    return profile, known
