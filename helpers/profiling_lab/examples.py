"""The submissions that a problem brings along: references that pass, and cheats that must not.

A reference is a file. A cheat is an edit of another script (`cheats.toml`), so that what it changes is all
there is to read.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from helpers.profiling_lab.problem import Problem, ProblemError


@dataclass(frozen=True)
class Example:
    """A submission whose outcome is known beforehand."""

    name: str
    what: str  # a sentence: what it does
    fails: str  # the check that must fail; "" for a reference
    source: str


def references_of(problem: Problem) -> list[Example]:
    """Return the references of a problem, with the first line of their docstrings."""
    found = []
    for path in sorted((problem.folder / "references").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        what = source.split('"""')[1].strip().splitlines()[0] if source.count('"""') > 1 else ""
        found.append(Example(path.stem, what, "", source))
    return found


def cheats_of(problem: Problem) -> list[Example]:
    """Return the cheats of a problem.

    Raises:
        ProblemError: if an edit does not find its text exactly once.
    """
    path = problem.folder / "cheats.toml"
    if not path.is_file():
        return []
    cheats = tomllib.loads(path.read_text(encoding="utf-8"))["cheat"]
    return [_cheat(fields, problem.folder) for fields in cheats]


def _cheat(fields: dict, folder: Path) -> Example:
    source = (folder / fields["base"]).read_text(encoding="utf-8")
    for old, new in fields["edits"]:
        if source.count(old) != 1:
            raise ProblemError(
                f"cheat {fields['name']!r} of {folder.name}: {old!r} occurs {source.count(old)} times in "
                f"{fields['base']}, expected once"
            )
        source = source.replace(old, new)
    return Example(fields["name"], fields["what"], fields["fails"], source)
