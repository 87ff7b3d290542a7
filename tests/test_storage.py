"""The runtime check's lines on where results lie, with a fake mount table."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.machine import storage
from helpers.machine.storage import storage_decisions
from helpers.profiles import RunRequest
from helpers.tracks.session import open_session


@pytest.fixture
def drive(tmp_path: Path, monkeypatch) -> Path:
    """Return a folder, with a space in its name, that is a mounted Drive; everything else is a local disk."""
    folder = tmp_path / "my drive"
    folder.mkdir()
    table = tmp_path / "mounts"
    escaped = str(folder).replace(" ", r"\040")
    table.write_text(
        f"overlay / fuse.overlayfs rw 0 0\nproc /proc proc rw 0 0\ndrive {escaped} fuse.drive rw 0 0\n"
    )
    monkeypatch.setattr(storage, "MOUNTS", table)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    return folder


def lines(folder: Path, keep: Path | None) -> dict[str, str]:
    return {line.name: f"{line.value}: {line.reason}" for line in storage_decisions(folder, keep)}


def test_a_run_on_a_mounted_drive_gets_a_warning(drive, tmp_path) -> None:
    said = lines(drive / "runs" / "not-there-yet", None)
    assert said["results"].startswith("on a mounted folder (fuse.drive): slow, and a Drive can drop")
    assert "KEEP_ON_DRIVE" in said["results"]
    (tmp_path / "linked").symlink_to(drive)
    assert lines(tmp_path / "linked" / "runs", None) == said


def test_a_local_run_with_its_copy_on_the_drive_gets_no_warning(drive, tmp_path) -> None:
    said = lines(tmp_path / "runs", drive / "kept")
    assert said["results"].startswith("on this machine's disk")
    assert said["second copy"].startswith("of each finished step")


def test_a_copy_on_an_unmounted_drive_gets_a_warning(drive, tmp_path) -> None:
    storage.MOUNTS.write_text("overlay / overlay rw 0 0\n")  # the folder is there, the Drive is not
    said = lines(tmp_path / "runs", drive / "kept")
    assert said["second copy"].startswith("on the same disk as the run: no Drive is mounted there")
    assert "mount the Drive" in said["second copy"]


def test_a_missing_copy_is_mentioned_only_if_the_disk_vanishes(drive, tmp_path, monkeypatch) -> None:
    assert set(lines(tmp_path, None)) == {"results"}
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    assert lines(tmp_path, None)["second copy"].startswith("none: results vanish with this runtime")


def test_without_a_mount_table_nothing_is_claimed(drive, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(storage, "MOUNTS", tmp_path / "missing")
    said = lines(tmp_path, tmp_path / "kept")
    assert said["results"].startswith("on this machine's disk")
    assert said["second copy"].startswith("of each finished step")


def test_the_runtime_check_of_a_session_has_these_lines(drive, tmp_path) -> None:
    run = open_session(RunRequest("smoke", out=tmp_path, second_copy=drive))
    said = {line.name: line.value for line in run.runtime.decisions}
    assert said["results"] == "on this machine's disk"
    assert said["second copy"] == "of each finished step"
    assert all(line.reason for line in run.runtime.decisions)
