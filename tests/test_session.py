"""Sessions: where a run lies, what may be resumed, when reports are published."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.profiles import RunRequest
from helpers.run.folder import choose_run, publish_reports
from helpers.run.workspace import WorkspaceError, write_json, write_text
from helpers.settings import SettingsError
from helpers.tracks.preflight import PreflightError
from helpers.tracks.session import open_session


def test_unknown_profile_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unknown profile"):
        open_session(RunRequest("big", out=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_output_that_cannot_be_a_folder_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(WorkspaceError, match="choose another folder with --out"):
        open_session(RunRequest("smoke", out=tmp_path / "taken"))
    assert (tmp_path / "taken").read_text() == "mine"


def test_resume_takes_the_unfinished_run_of_the_same_settings_only(tmp_path: Path) -> None:
    _, first = choose_run(RunRequest("smoke", out=tmp_path, run_id="smoke-1"))
    _, other_seed = choose_run(RunRequest("smoke", out=tmp_path, resume=True, seed=99))
    assert other_seed != first
    _, resumed = choose_run(RunRequest("smoke", out=tmp_path, resume=True))
    assert resumed == first
    write_json(first / "report" / "metrics.smoke.json", {})
    assert (
        choose_run(RunRequest("smoke", out=tmp_path, resume=True))[1] == first
    )  # computed, not published yet
    publish_reports(first, tmp_path)
    _, after_finish = choose_run(RunRequest("smoke", out=tmp_path, resume=True))
    assert after_finish not in (first, other_seed)


def test_rows_are_computed_once_and_read_back_from_disk(tmp_path: Path) -> None:
    run = open_session(RunRequest("smoke", out=tmp_path))
    calls = []

    def compute() -> list[dict]:
        calls.append(1)
        return [{"path": "a.py", "nll": 1.5}]

    first = run.rows("track_a/before", {"x": 1}, compute)
    assert run.rows("track_a/before", {"x": 1}, compute) == first == [{"path": "a.py", "nll": 1.5}]
    assert len(calls) == 1


def test_short_data_names_what_is_missing_and_how_much_would_do(tmp_path: Path) -> None:
    run = open_session(RunRequest("smoke", out=tmp_path))
    assert not run.require("track_a", training_files=2, validation_files=1, test_files=0)
    reason = run.not_run["track_a"]
    assert "2 training files of at least 3" in reason
    assert "0 test files of at least 2" in reason
    assert "validation" not in reason
    assert run.require("track_a", training_files=3, validation_files=1, test_files=2)
    assert run.not_run == {}


def test_a_stage_depends_on_its_own_tracks_model_and_on_the_precision(tmp_path: Path) -> None:
    import dataclasses

    folders = {}
    for name in ("a", "b"):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        (folders[name] / "weights").write_text("one")
    models = {"causal_lm": str(folders["a"]), "chat_lm": str(folders["b"])}
    built = []

    def build_all(**changes) -> list[str]:
        built.clear()
        run = open_session(RunRequest("smoke", out=tmp_path, run_id="r", **models))
        run.runtime = dataclasses.replace(run.runtime, **changes)
        for stage in ("track_a/x", "track_b/x", "track_c/x", "other"):
            run.stage(stage, 1, lambda out, stage=stage: built.append(stage))
        return list(built)

    assert len(build_all()) == 4
    assert build_all() == []
    (folders["a"] / "weights").write_text("two")
    assert build_all() == ["track_a/x"]
    assert len(build_all(nf4=True)) == 4


def test_mended_code_recomputes_the_stages_that_use_it_and_no_other(tmp_path: Path, monkeypatch) -> None:
    import dataclasses

    from helpers.data.splits import files_of
    from helpers.run import code_identity
    from helpers.train.trainer import run_training

    ours, built = code_identity.OURS, []

    def suite(mended: str = "") -> list[str]:
        texts = {name: text + "\nMENDED = 1\n" * (name == mended) for name, text in ours.texts.items()}
        monkeypatch.setattr(code_identity, "OURS", dataclasses.replace(ours, texts=texts))
        built.clear()
        run = open_session(RunRequest("smoke", out=tmp_path, resume=True))
        run.rows("track_a/before", 1, lambda: [{"a": built.append("before") or str(files_of)}])
        run.stage("track_a/train", 1, lambda out: built.append("train") or str(run_training))
        return list(built)

    assert suite() == ["before", "train"]
    assert suite("helpers.data.tasks.test_sets") == suite("helpers.report.tables") == []
    assert suite("helpers.train.trainer") == ["train"]
    assert suite("helpers.data.splits") == ["before", "train"]  # and the trainer as it was
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_a_resumed_run_of_other_settings_takes_what_did_not_change_from_its_siblings(tmp_path: Path) -> None:
    built = []

    def suite(**options) -> Path:
        run = open_session(RunRequest("smoke", out=tmp_path, **options))
        run.rows("track_b/data", run.profile.track_b, lambda: built.append("data") or [{"a": 1}])
        run.rows("failures", run.profile.failure_cases, lambda: built.append("failures") or [{"a": 1}])
        return run.folder

    first = suite(run_id="first")
    assert suite(run_id="second", resume=True) != first
    assert built == ["data", "failures"]
    suite(run_id="third")
    assert built == ["data", "failures"] * 2
    (tmp_path / "runs" / "third" / "track_b" / "data" / "rows.jsonl").write_text("damaged")
    suite(run_id="fourth", resume=True)
    assert built == ["data", "failures"] * 2  # another sibling's copy is whole


def test_a_folder_in_use_by_another_process_is_refused(tmp_path: Path) -> None:
    import subprocess
    import sys

    from helpers.run.lock import lock_run

    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, os, sys\n"
         "lock = open(sys.argv[1], 'w'); lock.write(str(os.getpid())); lock.flush()\n"
         "fcntl.flock(lock, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()", str(tmp_path / ".lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(WorkspaceError, match=rf"in use by process {holder.pid}; .*without --resume"):
        lock_run(tmp_path, wait_s=0.3)
    holder.kill()
    holder.wait()
    lock_run(tmp_path, wait_s=5)
    lock_run(tmp_path)  # the same process may open it again


def test_a_new_machine_goes_on_from_the_second_copy(tmp_path: Path) -> None:
    drive, built = tmp_path / "drive", []

    def run_stages(out: Path, fail: bool) -> Path:
        run = open_session(RunRequest("smoke", out=out, resume=True, second_copy=drive))
        for stage in ("track_a/one", "track_a/two"):
            if fail and stage.endswith("two"):
                raise KeyboardInterrupt
            run.rows(stage, 1, lambda stage=stage: built.append(stage) or [{"stage": stage}])
        write_text(run.folder / "report" / "metrics.smoke.json", "{}")
        run.publish()
        return run.folder

    with pytest.raises(KeyboardInterrupt):
        run_stages(tmp_path / "first", fail=True)
    folder = run_stages(tmp_path / "second", fail=False)
    assert built == ["track_a/one", "track_a/two"]
    assert (tmp_path / "second" / "metrics.smoke.json").exists()
    assert (drive / "runs" / folder.name / "report" / "metrics.smoke.json").exists()
    third = open_session(RunRequest("smoke", out=tmp_path / "third", resume=True, second_copy=drive))
    assert third.folder.name != folder.name  # that one is finished


def test_a_second_copy_that_is_not_mounted_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="Mount the Drive first"):
        open_session(
            RunRequest("smoke", out=tmp_path, second_copy=tmp_path / "content" / "drive" / "MyDrive")
        )


def test_reports_of_a_partial_profile_carry_its_name(tmp_path: Path) -> None:
    run = open_session(RunRequest("smoke", out=tmp_path))
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


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="needs a file system that nobody can write, as /proc is"
)
def test_a_folder_that_cannot_be_written_is_said_before_anything_runs() -> None:
    with pytest.raises(
        WorkspaceError, match=r"cannot write to /proc/none: .*choose another folder with --out"
    ):
        choose_run(RunRequest("smoke", out="/proc/none"))


def test_a_password_in_the_corpus_address_is_not_kept(tmp_path: Path) -> None:
    spec = "git:https://me:tr0ub4dor@host/o/r"
    _, folder = choose_run(RunRequest("smoke", out=tmp_path, corpus=spec))
    assert "tr0ub4dor" not in (folder / "run.json").read_text()
    session = open_session(RunRequest("smoke", corpus=spec, out=tmp_path))
    session.require("track_c", training_pairs=0, validation_queries=0, test_queries=0, documents=0)
    assert "git:https://host/o/r gives only" in session.not_run["track_c"]
