"""The sandbox with honest programs: correct ones pass, whatever they use; wrong ones fail with a reason."""

import pytest

from helpers.sandbox.api import Program, run_program, run_programs

RIGHT = "def f(x):\n    return x * x\n"

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
    "vectors": ("class Vector:\n    def __init__(self, x, y): self.x, self.y = x, y\n    def __add__(self, o): return Vector(self.x + o.x, self.y + o.y)\n    def __mul__(self, k): return Vector(self.x * k, self.y * k)\n    __rmul__ = __mul__\n    def __eq__(self, o): return isinstance(o, Vector) and (self.x, self.y) == (o.x, o.y)\n    def __abs__(self): return (self.x ** 2 + self.y ** 2) ** .5\n    def __repr__(self): return f'Vector({self.x}, {self.y})'\n    def __lt__(self, o): return abs(self) < abs(o)", "v = Vector(3, 4)\nassert v + Vector(1, 1) == Vector(4, 5) and v * 2 == Vector(6, 8) == 2 * v\nassert abs(v) == 5.0 and repr(v) == 'Vector(3, 4)' and f'{v}' == 'Vector(3, 4)'\nassert sorted([v, Vector(1, 0)])[0].x == 1 and Vector(0, 1) < v and (v * 2).y == 8", "Vector"),
    "slots": ("class P:\n    __slots__ = ('x',)\n    def __init__(self, x): self.x = x\n    def __eq__(self, o): return self.x == o.x\n    def __hash__(self): return hash(self.x)\ndef f(x): return P(x)", "assert f(1) == P(1) and f(1) != P(2) and len({f(1), P(1), P(2)}) == 2"),
    "inheritance": ("class Animal:\n    def speak(self): return '...'\nclass Dog(Animal):\n    def speak(self): return 'wow'\ndef f(): return Dog()", "assert isinstance(f(), Animal) and isinstance(f(), Dog) and issubclass(Dog, Animal)\nassert not isinstance(3, Dog) and f().speak() == 'wow'"),
    "container": ("class Trie:\n    def __init__(self): self.words = set()\n    def insert(self, w): self.words.add(w)\n    def __contains__(self, w): return w in self.words", "t = Trie()\nt.insert('abc')\nassert 'abc' in t and 'ab' not in t", "Trie"),
    "context manager": ("class Log:\n    def __init__(self): self.seen = []\n    def __enter__(self): self.seen.append('in'); return self\n    def __exit__(self, kind, error, trace): self.seen.append(kind and kind.__name__); return kind is ValueError", "log = Log()\nwith log as inner:\n    assert inner is log\n    raise ValueError(3)\nassert log.seen == ['in', 'ValueError']\ntry:\n    with log: raise KeyError(1)\nexcept KeyError: pass\nelse: assert False", "Log"),
    "enum": ("from enum import Enum, IntEnum\nclass Color(Enum):\n    RED = 1\n    BLUE = 2\nclass Level(IntEnum):\n    LOW = 1\n    HIGH = 5\ndef f(n): return Color(n)\ndef g(n): return Level(n)", "assert f(1) == Color.RED and f(2) is not Color.RED and f(2).name == 'BLUE'\nassert g(5) == 5 and g(1) == Level.LOW and g(1) < g(5) and g(5) > 4 and g(1) + 1 == 2"),
    "subclasses of built-in types": ("class Stack(list):\n    def push(self, x): self.append(x)\nclass Name(str): pass\ndef f(): return Stack([1])\ndef g(): return Name('ab')", "s = f()\ns.push(2)\nassert s == [1, 2] and len(s) == 2 and s[-1] == 2 and list(s) == [1, 2]\nassert g() == 'ab' and g().upper() == 'AB' and 'a' in g()"),
    "default dict": ("from collections import defaultdict\ndef f(words):\n    d = defaultdict(list)\n    for w in words: d[len(w)].append(w)\n    return d", "d = f(['a', 'b', 'cc'])\nassert d == {1: ['a', 'b'], 2: ['cc']} and d[9] == []"),
    "abstract and property": ("from abc import ABC, abstractmethod\nclass Shape(ABC):\n    @property\n    @abstractmethod\n    def area(self): ...\nclass Square(Shape):\n    def __init__(self, a): self.a = a\n    @property\n    def area(self): return self.a ** 2\n    @classmethod\n    def unit(cls): return cls(1)\n    @staticmethod\n    def name(): return 'square'", "assert Square(3).area == 9 and Square.unit().area == 1 and Square.name() == 'square'\ntry:\n    Shape()\nexcept TypeError: pass\nelse: assert False", "Square"),
    "decorator": ("import functools\ndef f(func):\n    @functools.wraps(func)\n    def inner(*a, **k): return func(*a, **k) + 1\n    return inner", "@f\ndef g(x, y=2): return x * y\nassert g(3) == 7 and g(3, y=5) == 16 and f(len)('ab') == 3"),
    "cached": ("import functools\n@functools.lru_cache(None)\ndef f(n): return n if n < 2 else f(n - 1) + f(n - 2)", "assert f(90) == 2880067194370816120 and f.cache_info().hits > 0"),
    "send to a generator": ("def f():\n    total = 0\n    while True:\n        x = yield total\n        if x is None: return\n        total += x", "g = f()\nnext(g)\nassert g.send(3) == 3 and g.send(4) == 7\ng.close()"),
    "coroutine": ("import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x + 1", "import asyncio\nassert asyncio.run(f(1)) == 2\nasync def main(): return await f(2)\nassert asyncio.run(main()) == 3"),
    "regular expression": ("import re\ndef f(s): return re.compile(r'(\\d+)-(\\d+)').search(s)", "m = f('a 12-34 b')\nassert m and m.groups() == ('12', '34') and m.group(1) == '12' and m.span() == (2, 7)\nassert f('x') is None"),
    "error attributes": ("class Bad(Exception):\n    def __init__(self, code, text):\n        super().__init__(text)\n        self.code = code\ndef f(n): raise Bad(n, 'no')", "try:\n    f(7)\nexcept Bad as e:\n    assert e.code == 7 and str(e) == 'no'\nelse: assert False"),
    "library errors": ("import json\ndef f(s): return json.loads(s)\ndef g(p): return open(p)", "import json\ntry:\n    f('{')\nexcept json.JSONDecodeError as e:\n    assert e.pos == 1\nelse: assert False\ntry:\n    g('nothing')\nexcept FileNotFoundError as e:\n    assert e.errno == 2\nelse: assert False\ntry:\n    f(3)\n    assert False\nexcept TypeError: pass"),
    "cause of an error": ("def f():\n    try: {}['a']\n    except KeyError as e: raise ValueError('v') from e\ndef g():\n    e = ValueError(1)\n    e.__cause__ = e\n    e.add_note('n')\n    raise e", "try:\n    f()\n    assert False\nexcept ValueError as e: assert isinstance(e.__cause__, KeyError) and e.__cause__.args == ('a',)\ntry:\n    g()\n    assert False\nexcept ValueError as e: assert e.args == (1,) and e.__notes__ == ['n']"),
    "what built-in errors name": ("def f(p): return open(p)\ndef g(m): return __import__(m)\ndef h(x): return x.zz", "try:\n    f('/nothing/x')\n    assert False\nexcept OSError as e: assert e.filename == '/nothing/x' and 'x' in str(e)\ntry:\n    g('nothing_here')\n    assert False\nexcept ImportError as e: assert e.name == 'nothing_here'\ntry:\n    h(1)\n    assert False\nexcept AttributeError as e: assert e.name == 'zz'"),
    "error expected by pytest": ("def f(x):\n    if x < 0: raise ValueError('negative number')\n    return x", "import pytest\ndef test_it():\n    with pytest.raises(ValueError, match='negative'): f(-1)\n    assert f(1) == pytest.approx(1.0)"),
    "arrays": ("import numpy as np\ndef f(a):\n    a = np.asarray(a, float)\n    return a.mean(axis=0), (a > 1).any(), np.float32(.5), a.T", "import numpy as np\nm, any_, h, t = f([[1, 2], [3, 4]])\nassert np.allclose(m, [2, 3]) and any_ and isinstance(h, np.float32) and t.shape == (2, 2) and (t == np.array([[1, 3], [2, 4]])).all()"),
    "array changed in place": ("import numpy as np\ndef f(a):\n    a *= 2\n    a[0] = -1", "import numpy as np\na = np.arange(3)\nassert f(a) is None and a.tolist() == [-1, 2, 4]"),
    "digraph": ("import networkx as nx\ndef f(edges):\n    g = nx.DiGraph(edges, name='g')\n    g.nodes[1]['color'] = 'red'\n    return g\ndef h(g): return list(nx.topological_sort(g)), g.degree(), nx.to_numpy_array(g)", "import networkx as nx\ng = f([(1, 2), (2, 3)])\nassert nx.utils.graphs_equal(g, g.copy()) and nx.is_isomorphic(g, nx.path_graph(3, create_using=nx.DiGraph)) and g.nodes[1] == {'color': 'red'} and g.graph == {'name': 'g'}\norder, degree, matrix = h(g)\nassert order == [1, 2, 3] and dict(degree) == {1: 1, 2: 2, 3: 1} and matrix.sum() == 2"),
    "reading its own writing": ("import os, csv, json, sqlite3, zipfile, shutil, pathlib\ndef f():\n    with open('a.csv', 'w', newline='') as s: csv.writer(s).writerows([[1, 2]])\n    shutil.copy2('a.csv', 'b.csv')\n    pathlib.Path('d/e').mkdir(parents=True)\n    os.rename('b.csv', 'd/e/c.csv')\n    db = sqlite3.connect('x.db'); db.execute('create table t(a)'); db.execute('insert into t values (5)'); db.commit()\n    with zipfile.ZipFile('z.zip', 'w') as z: z.write('a.csv')\n    return sorted(os.listdir('.')), pathlib.Path('d/e/c.csv').read_bytes(), db.execute('select a from t').fetchall()", "assert f() == (['a.csv', 'd', 'x.db', 'z.zip'], b'1,2\\r\\n', [(5,)])"),
    "thread pool": ("from concurrent.futures import ThreadPoolExecutor\ndef f(xs):\n    with ThreadPoolExecutor(4) as pool: return list(pool.map(lambda x: x * x, xs))", "assert f(range(5)) == [0, 1, 4, 9, 16]"),
    "a library's own threads": ("def f(x):\n    import pyarrow  # keeps a thread of its allocator for as long as the process lives\n    return x", "assert f(1) == 1"),
    "locks and queues": ("import threading, queue\ndef f(n):\n    q, out = queue.Queue(), []\n    def work():\n        while (x := q.get()) is not None: out.append(x)\n    t = threading.Thread(target=work); t.start()\n    for i in [*range(n), None]: q.put(i)\n    t.join(); return out", "assert f(3) == [0, 1, 2]"),
    "no standard input": ("def f(): return sum(map(int, input().split()))", "try:\n    f()\nexcept EOFError: pass\nelse: assert False"),
    "deep recursion": ("import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)", "assert f(5000) == 5000"),
    "closures of the tests": ("def f(fs, x):\n    for g in fs: x = g(x)\n    return x", "k = 3\nassert f([lambda x: x + k, str, len], 9) == 2"),
    "helper functions in the tests": ("def f(n): return [d for d in range(1, n + 1) if n % d == 0]", "import random\ndef naive(n):\n    return [d for d in range(1, n + 1) if n % d == 0]\ndef test_many():\n    rng = random.Random(3)\n    for _ in range(40):\n        n = rng.randint(1, 200)\n        assert f(n) == naive(n)"),
    "checked by the program's own inverse": ("def encode(s): return ''.join(chr((ord(c) - 97 + 5) % 26 + 97) for c in s)\ndef f(s): return ''.join(chr((ord(c) - 97 - 5) % 26 + 97) for c in s)", "from random import choice\nimport string\ndef check(candidate):\n    for _ in range(20):\n        s = ''.join(choice(string.ascii_lowercase) for _ in range(10))\n        assert candidate(encode(s)) == s"),
    "pairs": ("class Pair(object):\n    def __init__(self, a, b):\n        self.a = a\n        self.b = b\ndef f(arr, n):\n    return max((p.b - p.a for p in arr[:n]), default=0)", "assert f([Pair(5, 24), Pair(15, 25), Pair(27, 40)], 3) == 19"),
    "future annotations": ("from __future__ import annotations\nfrom typing import Optional\ndef f(x: Optional[Undefined]) -> list[int]: return [x]", "assert f(1) == [1] and f.__annotations__['return'] == 'list[int]'"),
    "docstring and name": ("def f(x):\n    'Gives x.'\n    return x", "assert f.__doc__ == 'Gives x.' and f.__name__ == 'f' and f(1) == 1"),
    "doctest of its own": ("import doctest\ndef f(x):\n    '''\n    >>> f(2)\n    4\n    '''\n    return x * x\ndef run():\n    import sys\n    return doctest.testmod(sys.modules[f.__module__]).failed", "assert f(3) == 9 and run() == 0"),
    "unicode": ("def f(s): return s[::-1], {'ключ': 'значение'}, '\\ud800', 'ß'.upper(), b'\\xff'", "assert f('añ😀') == ('😀ña', {'ключ': 'значение'}, '\\ud800', 'SS', b'\\xff')"),
    "large answer": ("def f(n): return list(range(n))", "assert f(200_000) == list(range(200_000))"),
    "randomness with a seed": ("import random\ndef f(seed):\n    random.seed(seed)\n    return [random.randint(0, 9) for _ in range(5)]", "assert f(1) == f(1) and len(f(2)) == 5"),
    "copies": ("class Box:\n    def __init__(self, items): self.items = items\ndef f(items): return Box(items)", "import copy\na = f([[1]])\nb = copy.deepcopy(a)\nb.items[0].append(2)\nassert a.items == [[1]]"),
    "comparison of answers": ("def f(x): return x % 7", "assert f(9) == f(2) < f(3) and abs(f(9) - f(2)) < 1e-9"),
    "all a class can do": ("class Q:\n    def __init__(self): self.items = []\n    def __bool__(self): return bool(self.items)\n    def __iter__(self): return iter(self.items)\n    def __getitem__(self, i): return self.items[i]\n    def __setitem__(self, i, v): self.items[i] = v\n    def __delitem__(self, i): del self.items[i]\n    def __len__(self): return len(self.items)\n    def __call__(self, x): self.items.append(x); return self\n    def __int__(self): return len(self.items)\n    def __contains__(self, x): return x in self.items\n    def __reversed__(self): return reversed(self.items)", "q = Q()\nassert not q and len(q) == 0\nq(1)(2)\nassert q and q[0] == 1 and list(q) == [1, 2] and q[-1:] == [2] and int(q) == 2 and 2 in q and 3 not in q\nq[0] = 5\nassert [x for x in q] == [5, 2] and max(q) == 5 and list(reversed(q)) == [2, 5]\ndel q[0]\nassert q.items == [2] and hasattr(q, 'items') and not hasattr(q, 'nothing')", "Q"),
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
