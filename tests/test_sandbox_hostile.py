"""The sandbox with hostile programs: none passes, leaves anything behind or affects the next one."""

import os
import socket
import threading
from pathlib import Path

import pytest

from helpers.sandbox.api import Program, run_program, run_programs
from helpers.sandbox.call_filter import MACHINES, REFUSED, REFUSED_LATER

TESTS = "assert f(2) == 4\nassert f(3) == 9\nassert f(-5) == 25\n"
RIGHT = "def f(x):\n    return x * x\n"
PEER = "import sys\ndef peer():\n    fr = sys._getframe()\n    while fr:\n        for v in fr.f_locals.values():\n            if type(v).__name__ == 'Peer': return v\n        fr = fr.f_back\n"
NEAR = "class E:\n    for _n in 'abs add sub radd rsub mul rmul neg pos round truediv'.split(): exec(f'def __{_n}__(self, *a): return self')\n    for _n in 'lt le gt ge eq contains bool'.split(): exec(f'def __{_n}__(self, *a): return True')\n    def __init__(self, *a): pass\n    def __float__(self): return 0.0\n    def __int__(self): return 0\n    def __hash__(self): return 4\n"
CALL = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"

# Each tries to pass, to escape or to do damage: a program, or a program with its own tests.
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
    # Attacks on the judge: the program finds its end of the channel and sends its own messages.
    "code run by the judge": PEER + "def f(x):\n    peer().request('call', exec, 'import sys; sys.exit(0)')\n    return 0",
    "judge ended": PEER + "import os\ndef f(x):\n    peer().request('call', os._exit, 0)\n    return 0",
    "judge ended by an answer": ("import os\ndef f(x): return os._exit", "assert f(2)(0) == 4"),
    "answer that runs code": ("def f(x): return exec", "assert f(2)('raise SystemExit') == 4"),
    "names for the tests": (PEER + "p = peer(); send = p._send\ndef sent(m):\n    if m[0] == '=' and m[1] and m[1][0] == 'd': m[1] += ['abs', ['t', None, ['x', 0, 'fn', 'abs']], '__builtins__', ['t', None, ['d', 77]]]\n    send(m)\np._send = sent\ndef f(x): return 0", "assert abs(f(2) - 4) < .1"),
    "endless questions": PEER + "def f(x):\n    while True:\n        try: peer().request('call', None)\n        except ValueError: pass",
    "huge message announced": PEER + "import os, struct\ndef f(x):\n    os.write(peer()._descriptor, struct.pack('!I', 2**32 - 1))\n    return 0",
    "message that never ends": PEER + "import os, struct, time\ndef f(x):\n    os.write(peer()._descriptor, struct.pack('!I', 10**6))\n    time.sleep(600)",
    "method of the tests replaced": ("def f(c):\n    c.right = lambda x: True\n    return 0", "class C:\n    def right(self, x): return x == 4\nc = C()\nx = f(c)\nassert c.right(x)"),
    # Answers that pretend to be something else.
    "equal to all, in containers": "class E:\n    def __eq__(self, o): return True\n    def __hash__(self): return 4\ndef f(x): return [E()] if x == 2 else {'a': E()}",
    "subclass of dict": ("class D(dict):\n    def __eq__(self, o): return True\n    def __getitem__(self, k): return 4\n    def get(self, *a): return 4\ndef f(x): return D(a=1)", "assert f(2) == {'a': 4}"),
    "lying length": ("class L(list):\n    def __len__(self): return 0\n    def __iter__(self): return iter([])\n    def __eq__(self, o): return True\ndef f(x): return L([1, 2])", "assert f(2) == [4]\nassert not [x for x in [f(2)] if x != [4]]"),
    "class of its own choice": "class E:\n    __class__ = property(lambda self: int)\n    def __eq__(self, o): return True\n    def __index__(self): return 1\ndef f(x): return E()",
    "metaclass": "class M(type):\n    def __eq__(cls, o): return True\n    __hash__ = type.__hash__\nclass E(metaclass=M): pass\ndef f(x): return E",
    "nan": "def f(x): return float('nan')",
    "infinity": ("def f(x): return float('inf')", "assert abs(f(2) - 4) < 1e-6"),
    "always near": (NEAR + "def f(x): return E()", "assert abs(f(2) - 4) < 1e-6"),
    "always near, a class": (NEAR + "f = E", "assert abs(f(2) - 4) < 1e-6"),
    "always close": (NEAR + "def f(x): return E()", "import math\nassert math.isclose(f(2), 4)"),
    "always greater": (NEAR + "def f(x): return E()", "assert f(2) > 3"),
    "always in it": (NEAR + "def f(x): return E()", "assert f(2) in [4, 5]"),
    "sum": (NEAR + "def f(x): return E()", "assert sum([f(2)]) == 4"),
    "almost equal": (NEAR + "import unittest\ndef f(x): return E()", "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertAlmostEqual(f(2), 4)"),
    "near for numpy": (NEAR + "def f(x): return E()", "import numpy as np\nassert np.allclose(f(2), 4)"),
    "late change of an answer": ("import threading, time\nr = [4]\ndef go():\n    time.sleep(.1); r[0] = 9\ndef f(x):\n    threading.Thread(target=go).start()\n    return r if x == 3 else [0]", "a = f(3)\nassert a == [9]"),
    "iterator": "def f(x): return iter([x * x])",
    "reduced to code": "class E:\n    def __reduce__(self): return (exec, ('import os; os._exit(0)',))\ndef f(x): return E()",
    "laughing answer": "def f(x):\n    a = [1]\n    for _ in range(60): a = [a, a]\n    return a",
    "enormous integer": "def f(x): return 7 ** (10 ** 6)",
    "enormous integer in the message": ("def f(x): return 1 << 10**7", "assert f(2) == 4, f'not {f(2)}'"),
    "repr without end": ("class E:\n    def __repr__(self): return repr(self)\ndef f(x): return E()", "assert repr(f(2)) == '4'"),
    "text without end": "class X(Exception):\n    def __str__(self):\n        while True: pass\ndef f(x): raise X",
    # Exceptions that end tests early without failing them.
    "skips the test": ("import unittest\ndef f(x): raise unittest.SkipTest('x')", "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(f(2), 4)"),
    "stops the test": ("import unittest.case as c\ndef f(x): raise c._ShouldStop", "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(f(2), 4)"),
    "ends the loop": ("def f(x): raise StopIteration", "assert all(map(lambda p: f(p[0]) == p[1], [(2, 4)]))"),
    "SystemExit": "def f(x): raise SystemExit(0)",
    "KeyboardInterrupt": "def f(x): raise KeyboardInterrupt",
    "GeneratorExit": ("def f(x): raise GeneratorExit", "def g():\n    yield f(2)\nassert all(x == 4 for x in g())"),
    "swallowed SystemExit": "def f(x):\n    while True:\n        try: raise SystemExit\n        except SystemExit: pass",
    # Messages that no encoder produces, and values that strain the judge.
    "forged subclass": (PEER + "p = peer(); send = p._send\ndef sent(m): m[1] = ['x', 5, 'sub', 'int']; send(m)\ndef f(x): p._send = sent", "assert f(2) == 4"),
    "forged graph": (PEER + "p = peer(); send = p._send\ndef sent(m): m[1] = ['G', 1, 'Graph', ['d', 2], ['d', 3], ['d', 4]]; send(m)\ndef f(x): p._send = sent", "import networkx as nx\nassert nx.utils.graphs_equal(f(2), nx.path_graph(2))"),
    "array of pointers": (PEER + "p = peer(); send = p._send\ndef sent(m): m[1] = ['na', 1, 'O', [1], 'AAAAAAAAAAA=']; send(m)\ndef f(x): p._send = sent", "import numpy as np\nassert (f(2) == np.array([4])).all()"),
    "forged exception": (PEER + "p = peer(); send = p._send\ndef sent(m): m[0] = '!'; m[1] = ['x', [], [], 't', ['d', 2]]; send(m)\ndef f(x): p._send = sent", "assert f(2) == 4"),
    "unhashable key": (PEER + "p = peer(); send = p._send\ndef sent(m): m[1] = ['d', 1, ['l', 2], 4]; send(m)\ndef f(x): p._send = sent", "assert f(2) == {4: 4}"),
    "dict that ends the judge": ("import collections, os\ndef f(x): return collections.defaultdict(os.abort)", "assert f(2)['x'] == 4"),
    "range without end": ("def f(x): return range(10**18)", "assert list(f(2)) == [4]"),
    "equal cycles": ("def f(x):\n    a = []; a.append(a); return a", "b = []; b.append(b)\nassert f(2) == b"),
    "colliding hashes": "def f(x): return {i * (2**61 - 1): 0 for i in range(2000)}",
    "signalling nan": "from decimal import Decimal\ndef f(x): return Decimal('sNaN')",
    "through a function of the tests": ("def f(g):\n    for n in ('__globals__', '__closure__', '__code__', '__self__', 'mro'):\n        try: return getattr(g, n)\n        except AttributeError: pass\n    return g(0)", "expected = 4\ndef g(x): return x\nassert f(g) == expected"),
    "class of an object of the tests": ("def f(o):\n    o.__class__ = int\n    return 4", "class O: pass\nassert f(O()) == 5"),
    "instances of everything": ("class M(type):\n    def __instancecheck__(c, o): return True\nclass f(metaclass=M):\n    def __new__(c, x): return 0", "assert isinstance(f(2), int) and f(2) == 4"),
    # Manipulations of the interpreter in the program's process.
    "patched math": ("import math\nmath.isclose = lambda *a, **k: True\ndef f(x): return 0", "import math\nassert math.isclose(f(2), 4)"),
    "patched allclose in use": ("import numpy\nnumpy.allclose = lambda *a, **k: True\ndef f(x): return 0", "import numpy\nassert numpy.allclose(f(2), 4)"),
    "patched unittest in use": ("import unittest\nunittest.TestCase.assertEqual = lambda *a: None\ndef f(x): return 0", "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(f(2), 4)"),
    "patched clock": "import time\ntime.time = time.monotonic = time.perf_counter = lambda: 0\ntime.sleep = lambda s: None\ndef f(x):\n    while True: time.sleep(9)",
    "tracing": "import os, sys, threading\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\nthreading.settrace(lambda *a: os._exit(0))\ndef f(x): return 0",
    "end of life": "import os\nclass D:\n    def __del__(self): os._exit(0)\nd = D()\ndef f(x):\n    global d\n    d = None",
    "codecs": "import codecs, json\ncodecs.register_error('strict', lambda e: ('', e.end))\njson.encoder.encode_basestring_ascii = lambda s: '4'\njson.encoder.c_make_encoder = None\ndef f(x): return 'x'",
    "locale": "import locale\nlocale.setlocale(locale.LC_ALL, 'C')\ndef f(x): return '4'",
    "signal handler": "import signal\nsignal.signal(signal.SIGTERM, lambda *a: None)\ndef f(x):\n    signal.raise_signal(signal.SIGTERM)\n    return 0",
    "audit hook": "import os, sys\nsys.addaudithook(lambda e, a: os._exit(0))\ndef f(x): return open('x')",
    "no output": "import sys\nsys.stdout = sys.stderr = sys.__stdout__ = None\ndef f(x): print('x')",
    "recursion in the module": "def g(): g()\ng()",
    "abort": "import os\ndef f(x): os.abort()",
    "stops itself": "import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGSTOP)",
    "kills itself": "import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGKILL)",
    # Forbidden requests to the kernel; each program returns the correct answer if its request succeeds.
    "stops the others": "import os, signal\ndef f(x):\n    for p in range(1, 33000):\n        try: os.kill(p, signal.SIGSTOP if p != os.getpid() else 0); ok = p != os.getpid()\n        except OSError: ok = False\n        if ok: return x * x",
    "signals by descriptor": "import fcntl, os, signal\ndef f(x):\n    r, w = os.pipe()\n    fcntl.fcntl(r, 10, int(signal.SIGKILL))\n    fcntl.fcntl(r, fcntl.F_SETOWN, os.getppid())\n    return x * x",
    "lowers the others": "import os\ndef f(x):\n    os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)\n    return x * x",
    "affinity of the parent": "import os\ndef f(x):\n    os.sched_setaffinity(os.getppid(), {0})\n    return x * x",
    "outlives the parent": CALL + "def f(x): return x * x if libc.prctl(1, 0, 0, 0, 0) == 0 else 0",
    "debugged": CALL + "def f(x): return x * x if libc.prctl(4, 1, 0, 0, 0) == 0 else 0",
    "ptrace": CALL + "import os\ndef f(x): return x * x if libc.ptrace(16, os.getppid(), 0, 0) == 0 else 0",
    "dangerous system calls": CALL + "def f(x):\n    a = ctypes.create_string_buffer(4096)\n    for n in CALLS:\n        if libc.syscall(n, 0, a, 0, 0, 0, 0) >= 0: return x * x\n    return 0",
    "own memory": "def f(x):\n    open('/proc/self/mem', 'r+b')\n    return x * x",
    "memory files": "import os\ndef f(x):\n    for n in range(50): os.write(os.memfd_create('x'), b'x' * 2**24)\n    return x * x",
    "shared memory": "def f(x):\n    open('/dev/shm/sandbox-evil', 'wb').write(b'x' * 2**20)\n    return x * x",
    "secret file": "import os\ndef f(x): return x * x if open(OUTSIDE + '/secret/file').read() else 0",
    "passwords": "def f(x): return x * x if open('/etc/passwd').read() else 0",
    "mode of a file outside": "import os\ndef f(x):\n    os.chmod(OUTSIDE, 0)\n    return 0",
    "threads without number": "import threading, time\ndef f(x):\n    for _ in range(5000): threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
    "output from a thread": "import threading\ndef go():\n    while True: print('x' * 2**16, flush=True)\nthreading.Thread(target=go).start()\n" + RIGHT,
    # Files.
    "files without number": "def f(x):\n    for n in range(10**6): open(str(n), 'w').close()\n    return x * x",
    "sparse file": "def f(x):\n    with open('x', 'wb') as s:\n        s.seek(2**40); s.write(b'x')\n    return x * x",
    "full disk": "def f(x):\n    for n in range(1000):\n        with open(str(n), 'wb') as s: s.write(b'x' * (30 * 2**20))\n    return x * x",
    "deep folders": "import os\ndef f(x):\n    for _ in range(2000):\n        os.mkdir('d'); os.chdir('d')\n    return 0",
    "odd names": "import os\ndef f(x):\n    os.mkdir(b'\\xff\\xfe\\n'); open(b'\\xff\\xfe\\n/\\x80', 'w').close(); os.mkfifo('p'); os.symlink('/', 'l'); os.chmod(b'\\xff\\xfe\\n', 0)\n    return 0",
    "folder turned into a link": "import os\nhere = os.getcwd()\ndef f(x):\n    os.chmod(here, 0)\n    os.rmdir(here); os.symlink('/etc', here)\n    return x * x",
}  # fmt: skip

