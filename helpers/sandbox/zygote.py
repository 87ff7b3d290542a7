"""The warm process behind each worker: it imports once and forks a process for each program.

It is a fresh interpreter, never a fork of the caller, so no thread of torch or BLAS exists when it
forks. It reads the limits in a request but never the texts: program and tests lie in unnamed files
whose descriptors it passes on, so no program inherits an expected value. One judge is kept for all
programs whose tests leave no trace in it; other programs get their own judge.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from helpers.sandbox import call_filter, child, confine, watch
from helpers.sandbox.candidate import rehearse
from helpers.sandbox.run_conditions import RunConditions, prepare, settle
from helpers.sandbox.scratch import ScratchFolder, remove_tree

OUTPUT_BYTES = 8 * 2**20
JUDGE_EXTRA_S = 5.0  # processor time that the judge may use beyond the program's limit
TICK_MS = 50
JUDGE_ANSWERS_S = 5.0  # patience with a judge whose program is gone; a loaded machine takes a while


def serve(control: socket.socket, settings: dict[str, Any]) -> None:
    """Answer requests on `control` until the caller hangs up; `settings` are those that a `Worker` sends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    call_filter.libc.prctl(call_filter.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    conditions = RunConditions(**settings["conditions"])
    prepare(conditions)
    preload(settings["preload"])
    zygote = Zygote(control, settings["folder"], conditions)
    send(control, {"layers": zygote.layers})
    rehearse()
    settle(conditions)
    gc.freeze()
    zygote.start_judge()
    while True:
        request = receive(control, descriptors=2)
        if request is None:
            return
        try:
            reply = zygote.run(request[0], *request[1])
        except OSError as error:  # out of processes, memory or disk: not the program's fault
            reply = {"error": f"{type(error).__name__}: {error}"}
        send(control, reply)


def preload(names: list[str]) -> None:
    """Import what the programs will need; a failure is not fatal."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if "numpy" in sys.modules:
        importlib.import_module("numpy.random")  # seeded in every child, but loaded lazily by numpy
    if "pandas" in sys.modules:
        importlib.import_module("helpers.sandbox.frames")  # no child can read this package


class Zygote:
    """Runs one program after another in layers that are chosen once for this machine and user."""

    def __init__(self, control: socket.socket, home: str, conditions: RunConditions):
        self._control, self._conditions = control, conditions
        self._judge: Judge | None = None
        self.layers = confine.enter_namespaces(home)
        libraries = sorted({sys.prefix, sys.base_prefix, *(path for path in sys.path if path)})
        uid, read_all = self._choose_uid(home, libraries)
        limited = self.layers[1].active  # the file system of its own limits the folder's size
        self._folder = ScratchFolder(home, libraries, uid, limited=limited, name=conditions.folder)
        has_landlock, abi = self._folder.landlock is not None, confine.landlock_abi()
        self._layer("landlock", has_landlock, f"ABI {abi}" if abi else "not in this kernel")
        guard = not has_landlock and uid is None  # `child.be_candidate` decides by the same
        reason = "replaces Landlock, but native code bypasses it" if guard else "not needed here"
        self._layer("audit hook on files", guard, reason)
        self._has_filter = has_filter = call_filter.seccomp_available()
        self._layer("system call filter", has_filter, "seccomp" if has_filter else "this kernel accepts none")
        confine.empty_bounding_set()
        own = call_filter.own_filter(same_user=uid is None) if has_filter else None
        if has_filter:
            call_filter.shared_filter().install()
        call_filter.libc.prctl(call_filter.PR_SET_DUMPABLE, 0, 0, 0, 0)
        with open("/proc/self/statm") as stream:
            inherited_bytes = int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        self._confinement = confine.Confinement(inherited_bytes, uid, read_all=read_all, call_filter=own)
        self._null = os.open(os.devnull, os.O_RDONLY)
        self._poller = select.poll()
        self._poller.register(control, select.POLLHUP)

    def _layer(self, name: str, active: bool, reason: str) -> None:
        self.layers.append(confine.Layer(name, active, reason))

    def _choose_uid(self, home: str, libraries: list[str]) -> tuple[int | None, bool]:
        """Return the program's user id (None: the caller's) and whether it must be able to read all files."""
        uid = 61184 + 2 * (os.getpid() % 2000)  # the range that systemd reserves for transient users
        refused = confine.cannot_become(uid, home) if os.geteuid() == 0 else "only root can assign one"
        if refused:
            self._layer("own user id", False, refused)
            return None, False
        read_all = not confine.readable_by_others([*libraries, os.path.dirname(home)])
        read = ", but reads all files, as only root could read the interpreter" if read_all else ""
        self._layer("own user id", True, f"uid {uid} owns nothing{read}")
        return uid, read_all

    def run(self, limits: dict[str, Any], source: int, tests: int) -> dict[str, Any]:
        """Fork the program, have it judged, watch both processes, and leave nothing behind.

        Returns:
            `limit`: None, "time", "output" or "files". `judge` and `candidate`: exit status, negative for
            a signal, None if the process was still alive when the verdict came, as it should be.
        """
        output = os.memfd_create("output")
        near, far = socket.socketpair()
        confined, report = os.pipe()
        program: RunningProgram | None = None
        try:
            pid = _fork(self._be_candidate, limits, source, far.fileno(), output, report)
            program = RunningProgram(pid, limits["timeout_s"], output)
            os.close(report)
            far.close()
            word = self._judge_program(program, (near.fileno(), tests, output))
            said = os.read(confined, 1000)
            if said != child.CONFINED:
                problem = said.decode(errors="replace") or "nothing was heard of it"
                return {"error": f"the program could not be confined: {problem}"}
            if word == child.THREADS:
                self._await_threads(program)
            elif word == child.PASSED:
                program.limit = self._limit(program)  # its last writes may exceed a limit
            near.close()  # a program that is still alive ends when its channel closes
            ended = _end(pid, patience_s=1.0 if word == child.GONE else 0.0)
            return {"limit": program.limit, "judge": program.judge_status, "candidate": ended}
        finally:
            near.close()
            far.close()
            watch.end_children(() if self._judge is None else (self._judge.pid,))
            for descriptor in (source, tests, output, confined):
                os.close(descriptor)
            self._folder.clear()

    def _be_candidate(self, limits: dict, source: int, channel: int, output: int, report: int) -> None:
        os.dup2(self._null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        landlock = self._folder.landlock
        child.be_candidate(self._confinement, limits, self._conditions, landlock, source, channel, report)

    def _judge_program(self, program: RunningProgram, descriptors: tuple[int, int, int]) -> bytes:
        """Let the kept judge decide, or a new one if the tests need their own process; return its word."""
        word = self._await_word(self.start_judge(), program, descriptors)
        if not self._judge.reusable:
            self._judge = None
        if word in (child.NEEDS_OWN_PROCESS, child.NEEDS_FILES):
            # Under one user id only the system call filter keeps the program from signalling the judge.
            sibling = 0 if word == child.NEEDS_FILES and self._has_filter else 1
            word = self._await_word(Judge(self._be_judge, kept=False, sibling=sibling), program, descriptors)
        return word

    def start_judge(self) -> Judge:
        """Return the kept judge; start one if there is none."""
        if self._judge is None:
            self._judge = Judge(self._be_judge, kept=True, sibling=1)
        return self._judge

    def _be_judge(self, control: int, kept: bool, sibling: int) -> None:
        child.be_judge(
            self._confinement, control, self._conditions, self._folder.landlock, kept=kept, sibling=sibling
        )

    def _await_word(self, judge: Judge, program: RunningProgram, descriptors: tuple[int, int, int]) -> bytes:
        """Wait for the judge's word (b"" if it died) and kill the program if it reaches a limit."""
        judge.give(descriptors)
        self._poller.register(judge.link, select.POLLIN)
        try:
            while True:
                ready = dict(self._poller.poll(TICK_MS))
                if self._control.fileno() in ready:
                    raise SystemExit  # the caller is gone; `finally` clauses clean up
                if judge.link.fileno() in ready:
                    break
                program.limit = self._limit(program, judge)
                if program.limit:
                    os.kill(program.pid, signal.SIGKILL)  # the judge notices that the channel closed
                    break
        finally:
            self._poller.unregister(judge.link)
        word = judge.hear()
        if not judge.reusable:
            program.judge_status = judge.end()
        return word

    def _limit(self, program: RunningProgram, judge: Judge | None = None) -> str | None:
        """Return which limit the program has reached, or None."""
        if os.fstat(program.output).st_size > OUTPUT_BYTES:
            return "output"
        if self._folder.overfull():
            return "files"
        if watch.cpu_s(program.pid) > program.timeout_s:
            return "time"
        if judge is not None and judge.used_s() > program.timeout_s + JUDGE_EXTRA_S:
            return "time"
        pids = (program.pid,) if judge is None else (program.pid, judge.pid)
        return "time" if watch.overslept(pids, time.monotonic() - program.start, program.timeout_s) else None

    def _await_threads(self, program: RunningProgram) -> None:
        """Let the threads that the program left behind finish, within its limits."""
        while True:
            program.limit = self._limit(program)
            if program.limit or watch.threads_of(program.pid) <= 1:
                return
            time.sleep(0.005)


