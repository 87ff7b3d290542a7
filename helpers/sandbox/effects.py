"""What tests change in their own process and mean for the program: environment, folder, seeds, patches.

Tests and program run in two processes. The judge notices such a change and repeats it in the program's
process before the program's next answer. Two things come back, as text: what the program logs, and what it
warns of. Otherwise the program changes only its own process.
"""

from __future__ import annotations

import importlib
import os
import random
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from helpers.sandbox.parsed_tests import Tests

if TYPE_CHECKING:
    from helpers.sandbox.channel import Peer

OPERATIONS = (
    "effects",
    "assign",
    "patch",
    "unpatch",
    "listen",
    "notes",
)  # what the judge asks of the program's process
SEEDED = {"random": ("random", "seed"), "numpy": ("numpy.random", "seed"), "torch": ("torch", "manual_seed")}
OWN_OUTPUT = (("sys", "stdout"), ("sys", "stderr"))  # `judge.mirror_output` brings the program's output here
LOGS = {"logging", "getLogger", "assertLogs", "assertNoLogs"}
WARNINGS = {"warnings", "catch_warnings", "warns", "assertWarns", "assertWarnsRegex", "deprecated_call"}
# What a program may not use of a mock that the tests read later.
MOCK_CONTROLS = ("attach_mock", "configure_mock", "mock_add_spec", "reset_mock", "return_value",
                 "side_effect")  # fmt: skip


class Effects:
    """The judge's side: repeats changes of this process in the program's, from `watch` to `end`."""

    def __init__(self, peer: Peer, tests: Tests):
        self._peer, self._tests = peer, tests
        self._watched = not tests.names.isdisjoint({"environ", "putenv", "unsetenv"}), "chdir" in tests.names
        self._environment, self._folder = dict(os.environ), os.getcwd() if self._watched[1] else ""
        self._seeds: list[tuple[str, tuple]] = []
        self._restore: list[Callable[[], None]] = []
        self._assigned: dict[tuple[str, str], list[Any]] = {}  # (module, attribute) -> original, last seen
        self._sending = False

    def watch(self) -> None:
        """Start noticing changes."""
        for name, (module, function) in SEEDED.items():
            if name in self._tests.names:
                self._notice_seed(name, importlib.import_module(module), function)
        if not self._tests.names.isdisjoint({"mock", "patch"}):
            self._notice_patches()
        for module, attribute in self._tests.assigned:
            found = sys.modules.get(module)
            if (module, attribute) not in OWN_OUTPUT and hasattr(found, attribute):
                self._assigned[module, attribute] = [getattr(found, attribute)] * 2
        if any(self._watched) or self._restore or self._assigned:
            self._peer.before_request = self._send
        if not self._tests.names.isdisjoint(LOGS | WARNINGS):
            self._listen()

    def end(self) -> None:
        """Stop noticing; what the tests patched is theirs to undo."""
        self._peer.before_request = None
        for undo in reversed(self._restore):
            undo()

    def _send(self) -> None:
        """Repeat what has changed since the last request."""
        if self._sending:
            return
        self._sending = True
        try:
            environment = dict(os.environ) if self._watched[0] else self._environment
            folder = os.getcwd() if self._watched[1] else self._folder
            changed: dict[str, str | None] = {}
            if environment != self._environment:
                changed = {name: None for name in self._environment if name not in environment}
                changed |= {k: v for k, v in environment.items() if self._environment.get(k) != v}
            if changed or self._seeds or folder != self._folder:
                seeds, self._seeds = self._seeds, []
                moved = folder if folder != self._folder else None
                self._environment, self._folder = environment, folder
                self._peer.request("effects", None, changed, moved, seeds)
            for (module, attribute), (original, before) in self._assigned.items():
                now = getattr(sys.modules[module], attribute, None)
                if now is not before:
                    self._assigned[module, attribute][1] = now
                    self._peer.request("assign", None, module, attribute, now, now is original)
        finally:
            self._sending = False

    def _listen(self) -> None:
        """Repeat here, after each answer, what the program has logged and warned of."""
        every_level = not self._tests.names.isdisjoint({"assertLogs", "assertNoLogs"})
        self._peer.request("listen", None, every_level)
        show = self._peer.after_reply

        def after_reply() -> None:
            show()
            if not self._sending:
                self._sending = True
                try:
                    notes = self._peer.request("notes")
                finally:
                    self._sending = False
                _repeat(notes)

        self._peer.after_reply = after_reply

    def _notice_seed(self, name: str, module: types.ModuleType, function: str) -> None:
        seed = getattr(module, function)

        def noticed(*args: Any, **kwargs: Any) -> Any:
            done = seed(*args, **kwargs)
            self._seeds.append((name, (*args, *kwargs.values())))
            return done

        setattr(module, function, noticed)
        self._restore.append(lambda: setattr(module, function, seed))

    def _notice_patches(self) -> None:
        from unittest import mock

        patch: Any = mock._patch  # type: ignore[attr-defined]
        enter, leave = patch.__enter__, patch.__exit__

        def entered(patching: Any) -> Any:
            value = enter(patching)
            where = _place(patching.target)
            if where is not None and (where[0], patching.attribute) not in OWN_OUTPUT:
                new = getattr(patching.target, patching.attribute)
                self._peer.request("patch", None, *where, patching.attribute, new)
                patching._mirrored = (*where, patching.attribute)
            return value

        def left(patching: Any, *error: Any) -> Any:
            where = getattr(patching, "_mirrored", None)
            if where is not None:
                patching._mirrored = None
                self._peer.request("unpatch", None, *where)
            return leave(patching, *error)

        patch.__enter__, patch.__exit__ = entered, left
        self._restore.append(lambda: (setattr(patch, "__enter__", enter), setattr(patch, "__exit__", leave)))


