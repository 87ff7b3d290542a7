"""The sandbox against hostile and honest programs: only right answers pass, nothing is left behind."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from helpers.eval.sandbox import (
    Program,
    SandboxError,
    record_outputs,
    run_program,
    run_programs,
    sandbox_layers,
)

TESTS = "assert f(2) == 4\nassert f(3) == 9\nassert f(-5) == 25\n"
RIGHT = "def f(x):\n    return x * x\n"

# Each returns nothing right by itself and tries to pass, to escape or to do damage.
HOSTILE = {
    "sys.exit in the module": "import sys\nsys.exit(0)",
    "sys.exit in the call": "import sys\ndef f(x): sys.exit(0)",
    "os._exit in the module": "import os\nos._exit(0)",
    "os._exit in the call": "import os\ndef f(x): os._exit(0)",
    "atexit": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(x): raise SystemExit(0)",
    "excepthook": "import sys, os\nsys.excepthook = lambda *a: os._exit(0)\ndef f(x): raise ValueError",
    "swallowing loop": "def f(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
    "eq override": "class E:\n    def __eq__(self, o): return True\n    def __hash__(self): return 0\ndef f(x): return E()",
    "eq and hash in a set": "class E:\n    def __eq__(self, o): return True\n    def __hash__(self): return 4\ndef f(x): return {E()}",
    "int subclass": "class I(int):\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n    __hash__ = int.__hash__\ndef f(x): return I(1)",
    "str subclass": "class S(str):\n    def __eq__(self, o): return True\n    __hash__ = str.__hash__\ndef f(x): return S('a')",
    "class with forged name": "class int(int):\n    def __eq__(self, o): return True\nint.__module__ = 'builtins'\nint.__qualname__ = 'int'\ndef f(x): return int(1)",
    "frame walking": "import sys\ndef f(x):\n    fr = sys._getframe()\n    while fr:\n        for v in list(fr.f_locals.values()) + list(fr.f_globals.values()):\n            if isinstance(v, str) and 'assert f(' in v: return eval(v.split('==')[1].split()[0])\n        fr = fr.f_back",
    "gc search": "import gc\ndef f(x):\n    for o in gc.get_objects():\n        if isinstance(o, dict):\n            for v in list(o.values()):\n                if isinstance(v, str) and 'assert f(2)' in v: return x * x",
    "patched builtins": "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.len = lambda o: 0\nbuiltins.type = lambda o: int\nbuiltins.hash = lambda o: 0\ndef f(x): return 0",
    "patched assert": "import builtins\nclass A(BaseException):\n    def __new__(cls, *a): import os; os._exit(0)\nbuiltins.AssertionError = A\ndef f(x): return 0",
    "patched json": "import json\njson.dumps = lambda *a, **k: '[\"=\",4,null]'\njson.loads = lambda *a: ['=', 4, None]\ndef f(x): return 0",
    "patched unittest": "import unittest\nunittest.TestCase.assertEqual = lambda *a: None\ndef f(x): return 0",
    "patched numpy": "import numpy\nnumpy.allclose = lambda *a, **k: True\ndef f(x): return 0",
    "patched codec": "import sys\nfor n, m in list(sys.modules.items()):\n    if 'sandbox' in n:\n        for k in list(vars(m)):\n            if k[0] != '_': vars(m)[k] = lambda *a, **kw: 4\ndef f(x): return 0",
    "forged results": "import os, json, struct\ndef f(x):\n    d = json.dumps({'status': 'passed', 'detail': ''}).encode()\n    for fd in range(3, 200):\n        try: os.write(fd, d); os.pwrite(fd, d, 0)\n        except OSError: pass\n    return 0",
    "forged replies": "import os, json, struct\ndef f(x):\n    d = json.dumps(['=', None, None]).encode()\n    for fd in range(3, 200):\n        try: os.write(fd, (struct.pack('!I', len(d)) + d) * 50)\n        except OSError: pass\n    return 0",
    "arguments": "import sys\ndef f(x): return eval(' '.join(sys.argv).split('==')[1].split()[0])",
    "environment": "import os\ndef f(x):\n    return 4 if 'SECRET' in os.environ.get('SANDBOX_SECRET', '') else 0",
    "proc of the parent": "import os\ndef f(x):\n    for p in os.listdir('/proc'):\n        if p.isdigit():\n            d = open(f'/proc/{p}/environ', 'rb').read()\n            if b'SECRET' in d: return x * x",
    "proc memory": "import os\ndef f(x):\n    for p in (os.getppid(), 1):\n        open(f'/proc/{p}/mem', 'rb').read(1)\n    return 0",
    "test files": "import glob\ndef f(x):\n    for n in glob.glob('/tmp/**', recursive=True) + glob.glob('**', recursive=True):\n        try:\n            if 'assert f(' in open(n).read(): return x * x\n        except (OSError, ValueError): pass",
    "fork bomb": "import os\ndef f(x):\n    while True: os.fork()",
    "double fork": "import os, time\ndef f(x):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0: time.sleep(600)\n        os._exit(0)\n    return 0",
    "subprocess": "import subprocess\ndef f(x): return int(subprocess.run(['expr', str(x), '*', str(x)], capture_output=True).stdout)",
    "endless thread": "import threading\ndef go():\n    while True: pass\nthreading.Thread(target=go).start()\n" + RIGHT,
    "endless daemon thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(900,), daemon=True).start()\n" + RIGHT,
    "infinite loop": "def f(x):\n    while True:\n        try: pass\n        except: pass",
    "cancelled alarm": "import signal\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\ndef f(x):\n    while True: signal.alarm(0); signal.setitimer(signal.ITIMER_REAL, 0)",
    "raised limits": "import resource\ntry: resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))\nexcept (OSError, ValueError): pass\ndef f(x):\n    while True: pass",
    "memory bomb": "def f(x):\n    a = [0]\n    while True: a += a",
    "recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x)",
    "segfault": "import ctypes\ndef f(x): return ctypes.string_at(0)",
    "output": "def f(x):\n    for _ in range(1024): print('x' * 2**20)\n    return 0",
    "raw output": "import os\nfor _ in range(64):\n    try: os.write(1, b'x' * 2**20)\n    except OSError: pass\n" + RIGHT,
    "closed descriptors": "import os\nos.closerange(0, 4096)\n" + RIGHT,
    "stdin": "def f(x): return int(input())",
    "symlink": "import os\ndef f(x):\n    os.symlink(OUTSIDE, 'link')\n    open('link/evil', 'w').write('x')\n    return 0",
    "write outside": "def f(x):\n    open(OUTSIDE + '/evil', 'w').write('x')\n    return 0",
    "start-up files": "import os\ndef f(x):\n    for d in ['.', OUTSIDE]:\n        for n in ('conftest.py', 'sitecustomize.py', 'evil.pth'):\n            open(os.path.join(d, n), 'w').write('import os; os._exit(0)')\n    return 0",
    "files beside its folder": "import os\ndef f(x):\n    here = os.getcwd()\n    os.rmdir(here)\n    open(os.path.dirname(here) + '/evil', 'w').write('x')\n    return 0",
    "network": "import socket\ndef f(x):\n    socket.create_connection(('127.0.0.1', PORT), 1).send(b'x')\n    return x * x",
    "udp": "import socket\ndef f(x):\n    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))\n    return x * x",
    "kill the parent": "import os, signal\ndef f(x):\n    os.kill(os.getppid(), signal.SIGKILL)\n    return x * x",
    "kill all": "import os, signal\ndef f(x):\n    os.kill(-1, signal.SIGKILL)\n    return x * x",
    "forged operators": "class E:\n    def __getattr__(self, n): return lambda *a: True\n    for _n in 'lt le gt ge sub add abs rsub radd neg float int index'.split():\n        exec(f'def __{_n}__(self, *a): return self')\ndef f(x): return E()",
    "late change of mind": "class L(list):\n    def __iter__(self): return iter([])\ndef f(x): return L([1])",
    "deep answer": "def f(x):\n    a = []\n    for _ in range(100000): a = [a]\n    return a",
    "huge answer": "def f(x): return 'x' * (200 * 2**20)",
    "endless answer": "def f(x):\n    def g():\n        while True: yield 4\n    return g()",
    "no such function": "def g(x): return x * x",
    "does not parse": "def f(x) return x",
    "empty": "",
    "raises": "def f(x): raise AssertionError('no')",
    "null bytes": "def f(x):\0 return x",
}  # fmt: skip


def descendants() -> list[int]:
    """Processes below this one, warm ones and one judge of each aside (an orphan would be another child of theirs)."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                command = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            parents[int(name)] = (int(stat[1]), b"sandbox_zygote" in command)
    mine = {os.getpid()}
    grown = True
    while grown:
        new = {pid for pid, (parent, _) in parents.items() if parent in mine} - mine
        mine |= new
        grown = bool(new)
    warm = {pid for pid in mine if parents[pid][1] and parents[pid][0] == os.getpid()}
    judges = {max((pid for pid in mine if parents[pid][0] == one), default=0) for one in warm}
    return sorted(mine - {os.getpid()} - warm - judges)


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(scope="module")
def listener():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted = []

        def serve():
            while True:
                try:
                    accepted.append(server.accept())
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], accepted


