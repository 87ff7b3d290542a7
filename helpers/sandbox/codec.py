"""Encoding of values that cross between judge and candidate: plain data, exact types, no execution.

Each process holds one `Codec`. A value is encoded as JSON with tagged lists. Decoding builds only exact
built-in types, library values that `library_values` lists, numpy arrays and networkx graphs, and instances
of classes that this side defines itself (`own_types`). An answer of any other class, such as one that
overrides `__eq__` or derives from `int`, arrives as a remote handle, which never equals plain data. Values
that can change are numbered, so aliasing, cycles and in-place changes to arguments survive the trip.

Wire form: None, bool, float, str and small int stand for themselves; everything else is a list
`[tag, ...]`. Tags are the keys of `Codec._BUILD`.
"""

from __future__ import annotations

import base64
import collections
import importlib
import operator
import re
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from helpers.sandbox import library_values
from helpers.sandbox.own_types import OwnTypes
from helpers.sandbox.wire import (
    SHARED_MODULES,
    CodecError,
    Memo,
    check_graph,
    dtype_wire,
    is_shared,
    known_global,
    known_module,
    plain_dtype,
    plain_mapping,
)  # fmt: skip

SMALL_INT = 2**53
MUTABLE = {list: "l", dict: "d", set: "s", bytearray: "ba", collections.deque: "dq"}
MUTABLE |= {collections.Counter: "ct", collections.OrderedDict: "od", collections.defaultdict: "dd"}
VIEWS = {type({}.keys()): "dk", type({}.values()): "dv", type({}.items()): "di"}
GRAPHS = ("Graph", "DiGraph", "MultiGraph", "MultiDiGraph")
NX_VIEWS = re.compile(r"^(Node|Edge|Degree|OutEdge|InEdge|OutDegree|InDegree|\w*Degree|\w*Edge)(Data)?View$")


