"""Which settings a stage depends on: all of its track's, except those that it does not read.

A new setting counts for every stage of its track until it is excluded here, so a stale result is never
taken for a fresh one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from helpers.settings import TrackASettings, TrackBSettings, TrackCSettings

LEARNING = frozenset({
    "epochs", "learning_rate", "batch_sequences", "batch_pairs", "warmup_fraction", "lora", "rehearsal_share",
    "rehearsed_answers", "fim_share", "keep_gain", "scale", "hard_negatives",
})  # fmt: skip
# How much data is drawn: the data itself is among the stage's inputs.
AMOUNTS = frozenset({
    "train_tokens", "validation_tokens", "test_tokens", "general_files", "train_pairs", "validation_pairs",
    "executable_tasks", "language_tasks", "test_queries",
})  # fmt: skip
REPORTING = frozenset({"bootstrap_samples"})
CONTROLS = frozenset({"controls", "twin", "general_problems"})  # of Tracks A and B: stages of their own
SAMPLING = frozenset({"samples_per_task", "temperature", "generation_batch"})
DATA_SOURCES = frozenset({"language", "benchmarks"})  # what the pairs are made with and checked against


def settings_without(
    settings: TrackASettings | TrackBSettings | TrackCSettings, *unread: Collection[str]
) -> dict[str, Any]:
    """Return the settings as a dict, without those that a stage does not read."""
    ignored = set().union(*unread)
    return {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings) if f.name not in ignored}
