"""Names in an answer that do not exist: in its code, its docstrings and its prose.

In code: names that nothing binds, modules that cannot be imported, names that a module does not offer,
attributes that a module or a receiver of known class lacks (`receivers`), attributes that no known
object has, and keyword arguments that a known function does not accept. In docstrings: documented
parameters that the function lacks, and exceptions that do not exist. In prose: identifiers in
backticks, calls and exception names that occur neither in the function under discussion nor in the
code base, the standard library or the installed packages.

A missing import or a name used before it is bound is a bug, not an invented name. If the checker cannot
decide, the name counts as existing. Every run measures on planted names how often the checker errs
(`helpers.eval.planted`).
"""

from __future__ import annotations

import ast
import dataclasses
import re
import symtable
from collections.abc import Iterator

from helpers.code.extraction import extract_code
from helpers.code.fences import fenced_blocks, without_blocks
from helpers.code.names.calls import unknown_keywords
from helpers.code.names.context import NameContext, module_exists
from helpers.code.names.lookup import ALIASES, attribute_chain, import_module, resolve
from helpers.code.names.mentions import BACKTICK, invented_in_docstring, invented_in_prose
from helpers.code.names.modules import is_load, offered_names
from helpers.code.names.receivers import Receivers
from helpers.code.python_text import parse
from helpers.lines import bare_lines

WORD = re.compile(r"[^\W\d]\w*")


def invented_names(response: str, *, context: NameContext) -> tuple[str, ...]:
    """Return the names in `response` that do not exist, sorted, each once.

    Args:
        response: a whole answer: code, prose, or prose with fenced code.
        context: what exists; `context.about(source)` adds the function under discussion.
    """
    code = extract_code(response)
    prose, found = response, set()
    if code is not None:
        found = set(_in_code(code, context))
        fenced = bool(fenced_blocks(response))
        prose = without_blocks(response) if fenced else response.replace(code.strip("\n"), "\n")
        defined = set(WORD.findall(code)) - {name.rpartition(".")[2] for name in found}
        prose = _without_lines_of(code, prose)
        context = dataclasses.replace(context, known_words=context.known_words | defined)
    found.update(invented_in_prose(prose, context))
    named = {name.removeprefix("parameter ") for name in found if name.startswith("parameter ")}
    return tuple(sorted(found - named))


def _without_lines_of(code: str, prose: str) -> str:
    """Return `prose` without the lines of `code` that it quotes: they were checked where they stand.

    Lines inside a string were not, so they stay.
    """
    tree = parse(code)
    texts = (
        [node for node in ast.walk(tree) if isinstance(node, ast.Constant | ast.JoinedStr)] if tree else []
    )
    inside = {line for text in texts if text.end_lineno != text.lineno
              for line in range(text.lineno, (text.end_lineno or 0) + 1)}  # fmt: skip
    lines = {line.strip() for number, line in enumerate(bare_lines(code), 1) if number not in inside}
    return BACKTICK.sub(lambda quote: " " if quote[2].strip() in lines else quote[0], prose)