class RunningProgram:
    """A program while it runs; `limit` is the limit it has reached, if any."""

    def __init__(self, pid: int, timeout_s: float, output: int):
        self.pid, self.timeout_s, self.output = pid, timeout_s, output
        self.start = time.monotonic()
        self.limit: str | None = None
        self.judge_status: int | None = None


class Judge:
    """A judge process and the link to it."""

    def __init__(self, body: Callable[[int, bool, int], None], *, kept: bool, sibling: int):
        self.link, theirs = socket.socketpair()
        self.pid = _fork(body, theirs.fileno(), kept, sibling)
        theirs.close()
        self.link.settimeout(JUDGE_ANSWERS_S)
        self.reusable = True
        self._before_s = 0.0

    def give(self, descriptors: tuple[int, int, int]) -> None:
        """Send the descriptors that it needs to judge one program."""
        self._before_s = watch.cpu_s(self.pid)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        with contextlib.suppress(BrokenPipeError):  # it has died: `hear` will say so
            self.link.sendmsg([b"+"], [rights])

    def used_s(self) -> float:
        """Return the processor seconds spent on this program."""
        return watch.cpu_s(self.pid) - self._before_s

    def hear(self) -> bytes:
        """Return its word on the program; b"" if it ended or does not answer."""
        try:
            said = self.link.recv(2)
        except OSError:
            said = b""
        self.reusable = said[1:] == child.REUSABLE
        return said[:1]

    def end(self) -> int:
        """Close the link and return the exit status once the judge has ended."""
        self.link.close()
        status = _end(self.pid, patience_s=1.0)
        return 0 if status is None else status


