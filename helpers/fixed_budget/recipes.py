"""Recipes of the fixed-budget lab: the challenge's baseline, the improved one, and the ladder between.

A recipe is everything that a run may choose. Each rung of the ladder is one `Change` with the reason
for trying it. `improved()` applies the kept changes to the baseline in order, so the improved recipe
and the ladder cannot drift apart. Scales shrink a recipe and its data for machines without a GPU;
don't compare results across scales.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from helpers.errors import SuiteError
from helpers.fixed_budget.title_model import Architecture
from helpers.fixed_budget.tokenizer import SMALLEST_VOCABULARY
from helpers.train.from_scratch import Optimizer


class RecipeError(SuiteError, ValueError):
    """A recipe, scale or seed list that cannot be honoured, or too few titles for a recipe."""


@dataclass(frozen=True)
class Recipe:
    """One way to train on titles. The challenge's rules fix the last two fields."""

    name: str
    model: Architecture = field(default_factory=Architecture)
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(name="sgd", learning_rate=6e-3))
    tokenizer: str = "bpe"  # or unigram
    vocabulary: int = 16_000
    block: int = 128  # tokens per row
    batch: int = 64  # rows per optimizer step, and per window of the frozen metric
    schedule: str = "cosine"  # or wsd: warm-up, stable, linear decay
    warmup: float = 0.0  # share of all steps
    decay: float = 0.0  # share of all steps; only for wsd
    new_order: bool = False  # shuffle the titles again for every epoch
    r_drop: float = 0.0  # weight of the divergence between two dropout passes; 0: a single pass
    mixed_precision: bool = False  # bfloat16 if the machine has it, else float32
    compiled: bool = False  # compile the training step if the machine has a compiler
    epochs: int = 7
    validation_fraction: float = 0.10


@dataclass(frozen=True)
class Change:
    """One rung of the ladder: the fields it changes, and why it is worth trying."""

    name: str
    why: str
    values: dict[str, Any]  # fields of Recipe, "model.FIELD" or "optimizer.FIELD"
    kept: bool = True  # whether it is part of the improved recipe

    def applied(self, recipe: Recipe) -> Recipe:
        """Return `recipe` with this change, named after it."""
        return changed(recipe, name=self.name, **self.values)


