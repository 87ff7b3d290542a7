"""Proxies that stand in the judge for objects of the program; every use is a request to its process.

The result is data of exact types or another proxy. A proxy never equals plain data, is not ordered
against it and, unless the tests name a class of the program, takes no part in arithmetic. So the program
sees no expected value and decides no comparison with one.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from helpers.sandbox.own_types import BUILT_IN
from helpers.sandbox.wire import known_class

if TYPE_CHECKING:
    from helpers.sandbox.channel import Peer

BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift",
          "rshift")  # fmt: skip
ORDERINGS = ("lt", "le", "gt", "ge")
# Special methods that only forward: name -> operation, and name -> exact type that the answer must have.
ASKED = {"iter": "iter", "reversed": "reversed", "getitem": "item", "setitem": "setitem",
         "delitem": "delitem", "enter": "enter", "copy": "copy", "aiter": "aiter"}  # fmt: skip
EXACT = {"bool": bool, "len": int, "str": str, "repr": str, "format": str, "float": float, "int": int}
SHOWN = "the program's answer to an expected value cannot be used as a value"
# Modules whose classes are data: an object that stays behind a proxy is never one of theirs.
DATA_MODULES = ("builtins", "datetime", "decimal", "fractions", "numbers", "numpy", "pandas", "unittest.mock")
FORWARDED_NAMES = (
    "__annotations__",
    "__defaults__",
    "__dict__",
    "__doc__",
    "__name__",
    "__qualname__",
    "__wrapped__",
)


class Remote:
    """Proxy for an object of the program, equal only to itself or to an object of equal state."""

    # Mangled names, which cannot clash with the object's own.
    __slots__ = ("__home", "__kind", "__name", "__number", "__peer", "__shown")

    def __init__(self, peer: Peer, number: int, name: str, kind: str, home: tuple[Any, Any] = ("", "")):
        hold = functools.partial(object.__setattr__, self)
        hold("_Remote__peer", peer)
        hold("_Remote__number", number)
        hold("_Remote__name", name)
        hold("_Remote__kind", kind)
        hold("_Remote__home", home)  # module and name of its class, or of the nearest one both sides define
        hold("_Remote__shown", False)  # whether it derives from data that the tests showed the program

    def _sandbox_handle(self) -> tuple[Peer, int]:
        return self.__peer, self.__number

    def __ask(self, op: str, *args: Any) -> Any:
        return self.__peer.request(op, self, *args)

    def __exactly(self, kind: type, op: str, *args: Any) -> Any:
        if self.__shown:
            raise TypeError(SHOWN)
        value = self.__ask(op, *args)
        if type(value) is not kind:
            raise TypeError(f"the program answered with {type(value).__name__} where {kind.__name__} is due")
        return value

    @property
    def __plain(self) -> bool:
        return self.__kind == "sub"

    def __data(self) -> Any:
        """Fetch the current built-in value of an instance of a subclass such as an `IntEnum`."""
        value = self.__ask("plain")
        if isinstance(value, Remote | RemoteIterator):
            raise TypeError("the program answered with an object where plain data is due")
        return value

    @property
    def __class__(self) -> type:
        """The library class of the object, so that `isinstance` knows it; a class of plain data is none."""
        if self.__kind != "obj":
            return Remote
        return self.__peer.class_known_as(*self.__home) or _library_class(*self.__home)

    @property
    def __bases__(self) -> tuple[type, ...]:
        """The class of the tests that a class of the program derives from, so that `issubclass` knows it."""
        said = self.__ask("base") if self.__kind == "cls" else None
        base = self.__peer.class_known_as(*said) if type(said) is list and len(said) == 2 else None
        if base is None:
            raise AttributeError("__bases__")
        return (base,)

    @property
    def __signature__(self) -> Any:
        return _signature(self.__ask("signature"))

    @property
    def __code__(self) -> Any:
        """A code object that only says that the function returns a coroutine, as `inspect` asks for it."""
        if self.__kind != "afn":
            raise AttributeError("__code__")
        return _run.__code__

    @property
    def __kwdefaults__(self) -> None:
        return None

    async def __anext__(self) -> Any:
        return self.__ask("anext")

    async def __aenter__(self) -> Any:
        return self.__ask("aenter")

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return bool(self.__ask("aexit", kind, *(error.args if error else ())))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__") and name not in FORWARDED_NAMES:
            raise AttributeError(name)
        return self.__ask("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.__ask("set", name, value)

    def __delattr__(self, name: str) -> None:
        self.__ask("del", name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the program's object; this counts as using the program."""
        self.__peer.made_calls += 1
        try:
            return self.__peer.request("call", self, *args, **kwargs)
        except StopIteration as error:  # it would end a loop in the tests as if nothing were wrong
            raise RuntimeError("the program raised StopIteration") from error

    def __eq__(self, other: Any) -> bool:
        if self is other:
            return True
        if isinstance(other, Remote):
            same = self.__name == other.__name and self.__ask("state") == other.__ask("state")
            return same and self.__ask("op:eq", other) is True
        return self.__plain and self.__data() == other

    def __hash__(self) -> int:
        return hash(self.__data()) if self.__plain else self.__exactly(int, "hash")

    def __contains__(self, item: Any) -> bool:
        if self.__plain:
            return item in self.__data()
        if self.__peer.names_classes:
            return self.__exactly(bool, "op:contains", item)
        return any(item is each or item == each for each in self)

    def __index__(self) -> int:
        return self.__exactly(int, "op:index")

    def __neg__(self) -> Any:
        return self.__unary("op:neg")

    def __abs__(self) -> Any:
        return self.__unary("op:abs")

    def __round__(self, *digits: int) -> Any:
        return self.__unary("round", *digits)

    def __unary(self, op: str, *args: Any) -> Any:
        if self.__shown:
            raise TypeError(SHOWN)
        return self.__ask(op, *args)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return bool(self.__ask("exit", kind, *(error.args if error else ())))

    def __deepcopy__(self, memo: dict) -> Any:
        return self.__ask("deepcopy")

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, Remote) and self.__exactly(bool, "isinstance", value)

    def __subclasscheck__(self, value: Any) -> bool:
        return isinstance(value, Remote) and self.__exactly(bool, "issubclass", value)

    def _sandbox_ordered(self, name: str, other: Any) -> Any:
        if isinstance(other, Remote) and not (self.__plain and other.__plain):
            return self.__exactly(bool, f"op:{name}", other)
        if not self.__plain:
            return NotImplemented
        return getattr(operator, name)(self.__data(), other.__data() if isinstance(other, Remote) else other)

    def _sandbox_binary(self, name: str, other: Any, *, reflected: bool) -> Any:
        if self.__plain:
            pair = (self.__data(), other.__data() if isinstance(other, Remote) and other.__plain else other)
            return getattr(operator, name)(*(reversed(pair) if reflected else pair))
        if not (isinstance(other, Remote) or self.__peer.names_classes):
            return NotImplemented
        value = self.__ask(f"rop:{name}" if reflected else f"op:{name}", other)
        shown = self.__shown or not isinstance(other, Remote) or other.__shown
        if isinstance(value, Remote):
            object.__setattr__(value, "_Remote__shown", value.__shown or shown)
        elif shown:
            raise TypeError("the program answered with plain data for an operation on plain data")
        return value


