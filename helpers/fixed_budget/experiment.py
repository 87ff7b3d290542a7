"""What the lab's notebook and the command line share: one choice of data, scale and machine for all runs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import torch

from helpers.fixed_budget.ladder import Comparison, Rung, climb, ladder_recipes
from helpers.fixed_budget.recipes import RECIPES, Recipe, Scale, changed
from helpers.fixed_budget.rules import SEED, VALIDATION_FRACTION
from helpers.fixed_budget.run import (
    BudgetRun,
    RecipeError,
    find_recipe,
    find_scale,
    read_run,
    run_recipe,
    runs_folder,
)
from helpers.fixed_budget.titles import TitleSet, TitleSplit, load_titles, split_titles
from helpers.machine.hardware import Runtime, detect_runtime
from helpers.machine.progress import hide_bars, progress
from helpers.run.workspace import read_json, to_plain


@dataclass(frozen=True)
class Lab:
    """Runs of one comparison: same data, same scale, same machine."""

    data: str  # as `load_titles` takes it
    scale: Scale
    seeds: tuple[int, ...]  # the first is the challenge's
    runtime: Runtime
    runs: Path
    resume: bool
    titles: TitleSet = field(repr=False)
    jobs: int = 1  # runs side by side: on a GPU, which one small model leaves mostly idle
    done: dict[tuple[Recipe, int], BudgetRun] = field(default_factory=dict, repr=False)

    @property
    def split(self) -> TitleSplit:
        """Training and validation titles, as every run cuts them."""
        return split_titles(self.titles, VALIDATION_FRACTION)

    def run(self, recipe: Recipe, seed: int = SEED) -> BudgetRun:
        """`run_recipe` on this lab's data, which must still be what it was when the lab was opened.

        A recipe is run once, under whatever names it comes: the last rung of the ladder is the
        improved recipe.
        """
        key = _key(recipe, seed)
        if key not in self.done:
            self.done[key] = run_recipe(
                recipe, runtime=self.runtime, seed=seed, spread=seed != SEED, **self._common()
            )
        return dataclasses.replace(self.done[key], name=recipe.name)

    def run_all(self, wanted: Iterable[tuple[Recipe, int]]) -> None:
        """Have all these recipes and seeds run, `jobs` side by side; `run` then finds them."""
        missing = {_key(*one): one for one in wanted if _key(*one) not in self.done}
        if self.jobs == 1:
            for recipe, seed in missing.values():
                self.run(recipe, seed)
            return
        common = self._common() | {"side_by_side": self.jobs}
        with ProcessPoolExecutor(self.jobs, get_context("spawn"), _quiet, (self.jobs,)) as pool:
            coming = {pool.submit(_run_alone, *one, common): key for key, one in missing.items()}
            for future in progress(as_completed(coming), "runs", total=len(coming), unit="run"):
                self.done[coming[future]] = future.result()

    def compare(self, improved: str = "improved") -> Comparison:
        """The baseline under the challenge's seed, and the named recipe under every seed."""
        wanted = [(RECIPES[improved], seed) for seed in self.seeds]
        self.run_all([*wanted, (RECIPES["baseline"], SEED)])
        runs = tuple(self.run(RECIPES[improved], seed) for seed in self.seeds)
        return Comparison((self.run(RECIPES["baseline"]),), runs)

    def climb(self) -> list[Rung]:
        """The baseline and every rung of the ladder, under the challenge's seed."""
        self.run_all((candidate, SEED) for _, candidate, _ in ladder_recipes())
        return climb(self.run)

    def finished(self) -> tuple[Comparison, list[Rung]]:
        """What the finished runs in this lab's folder say, whichever machine they come from; runs nothing.

        Rungs that have not been run are left out. Where the improved recipe has one seed, the highest
        kept rung with several stands beside it.

        Raises:
            RecipeError: if the baseline or the improved recipe has no finished run.
        """
        folder = runs_folder(self.runs, self.titles.spec, self.scale)
        runs = [read_run(read_json(path)) for path in sorted(folder.glob("*[0-9]/result.json"))]

        def found(recipe: Recipe, name: str) -> tuple[BudgetRun, ...]:
            wanted = to_plain(self.scale.applied(recipe)) | {"name": ""}
            same = [run for run in runs if run.recipe | {"name": ""} == wanted]
            own = sorted((run for run in same if run.data["sha256"] == self.titles.sha256), key=_seed_order)
            return tuple(dataclasses.replace(run, name=name) for run in own)

        def one(recipe: Recipe) -> BudgetRun | None:
            return next((run for run in found(recipe, recipe.name) if run.seed == SEED), None)

        ends = {name: found(RECIPES[name], name) for name in ("baseline", "improved")}
        for name, own in ends.items():
            if not own or own[0].seed != SEED:
                raise RecipeError(
                    f"no finished run of the {name} recipe with seed {SEED} in {folder}; run it first"
                )
        kept = [candidate for change, candidate, _ in ladder_recipes() if change.kept]
        repeated = (found(recipe, f"up to {recipe.name}") for recipe in reversed(kept))
        several = () if len(ends["improved"]) > 1 else next((own for own in repeated if len(own) > 1), ())
        return Comparison(ends["baseline"], ends["improved"], several), climb(one)

    def _common(self) -> dict[str, object]:
        """What all runs of this lab are told alike."""
        known = {self.titles.spec: self.titles.sha256}
        return {
            "data": self.data, "scale": self.scale, "out": self.runs, "resume": self.resume,
            "known_data": known,
        }  # fmt: skip


