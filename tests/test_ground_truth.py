from dataclasses import replace

import pytest

from helpers.code.functions import extract_functions, functions_of_file
from helpers.data.corpus import load_corpus
from helpers.data.tasks.candidate_cases import doctest_cases, generated_calls
from helpers.data.tasks.execution import (
    NOTICED,
    execution_context,
    import_folders,
    import_line,
    module_prelude,
    strip_decorators,
)
from helpers.data.tasks.ground_truth import verify_functions
from helpers.records import Corpus, SourceFile
from helpers.sandbox.api import Outcome, run_program

MODULE = '''import functools


def _scale(x):
    return 2 * x


@functools.lru_cache
def doubled(n, extra=0):
    """Return twice `n` plus `extra`.

    Parameters
    ----------
    n : int
    extra : int

    >>> k = 4
    >>> doubled(k)
    8
    >>> tools.doubled(3, extra=1)
    7
    >>> doubled("a", 1)
    Traceback (most recent call last):
    TypeError
    """
    return _scale(n) + extra


def largest(values):
    """Return the largest of `values`, or None."""
    best = None
    for value in values:
        if best is None or value > best:
            best = value
    return best


def noisy(n):
    """Return something else each time."""
    import random

    return random.random() + n


def constant(n):
    """Do nothing with `n` that a test could see."""
    if n > 100000:
        n = n + 1
    if n > 200000:
        n = n + 2
    if n > 300000:
        n = n + 3
    return 0
'''


def _corpus(tmp_path):
    (tmp_path / "tools.py").write_text(MODULE)
    file = SourceFile("tools.py", MODULE, "", len(MODULE))
    corpus = Corpus(f"path:{tmp_path}", "t", "", "unknown", str(tmp_path), "", (file,), (), "")
    return corpus, functions_of_file(file, "tools")


@pytest.fixture(scope="module")
def verified(tmp_path_factory):
    corpus, functions = _corpus(tmp_path_factory.mktemp("corpus"))
    truths, counts, *_ = verify_functions(functions, corpus, wanted=10, seed=1, workers=2)
    return corpus, {truth.function.name: truth for truth in truths}, counts


def test_doctests_are_redirected_to_the_candidate_and_exceptions_left_out(tmp_path):
    _, functions = _corpus(tmp_path)
    cases = doctest_cases(next(f for f in functions if f.name == "doubled"))
    assert cases.setup == "k = 4"
    assert [check[:2] for check in cases.checks] == [("doubled(k)", "8\n"), ("doubled(3, extra=1)", "7\n")]


EXAMPLES = """Sort it.

>>> G = Graph([3, 1])
>>> G.is_small()
True
>>> tools.order(G)
>>> G.values
[1, 3]
"""


@pytest.mark.parametrize(
    ("name", "checks"),
    [("order", ["G.values"]), ("Graph", ["G.is_small()", "G.values"]), ("is_small", []), ("other", [])],
)
def test_a_doctest_of_something_else_is_no_check(tmp_path, name, checks):
    """What the function changed in place, or was computed from what it returned, tells of it."""
    _, functions = _corpus(tmp_path)
    cases = doctest_cases(replace(functions[0], name=name, docstring=EXAMPLES))
    assert [check[0] for check in cases.checks] == checks


def test_calls_are_seeded_and_cover_each_argument(tmp_path):
    _, functions = _corpus(tmp_path)
    doubled = next(f for f in functions if f.name == "doubled")
    calls = generated_calls(doubled, limit=8, seed=3)
    assert calls == generated_calls(doubled, limit=8, seed=3)
    assert 2 <= len(calls) <= 8
    assert any("extra=" in call for call in calls)


def test_reference_passes_every_mutant_fails_and_private_names_are_in_scope(verified):
    corpus, truths, _ = verified
    context = execution_context(corpus)
    truth = truths["doubled"]
    run = lambda code: run_program(  # noqa: E731
        truth.prelude + code, truth.tests, entry_point="doubled", python_path=context.python_path
    )
    assert "_scale" in truth.code
    assert run(truth.code).passed
    assert run(strip_decorators(truth.function.source)).passed
    assert truth.mutants
    for bug in truth.mutants[:3]:
        assert run(bug.source).status in NOTICED


@pytest.mark.parametrize(
    "body",
    [
        "return pkg.area(a, b)",
        "import pkg.tools\n    return pkg.tools.area(a, b)",
        "from pkg import area as known\n    return known(a, b)",
        "return size(a, b)",
        "return pkg.extent(a, b)",
        "import importlib\n    return importlib.import_module('pkg.tools').area(a, b)",
    ],
)
def test_an_answer_cannot_call_the_original(tmp_path, body):
    """It reaches itself instead, without end; the reference passes as before."""
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("from pkg.tools import area, size as extent\n")
    code = "def area(a, b):\n    return a * b\n"
    (package / "tools.py").write_text(f"{code}\n\nsize = area\n")
    function = next(f for f in functions_of_file(SourceFile("tools.py", code, "", 1), "pkg.tools"))
    answer = f"import pkg\n\ndef area(a, b):\n    {body}\n"

    def run(code: str) -> Outcome:
        whole, tests = module_prelude(function) + code, "assert area(2, 3) == 6"
        return run_program(whole, tests, entry_point="area", python_path=(str(tmp_path),))

    assert run(code).passed
    assert "RecursionError" in run(answer).detail
    assert not run("area_of = area").passed  # nothing is defined, so nothing is there to call


def test_unusable_functions_are_counted_by_reason(verified):
    _, truths, counts = verified
    assert "noisy" not in truths  # answers differ from call to call
    assert "constant" not in truths  # its tests kill too few mutants
    assert counts["tests too weak"] >= 1
    assert counts["verified"] == len(truths)
    survived = counts["mutants that survived (equivalent or unnoticed), dropped"]
    assert counts["mutants run"] == counts["mutants killed"] + survived
    assert all(truth.mutation_score >= 0.6 for truth in truths.values())


def test_decorators_are_taken_off_and_nothing_else():
    source = "@cache(1)\n@other\ndef f(x):  # c\n    return x\n"
    assert strip_decorators(source) == "def f(x):  # c\n    return x\n"


def test_import_line_is_the_one_the_code_base_uses(tmp_path):
    corpus, functions = _corpus(tmp_path)
    assert import_line(corpus) == ""
    file = SourceFile("a.py", "import pkg\nimport networkx as nx\n", "", 1)
    packaged = Corpus("installed:networkx", "n", "", "", "", "networkx", (file,), (), "")
    assert import_line(packaged) == "import networkx as nx"
    assert "networkx" in execution_context(packaged).preload
    assert repr(functions[0].module) in module_prelude(functions[0])


def test_a_package_below_src_is_imported_from_there(tmp_path):
    package = tmp_path / "src" / "pkg"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "tools.py").write_text(MODULE)
    corpus = load_corpus(f"path:{tmp_path}")
    functions = extract_functions(corpus)
    assert import_folders(corpus) == ("src",)
    truths, *_ = verify_functions(functions, corpus, wanted=1, seed=1, workers=2)
    assert truths
    assert truths[0].function.module == "pkg.tools"
