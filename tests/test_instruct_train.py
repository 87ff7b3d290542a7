import dataclasses
from pathlib import Path

import pytest
import tiny_models
import torch

from helpers.machine.hardware import Runtime
from helpers.models import bfloat16_products
from helpers.models.causal_lm import add_lora, chat_ids, generate, load_adapted, load_causal_lm
from helpers.models.target_scores import TargetHead
from helpers.models.token_loss import IGNORED
from helpers.profiles import PROFILES
from helpers.records import InstructPair
from helpers.settings import TINY_CODE_LM, LoraSettings
from helpers.train.fallbacks import TrainingError
from helpers.train.instruct import (
    Example,
    collator,
    encode_pair,
    end_token_id,
    response_loss,
    show_supervised,
    train_instruct,
)

PROJECT = Path(__file__).resolve().parents[1]
RUNTIME = Runtime(torch.device("cpu"), torch.float32, None, "sdpa", 4.0, ())
PAIRS = [
    InstructPair(str(i), "fix_bug", f"f{i}", "a.py", f"Fix this.\n\nx = {i}\n", f"x = {i} + 1", 0, ())
    for i in range(8)
]


@pytest.fixture(scope="module")
def base():
    return load_causal_lm(TINY_CODE_LM, RUNTIME)


def test_only_the_response_and_the_end_token_are_supervised(base):
    _, tokenizer = base
    example = encode_pair(PAIRS[3], tokenizer)
    end = tokenizer.decode([end_token_id(tokenizer)])
    assert show_supervised(example, tokenizer) == PAIRS[3].response + end
    prompt = chat_ids(tokenizer, PAIRS[3].instruction)
    assert list(example.input_ids[: len(prompt)]) == prompt
    assert example.labels[: len(prompt)] == (IGNORED,) * len(prompt)
    assert example.labels[len(prompt) :] == example.input_ids[len(prompt) :]
    assert example.labels[0] == IGNORED


def test_padding_is_masked_and_the_end_token_is_not(base):
    _, tokenizer = base
    assert tokenizer.pad_token_id != end_token_id(tokenizer)
    long = dataclasses.replace(PAIRS[0], response="x = 1\n" * 20)
    examples = [encode_pair(PAIRS[1], tokenizer), encode_pair(long, tokenizer)]
    batch = collator(tokenizer)(examples)  # the longest first
    length = len(examples[0])
    assert batch["labels"].shape == (2, len(examples[1]))
    assert batch["labels"][1, length - 1] == end_token_id(tokenizer)
    assert (batch["labels"][1, length:] == IGNORED).all()
    assert (batch["input_ids"][1, length:] == tokenizer.pad_token_id).all()


def test_short_examples_share_rows_and_nothing_is_lost(base):
    _, tokenizer = base
    examples = [encode_pair(pair, tokenizer) for pair in PAIRS]
    examples.append(encode_pair(dataclasses.replace(PAIRS[0], response="x = 1\n" * 60), tokenizer))
    batch = collator(tokenizer)(examples)
    assert len(batch["labels"]) < len(examples)
    starts = (batch["position_ids"] == 0).nonzero().tolist()
    found = []
    for row, first in starts:
        later = [start for other, start in starts if other == row and start > first]
        part = slice(first, min(later, default=None))
        found.append(
            (tuple(batch["input_ids"][row, part].tolist()), tuple(batch["labels"][row, part].tolist()))
        )
        assert batch["position_ids"][row, part].tolist() == list(range(len(found[-1][0])))
    with_targets = [(ids, labels) for ids, labels in found if set(labels) != {IGNORED}]
    assert sorted(with_targets) == sorted((e.input_ids, e.labels) for e in examples)
    assert all(set(ids) == {tokenizer.pad_token_id} for ids, labels in found if set(labels) == {IGNORED})


