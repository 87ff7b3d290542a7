"""Names that a source file itself defines, in every supported language; what it imports is not among them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tree_sitter import Node

from helpers.code.languages import NAMES, parse_tree, syntax_nodes, text_of
from helpers.code.python_text import parse_or_reason

# Fields of tree-sitter's nodes in which a name is defined, and nodes that define all names below them.
FIELDS = {"name", "declarator", "pattern", "left", "alias", "label"}
PARAMETERS = ("parameter", "parameters", "parameter_declaration")


def defined_names(text: str, language: str) -> frozenset[str]:
    """Return the names of functions, classes, parameters, variables and attributes that a file sets.

    A Python file that does not parse defines none.
    """
    return frozenset(_python(text) if language == "python" else _by_grammar(text, language))


def _python(text: str) -> Iterator[str]:
    tree = parse_or_reason(text)
    for node in () if isinstance(tree, str) else ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case (
                ast.arg(arg=name)
                | ast.Name(id=name, ctx=ast.Store())
                | ast.Attribute(attr=name, ctx=ast.Store())
            ):
                yield name
            case (
                ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
            ):
                yield name


def _by_grammar(text: str, language: str) -> Iterator[str]:
    for node in syntax_nodes(parse_tree(text, language).root_node):
        if node.type.endswith(PARAMETERS):
            yield from (text_of(inner) for inner in syntax_nodes(node) if inner.type in NAMES)
        for number, child in enumerate(node.children):
            if node.field_name_for_child(number) in FIELDS and "import" not in node.type:
                yield from _names_below(child)


def _names_below(node: Node) -> Iterator[str]:
    if node.type in NAMES:
        yield text_of(node)
    elif "pattern" in node.type or node.type == "expression_list":  # several names at once
        yield from (text_of(inner) for inner in syntax_nodes(node) if inner.type in NAMES)
