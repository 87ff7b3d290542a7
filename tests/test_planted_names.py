"""The hallucination checker on names planted in several code bases with several seeds."""

import ast
import random
import textwrap

import networkx as nx
import pytest

from helpers.code.functions import extract_functions, functions_of_file
from helpers.code.names.checker import invented_names
from helpers.code.names.context import NameContext
from helpers.data.corpus import load_corpus
from helpers.eval.planted.name_check import (
    PER_FAMILY,
    CheckedName,
    check_planted,
    planted_names,
    precision_and_recall,
)
from helpers.eval.planted.name_sources import corrupted, package_modules, receiver_kinds
from helpers.eval.planted.templates import BINDINGS, CASES
from helpers.records import SourceFile


@pytest.fixture(scope="module", params=["networkx.algorithms.shortest_paths", "jinja2"])
def code_base(request, tmp_path_factory):
    """A part of networkx as a folder of one's own, never imported; an installed package."""
    if request.param == "jinja2":
        corpus = load_corpus("installed:jinja2")
    else:
        corpus = load_corpus(f"path:{nx.__path__[0]}/algorithms/shortest_paths")
    functions = extract_functions(corpus)
    installed = request.param == "jinja2"
    return NameContext.from_functions(
        functions, corpus.import_name, corpus.files, installed=installed
    ), functions


@pytest.mark.parametrize("seed", [3])
def test_precision_and_recall(code_base, seed):
    context, functions = code_base
    checked = check_planted(context, functions, seed)
    assert sum(item.real for item in checked) >= 100
    assert sum(not item.real for item in checked) >= 100
    wrong = [
        (item.family, item.name, item.real, item.answer) for item in checked if item.flagged == item.real
    ]
    precision, recall = precision_and_recall(checked)
    assert precision.value >= 0.95, wrong
    assert recall.value >= 0.95, wrong


def test_items_are_many_distinct_and_the_same_for_the_same_seed(code_base):
    _, functions = code_base
    items = planted_names(functions, 5)
    assert items == planted_names(functions, 5)
    assert items != planted_names(functions, 6)
    assert len(set(items)) == len(items) >= 200
    for family in {item.family for item in items} - {"by hand"}:
        here = [item.real for item in items if item.family == family]
        assert here.count(True) >= PER_FAMILY / 2, family
        assert here.count(False) >= PER_FAMILY / 2, family


