"""Planted repositories whose answer is known: an idiom of every file (tuning wins), and noise (nothing does).

The third one, a template that returns under other names (retrieval wins), needs a model that can copy; it is
in `test_completion_arms`.
"""

from __future__ import annotations

import random

import pytest
import tiny_models
import torch
from test_completion_context import code_of
from test_completion_items import file_of
from tokenizers import trainers
from transformers import Qwen2Config, Qwen2ForCausalLM

from helpers.data.completion_items import completion_items
from helpers.eval.completion_arms import CompletionTask, run_arms
from helpers.eval.completion_comparison import PRIMARY, arm_to_use, compare_arms
from helpers.models.tokens import token_ids
from helpers.train.packing import collate_packed, pack_texts

TRAINING, HELD_OUT, WINDOW = 8, 12, 96
IDIOM = """\
registry = Registry.open(region="north", retries=7)
registry.audit("start", level=3)
registry.seal(__name__, window=12)
"""


def names(draw, length=7):
    return "".join(draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length))


def with_idiom(draw):
    """A function of its own, then the idiom: at the level of the module, where no retrieval looks."""
    name, field, number = names(draw), names(draw), draw.randrange(1000, 9999)
    return f"def {name}(value):\n    value.{field} = {number}\n    return value.{field}\n\n\n{IDIOM}"


def noise(draw):
    head = f"def {names(draw)}(value):\n    return value.{names(draw)}\n\n\n"
    return head + "".join(f"{names(draw)} = {names(draw)}({draw.randrange(10**6)})\n" for _ in range(4))


def trained(texts, tokenizer, steps):
    """Two models of the same random weights, the second one trained on the texts."""
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2, eos_token_id=0,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, bos_token_id=None,
    )  # fmt: skip
    models = []
    for number in (0, steps):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
        batch = collate_packed(pack_texts(texts, tokenizer, WINDOW))
        for _ in range(number):
            model(**batch, use_cache=False).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        models.append(model.eval())
    return models


def measured(write, steps):
    draw = random.Random(5)
    files = [file_of(write(draw), f"mod{n:02}.py") for n in range(TRAINING + HELD_OUT)]
    training, held = files[:TRAINING], files[TRAINING:]
    tokenizer = tiny_models.tokenizer()
    # words of its own, so that a line is few tokens
    texts = [file.text for file in training]
    bigger = trainers.BpeTrainer(
        vocab_size=700, special_tokens=tokenizer.all_special_tokens, show_progress=False,
        initial_alphabet=[token for token in tokenizer.get_vocab() if len(token) == 1],
    )  # fmt: skip
    tokenizer.backend_tokenizer.train_from_iterator(texts, bigger)
    code, _ = code_of(*training)
    items = completion_items(held, training, count=24, seed=5)
    task = CompletionTask(items, (), {f.path: f.text for f in held}, training, code, "planted", WINDOW)
    loaders = [lambda model=model: (model, tokenizer) for model in trained(texts, tokenizer, steps)]
    assert all(len(token_ids(tokenizer, text)) < 128 for text in texts)
    result = run_arms(task, *loaders, tiny_models.CPU_FP32)
    return items, compare_arms(result.scores, samples=400, seed=0)


@pytest.mark.parametrize(("write", "steps", "wanted"), [(with_idiom, 120, "adapted"), (noise, 40, "base")])
def test_the_planted_repository_gets_its_verdict(write, steps, wanted, monkeypatch):
    monkeypatch.setattr("helpers.eval.completion_arms.TIMED", 1)  # seconds are not looked at here
    items, found = measured(write, steps)
    right = {arm: found["arms"][arm][PRIMARY].value for arm in ("base", "base+retrieved", "adapted")}
    assert arm_to_use(found["differences"]) == wanted, right
    if wanted == "adapted":
        assert right["adapted"] >= right["base+retrieved"] + 0.4
        assert any(item.seen for item in items)
