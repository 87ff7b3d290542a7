"""Invented names in docstrings and prose; `helpers.code.names.checker` explains the rules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from helpers.code.names.context import NameContext
from helpers.code.names.lookup import ALIASES, argument_names, attribute_chain, import_module, resolve
from helpers.code.names.modules import is_installed
from helpers.code.python_text import parse
from helpers.lines import bare_lines

BACKTICK = re.compile(r"(?<!`)(`{1,2})([^`\n]+)\1(?!`)")
IDENTIFIER = re.compile(r"^[^\W\d][\w.]*$")
# Matches neither the O(…) of mathematics nor Multi(Di)Graph.
CALL_IN_PROSE = re.compile(r"(?<![\w.`\\])([^\W\d][\w.]*[\w.])\((?!\w+\)\w)")
OTHER_ROLE = re.compile(r":(?!func|meth|class|attr|mod|obj|exc|data|const|any|py)\w+:`[^`]*`")
MATH_SYMBOL = re.compile(r"^[A-Za-z](_\w)?$")
ERROR_WORD = re.compile(r"(?<![\w.`])([A-Z][A-Za-z]*(?:Error|Exception|Warning))(?!\w)")
PARAMETER_WORD = re.compile(
    r"(?:parameters?|arguments?|keywords?)\s+`+(\w+)`+|`+(\w+)`+\s+(?:parameter|argument|keyword)\b", re.I
)
SECTION = re.compile(r"^(\w[\w ]*)\n[ \t]*-{3,}[ \t]*\n", re.M)
FIELD = re.compile(r"^[ \t]*:(?:param|parameter|arg)\s+(?:[\w.\[\], ]+\s+)?\*{0,2}(\w+)\s*:", re.M)
GOOGLE_ARGS = re.compile(r"^(?:Args|Arguments|Parameters):[ \t]*\n((?:[ \t]+.*\n?|\n)+)", re.M)
GOOGLE_NAME = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\))?:", re.M)


def invented_in_docstring(
    node: ast.FunctionDef | ast.AsyncFunctionDef, context: NameContext
) -> Iterator[str]:
    """Yield documented parameters that the function lacks, and exceptions that do not exist."""
    text = ast.get_docstring(node)
    if not text:
        return
    own = {name.lower() for name in argument_names(node)}
    chains = [attribute_chain(decorator) or [""] for decorator in node.decorator_list]
    is_property = any(chain[-1] in ("property", "cached_property") for chain in chains)
    takes_any = node.args.kwarg is not None or is_property
    for name in documented_parameters(text):
        if name.lower() not in own and not takes_any:
            yield f"parameter {name}"
    for name in ERROR_WORD.findall(text):
        if not context.knows_name(name):
            yield name


def documented_parameters(docstring: str) -> list[str]:
    """Return the parameter names that a docstring describes in NumPy, Google or Sphinx style."""
    found = FIELD.findall(docstring)
    parts = SECTION.split(docstring)
    for title, body in zip(parts[1::2], parts[2::2], strict=False):
        if title.strip() not in ("Parameters", "Other Parameters"):
            continue
        for line in bare_lines(body):
            head = re.match(r"^(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::|$)", line)
            if head:
                found.extend(name.strip().lstrip("*") for name in head.group(1).split(","))
    for match in GOOGLE_ARGS.finditer(docstring + "\n"):
        lines = [line for line in bare_lines(match.group(1)) if line.strip()]
        margin = min((len(line) - len(line.lstrip()) for line in lines), default=0)
        found.extend(GOOGLE_NAME.findall("\n".join(line[margin:] for line in lines)))
    return found


def invented_in_prose(prose: str, context: NameContext) -> Iterator[str]:
    """Yield identifiers, calls, parameters and exceptions that plain text names but do not exist."""
    prose = OTHER_ROLE.sub(" ", prose)
    if context.parameters is not None:
        for groups in PARAMETER_WORD.findall(prose):
            name = groups[0] or groups[1]
            if name not in context.parameters and not name[0].isdigit():
                yield f"parameter {name}"
    for _, inside in BACKTICK.findall(prose):
        yield from _mention(inside.strip(), context)
    bare = BACKTICK.sub(" ", prose)
    for name in CALL_IN_PROSE.findall(bare):
        yield from _dotted(name.rstrip("."), context)
    for name in ERROR_WORD.findall(bare):
        if not context.knows_name(name):
            yield name


def _mention(text: str, context: NameContext) -> Iterator[str]:
    """Check text in backticks if it is an identifier, a call or an expression."""
    text = text.removesuffix("()")
    if MATH_SYMBOL.match(text):
        return
    if IDENTIFIER.match(text):
        yield from _dotted(text.rstrip("."), context)
        return
    tree = parse(text)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Call) and (chain := attribute_chain(node.func)):
            yield from _dotted(".".join(chain), context)


def _dotted(name: str, context: NameContext) -> Iterator[str]:
    head, _, rest = name.partition(".")
    parts = name.split(".")
    if not rest:
        if not context.knows_name(head) and not context.knows_attribute(head):
            yield head
        return
    own_word = head in context.known_words and head not in ALIASES
    module = ALIASES.get(head, head).partition(".")[0]
    if not own_word and (import_module(module) is not None or is_installed(module)):
        exists = resolve(parts)[1] is None
    elif head in context.receivers:
        exists = parts[1] in context.receivers[head]
    else:
        exists = context.knows_attribute(parts[-1]) or context.knows_name(parts[-1])
        exists = exists or (is_installed(module) and resolve(parts)[1] is None)
    if not exists:
        yield name
