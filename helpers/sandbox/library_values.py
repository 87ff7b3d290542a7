"""Values of library classes as parts that can cross, and back: paths, UUIDs, addresses, frames, tensors.

Each class has a function that takes a value apart and one that builds it. The builders run with parts that
a program chose, so they call only constructors that compute nothing but the value.
"""

from __future__ import annotations

import enum
import importlib
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from helpers.sandbox import symbols, type_values
from helpers.sandbox.wire import CodecError, by_name


class Form(NamedTuple):
    """How one class crosses: `take` returns its parts, `build` makes the value, `refill` changes one."""

    take: Callable[[Any], tuple]
    build: Callable[..., Any]
    refill: Callable[[Any, Any], Any] | None = None  # for values that can change in place


def library_parts(value: Any, kind: type) -> tuple[str, tuple, bool] | None:
    """Return the key of the class, the parts of the value, and whether it can change in place."""
    # pathlib._local is pathlib; functions that sympy makes have no module.
    module = kind.__module__.partition("._")[0] if kind.__module__ else "sympy"
    top = module.partition(".")[0]
    if issubclass(kind, enum.Enum):
        member = value._name_ if by_name(kind.__module__, kind.__qualname__) is kind else None
        return None if member is None else ("enum", (kind.__module__, kind.__qualname__, member), False)
    if top == "pandas":
        from helpers.sandbox import frames

        found = frames.frame_parts(value)
        return found and (f"pandas.{found[0]}", found[1], found[0] in frames.CHANGEABLE)
    if kind is types.MappingProxyType:
        return "types.MappingProxyType", (dict(value),), False
    if top == "typing" or kind in type_values.BUILT_IN:
        taken = type_values.type_parts(value, kind)
        return taken and ("typing", taken, False)
    if top == "numpy":
        return _numpy_parts(value, kind)
    if top == "sympy":
        taken = symbols.symbol_parts(value)
        return taken and ("sympy", taken, False)
    key = f"{module}.{kind.__qualname__}"
    form = FORMS.get(key)
    if form is None or getattr(sys.modules.get(module), kind.__qualname__, None) is not kind:
        return None
    return key, form.take(value), form.refill is not None


def library_value(key: Any, parts: list) -> Any:
    """Return the value that `library_parts` took apart.

    Raises:
        CodecError: for an unknown class.
    """
    if type(key) is str and key in FORMS:
        return FORMS[key].build(*parts)
    if key == "enum":
        return _member(*parts)
    if key == "typing":
        return type_values.type_from(*parts)
    if key == "sympy":
        return symbols.symbol_from(*parts)
    if type(key) is str and key.startswith("pandas."):
        from helpers.sandbox import frames

        return frames.frame_from(key.partition(".")[2], parts)
    raise CodecError("values of that class are not known here")


def refill_value(key: str, known: Any, new: Any) -> None:
    """Give `known` the contents of `new`, both of the class `key`."""
    if key.startswith("pandas."):
        from helpers.sandbox import frames

        frames.refill_frame(known, new)
    else:
        FORMS[key].refill(known, new)


def _from(module: str, name: str) -> Callable[..., Any]:
    """Return a constructor that imports its module only when it is called."""

    def construct(*parts: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*parts)

    return construct


def _numpy_parts(value: Any, kind: type) -> tuple[str, tuple, bool] | None:
    numpy = sys.modules["numpy"]
    if kind is numpy.ma.MaskedArray:
        return "numpy.ma", (numpy.asarray(value.data), numpy.ma.getmaskarray(value)), False
    return ("numpy.matrix", (numpy.asarray(value),), False) if kind is numpy.matrix else None


def _member(module: Any, qualname: Any, name: Any) -> Any:
    if type(module) is str and module.partition(".")[0] in sys.stdlib_module_names and module != "this":
        importlib.import_module(module)
    found = by_name(module, qualname)
    if not (isinstance(found, type) and issubclass(found, enum.Enum)) or name not in found.__members__:
        raise CodecError("no Enum of that name here")
    return found.__members__[name]


def _zone_parts(zone: Any) -> tuple:
    return (zone.utcoffset(None), zone.tzname(None))


