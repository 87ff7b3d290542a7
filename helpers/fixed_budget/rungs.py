"""What the fixed-budget lab compares: baseline and improved recipe, and the rungs of the ablation ladder.

A new rung is a new `Change` in `LADDER` of `helpers.fixed_budget.recipes`.

Every rung changes one thing in the last kept recipe. If a change is not kept, the next rung starts
from the same recipe again. A rung is judged by its full-coverage loss against the recipe it started
from, relative to the spread that seeds alone cause.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from helpers.fixed_budget.recipes import BASELINE, LADDER, Change, Recipe
from helpers.fixed_budget.results import BudgetRun

SPREADS = 2.0  # a difference counts beyond this many of its standard deviations


@dataclass(frozen=True)
class Rung:
    """One change: its run, and the run it is compared with."""

    change: Change
    run: BudgetRun
    reference: BudgetRun

    @property
    def difference(self) -> float:
        """Full-coverage nats per character, run − reference; negative is better."""
        return self.run.score.full_nats_per_character - self.reference.score.full_nats_per_character


@dataclass(frozen=True)
class Comparison:
    """Runs of the baseline and the improved recipe on the same data, under the same rules."""

    baseline: tuple[BudgetRun, ...]  # one or more seeds, the challenge's first
    improved: tuple[BudgetRun, ...]
    repeated: tuple[BudgetRun, ...] = ()  # several seeds of a lower rung, if `improved` has one seed

    @property
    def ratio(self) -> float:
        """Full-coverage loss of the baseline divided by the improved recipe's, both with seed 1337."""
        return self.baseline[0].score.full_nats_per_character / self.improved[0].score.full_nats_per_character

    @property
    def spread(self) -> float | None:
        """Standard deviation of one recipe's loss over its seeds; None if no recipe has several."""
        return spread_of(self.seeds)

    @property
    def seeds(self) -> tuple[BudgetRun, ...]:
        """The runs of one recipe that the spread is computed from."""
        return self.repeated or self.improved


def ladder_recipes(changes: Sequence[Change] = LADDER) -> Iterator[tuple[Change, Recipe, Recipe]]:
    """Yield (change, recipe with it, recipe without it) from the baseline up."""
    current = BASELINE
    for change in changes:
        candidate = change.applied(current)
        yield change, candidate, current
        if change.kept:
            current = candidate


def collect_rungs(
    run_one: Callable[[Recipe], BudgetRun | None], changes: Sequence[Change] = LADDER
) -> list[Rung]:
    """Call `run_one` once per recipe of the ladder, and pair each run with its reference.

    A rung is left out if `run_one` returned None for it or for its reference.
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
    """Return the standard deviation (n - 1) of the runs' full-coverage loss; None for a single run."""
    values = [run.score.full_nats_per_character for run in runs]
    return statistics.stdev(values) if len(values) > 1 else None


def rung_verdict(difference: float, spread: float | None) -> str:
    """Return `helped`, `did not help` or `within the noise of seeds` for a rung's difference.

    If runs have the standard deviation `spread` over seeds, the difference of two has `spread` times the
    square root of 2; a difference counts if it exceeds twice that. Without a measured spread the sign alone
    decides, and the verdict says so.
    """
    better = "helped" if difference < 0 else "did not help"
    if spread is None:
        return f"{better} (one seed)"
    return better if abs(difference) > SPREADS * 2**0.5 * spread else "within the noise of seeds"
