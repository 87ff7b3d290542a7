"""Inside a confined process: run a submission as a script, or call its components, and note what it does.

The notes go to a file in memory that only the warm process reads. Python code in the same process could forge
them if it reached into the interpreter; `source_checks` refuses scripts that try.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import random
import runpy
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

PROCESS_EVENTS = ("os.fork", "os.forkpty", "os.system", "os.exec", "os.posix_spawn", "os.spawn",
                  "subprocess.Popen", "socket.connect", "socket.bind", "sys.setprofile", "sys.settrace",
                  "gc.get_objects", "gc.get_referrers", "gc.get_referents", "pickle.find_class",
                  "sys.addaudithook", "signal.pthread_kill", "os.kill", "marshal.load")  # fmt: skip
PATCHABLE = ("builtins", "time", "json", "os", "random", "numpy", "numpy.random", "numpy.linalg", "torch",
             "torch.nn", "torch.nn.functional", "torch.optim", "cProfile", "sklearn.tree")  # fmt: skip
# A run goes on after these; after the others, code could wipe out what was noted of it.
TRACING_EVENTS = ("sys.setprofile", "sys.settrace")
MOST_NOTES = 20
ENDED = 72  # exit status of a run that was ended for what it tried
SCRIPT, SLOW = "submission.py", "baseline.py"  # as the caller names them
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Notes:
    """What was seen of a script: forbidden events, files written, calls of its functions."""

    def __init__(self, home: str, *, profiling: bool = False, end: Callable[[Notes], None] | None = None):
        self._home, self._end = home, end
        self._scripts = {SCRIPT, *([SLOW] if profiling else [])}
        self._refused = set(PROCESS_EVENTS) - (set(TRACING_EVENTS) if profiling else set())
        self.events: list[str] = []
        self.outside: list[str] = []  # files that it tried to write outside its run's folder
        self.recording = True

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note an audit event (PEP 578) if it is one that a training script has no use for."""
        if not self.recording:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
            writes = writes or (
                isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            )
            if writes and isinstance(path, int):
                self._add(self.outside, f"descriptor {path}")
            elif writes and not self._own(os.fsdecode(path)):
                self._add(self.outside, os.fsdecode(path))
        elif event in self._refused:
            self._forbid(event)
        elif event in ("compile", "exec"):
            file = getattr(arguments[0], "co_filename", None) if event == "exec" else arguments[1]
            if isinstance(file, str | bytes) and self._own_code(os.fsdecode(file)):
                self._forbid(f"code that it wrote to {os.fsdecode(file)}")

    def _forbid(self, what: str) -> None:
        self._add(self.events, what)
        if self._end is not None and what not in TRACING_EVENTS:
            self._end(self)

    def _own_code(self, file: str) -> bool:
        """Whether `file` lies in the run's folder, and is neither the submission nor the slow script."""
        if file.startswith("<"):
            return False
        home = os.path.realpath(self._home)
        full = os.path.realpath(os.path.join(home, file))  # /proc/self/cwd leads here, too
        return full.startswith(home + os.sep) and os.path.relpath(full, home) not in self._scripts

    def _own(self, path: str) -> bool:
        full = os.path.normpath(os.path.join(self._home, path))
        return full.startswith(os.path.join(self._home, "output", "run_")) or path == os.devnull

    @staticmethod
    def _add(notes: list[str], text: str) -> None:
        if len(notes) < MOST_NOTES and text not in notes:
            notes.append(text[:200])


def run_job(job: dict[str, Any], report: int) -> None:
    """Do one job in this process, and write what was noted as JSON to the file `report`."""

    def end(notes: Notes) -> None:
        os.pwrite(report, json.dumps({"events": notes.events, "outside": notes.outside}).encode(), 0)
        os._exit(ENDED)

    notes = Notes(os.getcwd(), profiling="--profile" in job.get("arguments", ()), end=end)
    told: dict[str, Any] = {}
    _unseed()
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # what was imported before the fork may have asked it already
    os.umask(0o077)
    try:
        if job["mode"] == "script":
            told |= _run_script(job, notes)
        elif job["mode"] == "call":
            told["returned"] = _call_components(job)
        else:
            told["entries"] = _read_pstats(job["path"])
    except SystemExit as ended:
        if ended.code not in (None, 0):
            told["error"] = f"SystemExit: {ended.code}"
    except BaseException as error:
        told["error"] = _told(error, job.get("path", ""))
    notes.recording = False
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    told |= {"events": notes.events, "outside": notes.outside}
    os.pwrite(report, json.dumps(told).encode(), 0)


def _unseed() -> None:
    """Seed the global generators from the system, so that a script that forgets its seed is noticed."""
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "torch" in sys.modules:
        sys.modules["torch"].seed()


def _run_script(job: dict[str, Any], notes: Notes) -> dict[str, Any]:
    sys.argv = [job["path"], *job["arguments"]]
    sys.addaudithook(notes.hook)
    if not job["watched"]:
        runpy.run_path(job["path"], run_name="__main__")
        return {}
    before = _library_names()
    with _watched_modules(job["witness"]) as seen, _counted_calls(job["path"], notes) as calls:
        runpy.run_path(job["path"], run_name="__main__")
    told: dict[str, Any] = {"calls": dict(calls)}
    told["patched"] = _changed(before, _library_names())
    told["seen"] = _packed(seen)
    return told