def test_loss_does_not_depend_on_the_batch_and_matches_transformers(base):
    model, tokenizer = base
    examples = [encode_pair(pair, tokenizer) for pair in PAIRS[:3]]
    one = response_loss(model, examples, collator(tokenizer), RUNTIME, 1)
    assert one == pytest.approx(response_loss(model, examples, collator(tokenizer), RUNTIME, 3), rel=1e-4)
    batch = collator(tokenizer)(examples[:1])
    with torch.no_grad():
        expected = float(model(**batch).loss)
    assert response_loss(model, examples[:1], collator(tokenizer), RUNTIME, 1) == pytest.approx(
        expected, rel=1e-4
    )


def test_without_padding_and_with_products_in_bfloat16_the_loss_is_the_same(monkeypatch):
    monkeypatch.setattr(bfloat16_products, "LEAST_WEIGHTS", 0)
    model = add_lora(tiny_models.model("llama", 50), LoraSettings(rank=4, alpha=8)).eval()
    generator = torch.Generator().manual_seed(4)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    mixed = dataclasses.replace(RUNTIME, autocast_dtype=torch.bfloat16)
    if not bfloat16_products.products_pay(model, mixed):
        pytest.skip("rows of bfloat16 products depend on their neighbours here")
    tokenizer = tiny_models.tokenizer()
    tokenizer.pad_token_id = 1
    examples = []
    for length, masked in ((9, 3), (30, 12), (2, 1), (17, 16), (1, 1)):
        ids = torch.randint(2, 50, (length,), generator=generator).tolist()
        examples.append(Example(tuple(ids), (*[IGNORED] * masked, *ids[masked:])))
    exact = response_loss(model, examples, collator(tokenizer), RUNTIME, 2)
    heads = []
    score = TargetHead.score
    monkeypatch.setattr(TargetHead, "score", lambda head, *given: heads.append(head) or score(head, *given))
    found = [response_loss(model, examples, collator(tokenizer), mixed, batch) for batch in (1, 3, 5)]
    assert found == pytest.approx([exact] * 3, rel=3e-3)
    assert found[0] not in (exact, 0)
    assert found[1:] == found[:-1]  # exactly
    assert len(heads) == 3 * len(examples)
    assert all(head.rounded for head in heads)


def test_training_lowers_the_loss_and_what_is_saved_is_what_was_trained(tmp_path):
    settings = dataclasses.replace(
        PROFILES["smoke"].track_b, epochs=4, batch_sequences=4, max_prompt_tokens=128, max_new_tokens=64
    )
    history = train_instruct(settings, PAIRS, PAIRS[:2], RUNTIME, seed=1, out_dir=tmp_path)
    assert history.validation[0] > 1.5 * history.best_validation
    assert not (tmp_path / "checkpoints").exists()
    described = [
        file.read_text() for file in (tmp_path / "adapter").iterdir() if file.suffix in (".json", ".md")
    ]
    assert described
    assert not [text for text in described if str(PROJECT) in text or "Model Card for Model ID" in text]
    model, tokenizer = load_adapted(settings.model, tmp_path / "adapter", RUNTIME)
    examples = [encode_pair(pair, tokenizer) for pair in PAIRS[:2]]
    reloaded = response_loss(model, examples, collator(tokenizer), RUNTIME, 2)
    assert reloaded == pytest.approx(history.best_validation, rel=1e-3)
    texts = generate(
        model, tokenizer, [chat_ids(tokenizer, PAIRS[0].instruction)], RUNTIME,
        n=1, temperature=0.0, max_new_tokens=32, batch_size=1, seed=0, stop=(),
    )  # fmt: skip
    assert len(texts[0][0]) < 60  # it has learnt to stop


def test_missing_and_oversized_pairs_are_refused(tmp_path):
    settings = PROFILES["smoke"].track_b
    with pytest.raises(TrainingError, match="both are needed"):
        train_instruct(settings, PAIRS, [], RUNTIME, seed=1, out_dir=tmp_path)
    long = dataclasses.replace(PAIRS[0], response="x = 1\n" * 2000)
    with pytest.raises(TrainingError, match="tokens"):
        train_instruct(settings, [long], PAIRS[:1], RUNTIME, seed=1, out_dir=tmp_path)
