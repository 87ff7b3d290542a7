"""Measure the precision and recall of the hallucination checker on planted names.

Half of the items name something that exists, half something that does not. Real names come from the
corpus's own functions, the standard library and the source of installed packages. Fakes are plausible
corruptions of real names: singular for plural, a synonym, another case, a word added, dropped or moved, a
letter lost, or an attribute of another class. That a fake does not exist is looked up in the text or the
object itself, never asked of the checker. Families:

    bodies       functions of the corpus with one name in the body replaced; the checker sees only the
                 signature
    docstrings   docstrings in three styles with one documented parameter replaced
    libraries    imports of all forms from standard and installed modules
    keywords     keyword arguments of functions of the corpus and of standard modules
    receivers    attributes of objects whose class the code shows
    locals       names bound in the answer itself, in every way that Python binds names
    prose        names in sentences, with and without backticks
    by hand      hard cases that no rule above produces (`templates.CASES`)

An item is flagged if the checker finds any invented name in it. Precision is the share of flagged items
that are fakes; recall is the share of fakes that are flagged. The run's seed draws the items; the checker's
rules were written while looking at other seeds.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import random
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from helpers.code.names.checker import invented_names
from helpers.code.names.context import NameContext
from helpers.code.names.lookup import import_module
from helpers.code.python_text import parse
from helpers.eval.planted.name_sources import (
    STANDARD,
    WORD,
    corrupted,
    is_usable,
    package_modules,
    receiver_kinds,
    signature,
    variable_like,
    vocabulary,
)
from helpers.eval.planted.templates import BINDINGS, CASES, SENTENCES
from helpers.eval.statistics import Estimate, proportion
from helpers.lines import bare_lines
from helpers.records import Function

PER_FAMILY = 20  # real names, and as many fakes


OF_CORPUS = ("bodies", "docstrings", "keywords", "prose")  # families that need a function to plant in


@dataclass(frozen=True)
class Planted:
    """An answer with one planted name; `about` is the source that the task shows."""

    family: str
    answer: str
    about: str
    name: str
    real: bool


@dataclass(frozen=True)
class CheckedName:
    """The checker's verdict on one planted name."""

    family: str
    name: str
    real: bool
    flagged: bool
    answer: str


def check_planted(context: NameContext, functions: Sequence[Function], seed: int) -> list[CheckedName]:
    """Run the checker on names planted for this corpus and seed (about 2 s).

    Args:
        context: the context that answers are checked with.
        functions: functions of the corpus to plant names in.
    """
    checked = []
    for item in planted_names(functions, seed):
        seen = context.about(item.about) if item.about else context
        flagged = bool(invented_names(item.answer, context=seen))
        checked.append(CheckedName(item.family, item.name, item.real, flagged, item.answer))
    return checked


def precision_and_recall(checked: Sequence[CheckedName]) -> tuple[Estimate, Estimate]:
    """Return precision and recall with Wilson intervals.

    If nothing was flagged, precision is 0 of 0 with the interval (0, 1).

    Raises:
        ValueError: if there is no fake.
    """
    right = [not item.real for item in checked if item.flagged]
    precision = proportion(right) if right else Estimate(0.0, (0.0, 1.0), 0)
    return precision, proportion([item.flagged for item in checked if not item.real])


def planted_names(functions: Sequence[Function], seed: int) -> list[Planted]:
    """Generate all items, each once, in a fixed order; the same seed gives the same items."""
    usable = sorted((f for f in functions if is_usable(f)), key=lambda f: f.id)
    words = vocabulary(functions)
    families: dict[str, Callable[[random.Random], Planted | None]] = {
        "bodies": lambda rng: _body(usable, words, rng),
        "docstrings": lambda rng: _docstring(usable, rng),
        "libraries": _library,
        "keywords": lambda rng: _keyword(usable, rng),
        "receivers": _receiver,
        "locals": lambda rng: _local(words, rng),
        "prose": lambda rng: _sentence(usable, words, rng),
    }
    if not usable:
        families = {name: make for name, make in families.items() if name not in OF_CORPUS}
    items = [Planted("by hand", answer, "", name, real) for name, answer, real in CASES]
    for family, make in families.items():
        rng = random.Random(f"{seed}:planted:{family}")
        found: dict[tuple[str, bool], Planted] = {}
        for _ in range(60 * PER_FAMILY):
            item = make(rng)
            if item is not None and sum(i.real == item.real for i in found.values()) < PER_FAMILY:
                found.setdefault((item.answer, item.real), item)
            if len(found) == 2 * PER_FAMILY:
                break
        items += found.values()
    return items


