"""The ablation ladder and the comparison of the fixed-budget lab: which runs there are, and what they say.

Every rung is the recipe below it with one change. A change that is not kept hangs beside the ladder:
the next rung starts from the recipe before it. Whether a rung helped is judged by the full-coverage
loss against the rung it started from, and against the spread that seeds alone cause.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from helpers.fixed_budget.recipes import BASELINE, LADDER, Change, Recipe
from helpers.fixed_budget.run import BudgetRun

RunOne = Callable[[Recipe], BudgetRun | None]
SPREADS = 2.0  # a difference of two runs counts from this many standard deviations of a difference on


@dataclass(frozen=True)
class Rung:
    """One change with its run and the run that it is compared with."""

    change: Change
    run: BudgetRun
    reference: BudgetRun

    @property
    def difference(self) -> float:
        """Full-coverage nats per character, this run minus the reference; negative is better."""
        return self.run.score.full_nats_per_character - self.reference.score.full_nats_per_character


@dataclass(frozen=True)
class Comparison:
    """Baseline and improved recipe side by side: same data, same rules, several seeds."""

    baseline: tuple[BudgetRun, ...]  # one or more seeds, the challenge's first
    improved: tuple[BudgetRun, ...]
    repeated: tuple[BudgetRun, ...] = ()  # a lower kept rung over seeds, where the improved recipe has one

    @property
    def ratio(self) -> float:
        """Full-coverage loss of the baseline over that of the improved recipe, both of seed 1337."""
        return self.baseline[0].score.full_nats_per_character / self.improved[0].score.full_nats_per_character

    @property
    def spread(self) -> float | None:
        """Standard deviation of the loss over the seeds of one recipe; None where each has a single seed."""
        return spread_of(self.seeds)

    @property
    def seeds(self) -> tuple[BudgetRun, ...]:
        """The runs whose loss tells what seeds alone do."""
        return self.repeated or self.improved


def ladder_recipes(changes: Sequence[Change] = LADDER) -> Iterator[tuple[Change, Recipe, Recipe]]:
    """(change, recipe with it, recipe without it) from the baseline up."""
    current = BASELINE
    for change in changes:
        candidate = change.applied(current)
        yield change, candidate, current
        if change.kept:
            current = candidate


def climb(run_one: RunOne, changes: Sequence[Change] = LADDER) -> list[Rung]:
    """Run the baseline and every rung of the ladder through `run_one`, each recipe once.

    A rung whose run or reference is None is left out.
    """
    runs = {BASELINE.name: run_one(BASELINE)}
    rungs = []
    for change, candidate, current in ladder_recipes(changes):
        run, reference = run_one(candidate), runs[current.name]
        runs[candidate.name] = run
        if run is not None and reference is not None:
            rungs.append(Rung(change, run, reference))
    return rungs


def spread_of(runs: Sequence[BudgetRun]) -> float | None:
    """Standard deviation (n - 1) of the full-coverage loss over seeds; None for a single run."""
    values = [run.score.full_nats_per_character for run in runs]
    return statistics.stdev(values) if len(values) > 1 else None


def verdict(difference: float, spread: float | None) -> str:
    """`helped`, `did not help` or `within the noise of seeds` for a rung's difference.

    A difference of two runs, each with the seeds' standard deviation s, has s times the square root
    of 2; it counts from twice that on. Without a measured spread the sign alone decides, and the
    verdict says so.
    """
    better = "helped" if difference < 0 else "did not help"
    if spread is None:
        return f"{better} (one seed)"
    return better if abs(difference) > SPREADS * 2**0.5 * spread else "within the noise of seeds"
