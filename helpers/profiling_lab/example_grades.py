"""Grade all references and cheats of the problems, two problems side by side on two cores."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from helpers.profiling_lab.examples import Example, cheats_of, references_of
from helpers.profiling_lab.grade_types import Grade
from helpers.profiling_lab.grader import grade
from helpers.profiling_lab.problem import load_problem
from helpers.profiling_lab.script_runner import script_runner


@dataclass(frozen=True)
class ExampleGrade:
    """A known submission and its grade."""

    example: Example
    grade: Grade

    @property
    def as_expected(self) -> bool:
        """Whether a reference passed, or a cheat failed by the check meant for it."""
        failed = self.grade.failed
        return (failed.name if failed else "") == self.example.fails


def grade_examples(
    problem: str, *, problems: Path | None = None, core: int | None = None, names: Sequence[str] | None = None
) -> list[ExampleGrade]:
    """Grade the references and cheats of one problem, or those of `names` alone, in one warm process."""
    rules = load_problem(problem, problems)
    examples = [*references_of(rules), *cheats_of(rules)]
    chosen = [example for example in examples if names is None or example.name in names]
    graded = []
    with (
        script_runner(rules.preload, rules.memory_mb, core) as runner,
        tempfile.TemporaryDirectory() as folder,
    ):
        for number, example in enumerate(chosen):
            path = Path(folder, f"{number}.py")
            path.write_text(example.source, encoding="utf-8")
            graded.append(ExampleGrade(example, grade(problem, path, problems=problems, runner=runner)))
    return graded


def grade_all_examples(groups: Sequence[Sequence[str]]) -> dict[str, list[ExampleGrade]]:
    """Grade the examples of all problems; the groups run side by side, each on a core of its own.

    Args:
        groups: names of problems. Times are processor seconds, so that sharing a machine changes little; with
            fewer cores than groups, groups share one.
    """
    cores = sorted(os.sched_getaffinity(0))

    def grade_group(number: int) -> dict[str, list[ExampleGrade]]:
        core = cores[number % len(cores)]
        return {problem: grade_examples(problem, core=core) for problem in groups[number]}

    with ThreadPoolExecutor(len(groups)) as pool:
        parts = list(pool.map(grade_group, range(len(groups))))
    return {problem: graded for part in parts for problem, graded in part.items()}
