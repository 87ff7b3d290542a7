"""Track B's control: general problems that have nothing to do with the repository, before and after.

A model that learns a repository's tasks may unlearn others. The adapter is only judged here, never chosen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.models.causal_lm import load_adapted, load_causal_lm
from helpers.tools.general_problems import general_problems, solve_general_problems
from helpers.tools.score import UNSCORED
from helpers.tracks.session import Session


def measure_general_problems(run: Session, adapter: Path) -> list[dict[str, Any]]:
    """Solve the profile's slice of HumanEval with and without the adapter.

    Returns:
        Rows `{id, before, after}` (whether it passed) of the problems that could be scored both times; none
        if the profile asks for none.

    Raises:
        GeneralProblemsError: if the problems are not installed.
    """
    settings, runtime = run.profile.track_b, run.runtime
    if not settings.general_problems:
        return []
    problems = general_problems(settings.general_problems, run.seed)
    sizes = {"batch_size": settings.generation_batch, "workers": run.profile.sandbox_workers}
    before = run.rows(
        "track_b/problems_before",
        [problems],
        lambda: solve_general_problems(*load_causal_lm(settings.model, runtime), problems, runtime, **sizes),
    )
    after = run.rows(
        "track_b/problems_after",
        [problems, run.history("track_b/train")],
        lambda: solve_general_problems(
            *load_adapted(settings.model, adapter, runtime), problems, runtime, **sizes
        ),
    )
    return [
        {"id": first["task_id"], "before": first["passed"], "after": second["passed"]}
        for first, second in zip(before, after, strict=True)
        if first["status"] not in UNSCORED and second["status"] not in UNSCORED
    ]
