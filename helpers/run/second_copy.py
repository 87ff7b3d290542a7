"""A second copy of finished stages in a folder that outlives the machine, such as a mounted Drive.

A run computes on the local disk and copies each finished stage to this folder; a new machine takes it
from there instead of computing it. The folder may vanish at any moment: the run says so once and
continues.
"""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from helpers.run.stage_files import file_digests


@dataclass
class SecondCopy:
    """The copies of one run's stages in `root/runs/<run_id>`; `root` itself is never created."""

    root: Path
    run_id: str
    _complained: bool = field(default=False, repr=False)

    @property
    def folder(self) -> Path:
        """The folder that holds this run's copies."""
        return self.root / "runs" / self.run_id

    def store(self, name: str, key: str, stage: Path) -> None:
        """Copy the finished `stage` unless that is done already; print a failure, never raise it."""
        target = self.folder / name
        copying = target.with_name(target.name + ".copying")
        try:
            self._check()
            if _key(target) == key:
                return
            shutil.rmtree(copying, ignore_errors=True)
            shutil.copytree(stage, copying)
            shutil.rmtree(target, ignore_errors=True)
            copying.rename(target)
            self._complained = False
        except OSError as error:
            self._complain(error)

    def fetch(self, name: str, key: str, into: Path) -> bool:
        """Copy the stage with this key to `into`; return whether it was there with every file intact."""
        source = self.folder / name
        try:
            self._check()
            if _key(source) != key:
                return False
            shutil.rmtree(into, ignore_errors=True)
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, into)
            whole = json.loads((into / "stage.json").read_text())["files"] == file_digests(into)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, OSError):
                self._complain(error)
            whole = False
        if not whole:
            shutil.rmtree(into, ignore_errors=True)
            return False
        print(f"{name}: copied from {self.folder}")
        return True

    def keep_file(self, file: Path, name: str) -> None:
        """Copy one file; print a failure, never raise it."""
        try:
            self._check()
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, self.folder / name)
        except OSError as error:
            self._complain(error)

    def _check(self) -> None:
        """Raise FileNotFoundError if the folder is unmounted, so it is not recreated on the local disk."""
        if not self.root.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the folder is gone")

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            print(
                f"The second copy in {self.root} cannot be reached ({error.strerror or error}). "
                "The run continues; until the folder is back, its results are on the local disk only."
            )
        self._complained = True


def _key(stage: Path) -> str | None:
    try:
        return json.loads((stage / "stage.json").read_text())["key"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # not copied yet, or interrupted
        return None
