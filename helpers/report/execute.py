"""Execute a notebook headless, with parameters, live progress and an honest exit.

The kernel speaks over Unix sockets, not TCP, so that a run needs no network interface at all, not
even loopback. A cell that fails raises `CellFailure` with the section it stands in.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from rich.console import Console
from rich.live import Live
from rich.text import Text
from traitlets.config import Config

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
FAILING_LINE = re.compile(r"^-+> *(\d+) (.*)$", re.MULTILINE)  # as IPython marks it in a traceback
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
PLAIN_LINE_EVERY_S = 15.0  # without a terminal: how often progress within a step is printed


class RunStopped(RuntimeError):
    """A person or the system asked the run to stop (Ctrl-C, SIGTERM)."""

    exit_status = 130


class CellFailure(RuntimeError):
    """A cell raised, or its kernel died; the message names the section and the error."""


def execute_notebook(
    path: Path,
    parameters: Mapping[str, Any],
    *,
    cwd: Path,
    expected_seconds: Mapping[str, float],
) -> nbformat.NotebookNode:
    """Run every cell of the notebook at `path` in a fresh kernel and return the executed copy.

    Args:
        parameters: assigned in a cell inserted after the one tagged `parameters`; a name that the
            tagged cell does not assign is refused.
        cwd: working directory of the kernel.
        expected_seconds: measured seconds per section heading, for the estimate of what is left; none
            for no estimate.

    Raises:
        CellFailure: if a cell raises or the kernel dies.
        RunStopped: on Ctrl-C or SIGTERM; the kernel is ended first.
        ValueError: for a parameter that the notebook does not have.
    """
    notebook = nbformat.read(path, as_version=4)
    _insert_parameters(notebook, parameters)
    with tempfile.TemporaryDirectory(prefix="kernel-") as sockets:
        config = Config()
        if sys.platform != "win32":
            config.KernelManager.transport = "ipc"
            config.KernelManager.ip = str(Path(sockets) / "k")
        display = _Display(expected_seconds)
        client = _Client(
            notebook,
            config=config,
            kernel_name="python3",
            timeout=None,
            resources={"metadata": {"path": str(cwd)}},
            display=display,
        )
        with display:
            try:
                client.execute()
            except CellExecutionError as error:
                raise CellFailure(f"section “{display.section}” failed: {told_cell(error)}") from error
            except (asyncio.CancelledError, DeadKernelError) as error:
                if client.stopped:
                    raise RunStopped(
                        f"stopped in section “{display.section}”; "
                        "finished steps are kept, go on with --resume"
                    ) from None
                raise CellFailure(
                    f"section “{display.section}”: the kernel died, most often for want of memory"
                ) from error
    return notebook


def told_cell(error: CellExecutionError) -> str:
    """What a cell raised, never empty: type, message, and the line of the traceback that failed."""
    trace = ANSI.sub("", error.traceback or "")
    message = ANSI.sub("", error.evalue or "").strip()
    said = f"{error.ename}: {message}" if message else f"{error.ename} without a message"
    lines = FAILING_LINE.findall(trace)
    return f"{said}\n  at line {lines[-1][0]}: {lines[-1][1].strip()}" if lines else said


def _insert_parameters(notebook: nbformat.NotebookNode, parameters: Mapping[str, Any]) -> None:
    index, cell = next(
        (i, c) for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", [])
    )
    for name in parameters:
        if not re.search(rf"^{name} *=", cell.source, re.MULTILINE):
            raise ValueError(f"the notebook has no parameter {name!r}")
    source = "# Parameters of this run, from the command line.\n" + "\n".join(
        f"{name} = {value!r}" for name, value in parameters.items()
    )
    inserted = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(index + 1, inserted)


class _Client(NotebookClient):
    """NotebookClient that tells a display which section runs and what the kernel prints."""

    def __init__(self, *args: Any, display: _Display, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._display = display
        self.stopped = False

    async def async_start_new_kernel_client(self, **kwargs):
        # By now nbclient answers signals by ending the kernel under the cell that runs, which then looks
        # like a crash. Here the kernel is ended and the reason kept.
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
        return await super().async_start_new_kernel_client(**kwargs)

    async def async_execute_cell(self, cell, cell_index, *args, **kwargs):
        for heading in HEADING.findall("" if cell.cell_type != "markdown" else cell.source):
            self._display.enter(heading.strip())
        return await super().async_execute_cell(cell, cell_index, *args, **kwargs)

    def process_message(self, msg, cell, cell_index):
        content = msg["content"]
        if msg["msg_type"] == "stream" and content["name"] == "stderr":
            self._display.detail(content["text"])
        return super().process_message(msg, cell, cell_index)


class _Display:
    """Terminal line: elapsed time, section, step within it, estimate of what is left."""

    def __init__(self, expected_seconds: Mapping[str, float]) -> None:
        self.section = "Setup"
        self._expected = dict(expected_seconds)
        self._estimated = bool(expected_seconds)
        self._done_expected = 0.0
        self._start = self._section_start = self._last_line = time.monotonic()
        self._detail = ""
        self._console = Console(highlight=False, soft_wrap=True)
        self._live = (
            Live(get_renderable=self._line, console=self._console, refresh_per_second=2)
            if self._console.is_terminal
            else None
        )

    def __enter__(self) -> _Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.update(Text(""))
            self._live.stop()

    def enter(self, section: str) -> None:
        """A new section begins: print the finished one's time, keep the line for the new one."""
        now = time.monotonic()
        if now - self._section_start > 1:
            self._console.print(f"  done    {self.section}  ({_clock(now - self._section_start)})")
        self._done_expected += self._expected.pop(self.section, 0.0)
        self.section, self._section_start, self._detail = section, now, ""
        if not self._live:
            self._print_line()

    def detail(self, text: str) -> None:
        """Take the newest state of a progress bar printed by the kernel."""
        parts = [p.strip() for p in ANSI.sub("", text).replace("\n", "\r").split("\r") if p.strip()]
        if not parts:
            return
        self._detail = parts[-1]
        if not self._live and time.monotonic() - self._last_line >= PLAIN_LINE_EVERY_S:
            self._print_line()

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        self._console.print(self._line())

    def _line(self) -> Text:
        elapsed = time.monotonic() - self._start
        left = f", {self._left(elapsed)}" if self._estimated else ""
        text = f"[{_clock(elapsed)} elapsed{left}]  {self.section}"
        return Text(f"{text} · {self._detail}" if self._detail else text)

    def _left(self, elapsed: float) -> str:
        """Remaining expected seconds, scaled by how this machine has kept to them so far."""
        current = self._expected.get(self.section, 0.0)
        later = sum(self._expected.values()) - current
        in_section = time.monotonic() - self._section_start
        before = elapsed - in_section
        speed = before / self._done_expected if self._done_expected > 20 else 1.0
        left = speed * later + max(0.0, speed * current - in_section)
        return f"about {_clock(left)} left" if left >= 1 else "nearly done"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:02d}:{rest:02d}"
