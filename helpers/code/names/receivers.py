"""The attributes of objects in an answer whose class is certain.

The class is certain for literals, for instances of a class that can be inspected (built in, importable,
or defined in the answer), for parameters annotated with such a class, and for parameters whose name
implies a class by convention of the code base. A name that is bound in two ways is not certain.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from types import FunctionType
from typing import Any

from helpers.code.names.context import NameContext
from helpers.code.names.lookup import attribute_chain, resolve
from helpers.code.python_text import parse

LITERALS = {ast.List: list, ast.ListComp: list, ast.Dict: dict, ast.DictComp: dict, ast.Set: set,
            ast.SetComp: set, ast.Tuple: tuple, ast.JoinedStr: str}  # fmt: skip
RESULTS = {"sorted": list, "len": int, "repr": str, "input": str, "chr": str, "ord": int, "dir": list}
TEXT_RESULTS = {"split": list, "rsplit": list, "splitlines": list, "join": str, "strip": str, "lower": str,
                "upper": str, "replace": str, "format": str, "title": str, "encode": bytes}  # fmt: skip
DYNAMIC = ("__getattr__", "__getattribute__", "__dict__", "__slots__", "setattr", "vars", "__setattr__")

Kind = type | str | None  # a class, the name of one defined in the answer, or unknown
PARAMETER = "<parameter>"  # kind of a parameter without annotation
UNKNOWN = ast.Await(ast.Constant(None))  # represents a value of unknown class
Binding = tuple[str, ast.expr | ast.arg | None, ast.expr | None]  # name, value, annotation


@dataclass
class Receivers:
    """What is known about the objects in one answer.

    `paths` maps imported names to dotted parts; `kinds` maps a name to everything it is bound to.
    """

    tree: ast.Module
    context: NameContext
    paths: dict[str, list[str]]
    classes: dict[str, frozenset[str] | None] = field(default_factory=dict)
    kinds: dict[str, set[Kind]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Collect the classes first, then the bindings in source order."""
        self.classes = local_classes(self.tree)
        for name, value, annotation in _bindings(self.tree):
            if isinstance(value, ast.arg):
                kind: Kind = PARAMETER
            else:
                kind = self.kind(value) if value is not None else self._annotated(annotation)
            self.kinds.setdefault(name, set()).add(kind)

    def attributes(self, receiver: ast.expr) -> frozenset[str] | None:
        """Return the names that may follow a dot after `receiver`; None if its class is uncertain."""
        if not isinstance(receiver, ast.Name):
            kind = self.kind(receiver)
            return None if kind is None else self._of_kind(kind)
        kinds = self.kinds.get(receiver.id, {PARAMETER})
        by_name = self.context.receivers.get(receiver.id)
        by_kind = [by_name if kind == PARAMETER else self._of_kind(kind) for kind in kinds]
        return None if None in by_kind else frozenset().union(*by_kind)

    def is_open(self, receiver: ast.expr) -> bool:
        """Return whether `receiver` may be of a class in the answer that creates attributes at run time."""
        if isinstance(receiver, ast.Name) and receiver.id in self.classes:
            return self.classes[receiver.id] is None  # the class itself: a metaclass may do the same
        kinds = self._kinds_of(receiver)
        return any(isinstance(k, str) and self.classes.get(k, frozenset()) is None for k in kinds)

    def method(self, receiver: ast.expr, name: str) -> Any:
        """Return the function that `receiver.name(…)` calls; None if that is uncertain."""
        kinds = self._kinds_of(receiver)
        only = next(iter(kinds)) if len(kinds) == 1 else None
        return getattr(only, name, None) if isinstance(only, type) else None

    def _of_kind(self, kind: Kind) -> frozenset[str] | None:
        if isinstance(kind, type):
            return instance_attributes(kind)
        return self.classes.get(kind) if kind else None

    def _annotated(self, annotation: ast.expr | None) -> Kind:
        if isinstance(annotation, ast.Subscript):
            annotation = annotation.value
        chain = attribute_chain(annotation) if annotation is not None else None
        return self._class_named(chain) if chain else None

    def kind(self, value: ast.expr) -> Kind:
        """Return the class of an expression's value; None if it is uncertain."""
        if type(value) in LITERALS:
            return LITERALS[type(value)]
        if isinstance(value, ast.Constant):
            known = isinstance(value.value, str | bytes | int | float | complex)
            return type(value.value) if known else None
        if not isinstance(value, ast.Call):
            return None
        chain = attribute_chain(value.func)
        if chain and len(chain) == 1 and chain[0] in RESULTS:
            return RESULTS[chain[0]]
        made = self._class_named(chain) if chain else None
        if made is not None:
            return made
        if isinstance(value.func, ast.Attribute) and self._kinds_of(value.func.value) == {str}:
            return TEXT_RESULTS.get(value.func.attr)
        return None

    def _kinds_of(self, value: ast.expr) -> set[Kind]:
        return self.kinds.get(value.id, set()) if isinstance(value, ast.Name) else {self.kind(value)}

    def _class_named(self, chain: list[str]) -> Kind:
        head = chain[0]
        if len(chain) == 1 and head in self.classes:
            return head
        if len(chain) == 1 and head not in self.kinds and _makes_itself(head):
            return getattr(builtins, head)
        if head in self.paths:
            found, _ = resolve([*self.paths[head], *chain[1:]])
            return found if isinstance(found, type) else None
        return None


