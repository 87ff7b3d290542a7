"""Track C's tuned embedder: the mean of the weights from several training seeds.

Trainings that start from the same weights and differ only in their seed end close enough together for
their mean to be a good model itself: usually better than each of them, and no larger or slower (Wortsman
et al. 2022, "model soups"). The members' trained parameters are kept, to show how much a single training
depends on its seed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from helpers.data.queries.retrieval_data import RetrievalData
from helpers.eval.retrieval import VectorIndex
from helpers.machine.hardware import Runtime
from helpers.machine.progress import part
from helpers.models.embedder import limit_tokens, load_embedder
from helpers.run.workspace import read_json, write_json
from helpers.settings import TrackCSettings
from helpers.train.contrastive import ValidationMRR, freeze_lower_layers, save_embedder, train_embedder

MEMBERS = "members"


def train_averaged(
    settings: TrackCSettings,
    data: RetrievalData,
    runtime: Runtime,
    *,
    seed: int,
    out_dir: Path,
    index: VectorIndex | None = None,
) -> dict[str, Any]:
    """Tune from `settings.seeds` seeds and keep the mean of the models in `out_dir/"embedder"`.

    `train_embedder` trains each member and raises the errors. A resumed call finds finished members in
    `out_dir/"members"`.

    Args:
        seed: the first member's; the others have the seeds after it.

    Returns:
        The first member's history with `seeds`, `members` (seed -> best validation MRR@10) and
        `validation_averaged`; also written to `out_dir/"history.json"`.
    """
    seeds = [seed + step for step in range(settings.seeds)]
    histories = {}
    for number, one in enumerate(seeds, 1):
        with part("seed", number, len(seeds)):
            histories[one] = _member(settings, data, runtime, one, out_dir / MEMBERS, index)
    processes = PartialState(cpu=runtime.device.type == "cpu")
    states = [load_file(_weights(out_dir, one)) for one in seeds]
    model = load_embedder(settings.model, runtime)
    model.load_state_dict(mean_of(states), strict=False)
    limit_tokens(model, settings.max_tokens)
    history = histories[seed] | {
        "seeds": seeds,
        "members": {
            str(one): max((row["mrr@10"] for row in history["validation"]), default=None)
            for one, history in histories.items()
        },
        "validation_averaged": ValidationMRR(data, settings, runtime, seed).value(model),
        "mining_seconds": sum(history["mining_seconds"] for history in histories.values()),
        "training_seconds": sum(history["training_seconds"] for history in histories.values()),
    }
    if processes.is_main_process:
        save_embedder(model, out_dir / "embedder", settings, data, seeds)
        write_json(out_dir / "history.json", history)
    processes.wait_for_everyone()
    return history


def mean_of(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the mean of states with equal names and shapes, tensor by tensor.

    >>> mean_of([{"w": torch.tensor([0.0, 4.0])}, {"w": torch.tensor([2.0, 0.0])}])
    {'w': tensor([1., 2.])}
    """
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def load_member(settings: TrackCSettings, trained: Path, seed: int, runtime: Runtime) -> SentenceTransformer:
    """Load the model that training from `seed` alone gave; `trained` is the folder of `train_averaged`."""
    model = load_embedder(settings.model, runtime)
    model.load_state_dict(load_file(_weights(trained, seed)), strict=False)
    return model


def _member(
    settings: TrackCSettings, data: RetrievalData, runtime: Runtime, seed: int, members: Path,
    index: VectorIndex | None,
) -> dict[str, Any]:  # fmt: skip
    """Return one member's history. Trains the member unless that file, which is written last, exists."""
    done, folder = members / f"seed_{seed}.json", members / f"seed_{seed}"
    processes = PartialState(cpu=runtime.device.type == "cpu")
    processes.wait_for_everyone()
    if not done.is_file():
        history = train_embedder(settings, data, runtime, seed=seed, out_dir=folder, index=index)
        if processes.is_main_process:
            model = load_embedder(str(folder / "embedder"), runtime)
            freeze_lower_layers(model, settings.trained_layers)
            trained = {name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad}
            weights = _weights(members.parent, seed)
            save_file(trained, partial := weights.with_suffix(".partial"))
            os.replace(partial, weights)
            write_json(done, history)
            shutil.rmtree(folder)
        processes.wait_for_everyone()
    return read_json(done)


def _weights(out_dir: Path, seed: int) -> Path:
    return out_dir / MEMBERS / f"seed_{seed}.safetensors"
