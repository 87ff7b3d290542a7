"""The run folder: finished stages found again, files written whole or not at all.

`runs/<run_id>/` holds one folder per stage. A stage is built into `<stage>.partial/` and renamed
when it is complete, so that a folder without the suffix is always whole. Beside its artefacts lies
`stage.json` with a hash of everything the stage depends on; a later call with the same inputs
finds it, any other input rebuilds it.
"""

from __future__ import annotations

import dataclasses
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

R = TypeVar("R")


class WorkspaceError(RuntimeError):
    """The run folder cannot be used: not writable, full, or in use by another run."""


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples, sets and paths as JSON-ready values; sets are sorted."""
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
    """SHA-256 (hex) over the canonical JSON of `value`: equal values, equal digests."""
    canonical = json.dumps(to_plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write `text` to a temporary file beside `path`, then rename: never half a file.

    Raises:
        WorkspaceError: when the folder cannot be written or the disk is full; `path` is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise WorkspaceError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise WorkspaceError(f"cannot write {path}: {error.strerror}") from error


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON; NaN and infinity are refused with ValueError."""
    write_text(path, json.dumps(to_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Parse one JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """One JSON object a line, whole or not at all."""
    lines = (json.dumps(to_plain(row), ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_jsonl(path: Path, record: Callable[..., R] = dict) -> list[R]:
    """Rows of a JSONL file, each passed to `record` as keyword arguments (JSON lists as tuples)."""
    rows = []
    # split at "\n" alone: str.splitlines also breaks at U+2028, which JSON leaves inside strings
    for line in path.read_text(encoding="utf-8").split("\n"):
        if not line:
            continue
        fields = json.loads(line)
        if record is not dict:
            fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        rows.append(record(**fields))
    return rows


@dataclass(frozen=True)
class Workspace:
    """One run's folder. `resume=False` with a fresh `run_id` starts empty."""

    folder: Path
    run_id: str

    def stage(self, name: str, inputs: Any, build: Callable[[Path], None]) -> Path:
        """Return the folder of stage `name`, building it unless it is there for these `inputs`.

        Args:
            name: e.g. "track_a/adapter"; a path below the run folder.
            inputs: everything the result depends on (settings, data digests, upstream stage
                digests); hashed with `digest`.
            build: writes its artefacts into the folder it is given. The folder survives a kill,
                so `build` may leave checkpoints there and go on from them.
        """
        final = self.folder / name
        partial = final.with_name(final.name + ".partial")
        key = digest(inputs)
        if self._key_of(final) == key:
            return final
        if partial.exists() and self._key_of(partial, "inputs.json") != key:
            shutil.rmtree(partial)
        try:
            partial.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(f"cannot write below {self.folder}: {error.strerror}") from error
        write_json(partial / "inputs.json", {"key": key})
        start = time.perf_counter()
        build(partial)
        seconds = time.perf_counter() - start
        (partial / "inputs.json").unlink()
        write_json(partial / "stage.json", {"name": name, "key": key, "seconds": round(seconds, 3)})
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        return final

    def seconds_of(self, name: str) -> float:
        """Wall-clock seconds that building stage `name` took, as recorded when it was built."""
        return float(read_json(self.folder / name / "stage.json")["seconds"])

    @staticmethod
    def _key_of(folder: Path, file: str = "stage.json") -> str | None:
        try:
            return read_json(folder / file)["key"]
        except (OSError, ValueError, KeyError):
            return None
