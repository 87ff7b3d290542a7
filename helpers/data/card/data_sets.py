"""Describe a run's saved data sets, so that `datasets.load_dataset(RUN_FOLDER, NAME)` reads them unchanged.

The card's header lists each data set as a configuration, with its files and the type of every column. Without
declared types, the JSON reader of `datasets` turns a column of ISO dates into timestamps, a column with a
number of 2**63 or more into floats, and dicts of different keys into dicts of all keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.run.workspace import read_jsonl

ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")  # how a text begins that the JSON reader may take for a date
LEAST, MOST = -(2**63), 2**63 - 1  # of a 64-bit integer
JSON_DIGITS = 10  # digits after the point that survive in a file with a column of type json


class UnreadableRowsError(ValueError):
    """No declared type would bring these rows back as they were saved."""


@dataclass(frozen=True)
class DataSet:
    """One data set of a run folder: what it is, where it comes from, and its file for each split."""

    what: str
    made: str
    files: Mapping[str, str]  # split -> JSON lines, relative to the run folder


DATA_SETS = {  # the first of them that a run has is loaded when no name is given
    "instruction_pairs": DataSet(
        "Track B: instructions with answers, to train on",
        "by our generators from the functions of the code base; every claim about behaviour was run",
        {name: f"track_b/data/{name}.jsonl" for name in ("train", "validation")},
    ),
    "rehearsed_answers": DataSet(
        "Track B: answers about general code, mixed into the pairs against forgetting",
        "greedily by the model itself, before it was tuned, to questions that hold functions of Python's "
        "standard library; nobody checked them",
        {"train": "track_b/rehearsal/rows.jsonl"},
    ),
    "tasks": DataSet(
        "Track B: held-out instructions with references and unit tests",
        "as the pairs, from functions of test files alone",
        {"test": "track_b/data/tasks.jsonl"},
    ),
    "queries": DataSet(
        "Track C: queries with the functions that answer them",
        "from the first sentence of docstrings, by the templates below",
        {name: f"track_c/data/{name}.jsonl" for name in ("train", "validation", "test")},
    ),
    "documents": DataSet(
        "Track C: the texts that are searched, one for each function",
        "from the code of every function, without its docstring",
        {"train": "track_c/data/documents.jsonl"},
    ),
    "texts": DataSet(
        "Track A: whole files, to read and to predict",
        "drawn from the accepted files of each split, secrets masked",
        {name: f"track_a/data/{name}.jsonl" for name in ("train", "validation", "test")},
    ),
    "places": DataSet(
        "Completion: places in held-out files, and what stands there",
        "drawn from the files of the test split by the rules below",
        {"test": "track_a/data/places.jsonl"},
    ),
    "accepted_files": DataSet(
        "the files taken from the code base",
        "by the acceptance rules below",
        {"train": "corpus/accepted.jsonl"},
    ),
    "rejected_files": DataSet(
        "everything else found there, with the reason",
        "by the acceptance rules below",
        {"train": "corpus/rejected.jsonl"},
    ),
    "functions_run": DataSet(
        "every function of the code base that was run, with the outcome",
        "by verification in the sandbox",
        {"train": "track_b/data/ran.jsonl"},
    ),
}


def data_set_facts(run_folder: Path) -> dict[str, dict[str, Any]]:
    """Return name -> facts of each data set that the folder holds: what, made, files, rows, features.

    `features` are as in a dataset card's header. They are missing where `unreadable` says why. Files without
    a row are left out, as `load_dataset` refuses them.
    """
    found = {}
    for name, data_set in DATA_SETS.items():
        rows = {
            split: read_jsonl(run_folder / path)
            for split, path in data_set.files.items()
            if (run_folder / path).is_file()
        }
        rows = {split: some for split, some in rows.items() if some}
        if not rows:
            continue
        facts: dict[str, Any] = {
            "what": data_set.what,
            "made": data_set.made,
            "files": {split: data_set.files[split] for split in rows},
            "rows": {split: len(some) for split, some in rows.items()},
        }
        try:
            facts["features"] = features_of(list(rows.values()))
        except UnreadableRowsError as error:
            facts["unreadable"] = str(error)
        found[name] = facts
    return found


def header_options(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return `configs` and `dataset_info` for the card's header, from `data_set_facts`."""
    readable = {name: one for name, one in facts.items() if "features" in one}
    configs = [
        {
            "config_name": name,
            "data_files": [{"split": split, "path": path} for split, path in one["files"].items()],
        }
        for name, one in readable.items()
    ]
    if not configs:
        return {}
    configs[0]["default"] = True
    info = [{"config_name": name, "features": one["features"]} for name, one in readable.items()]
    return {"configs": configs, "dataset_info": info}


def features_of(files: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the type of every column, as a dataset card's header writes it.

    Args:
        files: the rows of each file; all files get the same types.

    Raises:
        UnreadableRowsError: if a value would not come back as it was saved.
    """
    names = dict.fromkeys(name for rows in files for row in rows for name in row)
    columns = {
        name: [[row[name] for row in rows if row.get(name) is not None] for rows in files] for name in names
    }
    features = []
    for name, values in columns.items():
        every = [value for some in values for value in some]
        if every and all(isinstance(value, list) for value in every):
            inner = [[item for value in some for item in value] for some in values]
            features.append({"name": name, "list": _type_of(name, inner)})
        else:
            features.append({"name": name, "dtype": _type_of(name, values)})
    if "json" in [feature.get("dtype", feature.get("list")) for feature in features]:
        for name, values in columns.items():
            _check_digits(name, values)
    return features


def _type_of(name: str, files: Sequence[Sequence[Any]]) -> str:
    """Return the type that keeps a column's values; `files` holds those of each file, without None."""
    values = [value for some in files for value in some]
    kinds = {type(value) for value in values}
    if any(type(value) is int and not LEAST <= value <= MOST for value in _leaves(values)):
        raise UnreadableRowsError(f"{name!r} holds an integer of more than 64 bits")
    if kinds <= {str}:
        dates = [bool(some) and all(map(ISO_DATE.match, some)) for some in files]
        if not any(dates):
            return "string"
        # Kept as JSON, a date is no timestamp; but then a text such as 12 would become a number.
        if any(_is_json(value) for value in values):
            raise UnreadableRowsError(f"a file holds only dates as {name!r}, another holds JSON")
        return "json"
    if kinds == {bool}:
        return "bool"
    if kinds == {int}:
        return "int64"
    if kinds <= {int, float}:
        return "float64"
    if kinds == {dict}:
        return "json"
    raise UnreadableRowsError(f"{name!r} holds values of the types {sorted(kind.__name__ for kind in kinds)}")


def _check_digits(name: str, values: Any) -> None:
    for value in _leaves(values):
        if isinstance(value, float) and round(value, JSON_DIGITS) != value:
            raise UnreadableRowsError(f"{name!r} holds {value}, of more digits than its reader keeps")


def _leaves(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        yield value
        return
    for one in value:
        yield from _leaves(one)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
