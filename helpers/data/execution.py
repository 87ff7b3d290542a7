"""How a corpus' function is run: what is imported, what puts its module's names in scope, limits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.data.functions import module_name, package_folders
from helpers.data.source_edits import SourceText
from helpers.eval.sandbox import Outcome, Program, run_programs
from helpers.records import Corpus, Function

TIMEOUT_S = 1.0  # processor seconds of a program
REFERENCE_TIMEOUT_S = 0.25  # of a reference: a quarter, so that no slower or busier machine fails it later
MEMORY_MB = 1024


@dataclass(frozen=True)
class ExecutionContext:
    """What the sandbox needs so that a corpus' functions run."""

    preload: tuple[str, ...]  # modules imported once in the warm process
    python_path: tuple[str, ...]  # folders put on sys.path


def execution_context(corpus: Corpus) -> ExecutionContext:
    """Package to preload and folders to import it from, for an installed or a loose code base."""
    return context_of(corpus.spec, corpus.import_name, corpus.root, import_folders(corpus))


def context_of(spec: str, import_name: str, root: str, folders: Sequence[str] = ()) -> ExecutionContext:
    """The same from the parts of a corpus, or of a resolved spec (`helpers.data.sources.Source`).

    Args:
        folders: from `import_folders`.
    """
    if spec.startswith("installed:"):
        return ExecutionContext((import_name,) if import_name else (), ())
    if import_name:  # the folder is itself the package
        return ExecutionContext((), (str(Path(root).parent),))
    return ExecutionContext((), (root, *(str(Path(root) / folder) for folder in folders)))


def import_folders(corpus: Corpus) -> tuple[str, ...]:
    """Folders below the root that modules of a loose code base are imported from, such as "src"."""
    if corpus.import_name:
        return ()
    packages = package_folders(corpus)
    found = set()
    for file in (file for file in corpus.files if file.language == "python"):
        place = file.path.removesuffix(".py").removesuffix("/__init__")
        module = module_name(file.path, "", packages).replace(".", "/")
        folder = place.removesuffix(module).rstrip("/")
        if folder and place.endswith(module):
            found.add(folder)
    return tuple(sorted(found))


def import_line(corpus: Corpus) -> str:
    """How the code base imports itself most often (`import networkx as nx`); "" for a loose folder."""
    if not corpus.import_name:
        return ""
    pattern = re.compile(rf"^\s*(import {re.escape(corpus.import_name)}(?: as \w+)?)\s*$", re.MULTILINE)
    found = Counter(line for file in corpus.files for line in pattern.findall(file.text))
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return ranked[0][0] if ranked else f"import {corpus.import_name}"


def module_prelude(function: Function) -> str:
    """Code that puts all names of the function's own module in scope, private ones too."""
    return (
        "import importlib as _importlib\n"
        f"globals().update({{_k: _v for _k, _v in vars(_importlib.import_module({function.module!r}))"
        '.items() if not _k.startswith("__")})\n'
    )


def strip_decorators(source: str) -> str:
    """`source` from its `def` on: decorators may register names, and cannot be applied twice."""
    line = SourceText(source).function.lineno
    return "".join(source.splitlines(keepends=True)[line - 1 :])


def run_in(
    context: ExecutionContext, programs: Sequence[Program], *, workers: int, what: str = "programs"
) -> list[Outcome]:
    """`run_programs` with the corpus' modules at hand."""
    return run_programs(
        programs, workers=workers, preload=context.preload, python_path=context.python_path, what=what
    )


def program(
    function: Function, code: str, tests: str, *, prelude: str = "", timeout_s: float = TIMEOUT_S
) -> Program:
    """`code` in the place of `function`, with `tests`."""
    head = prelude or module_prelude(function)
    return Program(head + code, tests, function.name, timeout_s, MEMORY_MB)
