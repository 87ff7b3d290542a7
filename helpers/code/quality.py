"""Whether one version of a function is better than another: lint findings, then size.

`quality_costs` counts what a refactoring is meant to lower. Findings come from ruff's correctness
and simplification rules (`RULES`), not the layout rules that make the style score; size is the
number of syntax-tree nodes without the docstring, a proxy for what a reader has to take in.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.code.functions import without_docstring
from helpers.errors import SuiteError

# E7: comparisons; F841: unused; RET: returns; SIM: simplifications; C4: comprehensions and
# literals; PIE790: useless pass; PERF401: manual append loops.
TARGET = "py311"  # whatever runs this: findings are the same everywhere
RULES = "E7,F841,RET5,SIM,C4,PIE790,PERF401"


class QualityError(SuiteError, RuntimeError):
    """ruff could not be run or gave no readable answer."""


@dataclass(frozen=True, order=True)
class QualityCost:
    """Lower is better; compared by findings first, then by branches, then by nodes."""

    findings: int
    branches: int  # decision points: if, for, while, except, boolean operators, conditions
    nodes: int


def is_gain(before: QualityCost, after: QualityCost) -> bool:
    """Whether `after` is better: fewer findings, or as many with fewer branches or fewer nodes."""
    return after < before


def quality_costs(codes: Sequence[str]) -> list[QualityCost | None]:
    """Cost of each code, None where it holds no function that parses; one ruff call for all.

    Raises:
        QualityError: if ruff cannot be run.
    """
    sizes = [_size(code) for code in codes]
    findings = _ruff_counts([c if s is not None else "" for c, s in zip(codes, sizes, strict=True)])
    return [
        None if size is None else QualityCost(found, *size)
        for found, size in zip(findings, sizes, strict=True)
    ]


def decision_points(code: str) -> int:
    """Number of branches, loops, handlers and boolean operators; 0 where `code` does not parse."""
    size = _size(code)
    return size[0] if size else 0


def _size(code: str) -> tuple[int, int] | None:
    try:
        tree = ast.parse(without_docstring(code))
    except ValueError:  # syntax errors and missing functions arrive as SourceEditError
        return None
    branching = (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension, ast.BoolOp)
    nodes = list(ast.walk(tree))
    return sum(isinstance(node, branching) for node in nodes), len(nodes)


def _ruff_counts(codes: Sequence[str]) -> list[int]:
    if not codes:
        return []
    with tempfile.TemporaryDirectory() as folder:
        for index, code in enumerate(codes):
            (Path(folder) / f"c{index}.py").write_text(code, encoding="utf-8")
        command = [
            sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--quiet",
            "--no-respect-gitignore", "--target-version", TARGET, "--exit-zero", "--output-format", "json",
            "--select", RULES, folder,
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
            found = json.loads(done.stdout)
        except (OSError, ValueError) as error:
            raise QualityError(f"ruff gave no findings: {error}; is it installed?") from error
    counts = [0] * len(codes)
    for finding in found:
        counts[int(Path(finding["filename"]).stem[1:])] += 1
    return counts