class Codec:
    """Encoder and decoder for one end of the channel.

    Args:
        export: takes an object that is not plain data and returns the wire form of a handle to it.
        adopt: takes a decoded handle tag with its fields and returns the object that stands for it.
        errors: encodes an exception, and decodes one.

    `own` are the classes that both sides define, once they are known.
    """

    def __init__(
        self,
        export: Callable[[Any], list],
        adopt: Callable[[list], Any],
        errors: tuple[Callable[[Any], list], Callable[[Any], BaseException]],
    ):
        self._export = export
        self._adopt = adopt
        self._encode_error, self._decode_error = errors
        self.own: OwnTypes | None = None

    def encode(self, value: Any, memo: Memo) -> Any:
        """Encode `value`; mutable containers already in `memo` become references."""
        kind = type(value)
        if value is None or kind is bool or kind is float or kind is str:
            return value
        if kind is int:
            return value if -SMALL_INT < value < SMALL_INT else ["i", hex(value)]
        if kind is tuple:
            return ["t", *self.encode_all(value, memo)]
        if kind in MUTABLE:
            return self._encode_mutable(value, MUTABLE[kind], memo)
        if kind is frozenset:
            return ["z", *self.encode_all(value, memo)]
        if kind is bytes:
            return ["b", base64.b64encode(value).decode()]
        if kind in VIEWS:
            items = value if VIEWS[kind] != "di" else [part for pair in value for part in pair]
            return [VIEWS[kind], *self.encode_all(items, memo)]
        simple = _SIMPLE.get((kind.__module__, kind.__qualname__))
        if simple and getattr(sys.modules[kind.__module__], kind.__qualname__) is kind:
            tag, take_apart = simple
            return [tag, *self.encode_all(take_apart(value), memo)]
        return self._encode_special(value, kind, memo)

    def encode_all(self, values: Iterable[Any], memo: Memo) -> list:
        """Encode each value; a loop, as a comprehension makes a function each time it runs."""
        found = []
        for value in values:
            found.append(self.encode(value, memo))
        return found

    def decode_all(self, wires: Iterable[Any], table: dict) -> list:
        """Decode each value, like `encode_all`."""
        found = []
        for wire in wires:
            found.append(self.decode(wire, table))
        return found

    def _encode_mutable(self, value: Any, tag: str, memo: Memo) -> list:
        number, first = memo.number(value)
        if not first:
            return ["r", number]
        if tag == "ba":
            return [tag, number, base64.b64encode(value).decode()]
        head: list = [tag, number]
        if tag == "dq":
            head.append(value.maxlen)
        if tag == "dd":
            head.append(self.encode(value.default_factory, memo))
        parts = [part for pair in dict.items(value) for part in pair] if isinstance(value, dict) else value
        return head + self.encode_all(parts, memo)

    def _encode_special(self, value: Any, kind: type, memo: Memo) -> Any:
        if kind is types.FunctionType:
            return self._export(value)
        module = kind.__module__ if type(kind.__module__) is str else ""
        if hasattr(kind, "_sandbox_handle"):
            return self._export(value)
        if self.own is not None:
            if self.own.owns(kind) and (wire := self.own.encode(value, kind, memo, self)) is not None:
                return wire
            if isinstance(value, type) and self.own.owns(value):
                return ["oc", value.__qualname__]
        if issubclass(kind, BaseException):
            return ["er", *self._encode_error(value)]
        if kind is type or isinstance(value, type) or kind is types.BuiltinFunctionType:
            if is_shared(value):
                return ["g", value.__module__, value.__qualname__]
        elif kind is types.ModuleType and value.__name__ in SHARED_MODULES:
            return ["m", value.__name__]
        elif value is Ellipsis or value is NotImplemented:
            return ["g", "builtins", "Ellipsis" if value is Ellipsis else "NotImplemented"]
        elif module == "numpy" or module.startswith("numpy."):
            return self._encode_numpy(value, memo)
        elif module.startswith("networkx."):
            return self._encode_networkx(value, kind, memo)
        elif kind.__bases__ == (tuple,) and hasattr(kind, "_fields") and kind.__eq__ is tuple.__eq__:
            fields = [str(name) for name in kind._fields]
            return ["nt", kind.__name__, fields, *self.encode_all(tuple.__iter__(value), memo)]
        return self._encode_library(value, kind, memo)

    def _encode_library(self, value: Any, kind: type, memo: Memo) -> Any:
        if kind.__module__ == "helpers.sandbox.frames":
            data = base64.b64encode(value.array.tobytes()).decode()
            return ["nf", value.array.dtype.str, data]
        try:
            taken = library_values.library_parts(value, kind)
        except Exception:  # a class of the program may fail in any of this: it stays a handle
            taken = None
        if taken is None:
            return self._export(value)
        key, parts, changeable = taken
        if not changeable:
            return ["v", key, *self.encode_all(parts, memo)]
        number, first = memo.number(value)
        if not first:
            return ["r", number]
        return ["w", number, key, *self.encode_all(parts, memo)]

    def _encode_numpy(self, value: Any, memo: Memo) -> Any:
        numpy = sys.modules["numpy"]
        if isinstance(value, numpy.generic) and not value.dtype.hasobject:
            return ["ns", dtype_wire(value.dtype), base64.b64encode(value.tobytes()).decode()]
        if isinstance(value, numpy.dtype) and not value.hasobject:
            return ["nd", dtype_wire(value)]
        if type(value) is numpy.ndarray and not (value.dtype.hasobject and value.dtype.names):
            number, first = memo.number(value)
            if not first:
                return ["r", number]
            if value.dtype.hasobject:
                return ["no", number, list(value.shape), *self.encode_all(value.flat, memo)]
            data = base64.b64encode(numpy.ascontiguousarray(value).tobytes()).decode()
            return ["na", number, dtype_wire(value.dtype), list(value.shape), data]
        return self._encode_library(value, type(value), memo)

    def _encode_networkx(self, value: Any, kind: type, memo: Memo) -> Any:
        networkx = sys.modules["networkx"]
        name = kind.__name__
        if name in GRAPHS and kind is getattr(networkx, name):
            number, first = memo.number(value)
            if not first:
                return ["r", number]
            plain = value if type(value._adj) is dict else memo.keep(value.copy())
            parts = [plain.graph, plain._node, plain._adj]
            if plain.is_directed():
                parts.append(plain._pred)
            return ["G", number, name, *self.encode_all(parts, memo)]
        if NX_VIEWS.match(name):
            return self.encode(list(value), memo)
        is_view = name.endswith(("View", "Atlas", "Adjacency", "Inner"))
        if is_view and isinstance(value, collections.abc.Mapping):
            return self.encode(plain_mapping(value), memo)
        return self._export(value)

    def decode(self, wire: Any, table: dict[int, Any]) -> Any:
        """Decode `wire`; containers whose number is in `table` are refilled in place.

        Raises:
            CodecError: for anything that `encode` does not produce.
        """
        if wire is None or type(wire) in (bool, int, float, str):
            return wire
        if type(wire) is not list or not wire or type(wire[0]) is not str:
            raise CodecError("malformed value")
        build = self._BUILD.get(wire[0])
        if build is None:
            return self._adopt(wire)
        try:
            return build(self, wire, table)
        except CodecError:
            raise
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, OverflowError) as error:
            raise CodecError(f"malformed value: {error}") from error

    def _items(self, wire: list, start: int, table: dict) -> list:
        return self.decode_all(wire[start:], table)

    def _slot(self, wire: list, table: dict, kind: type, fresh: Callable[[], Any]) -> Any:
        number = wire[1]
        if type(number) is not int:
            raise CodecError("malformed number")
        known = table.get(number)
        if known is None:
            known = table[number] = fresh()
        elif type(known) is not kind:
            raise CodecError("a container changed its type")
        return known

    def _refill(self, wire: list, table: dict, kind: type) -> Any:
        value = self._slot(wire, table, kind, kind)
        items = self._items(wire, 2, table)
        value.clear()
        if issubclass(kind, dict):
            return _filled(value, items)
        (value.update if kind is set else value.extend)(items)
        return value

    def _bytearray(self, wire: list, table: dict) -> bytearray:
        value = self._slot(wire, table, bytearray, bytearray)
        value[:] = base64.b64decode(wire[2])
        return value

    def _deque(self, wire: list, table: dict) -> collections.deque:
        value = self._slot(wire, table, collections.deque, lambda: collections.deque(maxlen=wire[2]))
        items = self._items(wire, 3, table)
        value.clear()
        value.extend(items)
        return value

    def _defaultdict(self, wire: list, table: dict) -> collections.defaultdict:
        factory = self.decode(wire[2], table)
        value = self._slot(wire, table, collections.defaultdict, lambda: collections.defaultdict(factory))
        items = self._items(wire, 3, table)
        value.clear()
        return _filled(value, items)

    def _numpy_scalar(self, wire: list, table: dict) -> Any:
        import numpy

        return numpy.frombuffer(base64.b64decode(wire[2]), dtype=plain_dtype(wire[1]))[0]

    def _numpy_array(self, wire: list, table: dict) -> Any:
        import numpy

        if wire[0] == "no":
            flat = numpy.empty(len(wire) - 3, dtype=object)
            for index, item in enumerate(self._items(wire, 3, table)):
                flat[index] = item
            array = flat.reshape(wire[2])
        else:
            flat = numpy.frombuffer(base64.b64decode(wire[4]), dtype=plain_dtype(wire[2]))
            array = flat.reshape(wire[3]).copy()
        known = table.setdefault(wire[1], array)
        if known is array:
            return array
        if type(known) is not numpy.ndarray or known.dtype != array.dtype:
            raise CodecError("an array changed its type")
        if known.shape != array.shape:
            known.resize(array.shape, refcheck=False)
        known[...] = array
        return known

    def _graph(self, wire: list, table: dict) -> Any:
        import networkx

        if wire[2] not in GRAPHS:
            raise CodecError("unknown kind of graph")
        kind = getattr(networkx, wire[2])
        graph = self._slot(wire, table, kind, kind)
        parts = self._items(wire, 3, table)
        directed = graph.is_directed()
        if len(parts) != 3 + directed or any(type(part) is not dict for part in parts):
            raise CodecError("malformed graph")
        check_graph(parts[1], parts[2], parts[3] if directed else parts[2])
        graph.graph, graph._node, graph._adj = parts[:3]
        if directed:
            graph._succ, graph._pred = parts[2], parts[3]
        return graph

    def _library(self, wire: list, table: dict) -> Any:
        return library_values.library_value(wire[1], self._items(wire, 2, table))

    def _changeable(self, wire: list, table: dict) -> Any:
        new = library_values.library_value(wire[2], self._items(wire, 3, table))
        known = table.setdefault(wire[1], new)
        if known is not new:
            if type(known) is not type(new):
                raise CodecError("a value changed its type")
            library_values.refill_value(wire[2], known, new)
        return known

    def _fixed_array(self, wire: list, table: dict) -> Any:
        import numpy

        from helpers.sandbox.frames import Fixed

        return Fixed(numpy.frombuffer(base64.b64decode(wire[2]), dtype=plain_dtype(wire[1])).copy())

    def _own(self, wire: list, table: dict) -> Any:
        if self.own is None:
            raise CodecError("no class of that name here")
        if wire[0] == "oe":
            return self.own.decode_member(wire, table, self)
        if wire[0] == "o":
            return self.own.decode(wire[1:], table, self)
        if wire[0] == "ob":
            return self.own.live(wire[1])
        found = self.own.find(wire[1])
        if found is None:
            raise CodecError("no class of that name here")
        return found

    def _named_tuple(self, wire: list, table: dict) -> tuple:
        items = self._items(wire, 3, table)
        return collections.namedtuple(wire[1], wire[2])(*items)

    _BUILD: dict[str, Callable[[Codec, list, dict], Any]] = {  # noqa: RUF012 (a constant table)
        "i": lambda self, wire, table: int(wire[1], 16),
        "t": lambda self, wire, table: tuple(self._items(wire, 1, table)),
        "z": lambda self, wire, table: frozenset(self._items(wire, 1, table)),
        "b": lambda self, wire, table: base64.b64decode(wire[1]),
        "r": lambda self, wire, table: table[wire[1]],
        "l": lambda self, wire, table: self._refill(wire, table, list),
        "d": lambda self, wire, table: self._refill(wire, table, dict),
        "s": lambda self, wire, table: self._refill(wire, table, set),
        "ct": lambda self, wire, table: self._refill(wire, table, collections.Counter),
        "od": lambda self, wire, table: self._refill(wire, table, collections.OrderedDict),
        "ba": _bytearray,
        "dq": _deque,
        "dd": _defaultdict,
        "dk": lambda self, wire, table: dict.fromkeys(self._items(wire, 1, table)).keys(),
        "dv": lambda self, wire, table: dict(enumerate(self._items(wire, 1, table))).values(),
        "di": lambda self, wire, table: _filled({}, self._items(wire, 1, table)).items(),
        "nt": _named_tuple,
        "ns": _numpy_scalar,
        "na": _numpy_array,
        "no": _numpy_array,
        "er": lambda self, wire, table: self._decode_error(wire[1:]),
        "nd": lambda self, wire, table: plain_dtype(wire[1]),
        "nf": _fixed_array,
        "G": _graph,
        "o": _own,
        "oc": _own,
        "oe": _own,
        "ob": _own,
        "v": _library,
        "w": _changeable,
        "g": lambda self, wire, table: known_global(wire[1], wire[2]),
        "m": lambda self, wire, table: known_module(wire[1]),
        "x1": lambda self, wire, table: complex(*self._items(wire, 1, table)),
        "x2": lambda self, wire, table: range(*self._items(wire, 1, table)),
        "x3": lambda self, wire, table: slice(*self._items(wire, 1, table)),
        "x4": lambda self, wire, table: _from("decimal", "Decimal", wire[1]),
        "x5": lambda self, wire, table: _from("fractions", "Fraction", *self._items(wire, 1, table)),
        "x6": lambda self, wire, table: _from("datetime", "date", *self._items(wire, 1, table)),
        "x8": lambda self, wire, table: _from("datetime", "timedelta", *self._items(wire, 1, table)),
        "x10": lambda self, wire, table: re.compile(wire[1], wire[2]),
    }


# Keyed by name, so that no process has to import a module that its program does not use.
_SIMPLE: dict[tuple[str, str], tuple[str, Callable[[Any], tuple]]] = {
    ("builtins", "complex"): ("x1", lambda v: (v.real, v.imag)),
    ("builtins", "range"): ("x2", lambda v: (v.start, v.stop, v.step)),
    ("builtins", "slice"): ("x3", lambda v: (v.start, v.stop, v.step)),
    ("decimal", "Decimal"): ("x4", lambda v: (str(v),)),
    ("fractions", "Fraction"): ("x5", lambda v: (v.numerator, v.denominator)),
    ("datetime", "date"): ("x6", lambda v: (v.year, v.month, v.day)),
    ("datetime", "timedelta"): ("x8", lambda v: (v.days, v.seconds, v.microseconds)),
}


def _from(module: str, name: str, *values: Any) -> Any:
    """Call the named class or constructor with plain values."""
    return operator.attrgetter(name)(importlib.import_module(module))(*values)


def _filled(mapping: dict, items: list) -> dict:
    for key, item in zip(items[::2], items[1::2], strict=True):
        mapping[key] = item
    return mapping
