"""The embedded base model's history says what was trained, not what another recipe would have made."""

import dataclasses

import torch
from transformers import Qwen2Config

from helpers.base_model.training import RECIPES, START, as_trained, keep_start, mean_with_start


def test_a_stretch_is_told_with_the_shape_of_the_model_it_went_on_from() -> None:
    config = Qwen2Config(
        num_hidden_layers=6,
        hidden_size=256,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=768,
    )
    stretch = dataclasses.replace(RECIPES["stretch"], start="somewhere/of/this/machine", layers=8, width=320)
    told = as_trained(stretch, config)
    assert (told.layers, told.width, told.heads, told.key_value_heads, told.mlp_width) == (6, 256, 4, 2, 768)
    assert told.start == "earlier stretch"
    assert (told.steps, told.seed, told.optimizer) == (stretch.steps, stretch.seed, stretch.optimizer)
    assert as_trained(dataclasses.replace(stretch, start=""), config).start == ""


def test_what_is_kept_lies_where_asked_between_start_and_end() -> None:
    torch.manual_seed(0)
    trained, start = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    ended, began = trained.weight.detach().clone(), start.weight.detach().clone()
    mean_with_start(trained, start, 0.6)
    assert torch.allclose(trained.weight, 0.6 * began + 0.4 * ended)
    assert torch.equal(start.weight, began)


def test_a_resumed_stretch_begins_where_it_began_though_its_start_was_replaced(tmp_path) -> None:
    source, folder = tmp_path / "embedded", tmp_path / "stretch"
    source.mkdir()
    (source / "training.json").write_text("[1]")
    recipe = dataclasses.replace(RECIPES["stretch"], start=str(source))
    keep_start(recipe, folder)
    (source / "training.json").write_text("[1, 2]")
    keep_start(recipe, folder)
    assert (folder / START / "training.json").read_text() == "[1]"
    keep_start(dataclasses.replace(recipe, start=""), tmp_path / "from nothing")
    assert not (tmp_path / "from nothing").exists()
