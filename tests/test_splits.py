"""Splits by module are balanced and deterministic, and the leak check finds every planted leak."""

from __future__ import annotations

import dataclasses
import hashlib
import random

import pytest

from helpers.code.functions import extract_functions
from helpers.data.cleaning import limit_files
from helpers.data.leaks import LeakError, check_splits, without_leaks
from helpers.data.splits import files_of, functions_of, split_corpus
from helpers.profiles import PROFILES
from helpers.records import Corpus, SourceFile, Splits
from helpers.settings import CorpusSettings

SETTINGS = CorpusSettings()


def corpus_of(texts: dict[str, str]) -> tuple[Corpus, tuple]:
    files = tuple(
        SourceFile(path, text, hashlib.sha256(text.encode()).hexdigest(), len(text.encode()))
        for path, text in sorted(texts.items())
    )
    corpus = Corpus("path:toy", "toy", "", "", "", "", files, (), "")
    return corpus, extract_functions(corpus)


def body(seed: str, lines: int = 12) -> str:
    """Return indented statements that differ from any other seed's in names and in shape."""
    rng = random.Random(f"{seed}:body")
    rows = []
    for _ in range(lines):
        a, b, c = (f"v{rng.randrange(10**6)}" for _ in range(3))
        rows.append(rng.choice([
            f"    {a} = {b} + {c}", f"    {a}.append({b}, {c})", f"    if {a} > {b}: {c}()",
            f"    return [{a} for {b} in {c}]", f"    {a}[{b}] = not {c}", f"    assert {a} in {b}, {c}",
        ]))  # fmt: skip
    return "\n".join(rows) + "\n"


def function(name: str, seed: str = "", doc: str = "") -> str:
    docstring = f'    """{doc}"""\n' if doc else ""
    return f"def {name}(x):\n{docstring}{body(seed or name)}"


def documented(name: str) -> str:
    return function(name, doc=f"All there is to say about {name}.\n\n    >>> 1\n    1\n    ")


def toy(extra: dict[str, str] | None = None, n: int = 30) -> dict[str, str]:
    texts = {f"m{i}.py": documented(f"f{i}") + function(f"g{i}") + function(f"h{i}") for i in range(n)}
    return texts | (extra or {})


@pytest.fixture(scope="module")
def networkx_functions(networkx_corpus):
    return extract_functions(networkx_corpus)


# --- dealing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 17])
def test_default_corpus_is_split_in_proportion_and_clean(networkx_corpus, networkx_functions, seed):
    corpus, functions = networkx_corpus, networkx_functions
    splits = split_corpus(corpus, functions, SETTINGS, seed)
    report = check_splits(corpus, functions, splits, SETTINGS)
    assert set(splits.split_of) == {file.path for file in corpus.files}
    total = sum(file.n_bytes for file in corpus.files)
    for name, fraction in {"train": 0.7, "validation": 0.1, "test": 0.2}.items():
        size = sum(file.n_bytes for file in files_of(corpus, splits, name))
        assert abs(size / total - fraction) < 0.02
        used = functions_of(functions, splits, name)
        assert abs(len(used) / len(functions) - fraction) < 0.03
        assert sum(f.doctests > 0 for f in used) >= 0.8 * fraction * 700
        assert report.files[name] == len(files_of(corpus, splits, name))
    assert len(splits.excluded_functions) < 60  # not hundreds
    assert report.compared["exact"] == len(functions) - len(splits.excluded_functions)


@pytest.mark.parametrize("seed", [17])
def test_smoke_profile_has_doctests_everywhere(networkx_corpus, seed):
    settings = PROFILES["smoke"].corpus
    assert settings == dataclasses.replace(SETTINGS, max_files=settings.max_files)
    files, _ = limit_files(networkx_corpus.files, settings.max_files)
    corpus = dataclasses.replace(networkx_corpus, files=tuple(files))
    functions = extract_functions(corpus)
    splits = split_corpus(corpus, functions, settings, seed)
    check_splits(corpus, functions, splits, settings)
    for name in ("train", "validation", "test"):
        assert any(function.doctests for function in functions_of(functions, splits, name))


