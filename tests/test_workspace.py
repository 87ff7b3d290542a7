"""The run folder: whole files, stages built once, half-built ones never taken for whole."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.workspace import (
    Workspace,
    WorkspaceError,
    digest,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
    write_text,
)


@dataclass(frozen=True)
class Row:
    name: str
    values: tuple[int, ...]


def test_digest_ignores_order_of_keys_and_sets_but_not_values() -> None:
    assert digest({"a": 1, "b": {3, 2}}) == digest({"b": {2, 3}, "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert digest(Row("x", (1,))) == digest({"name": "x", "values": [1]})


def test_rows_survive_the_round_trip(tmp_path: Path) -> None:
    rows = [Row("é\u2028 line", (1, 2)), Row("", ())]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl", Row) == rows


def test_nan_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"value": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"value": float("nan")})
    assert read_json(path) == {"value": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkspaceError, match=r"cannot write .*a\.txt: No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="cannot write"):
        write_text(tmp_path / "file" / "below.txt", "x")


def test_stage_is_built_once_per_input(tmp_path: Path) -> None:
    space = Workspace(tmp_path, "run")
    built = []

    def build(out: Path) -> None:
        built.append(out)
        (out / "a.txt").write_text(str(len(built)))

    first = space.stage("track/x", {"lr": 1}, build)
    again = space.stage("track/x", {"lr": 1}, build)
    assert first == again == tmp_path / "track" / "x"
    assert len(built) == 1
    space.stage("track/x", {"lr": 2}, build)
    assert len(built) == 2
    assert (first / "a.txt").read_text() == "2"
    assert space.seconds_of("track/x") >= 0


def test_interrupted_stage_keeps_its_checkpoints_for_the_same_inputs_only(tmp_path: Path) -> None:
    space = Workspace(tmp_path, "run")

    def dies(out: Path) -> None:
        (out / "checkpoint").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        space.stage("s", 1, dies)
    assert not (tmp_path / "s").exists()
    seen = []
    space.stage("s", 1, lambda out: seen.append((out / "checkpoint").exists()))
    assert seen == [True]
    with pytest.raises(KeyboardInterrupt):
        space.stage("t", 1, dies)
    space.stage("t", 2, lambda out: seen.append((out / "checkpoint").exists()))
    assert seen == [True, False]


def test_torn_stage_record_means_build_again(tmp_path: Path) -> None:
    space = Workspace(tmp_path, "run")
    built = []
    space.stage("s", 1, built.append)
    (tmp_path / "s" / "stage.json").write_text(json.dumps({"name": "s"})[:-3])
    space.stage("s", 1, built.append)
    assert len(built) == 2
