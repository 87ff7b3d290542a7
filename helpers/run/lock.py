"""A lock on a run folder, which the system releases when the process that holds it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import IO

from helpers.run.workspace import WorkspaceError

_held: dict[Path, IO[str]] = {}  # locks of this process, which may open a folder again


def lock_run(folder: Path, *, wait_s: float = 15.0) -> None:
    """Lock `folder` until this process ends.

    Args:
        wait_s: how long to wait; a killed run's kernel lives for some seconds before it notices.

    Raises:
        WorkspaceError: if another process holds the lock all that time.
    """
    folder = folder.resolve()
    if folder in _held:
        return
    try:
        stream = (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise WorkspaceError(f"cannot write below {folder}: {error.strerror}") from error
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= until:
                stream.seek(0)
                owner = stream.read().strip() or "unknown"
                stream.close()
                raise WorkspaceError(
                    f"the run folder {folder.name} is in use by process {owner}; "
                    "wait until that is done, or start a new run without --resume"
                ) from None
            time.sleep(0.2)
        except OSError:  # the file system has no locks: run unprotected
            break
    with contextlib.suppress(OSError):
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
    _held[folder] = stream