def test_no_hostile_program_passes_or_leaves_anything(outside, listener, monkeypatch):
    monkeypatch.setenv("SANDBOX_SECRET", "SECRET")
    os.chmod(outside, 0o755)
    port, accepted = listener
    assert run_program(RIGHT, TESTS, entry_point="f").passed
    temporary = set(os.listdir("/tmp"))
    programs = [
        Program(code.replace("OUTSIDE", repr(str(outside))).replace("PORT", str(port)), TESTS, "f", 0.5, 256)
        for code in HOSTILE.values()
    ]
    checked = [p for pair in ((program, Program(RIGHT, TESTS, "f")) for program in programs) for p in pair]
    outcomes = run_programs(checked, workers=2)
    for name, outcome in zip(HOSTILE, outcomes[::2], strict=True):
        assert outcome.status in ("failed", "timeout", "crashed"), (name, outcome)
        assert len(outcome.detail) <= 2500, name
    assert all(outcome.passed for outcome in outcomes[1::2])
    assert list(outside.iterdir()) == []
    assert not accepted
    assert descendants() == []
    new = {name for name in set(os.listdir("/tmp")) - temporary if not name.startswith("sandbox-")}
    assert not {name for name in new if "evil" in name or "conftest" in name}
    by_name = dict(zip(HOSTILE, outcomes[::2], strict=True))
    for name in (
        "infinite loop",
        "swallowing loop",
        "cancelled alarm",
        "endless thread",
        "endless daemon thread",
    ):
        assert by_name[name].status == "timeout", (name, by_name[name])
    assert by_name["segfault"].status == "crashed"


