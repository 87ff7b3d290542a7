"""Find a model's shape, which decides its memory, and its identity, without loading it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from helpers.errors import SuiteError
from helpers.models.gguf.header import GgufError
from helpers.models.gguf.sources import find_gguf
from helpers.models.gguf.store import VERSION as CONVERSION
from helpers.paths import expanded
from helpers.run.stage_files import file_digests
from helpers.run.workspace import digest

PACKAGE_PREFIX = "package:"
DESCRIPTIONS = {"README.md", "report.json", "training.json"}  # in a model's folder, read by people only


class ShapeError(SuiteError, ValueError):
    """The shape of a model is not known."""


@dataclass(frozen=True)
class Shape:
    """Dimensions that decide memory. Decoders are Qwen2- or Llama-like (gated MLP), encoders BERT-like."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool = True
    qkv_bias: bool = True
    encoder: bool = False
    positions: int = 0  # learned ones

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """The (in, out) of each linear layer of one block; the output head is not among them."""
        h, i = self.hidden, self.intermediate
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        inner = ((h, i),) if self.encoder else ((h, i), (h, i))
        return ((h, q), (h, kv), (h, kv), (q, h), *inner, (i, h))

    @property
    def linear_parameters(self) -> int:
        """The number of weights in all blocks' linear layers, without biases."""
        return self.layers * sum(a * b for a, b in self.linears)

    @property
    def parameters(self) -> int:
        """The number of all parameters: embeddings, blocks, norms, biases, an untied head."""
        h, kv = self.hidden, self.kv_heads * self.head_dim
        total = self.vocabulary * h + self.linear_parameters
        if self.encoder:  # biases, two LayerNorms a block, position and type embeddings, pooler
            biases = sum(out for _, out in self.linears)
            return total + self.layers * (biases + 4 * h) + (self.positions + 2) * h + 2 * h + h * h + h
        bias = self.heads * self.head_dim + 2 * kv if self.qkv_bias else 0
        return total + self.layers * (bias + 2 * h) + h + (0 if self.tied else self.vocabulary * h)


_QWEN_05 = Shape(896, 24, 14, 2, 64, 4864, 151_936)
_QWEN_15 = Shape(1536, 28, 12, 2, 128, 8960, 151_936)
# Published configurations, so that planning needs no network.
KNOWN: Mapping[str, Shape] = {
    "qwen/qwen2.5-coder-0.5b": _QWEN_05,
    "qwen/qwen2.5-coder-0.5b-instruct": _QWEN_05,
    "qwen/qwen2.5-coder-1.5b": _QWEN_15,
    "qwen/qwen2.5-coder-1.5b-instruct": _QWEN_15,
    "intfloat/e5-small-v2": Shape(384, 12, 12, 12, 32, 1536, 30_522, encoder=True, positions=512),
    "baai/bge-small-en-v1.5": Shape(384, 12, 12, 12, 32, 1536, 30_522, encoder=True, positions=512),
}


def model_shape(spec: str) -> Shape:
    """Return the shape of a known hub model, a GGUF file or a folder's `config.json`; else ShapeError."""
    if spec.lower() in KNOWN:
        return KNOWN[spec.lower()]
    try:
        if (gguf := find_gguf(spec)) is not None:
            return shape_of(gguf.configuration())
        folder = model_folder(spec)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("config.json holds no JSON object")
        return shape_of(config)
    except GgufError as error:
        raise ShapeError(str(error)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ShapeError(f"the shape of {spec!r} is not known; give a folder with its config.json") from error


def shape_of(config: Any) -> Shape:
    """Read the shape from a transformers configuration, given as an object or as the file's JSON.

    ShapeError is raised if it does not name the model's width, depth and heads.
    """
    values = config if isinstance(config, Mapping) else config.to_dict()
    hidden = values.get("hidden_size") or values.get("n_embd")
    layers = values.get("num_hidden_layers") or values.get("n_layer")
    heads = values.get("num_attention_heads") or values.get("n_head")
    if not (hidden and layers and heads):
        raise ShapeError(
            "the model's configuration names no hidden_size, num_hidden_layers, num_attention_heads"
        )
    kind = values.get("model_type", "")
    encoder = kind in ("bert", "roberta", "xlm-roberta", "mpnet", "distilbert")
    return Shape(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=values.get("num_key_value_heads") or heads,
        head_dim=values.get("head_dim") or hidden // heads,
        intermediate=values.get("intermediate_size") or 4 * hidden,
        vocabulary=values.get("vocab_size", 0),
        tied=bool(values.get("tie_word_embeddings", True)),
        qkv_bias=kind == "qwen2",
        encoder=encoder,
        positions=values.get("max_position_embeddings", 0) if encoder else 0,
    )


def model_folder(spec: str) -> Path:
    """Return the folder of the model `spec`: a folder, `helpers/...` or `package:NAME`.

    A hub name is returned as a path that does not exist.
    """
    if spec.startswith(PACKAGE_PREFIX):
        found = importlib.util.find_spec(spec.removeprefix(PACKAGE_PREFIX).replace("-", "_"))
        if found is None or found.origin is None:
            return Path(spec)
        root = Path(found.origin).parent
        return next((path.parent for path in sorted(root.rglob("modules.json"))), Path(spec))
    beside_package = Path(__file__).resolve().parents[2] / spec
    return beside_package if spec.startswith("helpers/") else expanded(spec)


def model_identity(spec: str) -> str:
    """Return what identifies a model: a digest of the files it is loaded from, or the hub's revision.

    A GGUF file is identified by its digest and by the version of what converts it.

    Card and reports do not count: they can be reworded without anything being recomputed. A hub model that
    is not in the cache yet is identified by its name alone.
    """
    if (gguf := find_gguf(spec)) is not None:
        return digest(["gguf", gguf.sha256, CONVERSION])
    folder = model_folder(spec)
    if folder.is_dir():
        return digest({n: d for n, d in file_digests(folder).items() if n not in DESCRIPTIONS})
    config = try_to_load_from_cache(spec, "config.json") if spec.count("/") <= 1 else None
    return f"{spec}@{Path(config).parent.name}" if isinstance(config, str) else spec
