"""The sandbox itself: verdicts under load, lost processes, limits, recording."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.sandbox import workers
from helpers.sandbox.api import (
    Program,
    SandboxError,
    record_outputs,
    run_program,
    run_programs,
)
from helpers.sandbox.scratch import remove_tree

ROOT = Path(__file__).resolve().parents[1]
TESTS = "assert f(2) == 4\nassert f(3) == 9\nassert f(-5) == 25\n"
RIGHT = "def f(x):\n    return x * x\n"


def mutants(source: str) -> list[str]:
    pairs = [(" + ", " - "), (" < ", " > "), (" == ", " != "), ("1", "2"), ("and", "or"), ("max", "min")]
    return [source.replace(old, new, 1) for old, new in pairs if old in source]


def test_verdicts_do_not_depend_on_workers_or_load():
    source = "def f(a, b):\n    if a < b and a == 1:\n        return max(a, b) + 2\n    return a + b\n"
    tests = "assert f(1, 5) == 7\nassert f(5, 1) == 6\nassert f(1, 1) == 2\nassert f(0, 3) == 3\nassert f(2, 3) == 5\n"
    programs = [Program(source, tests, "f"), *(Program(m, tests, "f") for m in mutants(source))]
    programs.append(Program("def f(a, b):\n    while True: pass", tests, "f", timeout_s=0.3))
    alone = run_programs(programs, workers=1)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
    try:
        loaded = run_programs(programs, workers=4)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert [o.status for o in alone] == [o.status for o in loaded]
    assert alone[0].passed
    assert not any(o.passed for o in alone[1:])


def test_a_lost_warm_process_is_replaced_without_failing_the_program():
    assert run_program(RIGHT, TESTS, entry_point="f").passed
    for idle in workers._idle:
        for worker in idle.by_key.values():
            worker.process.kill()
            worker.process.wait()
    assert run_program(RIGHT, TESTS, entry_point="f").passed


def test_infrastructure_errors_have_a_separate_status(monkeypatch):
    def fail(self, key):
        raise OSError("no process")

    monkeypatch.setattr(workers.Workers, "get", fail)
    outcome = run_program(RIGHT, TESTS, entry_point="f")
    assert outcome.status == "infrastructure_error"
    assert "no process" in outcome.detail


def test_limits_and_types_are_checked():
    for wrong in ({"timeout_s": 0}, {"memory_mb": 1}, {"entry_point": "not a name"}):
        with pytest.raises(SandboxError):
            run_program(RIGHT, TESTS, **({"entry_point": "f"} | wrong))
    with pytest.raises(SandboxError, match="candidate"):
        run_program(None, TESTS, entry_point="f")
    with pytest.raises(SandboxError, match="workers"):
        run_programs([], workers=0)
    assert run_programs([], workers=2) == []


def test_python_path_and_preload(tmp_path):
    (tmp_path / "local_module_q.py").write_text("VALUE = 7\n")
    outcome = run_program(
        "import local_module_q\ndef f(): return local_module_q.VALUE", "assert f() == 7",
        entry_point="f", python_path=[str(tmp_path)], preload=["local_module_q"],
    )  # fmt: skip
    assert outcome.passed, outcome


def test_record_outputs_gives_assertions_that_hold():
    source = (
        "import networkx as nx, random, os\n"
        "def f(x): return x\n"
        "def g(n): yield from range(n)\n"
        "def h(): raise nx.NetworkXError('no')\n"
        "def r(): return str({'a', 'b', 'c', 'd'})\n"
        "def s(): return random.random()\n"
        "def t():\n    while True: pass\n"
        "def u(): os._exit(3)\n"
        "count = []\n"
        "def v():\n    count.append(1)\n    return len(count)\n"
    )
    calls = ["f([1, (2.5,), {'a': {3}}])", "g(3)", "h()", "r()", "s()", "t()", "u()", "v()", "v()", "f(nx.path_graph(3))",
             "f(float('nan'))", "f(object())", "f(True)", "f({2, 1})"]  # fmt: skip
    found = record_outputs(source, calls, entry_point="f", setup="import networkx as nx", timeout_s=2.0)
    assert [r.call for r in found] == calls
    status = [r.status for r in found]
    assert status[:3] == ["returned", "returned", "raised"]
    assert status[3:5] == ["nondeterministic", "nondeterministic"]
    assert status[5:7] == ["timeout", "crashed"]
    assert "nondeterministic" in status[7:9]
    assert status[9:] == ["returned"] * 5
    assert found[0].value_source == "[1, (2.5,), {'a': {3}}]"
    assert found[1].value_source == "[0, 1, 2]"
    assert "NetworkXError" in found[2].detail
    assert found[10].value_source is None
    assert found[13].value_source == "{1, 2}"
    tests = "import networkx as nx\n" + "\n".join(r.assertion for r in found if r.assertion)
    assert run_program(source, tests, entry_point="f").passed
    assert not run_program(source.replace("return x", "return [x]"), tests, entry_point="f").passed
    assert record_outputs("def f(:", ["f()"], entry_point="f")[0].status == "failed"


def test_recording_drops_no_call_because_earlier_ones_took_long():
    calls = [f"f({n})" for n in range(16)]  # about 0.1 s each
    found = record_outputs(
        "def f(n): return sum(range(4_000_000 + n))", calls, entry_point="f", timeout_s=10.0
    )
    assert [r.value_source for r in found] == [str(sum(range(4_000_000 + n))) for n in range(16)]


def test_recording_gives_up_on_a_function_whose_calls_all_time_out(monkeypatch):
    asked = []
    ask = workers.Workers.ask
    monkeypatch.setattr(workers.Workers, "ask", lambda *a: asked.append(a) or ask(*a))
    source = "import itertools\ndef f(n): return sum(itertools.repeat(0, n))"
    calls = ["f(2)", *(f"f(10**12 + {n})" for n in range(12))]
    found = record_outputs(source, calls, entry_point="f", timeout_s=0.2)
    assert [r.status for r in found] == ["returned", *["timeout"] * 12]
    assert len(asked) <= 5  # first pass: one call that returns, three that time out; second pass: the first


def test_sleeping_programs_are_ended():
    start = time.monotonic()
    outcome = run_program("import time\ndef f(x): time.sleep(300)", TESTS, entry_point="f", timeout_s=0.5)
    assert outcome.status == "timeout"
    assert time.monotonic() - start < 60


def test_folders_are_removed_whatever_a_program_did_to_them(tmp_path):
    os.chmod(tmp_path, 0o755)
    folder = tmp_path / "program"
    (folder / "a" / "b" / "c").mkdir(parents=True)
    (folder / "a" / "b" / os.fsdecode(b"\xff\n")).write_text("x")
    os.symlink(tmp_path, folder / "a" / "link")
    for path in (folder / "a" / "b", folder / "a", folder):
        os.chmod(path, 0)
    deep = tmp_path / "deep"
    deep.mkdir()
    here = os.getcwd()
    os.chdir(deep)
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(here)
    for each in (folder, deep):
        remove_tree(str(each))
    assert list(tmp_path.iterdir()) == []
    assert os.stat(tmp_path).st_mode & 0o777 == 0o755


def test_a_killed_caller_leaves_neither_processes_nor_folders(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from helpers.sandbox.api import run_program\n"
        "print(run_program('def f(x): return x', 'assert f(1) == 1', entry_point='f').status, flush=True)\n"
        "run_program('def f(x):\\n    while True: pass', 'assert f(1)', entry_point='f', timeout_s=600)\n"
    )
    os.chmod(tmp_path, 0o755)
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    caller = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert caller.stdout.readline() == "passed\n"
    assert len(list(tmp_path.iterdir())) == 1
    time.sleep(0.5)  # the second program should be running by now; if not, the test is merely weaker
    caller.kill()
    caller.wait()
    caller.stdout.close()
    deadline = time.monotonic() + 60
    while (list(tmp_path.iterdir()) or mentioned(str(tmp_path))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []
    assert mentioned(str(tmp_path)) == []


def mentioned(text):
    """Return processes with this text in their command line, as a warm process, its judge and program have."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if text.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found
