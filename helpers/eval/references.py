"""The references scored first: a task whose own reference does not pass says nothing about a model.

When the tasks were made every reference passed its tests. Where one no longer does (a clock, a busy
machine, another package version), its task is set aside on both sides and named in the reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from helpers.errors import InsufficientDataError
from helpers.eval.responses import reference_responses, score_responses
from helpers.records import EXECUTABLE, ResponseScore, Task, TaskSetAside
from helpers.settings import MINIMUM_DATA

NAMED = 3  # tasks that a reason names


def score_references(tasks: Sequence[Task], **scoring: Any) -> list[ResponseScore]:
    """Score each task's own reference.

    Args:
        scoring: as `score_responses` takes it.
    """
    return score_responses(tasks, reference_responses(tasks), **scoring)


def retry_infrastructure_errors(
    tasks: Sequence[Task], scores: Sequence[ResponseScore], **scoring: Any
) -> list[ResponseScore]:
    """Score those references again that the sandbox could not run.

    Called on what `score_references` gave, whether now or in an earlier run that is resumed: a
    machine that was short of memory then must not cost tasks for good.

    Args:
        scoring: as `score_responses` takes it.
    """
    broken = {score.task_id for score in scores if score.status == "infrastructure_error"}
    if not broken:
        return list(scores)
    again = score_references([task for task in tasks if task.id in broken], **scoring)
    second = {score.task_id: score for score in again}
    return [second.get(score.task_id, score) for score in scores]


def tasks_set_aside(references: Sequence[ResponseScore]) -> list[TaskSetAside]:
    """What the scores of the references say must not be counted."""
    return [
        TaskSetAside(score.task_id, score.kind, score.function_id, score.status, score.detail)
        for score in references
        if not score.passed
    ]


def tasks_that_hold(tasks: Sequence[Task], aside: Sequence[TaskSetAside]) -> tuple[Task, ...]:
    """The tasks that are left.

    Raises:
        InsufficientDataError: if too few executable ones are, naming some of those set aside.
    """
    gone = {item.task_id for item in aside}
    kept = tuple(task for task in tasks if task.id not in gone)
    left = sum(task.kind in EXECUTABLE for task in kept)
    least = MINIMUM_DATA["track_b"]["executable_tasks"]
    if left < least:
        named = "; ".join(f"{a.task_id} ({a.kind}): {a.status} {a.detail}".strip() for a in aside[:NAMED])
        raise InsufficientDataError(
            f"{left} executable tasks of at least {least} are left, since the references of {len(aside)} of "
            f"{len(tasks)} tasks do not pass their own tests on this machine, e.g. {named}"
        )
    return kept