OWN = "from enum import Enum\nclass P:\n    def __init__(self, x): self.x = x\n    def __eq__(self, o): return isinstance(o, P) and self.x == o.x\n    def double(self): return 2 * self.x\nclass C(Enum):\n    A = 1\n    B = 2\n"
FORGED = "from enum import Enum\nclass P:\n    def __init__(self): self.x, self.double = 0, lambda: 4\n    def __eq__(self, o): return True\n    def double(self): return 4\nclass C(Enum):\n    A = 1\n    B = 2\n    def __eq__(self, o): return True\n    def __hash__(self): return hash('A')\nclass Q(P):\n    __hash__ = None\n"
PICKLE = "import pickle\nclass E:\n    def __reduce__(self): return ({what})\ndef f(x):\n    with open('a.pkl', 'wb') as s: pickle.dump(E(), s)\n    return 'a.pkl'"
LOADED = "import pickle\nwith open(f(2), 'rb') as s:\n    assert pickle.load(s) == 4"
# Against what tests share with the program: classes, mocks, files, the environment.
HOSTILE |= {
    "object equal to all of its class": (FORGED + "def f(x): return P()", OWN + "assert f(2) == P(2)"),
    "object equal to all, from the right": (FORGED + "def f(x): return P()", OWN + "assert P(2) == f(2)"),
    "method of its own": (FORGED + "def f(x): return P()", OWN + "assert f(2).double() == 4"),
    "derived class equal to all": (FORGED + "def f(x): return Q()", OWN + "assert f(2) == P(2) and f(2) in [P(2)]"),
    "member equal to all": (FORGED + "def f(x): return C.B", OWN + "assert f(2) == C.A or f(2) is C.A"),
    "member in a set": (FORGED + "def f(x): return {C.B}", OWN + "assert f(2) == {C.A}"),
    "class changed after the start": (FORGED + "def f(x):\n    global P\n    P = type('P', (int,), {'__eq__': lambda s, o: True, '__module__': 'solution'})\n    return P(0)", OWN + "assert f(2) == P(2)"),
    "frame in name only": ("class DataFrame:\n    shape, columns, index = (1, 1), ['a'], [0]\n    def __getattr__(self, n): return self\n    def __eq__(self, o): return True\nDataFrame.__module__ = 'pandas.core.frame'\ndef f(x): return DataFrame()", "import pandas as pd\nassert isinstance(f(2), pd.DataFrame)"),
    "answer put into the mock": ("import time\ndef f(x):\n    time.time.return_value = 9\n    return 9", "from unittest.mock import patch\nwith patch('time.time', return_value=4) as clock:\n    assert f(2) == clock.return_value"),
    "call hidden from the mock": ("import time\ndef f(x):\n    time.time()\n    time.time.reset_mock()\n    return 4", "from unittest.mock import patch\nwith patch('time.time') as clock:\n    assert f(2) == 4\nclock.assert_not_called()"),
    "environment of the tests": ("import os\ndef f(x):\n    os.environ['WANTED'] = '0'\n    return '0'", "import os\nos.environ['WANTED'] = '4'\nassert f(2) == os.environ['WANTED']"),
    "module beside the tests": ("def f(x):\n    open('wanted.py', 'w').write('VALUE = 0')\n    return 0", "import os\nf(1)\nimport wanted\nassert f(2) == wanted.VALUE"),
    "pickle that ends the tests": (PICKLE.format(what="__import__('os')._exit, (0,)"), LOADED),
    "pickle that computes": (PICKLE.format(what="eval, ('4',)"), LOADED),
    "pickle that patches": (PICKLE.format(what="setattr, (__import__('builtins'), 'open', None)"), LOADED),
    "reads the tests' folder": ("import os\ndef f(x):\n    for parent, _, names in os.walk('.'):\n        for name in names:\n            if 'assert' in open(os.path.join(parent, name)).read(): return 4\n    return 0", "import os, tempfile\nwith tempfile.NamedTemporaryFile() as s:\n    assert f(2) == 4"),
    "stops the judge of its user": ("import os, signal\ndef f(x):\n    for p in range(1, 33000):\n        if p != os.getpid():\n            try: os.kill(p, signal.SIGSTOP)\n            except OSError: continue\n            return 4\n    return 0", "import os, tempfile\nassert f(2) == 4"),
}  # fmt: skip


