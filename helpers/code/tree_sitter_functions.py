"""Functions of languages other than Python, each documented by the comment above it.

Methods and functions assigned to a name (`const f = () => ...`) count; functions without a name do not.
In C and C++, words that only the preprocessor understands (`EXPORT`, `ADD ADD`) are no syntax error; a
function with any other is left out and listed. The comment directly above a function, or above its
`export`, `template` or attributes, is used as its docstring.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator

from tree_sitter import Node, Tree

from helpers.code.languages import (
    FUNCTION_VALUES,
    FUNCTIONS,
    SCOPES,
    VALUES,
    parse_tree,
    syntax_nodes,
    text_of,
)
from helpers.lines import bare_lines
from helpers.records import Function, FunctionLeftOut, SourceFile

NAMESPACES = {"namespace_definition", "mod_item", "internal_module"}  # their functions are not methods
# Nodes that wrap a function and come after its comment, and nodes that lie between the two.
WRAPPERS = {"export_statement", "lexical_declaration", "variable_declaration", "template_declaration"}
PARAMETER_NAMES = {"identifier", "this", "self", "shorthand_property_identifier_pattern"}
METHODS = ("method_definition", "method_declaration")
BETWEEN = {"attribute_item", "decorator"}
NO_DOCUMENTATION = re.compile(
    r"copyright|SPDX-|licen[cs]ed under|eslint|@ts-|prettier-|clang-format|nolint", re.IGNORECASE
)
LONE_RETURN = re.compile(r"\r(?!\n)")
CLASS_HEAD = re.compile(
    r"(?:class|struct|union)\s+(?:\w+(?:\([^)]*\))?\s+)*(\w+)\s*(?:final\s*)?(?::(?!:)|$)"
)
WORDS = re.compile(r"\s*\w+(?:\s+\w+)*\s*")
HAS_BODY = re.compile(r"\(.*\).*\{|=>", re.DOTALL)
LINK_TAG = re.compile(r"\{@\w+\s+([^}]*)\}")
DECORATION = re.compile(r"^\s*(?:/\*[*!]?|//[/!]?|\*(?!/))[ \t]?|\s*\*+/\s*$")


def functions_by_grammar(file: SourceFile) -> tuple[list[Function], list[FunctionLeftOut]]:
    """Extract the functions of a file in one of the languages of `GRAMMARS`, and list those left out.

    `module` is the file's path, because these languages and their users refer to files that way.
    `source` includes the doc comment above the function; `code` has neither it nor those of inner
    functions.
    """
    text = LONE_RETURN.sub("\n", file.text)  # tree-sitter counts no line there
    data = text.encode()
    tree = parse_tree(text, file.language)
    seen: Counter[str] = Counter()
    functions, left_out, spans = [], [], []
    for node, qualname, is_method, is_nested in sorted(_definitions(tree), key=lambda f: f[0].start_byte):
        spans.append((node.start_byte, node.end_byte))
        if node.has_error and (faults := _faults(node, file.language)):
            where = f"line {faults[0].start_point[0] + 1}, as {file.language}"
            left_out.append(FunctionLeftOut(f"{file.path}::{qualname}", "syntax error", where))
            continue
        outer = _outermost(node)
        comments = _comments_above(outer)
        seen[qualname] += 1
        start = comments[0].start_byte if comments else outer.start_byte
        functions.append(Function(
            id=f"{file.path}::{qualname}" + (f"#{seen[qualname]}" if seen[qualname] > 1 else ""),
            path=file.path, module=file.path, qualname=qualname, name=qualname.rpartition(".")[2],
            source=_at_margin(data, start, outer.end_byte), code=_without_inner_comments(data, outer),
            docstring=_cleaned("\n".join(text_of(comment).rstrip() for comment in comments)), doctests=0,
            parameters=_parameters(node), start_line=outer.start_point[0] + 1,
            end_line=outer.end_point[0] + 1, is_method=is_method, is_nested=is_nested,
            is_async=_is_async(_value(node)), language=file.language,
        ))  # fmt: skip
    for node in syntax_nodes(tree.root_node) if tree.root_node.has_error else ():
        inside = any(start <= node.start_byte < end for start, end in spans)
        if node.type == "ERROR" and not inside and HAS_BODY.search(text_of(node)):
            where = f"line {node.start_point[0] + 1}, as {file.language}"
            left_out.append(FunctionLeftOut(file.path, "beyond the grammar, may hold functions", where))
            spans.append((node.start_byte, node.end_byte))
    left_out += [
        FunctionLeftOut(
            file.path, "body without a head", f"line {body.start_point[0] + 1}, as {file.language}"
        )
        for body in tree.root_node.children
        # What the grammars make, without an error, of an older C function that returns a pointer.
        if body.type == "compound_statement" and file.language in ("c", "cpp")
    ]
    return functions, left_out


def _faults(function: Node, language: str) -> list[Node]:
    """Return the syntax errors of a function, without those that macros explain.

    In C and C++, a run of words that fits no rule and a missing semicolon come from macros. Braces that
    match show that the function ends where the grammar says.
    """
    found = [node for node in syntax_nodes(function) if node.type == "ERROR" or node.is_missing]
    by_macros = all(node.type == ";" if node.is_missing else WORDS.fullmatch(text_of(node)) for node in found)
    braces = [node.type for node in syntax_nodes(function) if node.type in ("{", "}")]
    is_whole = braces.count("{") == braces.count("}")
    return [] if language in ("c", "cpp") and by_macros and is_whole else found


def _definitions(tree: Tree) -> Iterator[tuple[Node, str, bool, bool]]:
    """Yield functions with a name and a body: with qualname, and whether they are methods and nested."""
    pending = [(tree.root_node, "", False, False)]
    while pending:
        node, prefix, in_class, in_function = pending.pop()
        for child in node.children:
            name = _name(child) if child.type in FUNCTIONS | SCOPES or _value(child) is not child else ""
            if child.type == "function_definition" and (behind := _class_behind_macro(child)):
                pending.append((child, f"{prefix}{behind}.", True, in_function))
            elif not name:
                pending.append((child, prefix, in_class, in_function))
            elif child.type in SCOPES:
                pending.append((child, f"{prefix}{name}.", child.type not in NAMESPACES, in_function))
            else:
                if _value(child).child_by_field_name("body") is not None:
                    method = in_class or child.type in METHODS or "." in name
                    yield child, prefix + name, method, in_function
                pending.append((child, f"{prefix}{name}.", False, True))


def _value(node: Node) -> Node:
    """Return the function in `const name = function`; any other node itself."""
    value = node.child_by_field_name("value") if node.type in VALUES else None
    return value if value is not None and value.type in FUNCTION_VALUES else node


def _name(node: Node) -> str:
    """Return a definition's name, after the type that it states (Go, C++); "" if there is none."""
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
        kinds = [text_of(inner) for inner in syntax_nodes(receiver) if inner.type == "type_identifier"]
        name = ".".join([*kinds[:1], name])
    return name