def test_labels_are_true():
    """Looked up in the objects themselves, not by the checker."""
    rng = random.Random(1)
    for expression, given, kind in receiver_kinds():
        scope: dict = {}
        exec(given, scope)
        assert type(eval(expression, scope)) is kind
    for module, names, text in package_modules():
        own = {n.name for n in ast.parse(text).body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        assert set(names) <= own, module
    assert hasattr(nx, "shortest_path")
    made = corrupted("shortest_path", rng, lambda name: hasattr(nx, name))
    assert made != "shortest_path"
    assert not hasattr(nx, made)
    assert corrupted("path", rng, lambda name: True) is None


@pytest.mark.parametrize("template", BINDINGS)
def test_each_way_to_bind_a_name(template):
    context = NameContext.from_functions((), "")
    good = template.replace("GOOD", "blue_frob").replace("USED", "blue_frob")
    assert invented_names(good, context=context) == ()
    bad = template.replace("GOOD", "blue_frob").replace("USED", "blue_frobs")
    assert any("blue_frobs" in name for name in invented_names(bad, context=context))


@pytest.mark.parametrize(("name", "answer", "real"), CASES)
def test_hard_cases(name, answer, real):
    context = NameContext.from_functions((), "")
    assert bool(invented_names(answer, context=context)) is not real


def test_precision_and_recall_by_hand():
    def item(real, flagged):
        return CheckedName("x", "n", real, flagged, "")

    checked = [item(True, True), *[item(False, True)] * 3, item(False, False), *[item(True, False)] * 4]
    precision, recall = precision_and_recall(checked)
    assert (precision.value, precision.n) == (0.75, 4)
    assert (recall.value, recall.n) == (0.75, 4)
    assert precision_and_recall([item(False, False)])[0].ci95 == (0.0, 1.0)


def test_honest_bodies_of_a_code_base_are_clean():
    """Functions seen with their signature alone: all else has to be known from the code base."""
    corpus = load_corpus("installed:jinja2")
    functions = [f for f in extract_functions(corpus) if not f.is_nested]
    context = NameContext.from_functions(functions, "jinja2", corpus.files, installed=True)
    for function in functions[:60]:
        head = function.code.split(":\n")[0] + ":\n    pass\n"
        assert invented_names(function.code, context=context.about(head)) == (), function.id


def test_a_folder_is_never_imported_and_its_modules_are_known(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_text("raise SystemExit('was run')\n")
    (tmp_path / "pkg/tools.py").write_text(
        "LIMIT = 3\n\n\ndef shorten(text, size=2):\n    return text[:size]\n"
    )
    files = [
        SourceFile(str(f.relative_to(tmp_path)), f.read_text(), "", 0) for f in sorted(tmp_path.rglob("*.py"))
    ]
    context = NameContext.from_functions((), "", files)
    right = "from pkg.tools import shorten, LIMIT\nprint(shorten('a', size=LIMIT))\n"
    assert invented_names(right, context=context) == ()
    assert invented_names(right.replace("LIMIT", "LIMITS"), context=context) == ("pkg.tools.LIMITS",)
    assert invented_names(right.replace("pkg.tools", "pkg.tool"), context=context) == ("pkg.tool",)
    assert invented_names("print(shorten('a', length=2))", context=context) == ("shorten(length=)",)


def test_packages_are_looked_up_without_import():
    import sys

    context = NameContext.from_functions((), "")
    before = set(sys.modules)
    found = invented_names(
        "import tqdm.contrib as t\nfrom tqdm.contrib import tenumerate, tenum\n", context=context
    )
    assert found == ("tqdm.contrib.tenum",)
    assert not any(name.startswith("tqdm.contrib") for name in set(sys.modules) - before)


def test_source_with_runtime_names_is_undecided():
    from helpers.code.names.modules import names_of_tree

    def names(code):
        return names_of_tree(ast.parse(textwrap.dedent(code)))

    assert names("import os\nif os.name:\n    x = 1\nelse:\n    def y(): pass\nfor i in []: pass") == {
        "os",
        "x",
        "y",
        "i",
    }
    assert names("def __getattr__(name): return 1") is None
    assert names("globals()['x'] = 1") is None
    assert names("from json import *") >= {"dumps", "loads"}


OTHER = """def {name}_größe(wert, grenze=3):
    # удаляет пустые строки
    größter_wert = wert * 2; summe = größter_wert + len(wert); ende = "ö"; anfang = grenze
    return summe + anfang
"""


@pytest.mark.parametrize("body", ["", "    x = 1\n" * 50])
def test_names_are_planted_in_code_of_other_letters_and_without_usable_code(body):
    text = "\n\n".join(
        OTHER.format(name=name).replace("    # уд", f"{body}    # уд") for name in ("neue", "ältere", "ganze")
    )
    functions = functions_of_file(SourceFile("m.py", text, "", len(text)), "m")
    checked = check_planted(NameContext.from_functions(functions), functions, 3)
    families = {item.family for item in checked}
    assert ("bodies" in families) == (not body)
    precision, recall = precision_and_recall(checked)
    wrong = [
        (item.family, item.name, item.real, item.answer) for item in checked if item.flagged == item.real
    ]
    assert precision.value >= 0.95, wrong
    assert recall.value >= 0.95, wrong
    for item in checked:
        if item.family == "bodies" and not item.real:
            assert any(item.name in line for line in item.answer.splitlines())
