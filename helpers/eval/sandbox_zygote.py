"""The warm process behind each worker: imports once, then forks a judge and a candidate per program.

Started as a fresh interpreter, never as a fork of the caller, so no thread of torch or BLAS exists
when it forks. It reads the numbers of a request but never its text: program and tests lie in files
without a name whose descriptors it passes on, so that no candidate inherits an expected value.
"""

from __future__ import annotations

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
from typing import Any

from helpers.eval import sandbox_confine as confine
from helpers.eval.sandbox_candidate import guard_files, run_candidate
from helpers.eval.sandbox_judge import run_judge
from helpers.eval.sandbox_watch import end_all_children, remove_tree, threads_of, used_up

OUTPUT_BYTES = 8 * 2**20
FILE_BYTES = 32 * 2**20
TICK_S = 0.05
CONFINED = "confined"  # what a child reports once it is safe to run the program in it
PROGRAM_GONE = 3  # exit status of a judge whose program hung up


def serve(control: socket.socket, settings: dict[str, Any]) -> None:
    """Answer requests on `control` until the caller hangs up. `settings`: preload, folder, seed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    confine.libc.prctl(confine.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    problems = preload(settings["preload"])
    zygote = Zygote(control, settings["folder"], settings["seed"])
    send(
        control,
        {"ready": True, "problems": problems, "layers": [list(vars(x).values()) for x in zygote.layers]},
    )
    gc.collect()
    gc.freeze()
    while True:
        request = receive(control)
        if request is None:
            return
        try:
            reply = zygote.run(request)
        except OSError as error:  # no process, no memory, no disk: not the program's fault
            reply = {"error": f"{type(error).__name__}: {error}"}
        send(control, reply)


def preload(names: list[str]) -> list[str]:
    """Import what the programs will; names that fail are reported, not fatal."""
    problems = []
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            problems.append(f"{name}: {error}")
    if "numpy" in sys.modules:
        importlib.import_module("numpy.random")  # seeded in every child; numpy itself loads it late
    return problems


def seed_generators(seed: int) -> None:
    """The same random numbers in every run of a program; `random` reseeds itself at each fork."""
    if "random" in sys.modules:
        sys.modules["random"].seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)


class Zygote:
    """Layers chosen once for this machine and user, then one program after another."""

    def __init__(self, control: socket.socket, folder: str, seed: int):
        self._control, self._folder, self._seed = control, folder, seed
        self._count = 0
        self._untouched: tuple | None = None
        libraries = sorted({sys.prefix, sys.base_prefix, *(path for path in sys.path if path)})
        self.layers = [confine.leave_network()]
        self._libraries = libraries
        self._read_all = False
        self._uid = self._choose_uid(libraries)
        self._ruleset = confine.landlock_ruleset(libraries, folder)
        abi = confine.landlock_abi()
        self._layer("landlock", self._ruleset is not None, f"ABI {abi}" if abi else "not in this kernel")
        self._guard = self._ruleset is None and self._uid is None
        reason = "stands in for Landlock; native code gets past it" if self._guard else "not needed here"
        self._layer("audit hook on files", self._guard, reason)
        self._filter = confine.own_filter() if confine.seccomp_available() else None
        self._layer("system call filter", self._filter is not None, "seccomp")
        confine.empty_bounding_set()
        if self._filter is not None:
            confine.install_filter(confine.shared_filter())
        confine.libc.prctl(confine.PR_SET_DUMPABLE, 0, 0, 0, 0)
        with open("/proc/self/statm") as stream:
            self._inherited_bytes = int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")

    def _layer(self, name: str, active: bool, reason: str) -> None:
        self.layers.append(confine.Layer(name, active, reason))

    def _choose_uid(self, libraries: list[str]) -> int | None:
        if os.geteuid() != 0:
            self._layer("own user id", False, "only root can give one")
            return None
        self._read_all = not confine.readable_by_others([*libraries, os.path.dirname(self._folder)])
        uid = 61184 + 2 * (os.getpid() % 2000)  # the range that systemd keeps for passing users
        read = ", and may read what root alone can: the interpreter lies there" if self._read_all else ""
        self._layer("own user id", True, f"uid {uid} owns nothing{read}")
        return uid

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Fork candidate and judge, watch them, leave nothing behind.

        Returns:
            `limit` (None, "time", "output"); `judge` and `candidate`: exit status, negative for a
            signal; `candidate` is None if it was alive to the end, as it should be.
        """
        descriptors = _receive_descriptors(self._control, 2)
        program, tests = descriptors
        folder = self._empty_folder()
        output = os.memfd_create("output") if hasattr(os, "memfd_create") else _nameless_file(self._folder)
        near, far = socket.socketpair()
        confined, report = os.pipe()
        children: dict[str, int] = {}
        try:
            children["candidate"] = self._fork(
                self._be_candidate, request, folder, program, far.fileno(), output, report
            )
            children["judge"] = self._fork(self._be_judge, request, folder, tests, near.fileno(), output)
            near.close()
            far.close()
            seen = self._watch(children, request["timeout_s"], output)
            os.set_blocking(confined, False)
            said = _said(confined)
            return seen if said == CONFINED else {"error": f"the program could not be confined: {said}"}
        finally:
            near.close()
            far.close()
            for pid in children.values():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            end_all_children()
            for descriptor in (*descriptors, output, confined, report):
                os.close(descriptor)
            self._clear(folder)

    def _empty_folder(self) -> str:
        """A folder for the program alone: the last one's if that left it as it was, else a new one."""
        if self._untouched is None:
            self._count += 1
            folder = os.path.join(self._folder, str(self._count))
            os.mkdir(folder, 0o700)
            if self._uid is not None:
                os.chown(folder, self._uid, self._uid)
            if self._ruleset is not None:
                ruleset = confine.landlock_ruleset(self._libraries, folder)
                if ruleset is None:
                    raise OSError("Landlock was there and is not any more")
                os.close(self._ruleset)
                self._ruleset = ruleset
            self._untouched = (folder, *_stamp(folder))
        return self._untouched[0]

    def _clear(self, folder: str) -> None:
        if self._untouched is None or (folder, *_stamp(folder)) != self._untouched:
            self._untouched = None
            remove_tree(folder)

    def _fork(self, body: Any, *args: Any) -> int:
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                status = body(*args)
            finally:
                os._exit(status)
        return pid

    def _confine(self, request: dict, folder: str, output: int, keep: tuple[int, ...], offset: int) -> None:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        os.environ.update(HOME=folder, TMPDIR=folder)
        confine.confine_process(
            cpu_seconds=int(request["timeout_s"]) + 2 + offset,
            address_space=self._inherited_bytes + request["memory_mb"] * 2**20,
            file_bytes=FILE_BYTES,
            landlock_ruleset=self._ruleset,
            uid=None if self._uid is None else self._uid + (offset > 0),
            read_all=self._read_all,
            call_filter=self._filter,
            keep=(*keep, *([] if self._ruleset is None else [self._ruleset])),
        )

    def _be_candidate(
        self, request: dict, folder: str, program: int, channel: int, output: int, report: int
    ) -> int:
        source = os.pread(program, os.fstat(program).st_size, 0).decode("utf-8", "surrogatepass")
        try:
            self._confine(request, folder, output, (channel, report), 0)
        except Exception as error:
            os.write(report, f"{type(error).__name__}: {error}"[:500].encode())
            raise
        os.write(report, CONFINED.encode())
        os.close(report)
        seed_generators(self._seed)
        if self._guard:
            guard_files(folder)
        run_candidate(channel, source, folder)
        return 0

    def _be_judge(self, request: dict, folder: str, tests: int, channel: int, output: int) -> int:
        self._confine(request, folder, output, (tests, channel), 5)
        null = os.open(os.devnull, os.O_WRONLY)
        copy = os.dup(1)
        os.dup2(null, 1)
        os.dup2(null, 2)
        return PROGRAM_GONE if run_judge(channel, copy, tests) else 0

    def _watch(self, children: dict[str, int], timeout_s: float, output: int) -> dict[str, Any]:
        """Wait for the judge; end the program when it has used up its time or its output."""
        start = time.monotonic()
        judge, candidate = children["judge"], children["candidate"]
        poller = select.poll()
        watched = os.pidfd_open(judge) if hasattr(os, "pidfd_open") else None
        if watched is not None:
            poller.register(watched, select.POLLIN)
        poller.register(self._control, select.POLLHUP)
        limit = None
        try:
            while True:
                events = poller.poll(TICK_S * 1000 if watched is not None else 1)
                if any(fd == self._control.fileno() for fd, _ in events):
                    raise SystemExit  # the caller is gone; the finally clauses clean up
                pid, status = os.waitpid(judge, os.WNOHANG)
                if pid:
                    break
                if os.fstat(output).st_size > OUTPUT_BYTES:
                    limit = "output"
                elif used_up(candidate, judge, timeout_s, time.monotonic() - start):
                    limit = "time"
                if limit:
                    os.kill(judge, signal.SIGKILL)
                    _, status = os.waitpid(judge, 0)
                    break
        finally:
            if watched is not None:
                os.close(watched)
        del children["judge"]
        if os.fstat(output).st_size > OUTPUT_BYTES:
            limit = "output"
        while not limit and status == 0 and threads_of(candidate) > 1:  # started below `threading`
            if used_up(candidate, candidate, timeout_s, time.monotonic() - start):
                limit = "time"
            time.sleep(0.005)
        candidate_status = None
        patience = time.monotonic() + (1.0 if os.waitstatus_to_exitcode(status) == PROGRAM_GONE else 0)
        while True:
            pid, ended = os.waitpid(candidate, os.WNOHANG)
            if pid:
                candidate_status = os.waitstatus_to_exitcode(ended)
                break
            if time.monotonic() >= patience:
                os.kill(candidate, signal.SIGKILL)
                os.waitpid(candidate, 0)
                break
            time.sleep(0.0005)
        del children["candidate"]
        return {"limit": limit, "judge": os.waitstatus_to_exitcode(status), "candidate": candidate_status}