def _fork(body: Callable[..., None], *args: Any) -> int:
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            body(*args)
            status = 0
        finally:
            os._exit(status)
    return pid


def _end(pid: int, *, patience_s: float) -> int | None:
    """Return the exit status of a child that ends within `patience_s`; kill it otherwise, and return None."""
    patience = time.monotonic() + patience_s
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= patience:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.0005)


def send(control: socket.socket, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    """Send the caller or its warm process one length-prefixed JSON object and copies of `descriptors`."""
    text = json.dumps(message).encode()
    data = struct.pack("!I", len(text)) + text
    sent = socket.send_fds(control, [data], descriptors) if descriptors else 0
    if sent < len(data):
        control.sendall(data[sent:])


def receive(control: socket.socket, descriptors: int = 0) -> tuple[dict[str, Any], list[int]] | None:
    """Receive the next object and its `descriptors`; None if the other side hung up.

    The two sides take turns, so nothing follows a message before it is answered.

    Raises:
        OSError: if the descriptors did not arrive.
    """
    data, found, _, _ = socket.recv_fds(control, 2**16, descriptors)
    while 0 < len(data) < 4 or (data and len(data) < 4 + struct.unpack_from("!I", data)[0]):
        part = control.recv(2**16)
        data = data + part if part else b""
    if data and len(found) == descriptors:
        return json.loads(data[4:]), found
    for descriptor in found:
        os.close(descriptor)
    if data:
        raise OSError("descriptors did not arrive")
    return None


def run_zygote() -> None:
    """Run the warm process; argv holds the control socket's descriptor and the settings."""
    settings = json.loads(sys.argv[2])
    # A locale without the letters of a folder's name still takes their bytes.
    sys.path[:] = [*(os.fsdecode(path.encode()) for path in settings["python_path"]), *sys.path]
    try:
        serve(socket.socket(fileno=int(sys.argv[1])), settings)
    finally:
        confine.unmount_folder(settings["folder"])
        remove_tree(settings["folder"])
