"""A problem of the lab, read from its folder: the slow script, its rules, and the task that the grader draws.

`problem.toml` states the rules, `baseline.py` is the slow script, and `task.py` is the grader's own code: it
draws data, checks what a script saved, and scores it with a forward pass of its own. See `docs/profiling.md`.
"""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from helpers.bootstrap import suite_file
from helpers.errors import SuiteError

Arrays = Mapping[str, np.ndarray]


class ProblemError(SuiteError, ValueError):
    """There is no such problem, or its folder is damaged; the message says what to do."""

    explains_itself = True


class Task(Protocol):
    """What `task.py` of a problem defines. A returned text says what is wrong; "" means nothing is."""

    def draw(self, task: int, rows: int, seed: int) -> dict[str, np.ndarray]:
        """Return `rows` examples of the task; equal `task` means equal classes, `seed` picks the examples."""

    def check_shapes(self, result: Arrays, data: Arrays, seed: int) -> str:
        """Check names, shapes, types and the split of a saved result."""

    def check_work(self, result: Arrays, data: Arrays, seed: int, seen: Arrays | None) -> str:
        """Check that the whole training was done; `seen` is what a watched run showed."""

    def quality(self, result: Arrays, examples: Arrays) -> float:
        """Score a saved result on examples, with the grader's own forward pass."""

    def test_examples(self, result: Arrays, data: Arrays, seed: int) -> dict[str, np.ndarray]:
        """Return the held-out examples that the script had to report its figure on."""

    def component_cases(self, data: Arrays) -> dict[str, tuple[list[np.ndarray], np.ndarray]]:
        """Return function -> (arguments, expected value) for the components that are plain functions."""


@dataclass(frozen=True)
class Component:
    """A function or class that every submission must define at top level and use."""

    name: str
    kind: str  # "function" or "class"
    arguments: tuple[str, ...] = ()  # of a function, in order
    methods: tuple[str, ...] = ()  # of a class


@dataclass(frozen=True)
class Problem:
    """The rules of one problem."""

    name: str
    folder: Path
    rows: int
    profile_rows: tuple[int, int]  # the profile is made on a number of rows drawn between these
    fresh_rows: int
    figure: str  # name of the figure that the script reports
    lower_is_better: bool
    tolerance: float
    bar: float  # speed-up to pass
    timeout_s: float  # processor seconds of one run
    memory_mb: int
    preload: tuple[str, ...]  # imported once, before the runs are forked
    imports: tuple[str, ...]  # modules that a submission may import beyond the common ones
    components: tuple[Component, ...]
    witness: str  # class whose forward passes are watched; "" if saved results alone prove the work
    task: Task

    @property
    def baseline(self) -> Path:
        """The slow script."""
        return self.folder / "baseline.py"


def problems_folder() -> Path:
    """Return the folder of the suite's own problems."""
    return suite_file("labs/problems/README.md").parent


def problem_names(problems: Path | None = None) -> list[str]:
    """Return the names of all problems."""
    return sorted(path.parent.name for path in (problems or problems_folder()).glob("*/problem.toml"))


def load_problem(name: str, problems: Path | None = None) -> Problem:
    """Read the problem `name` from its folder below `problems`.

    Raises:
        ProblemError: if there is none of this name, or its folder is damaged.
    """
    known = problem_names(problems)
    if name not in known:
        raise ProblemError(f"there is no problem {name!r}; choose one of {', '.join(known) or 'none found'}")
    folder = (problems or problems_folder()) / name
    try:
        rules = tomllib.loads((folder / "problem.toml").read_text(encoding="utf-8"))
        components = tuple(_component(fields) for fields in rules.pop("components"))
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in rules.items()
        }
        return Problem(name, folder, components=components, task=_task(folder / "task.py"), **fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, SyntaxError) as error:
        raise ProblemError(f"problem {name!r} in {folder} is damaged: {error}") from error


def _component(fields: dict[str, Any]) -> Component:
    return Component(
        fields["name"], fields["kind"], tuple(fields.get("arguments", ())), tuple(fields.get("methods", ()))
    )


def _task(path: Path) -> Task:
    spec = importlib.util.spec_from_file_location(f"profiling_task_{path.parent.name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot read {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module  # type: ignore[return-value]
