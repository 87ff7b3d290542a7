"""Bad input on the command line: one clear sentence, status not 0, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer
from typer.models import OptionInfo

from helpers.__main__ import app
from helpers.profiles import RunRequest, apply_request

ROOT = Path(__file__).parents[1]


def helpers(*arguments: str) -> subprocess.CompletedProcess:
    """Call the command as a process; what needs none is called by the fixture `command`."""
    command = [sys.executable, "-m", "helpers", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("run", "--profile", "gigantic"),
            "unknown profile 'gigantic'; choose one of: cpu, laptop, smoke, t4",
        ),
        (("verify", "--run", "no/such/run"), "no metrics.json"),
        (("score", "--problems", "missing.jsonl", "--samples", "x", "--out", "y"), "missing.jsonl"),
    ],
)
def test_wrong_input_ends_with_one_sentence(arguments, says, tmp_path, command) -> None:
    if arguments[0] == "run":
        done = command(*arguments, "--out", str(tmp_path))
    else:
        done = helpers(*arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("language", "says"),
    [
        ("parrot", "unknown language back end 'parrot'"),
        ("openai:m@http://me:key@h/v1", "OPENAI_API_KEY"),
    ],
)
def test_a_back_end_that_cannot_be_asked_is_a_wrong_choice(language, says) -> None:
    _, wrong = apply_request(RunRequest("smoke", language=language))
    assert len(wrong) == 1
    assert says in wrong[0]


def options_for_paths(group: typer.Typer) -> Iterator[tuple[str, OptionInfo]]:
    """Yield name -> option of every option of every command that takes a path."""
    for command in group.registered_commands:
        hints = typing.get_type_hints(command.callback, include_extras=True)
        for name, hint in hints.items():
            if "pathlib." in str(hint):
                inner = next(one for one in (hint, *typing.get_args(hint)) if hasattr(one, "__metadata__"))
                yield f"{command.callback.__name__} {name}", inner.__metadata__[0]
    for below in group.registered_groups:
        yield from options_for_paths(below.typer_instance)


def test_every_option_for_a_path_knows_the_home_folder(monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    found = dict(options_for_paths(app))
    named = (
        "run out, run benchmark, score out, verify run, export out, serve run, complete file, compare html"
    )
    assert set(named.split(", ")) <= set(found)
    assert len(found) >= 20
    for option in found.values():
        assert option.parser("~/x") == Path("/home/me/x")


def test_a_path_below_the_home_folder_is_found_there(tmp_path, monkeypatch, command) -> None:
    """A shell leaves `--run=~/x` and a quoted '~/x' as they are."""
    monkeypatch.setenv("HOME", str(tmp_path))
    done = command("verify", "--run=~/x")
    assert done.returncode == 1
    assert str(tmp_path / "x") in done.stderr
    done = command("verify", "--run=~nobody-of-this-name")
    assert done.returncode == 2
    assert "~nobody-of-this-name" in done.stderr


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
@pytest.mark.parametrize(
    "arguments",
    [("complete", "--prompt", "x", "--temperature", "1"), ("pretrain", "--spread")],
)
def test_a_seed_that_some_library_refuses_is_a_wrong_option(arguments, seed, command) -> None:
    done = command(*arguments, "--seed", seed)
    assert done.returncode == 2
    assert "'--seed'" in done.stderr


def test_a_plan_is_printed_without_what_libraries_say_on_the_way() -> None:
    done = helpers("plan", "--here", "--profile", "smoke")
    assert "track_a/train" in done.stdout
    assert done.stderr == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is planned with as a T4")
def test_a_plan_is_for_the_machine_that_the_profile_is_for(command) -> None:
    for options, is_for_t4 in (
        (["t4"], True), (["smoke"], False), (["smoke", "--t4"], True), (["t4", "--here"], False),
    ):  # fmt: skip
        assert ("T4," in command("plan", "--profile", *options).stdout) == is_for_t4


def test_a_plan_of_less_than_no_examples_is_refused(command) -> None:
    done = command("plan", "--micro-batch", "-3")
    assert done.returncode == 2
    assert "--micro-batch" in done.stderr


def test_a_plan_counts_with_changed_settings(command) -> None:
    done = command("plan", "--here", "--profile", "smoke", "--set", "completion.places=77")
    assert "77 places" in done.stdout
    wrong = command("plan", "--profile", "smoke", "--set", "completion.place=77")
    assert wrong.returncode == 1
    assert "completion.place" in wrong.stderr


def test_starting_again_in_several_processes_keeps_every_other_word(monkeypatch) -> None:
    import helpers.__main__ as command

    started = []
    monkeypatch.setattr(command.os, "execve", lambda program, words, environment: started.append(words))
    for given in (["--processes", "2"], ["--processes=2"]):
        words = ["pretrain", "--data", "code", "--steps", "2", *given, "--out", "2"]
        monkeypatch.setattr(command.sys, "argv", ["helpers", *words])
        command.launch_again(2)
    kept = ["pretrain", "--data", "code", "--steps", "2", "--out", "2"]
    assert [words[words.index("helpers") + 1 :] for words in started] == [kept, kept]


def test_output_folder_that_is_a_file_is_refused(tmp_path, command) -> None:
    (tmp_path / "taken").write_text("mine")
    done = command("run", "--profile", "smoke", "--out", str(tmp_path / "taken"))
    assert done.returncode == 1
    assert "choose another folder with --out" in done.stderr
    assert (tmp_path / "taken").read_text() == "mine"


def test_k_that_is_no_number_is_refused(command) -> None:
    done = command("score", "--problems", "p", "--samples", "s", "--out", "o", "--k", "one")
    assert done.returncode == 2
    assert "--k takes whole numbers" in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--profile", "smoke"),
        ("lab", "--scale", "smoke"),
        ("profiling", "lab"),
        ("profiling", "own-loops"),
    ],
)
def test_exports_that_cannot_be_written_are_said_before_any_work(
    words, tmp_path, command, monkeypatch
) -> None:
    def worked(*_arguments, **_options) -> None:
        raise AssertionError("work began")

    for place in (
        "helpers.report.headless_run.execute_notebook", "helpers.fixed_budget.commands.execute_notebook",
        "helpers.profiling_lab.lab_run.execute_notebook",
        "helpers.profiling_lab.own_loops.compare_loops.run_forked",
    ):  # fmt: skip
        monkeypatch.setattr(place, worked)
    (tmp_path / "exports").write_text("mine")
    done = command(*words, "--out", str(tmp_path))
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "exports" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("profiling", "grade", "--problem", "numpy", "--submission", "x.py", "--json"),
        ("compare", "metrics.json", "--out"),
        ("compare", "metrics.json", "--html"),
    ],
)
def test_a_file_that_cannot_be_written_is_said_before_any_work(words, tmp_path, command, monkeypatch) -> None:
    monkeypatch.setattr("helpers.profiling_lab.grader.grade", lambda *_: pytest.fail("work began"))
    monkeypatch.setattr("helpers.report.compare_page.compare_page", lambda *_: pytest.fail("work began"))
    monkeypatch.setattr("helpers.report.compare.comparison", lambda *_: pytest.fail("work began"))
    (tmp_path / "taken").write_text("mine")
    done = command(*words, str(tmp_path / "taken" / "result"))
    assert done.returncode == 1
    assert "cannot write" in done.stderr