# --- families ----------------------------------------------------------------------------------


def _body(usable: Sequence[Function], words: frozenset[str], rng: random.Random) -> Planted | None:
    function = rng.choice(usable)
    tree = parse(function.code)
    sites = sorted(set(_sites(tree.body[0]))) if tree else []
    if not sites:
        return None
    line, start, name = rng.choice(sites)
    about = signature(function.code)
    if rng.random() < 0.5:
        return Planted("bodies", function.code, about, name, True)
    other = corrupted(name, rng, words.__contains__)
    if other is None:
        return None
    lines = bare_lines(function.code)
    row = lines[line - 1].encode()  # syntax trees count bytes, and give names in the form NFKC
    if not row.startswith(name.encode(), start):
        return None
    lines[line - 1] = (row[:start] + other.encode() + row[start + len(name.encode()) :]).decode()
    code = "\n".join(lines) + "\n"
    return Planted("bodies", code, about, other, False) if parse(code) else None


def _sites(function: ast.stmt) -> Iterator[tuple[int, int, str]]:
    """Yield (line, column in bytes, name) of attributes, calls, exceptions and variables that are read."""
    for node in ast.walk(function):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Load(), end_lineno=int(line), end_col_offset=int(end)):
                if len(name) > 2 and not name.startswith("__"):
                    yield line, end - len(name.encode()), name
            case ast.Name(id=name, ctx=ast.Load(), lineno=line, col_offset=start) if len(name) > 2:
                yield line, start, name


def _docstring(usable: Sequence[Function], rng: random.Random) -> Planted | None:
    function = rng.choice(usable)
    tree = parse(function.code)
    node = tree.body[0] if tree else None
    if not isinstance(node, ast.FunctionDef) or node.args.kwarg or node.decorator_list:
        return None
    arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    told = [a.arg for a in arguments if a.arg not in ("self", "cls")]
    if not told:
        return None
    real = rng.random() < 0.5
    name = rng.choice(told)
    if not real:
        own = {n.lower() for n in told}
        other = corrupted(name, rng, lambda made: made.lower() in own) or f"{name}_list"
        told[told.index(name)] = name = other
    style = rng.choice(["numpy", "google", "sphinx"])
    described = {
        "numpy": "Parameters\n----------\n" + "\n".join(f"{n} : object\n    What is used." for n in told),
        "google": "Args:\n" + "\n".join(f"    {n}: What is used." for n in told),
        "sphinx": "\n".join(f":param {n}: What is used." for n in told),
    }[style]
    inside = textwrap.indent(f'"""Do what the name says.\n\n{described}\n"""', "    ")
    about = signature(function.code)
    code = f"{about.removesuffix('    pass').rstrip()}\n{inside}\n    return None\n"
    return Planted("docstrings", code, about, name, real) if parse(code) else None


def _library(rng: random.Random) -> Planted | None:
    if rng.random() < 0.5:
        module = rng.choice(STANDARD)
        offered = import_module(module)
        names: Sequence[str] = [name for name in dir(offered) if not name.startswith("_") and len(name) > 2]
        exists: Callable[[str], bool] = lambda made: hasattr(offered, made)  # noqa: E731
        neighbours = sorted({n for m in STANDARD for n in dir(import_module(m)) if n[0] != "_"})
    else:
        module, names, text = rng.choice(package_modules())
        words = frozenset(WORD.findall(text))
        exists = words.__contains__
        neighbours = []
    if not names:
        return None
    name = rng.choice(sorted(names))
    real = rng.random() < 0.5
    if not real:
        other = rng.choice(neighbours) if neighbours and rng.random() < 0.3 else corrupted(name, rng, exists)
        if other is None or exists(other):
            return None
        name = other
    package, _, last = module.rpartition(".")
    form = rng.choice([
        f"import {module}\n\ndef run():\n    return {module}.{name}\n",
        f"import {module} as lib\n\nvalue = [lib.{name} for _ in range(2)]\n",
        f"from {module} import {name}\n\nprint({name})\n",
        f"from {module} import {name} as chosen\n\ndef run(given: chosen):\n    return chosen\n",
        f"def run():\n    from {module} import {name}\n    return {name}\n",
        f"from {package} import {last}\n\nx = {last}.{name}\n" if package
        else f"import {module}, sys\n\nf = lambda: {module}.{name}\n",
    ])  # fmt: skip
    return Planted("libraries", form, "", name, real)


