"""The rules that accept and reject files, each tried on a difficult folder."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from helpers.code.near_duplicates import earlier_duplicates, file_tokens, jaccard, near_duplicates, shingles
from helpers.data.cleaning import RULES, clean_folder, limit_files, parse_or_reason, rule_rows
from helpers.records import SourceFile
from helpers.settings import CorpusSettings

ANY_SIZE = CorpusSettings(min_file_bytes=1)
GOOD = "def double(value):\n    return 2 * value\n"


def verdicts(folder: Path, settings: CorpusSettings = ANY_SIZE) -> dict[str, str]:
    """Return path -> "accepted" or the reason; fail if a path has two verdicts or a reason is no rule."""
    files, rejected = clean_folder(folder, settings)
    paths = [file.path for file in files] + [file.path for file in rejected]
    assert len(paths) == len(set(paths))
    assert {file.reason for file in rejected} <= {rule.reason for rule in RULES}
    return {file.path: "accepted" for file in files} | {file.path: file.reason for file in rejected}


def detail(folder: Path, path: str, settings: CorpusSettings = ANY_SIZE) -> str:
    return next(file.detail for file in clean_folder(folder, settings)[1] if file.path == path)


def put(folder: Path, path: str, content: str | bytes = GOOD) -> Path:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def words(seed: int, count: int) -> list[str]:
    rng = random.Random(f"{seed}:words")
    return [f"name_{rng.randrange(10**6)}" for _ in range(count)]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("pkg/module.py", "accepted"),
        ("script.pyw", "accepted"),
        ("contest.py", "accepted"),
        ("pkg/testing/helpers.py", "accepted"),
        ("test_a.py", "test"),
        ("a_test.py", "test"),
        ("conftest.py", "test"),
        ("pkg/tests/helpers.py", "test"),
        ("Test/helpers.py", "test"),
        ("notes.ipynb", "notebook"),
        ("main.js", "no function or class"),
        ("types.pyi", "not source code"),
        ("types.d.ts", "not source code"),
        ("Makefile", "not source code"),
        ("lib.min.js", "minified"),
        ("web/button.test.tsx", "test"),
        ("go/stack_test.go", "test"),
        ("web/__tests__/button.js", "test"),
        ("java/StackTest.java", "test"),
        ("api/service.pb.go", "generated"),
        (".hidden.py", "hidden"),
        ("proto_pb2.py", "generated"),
    ],
)
def test_rules_on_the_path(tmp_path, path, reason):
    put(tmp_path, path)
    assert verdicts(tmp_path)[path] == reason


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        (".github", "hidden"),
        ("pkg/_vendor", "vendored"),
        ("node_modules", "vendored"),
        ("build", "build output"),
        ("thing.egg-info", "build output"),
    ],
)
def test_folders_not_entered_are_listed_with_their_size(tmp_path, folder, reason):
    put(tmp_path, f"{folder}/a.py")
    put(tmp_path, f"{folder}/deep/b.py")
    assert verdicts(tmp_path) == {f"{folder}/": reason}
    assert detail(tmp_path, f"{folder}/") == "folder of 2 files, not entered"


def test_virtual_environment_of_any_name_and_a_package_called_build(tmp_path):
    put(tmp_path, "my_env/pyvenv.cfg", "home = /usr\n")
    put(tmp_path, "my_env/lib/a.py")
    put(tmp_path, "build/__init__.py", "")
    put(tmp_path, "build/core.py")
    assert verdicts(tmp_path) == {
        "my_env/": "build output",
        "build/__init__.py": "too small",
        "build/core.py": "accepted",
    }


def test_caches_of_interpreter_and_version_control_are_not_looked_at(tmp_path):
    put(tmp_path, "a.py")
    put(tmp_path, "__pycache__/a.cpython-311.pyc", b"\0")
    put(tmp_path, ".git/HEAD", "ref: refs/heads/main\n")
    assert verdicts(tmp_path) == {"a.py": "accepted"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "too small"),
        (b"VALUE = 1\n", "no function or class"),
        (b"class A:\n    pass\n", "accepted"),
        (b"async def f():\n    pass\n", "accepted"),
        (GOOD.encode() + b"\0", "binary"),
        (GOOD.encode("utf-16"), "binary"),
        (b"# caf\xe9\n" + GOOD.encode(), "unknown encoding"),
        (b"# -*- coding: latin-1 -*-\n# caf\xe9\n" + GOOD.encode(), "accepted"),
        (b"# -*- coding: klingon -*-\n" + GOOD.encode(), "unknown encoding"),
        (b"# -*- coding: rot13 -*-\n" + GOOD.encode(), "unknown encoding"),
        (b"\xef\xbb\xbf" + GOOD.encode(), "accepted"),
        (b"\xef\xbb\xbf# -*- coding: latin-1 -*-\n" + GOOD.encode(), "unknown encoding"),
        (b"def f():\r\n    return 1\r\n", "accepted"),
        (b"def f():\r    return 1\r", "accepted"),
        (GOOD.encode() + b"x = '" + b"a" * 400 + b"'\n", "minified"),
        (GOOD.encode() + b"x" * 200_001, "too large"),
        (b"# Generated by the protocol buffer compiler.  DO NOT EDIT!\n" + GOOD.encode(), "generated"),
        (b'"""This file is @generated."""\n' + GOOD.encode(), "generated"),
        (b"# Tables generated from spec.txt\n" + GOOD.encode(), "generated"),
        (b'"""Automatically generated by a script."""\n' + GOOD.encode(), "generated"),
        (b'"""Tables.\n\nThis file was auto-generated.\n"""\n' + GOOD.encode(), "generated"),
        (b'"""Adds the auto-generated names. Do not modify the result."""\n' + GOOD.encode(), "accepted"),
        (b'"""Random graphs generated by a seeded process."""\n' + GOOD.encode(), "accepted"),
        (GOOD.encode() + b"#\n" * 20 + b"# generated by hand\n", "accepted"),
        (b"def f():\n    print 'old'\n", "Python 2"),
        (b"try:\n    f()\nexcept ValueError, e:\n    raise\n\ndef f(): pass\n", "Python 2"),
        (b"def f():\n    raise ValueError, 'x'\n", "Python 2"),
        (b"def f():\n    return 0777\n", "Python 2"),
        (b"def f():\n    exec 'x' in d\n", "Python 2"),
        (b"def f(:\n    pass\n", "does not parse"),
        (b"def f():\npass\n", "does not parse"),
        (b"def f():\n    return " + b"(" * 500 + b")" * 500 + b"\n", "minified"),
    ],
)
def test_rules_on_the_content(tmp_path, content, reason):
    put(tmp_path, "a.py", content)
    assert verdicts(tmp_path) == {"a.py": reason}


def test_the_line_that_does_not_parse_is_given(tmp_path):
    put(tmp_path, "a.py", GOOD + "def f(:\n    pass\n")
    assert detail(tmp_path, "a.py").startswith("line 3: ")


def test_nesting_beyond_the_parser_is_a_verdict_not_a_crash():
    for text in ("(" * 10_000 + ")" * 10_000, "x = " + "-" * 100_000 + "1", "x" + "+x" * 200_000):
        tree = parse_or_reason(text)
        assert not isinstance(tree, str) or tree


def test_text_keeps_its_line_ends_and_loses_only_the_mark(tmp_path):
    put(tmp_path, "a.py", b"\xef\xbb\xbfdef f():\r\n    return '\xc3\xa9'\r\n")
    (file,), _ = clean_folder(tmp_path, ANY_SIZE)
    assert file.text == "def f():\r\n    return 'é'\r\n"
    assert file.n_bytes == len(file.text.encode())
    put(tmp_path, "a.py", b"# coding: latin-1\ndef f():\n    return '\xe9'\n")
    (file,), _ = clean_folder(tmp_path, ANY_SIZE)
    assert "é" in file.text
    assert file.n_bytes == len(file.text.encode("utf-8"))


def test_links_are_listed_and_never_followed(tmp_path):
    outside = put(tmp_path / "outside", "secret.py")
    root = tmp_path / "root"
    put(root, "pkg/a.py")
    (root / "inner.py").symlink_to(root / "pkg" / "a.py")
    (root / "outer.py").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "self.py").symlink_to(root / "self.py")
    (root / "dangling.py").symlink_to(root / "nothing.py")
    found = verdicts(root)
    assert found.pop("pkg/a.py") == "accepted"
    assert found == dict.fromkeys(["inner.py", "outer.py", "loop", "self.py", "dangling.py"], "symbolic link")
    assert detail(root, "outer.py") == "leads outside"
    assert detail(root, "inner.py") == "within the corpus"


def test_pipes_are_not_opened_and_odd_names_survive(tmp_path):
    os.mkfifo(tmp_path / "pipe.py")
    put(tmp_path, "mit Leerzeichen\n.py")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/latin-\xe9.py")).write_text("def other():\n    return None\n")
    found = verdicts(tmp_path)
    assert found.pop("pipe.py") == "cannot be read"
    assert set(found.values()) == {"accepted"}
    assert len(found) == 2
    for file in clean_folder(tmp_path, ANY_SIZE)[0]:
        file.path.encode("utf-8")  # paths go into JSON and Markdown


def test_folders_nested_deeper_than_python_recurses(tmp_path):
    deep = tmp_path / "deep"
    deep.mkdir()
    here = os.open(deep, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    put(tmp_path, "a.py")
    try:
        assert verdicts(tmp_path)["a.py"] == "accepted"
    finally:  # pytest clears old folders recursively
        subprocess.run(["rm", "-rf", str(deep)], check=True)


def test_include_and_exclude_patterns(tmp_path):
    for path in ("pkg/a.py", "pkg/sub/b.py", "tools/c.py"):
        put(tmp_path, path, GOOD.replace("double", path[-4]))
    chosen = CorpusSettings(min_file_bytes=1, include=("pkg/*",), exclude=("*/b.py",))
    assert verdicts(tmp_path, chosen) == {
        "pkg/a.py": "accepted",
        "pkg/sub/b.py": "excluded by pattern",
        "tools/c.py": "excluded by pattern",
    }


def test_rules_are_printed_with_the_limits_of_the_run():
    rows = rule_rows(CorpusSettings(max_file_bytes=123, near_duplicate_threshold=0.9))
    assert [row["reason"] for row in rows] == [rule.reason for rule in RULES]
    assert not any("{" in row["rule"] for row in rows)
    assert any("123 bytes" in row["rule"] for row in rows)
    assert any("0.9" in row["rule"] for row in rows)


# --- duplicates ----------------------------------------------------------------------------------


def test_first_path_of_equal_files_stays(tmp_path):
    for path in ("z.py", "a/copy.py", "b.py"):
        put(tmp_path, path)
    assert verdicts(tmp_path) == {
        "a/copy.py": "accepted",
        "b.py": "exact duplicate",
        "z.py": "exact duplicate",
    }
    assert detail(tmp_path, "z.py") == "of a/copy.py"


def test_near_duplicates_by_the_threshold_and_not_below(tmp_path):
    base = [f"def {name}():\n    return {name.upper()}\n" for name in words(1, 100)]
    put(tmp_path, "a.py", "".join(base))
    put(tmp_path, "b.py", "".join([*base[:95], base[0]]))
    put(tmp_path, "c.py", "".join(base[:50]))
    put(tmp_path, "d.py", "".join(base).replace("return", "yield"))
    texts = [(tmp_path / f"{name}.py").read_text() for name in "abcd"]
    sets = [shingles(file_tokens(text)) for text in texts]
    likeness = [jaccard(sets[0], other) for other in sets]
    expected = {
        f"{name}.py": "near duplicate" if value >= 0.85 and name != "a" else "accepted"
        for name, value in zip("abcd", likeness, strict=True)
    }
    assert verdicts(tmp_path) == expected
    assert list(expected.values()) == ["accepted", "near duplicate", "accepted", "accepted"]


def test_jaccard_and_shingles_by_hand():
    a, b = shingles(list("abcdef")), shingles(list("abcdeg"))
    assert (len(a), len(b), len(a & b)) == (2, 2, 1)
    assert jaccard(a, b) == pytest.approx(1 / 3)
    assert len(shingles(["a", "b"])) == 1
    assert shingles([]) == frozenset()
    assert jaccard(frozenset(), frozenset()) == 0.0


def test_near_duplicates_equal_brute_force():
    rng = random.Random("5:sets")
    sets = [frozenset(rng.sample(range(10**6), 60)) for _ in range(30)]
    for index in range(30):
        kept = rng.sample(sorted(sets[index]), rng.randrange(45, 61))
        sets.append(frozenset(kept + rng.sample(range(10**6), rng.randrange(5))))
    sets += [sets[0], frozenset(), frozenset()]
    expected = set()
    for i in range(len(sets)):
        for j in range(i):
            if jaccard(sets[i], sets[j]) >= 0.85:
                expected.add((j, i))
    for seed in (1, 2):
        pairs = set()
        for group in near_duplicates(sets, 0.85, seed=seed):
            pairs |= {(a, b) for a in group for b in group if a < b}
        assert pairs == expected
    assert len(expected) > 10


def test_a_chain_of_gradual_changes_keeps_its_far_end():
    row = [str(number) for number in range(200)]
    chain = [frozenset(map(int, row[step : step + 100])) for step in range(0, 100, 5)]
    earlier = earlier_duplicates(
        chain, 0.85
    )  # neighbours share 95 of 105 shingles, files two steps apart 90 of 110
    assert earlier == [None if index % 2 == 0 else index - 1 for index in range(len(chain))]


def test_file_limit_depends_on_the_paths_alone():
    files = [SourceFile(f"pkg/{number}.py", str(number), "", 1) for number in range(50)]
    kept, over = limit_files(files, 20)
    assert (len(kept), len(over)) == (20, 30)
    assert {file.reason for file in over} == {"over the file limit"}
    again, _ = limit_files(files[::-1], 20)
    assert {file.path for file in again} == {file.path for file in kept}
    fewer, _ = limit_files(files[:40], 20)  # removed files change nothing else
    assert {file.path for file in kept if file in files[:40]} <= {file.path for file in fewer}
