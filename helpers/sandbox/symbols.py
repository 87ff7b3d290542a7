"""sympy expressions as parts that cross between judge and candidate, and back.

An expression is rebuilt from the name of its function and its arguments. sympy evaluates strings as Python
code, so no string ever reaches it but the names of symbols and functions.
"""

from __future__ import annotations

import sys
from typing import Any

from helpers.sandbox.wire import CodecError


def symbol_parts(value: Any) -> tuple | None:
    """Return the parts of a sympy expression or matrix; None for what cannot be rebuilt."""
    sympy = sys.modules.get("sympy")
    kind = type(value)
    if sympy is None:
        return None
    if kind is sympy.Symbol:
        return ("Symbol", value.name, tuple(getattr(value, "_assumptions_orig", {}).items()))
    if isinstance(value, sympy.Rational) and not _is_constant(sympy, value):
        return ("Rational", int(value.p), int(value.q))
    if kind is sympy.Float:
        return ("Float", tuple(map(int, value._mpf_)), int(value._prec))
    if _is_constant(sympy, value):
        return ("constant", kind.__name__)
    if kind is sympy.MutableDenseMatrix:
        return ("Matrix", int(value.rows), int(value.cols), tuple(value.flat()))
    if isinstance(value, sympy.core.function.AppliedUndef):
        return ("Function", value.func.__name__, tuple(value.args))
    name = kind.__name__
    known = isinstance(value, sympy.Basic) and value.args and getattr(sympy, name, None) is kind
    if not known or not all(isinstance(each, sympy.Basic) for each in value.args):
        return None
    return ("of", name, tuple(value.args))


def symbol_from(tag: str, *parts: Any) -> Any:
    """Return the expression that `symbol_parts` took apart."""
    import sympy

    if tag == "Symbol":
        return sympy.Symbol(_name(parts[0]), **dict(parts[1]))
    if tag == "Rational":
        return sympy.Rational(*map(int, parts))
    if tag == "Float":
        return sympy.Float(tuple(map(int, parts[0])), precision=int(parts[1]))
    if tag == "constant":
        found = getattr(sympy.S, _name(parts[0]))
        return _checked(sympy, [found])[0]
    if tag == "Matrix":
        return sympy.Matrix(int(parts[0]), int(parts[1]), _checked(sympy, parts[2]))
    arguments = _checked(sympy, parts[1])
    if tag == "Function":
        return sympy.Function(_name(parts[0]))(*arguments)
    kind = getattr(sympy, _name(parts[0]), None)
    if tag != "of" or not (isinstance(kind, type) and issubclass(kind, sympy.Basic)):
        raise CodecError("no sympy class of that name")
    return kind(*arguments)


def _is_constant(sympy: Any, value: Any) -> bool:
    """Return whether `value` is one of sympy's single objects, such as pi or infinity."""
    name = type(value).__name__
    return isinstance(value, sympy.Basic) and not value.args and getattr(sympy.S, name, None) is value


def _name(text: Any) -> str:
    if type(text) is not str:
        raise CodecError("malformed name")
    return text


def _checked(sympy: Any, values: Any) -> list:
    if not all(isinstance(each, sympy.Basic) for each in values):
        raise CodecError("malformed arguments of a sympy expression")
    return list(values)
