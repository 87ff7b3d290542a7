"""Read a package's files as they were before a given day, from its newest release before then.

Package indexes know when each release was uploaded, and `uv`, which hosted notebook runtimes bring, can
choose by that. Only built distributions are used. They are unpacked into a temporary folder and read as
text: nothing of the package is built, imported or run.
"""

from __future__ import annotations

import datetime
import email.parser
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from helpers.code.languages import language_of
from helpers.data.cleaning import read_source
from helpers.errors import SuiteError
from helpers.records import SourceFile
from helpers.settings import CorpusSettings

TIMEOUT_S = 60.0  # for asking the index and downloading, together
# Built distributions are chosen for this Python, which existed on every cut-off day; pure ones fit any.
PYTHON_VERSION = "3.11"


class NoOlderReleaseError(SuiteError, LookupError):
    """There is no such release, or it cannot be had; the message is worded to follow in a sentence."""


@dataclass(frozen=True)
class OlderRelease:
    """A release from before the day asked for, with the texts that a corpus would take from it."""

    name: str
    version: str
    texts: tuple[str, ...]


def older_release(distribution: str, before: datetime.date, *, timeout_s: float = TIMEOUT_S) -> OlderRelease:
    """Return the newest release of `distribution` uploaded to its index before the day `before` (UTC).

    Raises:
        NoOlderReleaseError: without `uv` or network, without such a release as a built distribution, or if
            it takes longer than `timeout_s`.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        _unpack(distribution, before, target, timeout_s)
        metadata = next(target.glob("*.dist-info/METADATA"), None)
        if metadata is None:
            raise NoOlderReleaseError(f"the older release of {distribution} does not name itself")
        facts = email.parser.HeaderParser().parsestr(metadata.read_text(encoding="utf-8", errors="replace"))
        return OlderRelease(str(facts["Name"]), str(facts["Version"]), _texts(target))


def _unpack(distribution: str, before: datetime.date, target: Path, timeout_s: float) -> None:
    uv = shutil.which("uv", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))
    if uv is None:
        raise NoOlderReleaseError("uv, which chooses releases by their date, is not installed")
    command = [
        uv, "pip", "install", "--target", str(target), "--python", sys.executable, "--no-deps", "--no-build",
        "--no-cache", "--no-progress", "--exclude-newer", f"{before}T00:00:00Z",
        "--python-version", PYTHON_VERSION, "--", distribution,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        why = f"no release of {distribution} arrived from the package index within {timeout_s:g} s"
        raise NoOlderReleaseError(why) from None
    except OSError as error:
        raise NoOlderReleaseError(f"uv cannot be started ({error.strerror})") from error
    if done.returncode:  # stderr is not quoted: it may hold addresses and credentials
        why = f"the package index cannot be reached or has no such release of {distribution}"
        raise NoOlderReleaseError(why)


def _texts(folder: Path) -> tuple[str, ...]:
    """Return the text of every source below `folder`, by path, without limits of size."""
    texts = []
    anything = {"min_file_bytes": 0, "max_file_bytes": sys.maxsize, "max_line_chars": sys.maxsize}
    for location in sorted(folder.rglob("*")):
        path = location.relative_to(folder).as_posix()
        if language_of(path):
            source = read_source(path, location, CorpusSettings(include=(path,), **anything))
            texts += [source.text] if isinstance(source, SourceFile) else []
    return tuple(texts)
