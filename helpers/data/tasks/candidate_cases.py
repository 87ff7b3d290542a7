"""Propose test cases for a function: its doctests as checks, and calls on generated arguments.

Nothing is run here. `doctest_cases` turns the examples of a docstring into set-up statements and
expressions with the output they promise. `generated_calls` writes calls from parameter names, defaults and
documented types (for graph parameters, small graphs of several shapes). `helpers.data.tasks.test_sets`
runs them against the reference and keeps those that hold.
"""

from __future__ import annotations

import ast
import doctest
import itertools
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from helpers.code.docstrings import DocstringFacts, read_docstring
from helpers.code.edits import SourceText
from helpers.data.tasks.generated_tests import asserts_about
from helpers.data.tasks.suite_rewriting import stored_names
from helpers.records import Function

GRAPHS = (
    "nx.path_graph(4)",
    "nx.cycle_graph(5)",
    "nx.complete_graph(4)",
    "nx.Graph([(0, 1), (1, 2), (2, 0), (2, 3), (3, 4)])",
    "nx.DiGraph([(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)])",
    "nx.DiGraph([(0, 1), (1, 2), (2, 0), (2, 3)])",
    "nx.star_graph(3)",
    "nx.Graph([(0, 1, {'weight': 4}), (1, 2, {'weight': 1}), (0, 2, {'weight': 7}), (2, 3, {'weight': 2})])",
    "nx.Graph([(0, 1), (2, 3), (3, 4), (2, 4)])",
    "nx.MultiGraph([(0, 1), (0, 1), (1, 2)])",
    "nx.balanced_tree(2, 2)",
    "nx.empty_graph(3)",
    "nx.Graph([(0, 0), (0, 1), (1, 2)])",
)
# (parameter names, words of a documented type, argument expressions); the first match decides.
POOLS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (r"G\d?|H|F|T|D|B|R|graph|tree|G_\w+", r"graph|digraph|tree", GRAPHS),
    (r"seed|random_state", r"random_state", ("1",)),
    (r"source|s|u|v|node|node1|root|start|n0|x", r"\bnode\b", ("0", "1", "2")),
    (r"target|t|w|node2|end|sink|y", r"\bnode\b", ("3", "2", "1")),
    (r"path|cycle|walk", r"", ("[0, 1, 2]", "[0, 2, 3]", "[0, 1]")),
    (r"nodes|nbunch|S|sources|targets|terminal_nodes|nodelist|group|seeds|M|I", r"nodes|container",
     ("[0, 1]", "{1, 2}", "[0, 1, 2]")),
    (r"communities|partition|blocks", r"", ("[{0, 1}, {2, 3}]", "[{0}, {1, 2, 3}]")),
    (r"edges|ebunch|pairs|edgelist|matching", r"edges|pairs",
     ("[(0, 1), (1, 2)]", "[(0, 2)]", "[(0, 3), (1, 3)]")),
    (r"\w*sequence|\w*seq|deg\w*", r"sequence", ("[2, 2, 2]", "[3, 1, 1, 1]", "[3, 3, 1]", "[2, 2, 1, 1]")),
    (r"mapping|labels?|colou?rs?|pos|weights", r"dict",
     ("{0: 1, 1: 2, 2: 0, 3: 3}", "{0: 0, 1: 0, 2: 1, 3: 1}")),
    (r"attr\w*|weight|name|key|data|capacity", r"", ("'weight'",)),
    (r"p|q|alpha|beta|prob\w*|tol|scale|resolution|theta|gamma", r"float|number|probability",
     ("0.5", "0.25", "1.0")),
    (r"n|k|m|d|r|N|K|l|i|j|h|n1|n2|m1|m2|dim|depth|length|radius|cutoff|order|size|\w*limit",
     r"int\b|integer", ("3", "2", "4", "1", "5")),
    (r"string|text|line|word|s1|s2", r"str\b|string", ("'a b'", "'Hello, world'", "''")),
    (r"lines", r"", ("['0 1', '1 2', '2 3']",)),
    (r"\w*list|items|values|iterable|xs|elements|data|array", r"list|iterable|tuple",
     ("[3, 1, 2]", "[1, 1, 4, 2]", "['b', 'a']", "[]")),
)  # fmt: skip
ANYTHING = ("3", "[3, 1, 2]", "'a b'", "{'a': 1, 'b': 2}", "[(0, 1), (1, 2)]", "0.5")


@dataclass(frozen=True)
class DoctestCases:
    """The examples of one docstring, split into set-up and checks."""

    setup: str  # all statements as one block; "" where there are none
    checks: tuple[tuple[str, str, int], ...]  # (expression, promised output, doctest option flags)


def doctest_cases(function: Function) -> DoctestCases:
    """Return the examples of the docstring, with calls through a module (`nx.f(G)`) as plain `f(G)`.

    Examples that promise an exception, or print from a statement, are left out: their outcome is not the
    value of an expression. So are those that neither call the function nor look at anything it made.
    """
    setup: list[str] = []
    checks: list[tuple[str, str, int]] = []
    objects: set[str] = set()  # names of values, not of modules

    def is_module(name: str) -> bool:
        return name not in objects

    try:
        examples = doctest.DocTestParser().get_examples(function.docstring)
    except ValueError:
        return DoctestCases("", ())
    for example in examples:
        if example.exc_msg is not None or doctest.SKIP in example.options:
            continue
        try:
            tree = ast.parse(example.source)
        except SyntaxError:
            continue
        objects |= stored_names(tree)
        tree = Unqualify(function.name, is_module).visit(tree)
        text = ast.unparse(ast.fix_missing_locations(tree))
        is_expression = len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr)
        if not example.want:
            setup.append(text)
        elif is_expression and not text.startswith(("print(", "pprint(")) and _about(text, setup, function):
            flags = sum(flag for flag, on in example.options.items() if on)
            checks.append((text, example.want, flags))
    return DoctestCases("\n".join(setup), tuple(checks))


