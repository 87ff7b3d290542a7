"""Shared by the three tracks: the cost in a track's section of metrics.json, and the section's file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from helpers.models.footprint import Machine
from helpers.models.shapes import ShapeError
from helpers.plan import plan_run
from helpers.run.workspace import read_json, write_json
from helpers.tracks.session import Session

FROM_HISTORY = ("tokens_per_second", "trainable_parameters", "useful_share", "micro_batch", "accumulation",
                "gradient_checkpointing", "frozen_weights", "lowered", "infilled_documents",
                "adapter_scale")  # fmt: skip


def cost_of(run: Session, track: str, stages: Sequence[str]) -> dict[str, Any]:
    """Return seconds by stage, training speed, and the memory measured and planned of one track."""
    seconds = {stage: round(run.workspace.seconds_of(f"{track}/{stage}"), 3) for stage in stages}
    cost: dict[str, Any] = {"seconds": round(sum(seconds.values()), 3), "seconds_by_stage": seconds}
    history = run.history(f"{track}/train")
    cost |= {name: history[name] for name in FROM_HISTORY if name in history}
    memory = {stage: read_json(run.folder / track / stage / "memory.json") for stage in stages}
    for stage, gib in _planned_gib(run, track).items():
        memory[stage] = {"planned_gib": gib} | memory.get(stage, {})
    peak = max(one["peak_gib"] for one in memory.values() if "peak_gib" in one)
    return cost | {"peak_memory_gib": round(peak, 3), "memory_by_stage": memory}


def keep_section(run: Session, track: str, section: dict[str, Any]) -> dict[str, Any]:
    """Write a track's section beside its stages, and note that this run has recorded it."""
    write_json(run.folder / track / "section.json", section)
    run.guards.recorded.add(track)
    return section


def _planned_gib(run: Session, track: str) -> dict[str, float]:
    """Return stage -> GiB that it holds by the plan; empty if a model's shape is unknown."""
    try:
        stages = plan_run(run.profile, Machine.of(run.runtime))
    except ShapeError:
        return {}
    mine = {stage.stage.split("/")[1]: stage for stage in stages if stage.stage.startswith(f"{track}/")}
    return {name: round(stage.peak_gib, 3) for name, stage in mine.items()}