HONEST = {
    "files": ("def f(n):\n    with open('a.txt', 'w') as s: s.write('hi' * n)\n    return open('a.txt').read()", "assert f(2) == 'hihi'"),
    "temporary files": ("import tempfile\ndef f(n):\n    with tempfile.TemporaryFile() as s: return s.write(b'abc')", "assert f(2) == 3"),
    "printing": ("def f(n):\n    print('hello')\n    return n", "import io, contextlib\nb = io.StringIO()\nwith contextlib.redirect_stdout(b):\n    f(1)\nassert b.getvalue() == 'hello\\n'"),
    "threads": ("import threading\ndef f(n):\n    r = []\n    ts = [threading.Thread(target=r.append, args=(i,)) for i in range(n)]\n    [t.start() for t in ts]; [t.join() for t in ts]\n    return sorted(r)", "assert f(8) == list(range(8))"),
    "recursion": ("def f(n): return 0 if n == 0 else 1 + f(n - 1)", "assert f(900) == 900"),
    "numpy": ("import numpy as np\ndef f(a): return np.cumsum(a)", "import numpy as np\nassert np.array_equal(f(np.arange(4.0)), [0, 1, 3, 6])\nassert f([1, 2])[1] == 3"),
    "networkx": ("import networkx as nx\ndef f(g):\n    g.add_edge(0, 'x', w=.5)\n    return nx.shortest_path_length(g, 0), g", "import networkx as nx\ng = nx.path_graph(3)\nd, h = f(g)\nassert d == {0: 0, 1: 1, 'x': 1, 2: 2}\nassert h is g and g[0]['x'] == {'w': .5} and list(g[0]) == [1, 'x']"),
    "multigraph": ("import networkx as nx\ndef f(g): return nx.MultiDiGraph(g).reverse()", "import networkx as nx\nr = f(nx.MultiDiGraph([(0, 1), (0, 1)]))\nassert type(r) is nx.MultiDiGraph and r.number_of_edges(1, 0) == 2"),
    "carriage returns": ("def f(x):\r\n    y = x\r\n    return y\r\n", "assert f(3) == 3\r\nassert f(4) == 4\r\n"),
    "floats": ("def f(x): return x / 3", "import math\nassert f(1) == 1 / 3 and math.isnan(f(float('nan'))) and f(float('inf')) == float('inf')"),
    "containers": ("def f(x): return {'s': {1, 2}, 't': (1, [2]), 'f': frozenset('a'), None: b'x', 'c': 1j, 'r': range(3)}", "assert f(0) == {'s': {1, 2}, 't': (1, [2]), 'f': frozenset('a'), None: b'x', 'c': 1j, 'r': range(3)}"),
    "big integers": ("def f(x): return x ** 3000", "assert f(7) == 7 ** 3000 and f(-7) == -7 ** 3000 or True\nassert f(10) == 10 ** 3000"),
    "counter": ("from collections import Counter, defaultdict, OrderedDict, deque\ndef f(x): return [Counter(x), deque(x, 2), OrderedDict.fromkeys(x)]", "c, d, o = f('aab')\nassert c == {'a': 2, 'b': 1} and c.most_common(1) == [('a', 2)] and d.maxlen == 2 and list(o) == ['a', 'b']"),
    "named tuple": ("from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(x): return P(x, 2)", "assert f(1) == (1, 2) and f(1).y == 2 and f(3) == P(3, 2)"),
    "generator": ("def f(n):\n    yield from range(n)\n    raise KeyError('end')", "g = f(2)\nassert next(g) == 0 and next(g) == 1\ntry:\n    next(g)\nexcept KeyError as e:\n    assert e.args == ('end',)\nelse:\n    assert False"),
    "endless generator": ("def f():\n    n = 0\n    while True:\n        yield n\n        n += 1", "from itertools import islice\nassert list(islice(f(), 3)) == [0, 1, 2]"),
    "exceptions": ("class Bad(ValueError): pass\ndef f(n):\n    if n == 1: raise Bad('one')\n    raise ZeroDivisionError", "try:\n    f(1)\nexcept Bad as e:\n    assert str(e) == 'one'\ntry:\n    f(1)\nexcept ValueError:\n    pass\ntry:\n    f(2)\nexcept ZeroDivisionError:\n    pass\nelse:\n    assert False"),
    "networkx exceptions": ("import networkx as nx\ndef f(g): raise nx.NetworkXNoPath('no')", "import networkx as nx\ntry:\n    f(1)\nexcept nx.NetworkXNoPath as e:\n    assert 'no' in str(e)\nelse:\n    assert False"),
    "mutated argument": ("def f(a, d=None):\n    a.sort(); a[0].append(9)\n    if d is not None: d['k'] = a\n    return a", "a, d = [[2], [1]], {}\nassert f(a, d=d) is a\nassert a == [[1, 9], [2]] and d == {'k': a} and d['k'] is a"),
    "key function": ("def f(a, key): return sorted(a, key=key)", "calls = []\ndef k(x):\n    calls.append(x)\n    return -x\nassert f([1, 3, 2], k) == [3, 2, 1] and sorted(calls) == [1, 2, 3]\nassert f([-2, 1], abs) == [1, -2]\nassert f(['b', 'A'], str.lower) == ['A', 'b']"),
    "raising callback": ("def f(g):\n    try: g()\n    except LookupError: return 'caught'", "def g(): raise KeyError(1)\nassert f(g) == 'caught'"),
    "returned closure": ("def f(n): return lambda x: x + n", "assert f(2)(3) == 5"),
    "linked nodes of the tests": ("def f(node):\n    prev = None\n    while node:\n        node.next, prev, node = prev, node, node.next\n    return prev", "class Node:\n    def __init__(self, v, next=None): self.v, self.next = v, next\nc = Node(3); b = Node(2, c); a = Node(1, b)\nr = f(a)\nassert r is c and r.next is b and b.next is a and a.next is None"),
    "linked nodes of the program": ("class Node:\n    def __init__(self, v):\n        self.v, self.next = v, None\ndef f(n): return n.v + f(n.next) if n else 0", "a = Node(1); a.next = Node(2); a.next.next = Node(4)\nassert f(a) == 7 and isinstance(a, Node) and a.next.v == 2"),
    "class": ("class Stack:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x)\n    def pop(self): return self.items.pop()\n    def __len__(self): return len(self.items)\n    def __eq__(self, o): return self.items == o.items", "s = Stack()\ns.push(3); s.push(4)\nassert s.pop() == 4 and len(s) == 1 and s.items == [3]\nt = Stack()\nassert s != t\nt.push(3)\nassert s == t", "Stack"),
    "dataclass": ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef f(x): return P(x)", "assert f(1) == P(1) and f(1) != P(2) and f(2).x == 2"),
    "helper of the program": ("import math\nLIMIT = 3\ndef helper(x): return x + LIMIT\ndef f(x): return math.sqrt(helper(x))", "assert math.isclose(f(6), 3) and helper(1) == LIMIT + 1"),
    "entry point named like a builtin": ("def sum(a, b): return a * b", "assert sum(3, 4) == 12", "sum"),
    "own module guard": ("def f(x): return x\nif __name__ == '__main__':\n    raise SystemExit(1)", "assert f(1) == 1"),
    "dates and fractions": ("import datetime, decimal, fractions\ndef f(x): return x + datetime.timedelta(days=1), decimal.Decimal('1.10'), fractions.Fraction(1, 3)", "import datetime\nfrom decimal import Decimal\nfrom fractions import Fraction\nassert f(datetime.date(2024, 2, 28)) == (datetime.date(2024, 2, 29), Decimal('1.1'), Fraction(1, 3))"),
    "cyclic list": ("def f():\n    a = [1]\n    a.append(a)\n    return a", "a = f()\nassert a[1] is a and a[0] == 1"),
    "dict views": ("def f(d): return d.keys(), d.values(), d.items()", "k, v, i = f({'a': 1})\nassert k == {'a'} and list(v) == [1] and ('a', 1) in i"),
    "short sleep": ("import time\ndef f():\n    time.sleep(0.2)\n    return 1", "assert f() == 1"),
    "truth": ("import re\ndef f(s): return re.match('a', s)", "assert f('abc')\nassert not f('xyz')\nassert f('abc').group() == 'a'"),
}  # fmt: skip


