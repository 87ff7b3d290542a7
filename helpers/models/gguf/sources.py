"""Find the GGUF file that a model's name stands for.

A causal language model can be named as `gguf:FILE`, `package:NAME` (an installed package that holds one GGUF
file), a folder that holds one GGUF file, or `REPO:FILE.gguf` on the hub. Adapters record such a name with the
file's SHA-256 behind it, as in `gguf:model.gguf@sha256:1d96...`. That form is a name too: it stands for the
file with this digest, wherever that lies by now.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.models.gguf.header import GgufError, read_header, shape_in
from helpers.models.gguf.store import cache_folder_of, is_whole, read_record
from helpers.models.hub import HubError, hub_file
from helpers.paths import expanded

FILE, PACKAGE, PIN = "gguf:", "package:", "@sha256:"
DIGEST = re.compile(r"[0-9a-f]{64}")
ON_HUB = re.compile(r"([\w.-]+/[\w.-]+):([^:]+\.gguf)", re.IGNORECASE)


@dataclass(frozen=True)
class GgufSource:
    """A GGUF file that a name stands for."""

    name: str  # as given, without a digest
    path: Path | None  # None if only its converted folder is left
    sha256: str

    @property
    def recorded(self) -> str:
        """The name with the file's digest, as adapters and cards record it."""
        return f"{self.name}{PIN}{self.sha256}"

    def folder(self) -> Path:
        """Return the converted folder; convert the file first if that was not done yet."""
        if self.path is None:
            return cache_folder_of(self.sha256)
        from helpers.models.gguf.convert import converted  # imports torch, which names alone do not need

        return converted(self.path, self.sha256)

    def configuration(self) -> dict[str, Any]:
        """Return the shape under transformers' names, read from the file's header without converting it."""
        if self.path is None:
            return json.loads((self.folder() / "config.json").read_text(encoding="utf-8"))
        return shape_in(read_header(self.path))

    def model_name(self) -> str:
        """Return the model's name as the file gives it."""
        return self._stated()[1]

    def described(self) -> str:
        """Return file, name, quantisation and digest in one line."""
        file, name, quantisation = self._stated()
        return f"{self.name} ({file}: {name}, {quantisation}, sha256 {self.sha256})"

    def _stated(self) -> tuple[str, str, str]:
        """Return the file's own name, the model's, and its quantisation."""
        if self.path is None:
            record = read_record(self.folder())
            return record.file, record.name, record.quantisation
        header = read_header(self.path)
        return self.path.name, header.name, header.quantisation


def find_gguf(spec: str, beside: Path | None = None) -> GgufSource | None:
    """Return the GGUF file that `spec` stands for; None if it names a model of another form.

    Args:
        spec: one of the forms above.
        beside: for a name with a digest, a folder in which, or in whose parent, the file may lie.

    Raises:
        GgufError: if the file or package is missing, several files could be meant, or the file that is
            there has another digest than the name.
    """
    name, pin, pinned = spec.partition(PIN)
    if pin and not DIGEST.fullmatch(pinned):
        raise GgufError(f"{spec!r} has no SHA-256 of 64 hexadecimal digits behind {PIN}")
    if pinned and is_whole(cache_folder_of(pinned)):
        return GgufSource(name, None, pinned)
    try:
        path = _file_of(name)
    except GgufError:
        if not pinned:
            raise
        path = None
    if path is None and not pinned:
        return None
    if path is not None and pinned in ("", _sha256(path)):
        return GgufSource(name, path, _sha256(path))
    near = [folder for folder in (beside, beside.parent) if folder.is_dir()] if beside else []
    for candidate in (file for folder in near for file in sorted(folder.glob("*.gguf"))):
        if _sha256(candidate) == pinned:
            return GgufSource(name, candidate, pinned)
    where = f"what it names now has {_sha256(path)}" if path else "nothing is found under its name"
    raise GgufError(
        f"the GGUF file {name} with sha256 {pinned} is not on this machine: {where}; put the file back, or "
        "into the adapter's folder"
    )


