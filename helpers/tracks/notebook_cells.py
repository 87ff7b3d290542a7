"""`%%track NAME` and `%%part NAME`: cells whose failure costs their track or part, not the run.

A repository may lack what one track needs (no docstrings, nothing executable), and a step may fail.
The others go on, and every later cell of the track or part says so in one line instead of failing.
"""

from __future__ import annotations

from collections.abc import Callable

from IPython.core.interactiveshell import InteractiveShell

from helpers.errors import concerns_whole_run
from helpers.tracks.guards import Guards


def register_cell_magics(
    shell: InteractiveShell, guards: Guards, reason_not_run: Callable[[str], str | None]
) -> None:
    """Give `shell` the cell magics `%%track NAME` and `%%part NAME`.

    Args:
        guards: told of every failure; decides what it costs.
        reason_not_run: answers with the reason why a track does not run, or None if it does;
            raises KeyError for a name that is no track.
    """
    stopped_by: dict[str, str] = {}  # track or part -> the cell that failed

    def guarded(name: str, cell: str, fail: Callable[[str, Exception], None]) -> None:
        error = _run(shell, cell)
        if error is None:
            stopped_by.pop(name, None)
        elif concerns_whole_run(error):
            raise error
        else:
            fail(name, error)
            stopped_by[name] = cell

    def track(line: str, cell: str) -> None:
        name = line.strip()
        reason = reason_not_run(name)
        if reason is not None and stopped_by.get(name) == cell:  # a person tries it once more
            guards.not_run.pop(name)
        elif reason is not None:
            print(f"{name} does not run: {reason}")
            return
        guarded(name, cell, guards.fail_track)

    def part(line: str, cell: str) -> None:
        name = line.strip()
        if name in guards.missing and stopped_by.get(name) != cell:
            print(f"{name} is missing: {guards.missing[name]}")
            return
        guards.missing.pop(name, None)
        guarded(name, cell, guards.fail_part)

    shell.register_magic_function(track, magic_kind="cell", magic_name="track")
    shell.register_magic_function(part, magic_kind="cell", magic_name="part")


def _run(shell: InteractiveShell, cell: str) -> BaseException | None:
    """Run a cell and return what it raised.

    IPython would print the traceback, with this machine's paths, into the notebook that is published;
    the guards keep it in the run folder instead.
    """
    held = shell.custom_exceptions, shell.CustomTB
    shell.set_custom_exc((Exception,), lambda *error, **options: [])
    try:
        result = shell.run_cell(cell)
    finally:
        shell.custom_exceptions, shell.CustomTB = held
    return result.error_before_exec or result.error_in_exec