def test_honest_programs_pass():
    programs = [Program(code, tests, *(rest or ["f"])) for code, tests, *rest in HONEST.values()]
    for name, outcome in zip(HONEST, run_programs(programs, workers=2), strict=True):
        assert outcome.passed, (name, outcome)


@pytest.mark.parametrize(
    ("candidate", "tests", "detail"),
    [
        (RIGHT, "", "never called"),
        (RIGHT, "assert True", "never called"),
        (RIGHT, "assert f(", "do not parse"),
        (RIGHT, "def check(candidate):\n    assert candidate(2) == 5, 'five'", "five"),
        (RIGHT, "def test_it():\n    assert f(2) == 5", "line 2"),
        (RIGHT, "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(f(2), 5)", "4 != 5"),
        (RIGHT, "def f(x): return 4\nassert f(3) == 4", "line 2"),
        ("def f(x): return True", "assert f(1) == 2", "line 1"),
        ("def f(x, y): return x", "assert f(1) == 1", "TypeError"),
        ("import math\ndef abs(x): return 0\ndef f(x): return 5", "assert abs(f(1) - 1) < .1", "line 1"),
        ("class M:\n    isclose = staticmethod(lambda *a: True)\nmath = M\ndef f(x): return 5", "import math\nassert math.isclose(f(1), 1)", "line 2"),
    ],
)  # fmt: skip
def test_failing_programs_say_why(candidate, tests, detail):
    outcome = run_program(candidate, tests, entry_point="f")
    assert outcome.status == "failed"
    assert detail in outcome.detail


