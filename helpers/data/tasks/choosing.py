"""Choose which drafts become pairs and tasks: shares of the kinds, and a seeded order."""

from __future__ import annotations

import random
from collections.abc import Sequence

from helpers.data.tasks.draft import Draft
from helpers.records import SplitName, TaskKind
from helpers.settings import TrackBSettings

# Shares of the kinds among pairs, and of the two groups of kinds among tasks.
PAIR_SHARES: dict[TaskKind, float] = {
    "fix_bug": 0.50, "improve": 0.18, "docstring": 0.10, "explain": 0.08, "unit_tests": 0.07,
    "implement": 0.07,
}  # fmt: skip
EXECUTABLE_SHARES: dict[TaskKind, float] = {"fix_bug": 0.8, "implement": 0.2}
LANGUAGE_SHARES: dict[TaskKind, float] = {
    "improve": 0.25, "docstring": 0.25, "explain": 0.25, "unit_tests": 0.25,
}  # fmt: skip
FUNCTIONS_PER_PAIR = 0.24  # verified functions wanted per pair: one function yields several repairs
FUNCTIONS_PER_TASK = 0.6
MIN_FUNCTIONS = 4  # verified functions wanted of a side, however few its pairs or tasks


def choose_drafts(kept: Sequence[Draft], side: SplitName, settings: TrackBSettings, seed: int) -> list[Draft]:
    """Choose the drafts of one side by their kinds' shares; if a kind has too few, the others fill in."""
    chosen: list[Draft] = []
    for count, shares in _groups(side, settings):
        own = {kind: [draft for draft in kept if draft.kind == kind] for kind in shares}
        queues = {kind: _spares_last(drafts, f"{seed}:{side}:{kind}") for kind, drafts in own.items()}
        quotas = quotas_of(count, shares)
        missing = count - sum(min(quotas[kind], len(queue)) for kind, queue in queues.items())
        for kind, queue in queues.items():
            taken = queue[: quotas[kind] + missing]
            missing -= max(0, len(taken) - quotas[kind])
            chosen += taken
    return chosen


def wanted_kinds(side: SplitName, settings: TrackBSettings) -> dict[TaskKind, int]:
    """Return how many drafts of each kind one side needs."""
    groups = _groups(side, settings)
    return {kind: n for count, shares in groups for kind, n in quotas_of(count, shares).items()}


def wanted_functions(side: SplitName, settings: TrackBSettings) -> int:
    """Return how many verified functions one side needs for its pairs or tasks."""
    share = FUNCTIONS_PER_TASK if side == "test" else FUNCTIONS_PER_PAIR
    return max(MIN_FUNCTIONS, round(share * sum(count for count, _ in _groups(side, settings))))


def _spares_last(drafts: Sequence[Draft], key: str) -> list[Draft]:
    halves = ([draft for draft in drafts if draft.is_spare is spare] for spare in (False, True))
    return [draft for half in halves for draft in taking_turns(half, key)]


def taking_turns(drafts: Sequence[Draft], key: str) -> list[Draft]:
    """Return the drafts in a seeded order in which files, then functions, then versions take turns.

    Each draft draws its own lot, so that one draft more or less (because a reference came near its time
    limit) leaves the order of the others unchanged.
    """

    def lot(*of: str) -> float:
        return random.Random(":".join((key, *of))).random()

    by_file: dict[str, dict[str, list[Draft]]] = {}
    for draft in drafts:
        by_file.setdefault(draft.function.path, {}).setdefault(draft.function.id, []).append(draft)
    ranked = []
    for functions in by_file.values():
        for place, function in enumerate(sorted(functions, key=lot)):
            versions = [(lot(function, d.given, d.instruction), d) for d in functions[function]]
            versions.sort(key=lambda version: version[0])
            ranked += [(turn, place, own, draft) for turn, (own, draft) in enumerate(versions)]
    return [draft for *_, draft in sorted(ranked, key=lambda row: row[:3])]


def quotas_of(count: int, shares: dict[TaskKind, float]) -> dict[TaskKind, int]:
    """Return whole numbers that add up to `count`, largest remainders rounded up first."""
    exact = {kind: count * share for kind, share in shares.items()}
    quotas = {kind: int(value) for kind, value in exact.items()}
    order = sorted(exact, key=lambda kind: (quotas[kind] - exact[kind], kind))
    for kind in order[: count - sum(quotas.values())]:
        quotas[kind] += 1
    return quotas


def _groups(side: SplitName, settings: TrackBSettings) -> tuple[tuple[int, dict[TaskKind, float]], ...]:
    """Return (count, shares of kinds) of each group: pairs are one group, tasks are two."""
    if side == "test":
        return ((settings.executable_tasks, EXECUTABLE_SHARES), (settings.language_tasks, LANGUAGE_SHARES))
    return ((settings.train_pairs if side == "train" else settings.validation_pairs, PAIR_SHARES),)
