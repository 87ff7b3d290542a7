"""Real-world repositories: odd contents are counted by reason, and the rest is used."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from helpers.code.functions import extract_functions, functions_of_file
from helpers.data.card.facts import corpus_facts
from helpers.data.card.page import render_data_card
from helpers.data.corpus import corpus_warnings, load_corpus, rejection_counts
from helpers.data.leaks import check_splits
from helpers.data.queries.retrieval_data import build_retrieval_data
from helpers.data.splits import split_corpus
from helpers.data.tasks.bugs import make_bugs
from helpers.data.tasks.instruct_data import build_instruct_data
from helpers.errors import InsufficientDataError
from helpers.lines import bare_lines
from helpers.profiles import SMOKE
from helpers.settings import CorpusSettings

SETTINGS = CorpusSettings(min_file_bytes=20, max_file_bytes=5_000)
GOOD = "def good(value):\n    return value + 1\n"


def put(folder: Path, path: str, text: str | bytes = GOOD) -> None:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


def odd_repository(folder: Path) -> Path:
    """Make one file or folder for every reason, and three good files."""
    put(folder, "good.py")
    put(folder, "latin.py", "# -*- coding: latin-1 -*-\ndef café(): return 1\n".encode("latin-1"))
    put(folder, "web/good.js", "/** Adds one to a value. */\nexport function addOne(v) { return v + 1; }\n")
    put(folder, "binary.py", b"\0\1\2" * 20)
    put(folder, "huge.py", GOOD * 200)
    put(folder, "empty.py", b"")
    put(folder, "old.py", "def f(x):\n    print 'hello', x\n")
    put(folder, "broken.py", "def f(x:\n    return (\n")
    put(folder, "nonsense.py", b"def f(): return '\xff\xfe' # neither declared nor UTF-8\n")
    put(folder, "made.py", "# Automatically generated, do not edit\n" + GOOD)
    put(folder, "api.pb.go", "package api\n\nfunc Made() int { return 1 }\n")
    put(folder, "web/lib.min.js", "function a(){return 1}function b(){return 2}\n")
    put(folder, "long.py", f"X = [{'1, ' * 200}]\n{GOOD}")
    put(folder, "constants.py", "ANSWER = 42\nQUESTION = None\n")
    put(folder, "copy.py")
    put(folder, "vendor/theirs.py")
    put(folder, "node_modules/x/index.js")
    put(folder, "build/lib/good.py")
    put(folder, ".hidden/good.py")
    put(folder, "tests/test_good.py")
    put(folder, "notes.ipynb", "{}")
    put(folder, "data.csv", "1,2\n")
    (folder / "deep.py").write_text("x = " + "(\n" * 400 + "1" + ")\n" * 400 + "\n" + GOOD)
    put(folder, "sum.py", "def total():\n    return (" + "1 +\n" * 1100 + "1)\n")
    (folder / "loop").symlink_to(folder)
    (folder / "nowhere.py").symlink_to(folder / "missing.py")
    (folder / "passwd.py").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe.py")
    os.mkfifo(folder / "pyproject.toml")
    return folder


def test_every_oddity_is_counted_by_its_reason(tmp_path) -> None:
    corpus = load_corpus(f"path:{odd_repository(tmp_path)}", SETTINGS)
    assert [file.path for file in corpus.files] == ["copy.py", "latin.py", "web/good.js"]
    reasons = {file.path: file.reason for file in corpus.rejected}
    assert reasons == {
        "good.py": "exact duplicate", "binary.py": "binary", "huge.py": "too large", "empty.py": "too small",
        "old.py": "Python 2", "broken.py": "does not parse", "nonsense.py": "unknown encoding",
        "made.py": "generated", "api.pb.go": "generated", "web/lib.min.js": "minified", "long.py": "minified",
        "constants.py": "no function or class", "vendor/": "vendored", "node_modules/": "vendored",
        "build/": "build output", ".hidden/": "hidden", "tests/test_good.py": "test", "notes.ipynb": "notebook",
        "data.csv": "not source code", "pyproject.toml": "not source code", "deep.py": "does not parse",
        "sum.py": "defeats the reader",
        "loop": "symbolic link", "nowhere.py": "symbolic link", "passwd.py": "symbolic link",
        "pipe.py": "cannot be read",
    }  # fmt: skip
    assert sum(rejection_counts(corpus.rejected).values()) == len(reasons)
    assert {f.name for f in extract_functions(corpus)} == {"good", "café", "addOne"}


def test_a_pattern_that_names_a_place_wins_and_exclude_wins_over_it(tmp_path) -> None:
    folder = odd_repository(tmp_path)

    def taken(include: tuple[str, ...], exclude: tuple[str, ...] = ()) -> list[str]:
        settings = CorpusSettings(
            min_file_bytes=20, include=include, exclude=exclude, near_duplicate_threshold=1.0
        )
        return [file.path for file in load_corpus(f"path:{folder}", settings).files]

    assert taken(("vendor/theirs.py",)) == ["vendor/theirs.py"]
    assert taken(("tests/*",)) == ["tests/test_good.py"]
    assert taken(("made.py", "long.py")) == ["long.py", "made.py"]
    assert taken((".hidden/*", "build/lib/*")) == [".hidden/good.py"]  # the second is a copy of the first
    assert (
        taken(("*.py",), ("*good*", "copy.py", "latin.py", "huge.py")) == []
    )  # a mere match overrides nothing
    assert taken(("tests/*",), ("tests/test_*",)) == []


def test_a_repository_of_tests_alone_runs_no_track_and_says_how_to_take_them(tmp_path) -> None:
    put(tmp_path, "tests/test_good.py")
    put(tmp_path, "README.md")
    corpus = load_corpus(f"path:{tmp_path}", SETTINGS)
    assert rejection_counts(corpus.rejected) == {"not source code": 1, "test": 1}
    warning = corpus_warnings(corpus)[0]
    assert warning.startswith("No source file could be used, so nothing was measured")
    assert "(left out: 1 not source code, 1 test)" in warning
    assert "corpus.include=PATTERN, such as tests/*" in warning
    functions = extract_functions(corpus)
    splits = split_corpus(corpus, functions, SETTINGS, 1)
    leaks = check_splits(corpus, functions, splits, SETTINGS)
    assert leaks.files == {"train": 0, "test": 0, "validation": 0}
    with pytest.raises(InsufficientDataError, match="needs Python functions"):
        build_instruct_data(functions, splits, corpus, SMOKE.track_b, 1, tokenizer=None, workers=1)
    with pytest.raises(InsufficientDataError, match="needs at least 8"):
        build_retrieval_data(functions, splits, SMOKE.track_c, 1)
    card = render_data_card({"corpus": corpus_facts(corpus, functions, splits, leaks=leaks)})
    assert f"> **Warning.** {warning[:30]}" in card
    assert "tests/test_good.py" in card


@pytest.mark.parametrize("text", ["class A:\n    x = 1\n    y = 2\n", GOOD])
def test_too_little_for_any_pair_names_what_is_missing(tmp_path, text) -> None:
    put(tmp_path, "only.py", text)
    corpus = load_corpus(f"path:{tmp_path}", SETTINGS)
    functions = extract_functions(corpus)
    splits = split_corpus(corpus, functions, SETTINGS, 1)
    assert check_splits(corpus, functions, splits, SETTINGS).files == {"train": 1, "test": 0, "validation": 0}
    with pytest.raises(InsufficientDataError, match="needs at least 8"):
        build_retrieval_data(functions, splits, SMOKE.track_c, 1)
    if not functions:
        with pytest.raises(InsufficientDataError, match="needs Python functions"):
            build_instruct_data(functions, splits, corpus, SMOKE.track_b, 1, tokenizer=None, workers=1)


ADDER = """def add_{name}(value, limit=3):
    \"\"\"Return the value, at most {limit} above the limit.\"\"\"
    # a comment
    if value > limit:
        return limit + {limit}
    return value
