"""Names of a run's steps as the terminal shows them."""

from __future__ import annotations

import re

STAGE_NAMES = {
    "track_a/before": "score of the untouched model",
    "track_a/train": "training on the repository",
    "track_a/after": "score of the trained model",
    "track_a/before_float32": "score of the untouched model in float32",
    "track_a/foreign": "control: the same training on foreign code",
    "track_a/twin": "control: the same training of the clean twin",
    "track_a/exposure": "what the model may have seen before",
    "track_a/completion": "completions, with and without tuning and retrieval",
    "track_b/data": "making and verifying pairs and tasks",
    "track_b/rehearsal": "answers to be rehearsed",
    "track_b/answers_before": "answers of the untouched model",
    "track_b/references": "running the reference answers",
    "track_b/scored_before": "running the untouched model's answers",
    "track_b/train": "training on the pairs",
    "track_b/answers_after": "answers of the trained model",
    "track_b/scored_after": "running the trained model's answers",
    "track_b/problems_before": "control: general problems, untouched model",
    "track_b/problems_after": "control: general problems, trained model",
    "track_c/index_before": "index of the untouched model",
    "track_c/train": "training on queries",
    "track_c/index_after": "index of the trained model",
    "track_c/functions": "catalogue of functions",
    "track_c/hybrid": "tuning the weight of the word score",
    "track_c/control_seed_*": "control: a single training, seed *",
    "track_c/control_shuffled_pairs": "control: training on shuffled pairs",
    "track_c/control_foreign_package": "control: search in a foreign package",
}


def stage_kind(stage: str) -> str:
    """Return the key of `stage` in the tables: a name that ends in a seed becomes its kind.

    >>> stage_kind("track_c/control_seed_18")
    'track_c/control_seed_*'
    """
    return re.sub(r"(?<=/control_seed_)\d+$", "*", stage)


def stage_name(stage: str) -> str:
    """Return `stage` in words, or unchanged if it has no name."""
    name = STAGE_NAMES.get(stage_kind(stage), stage)
    return name.replace("*", stage.rpartition("_")[2])


def is_control(stage: str) -> bool:
    """Return whether `stage` is a control, whose bars would look like those of the training it repeats."""
    return stage_name(stage).startswith("control: ")
