"""Ends of prompts that a tokenizer would join with what comes next are written by the model."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from helpers.models.causal_lm import load_tokenizer
from helpers.models.generation import generate
from helpers.models.token_borders import held_back, next_tokens
from helpers.settings import TINY_CODE_LM


@pytest.fixture(scope="module")
def joining():
    """A tokenizer that joins a line's end with the indentation behind it, save the blank before a word."""
    words = ["x", "Ġreturn", "Ġ", "Ċ", "ĊĠĠĠ", "ĊĊĠĠĠ", "ĊĊ", ":", "ĉ", "y", "ĠĠĠ"]
    vocabulary = {word: number for number, word in enumerate(words)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="x"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\w+|[^\s\w]+|\s+(?!\S)|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="x")


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("x:\n", "\n"),
        ("x:\n\n", "\n\n"),
        ("x:\n   ", "\n   "),
        ("x:", ""),
        ("x", ""),
        ("\n\n", ""),  # nothing would be left of the prompt
        ("", ""),
        ("x:\u00a0", ""),  # bytes of it are no white space
    ],
)
def test_only_white_space_that_would_be_joined_is_held_back(joining, text, held):
    assert held_back(joining, text) == held


def test_a_tokenizer_that_keeps_line_ends_apart_holds_nothing_back():
    assert held_back(load_tokenizer(TINY_CODE_LM), "if x:\n") == ""


def test_what_was_held_back_comes_first_and_then_anything(joining):
    vocabulary = joining.get_vocab()

    def names(held, *written):
        found = next_tokens(joining, held, [vocabulary[one] for one in written])
        return found if found is None else {joining.convert_ids_to_tokens(token) for token in found}

    assert names("\n") == {"Ċ", "ĊĠĠĠ", "ĊĊĠĠĠ", "ĊĊ"}
    assert names("\n\n") == {"Ċ", "ĊĊĠĠĠ", "ĊĊ"}  # one of them leaves another line's end to be written
    assert names("\n\n", "Ċ") == {"Ċ", "ĊĠĠĠ", "ĊĊĠĠĠ", "ĊĊ"}
    assert names("\n", "ĊĠĠĠ") is None
    assert names("\n\n", "Ċ", "Ċ", "x") is None
    assert names("\n", "x") is None  # never longer than what was held back
    assert names("") is None


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_texts_begin_with_what_was_held_back_and_stop_words_in_it_do_not_count(joining, temperature):
    model = tiny_models.model("llama", len(joining))
    prompts = [joining("x:", add_special_tokens=False).input_ids, joining("y:").input_ids]
    options = {"temperature": temperature, "max_new_tokens": 12, "seed": 3}
    held = generate(model, joining, prompts, tiny_models.CPU_FP32, begins=["\n", ""], **options)
    free = generate(model, joining, prompts, tiny_models.CPU_FP32, **options)
    assert held[1] == free[1]
    lines = generate(
        model, joining, prompts, tiny_models.CPU_FP32, begins=["\n", "\n"], stop=("\n",), **options
    )
    first, _, _ = held[0][0].partition("\n")
    assert lines[0] == [first]
    forced = next_tokens(joining, "\n", [])
    with torch.inference_mode():
        logits = model(torch.tensor([prompts[0]])).logits[0, -1]
    best = max(forced, key=lambda token: float(logits[token]))
    if not temperature:
        assert held[0][0].startswith(joining.decode([best])[1:])
