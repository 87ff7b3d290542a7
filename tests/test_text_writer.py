"""Texts that come while others are written, each with rules of its own, and what sampling rules leave."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.models import ragged_cache, text_writer
from helpers.models.causal_lm import generate
from helpers.models.generation import end_check, end_ids, text_draws
from helpers.models.ragged_cache import Fed, ragged
from helpers.models.structure import hidden_states
from helpers.models.text_writer import Decoding, TextJob, TextWriter
from helpers.models.tokens import continuation, token_ids

RUNTIME = tiny_models.CPU_FP32
ASKED = [  # prompt, decoding, seed, the step at which it comes
    ("def add(first", Decoding(14), 0, 0),
    ("class Größe:", Decoding(20, 0.9), 3, 0),
    ("def add(first, second", Decoding(6), 0, 2),
    ("x", Decoding(18, 0.4), 7, 5),
    ("def add(first", Decoding(14), 0, 9),
    ("import math as m\n", Decoding(3), 0, 9),
]


@pytest.fixture(scope="module")
def tok():
    return tiny_models.tokenizer()


@pytest.fixture(scope="module")
def model(tok):
    return tiny_models.model("qwen2", len(tok))


def job(model, tok, number, prompt, decoding, seed=0):
    ids = token_ids(tok, prompt)
    draws = text_draws(seed, 0, 0, decoding.max_new_tokens) if decoding.temperature else None
    return TextJob(number, 0, ids, [*ids], decoding, end_check(tok, end_ids(model, tok), ()), draws)


def alone(model, tok, prompt, decoding, seed):
    options = {"temperature": decoding.temperature, "max_new_tokens": decoding.max_new_tokens, "seed": seed}
    return generate(model, tok, [prompt], RUNTIME, **options)[0][0]


@pytest.mark.parametrize("family", ["qwen2", "llama"])
@torch.inference_mode()
def test_long_runs_are_attended_piece_by_piece(tok, family, monkeypatch):
    monkeypatch.setattr(ragged_cache, "PIECE", {"cpu": 7})
    model = tiny_models.model(family, len(tok))
    first, second = token_ids(tok, tiny_models.TEXT)[:60], token_ids(tok, "import math as m\n" * 3)
    with ragged(model, 2) as cache:
        cache.states([Fed(1, 0, first[:20], 0)])
        found = cache.states([Fed(0, 0, second, 0), Fed(1, 20, first[20:], 0)])
        one = cache.states([Fed(0, len(second), first[:1], 0)])
    expected = [hidden_states(model, torch.tensor([ids]))[0] for ids in (second, first, second + first[:1])]
    assert torch.allclose(found, torch.cat([expected[0], expected[1][20:]]), atol=1e-4)
    assert torch.allclose(one, expected[2][-1:], atol=1e-4)


@pytest.mark.parametrize("slots", [1, 2, 8])
@torch.inference_mode()
def test_texts_that_come_later_are_what_they_would_be_alone(model, tok, slots):
    jobs = [job(model, tok, n, *one[:3]) for n, one in enumerate(ASKED)]
    with ragged(model, slots) as cache:
        writer, step = TextWriter(cache, slots), 0
        while True:
            writer.add([one for one, (*_, at) in zip(jobs, ASKED, strict=True) if at == step])
            if not writer.step() and step >= 9:
                break
            step += 1
    texts = [
        continuation(tok, one.prompt, [t for t in one.new if t not in end_ids(model, tok)]) for one in jobs
    ]
    assert texts == [alone(model, tok, *one[:3]) for one in ASKED]


@torch.inference_mode()
def test_a_text_that_is_given_up_frees_its_slot_for_the_next(model, tok):
    first, second = (job(model, tok, n, "def add(first", Decoding(100, 0.7), n) for n in range(2))
    with ragged(model, 1) as cache:
        writer = TextWriter(cache, 1)
        writer.add([first, second])
        assert writer.step() == [first]
        first.finished = True
        assert writer.step() == [second]
        second.finished = True
        assert writer.step() == []
    assert (len(first.new), len(second.new)) == (1, 1)


@torch.inference_mode()
def test_a_prompt_that_was_read_before_is_not_read_again(model, tok, monkeypatch):
    read = []
    with ragged(model, 4) as cache:
        monkeypatch.setattr(
            cache,
            "read",
            lambda fed, read_=cache.read: (read.append([len(f.tokens) for f in fed]), read_(fed))[1],
        )
        writer = TextWriter(cache, 4)
        for number in range(2):
            writer.add([job(model, tok, number, "def add(first, second):\n    return", Decoding(1))])
            writer.step()
            assert writer.step() == []
    long = len(token_ids(tok, "def add(first, second):\n    return"))
    assert read == [[long], [1]]


@torch.inference_mode()
def test_two_models_are_written_with_in_turns(tok):
    models = [tiny_models.model("qwen2", len(tok), seed=seed) for seed in (0, 1)]
    wanted = [alone(one, tok, "def add(first", Decoding(12), 0) for one in models]
    jobs = [job(one, tok, 0, "def add(first", Decoding(12)) for one in models]
    with ragged(models[0], 2) as first, ragged(models[1], 2) as second:
        writers = [TextWriter(first, 2), TextWriter(second, 2)]
        for writer, one in zip(writers, jobs, strict=True):
            writer.add([one])
        while sum(len(writer.step()) for writer in writers):
            pass
    assert [continuation(tok, one.prompt, one.new) for one in jobs] == wanted
    assert wanted[0] != wanted[1]


@given(
    st.lists(st.floats(0.01, 1.0), min_size=2, max_size=9),
    st.floats(0.05, 1.0),
    st.integers(0, 9),
    st.floats(0.0, 1.0),
)
@settings(max_examples=60, deadline=None)
def test_sampling_rules_leave_what_their_definitions_say(weights, top_p, top_k, min_p):
    chances = torch.tensor([weights], dtype=torch.float64)
    chances /= chances.sum()
    kept = text_writer._kept(chances, Decoding(1, 1.0, top_p, top_k, min_p))[0].tolist()
    order = sorted(range(len(weights)), key=lambda n: -chances[0, n].item())
    stays = order[: top_k or None]
    total, before, nucleus = sum(chances[0, n].item() for n in stays), 0.0, []
    for number in stays:
        if before < top_p * total - 1e-12 or not nucleus:
            nucleus.append(number)
        before += chances[0, number].item()
    best = chances[0, order[0]].item()
    wanted = {n for n in nucleus if chances[0, n].item() >= min_p * best or n == order[0]}
    near = {
        n
        for n in stays
        if abs(sum(chances[0, m].item() for m in stays[: stays.index(n)]) - top_p * total) < 1e-9
    }
    assert {n for n, value in enumerate(kept) if value} - near == wanted - near
    assert all(value in (0, chances[0, n].item()) for n, value in enumerate(kept))


def test_a_nucleus_counted_by_hand():
    chances = torch.tensor([[0.1, 0.5, 0.15, 0.25]])
    for decoding, wanted in (
        (Decoding(1, 1.0, top_p=0.5), [1]),
        (Decoding(1, 1.0, top_p=0.6), [1, 3]),
        (Decoding(1, 1.0, top_k=3), [1, 2, 3]),
        (Decoding(1, 1.0, min_p=0.4), [1, 3]),
        (Decoding(1, 1.0, top_p=1e-9), [1]),
    ):
        assert text_writer._kept(chances, decoding)[0].nonzero().flatten().tolist() == wanted, decoding
    draws = np.array([0.0, 0.66, 0.67, 0.999])  # of .5 and .25, two thirds are the first one's
    drawn = text_writer._sample(chances.log().repeat(4, 1), draws, Decoding(1, 1.0, top_p=0.6))
    assert drawn.tolist() == [1, 1, 3, 3]
