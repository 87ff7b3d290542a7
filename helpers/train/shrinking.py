"""A smaller adapter that keeps nearly all of the gain, and forgets less.

Between the base weights and the tuned ones lies a line of models (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models"). Going back a little from its tuned end costs next to nothing on the
new text, where the loss is flat, and wins back much of what was forgotten, where it is not. The place is
chosen on the validation files alone; general code is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from peft import PeftModel
from peft.tuners.lora import LoraLayer
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
    wanted = untouched - keep_gain * (untouched - validate(model))
    chosen = 1.0
    for scale in SCALES:
        _set_scale(model, scale)
        if validate(model) > wanted:
            break
        chosen = scale
    _set_scale(model, chosen)
    if chosen != 1.0:
        weights = load_file(adapter_dir / WEIGHTS)
        weights = {name: w * chosen if "lora_B" in name else w for name, w in weights.items()}
        partial = adapter_dir / f"{WEIGHTS}.partial"
        save_file(weights, partial, metadata={"format": "pt"})
        partial.replace(adapter_dir / WEIGHTS)
    return chosen


def _set_scale(model: PeftModel, scale: float) -> None:
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name in module.active_adapters:
                module.set_scale(name, scale)
