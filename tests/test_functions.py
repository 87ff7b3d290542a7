"""Functions are cut from their file exactly as written, and docstrings are cut out exactly."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap

import pytest

from helpers.code.functions import (
    count_doctests,
    extract_functions,
    functions_of_file,
    module_name,
    without_docstring,
)
from helpers.data.corpus import load_corpus
from helpers.records import Corpus, Function, RejectedFile, SourceFile
from helpers.settings import CorpusSettings


def functions_in(text: str) -> list[Function]:
    found = functions_of_file(SourceFile("pkg/a.py", text, "", len(text)), "pkg.a")
    for function in found:
        check_against_tree(function)
    return found


def only(text: str) -> Function:
    (function,) = functions_in(text)
    return function


def check_against_tree(function: Function) -> None:
    """Return whether `code` equals `source` without the docstring, compared as syntax trees."""
    node = ast.parse(function.source).body[0]
    docstring = ast.get_docstring(node, clean=False)
    assert inspect.cleandoc(docstring or "") == function.docstring
    if docstring is not None:
        node.body = node.body[1:] or [ast.Pass()]
    assert ast.dump(ast.parse(function.code)) == ast.dump(ast.Module([node], []))


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ('def f(x):\n    """Doc."""\n    return x\n', "def f(x):\n    return x\n"),
        ('def f(x):\n    """Doc.\n\n    More.\n    """\n\n    return x\n', "def f(x):\n\n    return x\n"),
        ("def f(x):\n    'Doc.'  # why\n    return x\n", "def f(x):\n    # why\n    return x\n"),
        ('def f(x):\n    # first\n    """Doc."""\n    return x\n', "def f(x):\n    # first\n    return x\n"),
        ('def f(x):\n    r"""\\d"""\n    return x\n', "def f(x):\n    return x\n"),
        ('def f(x):\n    u"""Doc."""\n    return x\n', "def f(x):\n    return x\n"),
        ('def f(x): "Doc."; return x\n', "def f(x): return x\n"),
        ('def f(x): """Doc."""\n', "def f(x): pass\n"),
        ('def é(ü): "é."; return ü\n', "def é(ü): return ü\n"),
        ('def f(x):\n    """Doc."""\n', "def f(x):\n    pass\n"),
        ('def f(x):\n    """Doc."""  # why', "def f(x):\n    pass  # why"),
        ('def f(x):\n    """Doc."""; y = 1; return y\n', "def f(x):\n    y = 1; return y\n"),
        ('def f(x):\n    """Doc."""   \n    return x\n', "def f(x):\n    return x\n"),
        ('def f(x):\n\t"""Doc."""\n\treturn x\n', "def f(x):\n\treturn x\n"),
        ('def f(x):\r\n    """Doc.\r\n    """\r\n    return x\r\n', "def f(x):\r\n    return x\r\n"),
        ('def f(x):\n    ("Do"\n     "c.")\n    return x\n', "def f(x):\n    return x\n"),
        ('def f(é):\n    """é."""; return é\n', "def f(é):\n    return é\n"),
        ('@d  # c\n@e(1)\ndef f(\n    x,\n):\n    """Doc."""\n    pass\n', "@d  # c\n@e(1)\ndef f(\n    x,\n):\n    pass\n"),
        ("def f(x):\n    return x\n", "def f(x):\n    return x\n"),
        ('def f(x):\n    b"""no docstring"""\n', 'def f(x):\n    b"""no docstring"""\n'),
        ('def f(x):\n    f"""no docstring"""\n', 'def f(x):\n    f"""no docstring"""\n'),
    ],
)  # fmt: skip
def test_only_the_docstring_is_cut(source, code):
    assert without_docstring(source) == code
    assert only(source).code == code


def test_cutting_a_docstring_after_a_continued_line_keeps_the_meaning():
    check_against_tree(only('def f(x):\n    """Doc.""" \\\n    ; return x\n'))
    check_against_tree(only('def f(x): \\\n    """Doc."""\n'))


def test_source_that_is_not_one_function_is_refused():
    for text in ("x = 1\n", "def f(:\n", ""):
        with pytest.raises(ValueError, match="not the source of one function"):
            without_docstring(text)


def test_source_is_the_file_at_the_left_margin():
    text = textwrap.dedent('''\
        import os

        class A:
            @property
            # about the getter
            def size(self):  # one
                """Size.

                    indented more
                """
                # comment
                return (1,
                    2)

            async def run(self, *args, key=None, **rest): return args
        ''')
    size, run = functions_in(text)
    assert size.source == textwrap.dedent("".join(text.splitlines(keepends=True)[3:13]))
    assert (size.start_line, size.end_line, size.qualname) == (4, 13, "A.size")
    assert (size.is_method, size.is_nested, size.is_async) == (True, False, False)
    assert size.docstring == "Size.\n\nindented more"  # as inspect.cleandoc has it
    assert (run.is_async, run.parameters) == (True, ("self", "args", "key", "rest"))
    assert run.source == "async def run(self, *args, key=None, **rest): return args\n"


def test_strings_keep_their_value_when_moved_to_the_margin():
    text = textwrap.dedent('''\
        class A:
            def query(self):
                """Doc.

                More.
                """
                sql = """
                select 1
            """
                both = ("one"
                        "two")
                return sql, f"""
                {both}
                """
        ''')
    query = only(text)
    namespace: dict = {}
    exec(text, namespace)
    expected = namespace["A"]().query()
    exec(query.source, namespace)
    assert namespace["query"](None) == expected
    exec(query.code, namespace)
    assert namespace["query"](None) == expected
    assert '\n    both = ("one"\n            "two")\n' in query.source
    assert query.docstring == "Doc.\n\nMore."


def test_string_at_the_margin_inside_an_indented_function():
    text = 'class A:\n    def f(self):\n        return """\nleft\n  two\n"""\n'
    assert ast.literal_eval(ast.parse(only(text).source).body[0].body[0].value) == "\nleft\n  two\n"


def test_tabs_odd_line_ends_and_form_feeds():
    assert only("class A:\n\tdef f(self):\n\t\treturn 1\n").source == "def f(self):\n\treturn 1\n"
    assert (
        only("class A:\r\n    def f(self):\r\n        return 1\r\n").source
        == "def f(self):\r\n    return 1\r\n"
    )
    assert only("class A:\r    def f(self):\r        return 1\r").source == "def f(self):\r    return 1\r"
    text = "x = 1\n\x0c\ndef f():\n    return '\u2028\x0b'\n"
    assert only(text).source == "def f():\n    return '\u2028\x0b'\n"


def test_comment_at_the_margin_and_continued_arguments():
    text = "class A:\n    def f(self, a,\n  b):\n# margin\n        return [\n    a, b]\n"
    assert only(text).source == "def f(self, a,\n  b):\n# margin\n    return [\na, b]\n"


def test_qualnames_scopes_and_repeated_definitions():
    text = textwrap.dedent("""\
        try:
            def f(): return 1
        except ImportError:
            def f(): return 2
        else:
            with open("x"):
                def g(): pass
        def outer():
            def inner():
                class Local:
                    def method(self): pass
            return inner
        class A:
            if True:
                @property
                def p(self): return 1
                @p.setter
                def p(self, value): pass
            class B:
                def f(self): pass
        match 1:
            case 1:
                def h(): pass
        """)
    found = {f.id.removeprefix("pkg/a.py::"): f for f in functions_in(text)}
    assert list(found) == [
        "f", "f#2", "g", "outer", "outer.inner", "outer.inner.Local.method", "A.p", "A.p#2", "A.B.f", "h",
    ]  # fmt: skip
    assert [name for name, f in found.items() if f.is_nested] == ["outer.inner", "outer.inner.Local.method"]
    assert [name for name, f in found.items() if f.is_method] == [
        "outer.inner.Local.method", "A.p", "A.p#2", "A.B.f",
    ]  # fmt: skip
    assert found["A.p#2"].qualname == "A.p"
    assert found["A.p#2"].source.startswith("@p.setter\ndef p")
    assert found["A.p"].start_line == 15


def test_long_elif_chains_are_walked():
    text = "if x == 0:\n    pass\n" + "".join(
        f"elif x == {n}:\n    def f{n}(): pass\n" for n in range(1, 900)
    )
    assert len(functions_in(text)) == 899


def test_parameters_of_every_kind():
    assert only("def f(a, /, b, *c, d=1, **e): pass\n").parameters == ("a", "b", "c", "d", "e")
    assert only("def f(*, d): pass\n").parameters == ("d",)


@pytest.mark.parametrize(
    ("docstring", "count"),
    [
        ("", 0),
        (">>> 1\n1", 1),
        ("Text.\n\n    >>> x = 1\n    >>> for i in x:\n    ...     i\n    1\n", 2),
        ("Shell: >>> not at the start", 0),
        (">>>missing space", 0),
        ("Text.\n    >>> 1\n  1\n", 0),
    ],
)
def test_doctests_are_counted_as_doctest_counts_them(docstring, count):
    assert count_doctests(docstring) == count


@pytest.mark.parametrize(
    ("path", "import_name", "name"),
    [
        ("algorithms/dag.py", "networkx", "networkx.algorithms.dag"),
        ("__init__.py", "networkx", "networkx"),
        ("algorithms/__init__.py", "networkx", "networkx.algorithms"),
        ("six.py", "", "six"),
        ("src/pkg/a.py", "", "pkg.a"),
        ("src/pkg/sub/a.py", "", "pkg.sub.a"),
        ("src/pkg/__init__.py", "", "pkg"),
        ("src/loose/a.py", "", "loose.a"),
        ("scripts/a.py", "", "scripts.a"),
        ("pkg2/inner/a.py", "", "pkg2.inner.a"),
        ("a.py", "one.two", "one.two.a"),
    ],
)
def test_module_names(path, import_name, name):
    assert module_name(path, import_name, frozenset({"src/pkg", "src/pkg/sub", "pkg2", "pkg2/inner"})) == name


def test_packages_are_recognised_from_rejected_files_too():
    text = "def f():\n    return 1\n"
    corpus = Corpus(
        "path:x", "x", "", "", "", "", (SourceFile("lib/pkg/a.py", text, "", 1),),
        (RejectedFile("lib/pkg/__init__.py", "too small"),), "",
    )  # fmt: skip
    (function,) = extract_functions(corpus)
    assert (function.id, function.module) == ("lib/pkg/a.py::f", "pkg.a")


@pytest.mark.parametrize("spec", ["installed:networkx", "installed:jinja2", "installed:argparse"])
def test_real_code_round_trips(spec, request):
    if spec == "installed:networkx":
        whole = request.getfixturevalue("networkx_corpus")
        corpus = dataclasses.replace(whole, files=whole.files[:60])
    else:
        corpus = load_corpus(spec, CorpusSettings(max_files=60))
    text = {file.path: file.text for file in corpus.files}
    functions = extract_functions(corpus)
    assert len({function.id for function in functions}) == len(functions) > 50
    for function in functions:
        check_against_tree(function)
        lines = text[function.path].splitlines(keepends=True)[function.start_line - 1 : function.end_line]
        assert [line.strip() for line in lines] == [line.strip() for line in function.source.splitlines()]


def test_half_a_character_in_a_docstring_is_written_out() -> None:
    text = 'def f():\n    """Return \\ud800 half."""\n    return 1\n'
    (function,) = functions_of_file(SourceFile("a.py", text, "", len(text)), "a")
    assert function.docstring == "Return \\ud800 half."
    function.docstring.encode()
