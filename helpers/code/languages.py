"""Languages other than Python: their files, syntax trees and tokens.

Tree-sitter parses them with grammars that are ordinary packages; nothing is downloaded. A parse never
fails: text that fits no rule becomes error nodes, and a file is accepted if they are few.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

from tree_sitter import Language, Node, Parser, Tree

# Suffix -> language; the C++ grammar also parses the C in a .h file.
SUFFIXES = {
    ".py": "python", ".pyw": "python",
    ".js": "javascript", ".jsx": "javascript", ".mjs": "javascript", ".cjs": "javascript",
    ".ts": "typescript", ".mts": "typescript", ".cts": "typescript", ".tsx": "tsx",
    ".go": "go", ".java": "java", ".rs": "rust", ".c": "c", ".h": "cpp",
    ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp", ".hh": "cpp", ".hpp": "cpp", ".hxx": "cpp",
}  # fmt: skip
GRAMMARS = {  # language -> package, and the function in it that returns the grammar
    "javascript": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "go": ("tree_sitter_go", "language"),
    "java": ("tree_sitter_java", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
}
MAX_ERROR_SHARE = 0.5  # of a file's bytes in error nodes; beyond that it is written in another dialect

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
    """One token of code; comments are not tokens."""

    text: str
    is_name: bool  # an identifier, not a keyword, literal or operator


def language_of(path: str) -> str:
    """Return the language of a path's suffix; "" for type declarations and for suffixes not in `SUFFIXES`."""
    if path.endswith((".d.ts", ".d.mts", ".d.cts")):
        return ""
    return SUFFIXES.get(PurePosixPath(path).suffix.lower(), "")


def settings_language(language: str) -> str:
    """Return the name of a language in settings, where TypeScript and tsx are one, and so are C and C++."""
    return {"tsx": "typescript", "c": "c++", "cpp": "c++"}.get(language, language)


def syntax_fault(text: str, language: str) -> str:
    """Return why a file is not accepted: "does not parse: line ...", "no function or class", or ""."""
    bad, first = 0, 0
    defines = False
    for node in syntax_nodes(parse_tree(text, language).root_node):
        defines = defines or node.type in FUNCTIONS | SCOPES or node.type in FUNCTION_VALUES
        if node.type == "ERROR":
            bad += node.end_byte - node.start_byte
            first = first or node.start_point[0] + 1
    if bad > MAX_ERROR_SHARE * len(text.encode()):
        return f"does not parse: line {first}, as {language}"
    return "" if defines else "no function or class"


def tokens_of(code: str, language: str) -> list[Token]:
    """Return the tokens of a piece of code, without comments; a string is one token."""
    found = []
    for node in syntax_nodes(parse_tree(code, language).root_node, whole=STRINGS):
        is_leaf = not node.child_count or node.type in STRINGS
        if is_leaf and "comment" not in node.type and (text := text_of(node).strip()):
            found.append(Token(text, node.type in NAMES))
    return found


@cache
def grammar_of(language: str) -> Language:
    """Return the grammar of one of the languages of `GRAMMARS`."""
    package, function = GRAMMARS[language]
    return Language(getattr(importlib.import_module(package), function)())


@cache
def _parser(language: str) -> Parser:
    return Parser(grammar_of(language))


def parse_tree(text: str, language: str) -> Tree:
    """Parse a text in one of the languages of `GRAMMARS`; this always yields a tree."""
    return _parser(language).parse(text.encode())


def syntax_nodes(root: Node, whole: frozenset[str] | set[str] = frozenset()) -> Iterator[Node]:
    """Yield a node and all below it in text order; children of nodes of a type in `whole` are skipped.

    The stack is explicit, as code nests deeper than Python recurses.
    """
    pending = [root]
    while pending:
        node = pending.pop()
        yield node
        if node.type not in whole:
            pending.extend(reversed(node.children))


def text_of(node: Node) -> str:
    """Return the text of a node."""
    return node.text.decode("utf-8", "replace")
