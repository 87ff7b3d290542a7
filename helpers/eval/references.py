"""Score the references first, because a task whose own reference fails says nothing about a model.

Every reference passed its tests when the tasks were built. If one fails now (a clock, a busy machine,
another package version), its task is set aside both before and after training, and the reports name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from helpers.errors import InsufficientDataError
from helpers.eval.response_scoring import score_responses
from helpers.records import EXECUTABLE, ResponseScore, Task, TaskSetAside
from helpers.settings import MINIMUM_DATA

NAMED = 3  # tasks named in an error message


def score_references(tasks: Sequence[Task], **scoring: Any) -> list[ResponseScore]:
    """Score each task's own reference, with the keywords of `score_responses`."""
    return score_responses(tasks, {task.id: [task.reference] for task in tasks}, **scoring)


def retry_infrastructure_errors(
    tasks: Sequence[Task], scores: Sequence[ResponseScore], **scoring: Any
) -> list[ResponseScore]:
    """Score again the references that the sandbox could not run.

    Call it even on scores that a resumed run kept: tasks must not be removed for good because a machine
    was short of memory once.
    """
    broken = {score.task_id for score in scores if score.status == "infrastructure_error"}
    if not broken:
        return list(scores)
    again = score_references([task for task in tasks if task.id in broken], **scoring)
    second = {score.task_id: score for score in again}
    return [second.get(score.task_id, score) for score in scores]


def tasks_set_aside(references: Sequence[ResponseScore]) -> list[TaskSetAside]:
    """List the tasks whose reference did not pass; no figure may count them."""
    return [
        TaskSetAside(score.task_id, score.kind, score.function_id, score.status, score.detail)
        for score in references
        if not score.passed
    ]


def tasks_that_hold(tasks: Sequence[Task], aside: Sequence[TaskSetAside]) -> tuple[Task, ...]:
    """Return the tasks that are not set aside.

    Raises:
        InsufficientDataError: if too few executable tasks are left; the message names some of those set
            aside.
    """
    gone = {item.task_id for item in aside}
    kept = tuple(task for task in tasks if task.id not in gone)
    left = sum(task.kind in EXECUTABLE for task in kept)
    least = MINIMUM_DATA["track_b"]["executable_tasks"]
    if left < least:
        named = "; ".join(f"{a.task_id} ({a.kind}): {a.status} {a.detail}".strip() for a in aside[:NAMED])
        raise InsufficientDataError(
            f"only {left} executable tasks are left and at least {least} are needed: the references of "
            f"{len(aside)} of {len(tasks)} tasks do not pass their own tests on this machine, e.g. {named}"
        )
    return kept
