"""Values of classes that the tests and the program both define: they cross as data, not as objects.

A problem's prompt often gives classes, exceptions and Enums. Both processes then hold a class of that name,
and each builds its own: what arrives in the judge is an instance of the *tests'* class, filled with the
attributes that the program's instance had. Comparisons, methods and properties are therefore the tests'.
"""

from __future__ import annotations

import abc
import enum
import inspect
import typing
from collections.abc import Iterable
from typing import Any, Protocol

from helpers.sandbox.wire import CodecError, Memo

BUILT_IN = (int, float, complex, str, bytes, tuple, list, dict, set, frozenset)
FIXED = (int, float, complex, str, bytes, tuple, frozenset)  # their data cannot change after creation
PLAIN_BASES = (object, typing.Generic, Protocol, abc.ABC, *BUILT_IN)


class Codec(Protocol):
    """What encodes and decodes the attributes."""

    def encode(self, value: Any, memo: Memo) -> Any:
        """Return the wire form of a value."""

    def decode(self, wire: Any, table: dict[int, Any]) -> Any:
        """Return the value of a wire form."""


class OwnTypes:
    """The classes of one side that the other side also defines, by their names at the module's top level.

    Args:
        namespace: globals of the module that defines them.
        module: its name here, and `other`, the name of the module that defines them on the other side.
        names: those that both sides define.
    """

    def __init__(self, namespace: dict[str, Any], module: str, other: str, names: Iterable[str]):
        self._namespace, self.module, self.other = namespace, module, other
        self._names = frozenset(names)
        self._plain: dict[type, bool] = {}

    def find(self, qualname: Any) -> type | None:
        """Return this side's class of that name (`Outer.Inner` too), if both sides define it."""
        if type(qualname) is not str or qualname.partition(".")[0] not in self._names:
            return None
        found: Any = self._namespace
        for part in qualname.split("."):
            found = found.get(part) if type(found) is dict else vars(found).get(part)
            if not isinstance(found, type) or found.__module__ != self.module:
                return None
        return found

    def owns(self, kind: type) -> bool:
        """Return whether `kind` is one of these classes itself."""
        return kind.__module__ == self.module and self.find(kind.__qualname__) is kind

    def nearest(self, kind: type) -> type | None:
        """Return the first of these classes that `kind` derives from."""
        return next((base for base in kind.__mro__[1:] if self.owns(base)), None)

    def error_class(self, module: Any, qualname: Any) -> type[BaseException] | None:
        """Return this side's class for the other side's exception class."""
        found = self.find(qualname) if module == self.other else None
        return found if found is not None and issubclass(found, BaseException) else None

    def encode(self, value: Any, kind: type, memo: Memo, codec: Codec) -> list | None:
        """Return the wire form of an instance of `kind`, or None if it must stay a handle."""
        if issubclass(kind, enum.Enum):
            return ["oe", kind.__qualname__, value._name_, codec.encode(value._value_, memo)]
        if not self._is_plain(kind):
            return None
        number, first = memo.number(value)
        if not first:
            return ["r", number]
        if self._is_value(kind):
            return ["o", *self._described(value, number, memo, codec)]
        if memo.waiting is not None:
            memo.waiting.append((number, value))
            return ["r", number]
        described, memo.waiting = [], [(number, value)]
        while memo.waiting:  # one by one: recursion would fail for a long chain of objects
            others, memo.waiting = memo.waiting, []
            described += [self._described(other, at, memo, codec) for at, other in others]
        memo.waiting = None
        return ["os", *described]

    def _is_value(self, kind: type) -> bool:
        """Return whether an object must be complete when it is first used, as a key must be for its hash."""
        return issubclass(kind, FIXED) or kind.__hash__ not in (object.__hash__, None)

    def _described(self, value: Any, number: int, memo: Memo, codec: Codec) -> list:
        """Return number, class, built-in data and attributes of an instance."""
        kind = type(value)
        plain, held = state_of(value)
        parts = [part for pair in plain.items() for part in pair] if isinstance(plain, dict) else plain
        if not isinstance(plain, tuple | list | dict | set | frozenset):
            parts = () if plain is None else (plain,)
        data = [codec.encode(part, memo) for part in parts]
        named = [part for name, each in held.items() for part in (name, codec.encode(each, memo))]
        return [number, kind.__qualname__, data, *named]

    def _is_plain(self, kind: type) -> bool:
        """Return whether an instance is its attributes and the data of at most one built-in type."""
        if kind not in self._plain:
            bases = [base for base in kind.__mro__ if not self.owns(base)]
            built_in = [base for base in bases if base in BUILT_IN]
            self._plain[kind] = len(built_in) <= 1 and all(base in PLAIN_BASES for base in bases)
        return self._plain[kind]

    def decode_member(self, wire: list, table: dict, codec: Codec) -> Any:
        """Return this side's member of the Enum that `wire` names."""
        kind = self.find(wire[1])
        if kind is None or not issubclass(kind, enum.Enum):
            raise CodecError("no Enum of that name here")
        if wire[2] in kind.__members__:
            return kind.__members__[wire[2]]
        return kind(codec.decode(wire[3], table))  # several flags at once have a value but no name

    def decode(self, described: list[list], table: dict[int, Any], codec: Codec) -> Any:
        """Build this side's instances, or give the known ones of these numbers their new state.

        Returns:
            The first of them. All exist before the first is filled, since each may refer to any other.
        """
        for number, qualname, *_ in described:
            kind, known = self.find(qualname), table.get(number)
            if kind is None or type(number) is not int or not self._is_plain(kind):
                raise CodecError("no class of that name here")
            if known is None and not issubclass(kind, FIXED):
                table[number] = (_base(kind) or object).__new__(kind)
            elif known is not None and type(known) is not kind:
                raise CodecError("an object changed its class")
        for number, qualname, data, *named in described:
            self._fill(self.find(qualname), number, [codec.decode(part, table) for part in data], table)
            pairs = zip(named[::2], named[1::2], strict=True)
            held = {name: codec.decode(each, table) for name, each in pairs}
            _give_state(table[number], type(table[number]), held)
        return table[described[0][0]]

    @staticmethod
    def _fill(kind: type | None, number: int, data: list, table: dict[int, Any]) -> None:
        base = _base(kind)
        if base not in FIXED:
            _refill(table[number], base, data)
        elif number not in table:
            table[number] = _made(kind, base, data)


