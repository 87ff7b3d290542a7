"""The protocol between judge and candidate: requests in both directions over one socket.

Each side holds a `Peer`. A request names an operation, an object and arguments; a reply carries the
value and the new contents of arguments that were changed in place. While a side waits for a reply it
serves the other's requests, so a test can pass one of its own functions as a sort key. Objects that
are not plain data stay in their process and travel as handles.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import operator
import os
import struct
import types
from collections.abc import Callable, Iterator
from typing import Any

from helpers.sandbox.codec import Codec
from helpers.sandbox.own_types import BUILT_IN, OwnTypes
from helpers.sandbox.wire import CodecError, Memo, known_class

MAX_MESSAGE_BYTES = 64 * 2**20
OPERATORS = ("eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "floordiv", "mod", "pow",
             "neg", "abs", "and_", "or_", "xor", "lshift", "rshift", "matmul", "contains",
             "index")  # fmt: skip
IS_COROUTINE = 0x80  # the flag of a code object that an `async def` has
# Private names, and attributes that lead from generators, coroutines, frames and functions elsewhere.
FORBIDDEN_ATTRIBUTES = ("_", "gi_", "cr_", "ag_", "f_", "tb_", "co_", "func_", "mro")


class ChannelClosed(Exception):
    """The other process has ended or closed the channel."""


class MirrorClass(type):
    """The class of exception classes that only the other side defines; a call makes its exception there."""

    _link: tuple[Any, int] | None = None  # peer and number of the class there

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return the exception that the other side makes of the arguments."""
        if cls._link is None:
            return super().__call__(*args, **kwargs)
        peer, number = cls._link
        peer.made_calls += 1
        return peer.request("call", Handle(peer, number), *args, **kwargs)


class Handle:
    """An object of the other side of which only the number is known."""

    def __init__(self, peer: Any, number: int):
        self._link = (peer, number)

    def _sandbox_handle(self) -> tuple[Any, int]:
        return self._link


class RemoteError(Exception):
    """An exception from the other side whose class does not exist here; its text names that class."""


# What built-in errors hold beside their arguments and dictionary.
ERROR_SLOTS: dict[type, tuple[str, ...]] = {
    OSError: ("filename", "filename2"),
    ImportError: ("name", "path"),
    NameError: ("name",),
    AttributeError: ("name",),
}
MAX_CAUSES = 4  # errors in a chain that cross


def _held(error: BaseException, *, with_cause: bool) -> dict[str, Any]:
    """Return an error's slots, notes and cause that are not None."""
    kinds = [kind for kind in ERROR_SLOTS if isinstance(error, kind)]
    held = {name: vars(kind)[name].__get__(error) for kind in kinds for name in ERROR_SLOTS[kind]}
    held["__notes__"] = vars(error).get("__notes__")
    held["__cause__"] = vars(BaseException)["__cause__"].__get__(error) if with_cause else None
    return {name: each for name, each in held.items() if each is not None}


def _give_held(error: BaseException, held: dict[str, Any]) -> None:
    """Give an error notes and cause of the other side's one."""
    notes, cause = held.pop("__notes__", None), held.pop("__cause__", None)
    if type(notes) is list and all(type(note) is str for note in notes):
        error.__notes__ = notes
    if isinstance(cause, BaseException):
        error.__cause__ = cause


