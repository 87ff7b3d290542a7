"""A second copy of finished stages, in a folder that outlives the machine (a mounted Drive).

Computing happens on the local disk; a finished stage is copied here, and a new machine takes it from
here instead of computing it. The folder may vanish at any moment: that is said once, and the run
goes on.
"""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from helpers.run.digests import file_digests


@dataclass
class SecondCopy:
    """The copies of one run's stages, in `root/runs/<run_id>`. `root` is never created."""

    root: Path
    run_id: str
    _complained: bool = field(default=False, repr=False)

    @property
    def folder(self) -> Path:
        """Where this run's copies lie."""
        return self.root / "runs" / self.run_id

    def store(self, name: str, key: str, stage: Path) -> None:
        """Copy the finished `stage` unless it is here already; a failure is said, never raised."""
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
        """Copy the stage of this key to `into`; whether it was here, and every file as it was written."""
        source = self.folder / name
        try:
            self._check()
            if _key(source) != key:
                return False
            shutil.rmtree(into, ignore_errors=True)
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, into)
            whole = json.loads((into / "stage.json").read_text())["files"] == file_digests(into)
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, OSError):
                self._complain(error)
            whole = False
        if not whole:
            shutil.rmtree(into, ignore_errors=True)
            return False
        print(f"{name}: taken from {self.folder}")
        return True

    def keep_file(self, file: Path, name: str) -> None:
        """Copy one file; a failure is said, never raised."""
        try:
            self._check()
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, self.folder / name)
        except OSError as error:
            self._complain(error)

    def _check(self) -> None:
        """An unmounted folder must not be made anew on the local disk."""
        if not self.root.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the folder is gone")

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            print(
                f"The second copy in {self.root} cannot be reached ({error.strerror or error}). "
                "The run goes on; its results lie on the local disk alone until the folder is back."
            )
        self._complained = True


def _key(stage: Path) -> str | None:
    try:
        return json.loads((stage / "stage.json").read_text())["key"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError):  # a copy that was cut short
        return None
