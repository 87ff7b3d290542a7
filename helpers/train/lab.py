"""What the lab's notebook and the command line share: one choice of data, scale and machine for all runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import torch

from helpers.data.title_sets import TitleSet, TitleSplit, load_titles, split_titles
from helpers.runtime import Runtime, detect_runtime
from helpers.train.budget_rules import SEED, VALIDATION_FRACTION
from helpers.train.fixed_budget import BudgetRun, RecipeError, find_recipe, find_scale, run_recipe
from helpers.train.ladder import Comparison
from helpers.train.recipes import RECIPES, Recipe, Scale, changed


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
        key = (changed(recipe, name=""), seed)
        if key not in self.done:
            self.done[key] = run_recipe(
                recipe, self.data, scale=self.scale, out=self.runs, runtime=self.runtime, seed=seed,
                spread=seed != SEED, resume=self.resume, known_data={self.titles.spec: self.titles.sha256},
            )  # fmt: skip
        return dataclasses.replace(self.done[key], name=recipe.name)

    def compare(self, improved: str = "improved") -> Comparison:
        """The baseline under the challenge's seed, and the named recipe under every seed."""
        runs = tuple(self.run(RECIPES[improved], seed) for seed in self.seeds)
        return Comparison((self.run(RECIPES["baseline"]),), runs)


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
    data: str, scale: str = "auto", *, seeds: str = str(SEED), out: str | Path = ".", resume: bool = True
) -> Lab:
    """Resolve a person's choices once.

    Args:
        scale: a name of `recipes.SCALES`, or "auto": `full` with a CUDA device, else `small`.
        seeds: comma-separated; the challenge's 1337 must be the first.
        out: runs lie in `out/runs/lab/`.

    Raises:
        RecipeError: for a scale that does not exist, or seeds that do not begin with 1337.
        TitleSetError: for data that cannot be loaded.
    """
    chosen = find_scale(_resolved(scale))
    try:
        numbers = tuple(dict.fromkeys(int(part) for part in seeds.split(",")))
    except ValueError:
        numbers = ()
    if numbers[:1] != (SEED,):
        raise RecipeError(f"seeds {seeds!r}: write whole numbers such as 1337,1338,1339, 1337 first")
    titles = load_titles(data, seed=SEED, limit=chosen.titles)
    runs = Path(out) / "runs" / "lab"
    return Lab(data, chosen, numbers, detect_runtime(), runs, resume, titles)


def _resolved(scale: str) -> str:
    if scale != "auto":
        return scale
    return "full" if torch.cuda.is_available() else "small"
