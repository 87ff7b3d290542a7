"""Names in an answer that do not exist: in its code, its docstrings and its prose.

Code: names that nothing binds, modules that cannot be imported, attributes that a module or a
receiver of known class lacks, attributes that no known object has, keyword arguments that a known
function does not take. Docstrings: documented parameters that the function lacks, exceptions that
do not exist. Prose: identifiers in backticks, calls and exception names that occur neither in
the function under discussion nor in the code base, the standard library or the installed packages.

A missing import, or a name used before it is bound, is a bug and not an invented name. What
cannot be decided counts as existing.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import re
import symtable
from collections.abc import Iterator

from helpers.eval.code_extraction import FENCE, extract_code, parse
from helpers.eval.hallucination_prose import in_docstring, in_prose
from helpers.eval.name_context import (
    ALIASES,
    NameContext,
    argument_names,
    attribute_chain,
    import_module,
    keywords_of,
    module_exists,
    resolve,
)

LITERALS = {ast.List: list, ast.ListComp: list, ast.Dict: dict, ast.DictComp: dict, ast.Set: set,
            ast.SetComp: set, ast.Tuple: tuple, ast.JoinedStr: str}  # fmt: skip
BUILT = {
    "list": list,
    "dict": dict,
    "set": set,
    "tuple": tuple,
    "str": str,
    "frozenset": frozenset,
    "sorted": list,
}


def invented_names(response: str, *, context: NameContext) -> tuple[str, ...]:
    """Names in `response` that do not exist, sorted, each once.

    Args:
        response: a whole answer: code, prose, or prose with fenced code.
        context: what exists; `context.about(source)` adds the function under discussion.
    """
    code = extract_code(response)
    if code is None:
        prose, found = response, set()
    else:
        found = set(_in_code(code, context))
        fenced = FENCE.search(response) is not None
        prose = FENCE.sub("\n", response) if fenced else response.replace(code.strip("\n"), "\n")
        defined = set(re.findall(r"[A-Za-z_]\w*", code)) - {name.rpartition(".")[2] for name in found}
        context = dataclasses.replace(context, known_words=context.known_words | defined)
    found.update(in_prose(prose, context))
    named = {name.removeprefix("parameter ") for name in found if name.startswith("parameter ")}
    return tuple(sorted(found - named))


# --- code --------------------------------------------------------------------------------------


def _in_code(code: str, context: NameContext) -> Iterator[str]:
    tree = parse(code)
    if tree is None or not _has_scopes(code):
        return
    bound = _bound_names(code, tree)
    modules = _module_aliases(tree)
    yield from _imports(tree, context)
    unresolved = _free_names(code) - bound
    for name in unresolved:
        if not context.knows_name(name):
            yield name
    kinds = _receiver_kinds(tree, context)
    defined = {
        n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
    }
    defined |= {
        n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    defined |= {
        n.id
        for c in ast.walk(tree)
        if isinstance(c, ast.ClassDef)
        for n in ast.walk(c)
        if isinstance(n, ast.Name)
    }
    aliases = {alias: name for alias, name in ALIASES.items() if alias in unresolved} | modules
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield from _attribute(node, aliases, bound - set(modules), kinds, defined, context)
        elif isinstance(node, ast.Call):
            yield from _keywords(node, tree, aliases, bound, context)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from in_docstring(node, context)


def _has_scopes(code: str) -> bool:
    """Whether names can be resolved at all: the parser lets duplicate arguments through, scoping not."""
    try:
        symtable.symtable(code, "<answer>", "exec")
    except SyntaxError:
        return False
    return True


def _free_names(code: str) -> set[str]:
    """Names that some scope reads from the module's globals."""
    found: set[str] = set()

    def visit(table: symtable.SymbolTable) -> None:
        at_top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or (at_top and not symbol.is_assigned())):
                found.add(symbol.get_name())
        for child in table.get_children():
            visit(child)

    visit(symtable.symtable(code, "<answer>", "exec"))
    return found


