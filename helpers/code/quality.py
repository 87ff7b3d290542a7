"""Comparison of two versions of a function by lint findings, then by size.

`quality_costs` counts what a refactoring should lower. Findings come from ruff's correctness and
simplification rules (`RULES`), not from the layout rules behind the style score. Size is the number of
syntax-tree nodes without the docstring, a proxy for what a reader has to take in.
"""

from __future__ import annotations

import ast
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.code.functions import without_docstring
from helpers.code.style import run_ruff
from helpers.errors import SuiteError

# E7: comparisons; F841: unused; RET: returns; SIM: simplifications; C4: comprehensions and
# literals; PIE790: useless pass; PERF401: manual append loops.
TARGET = "py311"  # fixed, so that findings are the same on every Python version
RULES = "E7,F841,RET5,SIM,C4,PIE790,PERF401"


class QualityError(SuiteError, RuntimeError):
    """Ruff could not be run or gave no readable answer."""


@dataclass(frozen=True, order=True)
class QualityCost:
    """Cost of a function, compared by findings, then branches, then nodes; lower is better."""

    findings: int
    branches: int  # decision points: if, for, while, except, boolean operators, conditions
    nodes: int


def is_gain(before: QualityCost, after: QualityCost) -> bool:
    """Return whether `after` is better: fewer findings, or equally many with fewer branches or nodes."""
    return after < before


def quality_costs(codes: Sequence[str]) -> list[QualityCost | None]:
    """Return the cost of each snippet, or None if it has no function that parses; one ruff call for all.

    Raises:
        QualityError: if ruff cannot be run.
    """
    sizes = [_size(code) for code in codes]
    counts = _ruff_counts([code if size else "" for code, size in zip(codes, sizes, strict=True)])
    return [size and QualityCost(count, *size) for count, size in zip(counts, sizes, strict=True)]


def decision_points(code: str) -> int:
    """Return the number of branches, loops, handlers and boolean operators; 0 if `code` does not parse."""
    size = _size(code)
    return size[0] if size else 0


def _size(code: str) -> tuple[int, int] | None:
    try:
        tree = ast.parse(without_docstring(code))
    except ValueError:  # not one function that parses
        return None
    branching = (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension, ast.BoolOp)
    nodes = list(ast.walk(tree))
    return sum(isinstance(node, branching) for node in nodes), len(nodes)


def _ruff_counts(codes: Sequence[str]) -> list[int]:
    counts = [0] * len(codes)
    if not codes:
        return counts
    with tempfile.TemporaryDirectory() as folder:
        for index, code in enumerate(codes):
            (Path(folder) / f"c{index}.py").write_text(code, encoding="utf-8")
        try:
            found = json.loads(run_ruff(folder, "--target-version", TARGET, "--select", RULES).stdout)
        except (OSError, ValueError) as error:
            raise QualityError(f"ruff gave no findings: {error}; is it installed?") from error
    for finding in found:
        counts[int(Path(finding["filename"]).stem[1:])] += 1
    return counts
