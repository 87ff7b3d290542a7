"""The caller's side of the warm processes: start them, lend each to one thread at a time, replace them.

Each is a fresh interpreter that has imported what the programs of its key need. Program and tests are
passed as descriptors of unnamed files; see `helpers.sandbox.zygote`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from helpers.sandbox.run_conditions import BASE, RunConditions
from helpers.sandbox.zygote import receive, send

ROOT = str(Path(__file__).resolve().parents[2])
COMMON = ("bisect", "collections", "copy", "datetime", "functools", "heapq", "itertools", "json", "math",
          "operator", "random", "re", "statistics", "string", "typing", "dataclasses", "hashlib")  # fmt: skip
HEAVY = ("numpy", "networkx", "unittest", "pytest", "scipy", "pandas", "sympy")
IMPORTED = re.compile(rf"\b(?:import|from)\s+({'|'.join((*COMMON, *HEAVY))})\b")
FROM = re.compile(r"^[ \t]*from[ \t]+([A-Za-z_][\w.]*)[ \t]+import\b", re.MULTILINE)
IMPORT = re.compile(r"^[ \t]*import[ \t]+([\w., \t]+)", re.MULTILINE)
NOT_LOADED = {"helpers", "pip", "setuptools", "solution", "tests"}
START_SECONDS = 120.0
WIDELY = 0.05  # share of texts that must name a heavy module for all of them to get it preloaded
MOST_KEYS = 8  # warm processes per borrower; each holds its imports in memory

Key = tuple[tuple[str, ...], tuple[str, ...], RunConditions]  # preload, python_path, conditions


def key_for(
    texts: Iterable[str],
    preload: Sequence[str] = (),
    python_path: Sequence[str] = (),
    *,
    conditions: RunConditions = BASE,
    whole_batch: bool = False,
) -> Key:
    """Return the key of the warm process that fits programs with these texts.

    It preloads all common modules and those heavy ones that a text names. `whole_batch` says that the
    process will see no other texts: of the common modules, too, it then preloads only those named.
    """
    named = {word for text in texts for word in IMPORTED.findall(text)} | set(preload)
    common = [name for name in COMMON if name in named or not whole_batch]
    own = [name for name in preload if name not in (*COMMON, *HEAVY)]
    heavy = [name for name in HEAVY if name in named and importlib.util.find_spec(name)]
    paths = tuple(str(Path(path).resolve()) for path in python_path)
    return tuple(dict.fromkeys([*common, *own, *heavy])), paths, conditions


def modules_named(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the installed modules, beyond the standard library, that trusted texts import."""
    named: set[str] = set()
    for text in texts:
        named.update(FROM.findall(text))
        named.update(
            each.split()[0] for names in IMPORT.findall(text) for each in names.split(",") if each.strip()
        )
    tops = {name: name.partition(".")[0] for name in sorted(named)}
    return tuple(name for name, top in tops.items() if top not in NOT_LOADED and _is_installed(top))


@functools.cache
def _is_installed(top: str) -> bool:
    return top not in sys.stdlib_module_names and importlib.util.find_spec(top) is not None


def preload_for(texts: Sequence[str]) -> tuple[str, ...]:
    """Return what to preload so that all batches of programs about these texts share a warm process.

    These are the common modules and every heavy one that at least a share `WIDELY` of the texts names.
    """
    counts = Counter(name for text in texts for name in set(IMPORTED.findall(text)))
    used = [name for name in HEAVY if counts[name] and counts[name] >= WIDELY * len(texts)]
    return (*COMMON, *(name for name in used if importlib.util.find_spec(name)))


