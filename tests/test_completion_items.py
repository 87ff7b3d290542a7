"""Places for completion: only in code, drawn by the rules, marked by what the training side holds."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from dataclasses import replace

import pytest
import test_languages

from helpers.code.definitions import defined_names
from helpers.code.first_statement import first_statement
from helpers.code.languages import language_of
from helpers.code.literals import COMMENT, lexemes
from helpers.code.statements import reserved_words, statements_of, syntax_errors
from helpers.data.completion_items import KINDS, LEAST_LEFT, MOST, completion_items, names_in
from helpers.records import SourceFile

PYTHON = '''\
"""A module."""
import os
from tools import (
    grind,
)

LIMIT = 3  # a comment keeps this line out


def first(beans, limit=LIMIT):
    """Say what it does.

    return beans
    """
    total = 0
    for bean in beans:
        total += grind(bean)
        if total > limit:
            # nothing here
            break
    else:
        total = -1
    return total


class Mill:
    @property
    def size(self):
        return self.cups

    def fill(self, cups):
        self.cups = max(
            cups,
            first([cups]),
        )
        ]TAIL
'''.replace("        ]TAIL\n", "        return self\n")


def file_of(text: str, path: str = "pkg/mill.py") -> SourceFile:
    data = text.encode()
    return SourceFile(path, text, hashlib.sha256(data).hexdigest(), len(data), language_of(path))


def test_statements_have_their_lines_for_themselves():
    code = "import a\nx = 1; y = 2\nif x: y = 3\nif x:\n    y = 4\nelif y:\n    'text'\n    z = 5\n@a.b\ndef f():\n    return (\n        1\n    )\n"
    found = [(s.start, s.end, s.is_import) for s in statements_of(code, "python")]
    # not: the two on line 2, the second on line 3, the elif of line 6, the string of line 7
    assert found == [
        (1, 1, True), (3, 3, False), (4, 8, False), (5, 5, False), (8, 8, False), (9, 13, False), (11, 13, False),
    ]  # fmt: skip


def test_a_file_that_does_not_parse_has_no_statement_and_one_error():
    assert statements_of("def f(:\n", "python") == []
    assert syntax_errors("def f(:\n", "python") == 1
    assert syntax_errors("x = 1\n", "python") == 0
    assert (
        syntax_errors("function f( {\n}\n", "javascript")
        > syntax_errors("function f() {\n}\n", "javascript")
        == 0
    )


@pytest.mark.parametrize("path", test_languages.FILES)
def test_statements_of_other_languages_are_whole_lines_in_order(path):
    text, language = test_languages.FILES[path], language_of(path)
    found = statements_of(text, language)
    lines = text.split("\n")
    assert found
    assert found == sorted(found, key=lambda s: (s.start, s.end))
    for statement in found:
        last = lines[statement.end - 1].strip()
        assert lines[statement.start - 1].strip()
        assert last.endswith((";", "}", ")")) or language in ("go", "rust"), last


def test_other_languages_know_imports_keywords_and_their_own_names():
    go = 'package a\n\nimport "fmt"\n\nfunc Sum(values []int, more int) int {\n\ttotal := more\n\treturn total\n}\n'
    assert [(s.start, s.end, s.is_import) for s in statements_of(go, "go")] == [
        (3, 3, True), (5, 8, False), (6, 6, False), (7, 7, False),
    ]  # fmt: skip
    assert {"func", "return", "package"} <= reserved_words("go")
    assert names_in('return total + fmt.Sum("no_name")', "go") == ["total", "fmt", "Sum"]
    assert {"Sum", "values", "more", "total"} <= defined_names(go, "go")
    assert "fmt" not in defined_names(go, "go")
    js = 'import {grind} from "mill";\nconst {size, cups} = grind(beans);\nclass Mill { fill(amount) { this.x = amount; } }\n'
    assert {"size", "cups", "Mill", "fill", "amount"} <= defined_names(js, "javascript")
    assert {"grind", "beans"}.isdisjoint(defined_names(js, "javascript"))


def test_names_that_a_python_file_defines():
    assert defined_names(PYTHON, "python") == {
        "LIMIT", "first", "beans", "limit", "total", "bean", "Mill", "size", "self", "fill", "cups",
    }  # fmt: skip


def test_every_place_is_in_code_and_says_where_it_is():
    files = [file_of(PYTHON), file_of(PYTHON.replace("\n", "\r\n"), "pkg/windows.py")]
    items = completion_items(files, [], count=60, seed=1)
    texts = {file.path: file.text for file in files}
    assert {item.kind for item in items} == set(KINDS)
    assert max(Counter((item.path, item.kind) for item in items).values()) <= MOST
    for item in items:
        text = texts[item.path]
        left = text[: item.start]
        assert text[item.start : item.end] == item.target
        assert item.line == left.replace("\r\n", "\n").count("\n") + 1
        assert sum(1 for line in left.splitlines() if line.strip()) >= LEAST_LEFT
        assert not any(x.kind == COMMENT for x in lexemes(item.target, "python"))
        assert "import" not in item.target
        assert '"""' not in item.target
        assert "\r" not in item.target if item.kind != "block" else 2 <= len(item.target.splitlines()) <= 8
        assert (left[-1] == "\n") == (item.kind != "rest_of_line")
        if item.kind == "rest_of_line":
            assert text[item.end] in "\r\n"
            assert names_in(item.target, "python") or any(c.isdigit() or c in "\"'" for c in item.target)
    spans = sorted((item.path, item.start, item.end) for item in items)
    assert all(a[0] != b[0] or a[2] <= b[1] for a, b in itertools.pairwise(spans))


