"""Notebooks as source: their Python cells are taken when asked for, and every other one is listed."""

from __future__ import annotations

import json

import pytest

from helpers.code.functions import extract_functions
from helpers.data.corpus import corpus_warnings, load_corpus
from helpers.data.notebooks import notebook_code
from helpers.settings import CorpusSettings

TAKEN = CorpusSettings(min_file_bytes=1, notebooks=True)


def notebook(*cells: str | tuple[str, str], language: str = "python", output: str = "") -> bytes:
    held = [("code", cell) if isinstance(cell, str) else cell for cell in cells]
    return json.dumps({
        "cells": [{"cell_type": kind, "source": text.splitlines(keepends=True), "outputs": [output]}
                  for kind, text in held],
        "metadata": {"language_info": {"name": language}}, "nbformat": 4, "nbformat_minor": 5,
    }).encode()  # fmt: skip


def test_code_cells_are_joined_and_what_is_ipythons_own_becomes_a_comment() -> None:
    code = notebook_code(notebook(
        ("markdown", "# Prose"),
        "%matplotlib inline\nimport os\n!pip install x\nfiles = !ls\nos.path?",
        "%%time\ndef f(x):\n    %timeit x\n    return x % 2",
        "%%bash\nls | wc",
        "TEXT = '''\n%not a magic\n'''",
        "",
    ))  # fmt: skip
    assert code == (
        "# %matplotlib inline\nimport os\n# !pip install x\n# files = !ls\n# os.path?\n\n"
        "# %%time\ndef f(x):\n    pass  # %timeit x\n    return x % 2\n\n"
        "# %%bash\n# ls | wc\n\n"
        "TEXT = '''\n%not a magic\n'''\n"
    )


def test_notebooks_are_taken_when_asked_for(tmp_path) -> None:
    (tmp_path / "01-intro.ipynb").write_bytes(
        notebook("def double(x):\n    return 2 * x", output="x" * 300_000)
    )
    corpus = load_corpus(f"path:{tmp_path}", TAKEN)
    (file,) = corpus.files
    assert (file.path, file.language) == ("01-intro.ipynb", "python")
    assert file.text == "def double(x):\n    return 2 * x\n"
    assert [f.id for f in extract_functions(corpus)] == ["01-intro.ipynb::double"]
    left_out = load_corpus(f"path:{tmp_path}", CorpusSettings(min_file_bytes=1))
    assert [(f.path, f.reason) for f in left_out.rejected] == [("01-intro.ipynb", "notebook")]
    assert "--set corpus.notebooks=true" in corpus_warnings(left_out)[0]
    assert "corpus.include" not in corpus_warnings(left_out)[0]  # which would not help


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"{", "notebook", "not JSON"),
        (b"[]", "notebook", "format 4"),
        (b'{"worksheets": []}', "notebook", "format 4"),
        (notebook("x <- 1", language="R"), "notebook", "its language is r"),
        (notebook("def f(:\n"), "does not parse", "line 1"),
        (notebook("x = 1\n"), "no function or class", ""),
        (notebook("def f():\n    return 1\n" * 20_000), "too large", "bytes of code"),
    ],
)
def test_a_notebook_that_cannot_be_used_is_listed_with_the_reason(tmp_path, data, reason, detail) -> None:
    (tmp_path / "a.ipynb").write_bytes(data)
    (found,) = load_corpus(f"path:{tmp_path}", TAKEN).rejected
    assert found.reason == reason
    assert detail in found.detail


def test_a_copy_that_jupyter_keeps_is_not_looked_at(tmp_path) -> None:
    for place in ("a.ipynb", ".ipynb_checkpoints/a-checkpoint.ipynb"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(notebook("def f():\n    return 1"))
    corpus = load_corpus(f"path:{tmp_path}", TAKEN)
    assert ([f.path for f in corpus.files], corpus.rejected) == (["a.ipynb"], ())


def test_half_a_character_in_a_cell_is_code_that_can_be_written() -> None:
    cell = {"cell_type": "code", "source": "x = '\ud800'\n"}
    code = notebook_code(json.dumps({"cells": [cell], "nbformat": 4}).encode())
    assert code == "x = '\\ud800'\n"
    compile(code.encode(), "x", "exec")
