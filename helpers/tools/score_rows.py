"""Rows of problem and sample files, whatever holds them: JSON lines, a JSON list or object, Parquet."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.errors import SuiteError

# Fields of which a single JSON object has at least one if it is a row and not a table of rows by task.
ROW_FIELDS = {"task_id", "name", "question_id", "doc_id", "prompt", "test", "completion", "solution"}


class ScoreError(SuiteError, ValueError):
    """A problem or sample file that cannot be used; the message names the file and line."""


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("file, line N", object) for each row of a file, as `read_values` does.

    Raises:
        ScoreError: also for a row that is no JSON object.
    """
    for where, row in read_values(path):
        if not isinstance(row, dict):
            raise ScoreError(f"{where}: expected a JSON object, found {type(row).__name__}")
        yield where, row


def read_values(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield ("file, line N", value) for each row of a file, gzipped or not.

    A JSON object whose values are rows or completions, keyed by task, yields one row for each.

    Raises:
        ScoreError: for an unreadable file, or one of another format.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        if data[:4] == b"PAR1":
            return iter(_parquet_rows(path, data))
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        text = data.decode(encoding)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ScoreError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return iter(_whole_rows(path, text) or _line_rows(path, text))


def _parquet_rows(path: Path, data: bytes) -> list[tuple[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(pyarrow.BufferReader(data)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ScoreError(f"cannot read {path}: it begins like a Parquet file, but {reason}") from error
    return [(f"{path}, row {number}", row) for number, row in enumerate(rows, start=1)]


def _whole_rows(path: Path, text: str) -> list[tuple[str, Any]]:
    """Return the rows of a file that is one JSON list or object; none for other files."""
    start = text.lstrip()[:1]
    try:
        value = json.loads(text) if start in ("[", "{") else None
    except (ValueError, RecursionError):
        return []
    if isinstance(value, list):
        return [(f"{path}, row {number}", row) for number, row in enumerate(value, start=1)]
    if not isinstance(value, dict):
        return []
    kept = all(isinstance(each, str | list | dict) for each in value.values())
    if not value or ROW_FIELDS & value.keys() or not kept:
        return [(f"{path}, line 1", value)]
    return [
        (
            f"{path}, key {key!r}",
            {"task_id": key} | (each if isinstance(each, dict) else {"completion": each}),
        )
        for key, each in value.items()
    ]


def _line_rows(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                yield where, json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = f"not JSON ({error}); a file holds JSON lines, a JSON list or object, or Parquet"
                raise ScoreError(f"{where}: {reason}") from error


def text_field(where: str, row: dict[str, Any], name: str) -> str:
    """Return a field that must be a string."""
    if not isinstance(row.get(name), str):
        raise ScoreError(f"{where}: field {name!r} must be a string")
    return row[name]