class Peer:
    """One end of the channel.

    Args:
        descriptor: the socket's file descriptor.
        make_proxy: `(peer, kind, number, name, home) -> object` that stands for an object of the other
            side; kind is "fn" (callable), "afn" (one that returns a coroutine), "cls", "it" (iterator),
            "co" (coroutine), "sub" (an instance of a subclass of a built-in type) or "obj". `home` is
            [module, name] of the class that both sides may know.
        trusting: whether the other side may do anything here. Otherwise it may use only objects that
            were passed to it, by public names, and may change no function, class or method.
    """

    def __init__(
        self, descriptor: int, make_proxy: Callable[[Peer, str, int, str, list], Any], *, trusting: bool
    ):
        self.made_calls = 0  # calls of the program's objects, counted by the judge's proxies
        self.names_classes = False  # whether the tests use a class of the program by its name
        self.special: Callable[[str, Any, list, dict], Any] = _unknown  # operations that are not known here
        self.may_use: Callable[[Any, str, bool], bool] = _allow_all
        self.before_reply: Callable[[], Any] = _nothing
        self.before_request: Callable[[], None] | None = None
        self.after_reply: Callable[[], Any] = _nothing
        self.threads: Callable[[], int] = _nothing  # that run here; every reply tells their number
        self.threads_there = 0  # what the other side's last reply told
        # Tests and programs may have threads; an answer belongs to one of them. Not from `threading`: its
        # handlers would run at every fork.
        self._asking = _thread.RLock()
        self._depth = 0  # requests, of either side, that are not answered yet
        self._descriptor = descriptor
        self._pending = b""  # received, but not read yet
        self._make_proxy = make_proxy
        self._trusting = trusting
        self._errors = 0  # that are being encoded, each the cause or an argument of the one before
        self._codec = Codec(self._export, self._adopt, (self._encode_error, self._decode_error))
        self._mine: dict[int, Any] = {}
        self._number_of: dict[int, int] = {}
        self._proxies: dict[int, Any] = {}
        self._mirrors: dict[tuple[str, str], type] = {}

    def share(self, own: OwnTypes) -> None:
        """Let instances of classes that both sides define cross as data from now on."""
        self._codec.own = own

    def known_base(self, kind: type) -> list[str] | None:
        """Return module and name of the first class both sides define that `kind` derives from."""
        found = self._codec.own.nearest(kind) if self._codec.own is not None else None
        return None if found is None else [found.__module__, found.__qualname__]

    def class_known_as(self, module: Any, name: Any) -> type | None:
        """Return this side's class for a class of the other side that both define."""
        own = self._codec.own
        return own.find(name) if own is not None and module == own.other else None

    def request(self, op: str, target: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Send a request; return the other side's answer or raise its exception.

        Raises:
            ChannelClosed: if the other process ended.
            CodecError: if a value cannot cross the channel.
        """
        with self._asking:
            return self._request(op, target, args, kwargs)

    def _request(self, op: str, target: Any, args: tuple, kwargs: dict) -> Any:
        if self.before_request is not None:
            self.before_request()
        memo = Memo()
        encode = self._codec.encode
        named = encode(kwargs, memo) if kwargs else None  # most requests have none
        message = [encode(target, memo), self._codec.encode_all(args, memo), named]
        self._send(["?", op, *message, self._changes()])
        self._depth += 1
        try:
            while True:
                reply = self._receive()
                if reply[0] != "?":
                    break
                self._serve(reply)
            self._apply(reply[3])
            self.threads_there = reply[4]
        finally:
            self._left()
        self.after_reply()
        table = memo.table()
        if reply[2] is not None:
            for wire in (*reply[2][0], reply[2][1]):
                self._codec.decode(wire, table)
        if reply[0] == "!":
            raise self._decode_error(reply[1])
        return self._codec.decode(reply[1], table)

    def serve_forever(self) -> None:
        """Answer requests until the channel closes."""
        while True:
            message = self._receive()
            if message[0] == "?":
                self._serve(message)

    def _serve(self, message: list) -> None:
        table: dict[int, Any] = {}
        memo, args, kwargs = Memo(), [], {}
        self._depth += 1
        sent: list = [[], None]
        try:
            _, op, wire_target, *sent, changed = message
            if not (self._trusting or (type(wire_target) is list and wire_target[:1] == ["y"])):
                raise CodecError("only objects that were handed over may be used")
            self._apply(changed)
            target = self._codec.decode(wire_target, table)
            args = self._codec.decode_all(sent[0], table)
            if sent[1] is not None:
                kwargs = self._codec.decode(sent[1], table)
            memo = Memo(table)
            tag, value = "=", self.perform(op, target, args, kwargs)
        except ChannelClosed:
            raise
        except BaseException as error:  # anything the program raises is an answer
            tag, value = "!", error
        self._send(self._reply(tag, value, memo, args, kwargs, sent))
        self._left()

    def _changes(self) -> list | None:
        """Return what the other side must know about shared objects; see `OwnTypes.changes`."""
        return self._codec.own.changes(self._codec) if self._codec.own is not None else None

    def _apply(self, changed: Any) -> None:
        if changed is not None:
            if self._codec.own is None or type(changed) is not list:
                raise CodecError("malformed message")
            self._codec.own.apply(changed, self._codec)

    def _left(self) -> None:
        """Note that a request has been answered; after the outermost, old objects are forgotten."""
        self._depth -= 1
        if self._depth == 0 and self._codec.own is not None:
            self._codec.own.settle()

    def _reply(self, tag: str, value: Any, memo: Memo, args: list, kwargs: dict, sent: list) -> list:
        """Build the reply: the value or exception, and the arguments again if they changed."""
        try:
            state = [self._codec.encode_all(args, memo), None]
            if kwargs:
                state[1] = self._codec.encode(kwargs, memo)
            body = self._encode_error(value) if tag == "!" else self._codec.encode(value, memo)
            changed = self._changes()
        except (CodecError, RecursionError, MemoryError, RuntimeError) as error:
            state, changed = sent, None
            tag, body = "!", self._encode_error(CodecError(f"the answer cannot be sent: {error!r:.200}"))
        self.before_reply()
        return [tag, body, None if state == sent else state, changed, self.threads()]

    def perform(self, op: str, target: Any, args: list, kwargs: dict) -> Any:
        """Perform the operation that the other side requested."""
        if op == "call":
            return target(*args, **kwargs)
        if op == "method":
            name = args.pop(0)
            self._check_access(target, name)
            return getattr(target, name)(*args, **kwargs)
        if op in ("get", "set", "del"):
            self._check_access(target, args[0], changed=op != "get")
            return {"get": getattr, "set": setattr, "del": delattr}[op](target, *args)
        if op in _PLAIN_OPERATIONS:
            return _PLAIN_OPERATIONS[op](target, *args)
        if op.startswith("op:") and op[3:] in OPERATORS:
            return getattr(operator, op[3:])(target, *args)
        return self.special(op, target, args, kwargs)

    def _check_access(self, target: Any, name: Any, *, changed: bool = False) -> None:
        if self._trusting:
            return
        if name == "__doc__" and not changed and isinstance(target, types.FunctionType | types.MethodType):
            return  # `functools.wraps` copies it
        allowed = type(name) is str and not name.startswith(FORBIDDEN_ATTRIBUTES)
        if allowed and changed:  # a program may change the data of the tests' objects, not their behaviour
            fixed = isinstance(target, type | types.FunctionType | types.MethodType | types.ModuleType)
            allowed = not fixed and not callable(getattr(type(target), name, None))
        allowed = allowed and self.may_use(target, name, changed)
        if not allowed:
            raise AttributeError(f"attribute {name!r} is not accessible through the sandbox")

    def _export(self, value: Any) -> list:
        """Encode a handle: ["y", n] for the other side's own object, else ["x", n, kind, name, home]."""
        home = getattr(type(value), "_sandbox_handle", None)
        if home is not None and home(value)[0] is self:
            return ["y", home(value)[1]]
        number = self._number_of.setdefault(id(value), len(self._mine))
        self._mine.setdefault(number, value)
        if isinstance(value, type):
            if issubclass(value, BaseException):
                return ["e", *self._describe_class(value), number]
            kind = "cls"
        elif isinstance(value, _FUNCTIONS):
            code = getattr(value, "__code__", None)
            kind = "afn" if getattr(code, "co_flags", 0) & IS_COROUTINE else "fn"
        elif isinstance(value, Iterator):
            kind = "it"
        elif isinstance(value, types.CoroutineType):
            kind = "co"
        else:
            kind = "sub" if issubclass(type(value), BUILT_IN) else "obj"
        name = getattr(value, "__qualname__", None) or type(value).__qualname__
        own = self._codec.own
        known = (own.nearest(type(value)) if own else None) or type(value)
        return ["x", number, kind, str(name), [str(known.__module__), str(known.__qualname__)]]

    def _adopt(self, wire: list) -> Any:
        tag = wire[0]
        if tag == "y" and len(wire) == 2 and wire[1] in self._mine:
            return self._mine[wire[1]]
        if tag == "x" and len(wire) == 5 and type(wire[1]) is int:
            proxy = self._proxies.get(wire[1])
            if proxy is None:
                home = wire[4] if type(wire[4]) is list and len(wire[4]) == 2 else ["", ""]
                proxy = self._make_proxy(self, wire[2], wire[1], str(wire[3]), home)
                self._proxies[wire[1]] = proxy
            return proxy
        if tag == "e" and len(wire) == 4:
            found = self._error_class(wire[1], wire[2])
            if isinstance(found, MirrorClass) and type(wire[3]) is int:
                found._link = (self, wire[3])
            return found
        raise CodecError("malformed handle")

    @staticmethod
    def _describe_class(kind: type) -> list:
        lineage = [[c.__module__, c.__qualname__] for c in kind.__mro__ if c not in (object,)]
        return [str(kind.__qualname__), lineage]

    def _encode_error(self, error: BaseException) -> list:
        self._errors += 1
        try:
            memo = Memo()
            args = self._codec.encode_all(error.args, memo)
            public = {k: v for k, v in vars(error).items() if type(k) is str and not k.startswith("_")}
            public |= _held(error, with_cause=self._errors <= MAX_CAUSES)
            parts = [args, str(error)[:2000], self._codec.encode(public, Memo())]
        except BaseException:  # a hostile exception can fail in any of these
            parts = [[], "", self._codec.encode({}, Memo())]
        finally:
            self._errors -= 1
        return [*self._describe_class(type(error)), *parts]

    def _decode_error(self, wire: Any) -> BaseException:
        if type(wire) is not list or len(wire) != 5:
            raise CodecError("malformed exception")
        kind = self._error_class(wire[0], wire[1])
        try:
            args = tuple(self._codec.decode(a, {}) for a in wire[2])
        except CodecError:
            args = (str(wire[3]),)
        if kind is RemoteError:
            return RemoteError(f"{wire[0]}: {wire[3]}")
        try:
            error = kind(*args) if kind.__module__ == "builtins" else kind.__new__(kind, *args)
        except TypeError:  # the class is constructed with other arguments
            error = kind.__new__(kind, *args)
        error.args = args
        held = self._codec.decode(wire[4], {})
        _give_held(error, held)
        for name, value in held.items():
            if type(name) is str and not name.startswith("_"):
                with contextlib.suppress(AttributeError, TypeError):  # computed or read-only here
                    setattr(error, name, value)
        return error

    def _error_class(self, name: Any, lineage: Any) -> type:
        """Return the local exception class of this name, or a new subclass of its nearest known ancestor."""
        own = tuple(lineage[0]) if lineage else ("", "")
        shared = self._codec.own and self._codec.own.error_class(*own)
        known = shared or known_class(*own)
        if known is not None and issubclass(known, BaseException):
            return known
        if own in self._mirrors:
            return self._mirrors[own]
        for index, (module, qualname) in enumerate(lineage[1:], start=1):
            base = known_class(module, qualname)
            if base is None and module == own[0]:
                base = self._error_class(qualname, lineage[index:])
            if base is not None and issubclass(base, BaseException):
                maker = MirrorClass if type(base) is type else type(base)
                self._mirrors[own] = maker(str(name).split(".")[-1], (base,), {})
                return self._mirrors[own]
        return RemoteError

    def _send(self, message: list) -> None:
        data = _dumps(message).encode("ascii")
        if len(data) > MAX_MESSAGE_BYTES:
            if message[0] == "?":
                raise CodecError("the arguments are too large to send")
            message = ["!", self._encode_error(CodecError("the answer is too large")), None, None, 0]
            data = _dumps(message).encode("ascii")
        data = struct.pack("!I", len(data)) + data
        try:
            sent = os.write(self._descriptor, data)
            while sent < len(data):
                sent += os.write(self._descriptor, memoryview(data)[sent:])
        except OSError as error:
            raise ChannelClosed from error

    def _receive(self) -> list:
        (size,) = struct.unpack("!I", self._read(4))
        if size > MAX_MESSAGE_BYTES:
            raise CodecError("message too large")
        try:
            message, end = _loads(self._read(size).decode("ascii"))
        except (RecursionError, ValueError) as error:
            deep = isinstance(error, RecursionError)
            raise CodecError("message nested too deeply" if deep else "message is not JSON") from error
        fits = end == size and type(message) is list and message
        if not fits or (message[0], len(message)) not in _SHAPES:
            raise CodecError("malformed message")
        return message

    def _read(self, size: int) -> bytes:
        """Return the next `size` bytes and keep what arrives with them: most messages take one read."""
        held = self._pending
        if len(held) >= size:
            self._pending = held[size:]
            return held[:size]
        parts, missing = [held], size - len(held)
        while missing > 0:
            try:
                part = os.read(self._descriptor, 2**13 if missing < 2**13 else 2**20)
            except OSError as error:
                raise ChannelClosed from error
            if not part:
                raise ChannelClosed
            parts.append(part)
            missing -= len(part)
        data = b"".join(parts)
        self._pending = data[size:]
        return data[:size]


def _unknown(op: str, target: Any, args: list, kwargs: dict) -> Any:
    raise CodecError(f"unknown operation {op}")


def _allow_all(target: Any, name: str, changed: bool) -> bool:
    return True


def _nothing() -> int:
    return 0


_dumps, _loads = json.dumps, json.JSONDecoder().raw_decode  # messages begin without blanks
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)
_SHAPES = {("?", 6), ("=", 5), ("!", 5)}
_PLAIN_OPERATIONS: dict[str, Callable] = {
    "next": next, "iter": iter, "len": len, "str": str, "repr": repr, "bool": bool, "hash": hash,
    "item": operator.getitem, "setitem": operator.setitem, "delitem": operator.delitem,
    "float": float, "int": int, "format": format, "reversed": reversed,
}  # fmt: skip
