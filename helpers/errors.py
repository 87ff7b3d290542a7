"""How an exception is told to a person: never empty, always with the line that failed."""

from __future__ import annotations

import linecache
import traceback
from pathlib import Path

from helpers.records import InsufficientDataError
from helpers.workspace import WorkspaceError, storage_problem

PACKAGE = Path(__file__).resolve().parent
CELL = "the cell"
CELL_MARKS = ("ipykernel_", "<ipython-input")  # in the name of the file that IPython gives a cell
SHOWN_CHARS = 600  # of a message: a warning must stay a line that is read
RESUME = "mend the cause and run the same command with --resume; finished steps are kept"


class CheckError(ValueError):
    """A check of the run failed; the message says what was expected, what was got and what to do."""


def told(error: BaseException) -> str:
    """One line: type, message, step, the source line that failed and where it stands.

    Errors that explain themselves (`InsufficientDataError`, `CheckError`) are told by their message.
    """
    message = " ".join(str(error).split())
    if message and isinstance(error, InsufficientDataError | CheckError):
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
        or isinstance(error, WorkspaceError)
        or storage_problem(error) is not None
    )


def _place(filename: str) -> str:
    """A file of this package from its root on, `CELL` for a notebook cell, "" for any other."""
    if any(mark in filename for mark in CELL_MARKS):
        return CELL
    path = Path(filename).resolve()
    return path.relative_to(PACKAGE.parent).as_posix() if path.is_relative_to(PACKAGE) else ""
