"""What a submission's source may and may not hold, read from its syntax tree alone."""

from __future__ import annotations

import ast

import pytest
from toy_problem import FAST, SLOW, edited, write_toy_problem

from helpers.profiling_lab.examples import cheats_of, references_of
from helpers.profiling_lab.problem import ProblemError, load_problem, problem_names
from helpers.profiling_lab.source_checks import check_source
from helpers.profiling_lab.steps import steps_of

# Each is one statement added to an honest script -> the check that refuses it.
REFUSED = {
    "import ctypes": "imports", "import subprocess as s": "imports", "from os import fork": "imports",
    "import os\nos.fork()": "imports", "import os as o\no._exit(0)": "imports", "from os import *": "imports",
    "import sys\nsys.settrace(None)": "imports", "import sys\nsys.modules": "imports", "import gc": "imports",
    "from logging import os": "imports", "from . import x": "imports", "import multiprocessing": "imports",
    "import numpy.ctypeslib": "imports", "np.ctypeslib": "imports", "import pickle": "imports",
    "import time\ntime.time = lambda: 0": "no_patching", "np.mean: object = None": "no_patching",
    "json.dumps, x = None, 1": "no_patching", "del np.mean": "no_patching", "np.linalg.norm += 1": "no_patching",
    "for json.dumps in []: pass": "no_patching", "from numpy import linalg\nlinalg.norm = 1": "no_patching",
    "eval('1')": "plain_code", "exec('x=1')": "plain_code", "__import__('os')": "plain_code",
    "globals()": "plain_code", "setattr(np, 'mean', 1)": "plain_code", "getattr(np, 'mean')": "plain_code",
    "__builtins__": "plain_code", "().__class__": "plain_code", "np.mean.__globals__": "plain_code",
    "import pathlib\npathlib.os.fork()": "plain_code", "import logging\nl = logging\nl.sys": "plain_code",
    "train.__code__": "plain_code", "f = eval\nf('1')": "plain_code", "json._default_decoder": "plain_code",
    "X = '" + "A" * 3001 + "'": "no_stored_results", "X = b'" + "A" * 3001 + "'": "no_stored_results",
    "X = [" + "1.0, " * 301 + "]": "no_stored_results", "X = " + "9" * 100: "no_stored_results",
    "X = {" + ", ".join(f"{n}: 1" for n in range(200)) + "}": "no_stored_results",
    "centroid = print": "components", "def centroid(x): return x": "components",
    "if seed:\n    def centroid(points): return points": "components", "import json as centroid": "components",
    "g = (x for x in [1])\ng.gi_frame": "plain_code", "print(e.tb_frame)": "plain_code",
    "import operator\noperator.attrgetter('a')": "plain_code", "from operator import methodcaller as m": "plain_code",
    "import typing\ntyping.get_type_hints(train)": "plain_code", "from functools import singledispatch": "plain_code",
    "import functools\nfunctools.update_wrapper(train, main)": "plain_code",
    "import string\nstring.Formatter().get_field('0.x', [1], {})": "imports",
    "import logging\nlogging.StrFormatter()": "plain_code", "import logging\nlogging.currentframe()": "plain_code",
    "import logging.config": "imports", "from logging import config": "imports",
    "match train:\n    case object(__globals__=g): pass": "plain_code",
    "match train:\n    case A(g): pass": "plain_code", "class A:\n    __match_args__ = ('x',)": "plain_code",
    "class A:\n    def __setattr__(self, name, value): pass": "plain_code",
    "class A:\n    def __reduce_ex__(self, n): pass": "plain_code", "A = type('A', (), {})": "plain_code",
    "class A(type): pass": "plain_code", "T = type": "plain_code", "np.testing.rundocs()": "imports",
}  # fmt: skip
ALLOWED = [
    "import os\nos.makedirs(os.path.join('a', 'b'), exist_ok=True)", "import sys\nsys.exit(0)",
    "import time\nstart = time.perf_counter()", "class A:\n    def __init__(self):\n        self._kept = 1",
    "from dataclasses import dataclass", "X = 'a' * 10_000", "X = [0.0] * 10_000", "import math, random, functools",
    "x = np.zeros(3)\nx[0] = 1.0", "np.random.default_rng(0).normal()", "'import ctypes; eval(1)'",
    "# os.fork()", "x = type(3)", "match 3:\n    case int(): pass", "class A:\n    def train(self): pass",
    "from functools import wraps", "import logging\nlogging.Formatter('x')", "print(__file__)", "np._foreach_add_([], [])", "from typing import Any", "from collections import Counter",
]  # fmt: skip


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return load_problem("toy", write_toy_problem(tmp_path_factory.mktemp("problems")))


