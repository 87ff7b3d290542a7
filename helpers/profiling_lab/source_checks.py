"""What a submission's source shows without running it: its imports, its names, its components.

Everything is read from the syntax tree, never from the text. An allowed module is the rule, not a forbidden
one: a script that trains a small model needs few.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from helpers.profiling_lab.grade_types import Check
from helpers.profiling_lab.problem import Component, Problem

COMMON = (
    "__future__", "abc", "argparse", "bisect", "cProfile", "collections", "contextlib", "copy", "dataclasses",
    "enum", "functools", "heapq", "itertools", "json", "logging", "math", "operator", "os", "pathlib",
    "random", "runpy", "statistics", "string", "sys", "time", "typing", "warnings",
)  # fmt: skip
# Of these modules only the names listed may be used.
ONLY = {
    "os": {"path", "makedirs", "mkdir", "listdir", "environ", "getenv", "cpu_count", "sep", "fspath",
           "PathLike"},
    "sys": {"argv", "exit", "stdout", "stderr", "maxsize", "version_info", "float_info"},
    "runpy": {"run_path"},
    "cProfile": {"Profile"},
}  # fmt: skip
NEVER = {
    "numpy": {"ctypeslib", "load_library", "memmap", "f2py", "distutils", "testing"},
    "torch": {"load", "hub", "multiprocessing", "distributed", "jit", "compile", "ops", "package", "export",
              "utils.cpp_extension", "utils.benchmark", "utils.collect_env", "classes", "library",
              "serialization", "from_file", "fx", "testing", "onnx", "ao"},
    "time": {"clock_settime", "clock_settime_ns"},
    "logging": {"config", "handlers"},  # they call what a text names
    "string": {"Formatter"},
}  # fmt: skip
# Names of attributes that lead from a value to the interpreter: frames, and functions of the standard library
# that read or set an attribute, or evaluate an expression, which they are given as text.
REFUSED_ATTRIBUTES = {
    "f_back", "f_globals", "f_locals", "f_builtins", "f_code", "f_trace", "gi_frame", "gi_code",
    "gi_yieldfrom", "cr_frame", "cr_code", "cr_await", "ag_frame", "ag_code", "ag_await", "tb_frame",
    "tb_next", "tb_lasti", "currentframe", "attrgetter", "methodcaller", "get_type_hints", "update_wrapper",
    "singledispatch", "singledispatchmethod", "make_dataclass", "StrFormatter", "get_field", "global_enum",
    "from_file", "run_module",
}  # fmt: skip
PATTERNS = {"int", "float", "str", "bytes", "bool", "list", "tuple", "dict", "set"}  # classes in `case`
REFUSED_NAMES = {
    "eval", "exec", "compile", "__import__", "globals", "locals", "vars", "setattr", "delattr", "getattr",
    "breakpoint", "__builtins__", "__loader__", "__spec__", "memoryview",
}  # fmt: skip
# Modules that others hold as attributes (`logging.os`), and that a script may not reach that way either.
HELD_MODULES = {
    "os", "sys", "ctypes", "builtins", "gc", "inspect", "importlib", "subprocess", "socket", "pickle",
    "multiprocessing", "marshal", "mmap", "shutil", "threading", "copyreg", "codecs", "sysconfig", "atexit",
}  # fmt: skip
OWN_UNDERSCORED = ("self", "cls")
DUNDERS = {"__init__", "__name__", "__doc__", "__len__", "__version__", "__call__"}
# What a class or a file may define. Others change how isinstance, copying or attributes work, and hand over
# what belongs to the interpreter.
OWN_DUNDERS = DUNDERS | {
    "__file__", "__all__", "__slots__", "__repr__", "__str__", "__iter__", "__next__", "__getitem__",
    "__setitem__", "__contains__", "__enter__", "__exit__", "__post_init__", "__eq__", "__ne__", "__lt__",
    "__le__", "__gt__", "__ge__", "__hash__", "__bool__", "__add__", "__sub__", "__mul__", "__truediv__",
    "__matmul__", "__neg__", "__pow__", "__radd__", "__rmul__", "__iadd__", "__imul__", "__mod__",
}  # fmt: skip
SETTABLE = ("torch.backends.",)  # switches that a library documents for setting
MOST_BYTES = 100_000
MOST_TEXT, MOST_ITEMS = 3_000, 300  # of one literal: a model does not hide in it


def check_source(source: str, problem: Problem) -> list[Check]:
    """Return the checks of a submission's source, up to the first that fails."""
    try:
        tree = ast.parse(source)
        size = len(source.encode())
        problem_text = f"the file has {size:,} bytes, at most {MOST_BYTES:,} are read" * (size > MOST_BYTES)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        problem_text = f"the file is no Python: {error}"
    checks = [_check("readable", problem_text, "Python that parses")]
    if problem_text:
        return checks
    makers = (
        ("components", lambda: check_components(tree, problem.components), "all are defined and called"),
        ("imports", lambda: check_imports(tree, problem), "only modules that the problem allows"),
        ("no_patching", lambda: check_patching(tree), "no name of a library is assigned to"),
        ("plain_code", lambda: check_code(tree), "nothing reaches into the interpreter"),
        ("no_stored_results", lambda: check_literals(tree), "no literal is large enough to hold a model"),
    )
    for name, make, fine in makers:
        checks.append(_check(name, make(), fine))
        if not checks[-1].passed:
            break
    return checks