def test_seed_and_paths_alone_decide():
    corpus, functions = corpus_of(toy())
    first = split_corpus(corpus, functions, SETTINGS, 3)
    assert split_corpus(corpus, functions, SETTINGS, 3) == first
    backwards = dataclasses.replace(corpus, files=corpus.files[::-1])
    assert split_corpus(backwards, functions[::-1], SETTINGS, 3) == first
    assert any(split_corpus(corpus, functions, SETTINGS, seed) != first for seed in range(4, 8))


@pytest.mark.parametrize(
    ("n", "filled"),
    [(1, {"train"}), (2, {"train", "test"}), (3, {"train", "test", "validation"}), (9, {"train", "test", "validation"})],
)  # fmt: skip
def test_small_corpora_fill_what_they_can(n, filled):
    corpus, functions = corpus_of(toy(n=n))
    splits = split_corpus(corpus, functions, SETTINGS, 0)
    assert set(splits.split_of.values()) == filled
    check_splits(corpus, functions, splits, SETTINGS)


def test_fractions_are_followed():
    corpus, functions = corpus_of(toy(n=100))
    settings = CorpusSettings(train_fraction=0.5, validation_fraction=0.25)
    splits = split_corpus(corpus, functions, settings, 0)
    counts = {name: len(files_of(corpus, splits, name)) for name in ("train", "validation", "test")}
    assert counts == {
        "train": pytest.approx(50, abs=2),
        "validation": pytest.approx(25, abs=2),
        "test": pytest.approx(25, abs=2),
    }


def test_corpus_without_functions_or_docstrings_is_split_by_bytes():
    corpus, functions = corpus_of({f"m{i}.py": f"class A{i}:\n    x = {i}\n" for i in range(20)})
    assert functions == ()
    assert len(files_of(corpus, split_corpus(corpus, functions, SETTINGS, 0), "train")) == 14


# --- twins ---------------------------------------------------------------------------------------

LONG = function("shared", seed="shared")
TWINS = {
    "same code": (LONG, LONG.replace("    ", "        ")),
    "same docstring differs": (function("h", "shared", "One thing."), function("h", "shared", "Another.")),
    "same but for names": (LONG, LONG.replace("v", "w").replace("shared", "other")),
    "near duplicate": (LONG + body("tail", 40), LONG + body("tail", 40) + "    return extra\n"),
    "same docstring start": (
        function("p", "p", "Find the shortest path between nodes.\n\n    Here.\n    "),
        function("q", "q", "Find the  shortest path\n    between nodes.\n\n    There.\n    "),
    ),
}


def find(functions, path):
    return next(f for f in functions if f.path == path and f.name in ("shared", "other", "h", "p", "q"))


def with_twins(kind: str) -> tuple[Corpus, tuple]:
    # Fillers keep the two files below the share that would tie them to one split.
    filler = {p: documented(p) + "".join(function(f"{p}{i}") for i in range(3)) for p in ("left", "right")}
    left, right = TWINS[kind]
    return corpus_of(toy({"left.py": left + filler["left"], "right.py": right + filler["right"]}))


@pytest.mark.parametrize("kind", TWINS)
@pytest.mark.parametrize(
    ("first", "second"), [("train", "test"), ("test", "validation"), ("train", "validation")]
)
def test_every_kind_of_twin_is_caught_by_the_check(kind, first, second):
    corpus, functions = with_twins(kind)
    forced = Splits(
        dict.fromkeys((f.path for f in corpus.files), "train") | {"left.py": first, "right.py": second}
    )
    with pytest.raises(LeakError) as caught:
        check_splits(corpus, functions, forced, SETTINGS)
    named = {identifier for pairs in caught.value.leaks.values() for pair in pairs for identifier in pair}
    assert named == {find(functions, "left.py").id, find(functions, "right.py").id}
    assert find(functions, "left.py").id in str(caught.value)
    mended, report = without_leaks(corpus, functions, forced, SETTINGS)
    ranks = ("train", "test", "validation")
    gone = find(functions, "right.py" if ranks.index(first) < ranks.index(second) else "left.py").id
    assert set(mended.excluded_functions) == set(report.left_out) == named & {gone}
    assert report.left_out[gone].startswith("found by the leak check, ")
    assert mended.split_of == forced.split_of


