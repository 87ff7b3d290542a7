"""The agent's results as a table, for the notebook and the page."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from helpers.profiling_lab.agent.solve import SolveResult
from helpers.profiling_lab.agent.solving import SolveRun

SOLVE_HEADER = ("Run", "Outcome", "Speed-up", "95% interval", "Answers", "Calls", "Tokens", "Seconds", "Why")
MODEL_HEADER = (
    "Model",
    "Problem",
    "Passed",
    "Runs",
    "Pass rate",
    "95% interval",
    "Set aside",
    "Tokens a run",
)


def solve_rows(result: SolveResult) -> list[tuple[str, ...]]:
    """Return one row of text per run, under `SOLVE_HEADER`."""
    return [_row(run) for run in result.runs]


def model_rows(results: Sequence[SolveResult]) -> list[tuple[str, ...]]:
    """Return one row of text per result, under `MODEL_HEADER`; the interval is Wilson's."""
    rows: list[tuple[str, ...]] = []
    for result in results:
        tokens = [run.tokens_in + run.tokens_out for run in result.runs if run.is_scored]
        rate = "" if result.rate is None else f"{result.rate:.0%}"
        interval = "" if result.ci95 is None else f"{result.ci95[0]:.0%} to {result.ci95[1]:.0%}"
        mean = f"{sum(tokens) / len(tokens):,.0f}" if tokens else ""
        rows.append((result.model, result.problem, str(result.passed), str(result.n), rate, interval,
                     str(result.set_aside), mean))  # fmt: skip
    return rows


def solve_frame(result: SolveResult) -> pd.DataFrame:
    """Return the rows of `solve_rows` as a table, by number of the run."""
    return pd.DataFrame(solve_rows(result), columns=list(SOLVE_HEADER)).set_index("Run")


def model_frame(results: Sequence[SolveResult]) -> pd.DataFrame:
    """Return the rows of `model_rows` as a table, by model."""
    return pd.DataFrame(model_rows(results), columns=list(MODEL_HEADER)).set_index("Model")


def _row(run: SolveRun) -> tuple[str, ...]:
    grade = run.grade or {}
    speedup, interval = grade.get("speedup"), grade.get("interval")
    about = "about " if run.tokens_estimated else ""
    return (
        str(run.run),
        run.outcome.replace("_", " "),
        "" if speedup is None else f"{speedup:.2f}",
        "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}",
        str(run.turns),
        str(sum(run.calls.values())),
        f"{about}{run.tokens_in + run.tokens_out:,}",
        f"{run.seconds:,.1f}",
        run.detail,
    )