def test_nothing_is_drawn_from_a_twin_and_the_draw_follows_the_seed_alone():
    files = [file_of(PYTHON, f"pkg/m{number}.py") for number in range(6)]
    inside_first = (9, 22)
    over = {file.path: [inside_first] for file in files}
    kept = completion_items(files, [], count=30, seed=1, passed_over=over)
    assert kept
    assert all(item.line > inside_first[1] for item in kept)
    once = completion_items(files, [], count=30, seed=1)
    assert once == completion_items(files[::-1], [], count=30, seed=1)
    assert once != completion_items(files, [], count=30, seed=2)
    assert Counter(item.kind for item in once) == dict.fromkeys(KINDS, 10)
    lines = {(item.path, item.line) for item in once if item.kind == "next_line"}
    assert len({path for path, _ in lines}) == 6  # every file gives one before any gives a second


def test_a_block_that_holds_a_twin_is_passed_over():
    text = "a = 1\nb = 2\nc = 3\nclass A:\n    def f(self):\n        return self.b\n"
    drawn = completion_items([file_of(text)], [], count=99, seed=0, passed_over={"pkg/mill.py": [(5, 6)]})
    assert {(item.line, item.kind) for item in drawn if item.line > 3} == {(4, "next_line")}


ODD = {  # language -> code after which a block holds an import, or its end cannot be told from its lines
    "a.py": "try:\n    import b\nexcept ImportError:\n    b = None\n",
    "a.js": "const b = require('b')\nfunction f() {\n  return require('c')\n}\n",
    "a.rs": "mod b;\nfn f() {\n    use b::c;\n}\n",
    "a.cpp": 'namespace {\n#include "b.h"\n}\n',
    "a.c": "static int\nf(int a)\n{\n  return a;\n}\n",
    "a.ts": "if (a) {\n  const b = await import('b')\n}\n",
}


@pytest.mark.parametrize("path", ODD)
def test_no_target_holds_an_import_and_every_block_ends_where_completions_are_cut(path):
    before = {"a.py": "a = 1\n", "a.rs": "const A: i32 = 1;\n"}.get(path, "int a = 1;\n")
    before = {"a.js": "let a = 1;\n", "a.ts": "let a = 1;\n"}.get(path, before)
    text = 3 * before + ODD[path] + before
    drawn = completion_items([file_of(text, path)], [], count=99, seed=0)
    words = ("import", "require", "use ", "mod ", "#include")
    assert not any(word in item.target for item in drawn for word in words)
    for item in drawn:
        if item.kind == "block":
            assert first_statement(text[item.start :], item.language) == item.target
    assert any(item.line > 3 + ODD[path].count("\n") for item in drawn)  # the line after it is a place


