"""Headless execution: parameters, progress, failures that name their section, no network."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from rich.console import Console

from helpers.machine import progress
from helpers.report import live_line
from helpers.report.execute import CellFailure, execute_notebook
from helpers.run import folder as run_folder
from helpers.run.expected_seconds import SectionSeconds
from helpers.run.time_left import TimeLeft

ROOT = Path(__file__).parents[1]

new_code, new_markdown = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell


@pytest.fixture
def notebook(tmp_path):
    def write(*cells):
        parameters = new_code("WORD = 'default'\nNUMBER = 1", metadata={"tags": ["parameters"]})
        path = tmp_path / "n.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[parameters, *cells]), path)
        return path

    return write


def run(path, parameters):
    expected = (SectionSeconds("One", 1.0, {"track_a/foreign": 20.0}), SectionSeconds("Two", 30.0))
    return execute_notebook(path, parameters, cwd=path.parent, estimate=TimeLeft(expected))


def test_parameters_override_defaults_and_nothing_listens_on_tcp(notebook) -> None:
    ask = (
        "import json, pathlib\n"
        "from ipykernel.kernelapp import IPKernelApp\n"
        "print(WORD, NUMBER, IPKernelApp.instance().transport)"
    )
    done = run(notebook(new_markdown("## One"), new_code(ask)), {"WORD": "a'b\n"})
    assert done.cells[-1].outputs[0].text == "a'b\n 1 ipc\n"
    assert [c.execution_count for c in done.cells if c.cell_type == "code"] == [1, 2, 3]


def installed_spec(folder: Path, name: str, argv: list[str], **more) -> None:
    place = folder / "kernels" / name
    place.mkdir(parents=True)
    spec = {"argv": argv, "display_name": "another one", "language": "python", **more}
    (place / "kernel.json").write_text(json.dumps(spec))


def test_the_kernel_is_this_interpreter_whatever_kernelspecs_are_installed(
    notebook, tmp_path, monkeypatch
) -> None:
    elsewhere = [
        str(tmp_path / "elsewhere/bin/python"),
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}",
    ]
    installed_spec(tmp_path / "jupyter", "python3", elsewhere, env={"WORD": "of the kernelspec"})
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    path = notebook(
        new_markdown("## One"), new_code("import os, sys\nprint(sys.executable, 'WORD' in os.environ)")
    )
    asked = nbformat.read(path, as_version=4)
    asked.metadata["kernelspec"] = {"name": "python3", "display_name": "another one", "language": "python"}
    nbformat.write(asked, path)
    assert run(path, {}).cells[-1].outputs[0].text == f"{sys.executable} False\n"


def test_a_kernel_that_does_not_start_is_one_sentence(notebook, monkeypatch) -> None:
    dies = [sys.executable, "-c", "raise SystemExit('no kernel here')"]
    monkeypatch.setattr("helpers.report.execute.make_ipkernel_cmd", lambda: dies)
    with pytest.raises(CellFailure, match=r"could not start a Python kernel.*no kernel here") as caught:
        run(notebook(new_markdown("## One"), new_code("1")), {})
    assert sys.executable in str(caught.value)


def test_a_kernel_that_does_not_start_leaves_no_traceback(notebook) -> None:
    """Neither the error's own nor the one that nbclient's clean-up would end in at exit."""
    script = (
        "import sys\nfrom pathlib import Path\nimport helpers.__main__ as command\n"
        "from helpers.report import execute\n"
        "execute.make_ipkernel_cmd = lambda: [sys.executable, '-c', 'raise SystemExit(3)']\n"
        "path = Path(sys.argv[1])\n"
        "command.app = lambda: execute.execute_notebook(path, {}, cwd=path.parent)\n"
        "command.main()\n"
    )
    path = notebook(new_markdown("## One"), new_code("1"))
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: could not start a Python kernel" in done.stderr
    assert "Traceback" not in done.stderr


def test_failing_cell_names_section_and_error(notebook) -> None:
    path = notebook(new_markdown("## One"), new_code("pass"), new_markdown("## Two"), new_code("{}['key']"))
    with pytest.raises(CellFailure, match=r"section “Two” failed: KeyError: 'key'"):
        run(path, {})


def test_dead_kernel_is_reported_and_not_waited_for(notebook) -> None:
    path = notebook(
        new_markdown("## One"), new_code("import os; os.write(2, b'what went wrong'); os._exit(1)")
    )
    with pytest.raises(CellFailure, match=r"kernel died.*: what went wrong"):
        run(path, {})


def test_unknown_parameter_is_refused(notebook) -> None:
    with pytest.raises(ValueError, match="no parameter 'COLOUR'"):
        run(notebook(), {"COLOUR": 1})


def test_terminal_shows_sections_elapsed_time_and_estimate(notebook, capsys) -> None:
    path = notebook(new_markdown("## One"), new_code("import time; time.sleep(1.2)"), new_markdown("## Two"))
    run(path, {})
    printed = capsys.readouterr().out
    assert "elapsed, about" in printed
    assert "done    One" in printed


SAYS_PROGRESS = f"""
import logging, os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from helpers.machine import progress
logging.getLogger("somebody.else").warning("noise from a logger")
print("noise on stderr", file=sys.stderr)
os.write(2, b"noise below Python\\n")
with progress.stage_events("track_a/foreign", control=True) as begins:
    begins()
    with progress.bar("train", total=4, unit="step") as shown:
        shown.n = 3
        shown.refresh()
        print("more noise", file=sys.stderr)
