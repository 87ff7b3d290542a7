"""Functions of languages other than Python, each documented by the comment above it.

Methods and functions assigned to a name (`const f = () => ...`) count; functions without a name or with
a syntax error do not. The comment directly above a function, or above its `export`, `template` or
attributes, is used as its docstring.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tree_sitter import Node, Tree

from helpers.code.languages import FUNCTION_VALUES, FUNCTIONS, SCOPES, VALUES, parse_tree, text_of
from helpers.records import Function, SourceFile

NAMESPACES = {"namespace_definition", "mod_item", "internal_module"}  # their functions are not methods
# Nodes that wrap a function and come after its comment, and nodes that lie between the two.
WRAPPERS = {"export_statement", "lexical_declaration", "variable_declaration", "template_declaration"}
BETWEEN = {"attribute_item", "decorator"}
NO_DOCUMENTATION = re.compile(
    r"copyright|SPDX-|licen[cs]ed under|eslint|@ts-|prettier-|clang-format|nolint", re.IGNORECASE
)
LINK_TAG = re.compile(r"\{@\w+\s+([^}]*)\}")
DECORATION = re.compile(r"^\s*(?:/\*[*!]?|//[/!]?|\*(?!/))[ \t]?|\s*\*+/\s*$")


def functions_by_grammar(file: SourceFile) -> list[Function]:
    """Extract the functions of a file in one of the languages of `GRAMMARS`, in file order.

    `module` is the file's path, because these languages and their users refer to files that way.
    `source` includes the doc comment above the function; `code` has neither it nor those of inner
    functions.
    """
    data = file.text.encode()
    tree = parse_tree(file.text, file.language)
    seen: Counter[str] = Counter()
    functions = []
    for found in sorted(_definitions(tree), key=lambda found: found.node.start_byte):
        if found.node.has_error:
            continue
        outer = _outermost(found.node)
        comments = _comments_above(outer)
        seen[found.qualname] += 1
        occurrence = f"#{seen[found.qualname]}" if seen[found.qualname] > 1 else ""
        start = comments[0].start_byte if comments else outer.start_byte
        functions.append(
            Function(
                id=f"{file.path}::{found.qualname}{occurrence}",
                path=file.path,
                module=file.path,
                qualname=found.qualname,
                name=found.qualname.rpartition(".")[2],
                source=_at_margin(data, start, outer.end_byte),
                code=_without_inner_comments(data, outer),
                docstring=_cleaned("\n".join(text_of(comment).rstrip() for comment in comments)),
                doctests=0,
                parameters=_parameters(found.node),
                start_line=outer.start_point[0] + 1,
                end_line=outer.end_point[0] + 1,
                is_method=found.in_class,
                is_nested=found.in_function,
                is_async=_is_async(_value(found.node)),
                language=file.language,
            )
        )
    return functions


@dataclass(frozen=True)
class _Found:
    node: Node
    qualname: str
    in_class: bool
    in_function: bool


def _definitions(tree: Tree) -> Iterator[_Found]:
    """Yield functions that have a name and a body, with the scopes around them."""
    pending = [(tree.root_node, "", False, False)]
    while pending:
        node, prefix, in_class, in_function = pending.pop()
        for child in node.children:
            name = _name(child) if child.type in FUNCTIONS | SCOPES or _value(child) is not child else ""
            if not name:
                pending.append((child, prefix, in_class, in_function))
            elif child.type in SCOPES:
                pending.append((child, f"{prefix}{name}.", child.type not in NAMESPACES, in_function))
            else:
                if _value(child).child_by_field_name("body") is not None:
                    method = (
                        in_class or child.type in ("method_definition", "method_declaration") or "." in name
                    )
                    yield _Found(child, prefix + name, method, in_function)
                pending.append((child, f"{prefix}{name}.", False, True))


def _value(node: Node) -> Node:
    """Return the function in `const name = function`; any other node itself."""
    value = node.child_by_field_name("value") if node.type in VALUES else None
    return value if value is not None and value.type in FUNCTION_VALUES else node


def _name(node: Node) -> str:
    """Return a definition's name, prefixed by its type if the definition states that; "" for none."""
    if node.type == "impl_item":
        return _plain(node.child_by_field_name("type"))
    if node.type == "function_definition":  # C, C++: inside pointers and parameters
        inner = _declarator(node)
        while inner is not None and _declarator(inner) is not None:
            inner = _declarator(inner)
        return _plain(inner)
    name = _plain(node.child_by_field_name("name") or node.child_by_field_name("property"))
    receiver = node.child_by_field_name("receiver") if node.type == "method_declaration" else None
    if receiver is not None and name:  # Go: func (r *Type) Name()
        kinds = [inner for inner in _below(receiver) if inner.type == "type_identifier"]
        name = f"{text_of(kinds[0])}.{name}" if kinds else name
    return name


