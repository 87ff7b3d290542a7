"""Samples in the forms that tools write: one row each, lists of completions, logs of evaluation harnesses.

| who writes it | form |
|---|---|
| HumanEval | `task_id`, `completion` |
| EvalPlus, BigCodeBench | `task_id`, `solution`: a whole program |
| LiveCodeBench, MultiPL-E, ClassEval | an id and a list: `code_list`, `completions`, `predict` |
| bigcode-evaluation-harness | `generations.json`: a list for each problem, in the order of the problems |
| lm-evaluation-harness | `--log_samples`: `doc_id`, `doc`, `resps`, `filtered_resps` |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from helpers.tools.score_rows import ScoreError, read_values

IDS = ("task_id", "question_id", "name")
TEXTS = ("solution", "completion", "completions", "code_list", "predict", "generation", "generations")
LOGGED = ("filtered_resps", "resps", "doc", "arguments")


def read_samples(path: Path, problems: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read a sample file: a row for each sample, with the id of a known task and the text `completion`.

    A row keeps its other fields. Of a row with a list of completions, each becomes a row of its own.

    Raises:
        ScoreError: for a row without a known task or without text.
    """
    rows = [row for where, value in read_values(path) for row in _samples(where, value, problems)]
    if not rows:
        raise ScoreError(f"{path} holds no sample")
    return rows


def _samples(where: str, value: Any, problems: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        at = int(where.rpartition(" ")[2]) - 1
        if at >= len(problems):
            raise ScoreError(f"{where}: there are only {len(problems)} problems")
        value = {"task_id": list(problems)[at], "generations": value}
    if not isinstance(value, dict):
        raise ScoreError(f"{where}: expected a JSON object, found {type(value).__name__}")
    task_id = _task_id(where, value, problems)
    field, texts = _texts(where, value)
    rest = {name: each for name, each in value.items() if name not in (field, *LOGGED)}
    kept = field if field in ("solution", "completion") else "completion"
    for text in texts:
        yield rest | {"task_id": task_id, kept: text}


def _texts(where: str, row: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the field that holds the text, and the samples in it."""
    for field in (*TEXTS, "filtered_resps", "resps"):
        found = row.get(field)
        if isinstance(found, str):
            return field, [found]
        if isinstance(found, list):
            texts = [each for item in found for each in (item if isinstance(item, list) else [item])]
            if not texts or not all(isinstance(each, str) for each in texts):
                raise ScoreError(f"{where}: field {field!r} must hold strings and at least one")
            return field, texts
    raise ScoreError(
        f"{where}: field 'completion' must be a string or a list of them (or {', '.join(TEXTS)})"
    )


def _task_id(where: str, row: dict[str, Any], problems: Mapping[str, Any]) -> Any:
    """Return the id as the problem file has it; EvalPlus writes `Mbpp/2` for MBPP's 2."""
    doc = row.get("doc") if isinstance(row.get("doc"), dict) else {}
    said = next((source[name] for source in (row, doc) for name in IDS if name in source), None)
    if said is None and type(row.get("doc_id")) is int and 0 <= row["doc_id"] < len(problems):
        return list(problems)[row["doc_id"]]
    for known in (str(said), str(said).removeprefix("Mbpp/"), f"Mbpp/{said}"):
        if known in problems:
            return said if known == str(said) else known
    raise ScoreError(f"{where}: task_id {said!r} is not among the problems")