def _about(check: str, setup: Sequence[str], function: Function) -> bool:
    """Return whether a doctest's expression shows what `function` did, after the statements `setup`."""
    before = "\n".join(setup)
    changed_in_place = any(
        isinstance(part, ast.Name) and part.id == function.name
        for node in ast.parse(before).body
        if isinstance(node, ast.Expr)
        for part in ast.walk(node)
    )
    return changed_in_place or asserts_about(f"{before}\nassert {check}", function.name) > 0


def generated_calls(function: Function, *, limit: int, seed: int) -> tuple[str, ...]:
    """Return up to `limit` seeded call expressions of `function`; each possible first argument comes early.

    Optional parameters keep their defaults, except that some calls change one of them.
    """
    facts = read_docstring(function.docstring)
    signature = SourceText(function.source).function.args
    if signature.vararg is not None and not signature.args:
        return ()
    positional = [*signature.posonlyargs, *signature.args]
    split = len(positional) - len(signature.defaults)
    required = [argument.arg for argument in positional[:split]]
    optional = list(zip((a.arg for a in positional[split:]), signature.defaults, strict=True))
    keyword_only = [(a.arg, d) for a, d in zip(signature.kwonlyargs, signature.kw_defaults, strict=True)]
    optional += [(name, default) for name, default in keyword_only if default is not None]
    pools = [_pool(name, facts) for name in required]
    keywords = [f"{name}={_pool(name, facts)[0]}" for name, default in keyword_only if default is None]
    keywords += [f"{name}=1" for name, _ in optional if name == "seed"]
    variants = [""] + [text for name, default in optional for text in _variants(name, default, facts)]
    rng = random.Random(f"{seed}:calls:{function.id}")
    calls: dict[str, None] = {}
    for index, combination in enumerate(_combinations(pools, rng, limit)):
        chosen = variants if index < 3 else [variants[index % len(variants)]]
        for variant in chosen:
            arguments = [*combination, *keywords, *([variant] if variant else [])]
            calls.setdefault(f"{function.name}({', '.join(arguments)})")
    return tuple(itertools.islice(calls, limit))


def looks_testable(function: Function) -> bool:
    """Return whether tests are likely to be found: doctests, or only arguments that can be guessed."""
    if function.doctests:
        return True
    facts = read_docstring(function.docstring)
    signature = SourceText(function.source).function.args
    positional = [*signature.posonlyargs, *signature.args]
    required = positional[: len(positional) - len(signature.defaults)]
    return all(_pool(argument.arg, facts) is not ANYTHING for argument in required)


def _combinations(pools: list[tuple[str, ...]], rng: random.Random, limit: int) -> list[tuple[str, ...]]:
    """Return distinct combinations: each value of each pool at least once, then random ones."""
    if not pools:
        return [()]
    rows: dict[tuple[str, ...], None] = {}
    for turn in range(max(map(len, pools))):
        rows.setdefault(tuple(pool[(turn + place) % len(pool)] for place, pool in enumerate(pools)))
    for _ in range(3 * limit):
        if len(rows) >= limit:
            break
        rows.setdefault(tuple(rng.choice(pool) for pool in pools))
    return list(rows)


def _pool(name: str, facts: DocstringFacts) -> tuple[str, ...]:
    documented = next((item.type.lower() for item in facts.parameters if item.name == name), "")
    by_name = (row for row in POOLS if re.fullmatch(row[0], name))
    _, typical, pool = next(by_name, ("", "any", ANYTHING))
    if not typical or not documented:  # a row without types: its names tell more than documentation
        return pool
    return next((other for _, types, other in POOLS if types and re.search(types, documented)), pool)


def _variants(name: str, default: ast.expr, facts: DocstringFacts) -> list[str]:
    if not isinstance(default, ast.Constant) or name == "seed":
        return []
    if isinstance(default.value, bool):
        return [f"{name}={not default.value}"]
    if isinstance(default.value, int):
        return [f"{name}={default.value + 1}"]
    if default.value is None:
        pool = _pool(name, facts)
        return [f"{name}={pool[0]}"] if pool is not ANYTHING and pool is not GRAPHS else []
    return []


class Unqualify(ast.NodeTransformer):
    """Turn `module.sub.name` into `name`, so that the candidate is called and not the original.

    Attributes of values (`G.degree` in the doctest of a function `degree`) stay: `is_module` tells whether
    a name at the head of a chain stands for a module.
    """

    def __init__(self, name: str, is_module: Callable[[str], bool]) -> None:
        self.name, self.is_module = name, is_module

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Return the bare name for a chain that ends in it, else the node."""
        self.generic_visit(node)
        root = node.value
        while isinstance(root, ast.Attribute):
            root = root.value
        if node.attr == self.name and isinstance(root, ast.Name) and self.is_module(root.id):
            return ast.copy_location(ast.Name(self.name, node.ctx), node)
        return node