def test_names_of_every_alphabet_are_names():
    text = "число = 1\nразмер = 2\nитог = 3\nсумма = сложить(число, größe)\n"
    assert names_in("сумма = сложить(число, größe, μ2)", "python") == [
        "сумма",
        "сложить",
        "число",
        "größe",
        "μ2",
    ]
    drawn = completion_items([file_of(text)], [], count=9, seed=0, own_names={"сложить"})
    assert {item.kind: item.cross_file for item in drawn if item.line == 4}["next_line"]
    assert names_in("naïve.été(1)", "go") == ["naïve", "été"]


@pytest.mark.parametrize(("path", "quotes"), [("a.py", '"""'), ("a.js", "`")])
def test_no_target_opens_a_string_over_several_lines(path, quotes):
    text = f"a = 1\nb = 2\nc = 3\nd = {quotes}\n  text\n{quotes}\ne = a + b\n"
    assert {item.line for item in completion_items([file_of(text, path)], [], count=9, seed=0)} == {7}


def test_fewer_places_than_asked_are_no_error():
    assert completion_items([file_of("x = 1\n")], [], count=9, seed=0) == []
    assert len(completion_items([file_of(PYTHON)], [], count=999, seed=0)) <= MOST * len(KINDS)


def test_seen_means_word_for_word_and_cross_file_means_named_elsewhere():
    text = "a = 1\nb = 2\nc = 3\ntotal = grind(a, b)\nother = roast(a, total)\n"
    training = file_of(
        "def f(a, b):\n    total =  grind(a,\n        b)\n    another = roast(a, total)\n", "pkg/t.py"
    )
    items = completion_items(
        [file_of(text)], [training], count=99, seed=3, own_names={"grind", "roast", "total"}
    )
    by_line = {item.line: item for item in items if item.kind == "next_line"}
    assert by_line[4].seen  # but for white space
    assert not by_line[5].seen  # only as the end of another word
    assert by_line[4].cross_file
    defines = file_of(text + "def grind(x, y):\n    return x\n")
    again = completion_items([defines], [], count=99, seed=3, own_names={"grind"})
    assert not any(item.cross_file for item in again if item.line == 4)
    assert replace(by_line[4], seen=False) != by_line[4]


@pytest.mark.parametrize("path", ["a.ts", "a.go", "a.rs", "a.java", "a.c", "a.cpp", "a.js"])
def test_places_in_other_languages(path):
    body = {
        "a.ts": "function f(x: number) {\n  const a = 1;\n  const b = g(a, x);\n  if (b > a) {\n    return b;\n  }\n  return a;\n}\n",
        "a.go": "package p\n\nfunc f(x int) int {\n\ta := 1\n\tb := g(a, x)\n\tif b > a {\n\t\treturn b\n\t}\n\treturn a\n}\n",
        "a.rs": "fn f(x: i32) -> i32 {\n    let a = 1;\n    let b = g(a, x);\n    if b > a {\n        return b;\n    }\n    return a;\n}\n",
        "a.java": "class A {\n  int f(int x) {\n    int a = 1;\n    int b = g(a, x);\n    if (b > a) {\n      return b;\n    }\n    return a;\n  }\n}\n",
        "a.c": "int f(int x) {\n  int a = 1;\n  int b = g(a, x);\n  if (b > a) {\n    return b;\n  }\n  return a;\n}\n",
    }  # fmt: skip
    body |= {"a.cpp": body["a.c"], "a.js": body["a.ts"].replace(": number", "")}
    items = completion_items([file_of(4 * body[path], path)], [], count=9, seed=0)
    blocks = [item.target for item in items if item.kind == "block"]
    assert Counter(item.kind for item in items) == dict.fromkeys(KINDS, 3)
    assert all(block.strip().startswith(("if", "func", "fn f", "int f", "class A")) for block in blocks)
    assert any("return b" in block for block in blocks)
