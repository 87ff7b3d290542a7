"""Every function and method of a corpus, cut from its file exactly as written.

Positions come from the syntax tree, characters from the file: comments, decorators, quotes and line
ends stay as they are. Only two things change: `source` is moved to the left margin, and `code` also
lacks the function's own docstring (docstrings of inner functions stay).
"""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from helpers.code.python_text import parse_or_reason, tokenize_python
from helpers.code.tree_sitter_functions import functions_by_grammar
from helpers.escaping import storable
from helpers.lines import lines_of
from helpers.machine.progress import progress
from helpers.records import Corpus, Function, FunctionLeftOut, SourceFile

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
LAYOUT_PREFIXES = ("src/", "lib/", "python/")  # folders on the import path, not part of module names


def extract_functions(corpus: Corpus) -> tuple[Function, ...]:
    """Extract all functions of the accepted files, in order of path and line.

    A function whose nearest enclosing scope is a class is a method (`is_method`); anything inside
    another function is `is_nested`. Functions inside if, try, with, for, while or match blocks are included.
    A qualname is the chain of enclosing names, `outer.inner` for nested functions. If a name is defined
    again (overloads, property setters, if/else), its id ends in "#2", "#3", ...

    For Python, both `source` and `code` parse. A body that was only a docstring becomes `pass`.
    """
    packages = package_folders(corpus)
    functions: list[Function] = []
    for file in progress(corpus.files, "extracting functions", unit="file"):
        functions += functions_of_file(file, module_name(file.path, corpus.import_name, packages))
    return tuple(functions)


def functions_left_out(corpus: Corpus) -> tuple[FunctionLeftOut, ...]:
    """Return the functions that `extract_functions` leaves out, with the reason, in order of path and line.

    In Python there are none: a file that does not parse is rejected as a whole.
    """
    files = [file for file in corpus.files if file.language != "python"]
    return tuple(left_out for file in files for left_out in functions_by_grammar(file)[1])


def functions_of_file(file: SourceFile, module: str) -> list[Function]:
    """Extract the functions of one file; a text that does not parse has none.

    `module` is the dotted name of a Python file; for other languages the path is used instead.
    """
    if file.language != "python":
        return functions_by_grammar(file)[0]
    tree = parse_or_reason(file.text)
    if isinstance(tree, str):
        return []
    lines = lines_of(file.text)
    seen: Counter[str] = Counter()
    functions = []
    found = sorted(_definitions(tree), key=lambda found: (found[0].lineno, found[0].col_offset))
    for node, qualname, is_method, is_nested in found:
        seen[qualname] += 1
        source, start_line = _source_of(node, lines)
        docstring = storable(ast.get_docstring(node, clean=False) or "")
        functions.append(Function(
            id=f"{file.path}::{qualname}" + (f"#{seen[qualname]}" if seen[qualname] > 1 else ""),
            path=file.path, module=module, qualname=qualname, name=node.name, source=source,
            code=without_docstring(source), docstring=inspect.cleandoc(docstring),
            doctests=count_doctests(docstring), parameters=_parameters(node), start_line=start_line,
            end_line=node.end_lineno or node.lineno, is_method=is_method, is_nested=is_nested,
            is_async=isinstance(node, ast.AsyncFunctionDef),
        ))  # fmt: skip
    return functions


def without_docstring(source: str) -> str:
    """Cut the docstring out of `source`, one function at the left margin.

    The docstring's own lines go; a comment or statement on its last line stays. If nothing else is
    left of the body, `pass` takes its place.

    Raises:
        ValueError: if `source` is not one function that parses.
    """
    tree = parse_or_reason(source)
    if isinstance(tree, str) or not tree.body or not isinstance(tree.body[0], FunctionNode):
        raise ValueError("not the source of one function")
    node = tree.body[0]
    if ast.get_docstring(node, clean=False) is None:
        return source
    lines = lines_of(source)
    statement = node.body[0]
    before = "".join(lines[: statement.lineno - 1])
    before += _cut(lines[statement.lineno - 1], 0, statement.col_offset)
    end = statement.end_lineno or statement.lineno
    after = _cut(lines[end - 1], statement.end_col_offset or 0) + "".join(lines[end:])
    if len(node.body) == 1:
        code = before + "pass" + after
    elif re.match(r"[ \t\f]*;", after):  # """doc"""; more on the same line
        code = before + re.sub(r"^[ \t\f]*;[ \t\f]*", "", after)
    elif re.match(r"[ \t\f]*#", after):  # the comment keeps the line
        code = before + after.lstrip(" \t\f")
    else:
        code = before.rstrip(" \t\f") + re.sub(r"^[ \t\f]*(?:\r\n|\r|\n)?", "", after)
    if isinstance(parse_or_reason(code), str):  # unusual line continuations: at least keep the meaning
        node.body = node.body[1:] or [ast.Pass()]
        code = ast.unparse(ast.fix_missing_locations(node)) + "\n"
    return code


