"""Headless execution: parameters, progress, failures that name their section, no network."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from helpers import run_folder
from helpers.report.execute import CellFailure, execute_notebook

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
    return execute_notebook(path, parameters, cwd=path.parent, expected_seconds={"One": 1.0, "Two": 30.0})


def test_parameters_override_defaults_and_nothing_listens_on_tcp(notebook) -> None:
    ask = (
        "import json, pathlib\n"
        "from ipykernel.kernelapp import IPKernelApp\n"
        "print(WORD, NUMBER, IPKernelApp.instance().transport)"
    )
    done = run(notebook(new_markdown("## One"), new_code(ask)), {"WORD": "a'b\n"})
    assert done.cells[-1].outputs[0].text == "a'b\n 1 ipc\n"
    assert [c.execution_count for c in done.cells if c.cell_type == "code"] == [1, 2, 3]


def test_failing_cell_names_section_and_error(notebook) -> None:
    path = notebook(new_markdown("## One"), new_code("pass"), new_markdown("## Two"), new_code("{}['key']"))
    with pytest.raises(CellFailure, match=r"section “Two” failed: KeyError: 'key'"):
        run(path, {})


def test_dead_kernel_is_reported_and_not_waited_for(notebook) -> None:
    path = notebook(new_markdown("## One"), new_code("import os; os._exit(1)"))
    with pytest.raises(CellFailure, match="kernel died"):
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


def test_track_cells_stand_aside_with_the_reason(notebook) -> None:
    source = (
        "from IPython import get_ipython\n"
        "from pathlib import Path\nfrom helpers.guards import Guards\n"
        "from helpers.notebook_cells import register_cell_magics\n"
        "guards = Guards(Path('.'), {'track_b': 'no docstrings'})\n"
        "register_cell_magics(get_ipython(), guards, guards.reason)"
    )
    import helpers

    root = helpers.__path__[0].rsplit("/", 1)[0]
    path = notebook(
        new_code(f"import sys; sys.path.insert(0, {root!r})\n{source}"),
        new_code("%%track track_a\nx = 20\nx + 1"),
        new_code("%%track track_b\nraise SystemError"),
        new_code("%%track track_a\nassert x == 21"),
        new_code("%%track track_a\nraise SystemError"),
    )
    done = run(path, {})
    *_, shown, aside, failed, later = done.cells
    assert shown.outputs[0].data["text/plain"] == "21"
    assert aside.outputs[0].text == "track_b does not run: no docstrings\n"
    (said,) = failed.outputs  # no traceback, which would name this machine's folders
    assert "AssertionError without a message, at `assert x == 21` (the cell, line 1)" in said.text
    assert later.outputs[0].text.startswith("track_a does not run: AssertionError without a message")
    assert "assert x == 21" in (path.parent / "errors.txt").read_text()
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
        "command.app = lambda: execute_notebook(path, {}, cwd=path.parent, expected_seconds={})\n"
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
    assert "stopped in section “One”; finished steps are kept, go on with --resume" in said
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
