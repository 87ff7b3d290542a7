"""Which settings a stage does not read: changing one of them leaves the stage as it is.

Exclusions, not a list of what is read: a new setting belongs to every stage of its track until it is
named here, so that a stale result is never taken for a fresh one.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from helpers.settings import TrackASettings, TrackBSettings, TrackCSettings

_LEARNING = {"epochs", "learning_rate", "batch_sequences", "batch_pairs", "warmup_fraction", "lora",
             "rehearsal_share", "keep_gain", "scale", "hard_negatives"}  # fmt: skip
# How much data is drawn: the data itself is among a later stage's inputs.
_AMOUNTS = {"train_tokens", "validation_tokens", "test_tokens", "general_files", "train_pairs",
            "validation_pairs", "executable_tasks", "language_tasks", "test_queries"}  # fmt: skip
_REPORTING = {"bootstrap_samples"}
_CONTROLS = {"controls"}  # of Track A: a stage of their own
_SAMPLING = {"samples_per_task", "temperature", "generation_batch"}
_WRITING = {"language", "benchmarks"}  # what the pairs are made with

NOT_READ: dict[str, set[str]] = {
    "track_a/before": _LEARNING | _AMOUNTS | _REPORTING | _CONTROLS,
    "track_a/train": {"stride"} | _AMOUNTS | _REPORTING | _CONTROLS,
    "track_a/after": _LEARNING | _AMOUNTS | _REPORTING | _CONTROLS,
    "track_a/foreign": _AMOUNTS | _REPORTING,
    "track_b/data": _LEARNING | _SAMPLING | _REPORTING,
    "track_b/answers_before": _LEARNING | _AMOUNTS | _REPORTING | _WRITING | {"generation_batch"},
    "track_b/train": _SAMPLING | _AMOUNTS | _REPORTING | _WRITING,
    "track_b/answers_after": _LEARNING | _AMOUNTS | _REPORTING | _WRITING | {"generation_batch"},
    "track_c/index_before": _LEARNING | _AMOUNTS | _REPORTING,
    "track_c/train": _AMOUNTS | _REPORTING,
    "track_c/index_after": _LEARNING | _AMOUNTS | _REPORTING,
    "track_c/hybrid": _LEARNING | _AMOUNTS | _REPORTING,
}


def read_by(stage: str, inputs: Any) -> Any:
    """`inputs` with each track's settings reduced to those that `stage` reads."""
    if isinstance(inputs, TrackASettings | TrackBSettings | TrackCSettings):
        ignored = NOT_READ.get(stage, set())
        values = {f.name: getattr(inputs, f.name) for f in dataclasses.fields(inputs)}
        return {name: value for name, value in values.items() if name not in ignored}
    if isinstance(inputs, list | tuple):
        return [read_by(stage, item) for item in inputs]
    return inputs
