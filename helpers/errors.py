"""The base class of this package's errors, and the errors that several packages raise."""

from __future__ import annotations


class SuiteError(Exception):
    """Base of every error that this package raises on purpose; its message is written for a person.

    Derive from it and from the built-in error that callers would expect (`SuiteError, ValueError`).
    The command line prints the message alone and exits with `exit_status`; an exception outside this
    family is a bug and keeps its traceback.
    """

    exit_status = 1
    ends_run = False  # True if no part of a run can continue after this error
    explains_itself = False  # True if the exception's type and source line would tell the reader nothing more


class CheckError(SuiteError, ValueError):
    """A check of the run failed. The message says what was expected, what was found and what to do."""

    explains_itself = True


class InsufficientDataError(SuiteError, ValueError):
    """A corpus lacks what one track needs. The message says what is missing and how much would be enough."""

    explains_itself = True
