"""Write a dense causal language model as one GGUF file that llama.cpp computes with.

Names and shapes follow llama.cpp's converter. Of Llama-style models it stores the rows of the query and key
projections in another order, because its rotary embedding turns neighbouring pairs of a head's numbers and
transformers' turns halves (`rotary_order`). A tied head is left out, and llama.cpp takes the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, LlamaFileType, get_tensor_name_map
from gguf.quants import quantize
from transformers import PreTrainedConfig, PreTrainedModel

from helpers.take_home.gguf_vocabulary import add_fields
from helpers.take_home.measured_model import ExportError

ARCHITECTURES = {"llama": MODEL_ARCH.LLAMA, "qwen2": MODEL_ARCH.QWEN2}
TURNED = ("llama",)  # families whose query and key rows are stored in the order of `rotary_order`
TYPES = {
    "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
}
LARGEST_F16 = float(np.finfo(np.float16).max)
Q8_BLOCK = 32

# Stores one matrix: (llama.cpp's name, float32 values) -> (bytes as stored, their type).
Store = Callable[[str, np.ndarray], tuple[np.ndarray, GGMLQuantizationType]]


@dataclass(frozen=True)
class GgufText:
    """What a file says of itself in words."""

    name: str
    licence: str
    description: str


def write_gguf(
    model: PreTrainedModel, vocabulary: Mapping[str, Any], text: GgufText, target: Path, *,
    kind: str, store: Store,
) -> None:  # fmt: skip
    """Write `model` to `target`.

    Args:
        model: float32, without adapters (`helpers.take_home.measured_model.merged_model`).
        vocabulary: from `helpers.take_home.gguf_vocabulary.vocabulary_fields`.
        kind: a key of `TYPES`.
        store: from `plain_store`, or `helpers.take_home.k_quants.k_store` for q4_k_m.

    Raises:
        ExportError: if llama.cpp has no such model, or a value has no place in the format.
    """
    writer = GGUFWriter(str(target), architecture(model.config))
    writer.add_name(text.name)
    writer.add_description(text.description)
    if text.licence:
        writer.add_license(text.licence)
    writer.add_file_type(TYPES[kind])
    writer.add_quantization_version(2)
    add_fields(writer, shape_fields(model.config))
    add_fields(writer, dict(vocabulary))
    for name, values in named_tensors(model):
        stored, form = (values, GGMLQuantizationType.F32) if values.ndim == 1 else store(name, values)
        writer.add_tensor(name, stored, raw_dtype=form)
    write_whole(writer)


def write_whole(writer: GGUFWriter) -> None:
    """Write what was added to a file, and close it."""
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def plain_store(kind: str) -> Store:
    """Return how matrices are stored as f16, bf16 or q8_0."""
    form = {"f16": GGMLQuantizationType.F16, "bf16": GGMLQuantizationType.BF16,
            "q8_0": GGMLQuantizationType.Q8_0}[kind]  # fmt: skip

    def store(name: str, values: np.ndarray) -> tuple[np.ndarray, GGMLQuantizationType]:
        fits = values.shape[-1] % Q8_BLOCK == 0
        chosen = form if form != GGMLQuantizationType.Q8_0 or fits else GGMLQuantizationType.F16
        if chosen == GGMLQuantizationType.F16 and np.abs(values).max() > LARGEST_F16:
            raise ExportError(f"{name} has values beyond float16's largest; export with --type bf16")
        return quantize(values, chosen), chosen

    return store


def architecture(config: PreTrainedConfig) -> str:
    """Return llama.cpp's name of a model's family; ExportError if it is not known to compute the same."""
    family = config.model_type
    if family not in ARCHITECTURES:
        raise ExportError(
            f"models of the family {family!r} cannot be written to GGUF here (only "
            f"{', '.join(ARCHITECTURES)}); export it with --to hf, and convert that folder with llama.cpp's "
            "own converter"
        )
    rope = getattr(config, "rope_parameters", None) or {}
    sliding = getattr(config, "use_sliding_window", False)
    if rope.get("rope_type", "default") != "default" or sliding or config.hidden_act != "silu":
        raise ExportError(
            "this model stretches its rotary embedding, attends in a sliding window, or has another "
            "activation than silu, which is not written to GGUF here; export it with --to hf"
        )
    return family


def shape_fields(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the keys that give a model's dimensions."""
    family = architecture(config)
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    rope = getattr(config, "rope_parameters", None) or {}
    fields = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": head,
        "rope.freq_base": float(rope.get("rope_theta", 10_000.0)),
    }
    return {f"{family}.{key}": value for key, value in fields.items()}


def named_tensors(model: PreTrainedModel) -> Iterator[tuple[str, np.ndarray]]:
    """Yield llama.cpp's name and float32 values of every tensor; a tied head is left out."""
    config = model.config
    names = get_tensor_name_map(ARCHITECTURES[architecture(config)], config.num_hidden_layers)
    seen: set[int] = set()
    for name, weight in model.state_dict().items():
        if weight.data_ptr() in seen:  # the head of a tied model comes after its embedding
            continue
        seen.add(weight.data_ptr())
        place, _, suffix = name.rpartition(".")
        known = names.get_name(place)
        if known is None:
            raise ExportError(f"llama.cpp has no place for the weight {name}; export the model with --to hf")
        rows = rotary_order(name, config)
        turned = weight if rows is None else weight[rows]
        yield f"{known}.{suffix}", turned.detach().float().contiguous().numpy()


def rotary_order(name: str, config: PreTrainedConfig) -> torch.Tensor | None:
    """Return the order of a projection's output rows in llama.cpp; None if it keeps transformers' order.

    Row 2i + j of a head there is row i + j d/2 here, for heads of d rows.
    """
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    found = next((count for part, count in heads.items() if f".{part}." in f"{name}."), None)
    if found is None or config.model_type not in TURNED:
        return None
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rows = torch.arange(found * head).reshape(found, 2, head // 2)
    return rows.transpose(1, 2).reshape(-1)