def _check(name: str, problem: str, fine: str) -> Check:
    return Check(name, not problem, problem or fine)


def check_components(tree: ast.Module, components: Iterable[Component]) -> str:
    """Return which required component is missing, has other arguments, or is never called; "" if none."""
    defined = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }  # fmt: skip
    for component in components:
        node = defined.get(component.name)
        kind = ast.ClassDef if component.kind == "class" else ast.FunctionDef
        if not isinstance(node, kind):
            return f"the {component.kind} `{component.name}` is not defined at the top level of the file"
        if isinstance(node, ast.FunctionDef):
            names = tuple(argument.arg for argument in (*node.args.posonlyargs, *node.args.args))
            if names[: len(component.arguments)] != component.arguments:
                wanted = ", ".join(component.arguments)
                return f"`{component.name}` must take ({wanted}), it takes ({', '.join(names)})"
        else:
            own = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
            if missing := [method for method in component.methods if method not in own]:
                return f"the class `{component.name}` defines no method `{missing[0]}`"
        if again := _bound_again(tree, node):
            return f"line {again} defines `{component.name}` a second time"
        if not _mentioned_outside(tree, node):
            return f"`{component.name}` is defined but nothing calls it"
        stored = [
            each for each in ast.walk(tree)
            if isinstance(each, ast.Name) and each.id == component.name and not isinstance(each.ctx, ast.Load)
        ]  # fmt: skip
        if stored:
            return f"line {stored[0].lineno} assigns another object to `{component.name}`"
    return ""