@contextlib.contextmanager
def _counted_calls(path: str, notes: Notes) -> Iterator[Counter[str]]:
    """Count the calls of functions that the script at `path` defines, by qualified name."""
    counts: Counter[CodeType] = Counter()
    named: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename == path:
            counts[frame.f_code] += 1

    notes.recording = False
    sys.setprofile(note)
    notes.recording = True
    try:
        yield named
    finally:
        notes.recording = False
        sys.setprofile(None)
        for code, count in counts.items():
            named[code.co_qualname] += count


@contextlib.contextmanager
def _watched_modules(name: str) -> Iterator[dict[str, list[Any]]]:
    """Record the inputs of each forward pass of classes called `name`, and which rows got a gradient."""
    seen: dict[str, list[Any]] = {"inputs": [], "trained": [], "steps": []}
    if not name:
        yield seen
        return
    import torch
    from torch.nn.modules.module import register_module_forward_hook
    from torch.optim.optimizer import register_optimizer_step_post_hook

    def forward(module: Any, inputs: Any, output: Any) -> None:
        # Plain tensors only: a class of its own could answer `detach` and `register_hook` as it likes.
        plain = type(output) is torch.Tensor and bool(inputs) and type(inputs[0]) is torch.Tensor
        if type(module).__name__ != name or not plain or not output.requires_grad:
            return
        first = inputs[0].detach()
        rows = first.reshape(-1, 1) if not first.is_floating_point() else first.reshape(-1, first.shape[-1])
        place = len(seen["inputs"])
        seen["inputs"].append(rows.clone())
        seen["trained"].append(torch.zeros(rows.shape[0], dtype=torch.bool))

        def note(gradient: Any) -> None:
            flags = (gradient.detach() != 0).reshape(-1, gradient.shape[-1]).any(-1)
            if flags.shape == seen["trained"][place].shape:
                seen["trained"][place] |= flags

        output.register_hook(note)

    def step(optimizer: Any, *_: Any) -> None:
        seen["steps"].append(type(optimizer).__name__)

    hooks = [register_module_forward_hook(forward), register_optimizer_step_post_hook(step)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _packed(seen: dict[str, list[Any]]) -> str:
    """Return the record of the forward passes as an .npz file in base64; "" if nothing was recorded."""
    if not seen["inputs"]:
        return ""
    import numpy
    import torch

    stream = io.BytesIO()
    steps = Counter(seen["steps"])
    numpy.savez(
        stream, inputs=torch.cat([rows.float() for rows in seen["inputs"]]).numpy(),
        trained=torch.cat(seen["trained"]).numpy(), passes=numpy.array(len(seen["inputs"])),
        optimizers=numpy.array(list(steps), dtype=str), steps=numpy.array(list(steps.values())),
    )  # fmt: skip
    return base64.b64encode(stream.getvalue()).decode()


def _library_names() -> dict[str, dict[str, int]]:
    """Return the identity of everything callable in the modules that a script might patch."""
    loaded = [name for name in PATCHABLE if name in sys.modules]
    return {
        name: {key: id(value) for key, value in vars(sys.modules[name]).items() if callable(value)}
        for name in loaded
    }


def _changed(before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]) -> list[str]:
    return [
        f"{module}.{key}" for module, names in before.items() for key, value in names.items()
        if after.get(module, {}).get(key) != value
    ]  # fmt: skip


def _call_components(job: dict[str, Any]) -> dict[str, str]:
    """Import the script under another name than `__main__` and call its functions; return packed values."""
    import numpy

    script = runpy.run_path(job["path"], run_name="submission")
    returned = {}
    with numpy.load(job["cases"], allow_pickle=False) as cases:
        for name in job["functions"]:
            arguments = [
                cases[f"{name}.{nth}"] for nth in range(sum(key.startswith(f"{name}.") for key in cases))
            ]
            function: Callable[..., Any] = script[name]
            value = numpy.asarray(function(*arguments))
            if value.dtype.kind not in "fiub":
                raise TypeError(f"{name} returned {value.dtype}, not numbers")
            stream = io.BytesIO()
            numpy.save(stream, value, allow_pickle=False)
            returned[name] = base64.b64encode(stream.getvalue()).decode()
    return returned


def _read_pstats(path: str) -> list[list[Any]]:
    """Return the entries of a cProfile file: file, line, function, calls, own and cumulative seconds.

    The format is `marshal`, which is not safe to read; this process is confined for that reason.
    """
    import pstats

    entries = pstats.Stats(path).stats  # type: ignore[attr-defined]
    return [
        [str(file), int(line), str(name), int(total), float(own), float(cumulative)]
        for (file, line, name), (_, total, own, cumulative, _) in entries.items()
    ]


def _told(error: BaseException, path: str) -> str:
    """Describe an error by type, message and the last line of the script that it passed through."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f"line {line} of {Path(path).name}: " if line else ""
    return f"{where}{type(error).__name__}: {error}"[:500]