def _keyword(usable: Sequence[Function], rng: random.Random) -> Planted | None:
    """Plant a keyword argument of a function whose name is unique and whose parameters are all named."""
    if rng.random() < 0.5:
        function = rng.choice(usable)
        if sum(f.name == function.name for f in usable) > 1 or function.is_method:
            return None
        taken = parse(signature(function.code)).body[0].args  # type: ignore[union-attr]  # it was usable
        if taken.kwarg or taken.posonlyargs:
            return None
        names = [a.arg for a in (*taken.args, *taken.kwonlyargs)]
        call = f"def run(items):\n    return [{function.name}(items, NAME=x) for x in items]\n"
    else:
        module = rng.choice([*STANDARD, "networkx"])
        offered = import_module(module)
        chosen = rng.choice(sorted(n for n, f in vars(offered).items() if n[0] != "_" and callable(f)))
        try:
            kinds = inspect.signature(getattr(offered, chosen)).parameters.values()
        except (TypeError, ValueError):
            return None
        if any(k.kind not in (k.POSITIONAL_OR_KEYWORD, k.KEYWORD_ONLY) for k in kinds):
            return None
        names = [k.name for k in kinds]
        call = f"import {module} as lib\n\nprint(lib.{chosen}(NAME=1))\n"
    if not names:
        return None
    name = rng.choice(names)
    real = rng.random() < 0.5
    if not real:
        name = corrupted(name, rng, lambda made: made in names or made.startswith("backend")) or ""
    return Planted("keywords", call.replace("NAME", name), "", name, real) if name else None


def _receiver(rng: random.Random) -> Planted | None:
    kinds = receiver_kinds()
    expression, given, kind = rng.choice(kinds)
    name = rng.choice(sorted(n for n in dir(kind) if not n.startswith("_")))
    real = rng.random() < 0.5
    if not real:
        known = set(dir(kind))
        if rng.random() < 0.5:
            name = rng.choice(sorted({n for _, _, k in kinds for n in dir(k) if n[0] != "_"} - known))
        else:
            name = corrupted(name, rng, known.__contains__) or ""
    if not name:
        return None
    form = rng.choice([
        f"x = {expression}\nprint(x.{name})\n",
        f"def run():\n    held = {expression}\n    return held.{name}\n",
        f"print({expression}.{name})\n",
        f"class Box:\n    def go(self):\n        box = {expression}\n        return [box.{name}]\n",
    ])  # fmt: skip
    return Planted("receivers", given + form, "", name, real) if parse(given + form) else None


def _local(words: frozenset[str], rng: random.Random) -> Planted | None:
    template = rng.choice(BINDINGS)
    good = rng.choice(variable_like(words))
    real = rng.random() < 0.5
    used = good if real else corrupted(good, rng, lambda made: made in words or hasattr(builtins, made))
    if used is None:
        return None
    code = template.replace("GOOD", good).replace("USED", used)
    return Planted("locals", code, "", used, real) if parse(code) else None


def _sentence(usable: Sequence[Function], words: frozenset[str], rng: random.Random) -> Planted | None:
    function = rng.choice(usable)
    parameters = [p for p in function.parameters if len(p) > 2 and p not in ("self", "cls")]
    kinds = {
        "FUNCTION": [] if function.name.startswith("__") else [function.name],
        "PARAMETER": parameters,
        "EXCEPTION": ["ValueError", "KeyError", "TypeError", "StopIteration", "IndexError", "RuntimeError"],
        "MODULE.NAME": [f"{module}.{name}" for module in ("math", "itertools", "collections")
                        for name in dir(import_module(module)) if name[0] != "_" and len(name) > 3],
    }  # fmt: skip
    kind = rng.choice(sorted(kinds))
    sentence = rng.choice(SENTENCES[kind])
    if not kinds[kind]:
        return None
    name = rng.choice(sorted(kinds[kind]))
    real = rng.random() < 0.5
    if not real:
        head, dot, tail = name.rpartition(".")
        if dot:
            made = corrupted(tail, rng, lambda made: hasattr(import_module(head), made))
        elif kind == "EXCEPTION":
            cause = rng.choice(["Graph", "Input", "Missing", "Bad", "Node"])
            made = f"{cause}{name.removesuffix('Error')}Error"
            made = None if made in words else made
        else:
            made = corrupted(tail, rng, words.__contains__)
        if made is None:
            return None
        name = f"{head}{dot}{made}"
    return Planted("prose", sentence.replace("NAME", name), signature(function.code), name, real)
