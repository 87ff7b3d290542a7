"""Baselines in bits per byte without a neural network: a general compressor and a byte 5-gram model."""

from __future__ import annotations

import lzma
import math
from collections.abc import Sequence

import numpy as np

ORDER = 5  # bytes of an n-gram: four of context and the one predicted


def xz_bits_per_byte(texts: Sequence[str]) -> float:
    """Return the size of all texts, compressed together by `xz -9`, in bits per byte of text."""
    data = "".join(texts).encode()
    return 8 * len(lzma.compress(data, preset=9)) / len(data)


def ngram_bits_per_byte(train: Sequence[str], test: Sequence[str], order: int = ORDER) -> float:
    """Return the cross-entropy of `test`, in bits per byte, under a byte n-gram model of `train`.

    The model interpolates all orders down to the uniform distribution over 256 bytes (Witten and
    Bell 1991): p(b | context) = (c(context b) + T(context) p(b | shorter context)) / (c(context) +
    T(context)), where c counts and T is the number of different bytes seen after the context.

    Args:
        train: texts to count.
        test: texts to predict.
        order: bytes per n-gram, the predicted one included.

    Raises:
        ValueError: if either text is empty.
    """
    seen = np.frombuffer("".join(train).encode(), np.uint8).astype(np.uint64)
    asked = np.frombuffer("".join(test).encode(), np.uint8).astype(np.uint64)
    if not len(seen) or not len(asked):
        raise ValueError("an n-gram model needs text to count and text to predict")
    probability = np.full(len(asked), 1 / 256)
    for n in range(1, order + 1):
        grams, counts = np.unique(_windows(seen, n), return_counts=True)
        contexts, first = np.unique(grams >> np.uint64(8), return_index=True)
        total = np.add.reduceat(counts, first)
        kinds = np.diff([*first, len(grams)])
        wanted = _windows(np.concatenate([np.zeros(n - 1, np.uint64), asked]), n)
        count = _look_up(grams, counts, wanted)
        after = _look_up(contexts, total, wanted >> np.uint64(8))
        types = _look_up(contexts, kinds, wanted >> np.uint64(8))
        known = after > 0
        probability[known] = ((count + types * probability) / np.maximum(after + types, 1))[known]
    return float(-np.log(probability).sum() / math.log(2) / len(asked))


def _windows(data: np.ndarray, n: int) -> np.ndarray:
    """Pack every run of `n` bytes into one number, the last byte lowest."""
    packed = np.zeros(len(data) - n + 1, np.uint64)
    for i in range(n):
        packed = (packed << np.uint64(8)) | data[i : i + len(packed)]
    return packed


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
