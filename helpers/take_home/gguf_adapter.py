"""Write an adapter alone as a GGUF LoRA file, for llama.cpp's `--lora` on top of the base model's file."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFType, GGUFWriter, Keys, get_tensor_name_map
from peft import PeftModel
from peft.tuners.lora import Linear
from transformers import PreTrainedModel

from helpers.take_home.gguf_weights import ARCHITECTURES, architecture, rotary_order, write_whole
from helpers.take_home.measured_model import ExportError, MeasuredModel

DEFAULT = "default"  # PEFT's name of the one adapter


def write_lora(measured: MeasuredModel, target: Path, name: str) -> None:
    """Write the adapter of `measured` to `target`, in float32.

    llama.cpp scales an update by alpha / rank, whatever the training did; so the alpha written is PEFT's own
    scale times the rank, which differs from the configured alpha under rsLoRA.

    Raises:
        ExportError: if the adapter holds more than low-rank updates of linear layers with one scale, which
            such a file cannot say.
    """
    model = measured.model
    layers = lora_layers(model)
    scales = {layer.scaling[DEFAULT] * layer.r[DEFAULT] for layer in layers.values()}
    if len(scales) != 1:
        raise ExportError("this adapter has several scales, and a LoRA file has one; export the merged model")
    plain: PreTrainedModel = model.get_base_model()
    names = get_tensor_name_map(ARCHITECTURES[architecture(plain.config)], plain.config.num_hidden_layers)
    writer = GGUFWriter(str(target), architecture(plain.config))
    writer.add_type(GGUFType.ADAPTER)
    writer.add_name(name)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, float(scales.pop()))
    for place, layer in layers.items():
        known = names.get_name(place)
        if known is None:
            raise ExportError(f"llama.cpp has no place for the adapter of {place}; export the merged model")
        down, up = layer.lora_A[DEFAULT].weight, layer.lora_B[DEFAULT].weight
        rows = rotary_order(f"{place}.weight", plain.config)
        writer.add_tensor(f"{known}.weight.lora_a", _values(down))
        writer.add_tensor(f"{known}.weight.lora_b", _values(up if rows is None else up[rows]))
    write_whole(writer)


def untouched_base(measured: MeasuredModel) -> PreTrainedModel:
    """Return a copy of the base model without the adapter; `measured` stays as it is."""
    return copy.deepcopy(measured.model).unload()


def lora_layers(model: PeftModel) -> dict[str, Linear]:
    """Return the adapted linear layers by their name in the base model.

    Raises:
        ExportError: if anything else is adapted, or a layer's adapter is of another kind.
    """
    settings: Any = model.peft_config[DEFAULT]
    if settings.trainable_token_indices:
        raise ExportError(
            "this adapter also trained rows of the embedding (track_a.train_embeddings), which a LoRA file "
            "cannot hold; export the merged model, or train with --set track_a.train_embeddings=false"
        )
    if settings.use_dora or settings.modules_to_save or settings.bias != "none" or settings.lora_bias:
        raise ExportError("this adapter is more than plain LoRA; export the merged model")
    inner = model.get_base_model()
    found = {name: layer for name, layer in inner.named_modules() if isinstance(layer, Linear)}
    if not found or not all(math.isfinite(layer.scaling[DEFAULT]) for layer in found.values()):
        raise ExportError("this adapter adapts no linear layer; export the merged model")
    return found


def _values(weight: Any) -> np.ndarray:
    return weight.detach().float().contiguous().numpy()
