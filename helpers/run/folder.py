"""A run's folder: create it or find the one to resume, and publish its reports."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import os
import shutil
import subprocess
import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from helpers.profiles import RunRequest, resolve_profile
from helpers.run.second_copy import SecondCopy
from helpers.run.workspace import WorkspaceError, read_json, write_json
from helpers.settings import Profile, SettingsError, public_spec

PACKAGE = Path(__file__).resolve().parents[1]


def choose_run(request: RunRequest) -> tuple[Profile, Path]:
    """Resolve the profile and create the run folder, or find the one to resume.

    Raises:
        SettingsError: for a profile or setting that does not exist.
        WorkspaceError: if the run folder cannot be created, or the folder for second copies is not there.
    """
    request = with_profile_named(request)
    chosen = resolve_profile(request)
    out, resume, run_id, keep = request.out, request.resume, request.run_id, request.second_copy
    runs = Path(out) / "runs"
    if resume and not run_id:
        run_id = _newest_unfinished(runs, chosen) or ""
        if keep and not run_id:  # on a new machine, resume what an earlier one left behind
            run_id = _newest_unfinished(second_copy_root(keep) / "runs", chosen) or ""
    try:
        if run_id:
            folder = runs / run_id
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = _new_folder(runs, [Path(keep) / "runs"] if keep else [], chosen.name)
    except OSError as error:
        raise WorkspaceError(
            f"cannot write to {out}: {error.strerror}; choose another folder with --out"
        ) from error
    shown = replace(chosen, corpus=replace(chosen.corpus, spec=public_spec(chosen.corpus.spec)))
    write_json(folder / "run.json", {"fingerprint": chosen.fingerprint(), "profile": shown})
    return chosen, folder


def recorded_profile(run_folder: Path) -> Profile:
    """Return the settings that a run was made with; those of other versions are left out.

    Raises:
        OSError, ValueError, KeyError, TypeError: if the folder holds no `run.json`, or a broken one.
        SettingsError: if this version refuses a setting of it.
    """
    try:
        return settings_of(Profile, read_json(run_folder / "run.json")["profile"])
    except SettingsError as error:
        raise SettingsError(f"{run_folder} was made with a setting that is refused now: {error}") from error


def settings_of(kind: type, plain: Mapping[str, Any]) -> Any:
    """Return a settings dataclass from its JSON form; what this version does not know is left out."""
    hints = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        if field.name in plain:
            value = plain[field.name]
            if dataclasses.is_dataclass(hints[field.name]):
                value = settings_of(hints[field.name], value)
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def with_profile_named(request: RunRequest) -> RunRequest:
    """Return `request` with "auto" replaced by the profile that suits this machine."""
    if request.profile != "auto":
        return request
    return replace(request, profile="t4" if torch.cuda.is_available() else "cpu")


def newest_run_with(runs: Path, subfolders: Sequence[str]) -> Path | None:
    """Return the most recent run folder below `runs` that has all `subfolders`; None if there is none."""
    ready = [run for run in runs.glob("*/") if all((run / subfolder).is_dir() for subfolder in subfolders)]
    newest = {run: max((run / subfolder).stat().st_mtime for subfolder in subfolders) for run in ready}
    return max(ready, key=lambda run: (newest[run], run.name), default=None)


def publish_reports(run_folder: Path, out: Path, copy: SecondCopy | None = None) -> list[Path]:
    """Copy everything below `<run folder>/report/` to `out`, each file by one atomic rename.

    This finishes the run; `published.json` in its folder records that.

    Returns:
        The published paths, sorted.
    """
    report = run_folder / "report"
    targets = {p: out / p.relative_to(report) for p in sorted(report.rglob("*")) if p.is_file()}
    copies = {target: target.with_name(f".{target.name}.new") for target in targets.values()}
    try:
        for source, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copies[target])
        for target, copied in copies.items():  # replace nothing before everything is copied
            copied.replace(target)
    except OSError as error:
        for copied in copies.values():
            with contextlib.suppress(OSError):
                copied.unlink()
        raise WorkspaceError(f"cannot write {error.filename}: {error.strerror}") from error
    write_json(run_folder / "published.json", [path.name for path in targets.values()])
    if copy:
        for path in [*targets, run_folder / "published.json"]:
            copy.keep_file(path, path.relative_to(run_folder).as_posix())
    return list(targets.values())


def code_revision() -> str:
    """Return the git revision of the code, with "+" if the tree has changes.

    Outside a checkout, return the environment variable CODE_REVISION (set it when you copy the code to
    another machine), else "unknown".
    """

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        # In an installed package git would answer for the checkout that the environment happens to lie in.
        git("ls-files", "--error-unmatch", "run/folder.py")
        revision = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("CODE_REVISION", "unknown")
    return revision + ("+" if changed else "")


def second_copy_root(keep: str | Path) -> Path:
    """Return the folder for second copies; create it if its parent exists.

    Raises:
        WorkspaceError: if it cannot be used.
    """
    root = Path(keep)
    try:
        root.mkdir(exist_ok=True)
    except OSError as error:
        raise WorkspaceError(
            f"no second copy can be kept in {root}: {error.strerror}. Mount the Drive first "
            "(folder icon on the left, Mount Drive), or switch the second copy off"
        ) from error
    return root


def _new_folder(runs: Path, others: Sequence[Path], profile: str) -> Path:
    """Create a folder below `runs`, named by profile and UTC time, with a number if that name is taken.

    Creating the folder claims the name, so two runs started in the same second do not share it.
    """
    runs.mkdir(parents=True, exist_ok=True)
    name = f"{profile}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    for number in itertools.count(1):
        candidate = name if number == 1 else f"{name}-{number}"
        if not any((other / candidate).exists() for other in others):
            with contextlib.suppress(FileExistsError):
                (runs / candidate).mkdir()
                break
    return runs / candidate


def _newest_unfinished(runs: Path, profile: Profile) -> str | None:
    """Return the newest run folder with the same settings and without published reports, or None."""
    if not runs.is_dir():
        return None
    for folder in sorted((f for f in runs.iterdir() if f.is_dir()), reverse=True):
        try:
            same = read_json(folder / "run.json")["fingerprint"] == profile.fingerprint()
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if same and not (folder / "published.json").exists():
            return folder.name
    return None