@dataclass(frozen=True)
class Scale:
    """How much smaller a recipe and its data are made; `full` is the challenge itself."""

    name: str
    titles: int | None = None  # how many to take after shuffling; None: all
    width: int = 1  # this and the next three divide the recipe's own values
    heads: int = 1
    vocabulary: int = 1
    batch: int = 1
    compiled: bool = True  # whether runs are long enough for compilation to pay

    def applied(self, recipe: Recipe) -> Recipe:
        """Return the recipe at this scale; depth, block and learning rates stay."""
        model = dataclasses.replace(
            recipe.model,
            width=recipe.model.width // self.width,
            mlp_width=recipe.model.mlp_width // self.width,
            heads=recipe.model.heads // self.heads,
        )
        return dataclasses.replace(
            recipe,
            model=model,
            vocabulary=max(SMALLEST_VOCABULARY, recipe.vocabulary // self.vocabulary),
            batch=max(1, recipe.batch // self.batch),
            compiled=recipe.compiled and self.compiled,
        )


def changed(recipe: Recipe, **values: Any) -> Recipe:
    """Return a copy with other values; `model.FIELD` and `optimizer.FIELD` reach into those parts."""
    for part in ("model", "optimizer"):
        inner = {k.split(".")[1]: v for k, v in values.items() if k.startswith(f"{part}.")}
        if inner:
            values[part] = dataclasses.replace(getattr(recipe, part), **inner)
    return dataclasses.replace(recipe, **{k: v for k, v in values.items() if "." not in k})


SCALES = {
    scale.name: scale
    for scale in (
        Scale("full"),
        Scale("half", width=2, heads=2, vocabulary=2, batch=2),
        Scale("small", titles=6_000, width=4, heads=2, vocabulary=8, batch=4, compiled=False),
        Scale("smoke", titles=140, width=16, heads=4, vocabulary=40, batch=32, compiled=False),
    )
}

BASELINE = Recipe("baseline")  # 27.17 million parameters

# Add a rung here. By default (`kept`), it also becomes part of the improved recipe.
LADDER = (
    Change("AdamW", "plain SGD without momentum hardly moves the embeddings of rare tokens",
           {"optimizer.name": "adamw", "optimizer.learning_rate": 6e-4, "optimizer.betas": (0.9, 0.95)}),
    Change("mixed precision",
           "bfloat16 and, in long runs, fused kernels are faster; the loss should not change",
           {"mixed_precision": True, "compiled": True}),
    Change("warm-up, higher rate", "a short warm-up makes a higher peak rate safe",
           {"warmup": 0.05, "optimizer.learning_rate": 1e-3}),
    Change("scaled residual init", "residual output matrices start smaller, by 1/sqrt(2 layers)",
           {"model.scaled_residual_init": True}),
    Change("rotary positions", "relative positions mean the same anywhere in a row",
           {"model.family": "gpt_neox"}),
    Change("title mask", "neighbouring titles say nothing about each other",
           {"model.title_mask": True}, kept=False),
    Change("new order every epoch", "each epoch cuts rows elsewhere and mixes other titles into a batch",
           {"new_order": True}),
    Change("no attention dropout", "dropping whole features is enough; attention becomes one fused kernel",
           {"model.attention_dropout": 0.0}, kept=False),
    Change("beta2 0.999", "rare tokens need a longer average of their gradients' size",
           {"optimizer.betas": (0.9, 0.999)}),
    Change("Muon", "orthogonal updates use all directions of a hidden matrix equally",
           {"optimizer.name": "muon", "optimizer.muon_learning_rate": 0.02,
            "optimizer.warm_momentum": (0.85, 100)}),
    Change("warm-up, stable, decay", "a long phase at the peak rate, then linear decay to zero",
           {"schedule": "wsd", "decay": 0.5}),
    Change("unigram tokenizer", "pieces are chosen by likelihood and may include punctuation",
           {"tokenizer": "unigram"}),
    Change("block 256", "fewer titles are cut off at the start of a row",
           {"block": 256, "batch": 32}, kept=False),
    Change("batch of 16 rows", "seven epochs are few steps; a quarter of the batch gives four times as many",
           {"batch": 16}, kept=False),
    Change("weight decay 0.1", "seven epochs over little text overfit", {"optimizer.weight_decay": 0.1}),
    Change("weight decay 0.5", "little text needs far more decay than usual (Kim et al. 2025)",
           {"optimizer.weight_decay": 0.5}, kept=False),
    Change("weight decay 1.0", "ten times the usual value: when does more decay start to hurt?",
           {"optimizer.weight_decay": 1.0}, kept=False),
    Change("dropout 0.2", "more noise against overfitting", {"model.dropout": 0.2}, kept=False),
    Change("dropout 0.3", "three times the usual value: when does more noise start to hurt?",
           {"model.dropout": 0.3}, kept=False),
    Change("vocabulary 8,000", "fewer tokens, each seen more often", {"vocabulary": 8_000}, kept=False),
    Change("SwiGLU", "a gated MLP of the same size learns more per parameter",
           {"model.family": "stablelm", "model.mlp_width": 1408}),
    Change("RMSNorm", "one parameter vector less per norm; mainly simpler",
           {"model.family": "llama", "model.mlp_width": 1408}, kept=False),
    Change("norms on queries and keys", "bounded attention scores allow higher rates",
           {"model.family": "qwen3", "model.mlp_width": 1408}),
    Change("deeper, narrower", "12 layers of width 384: as many parameters, more steps of computation",
           {"model.layers": 12, "model.width": 384, "model.heads": 6, "model.mlp_width": 1024}),
    Change("R-Drop", "two dropout passes must agree (Liang et al. 2021)", {"r_drop": 0.5}, kept=False),
    Change("R-Drop of 1.0", "a stronger penalty should leave less memorised", {"r_drop": 1.0}, kept=False),
    Change("average of weights", "a moving average smooths the last steps",
           {"model.average": 0.99}, kept=False),
    Change("four members", "averaging independent models is the most reliable remedy for overfitting",
           {"model.members": 4}, kept=False),
)  # fmt: skip


def improved() -> Recipe:
    """Return the baseline with every kept change of the ladder."""
    recipe = BASELINE
    for change in LADDER:
        if change.kept:
            recipe = change.applied(recipe)
    return changed(recipe, name="improved")


RECIPES = {
    "baseline": BASELINE,
    "improved": improved(),
    "ensemble": changed(improved(), name="ensemble", **{"model.members": 4}),
}


def find_recipe(name: str) -> Recipe:
    """Return the recipe called `name`; RecipeError, listing the known ones, if there is none."""
    if name not in RECIPES:
        raise RecipeError(f"unknown recipe {name!r} for titles; choose from {', '.join(RECIPES)}")
    return RECIPES[name]


def find_scale(name: str) -> Scale:
    """Return the scale called `name`; RecipeError, listing the known ones, if there is none."""
    if name not in SCALES:
        raise RecipeError(f"unknown scale {name!r}; choose from {', '.join(SCALES)}")
    return SCALES[name]