def _bound_again(tree: ast.Module, definition: ast.FunctionDef | ast.ClassDef) -> int:
    """Return the line that gives the definition's name to another function, class or module; 0 if none."""
    methods = {id(each) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for each in node.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name == definition.name and node is not definition and id(node) not in methods:
                return node.lineno
        elif isinstance(node, ast.Import | ast.ImportFrom) and definition.name in [
            alias.asname or alias.name.split(".")[0] for alias in node.names
        ]:
            return node.lineno
    return 0


def _mentioned_outside(tree: ast.Module, definition: ast.FunctionDef | ast.ClassDef) -> bool:
    inside = {id(node) for node in ast.walk(definition)}
    return any(
        isinstance(node, ast.Name) and node.id == definition.name and id(node) not in inside
        for node in ast.walk(tree)
    )


def check_imports(tree: ast.Module, problem: Problem) -> str:
    """Return the first import or use of a module that is not allowed; "" if there is none."""
    allowed = (*COMMON, *problem.imports)
    for line, name in _imported(tree):
        if name.partition(".")[2].split(".")[-1] in HELD_MODULES:
            return f"line {line} imports `{name}`, a module that is not allowed"
        if not any(name == each or name.startswith(f"{each}.") for each in allowed):
            return f"line {line} imports `{name}`; allowed are {', '.join(sorted(allowed))}"
    names = _module_names(tree)
    used = [(node.lineno, _dotted(node, names)) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    used += list(_imported(tree))
    for line, dotted in used:
        top, _, rest = (dotted or "").partition(".")
        first = rest.split(".")[0]
        if first and top in ONLY and first not in ONLY[top]:
            return f"line {line} uses `{dotted}`; of `{top}` only {', '.join(sorted(ONLY[top]))} may be used"
        if any(f"{rest}.".startswith(f"{never}.") for never in NEVER.get(top, ()) if rest):
            return f"line {line} uses `{dotted}`, which is not allowed here"
    return ""


def check_patching(tree: ast.Module) -> str:
    """Return the first assignment to a name of an imported module; "" if there is none."""
    names = _module_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            dotted = _dotted(node, names)
            if dotted and not dotted.startswith(SETTABLE):
                return f"line {node.lineno} replaces `{dotted}`, which belongs to a library"
    return ""


def check_code(tree: ast.Module) -> str:
    """Return the first use of a name that reaches into the interpreter; "" if there is none."""
    for line, name in _imported(tree):
        if name.split(".")[-1] in REFUSED_ATTRIBUTES:
            return f"line {line} imports `{name}`, which reaches into the interpreter"
    for line, told in _reaches(tree):
        return f"line {line} {told}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in REFUSED_NAMES:
            return f"line {node.lineno} uses `{node.id}`, which a training script does not need"
        if isinstance(node, ast.Attribute) and node.attr in HELD_MODULES:
            return f"line {node.lineno} reaches the module `{node.attr}` through another object"
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and node.attr not in DUNDERS:
            root = node.value
            if node.attr.startswith("_foreach_"):  # torch's own way to update many tensors at once
                continue
            own = isinstance(root, ast.Name) and root.id in OWN_UNDERSCORED and not node.attr.startswith("__")
            if not own:
                return f"line {node.lineno} uses the private attribute `{node.attr}`"
    return ""


def _reaches(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and wording of whatever gets at an attribute without naming it in the usual way."""
    asked = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) == 1}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in REFUSED_ATTRIBUTES:
            yield node.lineno, f"uses `{node.attr}`, which reaches into the interpreter"
        elif isinstance(node, ast.MatchClass):
            # A class pattern reads attributes that a class names as text.
            if not isinstance(node.cls, ast.Name) or node.cls.id not in PATTERNS or node.kwd_patterns:
                yield node.lineno, "matches a class by a pattern, which reads attributes unseen"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Name):
            name = node.id if isinstance(node, ast.Name) else node.name
            dunder = name.startswith("__") and name.endswith("__")
            if name in REFUSED_ATTRIBUTES or (dunder and name not in OWN_DUNDERS):
                yield node.lineno, f"uses `{name}`, which a training script does not need"
            if name == "type" and id(node) not in asked:
                yield node.lineno, "uses `type` for more than asking for a value's type"


def check_literals(tree: ast.Module) -> str:
    """Return the first literal that could hold stored results; "" if there is none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            if len(node.value) > MOST_TEXT:
                return f"line {node.lineno} holds a literal of {len(node.value):,} characters"
        elif isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value.bit_length() > 256:
            return f"line {node.lineno} holds an integer of {node.value.bit_length():,} bits"
        elif isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            items = sum(isinstance(each, ast.Constant) for each in ast.walk(node))
            if items > MOST_ITEMS:
                return f"line {node.lineno} holds a literal of {items:,} values"
    return ""


def _imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything imported; a relative import yields a name with a dot first."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def _module_names(tree: ast.Module) -> dict[str, str]:
    """Return each name that an import binds -> the dotted name that it stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """Return the dotted name that an attribute stands for if it begins at an imported name, else ""."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in names:
        return ""
    return ".".join([names[node.id], *reversed(parts)])
