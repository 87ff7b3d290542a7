"""Run the recipes of one comparison, or find their finished runs: same data, same scale, same machine."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import torch

from helpers.fixed_budget.recipes import RECIPES, Recipe, RecipeError, Scale, changed, find_scale
from helpers.fixed_budget.results import RESULT, BudgetRun, read_run, runs_folder
from helpers.fixed_budget.rules import SEED, VALIDATION_FRACTION
from helpers.fixed_budget.rungs import Comparison, Rung, collect_rungs, ladder_recipes
from helpers.fixed_budget.titles import TitleSet, TitleSplit, load_titles, split_titles
from helpers.fixed_budget.train_recipe import ComparisonSettings, run_recipe
from helpers.machine.hardware import Runtime, detect_runtime
from helpers.machine.progress import hide_bars, progress
from helpers.run.workspace import read_json, to_plain
from helpers.settings import SEEDS


@dataclass(frozen=True)
class Experiment:
    """The runs of one comparison, in this process or side by side."""

    data: str  # as `load_titles` takes it
    scale: Scale
    seeds: tuple[int, ...]  # the challenge's 1337 first
    runtime: Runtime
    runs: Path
    resume: bool
    titles: TitleSet = field(repr=False)
    jobs: int = 1  # runs side by side, for a GPU that a single small model leaves mostly idle
    done: dict[tuple[Recipe, int], BudgetRun] = field(default_factory=dict, repr=False)

    @property
    def split(self) -> TitleSplit:
        """Training and validation titles, split as every run splits them."""
        return split_titles(self.titles, VALIDATION_FRACTION)

    def run(self, recipe: Recipe, seed: int = SEED) -> BudgetRun:
        """Call `run_recipe` on this experiment's data, which must not have changed since it was opened.

        A recipe with two names runs once: the last kept rung, for example, is also the improved recipe.
        """
        key = _key(recipe, seed)
        if key not in self.done:
            self.done[key] = run_recipe(recipe, self._shared(), self.runtime, seed=seed, spread=seed != SEED)
        return dataclasses.replace(self.done[key], name=recipe.name)

    def run_all(self, wanted: Iterable[tuple[Recipe, int]]) -> None:
        """Run all these recipes and seeds, `jobs` at a time; `run` then returns the results."""
        missing = {_key(*one): one for one in wanted if _key(*one) not in self.done}
        if self.jobs == 1:
            for recipe, seed in missing.values():
                self.run(recipe, seed)
            return
        shared = dataclasses.replace(self._shared(), side_by_side=self.jobs)
        with ProcessPoolExecutor(self.jobs, get_context("spawn"), _start_worker, (self.jobs,)) as pool:
            coming = {pool.submit(_run_in_worker, *one, shared): key for key, one in missing.items()}
            for future in progress(as_completed(coming), "runs", total=len(coming), unit="run"):
                self.done[coming[future]] = future.result()

    def compare(self, improved: str = "improved") -> Comparison:
        """Run the baseline with the challenge's seed, and recipe `improved` with every seed."""
        wanted = [(RECIPES[improved], seed) for seed in self.seeds]
        self.run_all([*wanted, (RECIPES["baseline"], SEED)])
        runs = tuple(self.run(RECIPES[improved], seed) for seed in self.seeds)
        return Comparison((self.run(RECIPES["baseline"]),), runs)

    def run_ladder(self) -> list[Rung]:
        """Run the baseline and every rung of the ladder with the challenge's seed."""
        self.run_all((candidate, SEED) for _, candidate, _ in ladder_recipes())
        return collect_rungs(self.run)

    def load_finished(self) -> tuple[Comparison, list[Rung]]:
        """Load the finished runs in this experiment's folder, from whichever machine; run nothing.

        Rungs without a run are left out. If the improved recipe has a single seed, the comparison also
        holds the highest kept rung that has several. RecipeError is raised if the baseline or the improved
        recipe has no finished run.
        """
        folder = runs_folder(self.runs, self.titles.spec, self.scale)
        runs = [read_run(read_json(path)) for path in sorted(folder.glob(f"*[0-9]/{RESULT}"))]

        def find_all(recipe: Recipe, name: str) -> tuple[BudgetRun, ...]:
            wanted = to_plain(self.scale.applied(recipe)) | {"name": ""}
            same = [run for run in runs if run.recipe | {"name": ""} == wanted]
            own = [run for run in same if run.data["sha256"] == self.titles.sha256]
            own.sort(key=lambda run: (run.seed != SEED, run.seed))
            return tuple(dataclasses.replace(run, name=name) for run in own)

        def find_one(recipe: Recipe) -> BudgetRun | None:
            return next((run for run in find_all(recipe, recipe.name) if run.seed == SEED), None)

        ends = {name: find_all(RECIPES[name], name) for name in ("baseline", "improved")}
        for name, own in ends.items():
            if not own or own[0].seed != SEED:
                raise RecipeError(
                    f"no finished run of the {name} recipe with seed {SEED} in {folder}; run it first"
                )
        kept = [candidate for change, candidate, _ in ladder_recipes() if change.kept]
        repeated = (find_all(recipe, f"up to {recipe.name}") for recipe in reversed(kept))
        several = () if len(ends["improved"]) > 1 else next((own for own in repeated if len(own) > 1), ())
        return Comparison(ends["baseline"], ends["improved"], several), collect_rungs(find_one)

    def _shared(self) -> ComparisonSettings:
        known = {self.titles.spec: self.titles.sha256}
        return ComparisonSettings(self.data, self.scale, self.runs, self.resume, known)


