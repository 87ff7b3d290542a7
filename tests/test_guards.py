"""What a failure costs: an item, a control, a plot, a part, a track; never an empty reason."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

import helpers.__main__ as command
from helpers.data.contamination import ContaminationError
from helpers.error_text import told
from helpers.errors import CheckError, InsufficientDataError
from helpers.eval.file_score_rows import FileScore, paired_rows
from helpers.profiles import RunRequest
from helpers.run.workspace import Workspace, WorkspaceError, write_json
from helpers.tracks.guards import Guards, step
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
        Workspace(tmp_path).stage("track_b/train", 1, fails)
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

    run, done = open_session(RunRequest("smoke", out=tmp_path)), []
    run.guards.step("track_b", "build", leaks)
    reason = run.not_run["track_b"]
    assert "ContaminationError: 2 pairs hold held-out code" in reason
    assert "run the same command with --resume" in reason
    assert reason in capsys.readouterr().out
    assert "ContaminationError" in (run.folder / "errors.txt").read_text()
    run.guards.step("track_c", "build", lambda: done.append(5))
    assert done == [5]
    assert list(run.not_run) == ["track_b"]


def test_too_little_data_is_told_by_its_own_words(guards: Guards) -> None:
    def lacks():
        raise InsufficientDataError("3 functions of at least 40")

    guards.step("track_c", "build", lacks)
    assert guards.not_run == {"track_c": "3 functions of at least 40"}
    assert not (guards.folder / "errors.txt").exists()


@pytest.mark.parametrize("error", [WorkspaceError("full"), OSError(errno.ENOSPC, "No space left")])
def test_what_concerns_the_whole_run_goes_through(guards: Guards, error: Exception) -> None:
    def full():
        raise error

    for call in (
        lambda: guards.step("track_a", "build", full),
        lambda: guards.control("track_a", "c", full, otherwise=[]),
        lambda: guards.part("p", full, otherwise=None),
        lambda: guards.show("p", full),
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


# --- steps ---------------------------------------------------------------------------------------


class Toy:
    """A track of two steps, the first of which fails as long as `broken` is set."""

    name = "track_b"

    def __init__(self, guards: Guards):
        self.run, self.broken, self.done = SimpleNamespace(guards=guards), True, []

    @step
    def first(self, value: int) -> None:
        """Fail, or note the value."""
        if self.broken:
            raise AssertionError
        self.done.append(value)

    @step
    def second(self) -> None:
        """Note that the step ran."""
        self.done.append("second")


def test_a_failing_step_ends_its_track_and_may_be_tried_again(guards: Guards, capsys) -> None:
    toy = Toy(guards)
    toy.first(1)
    assert "AssertionError without a message, in `track_b.first()`, at `" in guards.not_run["track_b"]
    toy.second()
    said = capsys.readouterr().out
    assert "Track B ends here: AssertionError without a message" in said
    assert "Track B does not run: AssertionError" in said
    assert "Traceback" not in said
    assert toy.done == []
    toy.broken = False
    toy.second()  # not the step that failed
    assert toy.done == []
    toy.first(2)
    toy.second()
    assert toy.done == [2, "second"]
    assert not guards.not_run


def test_a_step_that_lacks_data_may_be_tried_again(guards: Guards) -> None:
    found = iter([{"track_b": "2 pairs of at least 10"}, {}])
    for expected in (["track_b"], []):
        guards.step("track_b", "build", lambda: guards.not_run.update(next(found)))
        assert list(guards.not_run) == expected


def test_a_track_that_is_recorded_keeps_its_section(guards: Guards) -> None:
    def shows():
        raise KeyError("shown")

    guards.recorded.add("track_b")
    guards.step("track_b", "show", shows)
    assert not guards.not_run
    assert "Track B is recorded, but a step that shows it failed: KeyError: 'shown'" in guards.warnings[0]


def test_a_failing_part_is_missing_and_later_calls_say_so(guards: Guards, capsys) -> None:
    assert guards.part("data card", lambda: 1 / 0, otherwise=None) is None
    guards.show("data card", print, "never")
    said = capsys.readouterr().out
    assert "data card is missing: ZeroDivisionError" in said
    assert "never" not in said
    assert list(guards.missing) == ["data card"]


def test_a_part_that_could_not_be_shown_is_tried_again(guards: Guards, capsys) -> None:
    shown = iter([ZeroDivisionError("once"), "the plan"])

    def build():
        value = next(shown)
        if isinstance(value, Exception):
            raise value
        return value

    guards.show("plan", build)
    assert list(guards.missing) == ["plan"]
    guards.show("plan", build)
    assert not guards.missing
    assert "the plan" in capsys.readouterr().out


@pytest.mark.parametrize("error", [WorkspaceError("full"), KeyboardInterrupt(), SystemExit(3)])
def test_a_step_that_ends_the_whole_run_does(guards: Guards, error: BaseException) -> None:
    def ends():
        raise error

    with pytest.raises(type(error)):
        guards.step("track_a", "train", ends)
    assert not guards.not_run


def test_a_full_disk_is_known_by_its_number(tmp_path: Path) -> None:
    def build(out: Path) -> None:
        write_json(out / "x.json", 1)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(WorkspaceError, match="make room"):
        Workspace(tmp_path).stage("a", 1, build)
