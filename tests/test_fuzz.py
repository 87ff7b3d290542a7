"""Damaged files end in the project's own errors or in a reason, never in another exception.

`make fuzz` gives the readers 10,000 mutated files; the tests take some of the same ones. The files are drawn
by hypothesis without randomness, so that a failure comes back.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.code.docstrings import (
    described_names,
    docstring_of,
    normal_docstring,
    prose_lines,
    read_docstring,
    same_code,
    with_docstring,
)
from helpers.code.extraction import answered_line, defines, extract_code
from helpers.code.fences import fenced_blocks
from helpers.code.functions import count_doctests, extract_functions, functions_left_out
from helpers.code.python_text import parse
from helpers.data.corpus import corpus_warnings, load_corpus
from helpers.data.corpus_spec import CorpusError
from helpers.settings import CorpusSettings
from helpers.tools.score import ScoreError, read_problems, read_samples

READERS = 5
EXAMPLES = int(os.environ.get("FUZZ_FILES", "300")) // READERS
MUTATED = settings(
    max_examples=EXAMPLES, derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
# What splits lines, ends texts, nests, or means something to a parser, a decoder or a pattern.
PIECES = [
    b"\0", b"\r", b"\r\n", b"\n", b"\x0c", b"\x1c", b"\x85", "\u2028".encode(), "\u202e".encode(), b"\xff\xfe", b"\xef\xbb\xbf",
    b"\xed\xa0\x80", b"\\ud800", b"\\N{BEL}", b"\\x", "ſ".encode(), "𝔘".encode(), "a\u0301".encode(), "١".encode(), b"'''", b'"""', b"'", b'"', b"\\", b"\\\n", b"`",
    b"```", b"~~~", b"````python\n", b"(", b")", b"[", b"]", b"{", b"}", b"(" * 300, b"[" * 100, b"]", b"-" * 400, b"#", b"# -*- coding: utf-16 -*-\n",
    b"# coding: nonsense\n", b"# coding: rot13\n", b"# coding: idna\n", b"//", b"/*", b"*/", b"/**", b"*", b":", b";", b",", b"@", b"def f(", b"class ", b"async ", b"lambda: ",
    b"return", b"    ", b"\t", b">>> ", b"... ", b"Parameters\n----------\n", b"Args:\n", b":param x:", b":returns:", b"Raises:\n    E:",
    b"{%", b"%%bash\n", b"!ls\n", b"null", b"true", b"1e999", b"NaN", b"-1", b"9" * 5000, b"0x", b"1_000", b"[]", b"{}", b'""', b'{"a":',
    b"template<", b"#define F(x) {\n", b"#if 0\n", b"R\"(", b"=>", b"fn f<T>", b"impl X for", b"pub ", b"export ", b"func (", b"public static ", b"$", b"|", b"<", b">", b"!", b"\x1b[0m",
    b"password = 'hunter2hunter2'\n", b"AKIA", b"-----BEGIN RSA PRIVATE KEY-----\n", b"f'{", b"rb'", b"match x:\n", b"type X = ", b"except* ", b"x: int = ",
]  # fmt: skip
PYTHON = '''"""Work on tables."""

import os


@decorated(1, key="x")
def load_table(path, *, sep=",", **options):
    """Read the table in `path`, and return its rows. See e.g. the docs.

    >>> load_table("a.csv")  # doctest: +SKIP
    [1, 2]

    Parameters
    ----------
    path : str or Path, optional (default: None)
        Where it lies.
    sep, other : str
        What separates cells; default value is ",".

    Returns
    -------
    rows : list of int
        One per line.

    Raises
    ------
    ValueError
        If it is empty.
    """
    secret_key = "Zx8!kq0pLmW3vT7r"
    # read it
    with open(path) as stream:
        return [f"{len(line)!r}" for line in stream if line.strip()]


class Table:
    """Rows: kept."""

    async def wait(self, n: int = 3) -> int:
        """Wait.

        Args:
            n (int): How long. Defaults to 3.

        Returns:
            int: The time.

        Raises:
            OSError: sometimes.
        """
        def inner(x):
            \'\'\'Inner.\'\'\'
            return x
        return await inner(n)

    @property
    def size(self): return 1
'''
SOURCES = {
    "a.py": PYTHON,
    "b.js": "/** Adds.\n * @param {number} a one\n */\nexport function add(a, b = 2) {\n  return a + b;\n}\nconst f = (x) => { return x; };\nclass A { /** Get. */ get x() { return 1; } }\n",
    "c.ts": "/** Joins. */\nexport function join(parts: string[], base?: string): string {\n  return parts.join('/');\n}\ninterface I<T> { a: T }\nexport class B<in out T> { /** M. */ private m(x: T): void {} }\n",
    "d.go": "package a\n\n// Add adds.\nfunc Add(a, b int) (int, error) {\n\treturn a + b, nil\n}\n\n// M is.\nfunc (t *T) M() string { return `raw` }\n",
    "e.rs": "//! Top.\n/// Adds.\npub fn add<T: Into<i32>>(a: T, b: &'a str) -> i32 {\n    let x = r#\"raw\"#;\n    1\n}\nimpl A { /// M.\n fn m(&self) {} }\nmacro_rules! x { () => {} }\n",
    "f.java": "package a;\n/** Class. */\npublic class A<T> {\n  /** Adds. */\n  @Override public static int add(int a, int... b) { return a; }\n  String s = \"\"\"\n    text\n    \"\"\";\n}\n",
    "g.c": "#define ADD x += 1;\n/** Adds. */\nstatic int *add(int a, char *b[]) {\n  return 0;\n}\nint old(a, b) int a; int b; { return a; }\n",
    "h.cpp": "/// Adds.\ntemplate <typename T> auto add(T a) -> T { return a; }\nnamespace n { class A { public: A() : x{1} {} ~A(); int operator()(int y) const { return R\"x(a)x\"; } }; }\n",
    "i.tsx": "/** Shows. */\nexport const A = ({ x }: P) => <div onClick={() => f(x)}>{x}</div>;\n",
    "j.ipynb": json.dumps({"cells": [
        {"cell_type": "code", "source": ["%matplotlib inline\n", "def f(x):\n", '    """Return x."""\n', "    return x\n"]},
        {"cell_type": "markdown", "source": "# text"}, {"cell_type": "code", "source": "%%bash\nls\n"},
    ], "metadata": {"language_info": {"name": "python"}}, "nbformat": 4}),
    "pyproject.toml": "[project]\nname = 'x'\nversion = '1'\nlicense = {text = 'MIT'}\n",
    "package.json": '{"name": "x", "license": "MIT", "version": "1"}', "Cargo.toml": "[package]\nlicense = 'MIT'\n",
    "PKG-INFO": "Metadata-Version: 2.1\nName: x\nLicense: MIT\nClassifier: License :: OSI Approved :: MIT License\n\nText\n",
    "LICENSE": "MIT License\n\nPermission is hereby granted, free of charge, to any person\n",
    ".gitignore": "build/\n*.log\n!keep.log\n/a/**/b\n[a-z].py\n\\#x\n", ".gitattributes": "*.py linguist-generated=true\nvendor/** -linguist-vendored\n",
    ".gitmodules": '[submodule "a"]\n\tpath = a\n\turl = ../a\n',
}  # fmt: skip
ANSWERS = [
    f"Here it is:\n\n```python\n{PYTHON}```\nDone.", "def f(x):\n    return x\n", "```\nx = 1\n", "~~~py\nf = lambda x: x\n~~~",
    "1. first\n\n   ```python\n   def f(x):\n       return x\n   ```\n", "`return x + 1`", "<|im_start|>assistant\ndef f(x): return x<|im_end|>", ">>> f(1)\n2\n",
]  # fmt: skip
HUMAN_EVAL = {"task_id": "T/0", "prompt": "def f(x):\n    \"\"\"Return x.\"\"\"\n", "entry_point": "f",
              "test": "def check(candidate):\n    assert candidate(1) == 1\n", "canonical_solution": "    return x\n"}  # fmt: skip
