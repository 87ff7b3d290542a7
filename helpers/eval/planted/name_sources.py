"""Where planted names come from: real names, verified against text or object, and corruptions of them."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import keyword
import random
import re
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from helpers.code.names.context import LOOKED_AT
from helpers.code.names.lookup import import_module
from helpers.code.python_text import parse
from helpers.eval.planted.templates import RECEIVERS
from helpers.lines import lines_of
from helpers.records import Function

MAX_LINES = 40  # longest function whose body is used
PACKAGES = ("numpy", "networkx", "pandas", "scipy", "sklearn", "torch", "transformers", "matplotlib", "tqdm",
            "jinja2", "datasets", "peft", "accelerate", "requests", "packaging", "rich")  # fmt: skip
STANDARD = ("collections", "itertools", "functools", "math", "random", "re", "os", "os.path", "json", "heapq",
            "statistics", "string", "operator", "bisect", "datetime", "decimal", "logging", "textwrap",
            "shutil", "contextlib", "typing", "inspect", "time", "copy")  # fmt: skip
SYNONYMS = {
    "get": "fetch", "set": "assign", "add": "insert", "remove": "delete", "find": "search", "make": "create",
    "is": "has", "list": "array", "node": "vertex", "nodes": "vertices", "edge": "link", "edges": "links",
    "path": "route", "weight": "cost", "degree": "valence", "count": "number", "size": "length",
    "sort": "order", "read": "load", "write": "save", "start": "begin", "end": "finish", "first": "initial",
    "last": "final", "key": "name", "value": "item", "values": "items", "error": "failure", "sum": "total",
    "max": "largest", "min": "smallest", "from": "of", "to": "into", "random": "rand", "graph": "network",
    "compute": "calculate", "tree": "forest", "update": "refresh", "name": "label", "index": "position",
    "data": "payload",
}  # fmt: skip
WORD = re.compile(r"[^\W\d]\w*")


def corrupted(name: str, rng: random.Random, exists: Callable[[str], bool]) -> str | None:
    """Return a plausible wrong form of `name` that does not exist, or None if none was found."""
    lead = name[: len(name) - len(name.lstrip("_"))]
    bare = name[len(lead) :]
    parts = bare.split("_") if "_" in bare else re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", bare)
    camel = bare[:1].isupper()
    glue = "" if camel else "_"
    forms = [bare[:-1] if bare.endswith("s") else f"{bare}s"]
    for at, part in enumerate(parts):
        if other := SYNONYMS.get(part.lower()):
            forms.append(glue.join([*parts[:at], other.title() if camel else other, *parts[at + 1 :]]))
    if len(parts) > 1:
        forms.append(glue.join([*parts[1:], parts[0]]))
        forms.append("_".join(parts).lower() if camel else parts[0] + "".join(p.title() for p in parts[1:]))
        drop = rng.randrange(len(parts))
        forms.append(glue.join(parts[:drop] + parts[drop + 1 :]))
    extra = rng.choice(["all", "fast", "list", "by_id", "from_dict", "safe", "count"])
    forms.append(bare + extra.title().replace("_", "") if camel else f"{bare}_{extra}")
    if not camel:
        forms.append(f"{rng.choice(['get', 'compute', 'is', 'make', 'to'])}_{bare}")
    if len(bare) > 5:
        at = rng.randrange(1, len(bare) - 2)
        forms += [bare[:at] + bare[at + 1 :], bare[:at] + bare[at + 1] + bare[at] + bare[at + 2 :]]
    rng.shuffle(forms)
    long_enough = (lead + form for form in forms if len(form) >= 3)
    fitting = (made for made in long_enough if made.isidentifier() and not keyword.iskeyword(made))
    return next((made for made in fitting if made != name and not exists(made)), None)


def is_usable(function: Function) -> bool:
    """Say whether names can be planted in the body: the function must be short and have a signature."""
    if function.is_nested or len(lines_of(function.code)) > MAX_LINES:
        return False
    return parse(function.code) is not None and bool(signature(function.code))


def signature(code: str) -> str:
    """Return the `def` line with an empty body, without decorators."""
    tree = parse(code)
    node = tree.body[0] if tree and tree.body else None
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return ""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"def {node.name}({ast.unparse(node.args)}){returns}:\n    pass"


def vocabulary(functions: Sequence[Function]) -> frozenset[str]:
    """Collect every word of the corpus's functions and every name of common types and modules."""
    words = {word for function in functions for word in WORD.findall(function.source)}
    words |= {word for function in functions for word in re.split(r"\W+", function.id)}
    for module in (builtins, *(import_module(name) for name in (*LOOKED_AT, *STANDARD, "networkx"))):
        for name, value in vars(module).items() if module else ():
            words |= {name, *(dir(value) if isinstance(value, type) else ())}
    return frozenset(words | set(dir(builtins)) | set(sys.stdlib_module_names))


@cache
def package_modules() -> tuple[tuple[str, tuple[str, ...], str], ...]:
    """List (module, names it defines, its text) of modules up to two levels deep, without importing them."""
    found = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            continue
        root = Path(spec.submodule_search_locations[0])
        files = sorted([*root.glob("[a-z]*.py"), *root.glob("[a-z]*/[a-z]*.py")])
        files = [file for file in files if "test" not in str(file.relative_to(root))]
        for file in random.Random(package).sample(files, min(8, len(files))):
            text = file.read_text(encoding="utf-8", errors="replace")
            tree = parse(text)
            if tree is None or (file.parent != root and not (file.parent / "__init__.py").is_file()):
                continue
            own = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
            names = tuple(name for name in own if len(name) > 2 and not name.startswith("__"))
            module = ".".join([package, *file.relative_to(root).with_suffix("").parts])
            if names:
                found.append((module, names, text))
    return tuple(found)


@cache
def receiver_kinds() -> tuple[tuple[str, str, Any], ...]:
    """Return (expression, statements it needs before it, class) for each receiver."""
    kinds = []
    for expression, given in RECEIVERS:
        scope: dict[str, Any] = {}
        exec(given, scope)
        kinds.append((expression, given, type(eval(expression, scope))))
    return tuple(kinds)


@cache
def variable_like(words: frozenset[str]) -> list[str]:
    """Return the words that could name a variable, sorted."""
    fitting = (w for w in words if w.islower() and 4 < len(w) < 14 and "_" in w.strip("_"))
    return sorted(w for w in fitting if not w.startswith("__") and not hasattr(builtins, w))
