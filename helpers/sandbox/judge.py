"""The process that knows the expected values and runs the tests against proxies of the program.

`candidate` and every other name that the tests take from the program are proxies. A call sends the
arguments and gets plain data back, which is compared here with this process's own `==`. In return,
the program may only use objects that the tests passed to it.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import random
import sys
import types
from typing import Any

from helpers.lines import bare_lines
from helpers.sandbox.channel import ChannelClosed, Peer, RemoteError
from helpers.sandbox.effects import Effects, may_use, on_tests_object
from helpers.sandbox.own_types import OwnTypes
from helpers.sandbox.parsed_tests import Tests, read_tests
from helpers.sandbox.pickles import guard_pickles
from helpers.sandbox.proxies import is_class, make_proxy
from helpers.sandbox.render import assertion_for, render
from helpers.sandbox.run_conditions import stir_memory
from helpers.sandbox.suites import run_suites
from helpers.sandbox.wire import CodecError

DETAIL_CHARS = 2000
ITERATOR_CAP = 10_000
THREADS_RUN = "passed, threads run"
UNWANTED_MODULES = {"antigravity", "helpers", "idlelib", "lib2to3", "pip", "solution", "test", "tests",
                    "this", "turtle", "turtledemo"}  # fmt: skip


def read_request(descriptor: int) -> tuple[dict[str, Any], int]:
    """Read the request in a file; return it and its length, after which the verdict is written."""
    size = os.fstat(descriptor).st_size
    return json.loads(os.pread(descriptor, size, 0)), size


def needs_own_process(descriptor: int) -> tuple[bool, bool]:
    """Return whether judging this request could change the judge process, and whether it needs files."""
    asked, _ = read_request(descriptor)
    if "calls" in asked or "cases" in asked:
        return True, False
    try:
        tests = read_tests(asked["tests"], asked["entry_point"])
    except (SyntaxError, ValueError, RecursionError):
        return False, False
    return not tests.traceless, not tests.traceless and tests.touches_files


def run_judge(channel: int, output: int, descriptor: int) -> str:
    """Judge the request in the file `descriptor` and append the verdict to it.

    Returns:
        The verdict's status, or "passed, threads run" if Python threads of the program still run.
    """
    asked, size = read_request(descriptor)
    peer = Peer(channel, make_proxy, trusting=False)
    peer.special = lambda op, target, args, kwargs: on_tests_object(op, target, args)
    peer.may_use = may_use
    if "calls" in asked:
        verdict: Any = record_answers(peer, asked["setup"], asked["calls"], size, descriptor)
    elif "cases" in asked:
        verdict = examine(peer, asked, size, descriptor)
    else:
        verdict = judge(peer, asked["tests"], asked["entry_point"], output)
    _write(descriptor, verdict, size)
    last = verdict[-1] if type(verdict) is list and verdict else verdict
    status = last["status"] if last else ""
    return THREADS_RUN if status == "passed" and _threads_run(peer) else status


def _threads_run(peer: Peer) -> bool:
    """Return whether Python threads of the program are left; a library's own may live on.

    A program can hide its threads; they then end with it. Only threads start others while no request is
    served, so that without any at the last reply there are none.
    """
    if not peer.threads_there:
        return False
    try:
        count = peer.request("threads")
    except BaseException:  # whatever the program does with this request, the verdict stands
        return False
    return type(count) is int and count > 0


def _write(descriptor: int, verdict: Any, offset: int) -> None:
    os.ftruncate(descriptor, offset)
    os.pwrite(descriptor, json.dumps(verdict).encode(), offset)


def judge(peer: Peer, text: str, entry_point: str, output: int) -> dict[str, str]:
    """Run the tests; the verdict is `passed` only if they ran to the end and called the program."""
    stage, effects = "the program", None
    stdout, stderr = sys.stdout, sys.stderr
    try:
        try:
            tests = read_tests(text, entry_point)
        except (SyntaxError, ValueError, RecursionError) as error:
            return _verdict("failed", f"the tests do not parse: {error}")
        if not tests.traceless:
            mirror_output(peer, output)
            if tests.touches_files:
                guard_pickles()
            effects = Effects(peer, tests)
        values = test_globals(peer, tests, entry_point)
        if effects is not None:
            effects.watch()
        stage = "the tests"
        exec(tests.code, values)
        run_suites(tests, values, entry_point)
        if not peer.made_calls:
            return _verdict("failed", f"the tests never called {entry_point}")
    except ChannelClosed:
        return _verdict("gone", f"the program's process ended during {stage}")
    except BaseException as error:  # the program can raise SystemExit and the like
        return _verdict("failed", f"{stage}: {failure_line(error, text)}")
    finally:
        sys.stdout, sys.stderr = stdout, stderr
        if effects is not None:
            effects.end()
    return _verdict("passed", "")


def _verdict(status: str, detail: str) -> dict[str, str]:
    return {"status": status, "detail": detail[:DETAIL_CHARS]}


def failure_line(error: BaseException, tests: str) -> str:
    """Return one line for a person: the failing line of the tests and what was raised."""
    line, trace = None, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            line = trace.tb_lineno
        trace = trace.tb_next
    try:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
    except Exception:
        text = type(error).__name__
    lines = bare_lines(tests)
    where = f"line {line}, {lines[line - 1].strip()!r}: " if line and line <= len(lines) else ""
    return where + text


def test_globals(peer: Peer, tests: Tests, entry_point: str) -> dict[str, Any]:
    """Start the program and return the tests' globals: names they use but do not define are proxies.

    The name of a built-in function is never the program's, unless it is the entry point. A name that
    the program binds to a module means that module, imported here.
    """
    found = peer.request("boot", None, *tests.wanted)
    if type(found) is not dict or entry_point not in found:
        raise NameError(f"it defines no {entry_point!r}")
    values = _namespace(tests)
    for name in tests.wanted:
        if name in found and not name.startswith("__"):
            module, value = found[name]
            values[name] = value if module is None else _import(name, module)
    # A function under test must not gain the rights of a class by turning itself into one.
    peer.names_classes = any(n[:1].isupper() and is_class(v) for n, v in values.items())
    if tests.classes:
        shared = peer.request("share", None, *tests.classes)
        names = set(tests.classes).intersection(shared if type(shared) is list else ())
        peer.share(OwnTypes(values, "tests", "solution", names))
    return values


def _namespace(tests: Tests) -> dict[str, Any]:
    """Return the tests' globals; those of a module that can be found, if they may look for it."""
    values: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
    if tests.traceless:
        return values
    module = types.ModuleType("tests")
    sys.modules.update(tests=module, solution=module, __main__=module)
    module.__dict__.update(values)
    return module.__dict__


