"""Results of the comparison of completions: the files that hold them, and every figure that follows.

No model is needed to read them; `completion_task` measures them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.eval.completion_comparison import (
    NEAREST,
    answer_in_words,
    arm_to_use,
    chat_in_words,
    chat_pairs,
    compare_arms,
    differences,
    reach_in_words,
)
from helpers.records import CompletionItem, CompletionScore
from helpers.run.workspace import read_json, read_jsonl, to_plain, write_json, write_jsonl

FOLDER = "track_a/completion"  # of the results, in the run folder
ITEMS, COMPLETIONS, FACTS = "items.jsonl", "completions.jsonl", "completion.json"


def completion_figures(
    items: Sequence[CompletionItem],
    scores: Mapping[str, Sequence[CompletionScore]],
    *,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """Return what follows from places and scores alone, as plain values: counts, comparison, arm and answer.

    Args:
        scores: arm or baseline -> its scores, in the order of the items.
        samples, seed: of the bootstrap.
    """
    compared = to_plain(compare_arms(scores, samples=samples, seed=seed))
    pairs = chat_pairs(scores)
    chat = to_plain(differences(scores, samples=samples, seed=seed, pairs=pairs)) if pairs else []
    with_code = {
        arm: sum(bool(score.context) for score in some)
        for arm, some in scores.items() if arm == NEAREST or arm.endswith("+retrieved")
    }  # fmt: skip
    reach = reach_in_words(with_code.get("base+retrieved", len(items)), len(items))
    return {
        "places": {**place_counts(items), "with_code": with_code},
        **compared,
        "arm_to_use": arm_to_use(compared["differences"]),
        "answer": f"{answer_in_words(compared)} {reach}".rstrip(),
        **({"chat": {"differences": chat, "answer": chat_in_words(chat)}} if chat else {}),
    }


def place_counts(items: Sequence[CompletionItem]) -> dict[str, Any]:
    """Count places: all, their files, and by kind, group and language."""
    return {
        "all": len(items),
        "files": len({item.path for item in items}),
        "kinds": dict(Counter(item.kind for item in items)),
        "groups": dict(Counter(item.group for item in items)),
        "languages": dict(Counter(item.language for item in items)),
    }


def write_completion(
    folder: Path,
    items: Sequence[CompletionItem],
    scores: Mapping[str, Sequence[CompletionScore]],
    facts: Mapping[str, Any],
) -> None:
    """Write `items.jsonl`, `completions.jsonl` (every arm's texts and scores) and `completion.json`."""
    write_jsonl(folder / ITEMS, items)
    write_jsonl(folder / COMPLETIONS, [row for some in scores.values() for row in some])
    write_json(folder / FACTS, facts)


def read_completion(
    folder: Path,
) -> tuple[list[CompletionItem], dict[str, list[CompletionScore]], dict[str, Any]]:
    """Return the places, the scores of each arm and the facts that `write_completion` wrote."""
    scores: dict[str, list[CompletionScore]] = defaultdict(list)
    for score in read_jsonl(folder / COMPLETIONS, CompletionScore):
        scores[score.arm].append(score)
    return read_jsonl(folder / ITEMS, CompletionItem), dict(scores), read_json(folder / FACTS)
