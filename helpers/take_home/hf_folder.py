"""Write the merged model as a folder that plain `from_pretrained` loads: weights, tokenizer, card."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from helpers.run.workspace import write_json
from helpers.take_home.measured_model import MeasuredModel

WEIGHTS = "model.safetensors"
HOW_TO_LOAD = """```python
from transformers import AutoModelForCausalLM, {loader}

model = AutoModelForCausalLM.from_pretrained("this/folder")
tokenizer = {loader}.from_pretrained("this/folder")
```"""


def write_hf(measured: MeasuredModel, whole: PreTrainedModel, folder: Path) -> None:
    """Write `whole` and its tokenizer into `folder`.

    Weights are float32: the base may be stored in 16 bits, but base plus adapter is not, and rounding it
    would change what was measured. They are written by safetensors itself, since transformers refuses to save
    a model that was loaded from a GGUF file.
    """
    tied = whole.config.tie_word_embeddings
    seen: set[int] = set()
    weights: dict[str, torch.Tensor] = {}
    for name, weight in whole.state_dict().items():
        if not (tied and weight.data_ptr() in seen):
            weights[name] = weight.detach().contiguous()
        seen.add(weight.data_ptr())
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    settings = whole.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "torch_dtype"):
        settings.pop(key, None)
    write_json(
        folder / "config.json", settings | {"architectures": [type(whole).__name__], "dtype": "float32"}
    )
    shutil.copymode(folder / "config.json", folder / WEIGHTS)  # safetensors lets only the owner read it
    whole.generation_config.save_pretrained(folder)
    measured.tokenizer.save_pretrained(folder)
