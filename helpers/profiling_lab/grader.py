"""Grade one submission: source, whole runs in the sandbox, fresh inputs, and time against the slow script."""

from __future__ import annotations

from pathlib import Path

from helpers.profiling_lab.grade_types import Grade


def grade(problem: str, submission: Path, *, problems: Path | None = None) -> Grade:
    """Grade the script at `submission` against the slow script of `problem`.

    Args:
        problem: name of a folder below `problems`.
        submission: a Python file.
        problems: folder of the problems; by default `labs/problems` of this suite.

    Returns:
        The grade. Whatever the submission does ends in a failed check with its evidence, never in an
        exception.

    Raises:
        ProblemError: if there is no such problem or its folder is damaged.
    """
    raise NotImplementedError