def added(statement: str) -> str:
    return edited(('if __name__ == "__main__":', f'{statement}\n\n\nif __name__ == "__main__":'))


@pytest.mark.parametrize("statement", REFUSED, ids=lambda text: text[:40])
def test_what_a_training_script_has_no_use_for_is_refused(statement, toy) -> None:
    *before, last = check_source(added(statement), toy)
    assert not last.passed
    assert last.name == REFUSED[statement], last.evidence
    assert all(check.passed for check in before)


@pytest.mark.parametrize("statement", ALLOWED, ids=lambda text: text[:40])
def test_honest_code_is_not_refused(statement, toy) -> None:
    checks = check_source(added(statement), toy)
    assert all(check.passed for check in checks), checks[-1].evidence
    assert len(checks) == 6


def test_components_are_checked_by_name_arguments_and_use(toy) -> None:
    for old, new, told in (
        ("def centroid(points)", "def centroid(rows)", "must take (points), it takes (rows)"),
        ("def train(data, seed)", "def trained(data, seed)", "`train` is not defined"),
        ("def train(data, seed)", "class train", "`train` is not defined"),
    ):
        source = FAST.replace(old, new)
        last = check_source(source, toy)[-1]
        assert last.name in ("components", "readable")
        assert last.name == "readable" or told in last.evidence


def test_comments_and_strings_define_no_component(toy) -> None:
    hidden = edited(("def centroid(points):", '"def centroid(points):"\n\n\ndef middle(points):'))
    assert check_source(hidden, toy)[-1].name == "components"


@pytest.mark.parametrize("name", problem_names())
def test_every_edit_of_the_problems_fits_and_every_reference_is_clean(name) -> None:
    problem = load_problem(name)
    assert references_of(problem)
    for example in references_of(problem):
        checks = check_source(example.source, problem)
        assert all(check.passed for check in checks), checks[-1]
        assert example.what
    for cheat in cheats_of(problem):
        ast.parse(cheat.source)
        assert cheat.fails
    assert all(check.passed for check in check_source(problem.baseline.read_text(), problem))
    assert (problem.folder / "card.md").is_file()


def test_there_are_at_least_fifteen_cheats() -> None:
    assert sum(len(cheats_of(load_problem(name))) for name in problem_names()) >= 15


def test_cheats_that_the_source_shows_are_refused_by_the_check_meant_for_them() -> None:
    seen = 0
    for name in problem_names():
        problem = load_problem(name)
        for cheat in cheats_of(problem):
            last = check_source(cheat.source, problem)[-1]
            if cheat.fails in ("components", "imports", "no_patching", "plain_code", "no_stored_results"):
                seen += 1
                assert not last.passed, cheat.name
                assert last.name == cheat.fails, cheat.name
            else:
                assert last.passed, (cheat.name, last)
    assert seen >= 4


def test_an_edit_that_does_not_fit_is_told(tmp_path) -> None:
    folder = write_toy_problem(tmp_path)
    cheat = (
        '[[cheat]]\nname = "a"\nwhat = ""\nfails = "speed"\nbase = "baseline.py"\nedits = [["absent", ""]]\n'
    )
    (folder / "toy" / "cheats.toml").write_text(cheat)
    with pytest.raises(ProblemError, match="'absent' occurs 0 times"):
        cheats_of(load_problem("toy", folder))


def test_steps_build_on_the_last_kept_version(tmp_path) -> None:
    folder = write_toy_problem(tmp_path)
    (folder / "toy" / "references").mkdir()
    (folder / "toy" / "references" / "fast.py").write_text(FAST)
    step = '[[step]]\nname = "{}"\nhypothesis = ""\nkept = {}\n{}\n'
    (folder / "toy" / "steps.toml").write_text(
        'reference = "references/fast.py"\n'
        + step.format("loop", "false", 'edits = [["range(60)", "range(59)"]]')
        + step.format("numpy", "true", 'take = ["centroid"]')
    )
    dropped, kept = steps_of(load_problem("toy", folder))
    assert dropped.source == SLOW.replace("range(60)", "range(59)")
    assert "points.mean(axis=0)" in kept.source
    assert "range(14)" not in kept.source


def test_the_problems_are_the_four_of_the_lab() -> None:
    assert problem_names() == ["numpy", "pipeline", "suite", "torch"]
    bars = {name: (load_problem(name).bar, load_problem(name).tolerance) for name in problem_names()}
    assert bars == {"numpy": (2, 0.01), "torch": (2, 0.02), "pipeline": (10, 0.02), "suite": (3, 0.01)}
