"""Building blocks of the codec: numbers for containers, and checks on what a message may name."""

from __future__ import annotations

import collections
import sys
import types
from typing import Any

MAX_ITEMS = 5_000_000


class CodecError(ValueError):
    """The value cannot cross the channel, or the message does not describe a valid one."""


class Memo:
    """The numbers of mutable containers within one request and its reply; it keeps them alive."""

    def __init__(self, table: dict[int, Any] | None = None):
        self._numbers: dict[int, int] = {}
        self._kept = list((table or {}).values())
        self._emitted: set[int] = set()
        self._next = max(table) + 1 if table else 0
        for number, value in (table or {}).items():
            self._numbers[id(value)] = number

    def number(self, value: Any) -> tuple[int, bool]:
        """Return the number of `value`, and whether this message must still spell it out."""
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = self._next
            self._next += 1
            self._kept.append(value)
        first = number not in self._emitted
        self._emitted.add(number)
        if len(self._kept) > MAX_ITEMS:
            raise CodecError("too many containers in one value")
        return number, first

    def keep(self, value: Any) -> Any:
        """Hold a temporary object, so that its id is not reused while this memo lives."""
        self._kept.append(value)
        return value

    def emitted(self) -> dict[int, Any]:
        """Return number -> container for those that the message spells out."""
        return {number: value for number, value in self.table().items() if number in self._emitted}

    def table(self) -> dict[int, Any]:
        """Return number -> container, for decoding the reply."""
        found = {}
        for value in self._kept:
            if id(value) in self._numbers:
                found[self._numbers[id(value)]] = value
        return found


def plain_mapping(value: Any) -> dict:
    """Convert a nested view of a graph to plain dicts."""
    is_mapping = collections.abc.Mapping
    return {
        k: plain_mapping(v) if isinstance(v, is_mapping) and type(v) is not dict else v
        for k, v in value.items()
    }


def dtype_wire(dtype: Any) -> Any:
    """Return the name of a numpy data type, or the list of its fields."""
    return dtype.str if dtype.names is None else [list(field) for field in dtype.descr]


def plain_dtype(said: Any) -> Any:
    """Return the numpy data type of this name or these fields; refuse one whose bytes are pointers."""
    import numpy

    dtype = numpy.dtype(said if type(said) is str else [tuple(map(_field_part, field)) for field in said])
    if dtype.hasobject:
        raise CodecError("object arrays cross item by item")
    return dtype


def by_name(module: Any, qualname: str) -> Any:
    """Return what `module.qualname` names among the modules already imported, or None."""
    found = sys.modules.get(module) if isinstance(module, str) else None
    if module in ("__main__", "solution") or found is None or type(found) is not types.ModuleType:
        return None
    for part in qualname.split("."):
        found = vars(found).get(part) if isinstance(found, (types.ModuleType, type)) else None
    return found


def _field_part(part: Any) -> Any:
    """Return a part of a field's description as numpy wants it: shapes and nested fields are tuples."""
    if type(part) is list and part and type(part[0]) is list:
        return [tuple(map(_field_part, field)) for field in part]
    return tuple(part) if type(part) is list else part


def known_class(module: Any, qualname: Any) -> type | None:
    """Find a public class by name among the library modules imported here; None for anything else."""
    found = sys.modules.get(module) if type(module) is str and type(qualname) is str else None
    if found is None or module in ("__main__", "solution", "tests"):
        return None
    for part in qualname.split("."):
        if part.startswith("_"):
            return None
        found = vars(found).get(part) if isinstance(found, types.ModuleType | type) else None
    return found if isinstance(found, type) else None


# Modules whose classes and built-in functions may cross by name: using them changes no state here.
SHARED = {"builtins", "cmath", "collections", "datetime", "decimal", "fractions", "itertools", "math",
          "_operator", "operator"}  # fmt: skip
NOT_SHARED = {"__build_class__", "__import__", "breakpoint", "compile", "delattr", "eval", "exec", "globals",
              "input", "locals", "setattr", "vars"}  # fmt: skip
SHARED_MODULES = SHARED | {"copy", "functools", "json", "networkx", "numpy", "re", "string", "typing"}


def is_shared(value: Any) -> bool:
    """Return whether a class or built-in function is known by name on both sides and harmless to use."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if module == "numpy":
        return isinstance(value, type) and issubclass(value, sys.modules["numpy"].generic)
    return module in SHARED and name not in NOT_SHARED and by_name(module, name) is value


def known_global(module: str, qualname: str) -> Any:
    """Return the class or built-in function that an answer names; raise CodecError for any other."""
    found = by_name(module, qualname)
    if found is Ellipsis or found is NotImplemented:
        return found
    if (isinstance(found, type) or type(found) is types.BuiltinFunctionType) and is_shared(found):
        return found
    raise CodecError(f"{module}.{qualname} is not known here")


def known_module(name: str) -> types.ModuleType:
    """Return the module of this name if it is imported here and may cross; else raise CodecError."""
    found = sys.modules.get(name)
    if type(found) is not types.ModuleType or name not in SHARED_MODULES:
        raise CodecError(f"module {name} is not known here")
    return found


def check_graph(nodes: dict, successors: dict, predecessors: dict) -> None:
    """Check that both directions of a graph's adjacency share their edge data, as in networkx."""
    if nodes.keys() != successors.keys() or nodes.keys() != predecessors.keys():
        raise CodecError("malformed graph: nodes and adjacency differ")
    for forward, backward in ((successors, predecessors), (predecessors, successors)):
        for node, neighbours in forward.items():
            for other, data in neighbours.items():
                if type(data) is not dict or backward[other][node] is not data:
                    raise CodecError("malformed graph: one-sided edge")