def _stamp(folder: str) -> tuple[int, ...]:
    """What changes when a folder or its entries are touched."""
    try:
        seen = os.stat(folder, follow_symlinks=False)
    except OSError:  # removed
        return ()
    return (seen.st_ino, seen.st_mode, seen.st_uid, seen.st_mtime_ns, seen.st_ctime_ns)


def _said(pipe: int) -> str:
    try:
        return os.read(pipe, 1000).decode(errors="replace")
    except BlockingIOError:
        return "nothing was heard of it"


def _nameless_file(folder: str) -> int:
    import tempfile

    with tempfile.TemporaryFile(dir=folder) as stream:
        return os.dup(stream.fileno())


def send(control: socket.socket, message: dict[str, Any]) -> None:
    """One length-prefixed JSON object."""
    data = json.dumps(message).encode()
    control.sendall(struct.pack("!I", len(data)) + data)


def receive(control: socket.socket) -> dict[str, Any] | None:
    """The next object, or None when the other side hung up."""
    head = _exactly(control, 4)
    data = head and _exactly(control, struct.unpack("!I", head)[0])
    return json.loads(data) if data else None


def _exactly(control: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        part = control.recv(size - len(data))
        if not part:
            return None
        data += part
    return data


def _receive_descriptors(control: socket.socket, count: int) -> list[int]:
    _, descriptors, _, _ = socket.recv_fds(control, 1, count)
    if len(descriptors) != count:
        raise OSError("descriptors did not arrive")
    return descriptors


def main() -> None:
    """Entry point of the fresh interpreter: argv is the control descriptor and the settings."""
    settings = json.loads(sys.argv[2])
    sys.path[:] = [*settings["python_path"], *sys.path]
    try:
        serve(socket.socket(fileno=int(sys.argv[1])), settings)
    finally:
        remove_tree(settings["folder"])
