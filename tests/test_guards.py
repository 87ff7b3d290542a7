"""What a failure costs: an item, a control, a plot, a part, a track; never an empty reason."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import helpers.__main__ as command
from helpers.data.contamination import ContaminationError
from helpers.errors import CheckError, InsufficientDataError, told
from helpers.eval.file_scores import FileScore, paired_rows
from helpers.profiles import RunRequest
from helpers.run.workspace import Workspace, WorkspaceError, write_json
from helpers.tracks.guards import Guards
from helpers.tracks.notebook_cells import register_cell_magics
from helpers.tracks.session import open_session


def fails(*arguments, **options):
    raise AssertionError


@pytest.fixture
def guards(tmp_path: Path) -> Guards:
    return Guards(tmp_path)


# --- what is said ------------------------------------------------------------------------------


def test_a_check_says_what_was_expected_what_was_got_and_what_to_do(guards: Guards) -> None:
    guards.expect("the text", expected="a", got="a", do="nothing")
    with pytest.raises(CheckError) as caught:
        guards.expect("the text", expected=1, got=2, do="Choose another.")
    assert told(caught.value) == "the text: expected 1, got 2. Choose another."
    assert told(AttributeError()) == "AttributeError without a message"


def test_the_step_and_the_line_of_this_package_are_named(tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        Workspace(tmp_path, "r").stage("track_b/train", 1, fails)
    said = told(caught.value)
    assert said.startswith("AssertionError without a message, in step track_b/train, at `")
    assert "(helpers/run/workspace.py, line " in said
    assert str(tmp_path) not in said


def test_the_command_line_says_something_of_an_empty_error(monkeypatch, capsys) -> None:
    def app() -> None:
        raise WorkspaceError

    monkeypatch.setattr(command, "app", app)
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    assert "error: WorkspaceError without a message" in capsys.readouterr().err


# --- what is lost ------------------------------------------------------------------------------


def test_a_leak_into_the_pairs_costs_its_track_alone(tmp_path: Path, capsys) -> None:
    def leaks():
        raise ContaminationError("2 pairs hold held-out code, e.g. ['train-0001']")

    run = open_session(RunRequest("smoke", out=tmp_path))
    assert run.attempt("track_b", leaks) is None
    reason = run.not_run["track_b"]
    assert "ContaminationError: 2 pairs hold held-out code" in reason
    assert "run the same command with --resume" in reason
    assert reason in capsys.readouterr().out
    assert "ContaminationError" in (run.folder / "errors.txt").read_text()
    assert run.attempt("track_c", lambda: 5) == 5
    assert list(run.not_run) == ["track_b"]


def test_too_little_data_is_told_by_its_own_words(guards: Guards) -> None:
    def lacks():
        raise InsufficientDataError("3 functions of at least 40")

    assert guards.attempt("track_c", lacks) is None
    assert guards.not_run == {"track_c": "3 functions of at least 40"}
    assert not (guards.folder / "errors.txt").exists()


@pytest.mark.parametrize("error", [WorkspaceError("full"), OSError(errno.ENOSPC, "No space left")])
def test_what_concerns_the_whole_run_goes_through(guards: Guards, error: Exception) -> None:
    def full():
        raise error

    for call in (
        lambda: guards.attempt("track_a", full),
        lambda: guards.control("track_a", "c", full, otherwise=[]),
        lambda: guards.part("p", full, otherwise=None),
        lambda: guards.draw(full),
    ):
        with pytest.raises(type(error)):
            call()
    assert not guards.not_run
    assert not guards.warnings


def test_controls_parts_and_plots_are_left_out_with_a_warning_each(guards: Guards) -> None:
    assert guards.control("track_a", "the foreign corpus", fails, otherwise=[]) == []
    assert guards.part("data card", fails, otherwise=None) is None
    guards.draw(fails, title="File sizes")
    control, card, plot = guards.warnings
    assert control.startswith(
        "Track A: the foreign corpus is left out, since it failed: AssertionError without"
    )
    assert card.startswith("the report lacks its data card, which failed: AssertionError without a message")
    assert plot.startswith("the plot “fails (File sizes)” could not be drawn: AssertionError without")
    assert not guards.not_run


def test_a_second_item_of_a_name_is_left_out(guards: Guards) -> None:
    assert guards.each_once("functions", ["a1", "b1", "a2"], lambda item: item[0]) == ["a1", "b1"]
    assert guards.warnings == ["1 functions whose name another one has left out: a"]
    assert guards.each_once("functions", ["a", "b"], str) == ["a", "b"]
    assert len(guards.warnings) == 1


def test_files_whose_two_scores_do_not_compare_are_left_out() -> None:
    before = [FileScore("test", path, 10, 5, 1.0, 1) for path in ("a", "b", "c")]
    after = [FileScore("test", path, 10, 6 if path == "b" else 5, 1.0, 1) for path in ("a", "b", "d")]
    odd: dict[str, str] = {}
    assert [row["path"] for row in paired_rows(before, after, "test", odd)] == ["a"]
    assert odd == {
        "b": "10 bytes and 5 tokens before, 10 and 6 after", "c": "scored only before", "d": "scored only after",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"2 of 2 files, e.g. b: 10 bytes and 5 tokens before"):
        paired_rows(before[1:2], after[1:], "test", {})


def test_a_warning_after_the_report_still_gets_into_it(tmp_path: Path) -> None:
    run = open_session(RunRequest("smoke", out=tmp_path))
    run.write_report({"run": {"warnings": ["early"]}}, "card")
    run.guards.draw(fails, title="late")
    assert '"early",' in (run.folder / "report/metrics.smoke.json").read_text()
    assert "(late)” could not be drawn" in (run.folder / "report/metrics.smoke.json").read_text()


# --- cells -------------------------------------------------------------------------------------


@pytest.fixture
def shell(guards: Guards):
    made = InteractiveShell()
    made.user_ns["ok"] = False
    register_cell_magics(made, guards, guards.reason)
    return made


def test_a_failing_track_cell_ends_its_track_and_may_be_tried_again(shell, guards: Guards, capsys) -> None:
    cell = "%%track track_b\nassert ok"
    assert shell.run_cell(cell).success
    assert "at `assert ok` (the cell, line 1)" in guards.not_run["track_b"]
    shell.run_cell("%%track track_b\nprint('never')")
    shell.run_cell("%%track track_a\nprint('others go on')")
    said = capsys.readouterr().out
    assert "Track B ends here: AssertionError without a message" in said
    assert "track_b does not run: AssertionError" in said
    assert "\nnever" not in said
    assert "others go on" in said
    assert "Traceback" not in said
    shell.user_ns["ok"] = True
    shell.run_cell(cell)  # the very cell that failed
    assert not guards.not_run


def test_a_track_that_is_recorded_keeps_its_section(shell, guards: Guards) -> None:
    guards.recorded.add("track_b")
    shell.run_cell("%%track track_b\nraise KeyError('shown')")
    assert not guards.not_run
    assert "Track B is recorded, but a step that shows it failed: KeyError: 'shown'" in guards.warnings[0]


def test_a_failing_part_is_missing_and_its_later_cells_say_so(shell, guards: Guards, capsys) -> None:
    shell.run_cell("%%part data card\n1/0")
    shell.run_cell("%%part data card\nprint('never')")
    assert "data card is missing: ZeroDivisionError" in capsys.readouterr().out
    assert list(guards.missing) == ["data card"]


@pytest.mark.parametrize("name", ["WorkspaceError('full')", "KeyboardInterrupt", "SystemExit(3)"])
def test_a_cell_that_ends_the_whole_run_does(shell, guards: Guards, name: str) -> None:
    shell.run_cell("from helpers.run.workspace import WorkspaceError")
    result = shell.run_cell(f"%%track track_a\nraise {name}")
    assert not result.success
    assert not guards.not_run


def test_a_syntax_error_ends_its_track_too(shell, guards: Guards) -> None:
    shell.run_cell("%%track track_a\nx = = 1")
    assert guards.not_run["track_a"].startswith("SyntaxError")


def test_a_full_disk_is_known_by_its_number(tmp_path: Path) -> None:
    def build(out: Path) -> None:
        write_json(out / "x.json", 1)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(WorkspaceError, match="make room"):
        Workspace(tmp_path, "r").stage("a", 1, build)
