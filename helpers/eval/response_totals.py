"""Totals over scored responses: pass@k, style and invented names, by task kind and overall.

Beside each rate stand the arrays that a paired test needs: one row per task, in the order of the
tasks, with the function it belongs to (tasks of one function are not independent).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from helpers.eval.pass_at_k import pass_at_k
from helpers.eval.responses import EXECUTABLE
from helpers.records import ResponseScore, Task


def aggregate(scores: Sequence[ResponseScore], tasks: Sequence[Task], ks: Sequence[int]) -> dict[str, Any]:
    """Totals for "executable" (fix_bug and implement), "all", and every kind that occurs.

    Each total holds `n_tasks`, `n_functions`, `greedy_passed`, `pass_at` (k -> mean over tasks,
    from the samples; only for k up to their number), `style` (mean over greedy answers that hold
    code) with `n_style`, `invented` (share of non-empty greedy answers naming something that does
    not exist) with `n_invented`, and `rows`: per task its id, kind, function, greedy verdict, number
    of samples and of passing ones, style and whether a name was invented.

    Raises:
        ValueError: if a task has no greedy response (`sample` 0) among `scores`.
    """
    by_task: dict[str, list[ResponseScore]] = {task.id: [] for task in tasks}
    for score in scores:
        if score.task_id in by_task:
            by_task[score.task_id].append(score)
    rows = [_row(task, by_task[task.id]) for task in tasks]
    kinds = sorted({task.kind for task in tasks})
    groups = {"executable": list(EXECUTABLE), "all": kinds} | {kind: [kind] for kind in kinds}
    return {name: _total([r for r in rows if r["kind"] in members], ks) for name, members in groups.items()}


def _row(task: Task, scores: Sequence[ResponseScore]) -> dict[str, Any]:
    greedy = next((score for score in scores if score.sample == 0), None)
    if greedy is None:
        raise ValueError(f"task {task.id} has no greedy response; score sample 0 too")
    samples = [score for score in scores if score.sample > 0]
    return {
        "task_id": task.id,
        "kind": task.kind,
        "function_id": task.function_id,
        "passed": greedy.passed,
        "status": greedy.status,
        "n_samples": len(samples),
        "n_passed": sum(score.passed for score in samples),
        "style": greedy.style,
        "invented": bool(greedy.invented_names) if greedy.response.strip() else None,
    }


def _total(rows: Sequence[dict[str, Any]], ks: Sequence[int]) -> dict[str, Any]:
    styles = [row["style"] for row in rows if row["style"] is not None]
    invented = [row["invented"] for row in rows if row["invented"] is not None]
    fewest = min((row["n_samples"] for row in rows), default=0)
    return {
        "n_tasks": len(rows),
        "n_functions": len({row["function_id"] for row in rows}),
        "greedy_passed": sum(row["passed"] for row in rows),
        "pass_at": {
            k: fmean(pass_at_k(row["n_samples"], row["n_passed"], k) for row in rows)
            for k in ks
            if rows and k <= fewest
        },
        "style": fmean(styles) if styles else None,
        "n_style": len(styles),
        "invented": fmean(invented) if invented else None,
        "n_invented": len(invented),
        "rows": list(rows),
    }
