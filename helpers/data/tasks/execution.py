"""Decide how a function of a corpus is run: imports, names in scope, limits."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.code.edits import SourceText
from helpers.code.functions import module_name, package_folders
from helpers.lines import lines_of
from helpers.records import Corpus, Function
from helpers.sandbox.api import STEPS_REACHED, Outcome, Program, run_programs
from helpers.sandbox.run_conditions import BASE, VARIATIONS, RunConditions
from helpers.sandbox.workers import preload_for

# Limits of one program. Steps (`helpers.sandbox.step_counter`) decide, since they are the same on every
# machine; the clock only stops compiled code.
MAX_STEPS = 1_200_000
TIMEOUT_S = 5.0  # processor seconds
MEMORY_MB = 1024
# References are held to a twentieth of that, so that they reach no limit on a slower machine either.
REFERENCE_STEPS = MAX_STEPS // 20
# Loops of `step_counter.Meter` of the sandbox: a twentieth of `TIMEOUT_S` where a loop takes 50 microseconds.
REFERENCE_LOOPS = 5_000
# How a wrong program ends. An error of the sandbox itself says nothing about the program.
NOTICED = ("failed", "crashed", "timeout")
PRELUDE = """\
import importlib as _importlib, sys as _sys
_home = vars(_importlib.import_module({module!r}))
_original = _home.get({name!r})
def _own(*args, **kwargs):
    return globals()[{name!r}](*args, **kwargs)
for _key, _place in list(_sys.modules.items()):
    if _original is not None and _key.partition(".")[0] == {top!r}:
        for _name in [_k for _k, _v in getattr(_place, "__dict__", {{}}).items() if _v is _original]:
            setattr(_place, _name, _own)
globals().update({{_k: _v for _k, _v in _home.items() if not _k.startswith("__")}})
globals().pop({name!r}, None)
del _original
"""
HOME = re.compile(r"import_module\('([\w.]+)'\)")


@dataclass(frozen=True)
class ExecutionContext:
    """What the sandbox needs to run functions of a corpus."""

    preload: tuple[str, ...]  # modules imported once in the warm process
    python_path: tuple[str, ...]  # folders put on sys.path


def execution_context(corpus: Corpus) -> ExecutionContext:
    """Return the modules to preload and the folders to import from.

    Modules that the corpus imports widely are preloaded, so that importing them in a function costs no steps.
    """
    preload = preload_for([file.text for file in corpus.files if file.language == "python"])
    if corpus.spec.startswith("installed:") and corpus.import_name:
        preload = (*preload, corpus.import_name)
    return context_of(corpus.spec, corpus.import_name, corpus.root, preload, import_folders(corpus))


def context_of(
    spec: str, import_name: str, root: str, preload: Sequence[str], folders: Sequence[str] = ()
) -> ExecutionContext:
    """Return the context from parts of a corpus, or of a `helpers.data.corpus_spec.ResolvedSpec`.

    Args:
        preload: of the `execution_context` that the pairs were made with.
        folders: from `import_folders`.
    """
    if spec.startswith("installed:"):
        return ExecutionContext(tuple(preload), ())
    if import_name:  # the folder is itself the package
        return ExecutionContext(tuple(preload), (str(Path(root).parent),))
    return ExecutionContext(tuple(preload), (root, *(str(Path(root) / folder) for folder in folders)))


def import_folders(corpus: Corpus) -> tuple[str, ...]:
    """Return the folders below the root of a loose code base that modules are imported from ("src")."""
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
    """Return how the code base most often imports itself (`import networkx as nx`); "" for loose code."""
    if not corpus.import_name:
        return ""
    pattern = re.compile(rf"^\s*(import {re.escape(corpus.import_name)}(?: as \w+)?)\s*$", re.MULTILINE)
    lines = sorted(line for file in corpus.files for line in pattern.findall(file.text))
    return statistics.mode(lines or [f"import {corpus.import_name}"])


def module_prelude(function: Function) -> str:
    """Return code that puts all names of the function's module in scope, private ones too.

    Wherever the code base holds the function itself, under any name, a call reaches the program's own one: an
    answer must not pass by calling the original (`return nx.f(G)`), and tests that import it test the answer.
    """
    return PRELUDE.format(module=function.module, top=function.module.partition(".")[0], name=function.name)


def home_module(prelude: str) -> str:
    """Return the dotted name of the module whose names a prelude puts in scope; "" if it names none."""
    found = HOME.search(prelude)
    return found[1] if found else ""


def strip_decorators(source: str) -> str:
    """Return `source` from its `def` on: decorators may register names, and must not be applied twice."""
    line = SourceText(source).function.lineno
    return "".join(lines_of(source)[line - 1 :])


def run_in(
    context: ExecutionContext,
    programs: Sequence[Program],
    *,
    workers: int,
    what: str,
    conditions: RunConditions = BASE,
) -> list[Outcome]:
    """Run programs with `run_programs`, with the corpus's modules available."""
    return run_programs(
        programs, workers=workers, preload=context.preload, python_path=context.python_path, what=what,
        conditions=conditions,
    )  # fmt: skip


def settled_in(
    context: ExecutionContext, programs: Sequence[Program], *, workers: int, what: str
) -> list[Outcome | None]:
    """Run programs twice, with every condition changed the second time.

    The result is None for a program that passes only once, that the clock stopped, or that the sandbox could
    not run. A program that used up its steps is not run again: that costs most and would not change.
    """
    once: list[Outcome | None] = list(run_in(context, programs, workers=workers, what=what))
    places = [place for place, one in enumerate(once) if one.status != "timeout"]
    again = run_in(
        context, [programs[place] for place in places], workers=workers, what=f"{what}, again",
        conditions=VARIATIONS[0],
    )  # fmt: skip
    for place, one in enumerate(once):
        if one.status == "timeout" and one.detail != STEPS_REACHED:
            once[place] = None
    for place, two in zip(places, again, strict=True):
        if once[place].passed != two.passed or "infrastructure_error" in (once[place].status, two.status):
            once[place] = None
    return once


def limited(candidate: str, tests: str, entry_point: str, *, max_steps: int = MAX_STEPS) -> Program:
    """Return a program within the limits above."""
    return Program(candidate, tests, entry_point, TIMEOUT_S, MEMORY_MB, max_steps)


def program(
    function: Function, code: str, tests: str, *, prelude: str = "", max_steps: int = MAX_STEPS
) -> Program:
    """Return the program that runs `tests` on `code` in place of `function`."""
    head = prelude or module_prelude(function)
    return limited(head + code, tests, function.name, max_steps=max_steps)