def test_passing_forms_of_tests():
    for tests in (
        "def check(candidate):\n    assert candidate(2) == 4",
        "def check(candidate):\n    assert candidate(2) == 4\ncheck(f)",
        "def test_a():\n    assert f(2) == 4",
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(f(2), 4)",
        "METADATA = {}\nfor n in range(3):\n    assert f(n) == n ** 2",
    ):
        assert run_program(RIGHT, tests, entry_point="f").passed, tests


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


def test_a_lost_warm_process_is_replaced_and_not_held_against_the_program():
    from helpers.eval import sandbox_workers

    assert run_program(RIGHT, TESTS, entry_point="f").passed
    for workers in sandbox_workers._idle:
        for worker in workers._workers.values():
            worker.process.kill()
            worker.process.wait()
    assert run_program(RIGHT, TESTS, entry_point="f").passed


def test_infrastructure_errors_are_their_own_status(monkeypatch):
    from helpers.eval import sandbox_workers

    def fail(self, key):
        raise OSError("no process")

    monkeypatch.setattr(sandbox_workers.Workers, "get", fail)
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


def test_layers_are_reported():
    layers = {layer.name: layer for layer in sandbox_layers()}
    assert layers["resource limits"].active
    assert all(layer.reason for layer in layers.values())
    assert {"network namespace", "landlock", "system call filter", "own user id"} <= set(layers)


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
    found = record_outputs(source, calls, entry_point="f", setup="import networkx as nx", timeout_s=0.5)
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


def test_time_of_sleepers_is_bounded():
    start = time.monotonic()
    outcome = run_program("import time\ndef f(x): time.sleep(300)", TESTS, entry_point="f", timeout_s=0.5)
    assert outcome.status == "timeout"
    assert time.monotonic() - start < 60
