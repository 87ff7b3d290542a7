"""The files of one run: what a model may read and write, and nothing outside.

Scripts run elsewhere. What they leave behind is copied in as plain files, so that the folder holds no link,
pipe or device; paths that lead outside, binary and huge files are refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

MAX_CODE_CHARACTERS = 200_000
MAX_READ_BYTES = 4 * 2**20  # of a file from which lines are shown
MAX_LISTED = 200
MAX_KEPT_BYTES = 64 * 2**20  # of what all scripts of a run leave behind


class FileRefusedError(ValueError):
    """The model may not use this path; the message tells it why."""


class AgentFiles:
    """The folder of one run, with the files that the model was given and may not change."""

    def __init__(self, folder: Path, given: dict[str, str]) -> None:
        """Create `folder` and write the `given` files, name -> text, into it."""
        folder.mkdir(parents=True)
        for name, text in given.items():
            (folder / name).write_text(text, encoding="utf-8")
        self.folder, self._given, self._kept_bytes = folder.resolve(), given, 0

    def place(self, path: str) -> Path:
        """Return the place of a relative path inside the folder.

        Raises:
            FileRefusedError: if it is absolute or leads outside.
        """
        parts = PurePosixPath(path)
        if "\0" in path or "\\" in path or len(path) > 200:
            raise FileRefusedError(f"{path[:200]!r} is no path: write one such as fast.py")
        if parts.is_absolute() or ".." in parts.parts:
            raise FileRefusedError(f"{path!r} lies outside your folder: write a relative path without ..")
        return self.folder / parts

    def text_of(self, path: str) -> str:
        """Return the text of a file, or the names in a folder, one a line; those of folders end with a slash.

        Raises:
            FileRefusedError: if there is no such file, or it is no text or too large.
        """
        place = self.place(path)
        try:
            if place.is_dir():
                return _listing(place)
            size = place.stat().st_size
            if size > MAX_READ_BYTES:
                raise FileRefusedError(f"{path!r} has {size:,} bytes, over {MAX_READ_BYTES:,}")
            data = place.read_bytes()
        except OSError as error:
            raise FileRefusedError(f"{path!r} cannot be read: {error.strerror}") from None
        if b"\0" in data:
            raise FileRefusedError(f"{path!r} is binary: {len(data):,} bytes")
        return data.decode("utf-8", "replace")

    def save(self, path: str, code: str) -> None:
        """Write a script of the model's.

        Raises:
            FileRefusedError: if the path is no script's, is one of the given files, or the code is no text or
                too long.
        """
        place = self.place(path)
        if place.suffix != ".py":
            raise FileRefusedError(f"{path!r} is no script: its name must end with .py")
        if place.parent != self.folder:
            raise FileRefusedError(f"{path!r} lies in a subfolder: scripts lie at the top of your folder")
        if place.name in self._given:
            raise FileRefusedError(f"{path!r} was given to you and cannot be changed: take another name")
        if len(code) > MAX_CODE_CHARACTERS:
            raise FileRefusedError(f"the code has {len(code):,} characters, over {MAX_CODE_CHARACTERS:,}")
        try:
            place.write_text(code, encoding="utf-8")
        except (OSError, UnicodeEncodeError) as error:
            raise FileRefusedError(f"{path!r} cannot be written: {error}") from None

    def script(self, path: str) -> str:
        """Return the source of a script that is there.

        Raises:
            FileRefusedError: if there is none.
        """
        place = self.place(path)
        if place.suffix != ".py" or not place.is_file():
            raise FileRefusedError(f"there is no script {path!r} in your folder: give its `code`")
        return self.text_of(path)

    def keep(self, written: Mapping[str, bytes]) -> list[str]:
        """Write what a script left behind and return the paths, without what leads outside or is too much."""
        kept = []
        for path, content in written.items():
            try:
                place = self.place(path)
                if path in self._given or self._kept_bytes + len(content) > MAX_KEPT_BYTES:
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
                self._kept_bytes += len(content)
            except (FileRefusedError, OSError):
                continue
            kept.append(path)
        return sorted(kept)


def _listing(folder: Path) -> str:
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in os.scandir(folder))
    more = [f"and {len(names) - MAX_LISTED} more"] if len(names) > MAX_LISTED else []
    return "\n".join([*names[:MAX_LISTED], *more]) or "(empty)"
