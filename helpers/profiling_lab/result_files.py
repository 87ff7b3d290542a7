"""Read what a run left in its folder: plain arrays and a plain report, whatever was put there instead."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping

import numpy as np

from helpers.profiling_lab.script_runner import SCRIPT, ScriptRun

RESULT, REPORT = "result.npz", "report.json"
MOST_BYTES = 64 * 2**20  # of all arrays of one result, unpacked
KINDS = "fiub"  # floats, integers, booleans: an array of another kind needs pickle, or is no figure


class BadOutput(ValueError):
    """A file is missing, forged or holds what is no figure; the message is a sentence for the grade."""


def stray_files(run: ScriptRun) -> list[str]:
    """Return the files that a run wrote, or tried to write, outside its own folder."""
    strays = [name for name in run.files if not name.startswith(f"{run.folder}/")]
    tried = [f"{name} (refused)" for name in run.notes.get("outside", ()) if name not in strays]
    return [name for name in (*strays, *tried) if name != SCRIPT]


def read_result(run: ScriptRun) -> dict[str, np.ndarray]:
    """Return the arrays of a run's `result.npz`.

    Raises:
        BadOutput: if it is missing, no .npz file, too large, or holds objects, NaN or infinity.
    """
    content = _content(run, RESULT)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MOST_BYTES:
            raise BadOutput(f"{RESULT} unpacks to {size:,} bytes; at most {MOST_BYTES:,} are read")
        with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except BadOutput:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds on forged files
        raise BadOutput(f"{RESULT} is no file of plain arrays ({type(error).__name__}: {error})") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in KINDS:
            raise BadOutput(f"`{name}` in {RESULT} is no array of numbers")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadOutput(f"`{name}` in {RESULT} holds NaN or infinity")
    return arrays


def read_figure(run: ScriptRun, name: str) -> float:
    """Return the figure that the run reports about itself.

    Raises:
        BadOutput: if the report is missing, no JSON object, or the figure is missing, negative or NaN.
    """
    try:
        report = json.loads(_content(run, REPORT))
    except (ValueError, RecursionError) as error:
        raise BadOutput(f"{REPORT} is no JSON ({error})") from error
    value = report.get(name) if isinstance(report, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadOutput(f"{REPORT} has no number under {name!r}")
    if not math.isfinite(value) or value < 0:
        raise BadOutput(f"{REPORT} gives {name} = {value}, which is no possible value")
    return float(value)


def equal_results(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> str:
    """Return the name of the first array that differs in any bit; "" if none does."""
    for name in sorted(set(one) | set(other)):
        if name not in one or name not in other or not np.array_equal(one[name], other[name]):
            return name
    return ""


def _content(run: ScriptRun, name: str) -> bytes:
    if f"{run.folder}/{name}" not in run.files:
        raise BadOutput(f"the run wrote no {name} into the folder given by --output")
    content = run.output(name)
    if content is None:
        raise BadOutput(f"{name} is no regular file, or larger than 16 MiB")
    return content
