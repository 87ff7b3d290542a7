"""The embedded base model's history says what was trained, not what another recipe would have made."""

import dataclasses

from transformers import Qwen2Config

from helpers.train.base_model import RECIPES, as_trained


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