def _makes_itself(name: str) -> bool:
    """Return whether calling this built-in class gives an instance of it, unlike `type` or `super`."""
    return isinstance(getattr(builtins, name, None), type) and name not in ("type", "super", "object")


@cache
def instance_attributes(kind: type) -> frozenset[str] | None:
    """Return the attributes that instances of a class have; None if more may appear at run time."""
    names: set[str] = set(dir(kind))
    for base in kind.__mro__[:-1]:
        if any(isinstance(vars(base).get(n), FunctionType) for n in ("__getattr__", "__getattribute__")):
            return None
        # A heap type is most likely written in Python.
        stored = _stored_on_self(base) if base.__flags__ & (1 << 9) else frozenset()
        if stored is None:
            return None
        names |= stored
    return frozenset(names)


def _stored_on_self(kind: type) -> frozenset[str] | None:
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):  # a heap type written in C
        return frozenset() if "__dict__" not in dir(kind) else None
    if "setattr(self" in source or "self.__dict__" in source:
        return None
    tree = parse(textwrap.dedent(source))
    if tree is None:
        return None
    return frozenset(n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and _stores(n))


def local_classes(tree: ast.Module) -> dict[str, frozenset[str] | None]:
    """Map each class in the answer to its attributes, or to None if they are unknown."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    by_name = {node.name: node for node in nodes}
    if len(by_name) < len(nodes):
        return dict.fromkeys(by_name)
    return {name: _class_attributes(name, by_name, ()) for name in by_name}


def _class_attributes(
    name: str, by_name: dict[str, ast.ClassDef], above: tuple[str, ...]
) -> frozenset[str] | None:
    node = by_name[name]
    if node.keywords or not all(_is_plain_decorator(d) for d in node.decorator_list):
        return None
    words = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    words |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    words |= {n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef)}
    if words & set(DYNAMIC):
        return None
    names = set(dir(object)) | {"__dict__", "__annotations__", "__name__", "__module__", "__mro__"}
    for base in (base.id if isinstance(base, ast.Name) else "" for base in node.bases):
        if base in by_name and base not in (*above, name, "object"):
            inherited = _class_attributes(base, by_name, (*above, name))
            if inherited is None:
                return None
            names |= inherited
        elif isinstance(getattr(builtins, base, None), type):
            names |= set(dir(getattr(builtins, base)))
        else:
            return None
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(part.name)
        elif isinstance(part, ast.Name | ast.Attribute) and _stores(part):
            names.add(part.id if isinstance(part, ast.Name) else part.attr)
        elif isinstance(part, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in part.names)
    return frozenset(names)


def _is_plain_decorator(node: ast.expr) -> bool:
    chain = attribute_chain(node.func if isinstance(node, ast.Call) else node)
    return bool(chain) and chain[-1] in ("dataclass", "total_ordering", "final", "runtime_checkable")


def _stores(node: ast.Name | ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Store)


def _bindings(tree: ast.Module) -> Iterator[Binding]:
    """Yield a `Binding` for everything that binds a name; a parameter's value is its `ast.arg`."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        annotation: ast.expr | None = None
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign):
            targets, value, annotation = [node.target], node.value, node.annotation
        elif isinstance(node, ast.NamedExpr):
            targets, value = [node.target], node.value
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension | ast.AugAssign):
            targets = [node.target]
        elif isinstance(node, ast.withitem) and node.optional_vars:
            targets = [node.optional_vars]
        elif isinstance(node, ast.arguments):
            yield from _parameters(node)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name, UNKNOWN, None
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, value if value is not None or annotation is not None else UNKNOWN, annotation
            else:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name) and _stores(part):
                        yield part.id, UNKNOWN, None


def _parameters(node: ast.arguments) -> Iterator[Binding]:
    for argument in (*node.posonlyargs, *node.args, *node.kwonlyargs):
        yield argument.arg, argument if argument.annotation is None else None, argument.annotation
    if node.vararg:
        yield node.vararg.arg, ast.Tuple([], ast.Load()), None
    if node.kwarg:
        yield node.kwarg.arg, ast.Dict([], []), None
