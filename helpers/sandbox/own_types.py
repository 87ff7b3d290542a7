"""Values of classes that the tests and the program both define: they cross as data, not as objects.

A problem's prompt often gives classes, exceptions and Enums. Both processes then hold a class of that name,
and each builds its own: what arrives in the judge is an instance of the *tests'* class, filled with the
attributes that the program's instance had. Comparisons, methods and properties are therefore the tests'.
"""

from __future__ import annotations

import abc
import enum
import typing
from collections.abc import Iterable
from typing import Any, Protocol

from helpers.sandbox.wire import CodecError, Memo

BUILT_IN = (int, float, complex, str, bytes, tuple, list, dict, set, frozenset)
LIVE = 64  # objects whose changes are noticed from one request to the next
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
        # Objects that have crossed keep their numbers: even ones are the judge's, odd ones the program's.
        self._next = 0 if module == "tests" else 1
        self._live: dict[int, Any] = {}
        self._gids: dict[int, int] = {}  # id of the object -> its number
        self._recent: dict[int, None] = {}  # those that crossed last, in that order
        self._seen: dict[int, list] = {}  # what the other side was told last
        self._tables: dict[int, dict[int, Any]] = {}  # the numbered containers in each object's state

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
        if self._is_value(kind):
            number, first = memo.number(value)
            return ["o", *self._described(value, number, memo, codec)] if first else ["r", number]
        return ["ob", self._touch(self._gids.get(id(value)), value)]

    def _is_value(self, kind: type) -> bool:
        """Return whether an object must be complete when it is first used, as a key must be for its hash."""
        return issubclass(kind, FIXED) or kind.__hash__ not in (object.__hash__, None)

    def _touch(self, gid: int | None, value: Any) -> int:
        """Note that an object crosses; return its number, which it keeps as long as both processes live."""
        if gid is None:
            gid, self._next = self._next, self._next + 2
        if gid not in self._live:
            self._live[gid], self._gids[id(value)] = value, gid
        self._recent.pop(gid, None)
        self._recent[gid] = None
        return gid

    def settle(self) -> None:
        """Forget all but the objects that crossed last: no change of the others is noticed any more."""
        for gid in list(self._recent)[:-LIVE]:
            del self._recent[gid]

    def changes(self, codec: Codec) -> list[list] | None:
        """Describe the objects that cross for the first time or have changed since; None without any.

        They are described one by one: recursion would fail for a long chain of objects.
        """
        changed, done = [], set()
        while left := [gid for gid in self._recent if gid not in done]:
            for gid in left:
                done.add(gid)
                described = self._describe_live(gid, codec)
                if described != self._seen.get(gid):
                    self._seen[gid] = described
                    changed.append(described)
        return changed or None

    def _describe_live(self, gid: int, codec: Codec) -> list:
        memo = Memo(self._tables.get(gid))
        described = self._described(self._live[gid], gid, memo, codec)
        self._tables[gid] = memo.emitted()
        return described

    def apply(self, changed: list[list], codec: Codec) -> None:
        """Give this side's objects the state that the other side's have; make those that are new.

        All exist before the first is filled, since each may refer to any other. Containers in their
        attributes stay the same objects.
        """
        for gid, qualname, *_ in changed:
            kind, known = self._plain_kind(qualname), self._live.get(gid)
            if type(gid) is not int or self._is_value(kind):
                raise CodecError("malformed object")
            if known is not None and type(known) is not kind:
                raise CodecError("an object changed its class")
            self._touch(gid, (_base(kind) or object).__new__(kind) if known is None else known)
        for gid, _, data, *named in changed:
            value, table = self._live[gid], self._tables.setdefault(gid, {})
            _refill(value, _base(type(value)), [codec.decode(part, table) for part in data])
            _give_state(value, type(value), _named(named, table, codec))
        for gid, *_ in changed:
            self._seen[gid] = self._describe_live(gid, codec)

    def live(self, gid: Any) -> Any:
        """Return the object of this number."""
        if type(gid) is not int or gid not in self._live:
            raise CodecError("no object of that number here")
        self._touch(gid, self._live[gid])
        return self._live[gid]

    def _plain_kind(self, qualname: Any) -> type:
        kind = self.find(qualname)
        if kind is None or not self._is_plain(kind):
            raise CodecError("no class of that name here")
        return kind

    def _described(self, value: Any, number: int, memo: Memo, codec: Codec) -> list:
        """Return number, class, built-in data and attributes of an instance."""
        plain, held = state_of(value)
        parts = [part for pair in plain.items() for part in pair] if isinstance(plain, dict) else plain
        if not isinstance(plain, tuple | list | dict | set | frozenset):
            parts = () if plain is None else (plain,)
        data = [codec.encode(part, memo) for part in parts]
        named = [part for name, each in held.items() for part in (name, codec.encode(each, memo))]
        return [number, type(value).__qualname__, data, *named]

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

    def decode(self, wire: list, table: dict[int, Any], codec: Codec) -> Any:
        """Build this side's value of the described class, or give the known one of that number its state."""
        number, qualname, data, *named = wire
        kind, base, known = self._plain_kind(qualname), _base(self._plain_kind(qualname)), table.get(number)
        if type(number) is not int or (known is not None and type(known) is not kind):
            raise CodecError("an object changed its class")
        if known is None and base not in FIXED:
            known = table[number] = (base or object).__new__(kind)
        parts = [codec.decode(part, table) for part in data]
        if base not in FIXED:
            _refill(known, base, parts)
        elif known is None:
            known = table[number] = _made(kind, base, parts)
        _give_state(known, kind, _named(named, table, codec))
        return known


def _named(parts: list, table: dict[int, Any], codec: Codec) -> dict[str, Any]:
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return {name: codec.decode(each, table) for name, each in pairs}


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
        defined = next((vars(each)[name] for each in kind.__mro__ if name in vars(each)), None)
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