def _declarator(node: Node) -> Node | None:
    """Return the declarator inside a C or C++ declaration; a reference has no field name for its own."""
    inner = node.child_by_field_name("declarator")
    if inner is None and node.type == "reference_declarator" and node.named_children:
        inner = node.named_children[-1]
    return inner


def _is_async(function: Node) -> bool:
    modifiers = [
        part for child in function.children if child.type == "function_modifiers" for part in child.children
    ]
    return any(part.type == "async" for part in (*function.children, *modifiers))


def _plain(node: Node | None) -> str:
    """Return a name on one line, without type arguments and with `A::b` written as A.b."""
    text = re.sub(r"<.*>|\s+", "", text_of(node), flags=re.DOTALL) if node is not None else ""
    return text.replace("::", ".").strip(".\"'#")


def _below(node: Node) -> Iterator[Node]:
    pending = [node]
    while pending:
        current = pending.pop()
        yield current
        pending.extend(reversed(current.children))


def _parameters(node: Node) -> tuple[str, ...]:
    """Return the parameter names in signature order; of a pattern, its first name."""
    holder = _value(node)
    listed = holder.child_by_field_name("parameters")
    while listed is None and (inner := _declarator(holder)) is not None:
        holder, listed = inner, inner.child_by_field_name("parameters")
    if listed is None:  # x => ...
        single = _value(node).child_by_field_name("parameter")
        return (text_of(single),) if single is not None else ()
    names = []
    for parameter in listed.named_children:
        if "comment" in parameter.type:
            continue
        fields = (parameter.child_by_field_name(f) for f in ("pattern", "name", "declarator", "left"))
        place = next((f for f in fields if f is not None), parameter)
        found = [
            n
            for n in _below(place)
            if n.type in ("identifier", "this", "self", "shorthand_property_identifier_pattern")
        ]
        names += [text_of(found[0])] if found else []
    return tuple(names)


# --- text -----------------------------------------------------------------------------------------


def _outermost(node: Node) -> Node:
    """Return the outermost wrapper of a node, such as `export`, `const` or `template <...>`."""
    while node.parent is not None and node.parent.type in WRAPPERS:
        node = node.parent
    return node


def _comments_above(node: Node) -> list[Node]:
    """Return the unbroken run of comments that ends on the line above, in file order."""
    found: list[Node] = []
    line, before = node.start_point[0], node.prev_sibling
    while before is not None:
        last = before.end_point[0] - (before.end_point[1] == 0)  # Rust: a comment includes its line end
        if "comment" in before.type and last in (line - 1, line):
            if NO_DOCUMENTATION.search(text_of(before)) or _trails_code(before):
                break
            found.append(before)
        elif before.type not in BETWEEN:
            break
        line, before = before.start_point[0], before.prev_sibling
    return found[::-1]


def _trails_code(comment: Node) -> bool:
    """Return whether something else precedes the comment on its line."""
    before = comment.prev_sibling
    return before is not None and before.end_point[0] == comment.start_point[0] and before.end_point[1] > 0


def _cleaned(comment: str) -> str:
    """Strip slashes and stars from a comment; a tag such as {@link x} becomes its text."""
    lines = []
    for line in comment.splitlines():
        bare = DECORATION.sub("", DECORATION.sub("", line))
        lines.append(LINK_TAG.sub(r"\1", bare).rstrip())
    return textwrap.dedent("\n".join(lines)).strip()


def _at_margin(data: bytes, start: int, end: int) -> str:
    """Decode bytes and remove the first line's indentation from all other lines."""
    line_start = data.rfind(b"\n", 0, start) + 1
    indent = re.match(rb"[ \t]*", data[line_start:start]).group().decode()
    first, *rest = data[start:end].decode("utf-8", "replace").split("\n")
    return "\n".join([first, *(line.removeprefix(indent) for line in rest)]).rstrip() + "\n"


def _without_inner_comments(data: bytes, outer: Node) -> str:
    """Return the function's text without the doc comments of the functions inside it."""
    drop: list[tuple[int, int]] = []
    for node in _below(outer):
        if node.id != outer.id and (node.type in FUNCTIONS or _value(node) is not node):
            drop += [
                (c.start_byte, c.end_byte)
                for c in _comments_above(_outermost(node))
                if c.start_byte > outer.start_byte
            ]
    kept = bytearray(data[: outer.end_byte])
    for start, end in sorted(set(drop), reverse=True):
        line_start = data.rfind(b"\n", 0, start) + 1
        if not data[line_start:start].strip() and data[end : end + 1] == b"\n":
            start, end = line_start, end + 1
        del kept[start:end]
    return _at_margin(bytes(kept), outer.start_byte, len(kept))
