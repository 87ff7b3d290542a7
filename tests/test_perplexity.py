"""Perplexity and bits per byte against full passes, hand counts and known limits."""

import math

import pytest
import tiny_models
import torch

from helpers.eval.perplexity import PerplexityError, evaluate_perplexity, unigram_bits_per_byte

TEXTS = [
    tiny_models.TEXT,
    "naïve = 'Straße' # ☃\n",
    "import math\n" * 30,
    "x",
    "",
    "def f():\n    return 1\n",
]


@pytest.fixture(scope="module")
def tok():
    return tiny_models.tokenizer()


@pytest.fixture(scope="module")
def model(tok):
    return tiny_models.model("qwen2", len(tok), context=512)


def by_hand(model, tok, text):
    """Sum of -ln p over all tokens after the first, one full pass in float64."""
    ids = torch.tensor([tok(text).input_ids])
    with torch.no_grad():
        logits = model(ids).logits[0, :-1].double()
    return -torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None]).sum().item()


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_uniform_model_has_the_vocabulary_size_as_perplexity(tok, family):
    model = tiny_models.model(family, len(tok))
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    result = evaluate_perplexity(model, tok, TEXTS, window=16, stride=8)
    assert result.perplexity == pytest.approx(len(tok), rel=1e-6)
    bits = result.n_tokens * math.log2(len(tok))
    assert result.bits_per_byte == pytest.approx(bits / sum(len(t.encode()) for t in TEXTS), rel=1e-6)


@pytest.mark.parametrize("stride", [1, 7, 16, 200])
def test_a_text_that_fits_is_one_full_pass(model, tok, stride):
    text = "def f():\n    return 1\n"
    result = evaluate_perplexity(model, tok, [text], window=200, stride=stride)
    assert result.nll_nats == pytest.approx(by_hand(model, tok, text), rel=1e-5)
    assert result.n_tokens == len(tok(text).input_ids) - 1


@pytest.mark.parametrize(
    ("window", "stride"), [(16, 1), (16, 5), (16, 8), (16, 15), (16, 16), (33, 32), (400, 100)]
)
def test_every_token_after_the_first_is_scored_once(model, tok, window, stride):
    seen = {}

    def observe(text, first, losses, hits):
        for offset in range(len(losses)):
            seen[text, first + offset] = seen.get((text, first + offset), 0) + 1

    result = evaluate_perplexity(model, tok, TEXTS, window=window, stride=stride, observe=observe)
    lengths = [len(tok(text).input_ids) for text in TEXTS]
    assert set(seen.values()) == {1}
    assert set(seen) == {(i, t) for i, n in enumerate(lengths) for t in range(1, n)}
    assert result.n_tokens == len(seen) == sum(score.n_tokens for score in result.texts)


def test_a_window_sees_its_context_and_nothing_more(model, tok):
    """Second window of a strided pass: targets see the window's earlier tokens, as computed alone."""
    ids = tok(TEXTS[0]).input_ids
    window, stride = 16, 8
    result = evaluate_perplexity(model, tok, [TEXTS[0]], window=window, stride=stride)
    total, scored, first = 0.0, 0, 0
    while scored < len(ids) - 1:
        last = min(first + window, len(ids) - 1)
        with torch.no_grad():
            logits = model(torch.tensor([ids[first:last]])).logits[0].double()
        for target in range(scored + 1, last + 1):
            total -= torch.log_softmax(logits[target - 1 - first], -1)[ids[target]].item()
        scored, first = last, first + stride
    assert result.nll_nats == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_batch_size_and_order_do_not_matter(tok, family):
    model = tiny_models.model(family, len(tok))
    one = evaluate_perplexity(model, tok, TEXTS, window=32, stride=16, batch_size=1)
    many = evaluate_perplexity(model, tok, TEXTS, window=32, stride=16, batch_size=64)
    turned = evaluate_perplexity(model, tok, TEXTS[::-1], window=32, stride=16, batch_size=5)
    assert many.nll_nats == pytest.approx(one.nll_nats, rel=1e-5)
    assert turned.nll_nats == pytest.approx(one.nll_nats, rel=1e-5)
    for a, b, c in zip(one.texts, many.texts, turned.texts[::-1], strict=True):
        assert a.nll_nats == pytest.approx(b.nll_nats, rel=1e-5, abs=1e-5)
        assert a.nll_nats == pytest.approx(c.nll_nats, rel=1e-5, abs=1e-5)


