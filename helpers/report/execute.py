"""Execute a notebook headless, with parameters, live progress and an honest exit.

The kernel is the interpreter that runs this code, whatever kernelspecs are installed. It speaks over Unix
sockets, not TCP, so that a run needs no network interface at all, not even loopback. A cell that fails
raises `CellFailure` with the section it stands in.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import re
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import nbformat
from ipykernel.kernelspec import make_ipkernel_cmd
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from traitlets import default
from traitlets.config import Config

from helpers.errors import SuiteError
from helpers.machine.progress import MARKED, take_marked
from helpers.report.live_line import LiveLine
from helpers.run.time_left import TimeLeft

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
FAILING_LINE = re.compile(r"^-+> *(\d+) (.*)$", re.MULTILINE)  # as IPython marks it in a traceback
STARTUP_S = 600  # for a kernel to start: far beyond what a busy machine takes
OUTPUT_S = 120  # for a finished cell's last outputs, which would else be dropped without a word
SOCKET_PATH_CHARS = 107  # of a Unix socket on Linux
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


class RunStopped(SuiteError, RuntimeError):
    """A person or the system asked the run to stop (Ctrl-C, SIGTERM)."""

    exit_status = 130


class CellFailure(SuiteError, RuntimeError):
    """A cell raised, or its kernel died; the message names the section and the error."""


def execute_notebook(
    path: Path, parameters: Mapping[str, Any], *, cwd: Path, estimate: TimeLeft | None = None
) -> nbformat.NotebookNode:
    """Run every cell of the notebook at `path` in a fresh kernel and return the executed copy.

    Args:
        parameters: assigned in a cell inserted after the one tagged `parameters`; a name that the
            tagged cell does not assign is refused.
        cwd: working directory of the kernel.
        estimate: of what is left, shown beside the elapsed time; None shows none.

    Raises:
        CellFailure: if a cell raises, or the kernel dies or does not start.
        RunStopped: on Ctrl-C or SIGTERM; the kernel is ended first.
        ValueError: for a parameter that the notebook does not have.
    """
    notebook = nbformat.read(path, as_version=4)
    _insert_parameters(notebook, parameters)
    with _socket_folder() as sockets, tempfile.TemporaryFile() as said:
        config = Config()
        if sys.platform != "win32":
            config.KernelManager.transport = "ipc"
            config.KernelManager.ip = str(Path(sockets) / "k")
        line = LiveLine(estimate)
        limits = {"timeout": None, "startup_timeout": STARTUP_S, "iopub_timeout": OUTPUT_S}
        place = {"metadata": {"path": str(cwd)}}
        own = {"kernel_manager_class": _OwnKernel, "kernel_name": "python3", "config": config}
        client = _Client(notebook, **own, resources=place, line=line, **limits)
        with line:
            try:
                # ipykernel copies what compiled code prints into the outputs, and also to these streams:
                # keep it off the terminal.
                client.execute(env={**os.environ, MARKED: "1"}, stdout=said, stderr=said)
            except CellExecutionError as error:
                raise CellFailure(f"section “{line.section}” failed: {told_cell(error)}") from error
            except (asyncio.CancelledError, DeadKernelError) as error:
                section = f"section “{line.section}”"
                if client.stopped:
                    stopped = f"stopped in {section}; finished steps are kept, continue with --resume"
                    raise RunStopped(stopped) from None
                died = f"{section}: the kernel died, most often for want of memory{_last_words(said)}"
                raise CellFailure(died) from error
            except (OSError, RuntimeError) as error:
                if client.is_ready:
                    raise
                atexit.unregister(client._cleanup_kernel)  # nbclient's own would fail at exit
                how = f"is ipykernel installed for {sys.executable}?{_last_words(said)}"
                raise CellFailure(f"could not start a Python kernel ({error}): {how}") from error
    return notebook


def _socket_folder() -> tempfile.TemporaryDirectory[str]:
    """Make a folder whose path is short enough for a socket's name; the default one may not be."""
    deep = len(tempfile.gettempdir()) > SOCKET_PATH_CHARS - 40
    place = "/tmp" if deep and Path("/tmp").is_dir() else None
    return tempfile.TemporaryDirectory(prefix="kernel-", dir=place)


def _last_words(said: IO[bytes]) -> str:
    said.seek(0)
    lines = ANSI.sub("", said.read().decode(errors="replace")).split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"; its last words: {last}" if last else ""


def told_cell(error: CellExecutionError) -> str:
    """Describe what a cell raised, never empty: type, message, and the line that failed."""
    trace = ANSI.sub("", error.traceback or "")
    message = ANSI.sub("", error.evalue or "").strip()
    said = f"{error.ename}: {message}" if message else f"{error.ename} without a message"
    lines = FAILING_LINE.findall(trace)
    return f"{said}\n  at line {lines[-1][0]}: {lines[-1][1].strip()}" if lines else said


def _insert_parameters(notebook: nbformat.NotebookNode, parameters: Mapping[str, Any]) -> None:
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    index, cell = next((i, c) for i, c in enumerate(notebook.cells) if "parameters" in tags[i])
    for name in parameters:
        if not re.search(rf"^{name} *=", cell.source, re.MULTILINE):
            raise ValueError(f"the notebook has no parameter {name!r}")
    source = "# Parameters of this run, from the command line.\n" + "\n".join(
        f"{name} = {value!r}" for name, value in parameters.items()
    )
    inserted = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(index + 1, inserted)


class _OwnSpec(KernelSpecManager):
    """Gives this interpreter's kernel under every name: an installed `python3` may be another's."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(argv=make_ipkernel_cmd(), display_name="Python 3", language="python")


class _OwnKernel(AsyncKernelManager):
    @default("kernel_spec_manager")
    def _own_spec(self) -> KernelSpecManager:
        return _OwnSpec(parent=self)


class _Client(NotebookClient):
    """NotebookClient that reports the running section and its progress to the line on the terminal.

    It takes the marked lines of `helpers.machine.progress` out of what the kernel writes to stderr; the
    executed notebook keeps the rest.
    """

    def __init__(self, *args: Any, line: LiveLine, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._line = line
        self.stopped = self.is_ready = False

    async def async_start_new_kernel_client(self, **kwargs: Any) -> Any:
        # nbclient answers a signal by ending the kernel under the running cell, which then looks like a
        # crash. Here the kernel is ended and the reason kept.
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def stop() -> None:
            self.stopped = True
            process = getattr(self.km.provisioner, "process", None)
            if process is not None:
                process.kill()
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(RuntimeError, NotImplementedError, ValueError):
                loop.add_signal_handler(number, stop)
        started = await super().async_start_new_kernel_client(**kwargs)
        self.is_ready = True
        return started

    async def async_execute_cell(
        self, cell: nbformat.NotebookNode, cell_index: int, *args: Any, **kwargs: Any
    ) -> nbformat.NotebookNode:
        for heading in HEADING.findall(cell.source) if cell.cell_type == "markdown" else ():
            self._line.enter(heading.strip())
        return await super().async_execute_cell(cell, cell_index, *args, **kwargs)

    def process_message(
        self, msg: dict[str, Any], cell: nbformat.NotebookNode, cell_index: int
    ) -> nbformat.NotebookNode | None:
        content = msg["content"]
        if msg["msg_type"] == "stream" and content["name"] == "stderr":
            messages, content["text"] = take_marked(content["text"])
            for message in messages:
                self._line.take(message)
            if not content["text"]:
                return None
        return super().process_message(msg, cell, cell_index)
