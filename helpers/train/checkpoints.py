"""Checkpoints: one policy for the three training loops.

- **Identity.** Each checkpoint carries a key: the digest of everything that must be equal for a run to
  resume from it. A checkpoint with another key is never resumed from.
- **When.** `SaveSchedule` decides; the last step always has a checkpoint.
- **Resume.** A run resumes from its newest checkpoint that can be read in full. Damaged ones, which a
  kill or a full disk leaves behind, are passed over; without any, training starts from the beginning.

There are two formats. Loops around transformers' `Trainer` have its folders `checkpoint-<step>` and the key
beside them in `run.json`, all removed when training is done. The from-scratch loop has one file, replaced as
a whole (`CheckpointFile`) and kept, so that a finished run can be prolonged.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from helpers.run.workspace import read_json, write_json


@dataclass(frozen=True)
class SaveSchedule:
    """When a checkpoint is due.

    >>> schedule = SaveSchedule(every=4, total=10)
    >>> [step for step in range(1, 11) if schedule.is_due(step)]
    [4, 8, 10]
    """

    every: int  # steps
    total: int
    pause_s: float = 0.0  # least training time between two checkpoints, except before the last

    def is_due(self, step: int, seconds_since_last: float = math.inf) -> bool:
        """Whether to save after `step`, counted from 1."""
        return step == self.total or (step % self.every == 0 and seconds_since_last >= self.pause_s)


@dataclass(frozen=True)
class TrainingProgress:
    """How far a from-scratch run has come."""

    step: int = 0  # steps done
    tokens: int = 0  # targets seen
    seconds: float = 0.0  # of training alone


class CheckpointFile:
    """Weights, optimizer states and progress in one file, replaced as a whole."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key

    def save(
        self, model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer], progress: TrainingProgress
    ) -> None:
        """Write to a temporary file, then rename it."""
        temporary = self.path.with_suffix(".partial")
        states = {"model": model.state_dict(), "optimizers": [one.state_dict() for one in optimizers]}
        torch.save({"key": self.key, **asdict(progress), **states}, temporary)
        os.replace(temporary, self.path)

    def restore(
        self, model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer], device: torch.device
    ) -> TrainingProgress:
        """Load the state saved last and return its progress; without a usable file, change nothing."""
        try:
            saved = torch.load(self.path, map_location=device, weights_only=True)
        except Exception:  # no file, or a damaged one: readers raise all kinds of errors
            return TrainingProgress()
        if saved["key"] != self.key:
            return TrainingProgress()
        model.load_state_dict(saved["model"])
        for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
            peaks = [group["lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(values)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak  # the saved rate is what the schedule had made of it
        return TrainingProgress(saved["step"], saved["tokens"], saved["seconds"])


def newest_whole_checkpoint(folder: Path, key: str) -> Path | None:
    """Return the newest `Trainer` checkpoint that can be read in full; None if there is none.

    Checkpoints of a run with another key are removed, and so are damaged ones.
    """
    try:
        same_run = read_json(folder / "run.json")["key"] == key
    except (OSError, ValueError, KeyError, TypeError):
        same_run = False
    if not same_run:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / "run.json", {"key": key})
        return None
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        if _is_whole(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def step_of(checkpoint: Path) -> int:
    """Return the step after which a `Trainer` checkpoint was written."""
    return int(checkpoint.name.split("-")[1])


def replace_folder(source: Path, target: Path) -> None:
    """Rename `source` to `target`, which is removed first if it exists."""
    shutil.rmtree(target, ignore_errors=True)
    source.rename(target)


@contextlib.contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Yield a new folder's path to write to; it then replaces `target`, which is never half written."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    yield partial
    replace_folder(partial, target)


def _is_whole(checkpoint: Path) -> bool:
    """Whether every file of a `Trainer` checkpoint can be read to its end."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
        weights = sorted(checkpoint.glob("*.safetensors"))
        for file in weights:
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    tensors.get_tensor(name)
        for name in ("optimizer.pt", "scheduler.pt"):
            torch.load(checkpoint / name, map_location="cpu", weights_only=True)
        for file in checkpoint.glob("rng_state*.pth"):  # pickled objects: check their bytes only
            if zipfile.ZipFile(file).testzip() is not None:
                return False
    except Exception:  # readers raise all kinds of errors on damaged files
        return False
    return bool(weights)
