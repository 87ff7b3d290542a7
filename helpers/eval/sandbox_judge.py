"""The process that knows the expected values: it runs the tests against proxies of the program.

`candidate` and every other name that the tests borrow from the program are proxies. A call ships
the arguments, gets plain data back and compares that here, with this process's own `==`. A remote
object never equals plain data, cannot be ordered against it and takes no part in arithmetic.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import os
import sys
from typing import Any

from helpers.eval.sandbox_channel import ChannelClosed, Peer, RemoteError
from helpers.eval.sandbox_render import assertion_for, render
from helpers.eval.sandbox_wire import CodecError

DETAIL_CHARS = 2000
ITERATOR_CAP = 10_000
FORBIDDEN_ATTRIBUTES = ("gi_", "cr_", "ag_", "f_", "tb_", "co_", "func_")


def run_judge(channel: int, output: int, request: int) -> bool:
    """Read the request (JSON) from descriptor `request`, judge, write the verdict behind it.

    Returns whether the program's process ended before the verdict was reached.
    """
    size = os.fstat(request).st_size
    asked = json.loads(os.pread(request, size, 0))
    peer = Peer(channel, make_proxy, may_access)
    mirror_output(peer, output)
    if "calls" in asked:
        verdict: Any = record(peer, asked["setup"], asked["calls"], size, request)
    else:
        verdict = judge(peer, asked["tests"], asked["entry_point"])
    _write(request, verdict, size)
    last = verdict[-1] if type(verdict) is list and verdict else verdict
    return bool(last) and last["status"] == "gone"


def _write(descriptor: int, verdict: Any, offset: int) -> None:
    os.ftruncate(descriptor, offset)
    os.pwrite(descriptor, json.dumps(verdict).encode(), offset)


def judge(peer: Peer, tests: str, entry_point: str) -> dict[str, str]:
    """Run `tests`; the verdict is `passed` only if they ran to their end and called the program."""
    stage = "the program"
    try:
        try:
            tree = ast.parse(tests)
            tree.body = [node for node in tree.body if not _defines(node, entry_point)]
        except (SyntaxError, ValueError, RecursionError) as error:
            return _verdict("failed", f"the tests do not parse: {error}")
        values = test_globals(peer, tree, entry_point)
        stage = "the tests"
        exec(compile(tree, "<tests>", "exec"), values)
        _call_functions(tree, values, entry_point)
        if not peer.made_calls:
            return _verdict("failed", f"the tests never called {entry_point}")
        stage = "the end of the program"
        peer.request("finish")
    except ChannelClosed:
        return _verdict("gone", f"the program's process ended during {stage}")
    except BaseException as error:  # SystemExit and the like come from the program, too
        return _verdict("failed", f"{stage}: {explain(error, tests)}")
    return _verdict("passed", "")


def _verdict(status: str, detail: str) -> dict[str, str]:
    return {"status": status, "detail": detail[:DETAIL_CHARS]}


def _defines(node: ast.stmt, entry_point: str) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == entry_point


def _call_functions(tree: ast.Module, values: dict[str, Any], entry_point: str) -> None:
    """Run HumanEval's `check` and `test_*` functions, unless the tests call them themselves."""
    called = {
        node.func.id
        for statement in tree.body
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or node.name in called:
            continue
        required = len(node.args.args) - len(node.args.defaults)
        if node.name == "check" and required <= 1 <= len(node.args.args):
            values["check"](values[entry_point])
        elif node.name.startswith("test") and required == 0:
            values[node.name]()
    if any(isinstance(node, ast.ClassDef) for node in tree.body) and "unittest" in sys.modules:
        _run_test_cases(values)


def _run_test_cases(values: dict[str, Any]) -> None:
    import unittest

    for value in list(values.values()):
        if isinstance(value, type) and issubclass(value, unittest.TestCase) and value.__module__ == "tests":
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(value).run(result)
            for _, text in (*result.failures, *result.errors):
                raise AssertionError(text.strip().splitlines()[-1])


def explain(error: BaseException, tests: str) -> str:
    """One line for a person: the failing line of the tests and what was raised."""
    line, trace = None, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            line = trace.tb_lineno
        trace = trace.tb_next
    try:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
    except Exception:
        text = type(error).__name__
    lines = tests.splitlines()
    where = f"line {line}, {lines[line - 1].strip()!r}: " if line and line <= len(lines) else ""
    return where + text


def test_globals(peer: Peer, tree: ast.Module, entry_point: str) -> dict[str, Any]:
    """Start the program; globals of the tests, where what they use and do not define is the program's.

    A name of a built-in function is never the program's, unless it is the entry point's; a name
    bound to a module in the program means that module here, imported here.
    """
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | {entry_point}
    wanted = sorted(name for name in used if name == entry_point or not hasattr(builtins, name))
    found = peer.request("boot", None, *wanted)
    if type(found) is not dict or entry_point not in found:
        raise NameError(f"it defines no {entry_point!r}")
    values: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
    for name, (module, value) in found.items():
        values[name] = value if module is None else _import(name, module)
    return values


def _import(name: str, said: str) -> Any:
    """The module that `name` means: itself if there is one, else what the program bound to it."""
    for module in (name, said):
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names or top in sys.modules:
            try:
                return importlib.import_module(module)
            except ImportError:
                continue
    raise NameError(f"the tests use {name!r}, which the program binds to an unknown module")


def may_access(target: Any, name: str) -> bool:
    """Public attributes of objects that the tests passed on purpose; nothing that leads to frames."""
    return not name.startswith("_") and not name.startswith(FORBIDDEN_ATTRIBUTES)


def mirror_output(peer: Peer, output: int) -> None:
    """After each answer, print here what the program printed, if a test redirected `sys.stdout`."""
    original, place = sys.stdout, [0]

    def after_reply() -> None:
        size = os.fstat(output).st_size
        if size > place[0]:
            if sys.stdout is not original:
                text = os.pread(output, min(size - place[0], 2**20), place[0])
                sys.stdout.write(text.decode("utf-8", "replace"))
            place[0] = size

    peer.after_reply = after_reply


class Remote:
    """Stands for an object of the program. Equal only to itself or to an object of equal state."""

    def __init__(self, peer: Peer, number: int, name: str):
        self.__dict__.update(_peer=peer, _number=number, _name=name)

    def _sandbox_handle(self) -> tuple[Peer, int]:
        return self.__dict__["_peer"], self.__dict__["_number"]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__") and name not in ("__dict__", "__name__", "__doc__"):
            raise AttributeError(name)
        return self._peer.request("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._peer.request("set", self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the program's object with these arguments; it counts as using the program."""
        self._peer.made_calls += 1
        return self._peer.request("call", self, *args, **kwargs)

    def __eq__(self, other: Any) -> bool:
        if self is other:
            return True
        if type(other) is not Remote or self._name != other._name:
            return False
        return self._peer.request("get", self, "__dict__") == self._peer.request("get", other, "__dict__")

    def __hash__(self) -> int:
        return hash(("remote", self._number))

    def __bool__(self) -> bool:
        return self._exactly(bool, self._peer.request("bool", self))

    def __len__(self) -> int:
        return self._exactly(int, self._peer.request("len", self))

    def __iter__(self) -> Any:
        return self._peer.request("iter", self)

    def __getitem__(self, key: Any) -> Any:
        return self._peer.request("item", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._peer.request("setitem", self, key, value)

    def __str__(self) -> str:
        return self._exactly(str, self._peer.request("str", self))

    def __repr__(self) -> str:
        return self._exactly(str, self._peer.request("repr", self))

    def __instancecheck__(self, value: Any) -> bool:
        return type(value) is Remote and value._name == self._name

    @staticmethod
    def _exactly(kind: type, value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"the program answered with {type(value).__name__} where {kind.__name__} is due")
        return value


class RemoteIterator:
    """A generator or iterator of the program; items are fetched one by one."""

    def __init__(self, peer: Peer, number: int):
        self._peer, self._number = peer, number

    def _sandbox_handle(self) -> tuple[Peer, int]:
        return self._peer, self._number

    def __iter__(self) -> RemoteIterator:
        return self

    def __next__(self) -> Any:
        return self._peer.request("next", self)

    def send(self, value: Any) -> Any:
        """As a generator's `send`."""
        return self._peer.request("method", self, "send", value)

    def close(self) -> None:
        """As a generator's `close`."""
        self._peer.request("method", self, "close")


def make_proxy(peer: Peer, kind: str, number: int, name: str) -> Any:
    """The proxy for an object of the program."""
    return RemoteIterator(peer, number) if kind == "it" else Remote(peer, number, name)


def record(peer: Peer, setup: str, calls: list[str], size: int, descriptor: int) -> list[dict]:
    """Evaluate each call in the program; what came back as source text, written after each call."""
    results: list[dict] = []
    try:
        peer.request("boot")
        peer.request("exec", None, setup)
        values: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
        exec(setup, values)
    except BaseException as error:
        return [
            {
                "status": "failed",
                "value": None,
                "detail": f"the program: {explain(error, '')}",
                "assertion": None,
            }
        ]
    for call in calls:
        results.append({"status": "running", "value": None, "detail": "", "assertion": None})
        _write(descriptor, results, size)
        try:
            answer = peer.request("eval", None, call)
            results[-1] = {"status": "returned", **render(answer, call, values, ITERATOR_CAP)}
        except ChannelClosed:
            results[-1]["status"] = "gone"
            break
        except (CodecError, RemoteError) as error:
            results[-1].update(status="unrepresentable", detail=str(error)[:DETAIL_CHARS])
        except BaseException as error:
            results[-1].update(status="raised", detail=f"{type(error).__name__}: {error}"[:DETAIL_CHARS])
            results[-1]["assertion"] = assertion_for(error, call)
    return results
