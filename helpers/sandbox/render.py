"""Recorded answers as Python source: an expression for the value and a complete assert statement."""

from __future__ import annotations

import builtins
import collections
import math
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

from helpers.sandbox.codec import GRAPHS

MAX_SOURCE_CHARS = 4000


class RenderError(ValueError):
    """The value has no source form."""


def render(answer: Any, call: str, values: dict[str, Any], cap: int) -> dict[str, str | None]:
    """Return `value`, an expression for the answer, and `assertion`, a test that the call returns it.

    Both are None if the answer has no source form, contains NaN, is too long or differs after being
    written and evaluated again in the namespace `values`; `detail` then says why.
    """
    form = "{call} == {value}"
    if isinstance(answer, Iterator):
        items = list(islice(answer, cap + 1))
        if len(items) > cap:
            return {"value": None, "detail": f"iterator of more than {cap} items", "assertion": None}
        answer, form = items, "list({call}) == {value}"
    try:
        graph = _is_graph(answer)
        source = to_source(answer)
        if len(source) > MAX_SOURCE_CHARS:
            raise RenderError(f"longer than {MAX_SOURCE_CHARS} characters")
        again = eval(source, dict(values))
        if graph:
            form = "nx.utils.graphs_equal({call}, {value})"
            same = sys.modules["networkx"].utils.graphs_equal(again, answer)
        else:
            same = type(again) is type(answer) and bool(again == answer)
        if not same:
            raise RenderError("the written value is not equal to the answer")
    except Exception as error:
        return {"value": None, "detail": f"no source form: {error}"[:500], "assertion": None}
    if answer is None or type(answer) is bool:
        form = "({call}) is {value}"
    return {"value": source, "detail": "", "assertion": "assert " + form.format(call=call, value=source)}


def assertion_for(error: BaseException, call: str) -> str | None:
    """Return a test that the call raises this built-in or networkx exception; None for other classes."""
    kind = type(error)
    if kind.__module__ == "builtins" and getattr(builtins, kind.__name__, None) is kind:
        name = kind.__name__
    elif kind.__module__.startswith("networkx") and hasattr(sys.modules["networkx"], kind.__name__):
        name = f"nx.{kind.__name__}"
    else:
        return None
    otherwise = f"raise AssertionError({f'{name} expected'!r})"
    return f"try:\n    {call}\nexcept {name}:\n    pass\nelse:\n    {otherwise}"


def to_source(value: Any) -> str:
    """Write `value` as a literal-like expression; sets are sorted, so equal values look equal.

    Raises:
        RenderError: for values without such a form.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str, bytes, complex, range):
        return repr(value)
    if kind is float:
        if math.isnan(value):
            raise RenderError("NaN is not equal to itself")
        return repr(value) if math.isfinite(value) else f"float('{value}')"
    if kind is list:
        return f"[{', '.join(map(to_source, value))}]"
    if kind is tuple:
        return f"({', '.join(map(to_source, value))}{',' if len(value) == 1 else ''})"
    if kind is set:
        return f"{{{', '.join(sorted(map(to_source, value)))}}}" if value else "set()"
    if kind is frozenset:
        return f"frozenset({{{', '.join(sorted(map(to_source, value)))}}})" if value else "frozenset()"
    if kind in (dict, collections.OrderedDict, collections.defaultdict, collections.Counter):
        return f"{{{', '.join(f'{to_source(k)}: {to_source(v)}' for k, v in value.items())}}}"
    if _is_graph(value):
        return _graph_source(value)
    if kind.__module__ == "numpy" and isinstance(value, sys.modules["numpy"].generic):
        return to_source(value.item())
    raise RenderError(f"values of {kind.__qualname__} are not written")


def _is_graph(value: Any) -> bool:
    networkx = sys.modules.get("networkx")
    return networkx is not None and type(value) in [getattr(networkx, name) for name in GRAPHS]


def _graph_source(graph: Any) -> str:
    nodes = [(node, dict(data)) for node, data in graph.nodes(data=True)]
    if graph.is_multigraph():
        edges = [(u, v, key, dict(data)) for u, v, key, data in graph.edges(keys=True, data=True)]
    else:
        edges = [(u, v, dict(data)) for u, v, data in graph.edges(data=True)]
    steps = f"g.graph.update({to_source(dict(graph.graph))}), g.add_nodes_from({to_source(nodes)})"
    steps += f", g.add_edges_from({to_source(edges)}), g"
    return f"(lambda g: ({steps})[-1])(nx.{type(graph).__name__}())"