def _bound_names(code: str, tree: ast.Module) -> set[str]:
    """Names bound at the top level, or declared global somewhere."""
    table = symtable.symtable(code, "<answer>", "exec")
    bound = {
        s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            bound.update(node.names)
        elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            module = import_module(node.module or "")
            bound.update(dir(module) if module else ())
    return bound


def _module_aliases(tree: ast.Module) -> dict[str, str]:
    """Local name -> module, for plain imports."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if import_module(f"{node.module}.{alias.name}") is not None:
                    found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    stored |= {a.arg for a in ast.walk(tree) if isinstance(a, ast.arg)}
    return {alias: module for alias, module in found.items() if alias not in stored}


def _imports(tree: ast.Module, context: NameContext) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if not module_exists(alias.name, context):
                    yield alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            if not module_exists(node.module, context):
                yield node.module
                continue
            module = import_module(node.module)
            for alias in node.names:
                if module is None or alias.name == "*" or hasattr(module, alias.name):
                    continue
                if import_module(f"{node.module}.{alias.name}") is None:
                    yield f"{node.module}.{alias.name}"


def _receiver_kinds(tree: ast.Module, context: NameContext) -> dict[str, frozenset[str]]:
    """Attributes of local names whose class is certain: assigned once in kind, or known by convention."""
    kinds: dict[str, set[object]] = {}
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            targets, value = [node.target], node.value
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            targets = [node.target]
        elif isinstance(node, ast.withitem) and node.optional_vars:
            targets = [node.optional_vars]
        elif isinstance(node, ast.AugAssign):
            targets = [node.target]
        elif isinstance(node, ast.arg):
            kinds.setdefault(node.arg, set()).add("parameter")
        for target in targets:
            if isinstance(target, ast.Name):
                kinds.setdefault(target.id, set()).add(_kind(value) if value is not None else None)
            else:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                        kinds.setdefault(part.id, set()).add(None)
    known: dict[str, frozenset[str]] = {}
    for name, seen in kinds.items():
        only = next(iter(seen)) if len(seen) == 1 else None
        if only == "parameter" or (seen <= {"parameter", "graph"} and seen):
            if name in context.receivers:
                known[name] = context.receivers[name]
            elif seen == {"graph"} and context.receivers:
                known[name] = next(iter(context.receivers.values()))
        elif only == "graph" and context.receivers:
            known[name] = next(iter(context.receivers.values()))
        elif isinstance(only, type):
            known[name] = frozenset(dir(only))
    for name, attributes in context.receivers.items():
        if name not in kinds:
            known[name] = attributes
    return known


def _kind(value: ast.expr) -> object:
    """Class of an expression: a built-in type, "graph", or None."""
    if type(value) in LITERALS:
        return LITERALS[type(value)]
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return str
    if isinstance(value, ast.Call):
        if isinstance(value.func, ast.Name) and value.func.id in BUILT:
            return BUILT[value.func.id]
        if isinstance(value.func, ast.Attribute) and isinstance(value.func.value, ast.Name):
            graph = value.func.attr in ("Graph", "DiGraph", "MultiGraph", "MultiDiGraph")
            return "graph" if value.func.value.id == "nx" and graph else None
    return None


def _attribute(
    node: ast.Attribute,
    aliases: dict[str, str],
    shadowed: set[str],
    kinds: dict[str, frozenset[str]],
    defined: set[str],
    context: NameContext,
) -> Iterator[str]:
    chain = attribute_chain(node)
    if chain and chain[0] in aliases and chain[0] not in shadowed:
        _, missing = resolve([*aliases[chain[0]].split("."), *chain[1:]])
        if missing and chain[-1] == missing.rpartition(".")[2]:
            yield ".".join(chain)
        return
    name = node.attr
    if name in defined or name.startswith("__"):
        return
    if chain and len(chain) == 2 and chain[0] in kinds:
        if name not in kinds[chain[0]] and name not in context.known_words:
            yield ".".join(chain)
        return
    if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        if not hasattr("", name):
            yield f"str.{name}"
        return
    if not context.knows_attribute(name):
        yield f"{chain[0]}.{name}" if chain and len(chain) == 2 else f".{name}"


def _keywords(
    node: ast.Call, tree: ast.Module, aliases: dict[str, str], bound: set[str], context: NameContext
) -> Iterator[str]:
    given = [keyword.arg for keyword in node.keywords if keyword.arg]
    chain = attribute_chain(node.func)
    if not given or not chain:
        return
    taken: frozenset[str] | None = None
    if len(chain) == 1:
        local = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == chain[0]]
        if len(local) == 1 and not local[0].args.kwarg and not local[0].decorator_list:
            taken = frozenset(argument_names(local[0]))
        elif not local and chain[0] not in bound:
            if hasattr(builtins, chain[0]):
                taken = _builtin_keywords(chain[0])
            else:
                taken = context.signatures.get(chain[0])
    elif chain[0] in aliases:
        found, _ = resolve([*aliases[chain[0]].split("."), *chain[1:]])
        taken = keywords_of(found) if callable(found) else None
    if taken is None:
        return
    for name in given:
        if name not in taken:
            yield f"{'.'.join(chain)}({name}=)"


def _builtin_keywords(name: str) -> frozenset[str] | None:
    known = {"sorted": {"key", "reverse"}, "min": {"key", "default"}, "max": {"key", "default"},
             "print": {"sep", "end", "file", "flush"}, "enumerate": {"iterable", "start"},
             "zip": {"strict"}, "sum": {"start"}, "round": {"number", "ndigits"}, "len": set(), "abs": set(),
             "any": set(), "all": set(), "range": set(), "isinstance": set()}  # fmt: skip
    return frozenset(known[name]) if name in known else None
