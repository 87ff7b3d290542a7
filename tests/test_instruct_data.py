import ast
import dataclasses
import itertools
from types import SimpleNamespace

import pytest

from helpers.code.docstrings import (
    docstring_of,
    normal_docstring,
    read_docstring,
    same_code,
    undescribed,
    with_docstring,
)
from helpers.code.extraction import extract_code
from helpers.code.functions import extract_functions
from helpers.code.quality import is_gain, quality_costs
from helpers.data.corpus import load_corpus
from helpers.data.splits import functions_of, split_corpus
from helpers.data.tasks.bugs import make_bugs
from helpers.data.tasks.choosing import quotas_of, taking_turns
from helpers.data.tasks.execution import execution_context
from helpers.data.tasks.instruct_data import build_instruct_data, load_instruct_data, save_instruct_data
from helpers.data.tasks.phrasings import BUG_MARK, PHRASINGS, fenced_python, spliced, unfenced
from helpers.data.tasks.prose import SourceFacts
from helpers.data.tasks.worsening import WORSENINGS, worsened_versions
from helpers.errors import InsufficientDataError
from helpers.models.causal_lm import chat_prompt, load_causal_lm
from helpers.profiles import PROFILES
from helpers.run.workspace import read_jsonl, write_jsonl
from helpers.sandbox.api import run_program
from helpers.settings import TINY_CODE_LM
from helpers.tools.verify_pairs import SavedPairsError, run_references, verify_saved_pairs
from tests.test_instruct_train import RUNTIME

TEMPLATE = '''"""Module {i}."""


def total_{a}(values, start=0):
    """Return the {a} total of `values`.

    Parameters
    ----------
    values : list
        The numbers to add.
    start : int
        Added to the total.

    Returns
    -------
    int
        The sum of it all.

    >>> total_{a}([1, 2], {i})
    {doubled}
    """
    result = start
    for value in values:
        if value is not None and value != {i}:
            result += value
    return result


def largest_{a}(values, key_{a}={i}):
    """Return the largest {a} element of `values` that exceeds `key_{a}`, or None.

    Parameters
    ----------
    values : list
        What to look at.
    key_{a} : int
        The limit.

    Returns
    -------
    int or None
        The largest one.
    """
    best = None
    for value in values:
        if value > key_{a} and (best is None or value > best):
            best = value
    return best
'''


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("code")
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
    for i, word in enumerate(words):
        # distinct code per file, so that the splitter sees no twins
        filler = "".join(f"    {word}_{j} = {i * 7 + j} * {j + 3}\n" for j in range(6))
        text = TEMPLATE.format(i=i + 3, a=word, doubled=i + 3 + sum(v for v in (1, 2) if v != i + 3))
        (root / f"{word}.py").write_text(f"{text}\n\ndef {word}_table():\n{filler}    return {word}_5\n")
    profile = PROFILES["smoke"]
    corpus = load_corpus(f"path:{root}")
    functions = extract_functions(corpus)
    sides = ["train"] * 7 + ["validation"] + ["test"] * 2
    splits = split_corpus(corpus, functions, profile.corpus, 1)
    paths = sorted(file.path for file in corpus.files)
    splits = dataclasses.replace(splits, split_of=dict(zip(paths, sides, strict=True)), excluded_functions={})
    settings = dataclasses.replace(
        profile.track_b, train_pairs=30, validation_pairs=6, executable_tasks=6, language_tasks=8,
        max_prompt_tokens=400, max_new_tokens=300,
    )  # fmt: skip
    _, tokenizer = load_causal_lm(TINY_CODE_LM, RUNTIME)
    build = lambda: build_instruct_data(functions, splits, corpus, settings, 5, tokenizer, 2)  # noqa: E731
    return corpus, functions, splits, settings, tokenizer, build(), build


def test_counts_sides_and_kinds(built):
    _, functions, splits, settings, _, data, _ = built
    assert len(data.train) == settings.train_pairs
    assert len(data.tasks) == settings.executable_tasks + settings.language_tasks
    assert {pair.kind for pair in data.train} == set(PHRASINGS)
    sides = {
        side: {f.id for f in functions_of(functions, splits, side)}
        for side in ("train", "validation", "test")
    }
    assert {pair.function_id for pair in data.train} <= sides["train"]
    assert {pair.function_id for pair in data.validation} <= sides["validation"]
    assert {task.function_id for task in data.tasks} <= sides["test"]


def test_every_repair_is_a_repair_when_run_again(built):
    corpus, *_, data, _ = built
    repairs = [task for task in data.tasks if task.kind == "fix_bug"]
    assert repairs
    for task in repairs[:3]:
        assert BUG_MARK in task.instruction
        assert task.detail["operator"]

        def run(code, task=task):
            return run_program(
                task.prelude + code, task.tests, entry_point=task.entry_point, python_path=(corpus.root,)
            )

        fixed = spliced(task.detail["given"], int(task.detail["line"]), task.reference)
        assert run(fixed).passed
        assert not run(task.detail["given"]).passed