def descendants() -> list[int]:
    """List this process's descendants except warm processes and one judge each; an orphan would be a second child."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                command = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            parents[int(name)] = (int(stat[1]), b"sandbox.zygote" in command)
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


def program(item, outside, port):
    code, tests = item if isinstance(item, tuple) else (item, TESTS)
    for word, value in (
        ("OUTSIDE", repr(str(outside))),
        ("PORT", str(port)),
        ("CALLS", repr(calls_refused())),
    ):
        code = code.replace(word, value)
    return Program(code, tests, "f", 0.4, 256)


def calls_refused():
    """List system calls that no program may make, except those that would end it or block."""
    which = MACHINES.index(os.uname().machine) if os.uname().machine in MACHINES else None
    named = {**REFUSED, **REFUSED_LATER} if which is not None else {}
    return [pair[which] for pair in named.values() if pair[which] is not None]


def test_no_hostile_program_passes_or_leaves_anything(outside, listener, monkeypatch):
    monkeypatch.setenv("SANDBOX_SECRET", "SECRET")
    os.chmod(outside, 0o755)
    (outside / "secret").mkdir()
    (outside / "secret" / "file").write_text("SECRET")
    port, accepted = listener
    assert run_program(RIGHT, TESTS, entry_point="f").passed
    others = descendants()  # such as `multiprocessing`'s tracker from another test
    places = ("/tmp", "/dev/shm", "/var/tmp")
    before = {place: set(os.listdir(place)) for place in places if os.access(place, os.R_OK)}
    right = Program(RIGHT, TESTS, "f")
    checked = [each for item in HOSTILE.values() for each in (program(item, outside, port), right)]
    outcomes = run_programs(checked, workers=6)
    by_name = dict(zip(HOSTILE, outcomes[::2], strict=True))
    ended = {name: o for name, o in by_name.items() if o.status not in ("failed", "timeout", "crashed")}
    assert not ended
    assert max(len(outcome.detail) for outcome in outcomes) <= 2500
    assert not [(name, o) for name, o in zip(HOSTILE, outcomes[1::2], strict=True) if not o.passed]
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert os.stat(outside).st_mode & 0o777 == 0o755
    assert not accepted
    assert [pid for pid in descendants() if pid not in others] == []
    new = {name for place, names in before.items() for name in set(os.listdir(place)) - names}
    assert not {name for name in new if "evil" in name or "conftest" in name}
    for name in ("infinite loop", "swallowing loop", "cancelled alarm", "endless thread", "stops itself",
                 "endless daemon thread", "patched clock", "message that never ends"):  # fmt: skip
        assert by_name[name].status == "timeout", (name, by_name[name])
    for name in ("segfault", "abort", "kills itself"):
        assert by_name[name].status == "crashed", (name, by_name[name])
