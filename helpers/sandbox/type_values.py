"""Type expressions such as `Optional[int]` and `list[str] | None` as parts that cross, and back.

They are rebuilt from names and arguments. `typing` compiles a text that stands for a type, so no text is
an argument but a `Literal`'s. Type variables are equal only to themselves; they stay handles.
"""

from __future__ import annotations

import functools
import operator
import types
import typing
from typing import Any

from helpers.sandbox.wire import CodecError

_NONE = type(None)
BUILT_IN = (types.GenericAlias, types.UnionType)
# Names of `typing` without arguments: generics, and Optional, Union, Literal and their like.
_BARE = tuple(type(getattr(typing, name)) for name in ("Iterable", "Tuple", "Callable", "Optional"))
_GENERIC = type(typing.Iterable[int])
_LITERAL = type(typing.Literal[1])
_UNION = type(typing.Optional[int])  # noqa: UP045 - that class is wanted
_CALLABLE = type(typing.Callable[[int], str])
LITERALS = (str, int, bool, bytes, _NONE)


def type_parts(value: Any, kind: type) -> tuple | None:
    """Return the parts of a type expression; None for any other value."""
    if kind in _BARE:
        return ("name", value._name)
    if value is typing.Any:
        return ("name", "Any")
    if kind is _LITERAL:
        return ("Literal", value.__args__)
    if kind is _UNION or kind is types.UnionType:
        return ("Union" if kind is _UNION else "|", _arguments(value.__args__))
    if kind is types.GenericAlias:
        return ("alias", value.__origin__, _arguments(value.__args__))
    if kind in (_GENERIC, _CALLABLE) and getattr(typing, str(value._name), None) is not None:
        return ("of", value._name, _arguments(value.__args__))
    return None


def type_from(tag: Any = None, *parts: Any) -> Any:
    """Return the type expression that `type_parts` took apart.

    Raises:
        CodecError: if the parts are those of no type expression.
    """
    try:
        return _built(tag, *parts)
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise CodecError("malformed type expression") from error


def _built(tag: Any, *parts: Any) -> Any:
    if tag == "name":
        return _named(*parts)
    if tag == "Literal":
        if not all(type(each) in LITERALS for each in parts[0]):
            raise CodecError("malformed literal")
        return typing.Literal[tuple(parts[0])]
    arguments = _checked(parts[-1])
    if tag == "Union":
        return _named("Union")[arguments]
    if tag == "|":
        return functools.reduce(operator.or_, arguments)
    if tag == "alias" and isinstance(parts[0], type):
        return types.GenericAlias(parts[0], arguments)
    if tag == "of":
        generic = _named(parts[0])
        # `Callable` takes the types of its parameters as a list, or an ellipsis.
        listed = parts[0] == "Callable" and arguments[:-1] != (Ellipsis,)
        return generic[[*arguments[:-1]], arguments[-1]] if listed else generic[arguments]
    raise CodecError("malformed type expression")


def _arguments(arguments: tuple) -> tuple:
    return tuple(None if each is _NONE else each for each in arguments)


def _checked(arguments: Any) -> tuple:
    """Return the arguments if each is a type or a type expression of this process."""
    for each in arguments:
        known = each is None or each is Ellipsis or isinstance(each, type)
        if not known and type_parts(each, type(each)) is None:
            raise CodecError("malformed argument of a type expression")
    return tuple(arguments)


def _named(name: Any) -> Any:
    found = getattr(typing, name, None) if type(name) is str and name in typing.__all__ else None
    if type(found) not in _BARE and found is not typing.Any:
        raise CodecError("typing has no type of that name")
    return found
