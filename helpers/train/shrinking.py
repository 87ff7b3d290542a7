"""Scale an adapter down so that it keeps nearly all of its gain and forgets less.

A line of models connects the base weights with the tuned ones (Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models"). Moving back a little from the tuned end costs almost nothing on the new text, where the
loss is flat, and recovers much of what was forgotten, where it is not. The scale is chosen on the
validation files alone, without looking at general code.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.trainable_tokens import TrainableTokensLayer
from safetensors.torch import load_file, save_file

SCALES = (0.9, 0.8, 0.7, 0.6)
WEIGHTS = "adapter_model.safetensors"


def shrink_adapter(
    model: PeftModel, adapter_dir: Path, validate: Callable[[PeftModel], float], *, untouched: float,
    keep_gain: float,
) -> float:  # fmt: skip
    """Scale the adapter of `model`, saved in `adapter_dir`, down as far as `keep_gain` allows.

    Args:
        validate: lower is better.
        untouched: the base model's validation.
        keep_gain: the share of the validated gain that must remain, at most 1.

    Returns:
        The scale by which the saved update was multiplied: one of SCALES, or 1.
    """
    rows = _trained_rows(model)
    wanted = untouched - keep_gain * (untouched - validate(model))
    chosen = 1.0
    for scale in SCALES:
        _set_scale(model, scale, rows)
        if validate(model) > wanted:
            break
        chosen = scale
    _set_scale(model, chosen, rows)
    if chosen != 1.0:
        weights = load_file(adapter_dir / WEIGHTS)
        weights = {name: w * chosen if "lora_B" in name else w for name, w in weights.items()}
        weights |= {name: _rows_of(layer).clone() for name, (layer, _) in rows.items()}
        partial = adapter_dir / f"{WEIGHTS}.partial"
        save_file(weights, partial, metadata={"format": "pt"})
        partial.replace(adapter_dir / WEIGHTS)
    return chosen


def _rows_of(layer: TrainableTokensLayer) -> torch.Tensor:
    (adapter,) = layer.active_adapters
    return layer.trainable_tokens_delta[adapter].data


def _trained_rows(model: PeftModel) -> dict[str, tuple[TrainableTokensLayer, torch.Tensor]]:
    """Map the name on disk of each embedding with trained rows to its layer and a copy of these rows."""
    return {
        f"{path}.trainable_tokens_delta": (module, _rows_of(module).clone())
        for path, module in model.named_modules()
        if isinstance(module, TrainableTokensLayer) and not module.tied_adapter  # tied ones share the table
    }


def _set_scale(
    model: PeftModel, scale: float, rows: dict[str, tuple[TrainableTokensLayer, torch.Tensor]]
) -> None:
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name in module.active_adapters:
                module.set_scale(name, scale)
    for layer, trained in rows.values():  # PEFT stores whole rows, not differences
        (adapter,) = layer.active_adapters
        _rows_of(layer).copy_(torch.lerp(layer.trainable_tokens_original[adapter], trained, scale))
