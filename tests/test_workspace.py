"""The run folder: files are whole, stages are built once, and half-built ones never count as finished."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from helpers.profiles import RunRequest
from helpers.run.folder import choose_run
from helpers.run.second_copy import SecondCopy
from helpers.run.workspace import (
    DamagedFileError,
    Workspace,
    WorkspaceError,
    check_writable,
    digest,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
    write_text,
)
from helpers.train.checkpoints import newest_whole_checkpoint


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


@pytest.mark.parametrize("content", [b"", b'{"a": [1, 2', b"nonsense", b'{"a": "\xc3', b"[" * 100_000])
def test_a_torn_file_is_named_and_may_still_be_caught_as_before(tmp_path: Path, content) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"x\.json is damaged") as caught:
        read_json(tmp_path / "x.json")
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value).splitlines()) == 1
    (tmp_path / "x.jsonl").write_bytes(b'{"a": 1}\n' + (content or b"7"))
    with pytest.raises(DamagedFileError, match=r"x\.jsonl is damaged"):
        read_jsonl(tmp_path / "x.jsonl")


def test_a_row_of_another_record_is_named_by_its_line(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "x.jsonl", [Row("a", ()), {"name": "b", "colour": 1}])
    with pytest.raises(DamagedFileError, match=r"x\.jsonl is damaged in line 2"):
        read_jsonl(tmp_path / "x.jsonl", Row)


@pytest.mark.parametrize("content", ["", "{", "[]", "3"])
def test_a_torn_record_of_a_run_or_a_copy_is_passed_over(tmp_path: Path, content: str) -> None:
    for name in ("runs/smoke-1/run.json", "checkpoints/run.json", "copies/runs/r/step/stage.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(content)
    _, folder = choose_run(RunRequest("smoke", out=tmp_path, resume=True))
    assert folder.name != "smoke-1"
    assert newest_whole_checkpoint(tmp_path / "checkpoints", "key") is None
    assert not SecondCopy(tmp_path / "copies", "r").fetch("step", "key", tmp_path / "into")


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "below" / "a.json")
    assert not list(tmp_path.iterdir())
    (tmp_path / "old.json").write_text("old")
    check_writable(tmp_path / "old.json")
    assert [path.name for path in tmp_path.glob("*.json")] == ["old.json"]
    for place in (
        tmp_path,
        tmp_path / "old.json/below.json",
        tmp_path / ("n" * 300),
        tmp_path / "n" / ("n" * 300),
    ):
        with pytest.raises(WorkspaceError, match="cannot write"):
            check_writable(place)


def test_stage_is_built_once_per_input(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
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
    space = Workspace(tmp_path)

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


def test_a_torn_stage_record_triggers_a_rebuild(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    built = []
    space.stage("s", 1, built.append)
    (tmp_path / "s" / "stage.json").write_text(json.dumps({"name": "s"})[:-3])
    space.stage("s", 1, built.append)
    assert len(built) == 2


def test_a_damaged_file_triggers_a_rebuild_and_a_message(tmp_path: Path, capsys) -> None:
    space = Workspace(tmp_path)
    built = []

    def build(out: Path) -> None:
        built.append(1)
        (out / "deep").mkdir()
        (out / "deep" / "rows.jsonl").write_text("whole")

    folder = space.stage("s", 1, build)
    (folder / "deep" / "rows.jsonl").write_text("who")
    assert (space.stage("s", 1, build) / "deep" / "rows.jsonl").read_text() == "whole"
    assert len(built) == 2
    assert "deep/rows.jsonl is missing or damaged" in capsys.readouterr().out
    (folder / "deep" / "rows.jsonl").unlink()
    space.stage("s", 1, build)
    assert len(built) == 3


def test_a_finished_stage_that_was_not_renamed_is_used(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    space.stage("s", 1, lambda out: (out / "a").write_text("x"))
    (tmp_path / "s").rename(tmp_path / "s.partial")
    (tmp_path / "s.partial" / "inputs.json").write_text("{}")
    assert space.stage("s", 1, lambda out: pytest.fail("built again")) == tmp_path / "s"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s"]


def test_a_full_disk_is_reported_and_the_finished_stage_stays(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    space.stage("s", 1, lambda out: (out / "a").write_text("old"))

    def hidden(out: Path) -> None:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise RuntimeError("PytorchStreamWriter failed") from error

    def in_words(out: Path) -> None:
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    def in_part(out: Path) -> None:
        with pytest.raises(OSError, match="requested") as error:
            np.ones(10_000).tofile("/dev/full")
        assert error.value.errno is None
        raise error.value

    for build in (hidden, in_words, in_part):
        with pytest.raises(WorkspaceError, match=r"No space left.*; .*make room and continue with --resume"):
            space.stage("s", 2, build)
        assert (tmp_path / "s" / "a").read_text() == "old"
    with pytest.raises(ZeroDivisionError):
        space.stage("s", 2, lambda out: 1 / 0)


def test_a_real_write_error_while_a_model_is_saved(tmp_path: Path) -> None:
    """RLIMIT_FSIZE simulates a full disk: the kernel refuses the write, whatever library makes it."""
    script = """
