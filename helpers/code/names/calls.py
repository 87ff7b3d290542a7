"""Keyword arguments that a known function does not accept; see `helpers.code.names.checker`."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

from helpers.code.names.context import NameContext
from helpers.code.names.lookup import argument_names, attribute_chain, keywords_of, resolve
from helpers.code.names.receivers import Receivers

NO_KEYWORDS = ("len", "abs", "any", "all", "range", "isinstance", "list", "set", "tuple", "frozenset", "map",
               "filter", "iter", "next", "reversed", "hash", "id", "repr", "getattr")  # fmt: skip
BUILTIN_KEYWORDS = {
    "sorted": {"key", "reverse"}, "min": {"key", "default"}, "max": {"key", "default"},
    "print": {"sep", "end", "file", "flush"}, "enumerate": {"iterable", "start"}, "zip": {"strict"},
    "sum": {"start"}, "round": {"number", "ndigits"}, "open": {"file", "mode", "buffering", "encoding",
    "errors", "newline", "closefd", "opener"}, "int": {"base"}, "str": {"object", "encoding", "errors"},
    "pow": {"base", "exp", "mod"}, **{name: set() for name in NO_KEYWORDS},
}  # fmt: skip


def unknown_keywords(
    node: ast.Call, tree: ast.Module, receivers: Receivers, unbound: set[str], context: NameContext
) -> Iterator[str]:
    """Yield keyword arguments of one call that the called function, if known for certain, does not accept.

    `unbound` are names that nothing in the answer binds, and that therefore come from the code base.
    """
    given = [keyword.arg for keyword in node.keywords if keyword.arg]
    if not given:
        return
    chain = attribute_chain(node.func)
    taken = None
    if chain and chain[0] in receivers.paths:
        taken = keywords_of(resolve([*receivers.paths[chain[0]], *chain[1:]])[0])
    elif chain and len(chain) == 1:
        taken = _taken_by_name(chain[0], tree, unbound, context)
    elif isinstance(node.func, ast.Attribute):
        taken = keywords_of(receivers.method(node.func.value, node.func.attr))
    for name in given:
        if taken is not None and name not in taken:
            yield f"{'.'.join(chain) if chain else node.func.attr}({name}=)"


def _taken_by_name(
    name: str, tree: ast.Module, unbound: set[str], context: NameContext
) -> frozenset[str] | None:
    local = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == name]
    if len(local) == 1 and not local[0].args.kwarg and not local[0].decorator_list:
        return frozenset(argument_names(local[0]))
    if local or name not in unbound:
        return None
    if hasattr(builtins, name):
        return frozenset(BUILTIN_KEYWORDS[name]) if name in BUILTIN_KEYWORDS else None
    return context.signatures.get(name)
