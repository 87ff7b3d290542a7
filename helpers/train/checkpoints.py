"""Checkpoints of a training run: found again after a kill, damaged ones passed over."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import torch
from safetensors import safe_open

from helpers.run.workspace import read_json, write_json


def newest_whole_checkpoint(folder: Path, key: str) -> Path | None:
    """The latest checkpoint that can be read in full; all of another run's are removed."""
    try:
        same_run = read_json(folder / "run.json")["key"] == key
    except (OSError, ValueError, KeyError):
        same_run = False
    if not same_run:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / "run.json", {"key": key})
        return None
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for checkpoint in found:
        if _is_whole(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)  # a kill or a full disk cut it short
    return None


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
        weights = sorted(checkpoint.glob("*.safetensors"))
        for file in weights:
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    tensors.get_tensor(name)
        for name in ("optimizer.pt", "scheduler.pt"):
            torch.load(checkpoint / name, map_location="cpu", weights_only=True)
        for file in checkpoint.glob("rng_state*.pth"):  # holds more than weights: read, not loaded
            if zipfile.ZipFile(file).testzip() is not None:
                return False
    except Exception:  # whatever a damaged file makes its reader raise
        return False
    return bool(weights)


def replace_folder(source: Path, target: Path) -> None:
    """Let `source` take the place of `target`, which may exist."""
    shutil.rmtree(target, ignore_errors=True)
    source.rename(target)
