"""Recipes of the embedded base model: its shape, its training text and its training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from helpers.errors import SuiteError
from helpers.models.token_loss import MAX_LOGITS
from helpers.train.from_scratch import Optimizer

EMBEDDED = Path(__file__).parents[1] / "models" / "tiny_code_lm"


class BaseRecipeError(SuiteError, ValueError):
    """The recipe does not exist."""


@dataclass(frozen=True)
class BaseRecipe:
    """One way to train the base model, from random weights or in a further phase."""

    name: str
    steps: int
    rows_per_step: int
    micro_batch: int  # rows per forward pass
    start: str = ""  # folder of the weights to continue from; "": random weights
    layers: int = 8
    width: int = 320
    heads: int = 5
    key_value_heads: int = 1
    mlp_width: int = 864
    window: int = 512  # tokens
    decay: float = 0.45  # share of all steps, at the end
    warmup: int = 100  # steps
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer("muon", learning_rate=4e-3, muon_learning_rate=0.02)
    )
    bytes_per_source: int | None = None  # most text of one package; None: all
    pairs_per_function: int = 1
    pair_share: float = 0.35  # of the rows
    question_weight: float = 1.0  # of the loss on a pair's first half
    answer_weight: float = 1.0  # of the loss on its second half
    start_share: float = 0.0  # weight of the starting weights in the kept mean; the trained ones get the rest
    held_out: int = 150  # files of packages that are not trained on
    near: int = 60  # held-out files of packages that are trained on
    functions: int = 200  # copied and repaired for the report
    data_seed: int = 1  # draws the training text and the functions of the report
    seed: int = 1  # of the weights and the order of windows; use another for every phase
    compile: bool = False  # if the machine has a compiler
    max_logits: int = MAX_LOGITS  # logits held at once; 2**29 take about 6 GiB


BASE_RECIPES = {
    recipe.name: recipe
    for recipe in (
        # For one data-centre GPU: 131,072 tokens per step, half a billion in all. Two CPU cores can adapt
        # a model of this shape within the time of a run.
        BaseRecipe(
            "base", steps=4_000, rows_per_step=256, micro_batch=128, layers=6, width=256, heads=4,
            key_value_heads=2, mlp_width=768, pairs_per_function=2, question_weight=0.5, answer_weight=3.0,
            compile=True, max_logits=2**29,
        ),
        # For two CPU cores: a further phase that starts from the embedded weights.
        BaseRecipe(
            "stretch", steps=2_700, rows_per_step=24, micro_batch=4, start=str(EMBEDDED), warmup=40,
            bytes_per_source=6_000_000, pair_share=0.5, question_weight=0.5, answer_weight=6.0, seed=6,
            decay=0.9, start_share=0.6, compile=True,
            optimizer=Optimizer(
                "muon", learning_rate=8e-4, muon_learning_rate=0.004, warm_momentum=(0.85, 100)
            ),
        ),
        BaseRecipe(
            "smoke", steps=6, rows_per_step=4, micro_batch=2, layers=2, width=64, heads=2, mlp_width=96,
            window=128, warmup=2, bytes_per_source=20_000, held_out=6, near=2, functions=4,
        ),
    )
}  # fmt: skip


def find_base_recipe(name: str) -> BaseRecipe:
    """Return the recipe called `name`; BaseRecipeError, listing the known ones, if there is none."""
    if name not in BASE_RECIPES:
        raise BaseRecipeError(f"unknown recipe {name!r} for code; choose from {', '.join(BASE_RECIPES)}")
    return BASE_RECIPES[name]
