"""The process that runs the candidate program and answers the judge's requests.

It never sees the tests. The judge asks it to call functions with given arguments and gets the
results as data. Nothing that this process says decides the verdict; it can only give answers.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import operator
import os
import random
import socket
import struct
import sys
import types
from typing import Any

from helpers.lines import lines_of
from helpers.sandbox.channel import OPERATORS, ChannelClosed, Peer
from helpers.sandbox.effects import OPERATIONS, Repeated
from helpers.sandbox.own_types import OwnTypes, plain_value, state_of
from helpers.sandbox.run_conditions import BASE, RunConditions, deeper, hand_out, reorder_names, stir_memory
from helpers.sandbox.step_counter import Meter, StepCounter

MODULE = "solution"
ASYNCHRONOUS = {"await": "", "anext": "__anext__", "aenter": "__aenter__", "aexit": "__aexit__"}
_loops: list[Any] = []
REHEARSALS = 12
# Requests whose steps do not count: not the program's own, or its imports, which differ by machine.
UNCOUNTED = frozenset({"boot", "begin", "spent", "threads", "share", *OPERATIONS})


def run_candidate(
    channel: int, source: str, folder: str, *, conditions: RunConditions, max_steps: int | None
) -> None:
    """Execute `source` as a module in `folder`, serve the judge until it hangs up, and exit."""
    exit_now = os._exit  # kept, because the program may replace os._exit
    steps = StepCounter(max_steps, exit_now) if max_steps else None
    try:
        program = ServedProgram(channel, source, folder, conditions, steps)
        deeper(conditions.depth, program.serve)
    finally:
        exit_now(0)


class ServedProgram:
    """The program as a module, and what the judge may ask of it.

    Its parts are methods, not functions made here: each new function costs every program page faults.
    """

    def __init__(
        self, channel: int, source: str, folder: str, conditions: RunConditions, steps: StepCounter | None
    ) -> None:
        self._source, self._conditions, self._steps = source, conditions, steps
        self._examination: Examination | None = None
        self._repeated: Repeated | None = None
        self._flush_out, self._flush_err = sys.stdout.flush, sys.stderr.flush
        self._module = module = types.ModuleType(MODULE)
        module.__file__ = os.path.join(folder, f"{MODULE}.py")
        self._peer = peer = Peer(channel, make_stub, trusting=True)
        peer.before_reply, peer.special, peer.threads = self._before_reply, self._special, _thread._count
        self._plain, perform = peer.perform, self._perform
        peer.perform = steps.counted(perform, unless=UNCOUNTED, restart=("eval",)) if steps else perform

    def serve(self) -> None:
        """Serve the judge.

        Raises:
            ChannelClosed: when it hangs up.
        """
        source, module = self._source, self._module
        sys.modules[MODULE] = module
        if "inspect" in source or "doctest" in source:
            import linecache  # imported only if needed: it costs every fork memory

            linecache.cache[module.__file__] = (len(source), None, lines_of(source), module.__file__)
        self._peer.serve_forever()

    def _before_reply(self) -> None:
        try:
            self._flush_out()
            self._flush_err()
        except (OSError, ValueError):  # closed or full: the program's problem
            pass

    def _perform(self, op: str, *arguments: Any) -> Any:
        if op not in UNCOUNTED:
            hand_out()  # takes effect once, as close to the program's own code as possible
        return self._plain(op, *arguments)

    def _special(self, op: str, target: Any, args: list, kwargs: dict) -> Any:
        names = self._module.__dict__
        if op == "boot":
            exec(compile(self._source, self._module.__file__, "exec"), names)
            reorder_names(self._conditions.names, names)
            found = {}
            for name in args:
                if name in names:
                    found[name] = exported_global(names[name])
            return found
        if op in ("begin", "spent"):
            self._examination = self._examination or Examination(self._conditions, self._steps)
            return getattr(self._examination, op)(*args)
        if op in OPERATIONS:
            self._repeated = self._repeated or Repeated()
            return self._repeated.perform(op, args)
        if op == "share":
            return share_types(self._peer, self._module, args)
        if op == "base":
            return self._peer.known_base(target)
        if op == "threads":
            return self._peer.threads()
        if op == "exec":
            exec(compile(args[0], "<setup>", "exec"), names)
            return None
        if op == "eval":
            return eval(compile(args[0], "<call>", "eval"), names)
        return on_object(op, target, args)


def share_types(peer: Peer, module: types.ModuleType, names: list[str]) -> list[str]:
    """Let the program's classes of these names cross as data; return the names that it defines."""
    found = [
        name
        for name in names
        if isinstance(kind := module.__dict__.get(name), type) and kind.__module__ == MODULE
    ]
    peer.share(OwnTypes(module.__dict__, MODULE, "tests", found))
    return found


