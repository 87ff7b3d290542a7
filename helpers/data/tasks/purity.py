"""Decide which functions of a code base may be run at all, and name the reason for all others.

Functions run in the sandbox only, and so does the import of their module; this process never imports a code
base that is not installed. The rule keeps functions that reach outside of their arguments from being run
even there. It reads the function's own text: what the functions that it calls do is not followed, and is
left to the sandbox to contain.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterable

from helpers.code.python_text import parse_or_reason
from helpers.records import Corpus, Function

MAX_CODE_CHARS = 4000
BUILTINS = {"open", "input", "eval", "exec", "compile", "__import__", "breakpoint", "exit", "quit", "help"}
MODULES = {
    "aiohttp", "asyncio", "code", "concurrent", "ctypes", "fcntl", "ftplib", "getpass", "glob", "http",
    "httpx", "imaplib", "importlib", "mmap", "multiprocessing", "platform", "poplib", "pty", "pwd",
    "requests", "resource", "runpy", "select", "selectors", "shelve", "shutil", "signal", "smtplib",
    "socket", "socketserver", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "urllib.request",
    "urllib3", "webbrowser", "winreg", "xmlrpc",
}  # fmt: skip
HARMLESS_OF_OS = {
    "os.PathLike", "os.fsdecode", "os.fsencode", "os.fspath", "os.linesep", "os.path", "os.path.basename",
    "os.path.commonpath", "os.path.commonprefix", "os.path.dirname", "os.path.isabs", "os.path.join",
    "os.path.normcase", "os.path.normpath", "os.path.sep", "os.path.split", "os.path.splitext", "os.sep",
}  # fmt: skip
OF_SYS = {"sys.exit", "sys.modules", "sys.path", "sys.stdin", "sys.settrace", "sys.setprofile", "sys.argv"}
OF_PATHS = {
    "chmod", "hardlink_to", "mkdir", "read_bytes", "read_text", "rename", "rglob", "rmdir", "symlink_to",
    "touch", "unlink", "write_bytes", "write_text", "iterdir",
}  # fmt: skip

OUTSIDE = "reaches outside of its arguments"
SECRET = "in a file with a masked secret"
NOT_PLAIN = "method, nested, async or oversized"
IMPORTS = "imports a package when called"
REFUSALS = (NOT_PLAIN, SECRET, IMPORTS, OUTSIDE)  # in the order of the rule
RULE = (
    "It is a function of a Python module: no method, not nested, not async, defined only once, and of at "
    f"most {MAX_CODE_CHARS} characters.",
    "No secret was masked in its file.",
    "When called, it imports only the standard library and the code base itself.",
    f"It calls none of {', '.join(sorted(BUILTINS))}, declares nothing global, and uses none of the modules "
    f"{', '.join(sorted(MODULES))}. Of os it uses only functions that compute on the names of paths; of sys "
    "neither exit nor anything that changes the interpreter. It calls no method that reads or writes a path.",
    "It is run in the sandbox only, and so is the import of its module.",
)


class PurityRule:
    """The rule for the functions of one corpus; reads each file's imports once."""

    def __init__(self, corpus: Corpus, functions: Iterable[Function]) -> None:
        self._texts = {file.path: file.text for file in corpus.files}
        self._masked = {file.path for file in corpus.files if file.masked}
        self._own = {f.module.partition(".")[0] for f in functions} | {corpus.import_name}
        self._imports: dict[str, dict[str, str]] = {}

    def reason(self, function: Function) -> str:
        """Return why `function` may not be run, as one of the phrases above; "" if it may."""
        if function.language != "python":
            return NOT_PLAIN
        if function.path in self._masked:
            return SECRET
        is_plain = not (function.is_method or function.is_nested or function.is_async)
        if not is_plain or "#" in function.id or len(function.code) > MAX_CODE_CHARS:
            return NOT_PLAIN
        tree = parse_or_reason(function.code)
        if isinstance(tree, str):
            return NOT_PLAIN
        imported = imported_names(tree)
        allowed = set(sys.stdlib_module_names) | self._own | {""}
        if not {name.partition(".")[0] for name in imported.values()} <= allowed:
            return IMPORTS
        return OUTSIDE if self._reaches_outside(tree, function.path, imported) else ""

    def _reaches_outside(self, tree: ast.Module, path: str, imported: dict[str, str]) -> bool:
        names = self._module_imports(path) | imported
        if any(_is_outside(name) for name in imported.values()):
            return True
        bound = {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
        bound |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        for node in ast.walk(tree):
            called = node.func if isinstance(node, ast.Call) else None
            on_a_path = isinstance(called, ast.Attribute) and called.attr in OF_PATHS
            if on_a_path or isinstance(node, ast.Global):
                return True
            root, _, rest = dotted(node).partition(".")
            if root in names and root not in bound and _is_outside(f"{names[root]}.{rest}".strip(".")):
                return True
            if not rest and root in BUILTINS - bound and root not in names:
                return True
        return False

    def _module_imports(self, path: str) -> dict[str, str]:
        if path not in self._imports:
            tree = parse_or_reason(self._texts.get(path, ""))
            self._imports[path] = {} if isinstance(tree, str) else imported_names(tree)
        return self._imports[path]


def imported_names(tree: ast.AST) -> dict[str, str]:
    """Return name in scope -> dotted name it was imported from; relative imports give ""."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = "" if node.level else f"{node.module}.{alias.name}"
    return names


def counted_reasons(reasons: Iterable[str]) -> dict[str, int]:
    """Return reason -> functions that may not be run for it, in the order of the rule."""
    counts = Counter(reasons)
    return {reason: counts[reason] for reason in REFUSALS if counts[reason]}


def _is_outside(dotted: str) -> bool:
    parts = dotted.split(".")
    prefixes = {".".join(parts[: i + 1]) for i in range(len(parts))}
    if prefixes & (MODULES | OF_SYS) or dotted == "io.open":
        return True
    return parts[0] in ("os", "posix", "nt") and len(parts) > 1 and dotted not in HARMLESS_OF_OS


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` of a chain of attributes on a name; "" for any other node."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""
