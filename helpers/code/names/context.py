"""What exists: the names, attributes, modules and signatures that an answer may refer to.

The context is built once per corpus from its functions and files, the standard library and the
installed packages. Only the standard library, numpy, networkx and the corpus's own package (if
installed) are imported for inspection; what other packages offer is read from their source (`modules`).
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import keyword
import re
import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, lru_cache

from helpers.code.names.lookup import (
    ALIASES,
    LOOKED_INTO,
    allow_import,
    argument_names,
    import_module,
    may_import,
)
from helpers.code.names.modules import is_installed, names_of_tree, submodules
from helpers.code.python_text import parse
from helpers.records import Function, SourceFile

LOOKED_AT = ("typing", "abc", "array", "bisect", "contextlib", "copy", "csv", "dataclasses", "enum",
             "numbers", "statistics", "textwrap", "warnings", "itertools", "collections.abc", "hashlib",
             "queue", "secrets", "shutil", "subprocess", "tempfile", "traceback", "uuid", "weakref",
             "unittest", "unittest.mock", "argparse", "struct", "pprint",
             "collections", "functools", "random", "re", "math", "io", "pathlib", "datetime",
             "decimal", "fractions", "threading", "logging", "json", "operator", "heapq", "os", "os.path",
             "string", "sys", "time", "inspect", "ast", "types", "numpy", "numpy.random")  # fmt: skip
IN_SOME_SHELLS = {"get_ipython", "display", "reveal_type"}
WORD = re.compile(r"[^\W\d]\w*")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
BUILTIN_TYPES = (str, bytes, int, float, complex, bool, list, tuple, dict, set, frozenset, range, slice,
                 BaseException, object, type, types.FunctionType, types.ModuleType,
                 types.GeneratorType)  # fmt: skip


@dataclass(frozen=True)
class NameContext:
    """Everything known to exist.

    `names` can be written on their own (functions, classes, module globals); `attributes` can follow a dot
    on an object of unknown class. `receivers` maps parameters whose class is known by convention (networkx:
    `G`) to their attributes. `parameters` are those of the function under discussion, if there is one.
    """

    import_name: str = ""
    names: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()
    signatures: dict[str, frozenset[str] | None] = field(default_factory=dict)  # None: accepts any keyword
    receivers: dict[str, frozenset[str]] = field(default_factory=dict)
    known_words: frozenset[str] = frozenset()
    parameters: frozenset[str] | None = None
    modules: dict[str, frozenset[str] | None] = field(default_factory=dict)  # corpus module -> bound names
    imported: frozenset[str] = frozenset()  # top-level packages that the corpus imports
    any_attribute: bool = False  # whether objects of unknown classes may occur

    @classmethod
    def from_functions(
        cls,
        functions: Iterable[Function],
        import_name: str = "",
        files: Iterable[SourceFile] = (),
        *,
        installed: bool = False,
    ) -> NameContext:
        """Collect names from the Python code among `functions` and `files`.

        Args:
            functions: functions of the corpus, in any language.
            import_name: the corpus's package, "" for a loose folder.
            files: files of the corpus, in any language.
            installed: whether that package is installed and may be imported for inspection. Code in a
                folder is never run for this; its names are read from the source.
        """
        functions = [function for function in functions if function.language == "python"]
        files = [file for file in files if file.language == "python"]
        if installed and import_name:
            allow_import(import_name)
        found = _Found()
        in_files = {file.path for file in files}
        for function in functions:
            found.names.update(function.qualname.split("."))
            found.names.update(function.module.split("."))
            tree = parse(function.source) if function.path not in in_files else None
            if tree is not None:
                found.collect(tree)
        modules = {}
        for file in files:
            tree = parse(file.text)
            if tree is not None:
                found.collect(tree)
                module = _module_of(file.path, import_name)
                package = module if file.path.endswith("__init__.py") else module.rpartition(".")[0]
                modules[module] = names_of_tree(tree, package)
        package = import_module(import_name) if import_name else None
        if package is not None:
            found.names.update(dir(package))
            found.attributes.update(dir(package))
        found.attributes.update(*map(dir, BUILTIN_TYPES))
        own = {import_name} - {""} | {module.partition(".")[0] for module in modules}
        foreign = {name for module, name in found.taken if module.partition(".")[0] not in own}
        return cls(
            import_name=import_name,
            names=frozenset(found.names),
            attributes=frozenset(found.attributes | found.names),
            signatures=found.signatures | dict.fromkeys(foreign),
            receivers=_receivers(package),
            modules=modules,
            imported=frozenset(found.imported),
        )

    def about(self, source: str, *more: str) -> NameContext:
        """Add what one task mentions: its function's parameters, and every word of the given texts.

        `source` is the function as the task shows it, `more` are texts that the answer may quote.
        """
        tree = parse(source) or ast.Module(body=[], type_ignores=[])
        own = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        parameters = frozenset(argument_names(own[0])) if own else None
        words = frozenset(word for text in (source, *more) for word in WORD.findall(text))
        return dataclasses.replace(self, known_words=self.known_words | words, parameters=parameters)

    def with_attributes_of(self, modules: Iterable[str]) -> NameContext:
        """Add the attributes of instances of classes in these imported modules.

        If a package's classes cannot be inspected, every attribute counts as existing.
        """
        more: set[str] = set()
        for module in {m for m in modules if m not in LOOKED_AT and m not in LOOKED_INTO}:
            if module == self.import_name or module in self.modules:
                continue
            if not may_import(module):
                return dataclasses.replace(self, any_attribute=True)
            more |= _attributes_under(module)
        return dataclasses.replace(self, attributes=self.attributes | more) if more else self

    def knows_name(self, name: str) -> bool:
        """Return whether `name` exists on its own, without anything before a dot."""
        if hasattr(builtins, name) or name.startswith("__") or keyword.iskeyword(name):
            return True
        places = (self.names, self.known_words, ALIASES, IN_SOME_SHELLS, self.receivers,
                  sys.stdlib_module_names, _library_names())  # fmt: skip
        return any(name in place for place in places)

    def knows_attribute(self, name: str) -> bool:
        """Return whether any object that an answer may use has an attribute `name`."""
        known = name in self.attributes or name in self.known_words or name in _library_attributes()
        return known or self.any_attribute


def module_exists(name: str, context: NameContext) -> bool:
    """Return whether `import name` could work: standard library, installed, or known to the corpus."""
    top = name.partition(".")[0]
    if name in context.modules or (top in context.imported and not is_installed(top)):
        return True
    known = import_module(name) is not None or is_installed(name)
    return known or (context.import_name == "" and set(name.split(".")) <= context.names)


def _module_of(path: str, import_name: str) -> str:
    """Return the dotted module name of the corpus file at `path`, which is relative to the root."""
    parts = path.removesuffix(".py").split("/")
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join([*([import_name] if import_name else []), *parts])


@dataclass
class _Found:
    """Names found in the source of a corpus."""

    names: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    signatures: dict[str, frozenset[str] | None] = field(default_factory=dict)
    taken: set[tuple[str, str]] = field(default_factory=set)  # (module, name) of `from module import name`
    imported: set[str] = field(default_factory=set)

    def collect(self, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.names.add(node.name)
                taken = None if node.args.kwarg else frozenset(argument_names(node)) | {"backend"}
                if node.name in self.signatures and self.signatures[node.name] != taken:
                    taken = None  # two functions share the name, so nothing is certain
                self.signatures[node.name] = taken
            elif isinstance(node, ast.ClassDef):
                self.names.add(node.name)
                self.attributes.update(_class_words(node))
            elif isinstance(node, ast.Attribute):
                self.attributes.add(node.attr)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    self.names.update((alias.asname or alias.name).split("."))
                if isinstance(node, ast.Import):
                    self.imported.update(alias.name.partition(".")[0] for alias in node.names)
                elif not node.level:
                    self.imported.add((node.module or "").partition(".")[0])
                    self.taken.update((node.module or "", a.asname or a.name) for a in node.names)
        for node in tree.body:
            for target in ast.walk(node) if not isinstance(node, DEFINITIONS) else ():
                if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                    self.names.add(target.id)


def _class_words(node: ast.ClassDef) -> set[str]:
    """Return names bound in a class body: fields, constants, members of an enumeration."""
    return {
        part.id
        for statement in node.body
        if not isinstance(statement, DEFINITIONS)
        for part in ast.walk(statement)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    }


def _receivers(package: types.ModuleType | None) -> dict[str, frozenset[str]]:
    """Map parameter names to attributes if the code base has a firm naming convention."""
    if package is None or package.__name__ != "networkx":
        return {}
    kinds = (package.Graph, package.DiGraph, package.MultiGraph, package.MultiDiGraph)
    known = frozenset(name for kind in kinds for name in dir(kind()))
    return dict.fromkeys(("G", "H", "graph", "DG", "MG", "UG"), known)


@lru_cache(maxsize=1)
def _library_attributes() -> frozenset[str]:
    """Return attributes of common standard-library objects and of numpy arrays."""
    found: set[str] = set()
    for module in LOOKED_AT:
        loaded = import_module(module)
        for name, value in vars(loaded).items() if loaded else ():
            found.add(name)
            if isinstance(value, type):
                found.update(dir(value))
    found.update(dir(re.compile("").match("")))
    return frozenset(found)


@cache
def _attributes_under(package: str) -> frozenset[str]:
    """Return the attributes of all classes in a package that may be imported, and in its submodules."""
    found: set[str] = set()
    for name in submodules(package):
        import_module(name)
    for name, module in list(sys.modules.items()):
        if name == package or name.startswith(f"{package}."):
            for value in list(vars(module).values()) if module else ():
                found.update(dir(value) if isinstance(value, type) else ())
    return frozenset(found)


@lru_cache(maxsize=1)
def _library_names() -> frozenset[str]:
    """Return public names of common standard modules; using one without its import is only a bug."""
    loaded = [import_module(module) for module in LOOKED_AT if not module.startswith("numpy")]
    return frozenset(name for module in loaded if module for name in vars(module) if name[0] != "_")