class Examination:
    """Bookkeeping around each case of an examination: rearranges memory before, measures cost after."""

    def __init__(self, conditions: RunConditions, steps: StepCounter | None) -> None:
        self._rng = random.Random(conditions.memory) if conditions.memory != BASE.memory else None
        self._steps, self._meter = steps, None
        self._kept: list[Any] = []

    def begin(self) -> None:
        """Prepare for the next case."""
        self._meter = self._meter or Meter()
        if self._rng is not None:
            self._kept = stir_memory(self._rng)
        if self._steps:
            self._steps.reset()
        self._meter.start()

    def spent(self) -> tuple[int, float, int, float]:
        """Return steps, processor time in `Meter` loops, threads, and seconds slept since `begin`.

        Imports count neither as steps nor as time: a first import is slow, and its cost differs by machine.
        """
        meter = self._meter
        loops = meter.loops(self._steps.imports_s() if self._steps else 0.0)
        return self._steps.reset() if self._steps else 0, loops, meter.threads, meter.slept_s


def rehearse() -> None:
    """Serve a trivial program a few times so that the interpreter specialises its code before a fork.

    The code that every program executes is then no longer written to: its pages stay shared, which
    makes forks cheaper.
    """
    call = ["?", "call", ["y", 0], [["l", 0, 1, "a"], 2.5], ["d", 1, "by", True], None]
    plain = ["?", "call", ["y", 0], [1, 2.5], None, None]
    program = "def f(x, y, by=1):\n    return x\n"
    script = [["?", "boot", None, ["f"], None, None], plain, call, call]
    for _ in range(REHEARSALS):
        near, far = socket.socketpair()
        with near, far:
            for message in script:
                text = json.dumps(message).encode()
                near.sendall(struct.pack("!I", len(text)) + text)
            near.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ChannelClosed):
                ServedProgram(far.fileno(), program, "", BASE, StepCounter(sys.maxsize, os._exit)).serve()
        del sys.modules[MODULE]


def on_object(op: str, target: Any, args: list) -> Any:
    """Perform what a test does with an object beyond calls, attributes and operators."""
    if op.startswith("rop:") and op[4:] in OPERATORS:
        return getattr(operator, op[4:])(args[0], target)
    if op == "signature":
        return signature_of(target)
    if op in ("plain", "state"):
        return plain_value(target) if op == "plain" else state_of(target)
    if op in ("isinstance", "issubclass"):
        return isinstance(args[0], target) if op == "isinstance" else issubclass(args[0], target)
    if op in ("copy", "deepcopy"):
        import copy

        return getattr(copy, op)(target)
    if op == "round":
        return round(target, *args)
    if op in ("enter", "aiter"):
        return getattr(target, f"__{op}__")()
    if op == "exit":
        kind, *details = args
        return target.__exit__(kind, kind and kind(*details), None)
    if op in ASYNCHRONOUS:
        return in_loop(op, target, args)
    raise ValueError(f"unknown operation {op}")


def in_loop(op: str, target: Any, args: list) -> Any:
    """Await what the operation asks of the object, in an event loop that lives as long as the program."""
    import asyncio

    if op == "await":
        return asyncio.run(target)
    if not _loops:
        _loops.append(asyncio.new_event_loop())
    if op == "aexit":
        kind, *details = args
        args = [kind, kind and kind(*details), None]
    return _loops[0].run_until_complete(getattr(target, ASYNCHRONOUS[op])(*args))


