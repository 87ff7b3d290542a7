"""The compressor and the byte n-gram model against values computed by hand."""

import math
import random

import pytest

from helpers.base_model.byte_baselines import ngram_bits_per_byte, xz_bits_per_byte


def test_unigram_by_hand():
    # "aab": 3 bytes, 2 kinds; p(a) = (2 + 2/256) / 5, p(b) = (1 + 2/256) / 5, p(z) = (2/256) / 5
    expected = -sum(math.log2((count + 2 / 256) / 5) for count in (2, 1, 0)) / 3
    assert ngram_bits_per_byte(["aab"], ["abz"], order=1) == pytest.approx(expected, rel=1e-12)


def test_bigram_by_hand():
    # after "a" in "abab": b twice, one kind
    uniform = 1 / 256
    one = {byte: (count + 2 * uniform) / 6 for byte, count in {"a": 2, "b": 2}.items()}
    p_first = one["a"]  # nothing before the first byte: the context was never seen
    p_second = (2 + 1 * one["b"]) / 3
    expected = -(math.log2(p_first) + math.log2(p_second)) / 2
    assert ngram_bits_per_byte(["abab"], ["ab"], order=2) == pytest.approx(expected, rel=1e-12)


def test_probabilities_of_the_next_byte_sum_to_one():
    rng = random.Random(1)
    train = "".join(rng.choice("abc") for _ in range(200))
    whole = 0.0
    for byte in range(128):
        text = "ab" + chr(byte)
        bits = 3 * ngram_bits_per_byte([train], [text], order=3) - 2 * ngram_bits_per_byte(
            [train], ["ab"], order=3
        )
        whole += 2**-bits
    unseen = 3 * ngram_bits_per_byte([train], ["abz"], order=3) - 2 * ngram_bits_per_byte(
        [train], ["ab"], order=3
    )
    assert whole + 128 * 2**-unseen == pytest.approx(1, abs=1e-9)


def test_repetition_is_cheap_and_noise_is_not():
    noise = "".join(chr(random.Random(i).randrange(32, 127)) for i in range(4000))
    assert xz_bits_per_byte(["abc" * 4000]) < 0.2
    assert xz_bits_per_byte([noise]) > 6


def test_no_text_is_refused():
    with pytest.raises(ValueError, match="needs text"):
        ngram_bits_per_byte([], ["a"])
