"""What the run folders on this machine know before a run begins: seconds of steps, and finished steps."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from helpers.run.folder import PACKAGE
from helpers.run.stage_names import stage_kind
from helpers.run.workspace import read_json, to_plain
from helpers.settings import Profile


def recorded_seconds(run_folder: Path, profile: Profile, stages: Iterable[str]) -> dict[str, float]:
    """Step (`stage_kind`) -> the median of what it took in the runs of the same settings lying here.

    Another seed is the same amount of work, and so is other code, as far as anybody knows beforehand.
    """
    took: dict[str, list[float]] = {}
    for stage in stages:
        for _, seconds in _records(run_folder.parent.glob("*/"), profile, stage, seed_counts=False):
            took.setdefault(stage_kind(stage), []).append(seconds)
    return {kind: statistics.median(several) for kind, several in took.items()}


def kept_stages(run_folder: Path, profile: Profile, stages: Iterable[str], *, resume: bool) -> set[str]:
    """Those of `stages` that lie finished in the run folder or, to resume, in one beside it.

    Whether they really serve is decided by the run itself, from everything they rest on; here the settings
    are compared, and that the code is older than the step.
    """
    newest_code = max(file.stat().st_mtime for file in PACKAGE.rglob("*.py"))
    folders = list(run_folder.parent.glob("*/")) if resume else [run_folder]
    return {
        stage
        for stage in stages
        if any(
            record.stat().st_mtime >= newest_code
            for record, _ in _records(folders, profile, stage, seed_counts=True)
        )
    }


def _records(
    folders: Iterable[Path], profile: Profile, stage: str, *, seed_counts: bool
) -> Iterator[tuple[Path, float]]:
    """`stage.json` and the seconds in it of each folder that has the step with these settings.

    A finished step not yet renamed (`.partial`) counts as finished, as it does for the workspace.
    """
    mine = _settings(to_plain(profile), stage, seed_counts)
    for folder in folders:
        for name in (stage, f"{stage}.partial"):
            record = folder / name / "stage.json"
            try:
                theirs = _settings(read_json(folder / "run.json")["profile"], stage, seed_counts)
                if theirs == mine:
                    yield record, float(read_json(record)["seconds"])
            except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no run, or none of today's
                continue


def _settings(profile: Mapping[str, Any], stage: str, seed_counts: bool) -> list[Any]:
    """Settings of a step's track and what all tracks share: more than it reads, to be on the safe side."""
    seed = profile["seed"] if seed_counts else None
    return [profile["corpus"], profile["nf4"], profile[stage.partition("/")[0]], seed]