def test_the_head_is_applied_in_pieces_to_the_same_effect(model, tok, monkeypatch):
    whole = evaluate_perplexity(model, tok, TEXTS, window=32, stride=16)
    monkeypatch.setattr("helpers.models.target_scores.LOGITS_AT_ONCE", 5 * len(tok))
    pieces = evaluate_perplexity(model, tok, TEXTS, window=32, stride=16)
    assert pieces.accuracy == whole.accuracy
    for a, b in zip(pieces.texts, whole.texts, strict=True):
        assert a.nll_nats == pytest.approx(b.nll_nats, rel=1e-5)


def test_tokens_weigh_alike_not_texts(model, tok):
    result = evaluate_perplexity(model, tok, TEXTS, window=200, stride=100)
    assert result.nll_nats == pytest.approx(math.fsum(t.nll_nats for t in result.texts))
    assert result.perplexity == pytest.approx(math.exp(result.nll_nats / result.n_tokens))
    unweighted = [math.exp(t.nll_nats / t.n_tokens) for t in result.texts if t.n_tokens]
    assert result.perplexity != pytest.approx(sum(unweighted) / len(unweighted), rel=1e-3)


def test_bytes_are_counted_by_hand_and_survive_cutting(model, tok):
    text = "größe = '☃'\n"
    assert len(text) == 12
    result = evaluate_perplexity(model, tok, [text], window=64, stride=64)
    assert result.n_bytes == 12 + 2 + 2  # ö and ß take one byte more each, the snowman two
    whole = evaluate_perplexity(model, tok, [text * 4], window=64, stride=64)
    parts = evaluate_perplexity(model, tok, [text] * 4, window=64, stride=64)
    assert whole.n_bytes == parts.n_bytes


def test_empty_and_one_token_texts_are_counted(model, tok):
    result = evaluate_perplexity(model, tok, TEXTS, window=64, stride=32)
    assert result.n_unscored_texts == 2
    assert (result.texts[3].n_tokens, result.texts[3].n_bytes, result.texts[3].nll_nats) == (0, 1, 0.0)
    assert (result.texts[4].n_tokens, result.texts[4].n_bytes) == (0, 0)
    for texts in ([], [""], ["x", ""]):
        with pytest.raises(PerplexityError, match="nothing to score"):
            evaluate_perplexity(model, tok, texts, window=64, stride=32)


@pytest.mark.parametrize(("window", "stride"), [(16, 0), (16, 17), (0, 0), (16, -1)])
def test_impossible_windows_are_refused(model, tok, window, stride):
    with pytest.raises(PerplexityError, match="stride"):
        evaluate_perplexity(model, tok, TEXTS, window=window, stride=stride)


def test_a_spelled_special_token_is_plain_text(model, tok):
    result = evaluate_perplexity(model, tok, ["a <|endoftext|> b"], window=64, stride=64)
    assert result.n_tokens > 5


def test_the_model_is_left_as_it_was(model, tok):
    model.train()
    evaluate_perplexity(model, tok, TEXTS, window=32, stride=32)
    assert model.training
    model.eval()


def test_accuracy_counts_first_choices(model, tok):
    result = evaluate_perplexity(model, tok, [TEXTS[0]], window=400, stride=400)
    ids = torch.tensor([tok(TEXTS[0]).input_ids])
    with torch.no_grad():
        right = (model(ids).logits[0, :-1].argmax(-1) == ids[0, 1:]).float().mean().item()
    assert result.accuracy == pytest.approx(right)


def test_unigram_baseline_by_hand(tok):
    train, test = "aab", "ab"
    ids = {c: tok(c).input_ids for c in "ab"}
    assert all(len(v) == 1 for v in ids.values())
    encoded = tok(test, add_special_tokens=False).input_ids
    counts = tok(train, add_special_tokens=False).input_ids
    total = len(counts) + len(tok)
    bits = sum(-math.log2((counts.count(t) + 1) / total) for t in encoded[1:])
    if bits:
        assert unigram_bits_per_byte([train], [test], tok) == pytest.approx(bits / 2)
    with pytest.raises(PerplexityError):
        unigram_bits_per_byte([train], ["a"], tok)
    assert unigram_bits_per_byte([], [TEXTS[0]], tok) == pytest.approx(
        (len(tok(TEXTS[0]).input_ids) - 1) * math.log2(len(tok)) / len(TEXTS[0].encode())
    )