def _import(name: str, said: str) -> Any:
    """Import the module called `name`, or if there is none, the one that the program bound to the name."""
    for module in (name, said):
        top = module.partition(".")[0]
        # The tests chose the first name, the program the second.
        known = module == name or top in sys.stdlib_module_names or top in sys.modules
        if known and top not in UNWANTED_MODULES:
            try:
                return importlib.import_module(module)
            except ImportError:
                continue
    raise NameError(f"the tests use {name!r}, which the program binds to an unknown module")


def mirror_output(peer: Peer, output: int) -> None:
    """Repeat the program's output here after each answer if a test has redirected `sys.stdout`."""
    original, mirrored = sys.stdout, [0]

    def after_reply() -> None:
        size = os.fstat(output).st_size
        if size > mirrored[0]:
            if sys.stdout is not original:
                text = os.pread(output, min(size - mirrored[0], 2**20), mirrored[0])
                sys.stdout.write(text.decode("utf-8", "replace"))
            mirrored[0] = size

    peer.after_reply = after_reply


def record_answers(peer: Peer, setup: str, calls: list[str], size: int, descriptor: int) -> list[dict]:
    """Evaluate each call in the program and return the answers as source text, saved after each call."""
    results: list[dict] = []
    try:
        peer.request("boot")
        peer.request("exec", None, setup)
        values: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
        exec(compile(setup, "<tests>", "exec", optimize=0), values)
    except BaseException as error:
        return [_answer("failed", f"the program: {failure_line(error, '')}")]
    for call in calls:
        results.append(_answer("running"))
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


def _answer(status: str, detail: str = "") -> dict[str, Any]:
    return {"status": status, "value": None, "detail": detail, "assertion": None}


def examine(peer: Peer, asked: dict[str, Any], size: int, descriptor: int) -> list[dict[str, Any]]:
    """Run the cases of `asked` in the order it states, in one program; save the results after each.

    A case is something that `judge` could run: statements, or a function that is called afterwards.
    The memory layout differs from case to case, here and in the program.
    """
    results: list[dict[str, Any]] = []
    setup, cases, entry_point = asked["setup"], asked["cases"], asked["entry_point"]
    rng = random.Random(asked["memory"])
    try:
        values = test_globals(peer, read_tests("\n".join([setup, *cases]), entry_point), entry_point)
        exec(compile(setup, "<tests>", "exec", optimize=0), values)
    except ChannelClosed:
        return [_case(-1, "gone", "the program ended before its first case")]
    except BaseException as error:
        return [_case(-1, "failed", f"the set-up: {failure_line(error, setup)}")]
    for index in asked["order"]:
        kept = stir_memory(rng) if asked["memory"] else []
        results.append(_case(index, "running", ""))
        _write(descriptor, results, size)
        try:
            tests = read_tests(cases[index], entry_point)
            peer.request("begin")
            try:
                exec(tests.code, values)
                run_suites(tests, values, entry_point)
                results[-1]["status"] = "passed"
            except ChannelClosed:
                raise
            except BaseException as error:
                results[-1] |= _verdict("failed", failure_line(error, cases[index]))
            steps, loops, threads, slept_s = peer.request("spent")
            results[-1] |= {"steps": steps, "loops": loops, "threads": threads, "slept_s": slept_s}
        except ChannelClosed:
            results[-1]["status"] = "gone"
            break
        del kept
    return results


def _case(index: int, status: str, detail: str) -> dict[str, Any]:
    return {"index": index, "status": status, "detail": detail, "steps": 0, "loops": 0.0, "threads": 0}
