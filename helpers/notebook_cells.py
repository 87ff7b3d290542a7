"""`%%track NAME`: a cell that runs only if its track has the data it needs.

A repository may lack what one track needs (no docstrings, nothing executable). The others go on,
and every cell of the track that cannot run says so in one line instead of failing.
"""

from __future__ import annotations

from collections.abc import Callable

from IPython.core.interactiveshell import InteractiveShell


def register_track_magic(shell: InteractiveShell, reason_not_run: Callable[[str], str | None]) -> None:
    """Give `shell` the cell magic `%%track NAME`.

    Args:
        reason_not_run: answers with the reason why a track does not run, or None if it does;
            raises KeyError for a name that is no track.
    """

    def track(line: str, cell: str) -> None:
        name = line.strip()
        reason = reason_not_run(name)
        if reason is not None:
            print(f"{name} does not run: {reason}")
            return
        shell.run_cell(cell).raise_error()

    shell.register_magic_function(track, magic_kind="cell", magic_name="track")
