"""The command `python -m helpers profiling solve`: a problem of the lab, a model, and the grader."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.profiling_lab.agent.agent_tools import TOOLS
from helpers.profiling_lab.agent.endpoint_errors import AgentError
from helpers.profiling_lab.agent.endpoints import hidden_key, open_chat
from helpers.profiling_lab.agent.solving import Assignment, Limits
from helpers.profiling_lab.problem import Problem, ProblemError, load_problem

if TYPE_CHECKING:
    from helpers.profiling_lab.agent.solve import SolveResult

GIVEN = ("baseline.py", "card.md")


@dataclass(frozen=True)
class SolveRequest:
    """What a person asks for, see `solve_problem` and `open_chat`."""

    problem: str
    model: str
    out: Path | None  # None: a new folder below runs/
    runs: int
    concurrent: int
    provider: str
    base_url: str
    limits: Limits


def solve_named_problem(request: SolveRequest, problems: Path | None = None) -> SolveResult:
    """Let the model solve a problem of the lab, print how often it passed, and return all runs.

    Args:
        request: problem, model, limits and folder.
        problems: folder of the problems; by default the suite's own.

    Raises:
        AgentError: see `open_chat` and `solve_problem`.
        ProblemError: if there is no such problem or its folder is damaged.
    """
    # Before anything that takes time to import: most often it is the key that is missing.
    chat = open_chat(request.model, TOOLS, provider=request.provider, base_url=request.base_url)
    rules = load_problem(request.problem, problems)
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    out = request.out or Path("runs", f"agent-{rules.name}-{moment}")

    from helpers.profiling_lab.agent.sandboxed_scripts import sandboxed_scripts
    from helpers.profiling_lab.agent.solve import Series, solve_problem
    from helpers.profiling_lab.grader import grade

    key = hidden_key(chat.name.partition(":")[0])
    series = Series(request.runs, request.concurrent, request.limits, key)
    with sandboxed_scripts(rules) as scripts:
        return solve_problem(
            assignment_of(rules), chat, lambda name, script: grade(name, script, problems=problems), scripts,
            out, series,
        )  # fmt: skip


def solve_in_notebook(
    model: str, problem: str, runs: int, out: Path, problems: Path | None = None
) -> SolveResult | None:
    """Let the model named in a notebook's form solve a problem; print why if that is not possible.

    Args:
        model: empty if nobody named one.
        out: receives a new folder for the runs.
    """
    if not model.strip():
        print("No model is named in the form at the top, so none was asked.")
        return None
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    request = SolveRequest(problem, model, out / f"agent-{problem}-{moment}", runs, 1, "auto", "", Limits())
    try:
        return solve_named_problem(request, problems)
    except AgentError as error:
        print(f"No runs to show: {error}")
        return None


def assignment_of(rules: Problem) -> Assignment:
    """Return a problem as a model gets it: the slow script and the card, nothing of the grader's.

    Raises:
        ProblemError: if one of them is missing.
    """
    try:
        texts = {name: (rules.folder / name).read_text(encoding="utf-8") for name in GIVEN}
    except (OSError, ValueError) as error:
        raise ProblemError(f"problem {rules.name!r} in {rules.folder} is damaged: {error}") from error
    return Assignment(rules.name, texts)