def _repeat(notes: Any) -> None:
    import logging
    import warnings

    for note in notes if type(notes) is list else ():
        if type(note) is tuple and list(map(type, note)) == [str, int, str]:
            logging.getLogger(note[0]).log(note[1], note[2])
        elif isinstance(note, Warning):
            warnings.warn_explicit(note, type(note), "solution.py", 1)


def _place(target: Any) -> tuple[str, str] | None:
    """Return module and qualified name by which the program's process finds what a test patches."""
    if type(target) is types.ModuleType:
        module, path = target.__name__, ""
    elif type(target) is type:
        module, path = target.__module__, target.__qualname__
    else:
        return None
    return ("solution" if module in ("tests", "__main__") else module), path


class Repeated:
    """The program's side: carries out what the judge asks for."""

    def __init__(self) -> None:
        self._originals: dict[tuple[str, str, str], list[tuple[bool, Any]]] = {}
        self._noted: list[Any] = []

    def perform(self, op: str, args: list) -> Any:
        """Carry out one of `OPERATIONS`."""
        return getattr(self, f"_{op}")(*args)

    def _listen(self, every_level: bool) -> None:
        import logging
        import warnings

        noted = self._noted

        class Listener(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                noted.append((record.name, record.levelno, record.getMessage()))

        logging.getLogger().addHandler(Listener())
        if every_level:
            logging.getLogger().setLevel(1)
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *where, **more: noted.append(message)

    def _notes(self) -> list[Any]:
        found, self._noted[:] = list(self._noted), []
        return found

    def _assign(self, module: str, attribute: str, value: Any, is_original: bool) -> None:
        """Set a module's attribute to what the tests set it to, or back to what it was."""
        if (module, "", attribute) in self._originals:
            self._unpatch(module, "", attribute)
            del self._originals[module, "", attribute]
        if not is_original:
            self._patch(module, "", attribute, value)

    def _effects(self, environment: dict, folder: str | None, seeds: list) -> None:
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if folder is not None:
            os.chdir(folder)
        for name, args in seeds:
            if name == "random":
                random.seed(*args)
            else:
                module, function = SEEDED[name]
                getattr(importlib.import_module(module), function)(*args)

    def _patch(self, module: str, path: str, attribute: str, value: Any) -> None:
        target = _found(module, path)
        before = (attribute in vars(target), vars(target).get(attribute))
        setattr(target, attribute, value)
        self._originals.setdefault((module, path, attribute), []).append(before)

    def _unpatch(self, module: str, path: str, attribute: str) -> None:
        target = _found(module, path)
        was_there, original = self._originals[module, path, attribute].pop()
        if was_there:
            setattr(target, attribute, original)
        else:
            delattr(target, attribute)


def _found(module: str, path: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in path.split(".") if path else ():
        found = getattr(found, part)
    return found


def on_tests_object(op: str, target: Any, args: list) -> Any:
    """Do what a program does with an object of the tests beyond calls, attributes and operators."""
    if op == "enter":
        return type(target).__enter__(target)
    if op == "exit":
        kind, *details = args
        error = kind(*details) if isinstance(kind, type) and issubclass(kind, BaseException) else None
        return bool(type(target).__exit__(target, kind, error, None))
    if op == "await":
        try:
            target.send(None)
        except StopIteration as done:
            return done.value
        raise RuntimeError("a coroutine of the tests waits for something that only the tests can do")
    raise ValueError(f"unknown operation {op}")


def may_use(target: Any, name: str, changed: bool) -> bool:
    """Return whether a program may read or change this attribute of an object of the tests.

    It may use a mock, but not change what the mock answers or what the tests will read from it.
    """
    mock = sys.modules.get("unittest.mock")
    if mock is None or not isinstance(target, mock.NonCallableMock):
        return True
    return name not in MOCK_CONTROLS and not (changed and hasattr(type(target), name))
