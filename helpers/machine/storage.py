"""Lines of the runtime check that say where a run's results lie.

A mounted Drive can drop during training. So a run computes on the machine's own disk and copies
finished steps to the Drive (`helpers.run.second_copy`). Two mistakes defeat that, and this module
detects both: a run folder on the Drive itself, and a copy on the same disk as the run because the Drive
was not mounted when its folder was made.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from helpers.machine.hardware import Decision
from helpers.paths import expanded

MOUNTS = Path("/proc/self/mounts")  # proc(5); without it no mistake is reported
REMOTE = ("fuse", "nfs", "cifs", "smb")  # prefixes of the names of file systems outside this machine


def storage_decisions(folder: Path, keep: Path | None) -> tuple[Decision, ...]:
    """Return the runtime check's lines on the run's `folder` and on `keep`, the second copy's root.

    A missing second copy is only mentioned on a hosted runtime, whose disk vanishes with it.
    """
    run = _mount(folder)
    if run and run[0] != "/" and run[1].startswith(REMOTE):  # a container's root may be FUSE yet local
        results = Decision(
            "results",
            f"on a mounted folder ({run[1]})",
            "slow, and a Drive can drop during training: set OUT to a local folder and use KEEP_ON_DRIVE",
        )
    else:
        results = Decision("results", "on this machine's disk", "a Drive can drop during training")
    if keep is None and "google.colab" in sys.modules:
        second = ("none", "results vanish with this runtime; KEEP_ON_DRIVE keeps them")
    elif keep is None:
        return (results,)
    elif run and _mount(keep) == run:
        second = (
            "on the same disk as the run",
            "no Drive is mounted there, and this disk vanishes: mount the Drive, then rerun this cell",
        )
    else:
        second = ("of each finished step", "copies stay, and copying continues once a dropped Drive is back")
    return (results, Decision("second copy", *second))


def _mount(path: Path) -> tuple[str, str] | None:
    """Return (mount point, file system type) of `path`; None if the system does not say."""
    try:
        table = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    resolved, found = expanded(path).resolve(), None
    for _, point, kind, *_ in (line.split(" ") for line in table):
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)
        if resolved.is_relative_to(point) and (found is None or len(point) >= len(found[0])):
            found = (point, kind)  # of two mounts on one folder, the later one counts
    return found