def _in_code(code: str, context: NameContext) -> Iterator[str]:
    tree = parse(code)
    if tree is None:
        return
    try:
        scopes = symtable.symtable(code, "<answer>", "exec")
    except SyntaxError:  # duplicate arguments, for one, pass the parser but have no scopes
        return
    bound = _bound_names(scopes, tree)
    free = _free_names(scopes)
    stored = _stored_names(tree)
    paths = _imported_paths(tree, stored)
    yield from _imports(tree, context)
    if bound is not None:
        for name in free - bound:
            if not context.knows_name(name):
                yield name
    for alias, module in ALIASES.items():
        if alias in free and alias not in stored and alias not in paths and alias not in (bound or ()):
            paths[alias] = module.split(".")
    context = context.with_attributes_of(path[0] for path in paths.values())
    receivers = Receivers(tree, context, paths)
    written = _written_attributes(tree)
    yield from _own_attributes(tree, receivers)
    own = _first_parameters(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_load(node):
            if not (isinstance(node.value, ast.Name) and node.value.id in own):
                yield from _attribute(node, receivers, written, context)
        elif isinstance(node, ast.Call):
            yield from unknown_keywords(node, tree, receivers, free - (bound or set()) - stored, context)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from invented_in_docstring(node, context)


def _free_names(table: symtable.SymbolTable) -> set[str]:
    """Return the names that this scope or one inside it reads from the module's globals."""
    found: set[str] = set()
    at_top = table.get_type() == "module"
    for symbol in table.get_symbols():
        # `is_global` alone is wrong in a function called "top" (symtable, Python 3.11).
        here = symbol.is_parameter() or _is_bound(symbol)
        outside = symbol.is_global() and (at_top or not here or symbol.is_declared_global())
        if symbol.is_referenced() and (outside or (at_top and not symbol.is_assigned())):
            found.add(symbol.get_name())
    return found.union(*map(_free_names, table.get_children()))


def _is_bound(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()


def _bound_names(table: symtable.SymbolTable, tree: ast.Module) -> set[str] | None:
    """Return names bound at the top level or declared global somewhere; None if they are unknowable.

    They are unknowable after a star import from a module whose names are unknown, or if the code
    writes globals by name.
    """
    bound = {symbol.get_name() for symbol in table.get_symbols() if _is_bound(symbol)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            bound.update(node.names)
        elif isinstance(node, ast.NamedExpr):  # binds outside its comprehension
            bound.add(node.target.id)
        elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            module = import_module(node.module or "") if not node.level else None
            offered = frozenset(dir(module)) if module else offered_names(node.module or "")
            if offered is None or node.level:
                return None
            bound |= offered
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "exec":
                return None
            if node.func.id in ("globals", "vars", "locals"):
                bound |= _words_in_strings(tree)
    return bound


def _stored_names(tree: ast.Module) -> set[str]:
    """Return the names that any scope assigns or takes as a parameter."""
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not is_load(n)}
    return stored | {a.arg for a in ast.walk(tree) if isinstance(a, ast.arg)}


def _imported_paths(tree: ast.Module, stored: set[str]) -> dict[str, list[str]]:
    """Map each imported name to the dotted parts of its origin; skip names that are also bound otherwise."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                found[alias.asname or name] = name.split(".")
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = [*node.module.split("."), alias.name]
    return {name: path for name, path in found.items() if name not in stored}


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
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if alias.name == "*" or full in context.modules:
                    continue
                if node.module in context.modules and import_module(node.module) is None:
                    offered = context.modules[node.module]
                    if offered is not None and alias.name not in offered:
                        yield full
                elif resolve(full.split("."))[1] == full:
                    yield full


def _written_attributes(tree: ast.Module) -> set[str]:
    """Return the attributes that the answer creates: stored, defined, or named in a string or keyword."""
    found = _words_in_strings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not is_load(node):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Call):
            chain = attribute_chain(node.func)
            if chain and (chain[-1][0].isupper() or chain[-1] in ("type", "namedtuple")):
                found.update(keyword.arg for keyword in node.keywords if keyword.arg)
        if isinstance(node, ast.ClassDef):
            found.update(n.id for n in ast.walk(node) if isinstance(n, ast.Name) and not is_load(n))
    return found


def _words_in_strings(tree: ast.Module) -> set[str]:
    """Return words of short strings in calls and literals, as in `namedtuple("P", "a b")`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call | ast.Dict | ast.List | ast.Tuple | ast.Subscript | ast.Assign):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and len(part.value) < 200:
                    found.update(WORD.findall(part.value))
    return found


def _first_parameters(tree: ast.Module) -> set[str]:
    """Return those of `self` and `cls` that methods of the answer's classes use as first parameter."""
    return {
        method.args.args[0].arg
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and method.args.args
    } & {"self", "cls"}


def _own_attributes(tree: ast.Module, receivers: Receivers) -> Iterator[str]:
    """Yield missing `self.x` and `cls.x` in classes whose attributes are all visible in the answer."""
    outside = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and not is_load(n)}
    for node in ast.walk(tree):
        known = receivers.classes.get(node.name) if isinstance(node, ast.ClassDef) else None
        for part in ast.walk(node) if known is not None else ():
            if not (isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name)):
                continue
            if part.value.id in ("self", "cls") and is_load(part) and part.attr not in known | outside:
                yield f"{part.value.id}.{part.attr}"


def _attribute(
    node: ast.Attribute, receivers: Receivers, written: set[str], context: NameContext
) -> Iterator[str]:
    chain = attribute_chain(node)
    name = node.attr
    if chain and chain[0] in receivers.paths:
        path = [*receivers.paths[chain[0]], *chain[1:]]
        missing = resolve(path)[1]
        if missing and missing.count(".") == len(path) - 1 and name not in written:
            yield ".".join(chain)
        return
    if name in written or (name.startswith("__") and name.endswith("__")):
        return
    shown = f"{chain[0]}.{name}" if chain and len(chain) == 2 else f".{name}"
    known = receivers.attributes(node.value)
    if known is not None:
        if name not in known and not (chain and name in context.known_words):
            yield shown
    elif not receivers.is_open(node.value) and not context.knows_attribute(name):
        yield shown