class Worker:
    """One warm process and the socket to it."""

    def __init__(self, key: Key):
        names, paths, conditions = key
        self.folder = tempfile.mkdtemp(prefix=f"sandbox-{conditions.folder}")
        os.chmod(self.folder, 0o711)
        mine, theirs = socket.socketpair()
        settings = {"preload": names, "python_path": paths, "folder": self.folder,
                    "conditions": conditions._asdict()}  # fmt: skip
        # `random` would seed itself again at every fork; no program can fork. Not the package's own
        # `__init__`: what that imports would make every fork more expensive.
        start = (
            f"import os, sys, types; register = os.register_at_fork; "
            f"os.register_at_fork = lambda **calls: None; import random; os.register_at_fork = register; "
            f"helpers = sys.modules['helpers'] = types.ModuleType('helpers'); "
            f"helpers.__path__ = [{os.path.join(ROOT, 'helpers')!r}]; "
            f"from helpers.sandbox.zygote import run_zygote; run_zygote()"
        )
        # Arrow's own allocator reserves 1 GiB at a time, which would use up a program's limit at once.
        environment = {
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "PATH": "/usr/bin:/bin", "HOME": self.folder, "TMPDIR": self.folder,
            "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LD_BIND_NOW": "1",
        } | conditions.environment()  # fmt: skip
        flags = ["-s", "-P", *(["-O"] if conditions.optimize else []), "-c", start]
        command = [sys.executable, *flags, str(theirs.fileno()), json.dumps(settings)]
        self.process = subprocess.Popen(
            command, env=environment, cwd=self.folder, pass_fds=[theirs.fileno()], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        theirs.close()
        self.control = mine
        mine.settimeout(START_SECONDS)
        hello = receive(mine)
        if hello is None:
            error = self.process.stderr.read().decode(errors="replace").strip().splitlines()
            self.close()
            raise OSError(f"the sandbox process did not start: {error[-1] if error else 'no message'}")
        mine.settimeout(None)
        self.layers = hello[0]["layers"]

    def ask(self, source: str, limits: dict[str, Any], request: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Send one program; return what the zygote saw and the judge's verdict (None if there is none)."""
        text = json.dumps(request).encode()
        with _file(source.encode("utf-8", "surrogatepass")) as program, _file(text) as tests:
            send(self.control, limits, (program.fileno(), tests.fileno()))
            answer = receive(self.control)
            if answer is None:
                raise OSError("the sandbox process ended")
            size = os.fstat(tests.fileno()).st_size
            written = os.pread(tests.fileno(), size - len(text), len(text))
        return answer[0], json.loads(written) if written else None

    def close(self) -> None:
        """Hang up; the process then ends by itself, or is killed if it does not."""
        self.control.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def _file(content: bytes) -> Any:
    """Open an unnamed file in memory that holds `content`."""
    with os.fdopen(os.memfd_create("program"), "w+b") as stream:
        stream.write(content)
        stream.flush()
        yield stream


class Workers:
    """A set of warm processes, one for each key, for one borrower at a time."""

    def __init__(self) -> None:
        self.by_key: dict[Key, Worker] = {}

    def get(self, key: Key) -> Worker:
        """Return the warm process for `key`; start it if there is none."""
        if key not in self.by_key:
            while len(self.by_key) >= MOST_KEYS:
                self.drop(next(iter(self.by_key)))
            self.by_key[key] = Worker(key)
        return self.by_key[key]

    def ask(
        self, key: Key, source: str, limits: dict[str, Any], request: dict[str, Any]
    ) -> tuple[dict[str, Any], Any]:
        """Do what `Worker.ask` does, but return a failure of the process itself as an "error" reply."""
        try:
            return self.get(key).ask(source, limits, request)
        except (OSError, ValueError) as error:
            return {"error": f"{type(error).__name__}: {error}"}, None

    def drop(self, key: Key) -> None:
        """End the process for `key`, if there is one."""
        if worker := self.by_key.pop(key, None):
            worker.close()


_idle: list[Workers] = []
_owner = os.getpid()
_lock = threading.Lock()


@contextlib.contextmanager
def borrowed(key: Key) -> Any:
    """Lend this thread a set of warm processes, preferably one that has `key` ready."""
    global _owner
    with _lock:
        if _owner != os.getpid():  # a fork of the caller must not share its sockets
            _idle.clear()
            _owner = os.getpid()
        ready = next((w for w in _idle if key in w.by_key), _idle[-1] if _idle else None)
        if ready is not None:
            _idle.remove(ready)
    workers = ready or Workers()
    try:
        yield workers
    finally:
        with _lock:
            _idle.append(workers)


@atexit.register
def close_workers() -> None:
    """End the warm processes; they would also end with this process."""
    with _lock:
        ended = [worker for workers in _idle for worker in workers.by_key.values()]
        _idle.clear()
    for worker in ended if _owner == os.getpid() else ():
        worker.close()