def _moment_parts(value: Any) -> tuple:
    day = (value.year, value.month, value.day) if hasattr(value, "year") else ()
    zone = value.tzinfo
    if zone is not None and type(zone).__module__ not in ("datetime", "zoneinfo"):
        zone = importlib.import_module("datetime").timezone(value.utcoffset())
    return (*day, value.hour, value.minute, value.second, value.microsecond, zone, value.fold)


def _moment(name: str) -> Callable[..., Any]:
    def construct(*parts: Any) -> Any:
        return getattr(importlib.import_module("datetime"), name)(*parts[:-1], fold=parts[-1])

    return construct


def _array(code: str, data: bytes) -> Any:
    array = importlib.import_module("array").array(code)
    array.frombytes(data)
    return array


def _namespace_refill(known: Any, new: Any) -> None:
    vars(known).clear()
    vars(known).update(vars(new))


def _tensor_parts(value: Any) -> tuple:
    torch = sys.modules["torch"]
    flat = value.detach().cpu().contiguous().reshape(-1)
    return (str(value.dtype).partition(".")[2], tuple(value.shape), flat.view(torch.uint8).numpy().tobytes(),
            bool(value.requires_grad))  # fmt: skip


def _tensor(dtype: str, shape: tuple, data: bytes, needs_gradient: bool) -> Any:
    import torch

    if data:
        tensor = torch.frombuffer(bytearray(data), dtype=_torch_dtype(dtype)).reshape(shape)
    else:
        tensor = torch.empty(shape, dtype=_torch_dtype(dtype))
    return tensor.requires_grad_(needs_gradient)


def _torch_dtype(name: str) -> Any:
    import torch

    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise CodecError(f"torch has no data type {name!r}")
    return found


def _tensor_refill(known: Any, new: Any) -> None:
    known.data = new.data


def _refill(attribute: str) -> Callable[[Any, Any], None]:
    return lambda known, new: setattr(known, attribute, getattr(new, attribute))


FORMS: dict[str, Form] = {
    "collections.UserDict": Form(lambda v: (v.data,), _from("collections", "UserDict"), _refill("data")),
    "collections.UserList": Form(lambda v: (v.data,), _from("collections", "UserList"), _refill("data")),
    "collections.UserString": Form(lambda v: (v.data,), _from("collections", "UserString")),
    "collections.ChainMap": Form(lambda v: tuple(v.maps), _from("collections", "ChainMap"), _refill("maps")),
    "statistics.NormalDist": Form(lambda v: (v.mean, v.stdev), _from("statistics", "NormalDist")),
    "uuid.UUID": Form(lambda v: (v.hex,), _from("uuid", "UUID")),
    "datetime.timezone": Form(_zone_parts, _from("datetime", "timezone")),
    "datetime.datetime": Form(_moment_parts, _moment("datetime")),
    "datetime.time": Form(_moment_parts, _moment("time")),
    "zoneinfo.ZoneInfo": Form(lambda v: (v.key,), _from("zoneinfo", "ZoneInfo")),
    "types.SimpleNamespace": Form(
        lambda v: (tuple(vars(v).items()),),
        lambda items: types.SimpleNamespace(**dict(items)),
        _namespace_refill,
    ),
    "types.MappingProxyType": Form(dict, _from("types", "MappingProxyType")),
    "numpy.ma": Form(tuple, lambda data, mask: importlib.import_module("numpy.ma").MaskedArray(data, mask)),
    "numpy.matrix": Form(tuple, _from("numpy", "matrix")),
    "array.array": Form(
        lambda v: (v.typecode, v.tobytes()), _array, lambda known, new: known.__setitem__(slice(None), new)
    ),
    "torch.Tensor": Form(_tensor_parts, _tensor, _tensor_refill),
    "torch.dtype": Form(lambda v: (str(v).partition(".")[2],), _torch_dtype),
    "torch.Size": Form(lambda v: (tuple(v),), _from("torch", "Size")),
}
for _name in ("PosixPath", "PurePosixPath", "PureWindowsPath"):
    FORMS[f"pathlib.{_name}"] = Form(lambda v: (str(v),), _from("pathlib", _name))
for _kind in ("Address", "Network", "Interface"):
    for _name in (f"IPv4{_kind}", f"IPv6{_kind}"):
        FORMS[f"ipaddress.{_name}"] = Form(lambda v: (str(v),), _from("ipaddress", _name))
