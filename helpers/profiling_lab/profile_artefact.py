"""Check the profile of the slow script that a submission made: is it one, and of that script on that data?

Two formats are read: cProfile's (`profile.pstats`) and torch.profiler's trace with stacks (`profile.json`).
Both count calls. On the same data the slow script makes the same calls again, so the counts must agree with
those of the grader's own profile; seconds are not compared. A sampling profiler's file (py-spy's) counts
none, and no script could make one here: py-spy reads another process, and the sandbox starts none.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from helpers.profiling_lab.script_runner import SLOW, ScriptRun

PSTATS, TRACE = "profile.pstats", "profile.json"
TRACED = re.compile(r"^(?P<file>.+\.py)\((?P<line>\d+)\): (?P<name>.+)$")
TOP = 5
CALLERS = (
    "script_zygote.py",
    "script_child.py",
    "runpy.py",
)  # call the script: a trace holds the whole stack
Pstats = Callable[[bytes], tuple[str, list[list[Any]]]]


@dataclass(frozen=True)
class Profile:
    """Calls of the slow script's functions, and the entries that took longest, costliest first."""

    calls: dict[str, int]  # function -> calls
    top: tuple[tuple[str, str], ...]  # file, function, by cumulative seconds


def read_profile(run: ScriptRun, read_pstats: Pstats) -> tuple[str, Profile | None]:
    """Return what is wrong, or "" and the profile in the run's folder."""
    if (content := run.output(PSTATS)) is not None:
        error, entries = read_pstats(content)
        if error:
            return f"{PSTATS} is no cProfile file: {error}", None
        rows = [(file, name, calls, cumulative) for file, _, name, calls, _, cumulative in entries]
    elif (content := run.output(TRACE)) is not None:
        try:
            rows = _traced(json.loads(content))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            return f"{TRACE} is no trace of torch.profiler: {error}", None
    elif there := [name for name in (PSTATS, TRACE) if f"{run.folder}/{name}" in run.files]:
        return f"{there[0]} is no regular file, or larger than 16 MiB", None
    else:
        return f"with --profile the script wrote neither {PSTATS} nor {TRACE} into its folder", None
    calls: Counter[str] = Counter()
    for file, name, count, _ in rows:
        if PurePath(file).name == SLOW:
            calls[name] += count
    rows.sort(key=lambda row: -row[3])
    files = [(row, PurePath(row[0])) for row in rows]
    named = [row for row, file in files if file.suffix == ".py" and file.name not in CALLERS]
    return "", Profile(dict(calls), tuple((PurePath(row[0]).name, row[1]) for row in named[:TOP]))


def check_profile(profile: Profile, own: Profile, slow: str) -> tuple[bool, str]:
    """Return whether the profile is of the slow script, and a sentence that says what was found.

    Args:
        profile: the submission's.
        own: the grader's own profile of the slow script on the same data and seed.
        slow: source of the slow script.
    """
    functions = {node.name for node in ast.walk(ast.parse(slow)) if isinstance(node, ast.FunctionDef)}
    expected = {name: count for name, count in own.calls.items() if name in functions}
    if not any(file == SLOW for file, _ in profile.top):
        seen = ", ".join(f"{name} of {file}" for file, name in profile.top) or "none"
        return False, f"no function of the slow script is among its {TOP} costliest entries ({seen})"
    for name, count in expected.items():
        if (found := profile.calls.get(name, 0)) != count:
            return False, f"it shows {found:,} calls of `{name}`; on this data there are {count:,}"
    costly = ", ".join(f"`{name}`" for file, name in profile.top if file == SLOW)
    return True, f"costliest in the slow script: {costly}; calls as in the grader's own profile"


def _traced(trace: Any) -> list[tuple[str, str, int, float]]:
    """Return file, function, calls and microseconds from a trace's Python events."""
    seconds: Counter[tuple[str, str]] = Counter()
    calls: Counter[tuple[str, str]] = Counter()
    if "speedscope" in str(trace.get("$schema", "")):
        raise ValueError("it is py-spy's, which holds samples and no calls")
    for event in trace["traceEvents"]:
        found = TRACED.match(str(event.get("name", "")))
        if found and event.get("ph") == "X":
            key = (found["file"], found["name"])
            calls[key] += 1
            seconds[key] += float(event.get("dur", 0.0))
    return [(file, name, calls[file, name], seconds[file, name]) for file, name in calls]
