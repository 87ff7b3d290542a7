"""Precision and recall of the checker on planted names, and its rules one by one."""

import math
import random

import networkx as nx
import pytest

from helpers.code.names.checker import invented_names
from helpers.code.names.context import NameContext
from helpers.code.names.mentions import documented_parameters
from helpers.code.names.modules import is_installed
from helpers.records import Function

SOURCE = '''def degree_sum(G, weight=None):
    """Return the sum of degrees.

    Raises
    ------
    NetworkXError
        If `G` is empty.
    """
    total = 0
    for node, value in G.degree(weight=weight):
        total += value
    return total
'''


def function(source: str, name: str, module: str = "networkx.classes.function") -> Function:
    return Function(
        id=f"x::{name}", path="x.py", module=module, qualname=name, name=name, source=source, code=source,
        docstring="", doctests=0, parameters=(), start_line=1, end_line=9, is_method=False, is_nested=False,
        is_async=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def context() -> NameContext:
    whole = NameContext.from_functions([function(SOURCE, "degree_sum")], "networkx", installed=True)
    return whole.about(SOURCE)


def fenced(code: str) -> str:
    return f"Sure.\n```python\n{code}\n```\nDone."


def planted(seed: int) -> list[tuple[str, bool]]:
    """Return 150 answers with and 150 without an invented name, each with its label; fakes alter real names."""
    rng = random.Random(f"{seed}:planted names")
    graph_names = sorted(n for n in dir(nx.DiGraph()) if not n.startswith("_"))
    nx_names = sorted(n for n in vars(nx) if n.islower() and callable(getattr(nx, n)) and len(n) > 5)
    math_names = sorted(n for n in dir(math) if not n.startswith("_"))
    every = {*graph_names, *nx_names, *math_names, *dir(str), *dir(list), *dir(dict), *dir(set)}

    def fake(name: str, taken: set[str] = every) -> str:
        while True:
            head, _, tail = name.rpartition("_")
            other = rng.choice(
                [f"{name}_fast", f"get_{name}_all", f"{head or name}_by_{tail or 'node'}", f"{name}ify"]
            )
            if other not in taken and not hasattr(nx, other) and not hasattr(math, other):
                return other

    shapes = [
        lambda n, real: (fenced(f"import networkx as nx\ndef f(G):\n    return nx.{n(nx_names)}(G)"), real),
        lambda n, real: (fenced(f"import networkx as graphs\nx = graphs.{n(nx_names)}"), real),
        lambda n, real: (fenced(f"from networkx import {n(nx_names)} as go\ngo(1)"), real),
        lambda n, real: (fenced(f"def degree_sum(G, weight=None):\n    return G.{n(graph_names)}"), real),
        lambda n, real: (fenced(f"import networkx as nx\nH = nx.Graph()\nH.{n(graph_names)}"), real),
        lambda n, real: (fenced(f"import math\nprint(math.{n(math_names)})"), real),
        lambda n, real: (fenced(f"import math as m\ny = [m.{n(math_names)} for _ in range(3)]"), real),
        lambda n, real: (fenced(f"x = []\nx.{n(['append', 'extend', 'insert', 'remove', 'reverse'])}(1)"), real),
        lambda n, real: (fenced(f"s = 'a'.{n(['upper', 'lower', 'strip', 'casefold', 'title'])}()"), real),
        lambda n, real: (fenced(f"def f(a):\n    return {n(['sorted', 'enumerate', 'reversed', 'isinstance'])}(a)"), real),
        lambda n, real: (f"The function calls `nx.{n(nx_names)}` on the graph.", real),
        lambda n, real: (f"It uses `G.{n(graph_names)}()` to walk over the graph.", real),
        lambda n, real: (f"The parameter `{n(['G', 'weight'])}` is passed on.", real),
        lambda n, real: (fenced(f"try:\n    f = 1\nexcept {n(['ValueError', 'KeyError', 'TypeError'])}:\n    pass"), real),
        lambda n, real: (f"It raises {n(['NetworkXError', 'ValueError', 'KeyError']).replace('_', '')}XError when empty."
                         if not real else "It raises NetworkXError when empty.", real),
    ]  # fmt: skip
    items = []
    for number in range(300):
        real = number % 2 == 0
        shape = shapes[(number // 2) % len(shapes)]
        items.append(
            shape(lambda names, real=real: rng.choice(names) if real else fake(rng.choice(names)), real)
        )
    dynamic = [
        "class Box:\n    def __init__(self):\n        self.payload_x = 1\n    def read_x(self):\n        return self.payload_x",
        "def outer(a):\n    def helper_zq(b):\n        return b\n    return helper_zq(a)",
        "frobs = [1]\nfor frob_q in frobs:\n    print(frob_q)",
        "setattr_me = type('T', (), {'qqq': 1})()\nprint(setattr_me.qqq)\nsetattr_me.qqq = 2",
        "from collections import namedtuple\nP = namedtuple('P', 'left_q')\np = P(1)\np.left_q = 2",
        "import os.path as osp\nosp.join('a', 'b')",
        "def g(**options_q):\n    return options_q\ng(anything_q=1)",
        "square_q = lambda x_q: x_q ** 2\nsquare_q(2)",
        "try:\n    pass\nexcept Exception as exc_q:\n    print(exc_q.args)",
        "[y_q for y_q in range(3) if (z_q := y_q)]",
    ]
    return items + [(fenced(code), True) for code in dynamic]


@pytest.mark.parametrize("seed", [0, 1])
def test_precision_and_recall_on_planted_names(context, seed):
    items = planted(seed)
    assert sum(real for _, real in items) >= 150
    assert sum(not real for _, real in items) >= 150
    flagged = [(bool(invented_names(text, context=context)), real, text) for text, real in items]
    hits = sum(found and not real for found, real, _ in flagged)
    false_alarms = [text for found, real, text in flagged if found and real]
    missed = [text for found, real, text in flagged if not found and not real]
    assert hits / (hits + len(false_alarms)) >= 0.95, false_alarms[:5]
    assert hits / (hits + len(missed)) >= 0.95, missed[:5]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import networkx as nx\nnx.shortest_path(G, source=1, target=2)", ()),
        ("import networkx as nx\nnx.shortest_path(G, origin=1)", ("nx.shortest_path(origin=)",)),
        ("sorted([1], order=2)", ("sorted(order=)",)),
        ("import numpyy", ("numpyy",)),
        ("from networkx.utils import pairwise, pairwisely", ("networkx.utils.pairwisely",)),
        ("def f(x):\n    return y_undefined + x", ("y_undefined",)),
        ("def f(x):\n    return helper(x)\ndef helper(x):\n    return x", ()),
        ("def f(a):\n    raise GraphBrokenError", ("GraphBrokenError",)),
        ("x = {}\nx.push(1)", ("x.push",)),
        ("def f(x):\n    x = x or []\n    return x.anything_goes_qq", ("x.anything_goes_qq",)),
        ("class A:\n    def go(self):\n        self.zork = 1\n        return self.zork", ()),
        (
            'def f(a):\n    """Do.\n\n    Parameters\n    ----------\n    b : int\n        No.\n    """',
            ("parameter b",),
        ),
        ("import numpy as np\nnp.linalg.norm(1)\nnp.linalg.normal(1)", ("np.linalg.normal",)),
        ("math.sqrt(2)", ()),
    ],
)
def test_code_rules(context, code, expected):
    assert invented_names(fenced(code), context=context) == expected


@pytest.mark.parametrize(
    ("prose", "expected"),
    [
        ("Returns `total`, a sum over `G.degree`.", ()),
        ("Set the `depth` argument to 3.", ("parameter depth",)),
        ("It calls compute_all_paths() first.", ("compute_all_paths",)),
        ("Raises `GraphIsEmptyError`.", ("GraphIsEmptyError",)),
        ("Uses `collections.Counter` and `collections.Countr`.", ("collections.Countr",)),
        ("The result is `None` or `True`, see `x + 1`.", ()),
        ("", ()),
    ],
)
def test_prose_rules(context, prose, expected):
    assert invented_names(prose, context=context) == expected


def test_a_line_of_the_code_that_the_prose_quotes_is_judged_where_it_stands(context):
    """A `graph` that the prose speaks of is a graph of the code base; here it is a variable."""

    def invented(line: str, quoted: str) -> tuple[str, ...]:
        code = f"def f(x):\n    graph = {{}}\n    {line}\n"
        return invented_names(f"The line must be `{quoted}`.\n\n{fenced(code)}", context=context)

    right, wrong = "return graph.setdefault(x, [])", "return graph.set_default_of(x, [])"
    assert invented(right, right) == ()
    assert invented(right, "return graph.setdefault(x)") == ("graph.setdefault",)
    assert invented(wrong, wrong) == ("graph.set_default_of",)
    assert invented(f'return """\n    {wrong}\n    """', wrong) == ("graph.set_default_of",)  # text, not code


def test_documented_parameters_in_three_styles():
    assert documented_parameters(
        "X.\n\nParameters\n----------\na, b : int\n    Two.\n*args\n    More.\n"
    ) == ["a", "b", "args"]
    assert documented_parameters("X.\n\nArgs:\n    a (int): one.\n        note: more\n    b: two.\n") == [
        "a",
        "b",
    ]
    assert documented_parameters("X.\n\n:param int a: one\n:param b: two\n") == ["a", "b"]


def test_real_functions_of_the_code_base_are_clean():
    import inspect

    names = ["shortest_path", "bfs_edges", "pagerank", "density", "is_bipartite", "core_number", "triangles"]
    sources = [
        inspect.getsource(
            getattr(nx, n).orig_func if hasattr(getattr(nx, n), "orig_func") else getattr(nx, n)
        )
        for n in names
    ]
    functions = [function(source, name) for name, source in zip(names, sources, strict=True)]
    context = NameContext.from_functions(functions, "networkx", installed=True)
    for source in sources:
        assert invented_names(fenced(source), context=context.about(source)) == ()


def test_code_that_parses_but_has_no_scopes_does_not_crash():
    """An answer may have duplicate arguments, which `ast.parse` accepts and `symtable` rejects."""
    context = NameContext.from_functions((), "")
    assert invented_names("def f(style, style):\n    return style\n", context=context) == ()


@pytest.mark.parametrize("package", ["networkx", "json", "babel", "no_such_package"])
def test_a_module_name_too_long_for_a_file_is_invented(context, package):
    name = f"{package}.{'random_uniform_' * 60}"
    assert not is_installed(name)
    found = invented_names(f"```python\nfrom {name} import f\n```", context=context)
    assert found