def open_experiment(
    data: str, scale: str = "auto", *, seeds: str = str(SEED), out: str | Path = ".", resume: bool = True,
    jobs: int = 1,
) -> Experiment:  # fmt: skip
    """Check a person's choices, load the titles, and detect the machine.

    Args:
        data: `hn`, `file:PATH` or `docstrings`.
        scale: a name of `recipes.SCALES`, or "auto": `full` with a CUDA device, otherwise `small`.
        seeds: comma-separated; the challenge's 1337 must come first.
        out: runs are written to `out/runs/lab/`.
        resume: keep finished runs and resume interrupted ones.
        jobs: runs side by side, each in its own process.

    Raises:
        RecipeError: for an unknown scale, seeds that don't start with 1337, or fewer than one job.
        TitleSetError: if the data cannot be loaded.
    """
    chosen = choose_scale(scale)
    try:
        numbers = tuple(dict.fromkeys(int(part) for part in seeds.split(",")))
    except ValueError:
        numbers = ()
    if numbers[:1] != (SEED,) or any(one not in SEEDS for one in numbers):
        raise RecipeError(
            f"seeds {seeds!r} must be whole numbers from 0 to {SEEDS[-1]} with 1337 first, such as "
            "1337,1338,1339"
        )
    if jobs < 1:
        raise RecipeError(f"cannot run {jobs} recipes side by side; use 1 or more")
    titles = load_titles(data, seed=SEED, limit=chosen.titles)
    return Experiment(data, chosen, numbers, detect_runtime(), runs_root(out), resume, titles, jobs)


def choose_scale(name: str) -> Scale:
    """Return the scale called `name`; "auto" is `full` if there is a CUDA device, otherwise `small`."""
    if name == "auto":
        name = "full" if torch.cuda.is_available() else "small"
    return find_scale(name)


def runs_root(out: str | Path) -> Path:
    """Return the folder below `out` that holds all runs of the lab."""
    return Path(out) / "runs" / "lab"


def _key(recipe: Recipe, seed: int) -> tuple[Recipe, int]:
    return changed(recipe, name=""), seed


def _start_worker(jobs: int) -> None:
    """Give one of several processes its share of the cores, and hide its progress bars."""
    hide_bars()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))


def _run_in_worker(recipe: Recipe, seed: int, shared: ComparisonSettings) -> BudgetRun:
    return run_recipe(recipe, shared, detect_runtime(), seed=seed, spread=seed != SEED)