def test_improvements_cost_less_and_answers_are_no_copies(built):
    *_, data, _ = built
    for task in data.tasks:
        if task.kind == "improve":
            before, after = quality_costs([task.detail["given"], extract_code(task.reference)])
            assert is_gain(before, after)
    for pair in data.train:
        if pair.kind not in ("explain", "fix_bug"):
            code = extract_code(pair.response)
            ast.parse(code)
            assert code not in pair.instruction or pair.kind == "implement"


def test_lengths_hold_and_the_report_adds_up(built):
    _, _, _, settings, tokenizer, data, _ = built
    for item, response in [(p, p.response) for p in data.train] + [(t, t.reference) for t in data.tasks]:
        prompt = chat_prompt(tokenizer, item.instruction)
        assert len(tokenizer(prompt, add_special_tokens=False).input_ids) <= settings.max_prompt_tokens
        assert len(tokenizer(response, add_special_tokens=False).input_ids) < settings.max_new_tokens
    steps = list(data.report["filters"].values())
    assert all(before["out"] == after["in"] for before, after in itertools.pairwise(steps))
    by_kind = data.report["drafts by kind"].values()
    assert (steps[0]["in"], steps[-1]["out"]) == tuple(sum(c[end] for c in by_kind) for end in ("in", "out"))
    dropped = {name for name, step in data.report["filters"].items() if step["out"] < step["in"]}
    assert dropped == set(data.report["rejected_examples"])
    assert all(1 <= len(rows) <= 2 for rows in data.report["rejected_examples"].values())
    for counts in by_kind:
        assert counts["in"] == sum(n for reason, n in counts.items() if reason != "in")
    assert data.report["sides"]["train"]["count"] == len(data.train)
    for name in ("kinds", "lines", "decision_points", "modules"):
        assert sum(row["train"] for row in data.report[name].values()) == len(data.train)
    assert data.report["mutation_score"]["test"] >= 0.6


def test_saved_and_loaded_data_are_equal(built, tmp_path):
    *_, data, _ = built
    save_instruct_data(data, tmp_path)
    assert load_instruct_data(tmp_path) == data


def test_saved_pairs_hold_when_run_again_and_spoilt_ones_are_named(built, tmp_path):
    corpus, *_, data, _ = built
    save_instruct_data(data, tmp_path)
    context = execution_context(corpus)
    found = verify_saved_pairs(tmp_path, context, workers=2)
    assert found.problems == ()
    assert sum(found.items.values()) == len(data.train) + len(data.validation) + len(data.tasks)
    rows = read_jsonl(tmp_path / "train.jsonl")
    first = {row["kind"]: row for row in reversed(rows)}
    first["fix_bug"]["detail"]["given"] = first["fix_bug"]["detail"]["code"]  # no bug any more
    first["improve"]["response"] = first["improve"]["detail"]["given"]  # no gain
    first["unit_tests"]["response"] = f"assert {first['unit_tests']['entry_point']}"  # kills nothing
    first["implement"]["tests"] = f"{first['implement']['entry_point']}\nassert True\n"  # notices nothing
    first["docstring"]["response"] = first["docstring"]["response"].replace("return", "return not", 1)
    first["explain"]["response"] = "It does something or other with what it is given."
    write_jsonl(tmp_path / "train.jsonl", rows)
    problems = verify_saved_pairs(tmp_path, context, workers=2).problems
    spoilt = {row["id"] for row in first.values()}
    assert {line.partition(" ")[0] for line in problems} == spoilt
    assert run_references([t for t in data.tasks if t.tests], context, times=2, workers=2) == []
    task = next(task for task in data.tasks if task.tests)
    unsteady = dataclasses.replace(
        task, tests=f"{task.tests}assert list({{'a', 'b', 'c', 'd', 'e', 'f'}})[0] == 'a'\n"
    )
    assert len(run_references([unsteady], context, times=3, workers=1)) >= 1
    (tmp_path / "tasks.jsonl").unlink()
    with pytest.raises(SavedPairsError, match=r"tasks\.jsonl is missing"):
        verify_saved_pairs(tmp_path, context, workers=2)


def test_same_seed_same_data(built):
    *_, data, build = built
    assert build() == data


def test_a_corpus_without_anything_to_learn_from_is_named(built):
    corpus, _, splits, settings, tokenizer, *_ = built
    with pytest.raises(InsufficientDataError, match="Track B needs"):
        build_instruct_data((), splits, corpus, settings, 5, tokenizer, 2)


