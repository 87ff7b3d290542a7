"""The warm process of the lab: it imports the libraries once, and forks a confined process for every run.

Slow script and submission start from the same imports, so neither pays for them, and a run is one process
from its fork to its end. The layers of containment are those of `helpers.sandbox`.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import os
import select
import signal
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Any

from helpers.profiling_lab.script_child import run_job
from helpers.sandbox import call_filter, child, confine, watch
from helpers.sandbox.run_conditions import BASE
from helpers.sandbox.scratch import remove_tree
from helpers.sandbox.zygote import OUTPUT_BYTES, Zygote, preload, receive, send

TICK_MS = 50
SHOWN_BYTES = 2_000  # of what a script printed
FILE_BYTES, FILES = 16 * 2**20, 200  # of what it left behind, all together


def serve_scripts() -> None:
    """Answer requests on the socket in argv until the caller hangs up."""
    control, settings = socket.socket(fileno=int(sys.argv[1])), json.loads(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, {settings["core"]})
    call_filter.libc.prctl(call_filter.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        preload([*settings["preload"], "runpy", "pstats", "cProfile", "argparse"])
        _rehearse()
        zygote = ScriptZygote(control, settings["folder"], BASE)
        send(control, {"layers": zygote.layers})
        gc.freeze()
        while (request := receive(control)) is not None:
            try:
                reply = zygote.run_script(request[0])
            except OSError as error:  # out of processes, memory or disk: not the script's fault
                reply = {"infrastructure": f"{type(error).__name__}: {error}"}
            send(control, reply)
    finally:
        confine.unmount_folder(settings["folder"])
        remove_tree(settings["folder"])


def _rehearse() -> None:
    """Let torch do now what it puts off until an optimizer is first made: imports of over a second."""
    if "torch" not in sys.modules:
        return
    import torch

    weight = torch.nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.zeros(2, 2)  # no backward pass: its threads would not survive a fork
    for kind in (torch.optim.Adam, torch.optim.SGD):
        optimizer = kind([weight])
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


class ScriptZygote(Zygote):
    """Runs whole scripts in the layers that the sandbox chose for this machine and user."""

    def run_script(self, job: dict[str, Any]) -> dict[str, Any]:
        """Fork one run, watch it, and return what it took, noted and left behind.

        Args:
            job: `files` (name -> base64) for the run's folder, `timeout_s`, `memory_mb`, and what
                `script_child.run_job` takes.

        Returns:
            `exit` (negative: a signal), `limit` (None, "time", "output" or "files"), `cpu_s` and `wall_s` of
            the process with all that it started, `said` (the end of its output), `notes`, `files`, `changed`
            (given files that it changed).
        """
        folder = Path(self._folder.path)
        given = {name: base64.b64decode(content) for name, content in job.pop("files").items()}
        for name, content in given.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        self._give_folders(folder, job.get("folders", []))
        report, output = os.memfd_create("report"), os.memfd_create("output")
        try:
            start = time.monotonic()
            pid = os.fork()
            if pid == 0:
                self._be_script(job, report, output)
            limit, status, usage = self._watch(pid, job["timeout_s"], output, start)
            wall_s = time.monotonic() - start
            watch.end_children(())
            size = os.fstat(output).st_size
            said = os.pread(output, SHOWN_BYTES, max(0, size - SHOWN_BYTES)).decode(errors="replace")
            text = os.pread(report, os.fstat(report).st_size, 0)
            files, changed = self._left_behind(folder, given)
            return {
                "exit": os.waitstatus_to_exitcode(status), "limit": limit, "wall_s": wall_s, "said": said,
                "cpu_s": usage.ru_utime + usage.ru_stime, "notes": _notes(text), "files": files,
                "changed": changed,
            }  # fmt: skip
        finally:
            os.close(report)
            os.close(output)
            self._folder.clear()

    def _give_folders(self, folder: Path, names: list[str]) -> None:
        for name in names:
            (folder / name).mkdir(parents=True)
            for place in (folder / name, *(folder / name).parents):
                if place == folder:
                    break
                if self._confinement.uid is not None:
                    os.chown(place, self._confinement.uid, self._confinement.uid)

    def _be_script(self, job: dict[str, Any], report: int, output: int) -> None:
        status = 70
        try:
            os.dup2(self._null, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            landlock = self._folder.landlock
            self._confinement.apply(int(job["timeout_s"]) + 2, job["memory_mb"], landlock, (report,))
            os.pwrite(report, child.CONFINED, 0)
            os.ftruncate(report, 0)
            status = 71
            run_job(job, report)
            status = 0
        finally:
            os._exit(status)

    def _watch(self, pid: int, timeout_s: float, output: int, start: float) -> tuple[str | None, int, Any]:
        """Wait for a run to end, kill it at a limit; return the limit, the wait status and what it used."""
        limit, ended = None, os.pidfd_open(pid)
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        poller.register(self._control, select.POLLHUP)
        try:
            while not (ready := {descriptor for descriptor, _ in poller.poll(TICK_MS)}) or ended not in ready:
                if self._control.fileno() in ready:
                    raise SystemExit  # the caller is gone
                if os.fstat(output).st_size > OUTPUT_BYTES:
                    limit = "output"
                elif self._folder.overfull():
                    limit = "files"
                elif watch.cpu_s(pid) > timeout_s or self._slept(pid, start, timeout_s):
                    limit = "time"
                if limit:
                    os.kill(pid, signal.SIGKILL)
                    break
        finally:
            os.close(ended)
            if sys.exc_info()[0] is not None:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        return limit, status, usage

    @staticmethod
    def _slept(pid: int, start: float, timeout_s: float) -> bool:
        return watch.overslept((pid,), time.monotonic() - start, timeout_s)

    def _left_behind(self, folder: Path, given: dict[str, bytes]) -> tuple[dict[str, str], list[str]]:
        """Return the regular files below `folder` (others as None), and which given ones were changed."""
        found: dict[str, Any] = {}
        left = FILE_BYTES
        for parent, folders, names in os.walk(folder):
            for name in sorted([*names, *(each for each in folders if Path(parent, each).is_symlink())]):
                path = Path(parent, name)
                relative = str(path.relative_to(folder))
                if len(found) >= FILES:
                    return found, []
                try:
                    seen = path.lstat()
                    fits = stat.S_ISREG(seen.st_mode) and seen.st_size <= left
                    content = path.read_bytes() if fits else None
                except OSError:
                    content = None
                if relative not in given:
                    left -= len(content or b"")
                    found[relative] = None if content is None else base64.b64encode(content).decode()
                elif content != given[relative]:
                    found[f"{relative} (changed)"] = None
        missing = [name for name in given if not (folder / name).exists()]
        return found, missing


def _notes(text: bytes) -> dict[str, Any]:
    """Return what the run noted; nothing if it died before it could."""
    try:
        notes = json.loads(text)
    except ValueError:
        return {}
    return notes if isinstance(notes, dict) else {}
