"""Where a run's results lie, said in the runtime check: a mounted Drive drops in the middle of a training.

Computing happens on the machine's own disk, and finished steps are copied to the Drive (`second_copy`). Two
mistakes defeat that and are looked for here: a run folder that lies on the Drive itself, and a copy that lies
on the same disk as the run, because the Drive was not mounted when its folder was made.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from helpers.machine.hardware import Decision

MOUNTS = Path("/proc/self/mounts")  # proc(5); without it nothing is claimed
REMOTE = ("fuse", "nfs", "cifs", "smb")  # beginnings of the names of file systems beyond this machine


def storage_decisions(folder: Path, keep: Path | None) -> tuple[Decision, ...]:
    """Lines of the runtime check on the run's `folder` and on `keep`, its second copy's root.

    A missing second copy is worth a line on a hosted runtime alone: its disk vanishes with it.
    """
    run = _mount(folder)
    if run and run[0] != "/" and run[1].startswith(REMOTE):  # a container's root may be FUSE, and local
        results = Decision(
            "results",
            f"on a mounted folder ({run[1]})",
            "slow, and a Drive can drop during training: let OUT be a local folder and copy by KEEP_ON_DRIVE",
        )
    else:
        results = Decision("results", "on this machine's disk", "a Drive can drop during training")
    if keep is None and "google.colab" in sys.modules:
        second = ("none", "what is computed here vanishes with this runtime; KEEP_ON_DRIVE keeps it")
    elif keep is None:
        return (results,)
    elif run and _mount(keep) == run:
        second = (
            "on the same disk as the run",
            "nothing is mounted there, and this disk vanishes: mount the Drive, then run this cell again",
        )
    else:
        second = ("each finished step, whole", "what was copied stays, and a Drive that drops is waited for")
    return (results, Decision("second copy", *second))


def _mount(path: Path) -> tuple[str, str] | None:
    """(mount point, file system) that `path` lies on; None where the system does not tell."""
    try:
        table = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    place, found = path.expanduser().resolve(), None
    for _, point, kind, *_ in (line.split(" ") for line in table):
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)
        if place.is_relative_to(point) and (found is None or len(point) >= len(found[0])):
            found = (point, kind)  # of two mounts on one folder the later one counts
    return found
