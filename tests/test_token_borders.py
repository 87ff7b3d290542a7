"""Ends of prompts that a tokenizer would join with what comes next are written by the model."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from helpers.models import generation, token_borders
from helpers.models.causal_lm import load_tokenizer
from helpers.models.generation import generate
from helpers.models.token_borders import BLANKS, PROBES, HeldText, held_back
from helpers.models.tokens import continuing_ids, token_ids
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


GPT2 = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CODE = "def f(a):\n    if a:\n        return g(\n            a,\n            b)\n\n\n\n\tx = {\n\t\t1}\n"


def trained(split):
    """A byte-level tokenizer that splits by a family's rule, with 27 merged blanks behind a line's end."""
    core = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), byte_level])
    core.decoder = decoders.ByteLevel()
    texts = [CODE, *(f"f(a,\n{' ' * width}b)\n" for width in range(0, 30))] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core)


@pytest.fixture(scope="module", params=[GPT2, QWEN2], ids=["gpt2", "qwen2"])
def family(request):
    return trained(request.param)


@pytest.mark.parametrize(
    "code", [CODE, CODE.replace("\n", "\r\n"), "é = 1\n    ü(\n        ", "a\n" + " " * 27]
)
def test_what_stays_in_the_prompt_stands_so_in_the_text(family, code):
    """The prompt's tokens are those that the text begins with, whatever code comes next."""
    for end in range(1, len(code) + 1):
        text = code[:end]
        if text[-1] not in BLANKS or not text.strip():
            assert held_back(family, text) == ""
            continue
        held = held_back(family, text)
        assert text.endswith(held)
        assert not held.strip()
        stays = token_ids(family, text.removesuffix(held))
        for following in ("x", "return a", "    x", "\tx"):
            assert token_ids(family, text + following)[: len(stays)] == stays


def test_a_line_end_that_stays_a_part_of_its_token_is_not_held_back():
    """Qwen's rule joins punctuation with the line's end behind it, whatever follows."""
    tokenizer = trained(QWEN2)
    for text in ("if a:\n    ", "g(\n        ", "x = {\r\n    "):
        assert held_back(tokenizer, text) == text[len(text.rstrip(" ")) :]


@pytest.mark.parametrize("held", ["\n", "\n\n\n", "\n" + " " * 27, "    ", "\n\t\t", "\r\n    ", "\n" * 40])
def test_white_space_is_written_in_pieces_that_the_tokenizer_makes(family, held):
    """Whoever always takes the shortest token comes to the end by the tokenizer's own cuts."""
    first, written = HeldText(family, held), []
    while (some := first.next_tokens(written)) is not None:
        assert some
        written.append(min(some, key=lambda token: len(family.decode([token]))))
    text = family.decode(written)
    assert text.startswith(held)
    cuts = [continuing_ids(family, held + probe) for probe in PROBES]
    assert any(written[:-1] == cut[: len(written) - 1] for cut in cuts)
    assert len(written) <= first.most_before
    assert first.count_before(written) == len(written) - (text != held)


def test_of_long_white_space_only_the_end_is_held_back(family, monkeypatch):
    text = "x" + " \n\t" * 500
    assert 1 <= len(held_back(family, text)) <= 2
    monkeypatch.setattr(token_borders, "MOST_BEFORE", 0)
    assert held_back(family, text) == ""


@pytest.mark.parametrize("most", [1, 5])
def test_what_was_held_back_takes_nothing_of_the_budget(family, most, monkeypatch):
    """A text has as many tokens as asked for, beside those of white space that nobody gets."""
    jobs = []
    finish = generation._finish
    monkeypatch.setattr(
        generation, "_finish", lambda m, some, *rest: (jobs.extend(some), finish(m, some, *rest))
    )
    model = tiny_models.model("llama", len(family))
    prompt, held = token_ids(family, "f(a,"), "\n" + " " * 9
    first = HeldText(family, held)
    [[text]] = generate(
        model, family, [prompt], tiny_models.CPU_FP32, max_new_tokens=most, begins=[held], temperature=1.0
    )
    [[longer]] = generate(
        model, family, [prompt], tiny_models.CPU_FP32, max_new_tokens=most + 4, begins=[held], temperature=1.0
    )
    assert text
    assert longer.startswith(text)
    assert [job.written for job in jobs] == [most, most + 4]
    assert all(len(job.new) == job.written + first.count_before(job.new) for job in jobs)


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
        found = HeldText(joining, held).next_tokens([vocabulary[one] for one in written])
        return found if found is None else {joining.convert_ids_to_tokens(token) for token in found}

    assert names("\n") == {"Ċ", "ĊĠĠĠ", "ĊĊĠĠĠ", "ĊĊ"}
    assert names("\n\n") == {"ĊĊĠĠĠ", "ĊĊ"}  # the tokenizer cuts it nowhere
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
    forced = HeldText(joining, "\n").next_tokens([])
    with torch.inference_mode():
        logits = model(torch.tensor([prompts[0]])).logits[0, -1]
    best = max(forced, key=lambda token: float(logits[token]))
    if not temperature:
        assert held[0][0].startswith(joining.decode([best])[1:])