@pytest.mark.parametrize("kind", TWINS)
def test_every_kind_of_twin_is_mended_by_the_split(kind):
    corpus, functions = with_twins(kind)
    seen = set()
    little_train = CorpusSettings(train_fraction=0.1, validation_fraction=0.45)
    for seed in range(10):
        splits = split_corpus(corpus, functions, little_train if seed % 2 else SETTINGS, seed)
        check_splits(corpus, functions, splits, SETTINGS)
        sides = (splits.split_of["left.py"], splits.split_of["right.py"])
        if sides[0] == sides[1]:
            assert splits.excluded_functions == {}
            continue
        seen.add(sides)
        order = ("train", "test", "validation")
        kept, gone = (
            ("left.py", "right.py")
            if order.index(sides[0]) < order.index(sides[1])
            else ("right.py", "left.py")
        )
        gone_id, kept_id = find(functions, gone).id, find(functions, kept).id
        assert list(splits.excluded_functions) == [gone_id]
        assert splits.excluded_functions[gone_id].endswith(f": {kept_id} in {splits.split_of[kept]}")
        assert gone_id not in {f.id for f in functions_of(functions, splits, splits.split_of[gone])}
    assert seen


def test_train_functions_are_never_left_out():
    shared = {f"s{i}.py": LONG + "".join(function(f"s{i}x{j}") for j in range(5)) for i in range(12)}
    corpus, functions = corpus_of(toy(shared))
    splits = split_corpus(corpus, functions, SETTINGS, 0)
    check_splits(corpus, functions, splits, SETTINGS)
    sides = {splits.split_of[identifier.partition("::")[0]] for identifier in splits.excluded_functions}
    assert "train" not in sides
    assert "test" in sides


def test_files_that_share_much_stay_together():
    pair = {"one.py": LONG + function("a1"), "two.py": LONG + function("b1")}
    corpus, functions = corpus_of(toy(pair))
    for seed in range(10):
        splits = split_corpus(corpus, functions, SETTINGS, seed)
        assert splits.split_of["one.py"] == splits.split_of["two.py"]
        assert splits.excluded_functions == {}


def test_getters_do_not_empty_the_evaluation():
    texts = {
        f"m{i}.py": f"class A{i}:\n" + "".join(f"    def get{i}x{j}(self): return self._{i}x{j}\n" for j in range(8))
        for i in range(20)
    }  # fmt: skip
    corpus, functions = corpus_of(texts)
    splits = split_corpus(corpus, functions, SETTINGS, 0)
    assert splits.excluded_functions == {}
    check_splits(corpus, functions, splits, SETTINGS)


def test_near_equal_files_across_splits_are_a_leak_even_without_functions():
    rows = "".join(f"    field_{i} = {i}\n" for i in range(200))
    corpus, functions = corpus_of({"a.py": "class A:\n" + rows, "b.py": "class A:\n" + rows + "    y = 1\n"})
    with pytest.raises(LeakError) as caught:
        check_splits(corpus, functions, Splits({"a.py": "train", "b.py": "test"}), SETTINGS)
    assert caught.value.leaks == {"files": [("a.py", "b.py")]}
    mended, report = without_leaks(corpus, functions, Splits({"a.py": "train", "b.py": "test"}), SETTINGS)
    assert report.left_out == {"b.py": "found by the leak check, files: a.py in train"}
    assert (report.files["train"], report.files["test"]) == (1, 0)
    assert [file.path for file in files_of(corpus, mended, "test")] == []


def test_splits_that_do_not_fit_the_corpus_are_refused():
    corpus, functions = corpus_of(toy(n=3))
    for wrong in (
        {"m0.py": "train"},
        {f"m{i}.py": "train" for i in range(4)},
        {f"m{i}.py": "dev" for i in range(3)},
    ):
        with pytest.raises(ValueError, match="split anew"):
            check_splits(corpus, functions, Splits(wrong), SETTINGS)
