"""How an exception is told to a person: never empty, always with the line that failed."""

from __future__ import annotations

import errno
import linecache
import os
import traceback
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CELL = "the cell"
CELL_MARKS = ("ipykernel_", "<ipython-input")  # in the name of the file that IPython gives a cell
SHOWN_CHARS = 600  # of a message: a warning must stay a line that is read
# What a full, read-only or failing disk answers, as numbers and in the words of libraries that hide them.
STORAGE_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
STORAGE_WORDS = ("No space left", "Disk quota exceeded", "Read-only file system", "File too large",
                 "file write failed", "unexpected pos", "Input/output error")  # fmt: skip
RESUME = "mend the cause and run the same command with --resume; finished steps are kept"


class SuiteError(Exception):
    """Base of every error that this package raises on purpose; its message is written for a person.

    Derive from it and from the built-in error that callers would expect (`SuiteError, ValueError`).
    The command line prints the message alone and exits with `exit_status`; an exception outside this
    family is a bug and keeps its traceback.
    """

    exit_status = 1
    ends_run = False  # True where no part of a run can continue after it
    explains_itself = False  # True where type and source line would add nothing for the reader

    def __init__(self, wrong: object = "", *, expected: object = None, got: object = None, do: str = ""):
        """Compose the message.

        Args:
            wrong: what is wrong, and with which item.
            expected: what it should have been, where that can be said; shown as it is.
            got: what it was instead; shown as it is.
            do: what the person can do about it.
        """
        self.wrong, self.expected, self.got, self.do = str(wrong), expected, got, do
        message = self.wrong
        if expected is not None:
            message += f": expected {expected}, got {got}"
        super().__init__(f"{message}. {do}" if do else message)


class CheckError(SuiteError, ValueError):
    """A check of the run failed; the message says what was expected, what was got and what to do."""

    explains_itself = True


class InsufficientDataError(SuiteError, ValueError):
    """A corpus lacks what one track needs; the message says what, and how much would do."""

    explains_itself = True


def told(error: BaseException) -> str:
    """One line: type, message, step, the source line that failed and where it stands.

    Errors that explain themselves are told by their message alone.
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
    """The innermost line of this package or of a notebook cell, quoted, with its place; "" for none.

    The line of the cell that led there stands beside it.
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
    """Whether nothing can go on after `error`: the disk is full or closed, or a person stops the run."""
    return (
        not isinstance(error, Exception)
        or getattr(error, "ends_run", False)
        or storage_problem(error) is not None
    )


def storage_problem(error: BaseException | None) -> str | None:
    """What is wrong with the disk, if that is why `error` was raised; None for any other error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in STORAGE_ERRNOS:
            return os.strerror(error.errno)
        found = next((word for word in STORAGE_WORDS if word in str(error)), None)
        if found is not None:
            return found
        error = error.__cause__ or error.__context__
    return None


def _place(filename: str) -> str:
    """A file of this package from its root on, `CELL` for a notebook cell, "" for any other."""
    if any(mark in filename for mark in CELL_MARKS):
        return CELL
    path = Path(filename).resolve()
    return path.relative_to(PACKAGE.parent).as_posix() if path.is_relative_to(PACKAGE) else ""
