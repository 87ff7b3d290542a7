"""The embedded base model's history records what was trained, and a phase keeps what it started from."""

import dataclasses

import torch
from transformers import Qwen2Config

from helpers.base_model.base_recipes import BASE_RECIPES
from helpers.base_model.release import with_trained_shape
from helpers.base_model.training import START, keep_start, mean_with_start


def test_a_further_phase_is_recorded_with_the_shape_of_the_model_it_started_from() -> None:
    config = Qwen2Config(
        num_hidden_layers=6,
        hidden_size=256,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=768,
    )
    phase = dataclasses.replace(
        BASE_RECIPES["stretch"], start="somewhere/of/this/machine", layers=8, width=320
    )
    told = with_trained_shape(phase, config)
    assert (told.layers, told.width, told.heads, told.key_value_heads, told.mlp_width) == (6, 256, 4, 2, 768)
    assert told.start == "earlier stretch"
    assert (told.steps, told.seed, told.optimizer) == (phase.steps, phase.seed, phase.optimizer)
    assert with_trained_shape(dataclasses.replace(phase, start=""), config).start == ""


def test_kept_weights_lie_between_start_and_end_as_asked() -> None:
    torch.manual_seed(0)
    trained, start = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    ended, began = trained.weight.detach().clone(), start.weight.detach().clone()
    mean_with_start(trained, start, 0.6)
    assert torch.allclose(trained.weight, 0.6 * began + 0.4 * ended)
    assert torch.equal(start.weight, began)


def test_a_resumed_phase_starts_from_the_same_weights_after_its_source_was_replaced(tmp_path) -> None:
    source, folder = tmp_path / "embedded", tmp_path / "stretch"
    source.mkdir()
    (source / "training.json").write_text("[1]")
    recipe = dataclasses.replace(BASE_RECIPES["stretch"], start=str(source))
    keep_start(recipe, folder)
    (source / "training.json").write_text("[1, 2]")
    keep_start(recipe, folder)
    assert (folder / START / "training.json").read_text() == "[1]"
    keep_start(dataclasses.replace(recipe, start=""), tmp_path / "from nothing")
    assert not (tmp_path / "from nothing").exists()