def _seed_order(run: BudgetRun) -> tuple[bool, int]:
    return run.seed != SEED, run.seed


def _key(recipe: Recipe, seed: int) -> tuple[Recipe, int]:
    return changed(recipe, name=""), seed


def _quiet(jobs: int) -> None:
    """One of several processes: its share of the cores, and no bar of its own."""
    hide_bars()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))


def _run_alone(recipe: Recipe, seed: int, common: dict) -> BudgetRun:
    return run_recipe(recipe, runtime=detect_runtime(), seed=seed, spread=seed != SEED, **common)


def pretrain_titles(
    data: str, recipe: str, scale: str, *, seed: int, spread: bool, resume: bool, out: Path
) -> BudgetRun:
    """`python -m helpers pretrain`: one run, its result printed; see `run_recipe` for the errors."""
    chosen = find_recipe(recipe)
    run = run_recipe(
        chosen, data, scale=find_scale(_resolved(scale)), out=out / "runs" / "lab",
        runtime=detect_runtime(), seed=seed, spread=spread, resume=resume,
    )  # fmt: skip
    score = run.score
    marks = "".join(
        f" [{mark}]"
        for mark, holds in (
            ("the challenge", run.is_challenge), ("a seed of the spread", run.spread and run.seed != SEED),
            (f"{run.scale} scale", run.scale != "full"),
        ) if holds
    )  # fmt: skip
    print(
        f"{run.name}, seed {run.seed}, {run.data['spec']}, {run.data['titles']:,} titles{marks}\n"
        f"  full coverage   {score.full_nats_per_character:.4f} nats per character\n"
        f"  frozen metric   {score.frozen_nats_per_character:.4f} at {score.coverage:.1%} coverage\n"
        f"  {run.parameters / 1e6:.2f} M parameters, {run.steps:,} steps, {run.tokens:,} targets, "
        f"{run.seconds:,.1f} s, {run.tokens_per_second:,.0f} tokens/s, {run.precision}"
    )
    return run


def open_lab(
    data: str, scale: str = "auto", *, seeds: str = str(SEED), out: str | Path = ".", resume: bool = True,
    jobs: int = 1,
) -> Lab:  # fmt: skip
    """Resolve a person's choices once.

    Args:
        scale: a name of `recipes.SCALES`, or "auto": `full` with a CUDA device, else `small`.
        seeds: comma-separated; the challenge's 1337 must be the first.
        out: runs lie in `out/runs/lab/`.
        jobs: runs side by side, each a process of its own.

    Raises:
        RecipeError: for a scale that does not exist, seeds that do not begin with 1337, or no job.
        TitleSetError: for data that cannot be loaded.
    """
    chosen = find_scale(_resolved(scale))
    try:
        numbers = tuple(dict.fromkeys(int(part) for part in seeds.split(",")))
    except ValueError:
        numbers = ()
    if numbers[:1] != (SEED,):
        raise RecipeError(f"seeds {seeds!r}: write whole numbers such as 1337,1338,1339, 1337 first")
    if jobs < 1:
        raise RecipeError(f"{jobs} runs side by side: give 1 or more")
    titles = load_titles(data, seed=SEED, limit=chosen.titles)
    runs = Path(out) / "runs" / "lab"
    return Lab(data, chosen, numbers, detect_runtime(), runs, resume, titles, jobs)


def _resolved(scale: str) -> str:
    if scale != "auto":
        return scale
    return "full" if torch.cuda.is_available() else "small"
