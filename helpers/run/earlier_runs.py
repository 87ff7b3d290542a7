"""What earlier run folders on this machine say before a run begins: seconds per step, and finished steps."""

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
    """Return step (`stage_kind`) -> its median seconds in earlier runs here with the same settings.

    Runs with another seed count too, since they do the same amount of work. So do runs of other code,
    whose amount of work is not known in advance.
    """
    took: dict[str, list[float]] = {}
    for stage in stages:
        for _, seconds in _records(run_folder.parent.glob("*/"), profile, stage, seed_counts=False):
            took.setdefault(stage_kind(stage), []).append(seconds)
    return {kind: statistics.median(several) for kind, several in took.items()}


def kept_stages(run_folder: Path, profile: Profile, stages: Iterable[str], *, resume: bool) -> set[str]:
    """Return those of `stages` that are finished in the run folder or, to resume, in one beside it.

    The run itself decides whether it can reuse them, from all their inputs. Here it only counts whether
    the settings are equal and the code is older than the step.
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
    """Yield `stage.json` and its seconds for each folder that has the step with these settings.

    A finished step that is not renamed yet (`.partial`) counts as finished, as in the workspace.
    """
    mine = _settings(to_plain(profile), stage, seed_counts)
    for folder in folders:
        for name in (stage, f"{stage}.partial"):
            record = folder / name / "stage.json"
            try:
                theirs = _settings(read_json(folder / "run.json")["profile"], stage, seed_counts)
                if theirs == mine:
                    yield record, float(read_json(record)["seconds"])
            except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no run, or an old format
                continue


def _settings(profile: Mapping[str, Any], stage: str, seed_counts: bool) -> list[Any]:
    """Return a step's track settings and the shared ones: more than the step reads, to be safe."""
    seed = profile["seed"] if seed_counts else None
    return [profile["corpus"], profile["nf4"], profile[stage.partition("/")[0]], seed]
