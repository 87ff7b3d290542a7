"""Storage of a run's stages: finished ones are found again, and files are written whole or not at all.

`runs/<run_id>/` holds one folder per stage. A stage is built in `<stage>.partial/` and renamed when it
is complete, so a folder without the suffix is always complete. Its `stage.json` holds a hash of
everything the stage depends on and a hash of every file. A later call with the same inputs finds the
stage; a changed input or a damaged file rebuilds it. Finished stages can be copied to a folder that
outlives the machine (`helpers.run.second_copy`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from helpers.error_text import storage_problem
from helpers.errors import SuiteError
from helpers.escaping import storable
from helpers.run.second_copy import SecondCopy
from helpers.run.stage_files import file_digests

R = TypeVar("R")


class WorkspaceError(SuiteError, RuntimeError):
    """The run folder is unusable: not writable, full, or in use by another run."""

    ends_run = True


class DamagedFileError(SuiteError, ValueError):
    """A file that was cut short, or holds something else than it should; the message names it."""

    def __init__(self, path: Path, wrong: object, where: str = "") -> None:
        why = " ".join(str(wrong).split()) or type(wrong).__name__
        super().__init__(
            f"{path} is damaged{where} ({why}): restore it, or repeat with --resume the run that wrote it"
        )


def to_plain(value: Any) -> Any:
    """Convert dataclasses, tuples, sets and paths to JSON-ready values; sets are sorted."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(to_plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, Path):
        return value.as_posix()
    return value


def digest(value: Any) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of `value`: equal values give equal digests."""
    canonical = json.dumps(to_plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8 with `write_bytes`; what UTF-8 lacks is written as `storable` shows it.

    In JSON that is the escape which reading turns into the same text again.
    """
    write_bytes(path, storable(text).encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file beside `path` and rename it, so `path` is never half written.

    Raises:
        WorkspaceError: if the folder cannot be written or the disk is full; `path` stays untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise WorkspaceError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise WorkspaceError(f"cannot write {path}: {error.strerror}") from error


def check_writable(path: Path) -> None:
    """Check that `write_bytes` could write `path`, and leave nothing: before work whose results go there.

    Raises:
        WorkspaceError: if it could not.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        folder = path.parent
        while not folder.exists():
            folder = folder.parent
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.")
    except OSError as error:
        raise WorkspaceError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    os.unlink(temporary)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinity raise ValueError."""
    write_text(path, json.dumps(to_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Parse one JSON file.

    Raises:
        OSError: if it is not there.
        DamagedFileError: if it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, error) from error


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON object per line; the file is written whole or not at all."""
    lines = (json.dumps(to_plain(row), ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_jsonl(path: Path, record: Callable[..., R] = dict) -> list[R]:
    """Read a JSONL file; each row becomes keyword arguments of `record`, with JSON lists as tuples.

    Raises:
        OSError: if it is not there.
        DamagedFileError: if a line is no such row.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DamagedFileError(path, error) from error
    rows = []
    # Split only at "\n": str.splitlines also breaks at U+2028, which JSON allows inside strings.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line:
            continue
        try:
            fields = json.loads(line)
            if record is not dict:
                fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
            rows.append(record(**fields))
        except (ValueError, RecursionError, TypeError, AttributeError) as error:
            raise DamagedFileError(path, error, f" in line {number}") from error
    return rows


@dataclass(frozen=True)
class Workspace:
    """One run's folder, optionally with a second copy of its finished stages.

    With `reuse`, it copies finished stages from other runs beside it: equal inputs give equal results.
    """

    folder: Path
    copy: SecondCopy | None = None
    reuse: bool = False

    def stage(self, name: str, inputs: Any, build: Callable[[Path], None]) -> Path:
        """Return the folder of stage `name`; build it unless it exists for these `inputs`.

        Args:
            name: a path below the run folder, e.g. "track_a/adapter".
            inputs: everything the result depends on (settings, data digests, upstream stage
                digests); hashed with `digest`.
            build: writes its artefacts into the folder it is given. The folder survives a kill,
                so `build` may leave checkpoints there and resume from them.

        Raises:
            WorkspaceError: if the disk is full or cannot be written; finished stages stay intact.
        """
        final = self.folder / name
        partial = final.with_name(final.name + ".partial")
        key = digest(inputs)
        if not _is_whole(final, key):
            try:
                if not _is_whole(partial, key) and not self._taken_over(name, key, partial):
                    self._build(name, key, partial, build)
                put_folder(partial, final)
            except Exception as error:
                problem = storage_problem(error)
                if problem is None:
                    error.add_note(f"in step {name}")
                    raise
                raise WorkspaceError(
                    f"step {name} could not be written below {self.folder}: {problem}; "
                    "finished steps are kept: make room and continue with --resume"
                ) from error
        if self.copy:
            self.copy.store(name, key, final)
        return final

    def seconds_of(self, name: str) -> float:
        """Return the wall-clock seconds recorded when stage `name` was built."""
        return float(read_json(self.folder / name / "stage.json")["seconds"])

    def _taken_over(self, name: str, key: str, partial: Path) -> bool:
        """Copy the stage to `partial` from the second copy or another run; return whether one had it."""
        if self.copy and self.copy.fetch(name, key, partial):
            return True
        others = self.folder.parent.glob(f"*/{name}") if self.reuse else ()
        for stage in sorted(others, reverse=True):
            if _is_whole(stage, key):
                shutil.rmtree(partial, ignore_errors=True)
                partial.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(stage, partial)
                if _is_whole(partial, key):
                    print(f"{name}: reused from run {stage.relative_to(self.folder.parent).parts[0]}")
                    return True
        return False

    @staticmethod
    def _build(name: str, key: str, partial: Path, build: Callable[[Path], None]) -> None:
        if partial.exists() and _key_of(partial / "inputs.json") != key:
            shutil.rmtree(partial)
        try:
            partial.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(f"cannot write below {partial.parent}: {error.strerror}") from error
        write_json(partial / "inputs.json", {"key": key})
        start = time.perf_counter()
        build(partial)
        seconds = round(time.perf_counter() - start, 3)
        files = file_digests(partial)
        # Once this is written, the stage is complete, even under its temporary name.
        write_json(partial / "stage.json", {"name": name, "key": key, "seconds": seconds, "files": files})


def _is_whole(folder: Path, key: str) -> bool:
    """Return whether `folder` holds the finished stage with this key and all files intact."""
    if _key_of(folder / "stage.json") != key:
        return False
    try:
        wanted, found = read_json(folder / "stage.json")["files"], file_digests(folder)
    except (OSError, ValueError, KeyError):
        return False
    damaged = sorted(name for name in wanted if found.get(name) != wanted[name])
    if damaged:
        print(f"{folder.name}: {', '.join(damaged)} is missing or damaged; recomputing this step")
    return not damaged


def put_folder(partial: Path, final: Path) -> None:
    """Move a finished `partial` to `final`; at no time is the folder `final` incomplete."""
    with contextlib.suppress(OSError):
        (partial / "inputs.json").unlink()
    outdated = final.with_name(final.name + ".outdated")
    shutil.rmtree(outdated, ignore_errors=True)
    if final.exists():
        final.rename(outdated)
    partial.rename(final)
    shutil.rmtree(outdated, ignore_errors=True)


def _key_of(file: Path) -> str | None:
    try:
        return read_json(file)["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
