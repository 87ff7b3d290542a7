"""Store matrices as llama.cpp's mixture Q4_K_M: by the rule of `llama-quantize`, with llama.cpp's own code.

The package `gguf` only reads K-quants. `ggml_quantize_chunk` of a prebuilt llama.cpp writes them. Which
matrix gets how many bits follows `llama_tensor_get_type` for Llama- and Qwen2-style models: the head, half
of the value projections and half of the downward projections get six bits, the rest four. A matrix whose rows
are no multiple of 256 long falls back to Q5_0 or Q8_0, as there.
"""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import quant_shape_to_byte_shape

from helpers.take_home.engine_job import EngineError
from helpers.take_home.gguf_weights import Store
from helpers.take_home.llama_engine import MISSING, find_llama
from helpers.take_home.llama_library import open_library

BLOCK = 256
FALLBACK = {
    GGMLQuantizationType.Q4_K: GGMLQuantizationType.Q5_0,
    GGMLQuantizationType.Q6_K: GGMLQuantizationType.Q8_0,
}
LAYER = re.compile(r"blk\.(\d+)\.")


def k_store(n_layers: int, *, tied: bool) -> Store:
    """Return how matrices are stored in Q4_K_M.

    Args:
        tied: whether the head is the embedding, which then gets the head's bits.

    Raises:
        EngineError: as `quantiser`.
    """
    quantise = quantiser()

    def store(name: str, values: np.ndarray) -> tuple[np.ndarray, GGMLQuantizationType]:
        kind = mixed_type(name, n_layers, tied=tied)
        kind = kind if values.shape[-1] % BLOCK == 0 else FALLBACK[kind]
        source = np.ascontiguousarray(values, np.float32)
        stored = np.empty(quant_shape_to_byte_shape(source.shape, kind), np.uint8)
        rows, columns = source.shape
        written = quantise(int(kind), source.ctypes.data, stored.ctypes.data, 0, rows, columns, None)
        if written != stored.nbytes:
            raise EngineError(f"llama.cpp wrote {written} bytes of {name} instead of {stored.nbytes}")
        return stored, kind

    return store


def quantiser() -> Any:
    """Return llama.cpp's function that quantises rows.

    Raises:
        EngineError: if there is no llama.cpp with this function on this machine.
    """
    found = find_llama()
    if found is None:
        raise EngineError(f"Q4_K_M needs llama.cpp's own code: {MISSING}")
    try:
        quantise = open_library(str(found[1])).ggml_quantize_chunk
    except (OSError, AttributeError) as error:
        raise EngineError(f"the llama.cpp of {found[0]} cannot write Q4_K_M: {error}") from error
    quantise.restype = ctypes.c_size_t
    quantise.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,
        ctypes.c_void_p,
    ]  # fmt: skip
    return quantise


def mixed_type(name: str, n_layers: int, *, tied: bool) -> GGMLQuantizationType:
    """Return the type of a matrix in Q4_K_M, before any fallback."""
    if name == ("token_embd.weight" if tied else "output.weight"):
        return GGMLQuantizationType.Q6_K
    layer = LAYER.match(name)
    wants_more = layer is not None and ("attn_v." in name or "ffn_down." in name)
    if wants_more and _gets_more(int(layer[1]), n_layers):
        return GGMLQuantizationType.Q6_K
    return GGMLQuantizationType.Q4_K


def _gets_more(layer: int, n_layers: int) -> bool:
    """Return whether a layer gets more bits: the first and last eighth, and every third between."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2
