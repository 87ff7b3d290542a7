"""Sessions: where a run lies, what may be resumed, when reports are published."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.session import choose_run, open_session, publish_reports
from helpers.settings import SettingsError
from helpers.workspace import WorkspaceError, write_json, write_text


def test_unknown_profile_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unknown profile"):
        open_session("big", out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_output_that_cannot_be_a_folder_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(WorkspaceError, match="choose another folder with --out"):
        open_session("smoke", out=tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_resume_takes_the_unfinished_run_of_the_same_settings_only(tmp_path: Path) -> None:
    _, first = choose_run("smoke", out=tmp_path, run_id="smoke-1")
    _, other_seed = choose_run("smoke", out=tmp_path, resume=True, seed=99)
    assert other_seed != first
    _, resumed = choose_run("smoke", out=tmp_path, resume=True)
    assert resumed == first
    write_json(first / "report" / "metrics.smoke.json", {})
    _, after_finish = choose_run("smoke", out=tmp_path, resume=True)
    assert after_finish not in (first, other_seed)


def test_rows_are_computed_once_and_read_back_from_disk(tmp_path: Path) -> None:
    run = open_session("smoke", out=tmp_path)
    calls = []

    def compute() -> list[dict]:
        calls.append(1)
        return [{"path": "a.py", "nll": 1.5}]

    first = run.rows("track_a/before", {"x": 1}, compute)
    assert run.rows("track_a/before", {"x": 1}, compute) == first == [{"path": "a.py", "nll": 1.5}]
    assert run.json("value", 1, lambda: {"a": [1]}) == {"a": [1]}
    assert len(calls) == 1


def test_short_data_names_what_is_missing_and_how_much_would_do(tmp_path: Path) -> None:
    run = open_session("smoke", out=tmp_path)
    assert not run.require("track_a", training_files=2, validation_files=1, test_files=0)
    reason = run.reason_not_run("track_a")
    assert "2 training files of at least 3" in reason
    assert "0 test files of at least 2" in reason
    assert "validation" not in reason
    assert run.require("track_a", training_files=3, validation_files=1, test_files=2)
    assert run.reason_not_run("track_a") is None
    with pytest.raises(KeyError, match="no track"):
        run.reason_not_run("track_x")


def test_reports_of_a_partial_profile_carry_its_name(tmp_path: Path) -> None:
    run = open_session("smoke", out=tmp_path)
    run.write_report({"a": 1}, "card")
    published = run.publish()
    assert [p.name for p in published] == ["data_card.smoke.md", "metrics.smoke.json"]


def test_publishing_keeps_the_old_report_when_a_target_cannot_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / "run" / "report" / "exports" / "a.html", "new")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "exports").write_text("a file where a folder is needed")
    with pytest.raises(WorkspaceError, match="cannot write"):
        publish_reports(tmp_path / "run", tmp_path / "out")
    assert (tmp_path / "out" / "exports").read_text() == "a file where a folder is needed"
