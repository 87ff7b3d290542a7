"""The lab's walk through one problem: one change after another, each measured against the slow script."""

from __future__ import annotations

import ast
import secrets
import tomllib
from dataclasses import dataclass
from pathlib import Path

from helpers.profiling_lab.pair_timing import FEWEST, Ratio, ratio_of
from helpers.profiling_lab.problem import Problem, ProblemError, load_problem
from helpers.profiling_lab.script_runner import RunnerError, script_runner


@dataclass(frozen=True)
class Step:
    """One change: what was expected of it, and whether it was kept for the steps after it."""

    name: str
    hypothesis: str
    kept: bool
    source: str


@dataclass(frozen=True)
class MeasuredStep:
    """A step, how many times faster than the slow script it is, and than the last kept version before it."""

    step: Step
    total: Ratio
    gain: float


def steps_of(problem: Problem) -> list[Step]:
    """Return the steps of a problem (`steps.toml`).

    A step takes whole functions from a reference (`take`), or replaces text that occurs once (`edits`).

    Raises:
        ProblemError: if a step does not fit the version before it.
    """
    rules = tomllib.loads((problem.folder / "steps.toml").read_text(encoding="utf-8"))
    source = problem.baseline.read_text(encoding="utf-8")
    found = []
    for fields in rules["step"]:
        changed = source
        for name in fields.get("take", []):
            changed = _with_function(changed, name, problem.folder / rules["reference"])
        for old, new in fields.get("edits", []):
            if changed.count(old) != 1:
                count = changed.count(old)
                raise ProblemError(f"step {fields['name']!r}: {old!r} occurs {count} times, expected once")
            changed = changed.replace(old, new)
        found.append(Step(fields["name"], fields["hypothesis"], fields["kept"], changed))
        source = changed if fields["kept"] else source
    return found


def measure_steps(name: str, *, problems: Path | None = None, pairs: int = FEWEST) -> list[MeasuredStep]:
    """Time every step of a problem, in turn with the slow script, on data drawn for it.

    Raises:
        RunnerError: if a step does not run.
    """
    problem = load_problem(name, problems)
    steps, slow = steps_of(problem), problem.baseline.read_text(encoding="utf-8")
    data = problem.task.draw(secrets.randbits(31), problem.rows, secrets.randbits(31))
    seconds: dict[str, list[float]] = {step.name: [] for step in steps}
    slow_seconds = []
    with script_runner(problem.preload, problem.memory_mb) as runner:
        runner.run(slow, data, 1, problem.timeout_s)  # warms up
        for seed in range(pairs):
            slow_seconds.append(runner.run(slow, data, seed, problem.timeout_s).cpu_s)
            for step in steps:
                run = runner.run(step.source, data, seed, problem.timeout_s)
                if run.error:
                    raise RunnerError(f"step {step.name!r} failed: {run.error}")
                seconds[step.name].append(run.cpu_s)
    measured, kept = [], 1.0
    for step in steps:
        total = ratio_of(list(zip(slow_seconds, seconds[step.name], strict=True)))
        measured.append(MeasuredStep(step, total, total.value / kept))
        kept = total.value if step.kept else kept
    return measured


def _with_function(source: str, name: str, reference: Path) -> str:
    """Return `source` with its function `name` as it stands in the file `reference`."""
    texts = source, reference.read_text(encoding="utf-8")
    (old, new) = (_function(text, name) for text in texts)
    return source.replace(old, new)


def _function(source: str, name: str) -> str:
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.get_source_segment(source, node) or ""
    raise ProblemError(f"there is no function {name!r} to take")
