"""Models of the lab: known sizes, masks by identities, one initialisation for every family."""

import dataclasses
import math

import pytest
import torch

from helpers.fixed_budget.recipes import BASELINE, LADDER, RECIPES, SCALES, changed, improved
from helpers.fixed_budget.title_model import FAMILIES, Architecture, build_title_lm, title_positions
from helpers.fixed_budget.tokenizer import SMALLEST_VOCABULARY

TINY = Architecture(layers=2, heads=2, width=16, mlp_width=24, dropout=0.1)
SEPARATOR = 1


def tiny(family, **values):
    return build_title_lm(
        dataclasses.replace(TINY, family=family, **values), 50, 24, SEPARATOR, seed=3
    ).eval()


def ids(*, seed=0, rows=2):
    found = torch.randint(2, 50, (rows, 20), generator=torch.Generator().manual_seed(seed))
    found[:, 7] = SEPARATOR
    found[0, 12] = SEPARATOR
    return found


def test_the_baseline_has_the_challenges_size() -> None:
    """27.17 million: 16,000 x 512 tied, 128 x 512 positions, 6 blocks, final norm."""
    width, hidden = 512, 2048
    block = 3 * width**2 + 3 * width + width**2 + width + 2 * width * hidden + hidden + width + 4 * width
    with torch.device("meta"):
        model = FAMILIES["gpt2"](BASELINE.model, 16_000, 128)
        improved_model = FAMILIES[improved().model.family](improved().model, 16_000, 256)
    assert sum(p.numel() for p in model.parameters()) == 16_000 * width + 128 * width + 6 * block + 2 * width
    assert sum(p.numel() for p in model.parameters()) == 27_172_864
    assert sum(p.numel() for p in improved_model.parameters()) < 28e6  # no win by size


@pytest.mark.parametrize("family", FAMILIES)
def test_no_position_sees_a_later_one(family) -> None:
    model, one = tiny(family), ids()
    other = one.clone()
    other[:, 10:] = ids(seed=9)[:, 10:]
    with torch.no_grad():
        apart = (model(one) - model(other)).abs().amax((0, 2))
    assert apart[:10].max() == 0
    assert apart[10] > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_under_the_title_mask_a_title_is_predicted_as_if_it_stood_alone(family) -> None:
    model, one = tiny(family, title_mask=True), ids()
    other = one.clone()
    other[:, :7] = ids(seed=9)[:, :7]
    with torch.no_grad():
        assert (model(one)[:, 7:] - model(other)[:, 7:]).abs().max() == 0  # earlier titles do not matter
        alone = model(one[:1, 7:12])  # the title begins with the separator before it
        assert torch.allclose(alone, model(one)[:1, 7:12], atol=1e-5)
        unmasked = tiny(family)
        assert (unmasked(one)[:, 8] - unmasked(other)[:, 8]).abs().max() > 1e-6  # without it they do


def test_positions_restart_at_separators() -> None:
    assert title_positions(torch.tensor([[1, 5, 6, 1, 1, 7]]), 1).tolist() == [[0, 1, 2, 0, 0, 1]]


@pytest.mark.parametrize("family", FAMILIES)
def test_initialisation_follows_the_seed_and_the_recipe(family) -> None:
    plain, scaled = tiny(family), tiny(family, scaled_residual_init=True)
    again = tiny(family)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), again.parameters(), strict=True))
    smaller = [
        name
        for (name, a), b in zip(plain.named_parameters(), scaled.parameters(), strict=True)
        if not torch.equal(a, b) and torch.allclose(a / b, torch.tensor(math.sqrt(2 * TINY.layers)))
    ]
    assert len(smaller) == 2 * TINY.layers  # attention output and MLP output of every block
    for name, parameter in plain.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()


@pytest.mark.parametrize("where", ["dropout", "attention_dropout"])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_dropout_acts_by_itself_and_in_training_only(family, where) -> None:
    none = {"dropout": 0.0, "attention_dropout": 0.0}
    model = tiny(family, **none | {where: 0.5})
    with torch.no_grad():
        assert torch.equal(model(ids()), model(ids()))
        model.train()
        assert not torch.equal(model(ids()), model(ids()))
        without = tiny(family, **none).train()
        assert torch.equal(without(ids()), without(ids()))


def test_members_are_averaged_as_probabilities() -> None:
    model = tiny("llama", members=3)
    with torch.no_grad():
        parts = [member(ids()).logits.softmax(-1) for member in model.members]
        assert torch.allclose(model(ids()).exp(), torch.stack(parts).mean(0), atol=1e-6)
    assert model.n_parameters == 3 * tiny("llama").n_parameters


def test_the_average_of_weights_is_kept_and_used_outside_training() -> None:
    model = tiny("llama", average=0.9)
    start = model(ids())
    model.after_step()  # the first call takes the weights as they are
    with torch.no_grad():
        for parameter in model.members.parameters():
            parameter.add_(1.0)
    model.after_step()
    for now, kept in zip(model.members.parameters(), model.averaged.module.parameters(), strict=True):
        assert torch.allclose(kept, now - 0.9, atol=1e-5)  # 0.9 of the old, 0.1 of the new
    assert not torch.equal(model(ids()), start)
    assert not any(p.requires_grad for p in model.averaged.parameters())
    assert model.n_parameters == tiny("llama").n_parameters


def test_unknown_family_and_odd_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="choose from gpt2"):
        tiny("rwkv")
    with pytest.raises(ValueError, match="is not divisible"):
        tiny("llama", heads=3)


def test_every_rung_changes_something_and_the_kept_ones_make_the_improved_recipe() -> None:
    recipe = BASELINE
    for change in LADDER:
        assert change.applied(recipe) != changed(recipe, name=change.name), f"{change.name} changes nothing"
        if change.kept:
            recipe = change.applied(recipe)
    assert changed(recipe, name="improved") == RECIPES["improved"]
    assert len({change.name for change in LADDER}) == len(LADDER)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_built_at_every_scale(scale, name) -> None:
    recipe = SCALES[scale].applied(RECIPES[name])
    with torch.device("meta"):
        FAMILIES[recipe.model.family](recipe.model, recipe.vocabulary, recipe.block)
    assert recipe.batch * recipe.block == 8192 // SCALES[scale].batch
    assert recipe.vocabulary >= SMALLEST_VOCABULARY