MBPP = {"task_id": 2, "text": "Return x.", "code": "def f(x):\n    return x\n", "test_list": ["assert f(1) == 1"],
        "test_setup_code": "", "challenge_test_list": [], "test_imports": ["import math"]}  # fmt: skip
SAMPLE = {"task_id": "T/0", "completion": "    return x\n"}
ROWS = [
    json.dumps(HUMAN_EVAL).encode() + b"\n" + json.dumps(MBPP).encode() + b"\n", json.dumps([HUMAN_EVAL, MBPP], indent=1).encode(),
    json.dumps(SAMPLE).encode() + b"\n" + json.dumps(SAMPLE | {"task_id": 2}).encode() + b"\n", json.dumps([SAMPLE]).encode(),
    gzip.compress(json.dumps(HUMAN_EVAL).encode(), mtime=0), gzip.compress(json.dumps(SAMPLE).encode(), mtime=0),
]  # fmt: skip
PROBLEMS = "\n".join(map(json.dumps, (HUMAN_EVAL, MBPP)))


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (
            "a.py",
            "b.js",
            "LICENSE",
            "../up.py",
            "/root.py",
            "__MACOSX/._a.py",
            "deep/" * 9 + "x.py",
        ):
            archive.writestr(zipfile.ZipInfo(f"top/{name}"), SOURCES.get(name, PYTHON))
    return stream.getvalue()


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Draw a seed and change it in up to six places: cut, repeat, insert, overwrite or splice."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["insert", "insert", "cut", "repeat", "byte", "splice", "end"]))
        at = draw(st.integers(0, len(data)))
        to = min(len(data), at + draw(st.sampled_from([1, 2, 5, 20, 100, 1000])))
        if kind == "insert":
            data = data[:at] + draw(st.sampled_from(PIECES)) + data[at:]
        elif kind == "cut":
            data = data[:at] + data[to:]
        elif kind == "repeat":
            data = data[:to] + data[at:to] * draw(st.sampled_from([1, 2, 30])) + data[to:]
        elif kind == "byte":
            data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
        elif kind == "splice":
            other = draw(st.sampled_from(seeds))
            data = data[:at] + other[draw(st.integers(0, len(other))) :]
        else:
            data = data[:at]
    return data[:200_000]


