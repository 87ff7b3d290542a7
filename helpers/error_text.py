"""Describe any exception in one line for a person, and say whether it stops the whole run."""

from __future__ import annotations

import errno
import linecache
import os
import re
import traceback
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CELL = "the cell"
CELL_MARKS = ("ipykernel_", "<ipython-input")  # in the name of the file that IPython gives a cell
SHOWN_CHARS = 600  # of a message; a longer warning would not be read
# Signs of a full, read-only or failing disk: error numbers, and the words of libraries that hide the number.
STORAGE_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
# What numpy says, without a number, when a disk takes only a part of an array.
SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
STORAGE_WORDS = ("No space left", "Disk quota exceeded", "Read-only file system", "File too large",
                 "file write failed", "unexpected pos", "Input/output error")  # fmt: skip
RESUME = "mend the cause and run the same command with --resume; finished steps are kept"


def told(error: BaseException) -> str:
    """Describe `error` in one line: its type, message and step, and the source line that failed.

    An error that explains itself is described by its message alone.
    """
    message = " ".join(str(error).split())
    if message and getattr(error, "explains_itself", False):
        return message
    if len(message) > SHOWN_CHARS:
        message = f"{message[:SHOWN_CHARS]} …"
    name = type(error).__name__
    parts = [f"{name}: {message}" if message else f"{name} without a message"]
    parts += getattr(error, "__notes__", ())  # the step, see `Workspace.stage`
    if place := failing_line(error):
        parts.append(place)
    return ", ".join(parts)


def failing_line(error: BaseException) -> str:
    """Quote the innermost failing line of this package or of a notebook cell, with its place; "" for none.

    If a notebook cell called that line, the cell's line is quoted too.
    """
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _place(frame.filename)]
    cells = [frame for frame in own if _place(frame.filename) == CELL]
    if not own:
        return ""
    called = f", called by {_quoted(cells[0])}" if cells and cells[0] is not own[-1] else ""
    return f"at {_quoted(own[-1])}{called}"


def _quoted(frame: traceback.FrameSummary) -> str:
    line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
    return f"`{line}` ({_place(frame.filename)}, line {frame.lineno})"


def concerns_whole_run(error: BaseException) -> bool:
    """Return whether `error` stops the whole run: the disk cannot be written, or a person interrupted."""
    return (
        not isinstance(error, Exception)
        or getattr(error, "ends_run", False)
        or storage_problem(error) is not None
    )


def storage_problem(error: BaseException | None) -> str | None:
    """Say what is wrong with the disk, if that is why `error` was raised; return None for any other error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in STORAGE_ERRNOS:
            return os.strerror(error.errno)
        if isinstance(error, OSError) and SHORT_WRITE.fullmatch(str(error)):
            return os.strerror(errno.ENOSPC)
        found = next((word for word in STORAGE_WORDS if word in str(error)), None)
        if found is not None:
            return found
        error = error.__cause__ or error.__context__
    return None


def _place(filename: str) -> str:
    """Return a file of this package relative to its parent folder, `CELL` for a notebook cell, else ""."""
    if any(mark in filename for mark in CELL_MARKS):
        return CELL
    path = Path(filename).resolve()
    return path.relative_to(PACKAGE.parent).as_posix() if path.is_relative_to(PACKAGE) else ""