import resource, signal, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from helpers.run.workspace import Workspace, WorkspaceError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
space = Workspace(Path(sys.argv[1]))
space.stage("first", 1, lambda out: (out / "a").write_text("kept"))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
savers = {
    "torch": lambda out: torch.save(torch.zeros(100_000), out / "x.pt"),
    "safetensors": lambda out: save_file({"x": torch.zeros(100_000)}, out / "x.safetensors"),
    "text": lambda out: (out / "x").write_text("x" * 200_000),
}
for name, save in savers.items():
    try:
        space.stage(name, 1, save)
    except WorkspaceError as error:
        print(name, "|", error)
print((Path(sys.argv[1]) / "first" / "a").read_text(), space.stage("first", 1, None).name)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert [line.split(" | ")[0] for line in lines[:-1]] == ["torch", "safetensors", "text"], done.stderr
    assert all("make room and continue with --resume" in line for line in lines[:-1])
    assert lines[-1] == "kept first"
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".partial")) == ["first"]


def test_a_vanished_second_copy_is_reported_once_and_used_again_when_it_returns(
    tmp_path: Path, capsys
) -> None:
    drive = tmp_path / "drive"
    drive.mkdir()
    space = Workspace(tmp_path / "local", SecondCopy(drive, "run"))

    def build(out: Path) -> None:
        (out / "a").write_text("x")

    space.stage("one", 1, build)
    drive.rename(tmp_path / "unmounted")
    space.stage("two", 1, build)
    space.stage("three", 1, build)
    assert capsys.readouterr().out.count("cannot be reached") == 1
    assert not drive.exists()
    (tmp_path / "unmounted").rename(drive)
    space.stage("two", 1, lambda out: pytest.fail("built again"))
    assert sorted(p.name for p in (drive / "runs" / "run").iterdir()) == ["one", "two"]
    again = Workspace(tmp_path / "new", SecondCopy(drive, "run"))
    (drive / "runs" / "run" / "two" / "a").write_text("cut sh")
    built = []
    for name in ("one", "two"):
        again.stage(name, 1, lambda out, name=name: built.append(name) or build(out))
    assert built == ["two"]  # a damaged copy does not count


def test_half_a_character_is_written_and_read_back(tmp_path: Path) -> None:
    """`"\\ud800"` is a valid literal in Python and in JSON, but no text in UTF-8."""
    write_json(tmp_path / "x.json", {"a": "\ud800 ß"})
    assert read_json(tmp_path / "x.json") == {"a": "\ud800 ß"}
    write_jsonl(tmp_path / "x.jsonl", [{"a": "\udcff"}])
    assert read_jsonl(tmp_path / "x.jsonl") == [{"a": "\udcff"}]
    write_text(tmp_path / "x.txt", "a\ud800ß")
    assert (tmp_path / "x.txt").read_text(encoding="utf-8") == "a\\ud800ß"