def test_a_draft_less_leaves_the_others_where_they_were():
    drafts = [
        SimpleNamespace(
            function=SimpleNamespace(path=f"f{i}.py", id=f"f{i}.py::g{j}"), given=f"v{k}", instruction="mend"
        )
        for i in range(9) for j in range(4) for k in range(3)
    ]  # fmt: skip
    whole = taking_turns(drafts, "7:test:fix_bug")
    assert sorted(map(id, whole)) == sorted(map(id, drafts))
    assert len({d.function.path for d in whole[:9]}) == 9  # each file once before any file twice
    assert {d.function.id for d in whole[:36]} == {d.function.id for d in drafts}
    rest = [d for d in drafts if d.function.id != "f4.py::g2"]
    again = taking_turns(rest, "7:test:fix_bug")
    assert [d for d in again if d.function.path != "f4.py"] == [
        d for d in whole if d.function.path != "f4.py"
    ]
    assert [id(d) for d in taking_turns(drafts[::-1], "7:test:fix_bug")] == [id(d) for d in whole]
    assert taking_turns(drafts, "8:test:fix_bug") != whole


def test_quotas_add_up():
    assert quotas_of(10, {"fix_bug": 0.5, "explain": 0.25, "improve": 0.25}) == {
        "fix_bug": 5,
        "explain": 3,
        "improve": 2,
    }


NUMPY = "Return a thing.\n\nParameters\n----------\na : int\n    First.\nb\n    Second.\n\nReturns\n-------\nint\n    It."
GOOGLE = "Return a thing.\n\nArgs:\n    a (int): First.\n    b: Second.\n\nReturns:\n    int: It."


@pytest.mark.parametrize("docstring", [NUMPY, GOOGLE])
def test_docstrings_of_two_styles_give_the_same_facts(docstring):
    facts = read_docstring(docstring)
    assert facts.summary == "Return a thing."
    assert [(p.name, p.description) for p in facts.parameters] == [("a", "First."), ("b", "Second.")]
    assert facts.returns.description == "It."
    written = normal_docstring(facts, ("a", "b"))
    code = "def f(\n    a,  # x: 1\n    b=(1, 2),\n):\n    # comment\n    return a\n"
    documented = with_docstring(code, written)
    assert same_code(documented, code)
    assert undescribed(docstring_of(documented), ("a", "b")) == ()
    assert "    # comment\n    return a\n" in documented
    assert normal_docstring(facts, ("a", "c")) is None


WORSENABLE = """def f(xs, d=None):
    if d is None:
        d = {}
    out = [x for x in xs if x not in d]
    if isinstance(xs, list) and out:
        # kept
        return len(out)
    if any(x == 1 for x in xs):
        return {x for x in xs}
    if sorted(xs):
        return {k: v for k, v in d.items()}
    y = 1 if xs else 2
    for x in xs:
        if x:
            return y
    return d.get(1) > 2
"""


def test_every_worsening_keeps_the_meaning_and_costs_more():
    versions = worsened_versions(WORSENABLE)
    assert {version.operator for version in versions} >= set(WORSENINGS) - {"redundant_else"}
    goal = quality_costs([WORSENABLE])[0]
    for version, cost in zip(versions, quality_costs([v.source for v in versions]), strict=True):
        assert is_gain(cost, goal), version
        assert "# kept" in version.source
    runs = [{}, {"d": {1: 5}}]
    given = [[], [1, 2], [0], (1, 2), (3, 2), [5, 3], (0, 7)]
    for version in versions:
        if version.operator not in (
            "type_equality",
            "compared_to_true",
        ):  # only a run shows what these change
            for name, options in ((n, o) for n in given for o in runs):
                assert _answer(version.source, name, options) == _answer(WORSENABLE, name, options), version
    assert not is_gain(goal, goal)


def _answer(source, xs, options):
    space = {}
    exec(source, space)
    try:
        return space["f"](xs, **options)
    except TypeError as error:
        return type(error)


def test_explanations_restate_the_source_and_nothing_else(built):
    _, functions, *_ = built
    function = next(f for f in functions if f.name == "total_beta")
    text = SourceFacts().explain(function, read_docstring(function.docstring))
    assert text.startswith("`total_beta`: Return the beta total")
    assert "- `values`: The numbers to add." in text
    assert "It returns the sum of it all." in text
    assert make_bugs(function.code)


def test_fences_come_off_as_they_went_on(built):
    *_, data, _ = built
    code = "def f(x):\n    return x"
    assert unfenced(f"Do.\n\n{fenced_python(code)}") == f"Do.\n\n{code}"
    assert not any("```" in pair.instruction + pair.response for pair in data.train)