def _base(kind: type) -> type | None:
    """Return the built-in type that holds the data of the class's instances."""
    return next((base for base in kind.__mro__ if base in BUILT_IN), None)


def _made(kind: type, base: type, data: list) -> Any:
    if base in (tuple, frozenset):
        return base.__new__(kind, data)
    if len(data) != 1 or type(data[0]) is not base:
        raise CodecError("malformed instance of a built-in type's subclass")
    if base is complex:
        return complex.__new__(kind, data[0].real, data[0].imag)
    return base.__new__(kind, data[0])


def _refill(known: Any, base: type | None, data: list) -> None:
    if base is None:
        return
    base.clear(known)
    if base is dict:
        for key, item in zip(data[::2], data[1::2], strict=True):
            dict.__setitem__(known, key, item)
    elif base is list:
        list.extend(known, data)
    else:
        set.update(known, data)


def _give_state(value: Any, kind: type, held: dict[str, Any]) -> None:
    """Replace the attributes of `value`; an attribute never hides a method or computed property of `kind`."""
    if any(type(name) is not str for name in held):
        raise CodecError("malformed attribute")
    fields = getattr(kind, "__dataclass_fields__", {})
    allowed = {}
    for name, each in held.items():
        defined = inspect.getattr_static(kind, name, None)
        computed = hasattr(type(defined), "__get__") and not hasattr(type(defined), "__set__")
        if name in fields or not computed:
            allowed[name] = each
    slots = _slots(kind)
    attributes = getattr(value, "__dict__", None)
    if type(attributes) is dict:
        attributes.clear()
    for name, each in allowed.items():
        if name in slots:
            object.__setattr__(value, name, each)
        elif type(attributes) is dict:
            attributes[name] = each
    for name in slots - held.keys():
        if hasattr(value, name):
            object.__delattr__(value, name)


def _slots(kind: type) -> set[str]:
    """Return the names of the class's slots as they are stored (`__x` becomes `_Class__x`)."""
    found = set()
    for each in kind.__mro__:
        slots = vars(each).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            private = name.startswith("__") and not name.endswith("__")
            found.add(f"_{each.__name__.lstrip('_')}{name}" if private else name)
    return found - {"__dict__", "__weakref__"}


def state_of(value: Any) -> tuple[Any, dict[str, Any]]:
    """Return an instance's state: the data of the built-in type it derives from, and its attributes."""
    held = {name: getattr(value, name) for name in sorted(_slots(type(value))) if hasattr(value, name)}
    held.update(getattr(value, "__dict__", {}))
    return (plain_value(value) if issubclass(type(value), BUILT_IN) else None), held


def plain_value(value: Any) -> Any:
    """Return the built-in data inside a subclass instance, regardless of what the subclass overrides."""
    for kind in (tuple, list, set, frozenset):
        if issubclass(type(value), kind):
            return kind(kind.__iter__(value))
    for kind in (int, float, complex):
        if issubclass(type(value), kind):
            return kind.__pos__(value)
    for kind in (str, bytes):
        if issubclass(type(value), kind):
            return kind.__getitem__(value, slice(None))
    return dict(dict.items(value))
