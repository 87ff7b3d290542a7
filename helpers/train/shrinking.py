"""A smaller adapter that keeps nearly all of the gain, and forgets less.

Between the base weights and the tuned ones lies a line of models (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models"). Going back a little from its tuned end costs next to nothing on the
new text, where the loss is flat, and wins back much of what was forgotten, where it is not. The place is
chosen on the validation files alone; general code is not looked at.
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
    model: PeftModel,
    adapter_dir: Path,
    validate: Callable[[PeftModel], float],
    *,
    untouched: float,
    keep_gain: float,
) -> float:
    """Scale the adapter in `adapter_dir` down as far as `keep_gain` of its validated gain allows.

    Args:
        model: with that adapter on it.
        validate: lower is better.
        untouched: what `validate` gave for the base model.
        keep_gain: share of the gain that must remain, up to 1.

    Returns:
        The scale, one of SCALES or 1, by which the saved update was multiplied.
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
    """Layers with trained rows of an embedding and those rows as they are now, by their name on disk."""
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
    for layer, trained in rows.values():  # PEFT keeps whole rows, not differences
        (adapter,) = layer.active_adapters
        _rows_of(layer).copy_(torch.lerp(layer.trainable_tokens_original[adapter], trained, scale))
