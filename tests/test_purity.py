"""Which functions of a repository may be run, and that none of its code runs outside the sandbox."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from helpers.code.functions import extract_functions
from helpers.data.corpus import load_corpus
from helpers.data.tasks.ground_truth import verify_functions
from helpers.data.tasks.purity import IMPORTS, NOT_PLAIN, OUTSIDE, SECRET, PurityRule
from helpers.data.tasks.suite_cases import TestSuite
from helpers.settings import CorpusSettings

ANY_SIZE = CorpusSettings(min_file_bytes=1)
HEAD = """\
import os
import os.path as p
import subprocess as sp
import sys
from pathlib import Path
from shutil import rmtree
from urllib.parse import urlparse
import pandas
"""


def reason(folder: Path, body: str) -> str:
    (folder / "a.py").write_text(f"{HEAD}\ndef f(x, open_=None):\n" + textwrap.indent(body, "    ") + "\n")
    corpus = load_corpus(f"path:{folder}", ANY_SIZE)
    functions = extract_functions(corpus)
    (function,) = [f for f in functions if f.qualname == "f"]
    return PurityRule(corpus, functions).reason(function)


@pytest.mark.parametrize(
    "body",
    [
        "return open(x).read()",
        "return os.remove(x)",
        "return os.environ['HOME']",
        "return p.exists(x)",
        "return sp.run(x)",
        "rmtree(x)",
        "import socket\nreturn socket.socket()",
        "from urllib.request import urlopen\nreturn urlopen(x)",
        "global count\ncount = x",
        "return eval(x)",
        "return Path(x).read_text()",
        "sys.exit(x)",
        "return (lambda: __import__('os'))()",
        "return list(map(open, x))",
    ],
)
def test_what_reaches_outside_is_not_run(tmp_path, body) -> None:
    assert reason(tmp_path, body) == OUTSIDE


@pytest.mark.parametrize(
    "body",
    [
        "return os.path.join(x, 'a') + p.basename(x)",
        "return urlparse(x).path",
        "open = x\nreturn open + 1",
        "return sys.maxsize - x",
        "return Path(x).suffix",
        "return x.run(x.remove)",
    ],
)
def test_what_computes_on_its_arguments_may_run(tmp_path, body) -> None:
    assert reason(tmp_path, body) == ""


def test_methods_secrets_and_foreign_imports_have_reasons_of_their_own(tmp_path) -> None:
    assert reason(tmp_path, "import pandas\nreturn pandas") == IMPORTS
    assert reason(tmp_path, "password = 'tr0ub4dor&3'\nreturn x") == SECRET
    assert reason(tmp_path, "return x\nclass A:\n    def f(self): pass\n") == ""
    (tmp_path / "b.py").write_text("class A:\n    def g(self):\n        return 1\n")
    corpus = load_corpus(f"path:{tmp_path}", ANY_SIZE)
    functions = extract_functions(corpus)
    method = next(f for f in functions if f.name == "g")
    assert PurityRule(corpus, functions).reason(method) == NOT_PLAIN


MARKING = """\
from pathlib import Path

try:
    Path({mark!r}).write_text("imported")
except OSError:
    pass


def tripled(n):
    \"\"\"Return three times the value and one.

    >>> tripled(2)
    7
    >>> tripled(5)
    16
    \"\"\"
    return n * 3 + 1


def erase(path):
    \"\"\"Remove a file, whatever it is.

    >>> erase("a")
    \"\"\"
    import os
    os.remove(path)
"""


@pytest.mark.parametrize("package", ["", "thing/"])
def test_import_and_functions_run_in_the_sandbox_alone(tmp_path, package) -> None:
    mark = tmp_path / "outside" / "mark"
    mark.parent.mkdir()
    folder = tmp_path / "repo" / package
    folder.mkdir(parents=True)
    (folder / "tools.py").write_text(MARKING.format(mark=str(mark)))
    (folder / "explosive.py").write_text(
        f"open({str(mark)!r}, 'w')\nraise SystemExit('imported')\ndef f(n): return n\n"
    )
    if package:
        (folder / "__init__.py").write_text("")
    corpus = load_corpus(f"path:{folder}", ANY_SIZE)
    assert corpus.import_name == package.rstrip("/")
    functions = extract_functions(corpus)
    suite = TestSuite(corpus, functions)
    before = set(sys.modules)
    truths, counts, ran, _ = verify_functions(functions, corpus, wanted=5, seed=1, workers=1, suite=suite)
    assert [truth.function.name for truth in truths] == ["tripled"], counts
    assert {name.rpartition("::")[2] for name in ran} == {"tripled", "f"}
    assert counts[OUTSIDE] == 1
    assert not {"tools", "explosive", "thing"} & (set(sys.modules) - before)
    assert not mark.exists()