def base_of_adapter(spec: str, adapter_dir: Path) -> str:
    """Return the name under which the base model of an adapter is found, given that `spec` should be it.

    For an adapter whose base is a GGUF file this is the recorded name, with the file found by its digest.

    Raises:
        GgufError: if `spec` is another file than the adapter's base, or the base is nowhere.
    """
    try:
        settings = json.loads((adapter_dir / "adapter_config.json").read_text(encoding="utf-8"))
        recorded = str(settings.get("base_model_name_or_path"))
    except (OSError, ValueError, AttributeError):
        return spec
    if PIN not in recorded:
        return spec
    wanted = recorded.partition(PIN)[2]
    try:
        given = find_gguf(spec, adapter_dir)
    except GgufError:
        given = None  # the recorded digest may still find it
    if given is not None and given.sha256 != wanted:
        raise GgufError(
            f"the adapter in {adapter_dir} was trained on {recorded}, and {spec!r} has sha256 "
            f"{given.sha256}; name the file that it was trained on"
        )
    base = given or find_gguf(recorded, adapter_dir)
    base.folder()
    return base.recorded


def converted_folder(spec: str) -> str:
    """Return what transformers loads for `spec`: a GGUF file's converted folder, else `spec` itself."""
    source = find_gguf(spec)
    return spec if source is None else str(source.folder())


def recorded_name(spec: str) -> str:
    """Return the name to record for a model: a GGUF file's with its digest, else `spec` itself."""
    source = find_gguf(spec)
    return spec if source is None else source.recorded


def weights_facts(spec: str) -> dict[str, dict[str, str]]:
    """Return `{"weights": {file, quantisation, sha256}}` of a GGUF file for a record; {} of another model."""
    try:
        source = find_gguf(spec)
        if source is None:
            return {}
        file, _, quantisation = source._stated()
    except GgufError:  # it went away after it was loaded
        return {}
    return {"weights": {"file": file, "quantisation": quantisation, "sha256": source.sha256}}


def described_name(spec: str) -> str:
    """Return a model's name for a card: for a GGUF file with what it holds, else `spec` itself."""
    try:
        source = find_gguf(spec)
        return spec if source is None else source.described()
    except GgufError:
        return spec


def _file_of(name: str) -> Path | None:
    """Return the file of a name without a digest; None for a name of another form."""
    if name.startswith(FILE):
        path = expanded(name.removeprefix(FILE))
        if not os.path.isfile(path):
            raise GgufError(f"no GGUF file {str(path)!r} (looked in {Path.cwd()}): check the spelling")
        return path
    if name.startswith(PACKAGE):
        return _file_of_package(name.removeprefix(PACKAGE))
    path = expanded(name)
    if name.strip() and os.path.isdir(path):
        return None if (path / "config.json").is_file() else _only_one(path, path.glob("*.gguf"))
    if path.suffix.lower() == ".gguf" and os.path.isfile(path):
        raise GgufError(f"write {FILE}{name} for a GGUF file")
    on_hub = ON_HUB.fullmatch(name)
    if on_hub is None:
        return None
    try:
        return hub_file(*on_hub.groups())
    except HubError as error:
        raise GgufError(f"cannot load {name!r} from the Hugging Face hub: {error}") from error


def _file_of_package(name: str) -> Path | None:
    """Return the one GGUF file of an installed package, which is not imported; None if it has none."""
    module = name.strip().replace("-", "_")
    try:
        spec = importlib.util.find_spec(module) if module.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    roots = list(spec.submodule_search_locations or ()) if spec else []
    if spec is None:
        try:
            files = importlib.metadata.files(name.strip()) or []
        except (importlib.metadata.PackageNotFoundError, ValueError):
            files = []
        roots = sorted({str(Path(file.locate()).parent) for file in files if file.suffix == ".gguf"})
    return next(filter(None, (_only_one(Path(root), Path(root).rglob("*.gguf")) for root in roots)), None)


def _only_one(folder: Path, found: object) -> Path | None:
    files = sorted(found)
    if len(files) > 1:
        names = ", ".join(file.relative_to(folder).as_posix() for file in files)
        raise GgufError(f"{folder} holds {len(files)} GGUF files; name one as {FILE}FILE: {names}")
    return files[0] if files else None


def _sha256(path: Path) -> str:
    try:
        state = path.stat()
        return _sha256_of(path.resolve(), state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise GgufError(f"cannot read {path}: {error.strerror}") from error


@functools.cache
def _sha256_of(path: Path, size: int, changed_ns: int) -> str:
    """Return a file's SHA-256; a file with another size or time of change is read again."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