def signature_of(function: Any) -> list[tuple]:
    """Return name, kind, and default (or nothing) of each parameter, as the program declares them."""
    import inspect

    parameters = inspect.signature(function).parameters.values()
    return [
        (each.name, int(each.kind), *(() if each.default is each.empty else (each.default,)))
        for each in parameters
    ]


def guard_files(folder: str) -> None:
    """Install an audit hook that refuses to change files outside `folder` or to load native code.

    This is the last resort if neither Landlock nor a separate user id is available.
    """
    inside, real, dirname, fspath = folder + os.sep, os.path.realpath, os.path.dirname, os.fspath
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    changing = {"os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
                "os.symlink", "os.truncate", "os.utime", "os.setxattr", "shutil.rmtree",
                "sqlite3.connect"}  # fmt: skip

    def within(path: Any) -> bool:
        if isinstance(path, int) or path is None:
            return True
        text = os.fsdecode(fspath(path))
        text = text if text.startswith("/") else inside + text
        resolved = real(dirname(text)) + "/" + text.rpartition("/")[2]
        return f"{resolved}/".startswith(inside) and f"{real(resolved)}/".startswith(inside)

    def hook(event: str, args: tuple) -> None:
        if event == "open":
            path, _, flags = args
            written = isinstance(flags, int) and flags & writing and path != os.devnull
            if written and not within(path):
                raise PermissionError(f"{path!r} lies outside the program's folder")
        elif event in changing:
            paths = [a for a in args[:2] if isinstance(a, str | bytes | os.PathLike)]
            if not all(map(within, paths[1:] if event == "os.symlink" else paths)):
                raise PermissionError(f"{event} outside the program's folder")
        elif event == "ctypes.dlopen" or event.startswith("ctypes.addressof"):
            raise PermissionError("native code cannot be loaded here")

    sys.addaudithook(hook)


def exported_global(value: Any) -> tuple[str | None, Any]:
    """Return what the judge gets for a global of the program: a module's name, or the value."""
    return (value.__name__, None) if isinstance(value, types.ModuleType) else (None, value)


class Stub:
    """A stand-in, inside the candidate, for a function of the tests; every use is a request to the judge."""

    __slots__ = ("__name__", "__weakref__", "_link")

    def __init__(self, peer: Peer, number: int, name: str):
        object.__setattr__(self, "_link", (peer, number))
        object.__setattr__(self, "__name__", name.rpartition(".")[2])

    def _sandbox_handle(self) -> tuple[Peer, int]:
        return object.__getattribute__(self, "_link")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._link[0].request("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._link[0].request("set", self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the tests' function in the judge."""
        return self._link[0].request("call", self, *args, **kwargs)


class ObjectStub(Stub):
    """A stand-in for an object of the tests that may be anything: a container, a number, a context."""

    __slots__ = ()

    def __enter__(self) -> Any:
        return self._link[0].request("enter", self)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return self._link[0].request("exit", self, kind, *(error.args if error else ()))

    def __await__(self) -> Any:
        return self._link[0].request("await", self)
        yield  # what makes this a generator, as awaiting needs


class IteratorStub(ObjectStub):
    """A stand-in for an iterator of the tests."""

    __slots__ = ()

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self._link[0].request("next", self)


def make_stub(peer: Peer, kind: str, number: int, name: str, home: list) -> Any:
    """Return a stub for the judge's object; the arguments are those of `Peer`'s `make_proxy`."""
    return {"it": IteratorStub, "fn": Stub, "afn": Stub}.get(kind, ObjectStub)(peer, number, name)


Stub.__doc__ = property(lambda self: self._link[0].request("get", self, "__doc__"))  # type: ignore[assignment]


def _forward(op: str) -> Any:
    return lambda self, *args: self._link[0].request(op, self, *args)


for _name in OPERATORS:
    _method = f"__{_name.rstrip('_')}__"
    if hasattr(operator, _method):
        setattr(ObjectStub, _method, _forward(f"op:{_name}"))
_SPECIAL = {"getitem": "item", "setitem": "setitem", "delitem": "delitem"}
_SPECIAL |= {name: name for name in ("len", "str", "repr", "bool", "float", "int", "hash", "iter")}
for _name, _op in _SPECIAL.items():
    setattr(ObjectStub, f"__{_name}__", _forward(_op))