def text_of(data: bytes) -> str:
    """Return the text that a reader would be given: decoded, or with half characters as JSON may hold them."""
    return data.decode("utf-8", "surrogateescape")


def values_like(value: Any) -> st.SearchStrategy[Any]:
    """Draw a value for a field: its own, or one of another type."""
    return st.one_of(
        st.just(value),
        st.sampled_from([None, 1, 1.5, True, "", "x", [], [1], {}, {"a": []}, ["\0"], "\ud800"]),
    )


def assert_told(message: str) -> None:
    assert len(message.split()) > 3, message


@MUTATED
@given(
    st.sampled_from(sorted(SOURCES)).flatmap(
        lambda name: st.tuples(st.just(name), mutated([SOURCES[name].encode(), PYTHON.encode()]))
    )
)
def test_corpus_of_a_mutated_file(named: tuple[str, bytes]) -> None:
    name, data = named
    with TemporaryDirectory() as folder:
        (Path(folder) / "good.py").write_text("def good(value):\n    return value + 1\n" * 3)
        (Path(folder) / name).write_bytes(data)
        chosen = CorpusSettings(min_file_bytes=1, notebooks=True)
        corpus = load_corpus(f"path:{folder}", chosen)
        assert {file.path for file in (*corpus.files, *corpus.rejected)} >= {"good.py"} - {
            name
        } or ".git" in name
        functions = extract_functions(corpus)
        for lost in functions_left_out(corpus):
            assert lost.reason
        for text in corpus_warnings(corpus):
            assert text is not None
        texts = {file.path: file.text for file in corpus.files}
        for function in functions:
            json.dumps(function.docstring, ensure_ascii=False).encode()
            assert function.path in texts
            if function.path.endswith((".py", ".ipynb")):
                assert parse(function.code) is not None


@MUTATED
@given(mutated([zipped()]))
def test_corpus_of_a_mutated_archive(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "x.zip"
        file.write_bytes(data)
        try:
            corpus = load_corpus(
                f"zip:{file}", CorpusSettings(min_file_bytes=1), cache_dir=Path(folder) / "cache"
            )
        except CorpusError as error:
            assert_told(str(error))
            return
        extract_functions(corpus)
        assert not (Path(folder) / "up.py").exists()


@MUTATED
@given(mutated([PYTHON.encode(), PYTHON.split('"""')[3].encode()]))
def test_docstrings_of_mutated_text(data: bytes) -> None:
    text = text_of(data)
    facts = read_docstring(text)
    assert "\n" not in facts.summary
    described_names(text)
    prose_lines(text)
    count_doctests(text)
    written = normal_docstring(facts, tuple(item.name for item in facts.parameters))
    code = "def f(x):\n    # said\n    return x\n"
    for docstring in filter(None, (written, text.strip())):
        whole = with_docstring(code, docstring)
        assert same_code(whole, code)
        assert docstring_of(whole)


@MUTATED
@given(mutated([text.encode() for text in ANSWERS]))
def test_code_of_a_mutated_answer(data: bytes) -> None:
    for text in (text_of(data), data.decode("utf-8", "replace")):
        code = extract_code(text, entry_point="f")
        assert code is None or parse(code) is not None
        if code is not None:
            defines(code, "f")
        assert "\n" not in answered_line(text)
        for block in fenced_blocks(text):
            assert 0 <= block.first_line <= block.last_line


FIELDS = st.one_of(*(
    st.fixed_dictionaries({name: values_like(value) for name, value in row.items()}) for row in (HUMAN_EVAL, MBPP, SAMPLE)
))  # fmt: skip
WRONG_ROWS = st.lists(st.one_of(FIELDS, values_like([])), min_size=1, max_size=3).map(
    lambda rows: "\n".join(json.dumps(row) for row in rows).encode()
)


@MUTATED
@given(st.one_of(mutated(ROWS), WRONG_ROWS))
def test_score_files_of_mutated_rows(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        file, problems = Path(folder) / "rows.jsonl", Path(folder) / "problems.jsonl"
        file.write_bytes(data)
        problems.write_text(PROBLEMS)
        readers: tuple[Callable[[], Any], ...] = (
            lambda: read_problems(file), lambda: read_samples(file, read_problems(problems)),
        )  # fmt: skip
        for read in readers:
            try:
                assert read()
            except ScoreError as error:
                assert_told(str(error))


def test_the_counts_are_what_make_fuzz_promises() -> None:
    made = [name for name in globals() if name.startswith("test_") and "mutated" in name]
    assert len(made) == READERS
    assert EXAMPLES >= 60