def _declarator(node: Node) -> Node | None:
    """Return the declarator inside a C or C++ declaration; in a reference it is the last, unnamed field."""
    inner = node.child_by_field_name("declarator")
    if inner is None and node.type == "reference_declarator" and node.named_children:
        inner = node.named_children[-1]
    return inner


def _is_async(function: Node) -> bool:
    modifiers = [child for child in function.children if child.type == "function_modifiers"]
    return any(part.type == "async" for node in (function, *modifiers) for part in node.children)


def _plain(node: Node | None) -> str:
    """Return a name on one line, without type arguments and with `A::b` written as A.b."""
    text = re.sub(r"<.*>|\s+", "", text_of(node), flags=re.DOTALL) if node is not None else ""
    return text.replace("::", ".").strip(".\"'#")


def _parameters(node: Node) -> tuple[str, ...]:
    """Return the parameter names in signature order; of a pattern, its first name."""
    listed = _parameter_list(node)
    if listed is None:  # x => ...
        single = _value(node).child_by_field_name("parameter")
        return (text_of(single),) if single is not None else ()
    names = []
    for parameter in listed.named_children:
        if "comment" in parameter.type:
            continue
        fields = (parameter.child_by_field_name(f) for f in ("pattern", "name", "declarator", "left"))
        place = next((f for f in fields if f is not None), parameter)
        names += [text_of(inner) for inner in syntax_nodes(place) if inner.type in PARAMETER_NAMES][:1]
    return tuple(names)


def _parameter_list(node: Node) -> Node | None:
    holder = _value(node)
    listed = holder.child_by_field_name("parameters")
    while listed is None and (inner := _declarator(holder)) is not None:
        holder, listed = inner, inner.child_by_field_name("parameters")
    return listed


def _class_behind_macro(node: Node) -> str:
    """Return the name of a C++ class that a macro makes look like a function (`class API Name : Base {`)."""
    body = node.child_by_field_name("body")
    head = text_of(node)[: body.start_byte - node.start_byte] if body is not None else ""
    match = CLASS_HEAD.match(head) if _parameter_list(node) is None else None
    return match.group(1) if match else ""


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
    bare = [DECORATION.sub("", DECORATION.sub("", line)) for line in bare_lines(comment)]
    return textwrap.dedent("\n".join(LINK_TAG.sub(r"\1", line).rstrip() for line in bare)).strip()


def _at_margin(data: bytes, start: int, end: int) -> str:
    """Decode bytes and remove the first line's indentation from all other lines."""
    line_start = data.rfind(b"\n", 0, start) + 1
    indent = re.match(rb"[ \t]*", data[line_start:start]).group().decode()
    first, *rest = data[start:end].decode("utf-8", "replace").split("\n")
    return "\n".join([first, *(line.removeprefix(indent) for line in rest)]).rstrip() + "\n"


def _without_inner_comments(data: bytes, outer: Node) -> str:
    """Return the function's text without the doc comments of the functions inside it."""
    drop: list[tuple[int, int]] = []
    for node in syntax_nodes(outer):
        if node.id != outer.id and (node.type in FUNCTIONS or _value(node) is not node):
            drop += [(c.start_byte, c.end_byte) for c in _comments_above(_outermost(node))]
    kept = bytearray(data[: outer.end_byte])
    for start, end in sorted((span for span in set(drop) if span[0] > outer.start_byte), reverse=True):
        line_start = data.rfind(b"\n", 0, start) + 1
        if not data[line_start:start].strip() and data[end : end + 1] == b"\n":
            start, end = line_start, end + 1
        del kept[start:end]
    return _at_margin(bytes(kept), outer.start_byte, len(kept))