def count_doctests(docstring: str) -> int:
    """Return the number of examples that the doctest module finds; 0 if it rejects the docstring."""
    try:
        return len(doctest.DocTestParser().get_examples(inspect.cleandoc(docstring)))
    except ValueError:
        return 0


def module_name(path: str, import_name: str, packages: frozenset[str]) -> str:
    """Return the dotted module name of a corpus path, as code in the repository would import it.

    Args:
        path: relative to the corpus root.
        import_name: the package that the root is, or "".
        packages: folders that hold an `__init__.py`. Without `import_name`, a module's name starts at
            the topmost package around it (`src/pkg/a.py` is `pkg.a`).
    """
    parts = list(PurePosixPath(path).with_suffix("").parts)
    if import_name:
        parts = [*import_name.split("."), *parts]
    else:
        first = len(parts) - 1
        while first and "/".join(parts[:first]) in packages:
            first -= 1
        if first == len(parts) - 1:  # in no package: a script, or a namespace package
            first = int(path.startswith(LAYOUT_PREFIXES))
        parts = parts[first:]
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return ".".join(parts)


def _definitions(tree: ast.Module) -> Iterator[tuple[FunctionNode, str, bool, bool]]:
    """Yield functions with qualname, and whether they are methods and nested.

    The stack is explicit, as elif chains exceed Python's recursion.
    """
    pending: list[tuple[ast.AST, str, bool, bool]] = [(tree, "", False, False)]
    while pending:
        parent, prefix, in_class, in_function = pending.pop()
        for child in ast.iter_child_nodes(parent):
            if isinstance(child, FunctionNode):
                yield child, prefix + child.name, in_class, in_function
                pending.append((child, f"{prefix}{child.name}.", False, True))
            elif isinstance(child, ast.ClassDef):
                pending.append((child, f"{prefix}{child.name}.", True, in_function))
            elif isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                pending.append((child, prefix, in_class, in_function))


def _source_of(node: FunctionNode, lines: list[str]) -> tuple[str, int]:
    """Return the function's lines at the left margin, and the 1-based number of the first.

    Lines that begin inside a multi-line string other than a docstring keep their indentation, which is
    part of a value there.
    """
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    end = node.end_lineno or node.lineno
    taken = lines[start - 1 : end]
    indent = re.match(r"[ \t\f]*", taken[0]).group()
    fixed = {line - start for line in _lines_inside_strings(node, lines)} if indent else set()
    source = "".join(line if at in fixed else line.removeprefix(indent) for at, line in enumerate(taken))
    tree = parse_or_reason(source)
    if isinstance(tree, str) or len(tree.body) != 1 or not isinstance(tree.body[0], FunctionNode):
        source = ast.unparse(node) + "\n"  # mixed tabs and spaces, a decorator over a backslash
    return source, start


def _lines_inside_strings(node: FunctionNode, lines: list[str]) -> set[int]:
    """Return the numbers of lines that begin inside a multi-line string other than a docstring."""
    nodes = list(ast.walk(node))
    # Docstrings, and strings used as comments.
    loose = {id(n.value) for n in nodes if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
    strings = [n for n in nodes if isinstance(n, ast.Constant | ast.JoinedStr) and id(n) not in loose]
    spans = {(n.lineno, n.end_lineno) for n in strings if (n.end_lineno or n.lineno) > n.lineno}
    if not spans:
        return set()
    # Rare, so tokenise only now, to tell one long string from several adjacent short ones.
    inside: set[int] = set()
    start, end = min(first for first, _ in spans), node.end_lineno or node.lineno
    text = "".join(lines[node.lineno - 1 : end])
    opened: list[int] = []
    try:
        for token in tokenize_python(text):
            first, last = token.start[0] + node.lineno - 1, token.end[0] + node.lineno - 1
            kind = tokenize.tok_name[token.type]
            if kind in ("FSTRING_START", "TSTRING_START"):  # Python 3.12 and later
                opened.append(first)
                continue
            if kind in ("FSTRING_END", "TSTRING_END"):
                first = opened.pop()
            elif kind != "STRING":
                continue
            if last >= start and any(low <= first and last <= high for low, high in spans):
                inside.update(range(first + 1, last + 1))
    except (tokenize.TokenError, IndentationError):
        pass  # the tokenizer stops at the dedent after the function, which it has seen completely
    return inside


def _cut(line: str, start: int, end: int | None = None) -> str:
    """Cut a line at offsets in UTF-8 bytes, which is how syntax trees count."""
    return line.encode()[start:end].decode()


def _parameters(node: FunctionNode) -> tuple[str, ...]:
    """Return the parameter names in signature order, without stars."""
    taken = node.args
    ordered = [*taken.posonlyargs, *taken.args, taken.vararg, *taken.kwonlyargs, taken.kwarg]
    return tuple(argument.arg for argument in ordered if argument is not None)


def package_folders(corpus: Corpus) -> frozenset[str]:
    """Return the corpus folders that hold an `__init__.py`, whether accepted or rejected."""
    seen = [file.path for file in (*corpus.files, *corpus.rejected)]
    return frozenset(path.removesuffix("/__init__.py") for path in seen if path.endswith("/__init__.py"))
