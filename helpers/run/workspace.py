"""The run folder: finished stages found again, files written whole or not at all.

`runs/<run_id>/` holds one folder per stage. A stage is built into `<stage>.partial/` and renamed
when it is complete, so that a folder without the suffix is always whole. Beside its artefacts lies
`stage.json` with a hash of everything the stage depends on and one of every file; a later call with
the same inputs finds it, any other input or a damaged file rebuilds it. Finished stages can be kept
a second time in a folder that outlives the machine (`helpers.run.second_copy`).
"""

from __future__ import annotations

import contextlib
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

from helpers.errors import SuiteError, storage_problem
from helpers.run.digests import file_digests
from helpers.run.second_copy import SecondCopy

R = TypeVar("R")


class WorkspaceError(SuiteError, RuntimeError):
    """The run folder cannot be used: not writable, full, or in use by another run."""

    ends_run = True


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
    """`write_bytes` of `text` in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file beside `path`, then rename: never half a file.

    Raises:
        WorkspaceError: when the folder cannot be written or the disk is full; `path` is untouched.
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
    """One run's folder, with a second copy of its finished stages where one is wanted.

    `reuse` lets it take over finished stages from the runs beside it: equal inputs, equal results.
    """

    folder: Path
    run_id: str
    copy: SecondCopy | None = None
    reuse: bool = False

    def stage(self, name: str, inputs: Any, build: Callable[[Path], None]) -> Path:
        """Return the folder of stage `name`, building it unless it is there for these `inputs`.

        Args:
            name: e.g. "track_a/adapter"; a path below the run folder.
            inputs: everything the result depends on (settings, data digests, upstream stage
                digests); hashed with `digest`.
            build: writes its artefacts into the folder it is given. The folder survives a kill,
                so `build` may leave checkpoints there and go on from them.

        Raises:
            WorkspaceError: if the disk is full or cannot be written; finished stages stay as they are.
        """
        final = self.folder / name
        partial = final.with_name(final.name + ".partial")
        key = digest(inputs)
        if not _is_whole(final, key):
            try:
                if not _is_whole(partial, key) and not self._taken_over(name, key, partial):
                    self._build(name, key, partial, build)
                _put(partial, final)
            except Exception as error:
                problem = storage_problem(error)
                if problem is None:
                    error.add_note(f"in step {name}")
                    raise
                raise WorkspaceError(
                    f"step {name} could not be written below {self.folder}: {problem}; "
                    "finished steps are kept: make room and go on with --resume"
                ) from error
        if self.copy:
            self.copy.store(name, key, final)
        return final

    def seconds_of(self, name: str) -> float:
        """Wall-clock seconds that building stage `name` took, as recorded when it was built."""
        return float(read_json(self.folder / name / "stage.json")["seconds"])

    def _taken_over(self, name: str, key: str, partial: Path) -> bool:
        """Whether the second copy, or a run beside this one, had the stage; it lies in `partial` then."""
        if self.copy and self.copy.fetch(name, key, partial):
            return True
        beside = self.folder.parent.glob(f"*/{name}") if self.reuse else ()
        for stage in sorted(beside, reverse=True):
            if _is_whole(stage, key):
                shutil.rmtree(partial, ignore_errors=True)
                partial.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(stage, partial)
                if _is_whole(partial, key):
                    print(f"{name}: taken over from run {stage.relative_to(self.folder.parent).parts[0]}")
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
        # From here on the stage is whole, whatever its folder is called.
        write_json(partial / "stage.json", {"name": name, "key": key, "seconds": seconds, "files": files})


def _is_whole(folder: Path, key: str) -> bool:
    """Whether `folder` holds the finished stage of this key, every file as it was written."""
    if _key_of(folder / "stage.json") != key:
        return False
    try:
        wanted, found = read_json(folder / "stage.json")["files"], file_digests(folder)
    except (OSError, ValueError, KeyError):
        return False
    damaged = sorted(name for name in wanted if found.get(name) != wanted[name])
    if damaged:
        print(f"{folder.name}: {', '.join(damaged)} is missing or damaged; this step is computed again")
    return not damaged


def _put(partial: Path, final: Path) -> None:
    """Let a finished `partial` take the place of `final`; at no moment half a folder bears that name."""
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
