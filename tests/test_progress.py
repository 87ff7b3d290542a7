"""Bars and steps as marked lines for the command line, and as plain text in a notebook."""

from __future__ import annotations

import contextlib

import pytest

from helpers.machine import progress


@pytest.fixture
def marked(monkeypatch):
    monkeypatch.setenv(progress.MARKED, "1")


def messages(capsys) -> list[dict]:
    found, rest = progress.take_marked(capsys.readouterr().err)
    assert rest == ""
    return found


def test_a_bar_is_plain_text_outside_the_command_line(monkeypatch, capsys) -> None:
    monkeypatch.delenv(progress.MARKED, raising=False)
    with progress.stage_events("track_a/train") as begins:
        begins()
        with progress.bar("score files", total=2) as shown:
            shown.update(1)
    printed = capsys.readouterr().err
    assert "score files:" in printed
    assert progress.MARK not in printed


@pytest.mark.parametrize("control", [True, False])
def test_plain_bars_of_a_control_are_labelled(monkeypatch, capsys, control) -> None:
    monkeypatch.delenv(progress.MARKED, raising=False)
    with progress.stage_events("track_a/foreign", control=control) as begins:
        begins()
        progress.bar("train", total=2).close()
    progress.bar("later", total=2).close()
    printed = capsys.readouterr().err
    assert ("control: train:" in printed) is control
    assert "control: later" not in printed


def test_a_marked_bar_reports_its_state_and_its_end(marked, capsys) -> None:
    with progress.bar("train", total=4, unit="step") as shown:
        shown.set_postfix_str("loss 1.250", refresh=False)
        shown.n = 3
        shown.refresh()
    first, second, last = messages(capsys)
    number = first["bar"]
    assert first == {
        "event": "bar", "bar": number, "what": "train", "n": 0, "total": 4, "unit": "step", "note": "",
        "parts": None,
    }  # fmt: skip
    assert (second["n"], second["note"]) == (3, "loss 1.250")
    assert last == {"event": "closed", "bar": number}


def test_items_are_passed_on_under_a_marked_bar(marked, capsys) -> None:
    assert list(progress.progress("abc", "letters")) == ["a", "b", "c"]
    assert messages(capsys)[-1]["event"] == "closed"


def test_bars_within_a_part_name_it_and_its_number(marked, capsys) -> None:
    with progress.part("seed", 2, 3):
        progress.bar("tune embedder", total=9).close()
    with progress.part("seed", 1, 1):
        progress.bar("tune embedder", total=9).close()
    told = [message for message in messages(capsys) if message["event"] == "bar"]
    assert [(m["what"], m["parts"]) for m in told] == [
        ("seed 2 of 3, tune embedder", [2, 3]),
        ("tune embedder", None),
    ]


def test_a_step_is_found_or_begins_and_ends(marked, capsys) -> None:
    with progress.stage_events("one"):
        pass
    with progress.stage_events("two") as begins:
        begins()
    with contextlib.suppress(ZeroDivisionError), progress.stage_events("three") as begins:
        begins()
        raise ZeroDivisionError
    assert [(m["event"], m["stage"]) for m in messages(capsys)] == [
        ("found", "one"), ("begins", "two"), ("ended", "two"), ("begins", "three"), ("failed", "three"),
    ]  # fmt: skip


def test_lines_that_only_look_marked_are_kept() -> None:
    text = f"noise {progress.MARK}{{}} and {progress.MARK}no json\n"
    found, rest = progress.take_marked(text)
    assert found == []
    assert rest == "noise "
