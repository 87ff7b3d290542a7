"""Languages beside Python: their files, syntax trees and tokens.

Tree-sitter parses, from grammars that are ordinary packages: nothing is fetched. A parse never fails;
stretches that fit no rule become error nodes, and a file is taken if they are few.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

from tree_sitter import Language, Node, Parser, Tree

# Suffix -> language; what stands in a .h file parses as C++ where it is C, too.
SUFFIXES = {
    ".py": "python", ".pyw": "python",
    ".js": "javascript", ".jsx": "javascript", ".mjs": "javascript", ".cjs": "javascript",
    ".ts": "typescript", ".mts": "typescript", ".cts": "typescript", ".tsx": "tsx",
    ".go": "go", ".java": "java", ".rs": "rust", ".c": "c", ".h": "cpp",
    ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp", ".hh": "cpp", ".hpp": "cpp", ".hxx": "cpp",
}  # fmt: skip
GRAMMARS = {  # language -> package, function in it that gives the grammar
    "javascript": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "go": ("tree_sitter_go", "language"),
    "java": ("tree_sitter_java", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
}
MAX_ERROR_SHARE = 0.5  # of a file's bytes in error nodes: more, and it is in another dialect

NAMES = {
    "identifier", "field_identifier", "type_identifier", "property_identifier", "package_identifier",
    "private_property_identifier", "shorthand_property_identifier", "namespace_identifier",
    "shorthand_property_identifier_pattern", "statement_identifier",
}  # fmt: skip
STRINGS = {"string", "string_literal", "interpreted_string_literal", "raw_string_literal"}
FUNCTIONS = {
    "function_declaration", "generator_function_declaration", "method_definition",  # JavaScript, TypeScript
    "method_declaration", "constructor_declaration",  # Go, Java
    "function_item", "function_definition",  # Rust; C, C++
}  # fmt: skip
VALUES = {"variable_declarator", "public_field_definition", "field_definition"}  # name = function
FUNCTION_VALUES = {"arrow_function", "function_expression", "generator_function"}
SCOPES = {
    "class_declaration", "abstract_class_declaration", "class", "interface_declaration", "enum_declaration",
    "record_declaration", "internal_module", "impl_item", "trait_item", "mod_item", "class_specifier",
    "struct_specifier", "union_specifier", "namespace_definition",
}  # fmt: skip


@dataclass(frozen=True)
class Token:
    """One token of code that is no comment."""

    text: str
    is_name: bool  # an identifier of the code, as opposed to a keyword, literal or operator


def language_of(path: str) -> str:
    """The language that a path's suffix says, "" for none of `SUFFIXES` (and for type declarations)."""
    if path.endswith((".d.ts", ".d.mts", ".d.cts")):
        return ""
    return SUFFIXES.get(PurePosixPath(path).suffix.lower(), "")


def settings_language(language: str) -> str:
    """A language as settings name it: the two forms of TypeScript are one, and so is C with C++."""
    return {"tsx": "typescript", "c": "c++", "cpp": "c++"}.get(language, language)


def syntax_fault(text: str, language: str) -> str:
    """Why a file cannot be taken: "does not parse: line ...", "no function or class", or ""."""
    tree = parse_tree(text, language)
    bad, first = 0, 0
    defines = False
    for node in nodes_of(tree):
        defines = defines or node.type in FUNCTIONS | SCOPES or node.type in FUNCTION_VALUES
        if node.type == "ERROR":
            bad += node.end_byte - node.start_byte
            first = first or node.start_point[0] + 1
    if bad > MAX_ERROR_SHARE * len(text.encode()):
        return f"does not parse: line {first}, as {language}"
    return "" if defines else "no function or class"


def tokens_of(code: str, language: str) -> list[Token]:
    """Tokens of a piece of code without comments; a string is one token."""
    found = []
    for node in nodes_of(parse_tree(code, language), whole=STRINGS):
        is_leaf = not node.child_count or node.type in STRINGS
        if is_leaf and "comment" not in node.type and (text := text_of(node).strip()):
            found.append(Token(text, node.type in NAMES))
    return found


@cache
def _parser(language: str) -> Parser:
    package, function = GRAMMARS[language]
    return Parser(Language(getattr(importlib.import_module(package), function)()))


def parse_tree(text: str, language: str) -> Tree:
    """The syntax tree of a text in one of `GRAMMARS`; there always is one."""
    return _parser(language).parse(text.encode())


def nodes_of(tree: Tree, whole: frozenset[str] | set[str] = frozenset()) -> Iterator[Node]:
    """Every node in the order of the text; an explicit stack, as code nests deeper than Python recurses.

    Args:
        whole: types of nodes that are not descended into.
    """
    pending = [tree.root_node]
    while pending:
        node = pending.pop()
        yield node
        if node.type not in whole:
            pending.extend(reversed(node.children))


def text_of(node: Node) -> str:
    """The characters of a node."""
    return node.text.decode("utf-8", "replace")