"""


def test_noise_on_stderr_stays_off_the_terminal_and_steps_and_bars_are_shown(
    notebook, capfd, monkeypatch
) -> None:
    monkeypatch.setattr(live_line, "PLAIN_LINE_EVERY_S", 0.0)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # else ipykernel leaves file descriptor 2 alone
    done = run(notebook(new_markdown("## One"), new_code(SAYS_PROGRESS)), {})
    printed = capfd.readouterr()
    assert "One · control: the same training on foreign code · train 75%" in printed.out
    assert "noise" not in printed.out + printed.err
    kept = "".join(output.text for output in done.cells[-1].outputs)
    assert "noise on stderr" in kept
    assert "more noise" in kept
    assert progress.MARK not in kept
    assert "train" not in kept


def test_a_log_shows_life_while_the_notebook_says_nothing() -> None:
    now = [0.0]
    written = io.StringIO()
    line = live_line.LiveLine(console=Console(file=written, width=100), clock=lambda: now[0])
    line.enter("Setup")  # where it is already
    line.enter("One")
    line.take({"event": "begins", "stage": "track_c/control_seed_18"})
    for now[0] in range(1, 31):
        line.tick(now[0])
    assert written.getvalue().splitlines() == [
        "[00:00 elapsed]  One",
        "[00:15 elapsed]  One · control: a single training, seed 18",
        "[00:30 elapsed]  One · control: a single training, seed 18",
    ]


def test_the_line_shows_the_innermost_bar_and_goes_back_to_the_outer_one() -> None:
    line = live_line.LiveLine(console=Console(file=io.StringIO()), clock=lambda: 0.0)
    outer, inner = (
        {"event": "bar", "bar": number, "what": what, "n": 1, "total": 2, "unit": "it", "note": note}
        | {"parts": None}
        for number, what, note in ((1, "train", "loss 2.1"), (2, "validate", ""))
    )
    line.take(outer)
    line.take(inner)
    assert line.text(0.0).endswith("Setup · validate 50%")
    line.take({"event": "closed", "bar": 2})
    assert line.text(0.0).endswith("Setup · train 50% (loss 2.1)")


def test_the_line_says_what_is_left_and_nearly_done_at_the_end_alone() -> None:
    now = [0.0]
    estimate = TimeLeft([SectionSeconds("One", 1.0, {"x/long": 600.0}), SectionSeconds("Summary", 4.0)])
    line = live_line.LiveLine(estimate, Console(file=io.StringIO()), lambda: now[0])
    line.enter("One")
    line.take({"event": "begins", "stage": "x/long"})
    assert "about 10:05 left" in line.text(0.0)
    assert "about" in line.text(5000.0)
    now[0] = 700.0
    line.take({"event": "ended", "stage": "x/long"})
    line.enter("Summary")
    assert "nearly done" in line.text(700.0)


def test_steps_of_a_track_that_ended_stand_aside_with_the_reason(notebook) -> None:
    source = (
        "from pathlib import Path\nfrom types import SimpleNamespace\n"
        "from helpers.tracks.guards import Guards, step\n"
        "guards = Guards(Path('.'), {'track_b': 'no docstrings'})\n"
        "class Toy:\n"
        "    def __init__(self, name): self.name, self.run = name, SimpleNamespace(guards=guards)\n"
        "    @step\n    def fine(self): print('fine')\n"
        "    @step\n    def fails(self): assert self is None\n"
        "a, b = Toy('track_a'), Toy('track_b')"
    )
    import helpers

    root = helpers.__path__[0].rsplit("/", 1)[0]
    path = notebook(
        new_code(f"import sys; sys.path.insert(0, {root!r})\n{source}"),
        *(new_code(call) for call in ("a.fine()", "b.fails()", "a.fails()", "a.fine()")),
    )
    done = run(path, {})
    *_, shown, aside, failed, later = done.cells
    assert shown.outputs[0].text == "fine\n"
    assert aside.outputs[0].text == "Track B does not run: no docstrings\n"
    (said,) = failed.outputs  # no traceback, which would name this machine's folders
    assert (
        "AssertionError without a message, in `track_a.fails()`, at `def fails(self): assert self is None` (the cell"
        in said.text
    )
    assert later.outputs[0].text.startswith("Track A does not run: AssertionError without a message")
    assert "assert self is None" in (path.parent / "errors.txt").read_text()
    assert not [o for cell in done.cells[1:] for o in cell.outputs if o.output_type == "error"]


def test_a_failure_without_a_message_names_its_line(notebook) -> None:
    path = notebook(new_markdown("## One"), new_code("scores = [1, 0]\nassert all(scores)"))
    with pytest.raises(
        CellFailure, match=r"“One” failed: AssertionError without a message\n.* assert all\(sc"
    ):
        run(path, {})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_ends_the_kernel_and_says_how_to_go_on(notebook, tmp_path, number) -> None:
    """As Ctrl-C in a terminal: the message, status 130, no traceback, no process left."""
    work = (
        "import os, time\nfrom pathlib import Path\nPath('pid').write_text(str(os.getpid()))\ntime.sleep(120)"
    )
    path = notebook(new_markdown("## One"), new_code(work))
    script = (
        "import sys\nfrom pathlib import Path\nimport helpers.__main__ as command\n"
        "from helpers.report.execute import execute_notebook\n"
        "path = Path(sys.argv[1])\n"
        "command.app = lambda: execute_notebook(path, {}, cwd=path.parent)\n"
        "command.main()\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text()):
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.1)
    running.send_signal(number)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert "stopped in section “One”; finished steps are kept, continue with --resume" in said
    assert "Traceback" not in said
    kernel = Path("/proc") / pid.read_text()
    assert not kernel.exists() or "Z" in (kernel / "stat").read_text().split()[2]


def test_a_copy_of_the_code_outside_a_checkout_can_be_told_its_revision(monkeypatch) -> None:
    def no_git(*arguments, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(run_folder.subprocess, "run", no_git)
    monkeypatch.delenv("CODE_REVISION", raising=False)
    assert run_folder.code_revision() == "unknown"
    monkeypatch.setenv("CODE_REVISION", "0123456789ab")
    assert run_folder.code_revision() == "0123456789ab"
