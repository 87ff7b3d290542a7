"""A draft: what a pair or a task of one kind says about one function, before it is filtered and chosen."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace

from helpers.data.tasks.ground_truth import GroundTruth
from helpers.data.tasks.phrasings import FENCE, PHRASINGS, phrase, unfenced
from helpers.records import Function, InstructPair, Task, TaskKind


@dataclass(frozen=True)
class Draft:
    """What a pair or a task of one kind says about one function."""

    kind: TaskKind
    function: Function
    given: str  # the code shown in the instruction, as a model would have to copy it
    response: str
    verified: tuple[str, ...]  # what was checked, in words that the pair carries
    truth: GroundTruth | None = None
    detail: dict[str, str] = field(default_factory=dict)
    instruction: str = ""  # filled in by `phrased`
    phrasing: int = 0  # place of its template among those of the kind
    is_spare: bool = False  # used only where other drafts of its kind are too few


def without_fences(draft: Draft) -> Draft:
    """Return the draft with its code bare, for a model that never saw Markdown around code.

    What a repair says before the function is left out: without fences it could not be told from code.
    """
    response = draft.response
    if draft.kind == "fix_bug" and FENCE in response:
        response = response[response.index(FENCE) :]
    return replace(draft, instruction=unfenced(draft.instruction), response=unfenced(response))


def pair_of(draft: Draft, identifier: str) -> InstructPair:
    """Return the draft as a training pair, with all it takes to run it again."""
    task = task_of(draft, identifier)
    return InstructPair(
        identifier, draft.kind, draft.function.id, draft.function.path, draft.instruction, draft.response,
        draft.phrasing, draft.verified, task.detail, task.entry_point, task.prelude, task.tests, task.n_cases,
    )  # fmt: skip


def task_of(draft: Draft, identifier: str) -> Task:
    """Return the draft as a task whose reference is the draft's response."""
    truth = draft.truth
    detail = {
        "given": draft.given,
        "code": truth.code if truth else draft.given,
        "parameters": json.dumps(draft.function.parameters),
    }
    if truth:
        detail["mutation_score"] = f"{truth.n_killed}/{truth.n_mutants}"
        detail["cases"] = ", ".join(f"{name} {n}" for name, n in truth.test_set.sources.items() if n)
    return Task(
        identifier, draft.kind, draft.function.id, draft.function.path, draft.instruction, draft.response,
        draft.function.name, truth.prelude if truth else "", truth.tests if truth else "",
        truth.n_cases if truth else 0, detail | draft.detail,
    )  # fmt: skip


def phrased(draft: Draft, seed: int, *, shown: str = "", key: str = "") -> Draft:
    """Return the draft with its instruction, in a phrasing of its kind that `seed` draws.

    Args:
        shown: the code in the instruction where that is not `given` (one line is marked).
        key: tells drafts of one kind and function apart, so that each draws its own phrasing.
    """
    kind, function, by_line = draft.kind, draft.function, draft.detail.get("form") == "line"
    index = random.Random(f"{seed}:phrasing:{kind}:{function.id}:{key}").randrange(len(PHRASINGS[kind]))
    instruction = phrase(kind, index, code=shown or draft.given, name=function.name, by_line=by_line)
    return replace(draft, instruction=instruction, phrasing=index)
