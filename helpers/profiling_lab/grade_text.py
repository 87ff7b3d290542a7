"""A grade in words: the lines of the command, and the rows of the lab's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from helpers.escaping import visible
from helpers.profiling_lab.example_grades import ExampleGrade
from helpers.profiling_lab.grade_types import Grade

LONGEST = 300  # characters of a sentence in a table


def grade_lines(grade: Grade) -> list[str]:
    """Return the verdict and every check, one line each."""
    lines = [f"{grade.problem}: {grade.status.replace('_', ' ')}{_speedup(grade, ', ')}"]
    width = max((len(check.name) for check in grade.checks), default=0)
    return lines + [
        f"  {'passed' if check.passed else 'FAILED'}  {check.name:{width}}  {visible(check.evidence)}"
        for check in grade.checks
    ]


def _speedup(grade: Grade, before: str) -> str:
    if grade.speedup is None or grade.interval is None:
        return ""
    low, high = grade.interval
    return f"{before}{grade.speedup:.2f} times as fast (95% interval {low:.2f} to {high:.2f})"


def reference_frame(graded: Mapping[str, Sequence[ExampleGrade]]) -> pd.DataFrame:
    """Tabulate the references: verdict, speed-up, and the result on fresh inputs."""
    rows = [
        {"Problem": problem, "Reference": one.example.name, "What it does": one.example.what,
         "Verdict": one.grade.status.replace("_", " "), "Speed-up": _speedup(one.grade, ""),
         "Result": _evidence(one.grade, "fresh_inputs")}
        for problem, graded_here in graded.items() for one in graded_here if not one.example.fails
    ]  # fmt: skip
    return pd.DataFrame(rows).set_index("Problem")


def cheat_frame(graded: Mapping[str, Sequence[ExampleGrade]]) -> pd.DataFrame:
    """Tabulate the cheats: the check that each failed, the check meant for it, and the evidence."""
    rows = []
    for problem, graded_here in graded.items():
        for one in graded_here:
            failed = one.grade.failed
            if one.example.fails:
                rows.append({
                    "Cheat": f"{one.example.name} ({problem})", "What it does": one.example.what,
                    "Meant to fail": one.example.fails, "Failed": failed.name if failed else "nothing",
                    "Evidence": visible(failed.evidence)[:LONGEST] if failed else "",
                })  # fmt: skip
    return pd.DataFrame(rows).set_index("Cheat")


def check_frame(grade: Grade) -> pd.DataFrame:
    """Tabulate every check of one grade with its evidence."""
    rows = [
        {"Check": check.name, "Passed": "yes" if check.passed else "no", "Evidence": visible(check.evidence)}
        for check in grade.checks
    ]
    return pd.DataFrame(rows).set_index("Check")


def _evidence(grade: Grade, name: str) -> str:
    return next((visible(check.evidence) for check in grade.checks if check.name == name), "")