"""
ADDERS = "\n\n".join(ADDER.format(name=name, limit=len(name)) for name in ("apples", "pears", "plums"))


@pytest.mark.parametrize(
    ("path", "end"), [("odd.py", b"\r"), ("odd.py", b"\r\r\n"), ("odd.py", b"\r\n"), ("odd.js", b"\r")]
)
def test_a_file_with_other_line_ends_gives_the_same_functions(tmp_path, path, end) -> None:
    text = ADDERS
    if path.endswith(".js"):
        text = "".join(
            f"// Adds {n} to v.\nfunction add{n}(v) {{\n  return v + {n};\n}}\n\n" for n in (1, 2, 3)
        )
    found = []
    for name, ending in (("plain", b"\n"), ("other", end)):
        put(tmp_path / name, path, text.encode().replace(b"\n", ending))
        functions = extract_functions(load_corpus(f"path:{tmp_path / name}", SETTINGS))
        blank = 2 if ending == b"\r\r\n" else 1  # Python counts a line for each of the two ends
        found.append([(f.name, f.docstring, (f.start_line - 1) // blank, f.doctests) for f in functions])
        if path.endswith(".py"):
            for f in functions:
                bugs = make_bugs(f.code)
                assert {bug.operator for bug in bugs} >= {"wrong_boundary", "wrong_default"}
                marked = [
                    bare_lines(bug.source)[bug.line - 1] for bug in bugs if bug.operator == "wrong_boundary"
                ]
                assert marked == ["    if value >= limit:"]
    assert found[0] == found[1]
    assert len(found[0]) == 3


@pytest.mark.parametrize(("terms", "taken"), [(100, True), (200, False)])
def test_depth_decides_whatever_the_recursion_limit_is(tmp_path, terms, taken) -> None:
    put(tmp_path, "good.py")
    put(tmp_path, "sum.py", "def total():\n    return (" + "1 +\n" * terms + "1)\n")
    before = sys.getrecursionlimit()
    for limit in (before, 100_000):
        sys.setrecursionlimit(limit)
        try:
            corpus = load_corpus(f"path:{tmp_path}", SETTINGS)
        finally:
            sys.setrecursionlimit(before)
        assert ("sum.py" in [file.path for file in corpus.files]) == taken
        assert [file.detail for file in corpus.rejected] == (
            [] if taken else [f"nested {terms + 4} deep; the limit is 150"]
        )


def test_a_file_that_defeats_the_reader_is_named_and_the_rest_is_used(tmp_path, monkeypatch) -> None:
    put(tmp_path, "good.py")
    put(tmp_path, "bad.py", "def bad():\n    return 'no reader likes this'\n")

    def cut(file, module):
        if file.path == "bad.py":
            raise IndexError("list index out of range")
        return functions_of_file(file, module)

    monkeypatch.setattr("helpers.data.cleaning.functions_of_file", cut)
    corpus = load_corpus(f"path:{tmp_path}", SETTINGS)
    assert [file.path for file in corpus.files] == ["good.py"]
    (rejected,) = corpus.rejected
    assert (rejected.path, rejected.reason) == ("bad.py", "defeats the reader")
    assert rejected.detail == "IndexError: list index out of range"
