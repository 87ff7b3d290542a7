"""Statements of a source file by lines: where each begins and ends, in every supported language."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from keyword import kwlist

from tree_sitter import Node

from helpers.code.languages import grammar_of, parse_tree, syntax_nodes
from helpers.code.python_text import parse_or_reason
from helpers.code.tree_sitter_functions import LONE_RETURN
from helpers.lines import lines_of

# Ends of tree-sitter's names for statements: `if_statement`, `lexical_declaration`, `function_item`, ...
SUFFIXES = ("statement", "declaration", "definition", "item")
IMPORTS = {"import_statement", "import_declaration", "use_declaration", "using_declaration",
           "package_declaration", "extern_crate_declaration", "export_statement"}  # fmt: skip
AFTER = b";, \t\r\n"  # what may follow a statement on its last line


@dataclass(frozen=True)
class Statement:
    """One statement that has its lines for itself; lines count from 1, `end` is included."""

    start: int
    end: int
    is_import: bool


def statements_of(text: str, language: str) -> list[Statement]:
    """Return the statements of a file, nested ones too, in order of their first and then last line.

    Only those that share neither their first nor their last line with other code are returned, and no
    string that stands alone, such as a docstring. A Python file that does not parse has none.
    """
    found = _python(text) if language == "python" else _by_grammar(text, language)
    return sorted(set(found), key=lambda statement: (statement.start, statement.end))


def syntax_errors(text: str, language: str) -> int:
    """Return how many syntax errors a text has; at most 1 in Python, whose parser stops there."""
    if language == "python":
        return int(isinstance(parse_or_reason(text), str))
    nodes = syntax_nodes(parse_tree(text, language).root_node)
    return sum(node.type == "ERROR" or node.is_missing for node in nodes)


@cache
def reserved_words(language: str) -> frozenset[str]:
    """Return the words that a language reserves, as its grammar spells them."""
    if language == "python":
        return frozenset(kwlist)
    grammar = grammar_of(language)
    kinds = (
        grammar.node_kind_for_id(number)
        for number in range(grammar.node_kind_count)
        if grammar.node_kind_is_visible(number) and not grammar.node_kind_is_named(number)
    )
    return frozenset(kind for kind in kinds if kind and kind.isidentifier())


def _python(text: str) -> Iterator[Statement]:
    tree = parse_or_reason(text)
    if isinstance(tree, str):
        return
    lines = [line.encode() for line in lines_of(text)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt) or _is_string(node):
            continue
        decorators = getattr(node, "decorator_list", [])
        start = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        before = b"" if decorators else lines[start - 1][: node.col_offset]
        after = lines[node.end_lineno - 1][node.end_col_offset :]
        is_elif = isinstance(node, ast.If) and lines[start - 1].lstrip().startswith(b"elif")
        if not before.strip() and not after.strip() and not is_elif:
            yield Statement(start, node.end_lineno, isinstance(node, ast.Import | ast.ImportFrom))


def _is_string(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _by_grammar(text: str, language: str) -> Iterator[Statement]:
    text = LONE_RETURN.sub("\n", text)  # tree-sitter counts no line there
    lines = [line.encode() for line in lines_of(text)]
    for node in syntax_nodes(parse_tree(text, language).root_node):
        if not node.type.endswith(SUFFIXES) or node.has_error:
            continue
        (first, column), (last, end) = node.start_point, node.end_point
        if end == 0:  # ends with the line before
            last, end = last - 1, len(lines[last - 1])
        if not lines[first][:column].strip() and not lines[last][end:].strip(AFTER):
            yield Statement(first + 1, last + 1, _is_import(node))


def _is_import(node: Node) -> bool:
    is_plain_export = node.type == "export_statement" and node.child_by_field_name("source") is None
    is_other_file = node.type == "mod_item" and node.child_by_field_name("body") is None  # Rust's `mod a;`
    return is_other_file or (node.type in IMPORTS and not is_plain_export)