def _make_asking(op: str) -> Callable:
    return lambda self, *args: self._Remote__ask(op, *args)


def _make_exact(kind: type, op: str) -> Callable:
    return lambda self, *args: self._Remote__exactly(kind, op, *args)


def _make_ordering(name: str) -> Callable:
    return lambda self, other: self._sandbox_ordered(name, other)


def _make_binary(name: str, reflected: bool) -> Callable:
    name = {"and": "and_", "or": "or_"}.get(name, name)
    return lambda self, other: self._sandbox_binary(name, other, reflected=reflected)


for _name, _op in ASKED.items():
    setattr(Remote, f"__{_name}__", _make_asking(_op))
for _name, _kind in EXACT.items():
    setattr(Remote, f"__{_name}__", _make_exact(_kind, _name))
for _name in ORDERINGS:
    setattr(Remote, f"__{_name}__", _make_ordering(_name))
for _name in BINARY:
    setattr(Remote, f"__{_name}__", _make_binary(_name, False))
    setattr(Remote, f"__r{_name}__", _make_binary(_name, True))
Remote.__doc__ = property(lambda self: self._Remote__ask("get", "__doc__"))  # type: ignore[assignment]


class RemoteIterator:
    """Proxy for a generator or iterator of the program; items are fetched one by one."""

    def __init__(self, peer: Peer, number: int):
        self._peer, self._number = peer, number

    def _sandbox_handle(self) -> tuple[Peer, int]:
        return self._peer, self._number

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._peer.request("get", self, name)

    def __iter__(self) -> RemoteIterator:
        return self

    def __next__(self) -> Any:
        return self._peer.request("next", self)

    def send(self, value: Any) -> Any:
        """Forward to the generator's `send`."""
        return self._peer.request("method", self, "send", value)

    def throw(self, *error: Any) -> Any:
        """Forward to the generator's `throw`."""
        return self._peer.request("method", self, "throw", *error)

    def close(self) -> None:
        """Forward to the generator's `close`."""
        self._peer.request("method", self, "close")


def is_class(value: Any) -> bool:
    """Return whether `value` stands for a class of the program."""
    return isinstance(value, Remote) and object.__getattribute__(value, "_Remote__kind") == "cls"


def _library_class(module: Any, name: Any) -> type:
    """Return the class of this name if a library imported here has it and it holds no plain data."""
    found = known_class(module, name)
    if found is None or issubclass(found, (*BUILT_IN, BaseException, type)):
        return Remote
    homes = {module, str(found.__module__)}
    tops = {home.partition(".")[0] for home in homes}
    return Remote if (homes | tops) & {*DATA_MODULES, "helpers"} else found


def _signature(parameters: Any) -> Any:
    """Return the signature that the program declares for a function, as data."""
    import inspect

    if type(parameters) is not list:
        raise TypeError("the program answered with no signature")
    made = [
        inspect.Parameter(name, inspect._ParameterKind(kind), **({"default": rest[0]} if rest else {}))
        for name, kind, *rest in parameters
    ]
    return inspect.Signature(made)


def make_proxy(peer: Peer, kind: str, number: int, name: str, home: list) -> Any:
    """Return the proxy for an object of the program; kinds as in `Peer`."""
    if kind == "it":
        return RemoteIterator(peer, number)
    if kind == "co":
        return _run(peer, number)
    return Remote(peer, number, name, kind, tuple(home))


async def _run(peer: Peer, number: int) -> Any:
    """Await a coroutine of the program from the tests' event loop; it runs in the program's own loop."""
    return peer.request("await", Remote(peer, number, "coroutine", "obj"))
