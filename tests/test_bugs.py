import ast

import pytest

from helpers.code.docstrings import with_docstring
from helpers.code.edits import SourceText
from helpers.code.functions import without_docstring
from helpers.data.tasks.bugs import OPERATORS, BugError, make_bugs
from helpers.data.tasks.worsening import worsened_versions

SOURCE = '''@decorator(1, 2)
def pick(items, key, *, limit=3, strict=True):
    """Pick 1 of 2 items.

    >>> pick([1], 2)  # a doctest is never edited
    """
    best = []   # ünïcode comment, odd   spacing
    for i, item in enumerate(items):
        if not item:
            continue
        if item < limit and key in item:
            best.append(max(item, key))
        else:
            best.extend(range(limit))
        limit += 2
    if strict and len(best) != 0.5:
        return best[0] - best[-1]
    while best:
        break
    best.sort()
    return best
'''


def test_there_are_at_least_twelve_operators_and_this_function_meets_them_all():
    assert len(OPERATORS) >= 12
    assert {bug.operator for bug in make_bugs(SOURCE)} == set(OPERATORS)


def test_every_bug_parses_differs_and_leaves_the_rest_of_the_text_alone():
    bugs = make_bugs(SOURCE)
    for bug in bugs:
        assert ast.dump(ast.parse(bug.source)) != ast.dump(ast.parse(SOURCE))
        # undoing the one replacement at its place gives the original back, byte for byte
        places = [i for i in range(len(bug.source) + 1) if bug.source.startswith(bug.replacement, i)]
        undone = {bug.source[:i] + bug.original + bug.source[i + len(bug.replacement) :] for i in places}
        assert SOURCE in undone
    assert len({bug.source for bug in bugs}) == len(bugs)


def test_docstring_decorators_and_comments_survive():
    head = SOURCE[: SOURCE.index("    best = []")]
    for bug in make_bugs(SOURCE):
        if bug.operator != "wrong_default":
            assert bug.source.startswith(head), bug
        assert ">>> pick([1], 2)  # a doctest is never edited" in bug.source
        assert "ünïcode comment, odd   spacing" in bug.source


@pytest.mark.parametrize(
    ("source", "operator", "expected"),
    [
        ("def f(a, b):\n    return a < b\n", "flip_comparison", "def f(a, b):\n    return a > b\n"),
        ("def f(a, b):\n    return a < b\n", "wrong_boundary", "def f(a, b):\n    return a <= b\n"),
        ("def f(a, b):\n    return a not  in b\n", "flip_comparison", "def f(a, b):\n    return a in b\n"),
        ("def f(a):\n    return a[-1]\n", "wrong_index", "def f(a):\n    return a[0]\n"),
        ("def f(a):\n    return g(a,  1)\n", "swapped_arguments", "def f(a):\n    return g(1,  a)\n"),
        ("def f(a):\n    return not a\n", "dropped_negation", "def f(a):\n    return a\n"),
        ("def f(a=True):\n    return a\n", "wrong_default", "def f(a=False):\n    return a\n"),
        ("def f(a):\n    return a\n", "lost_return", "def f(a):\n    a\n"),
        (
            "def f(a):\n    if a:\n        b = 1\n    else:\n        b = 2\n    return b\n",
            "dropped_branch",
            "def f(a):\n    if a:\n        b = 1\n    return b\n",
        ),
    ],
)
def test_hand_made_cases(source, operator, expected):
    assert [bug.source for bug in make_bugs(source, operators=(operator,))] == [expected]


def test_line_points_at_the_fault():
    for bug in make_bugs(SOURCE, operators=("flip_comparison", "wrong_call", "wrong_update")):
        assert bug.replacement.strip() in bug.source.splitlines()[bug.line - 1]


def test_same_source_same_bugs_in_the_same_order():
    assert make_bugs(SOURCE) == make_bugs(SOURCE)


def test_bad_input_is_named():
    with pytest.raises(BugError, match="does not parse"):
        make_bugs("def f(:\n")
    with pytest.raises(BugError, match="no function"):
        make_bugs("x = 1\n")
    with pytest.raises(BugError, match="unknown bug operators"):
        make_bugs(SOURCE, operators=("nope",))


def test_spans_count_bytes_not_characters():
    text = SourceText("def f(é):\n    return 'ü' + é\n")
    name = next(n for n in text.nodes if isinstance(n, ast.Name))
    assert text.code(name) == "é"


def test_a_wrong_variable_has_a_value_by_then() -> None:
    source = "def f(a, b):\n    c = a\n    d = [x for x in b if x != c]\n    return d\n"
    bugs = make_bugs(source, operators=("wrong_variable",))
    assert {(bug.line, bug.original, bug.replacement) for bug in bugs} == {
        (2, "a", "b"), (3, "b", "c"), (3, "c", "a"), (4, "d", "a"),
    }  # fmt: skip
    assert make_bugs("def f(a):\n    return [b for b in a]\n", operators=("wrong_variable",)) == ()


# What libcst 1.9 drops, changes or refuses though Python takes it; our edits cut bytes at places of the tree.
ODD = (
    "def f(a, b = 3 ,*, c : int=4):\n    try :\n        if not a and b < 2:\n            a += 1\n"
    "\x0c    except (KeyError) :\n        class A(B, metaclass=M, *d): x = 1 ;\n"
    "    t = 'ü\u2028é\x85' ; u = [  a,b , ]\n    # a\x0ccomment  \t\n    if a == 1 : return max(a,  b)\n"
    "    else : b = not b\n    return a <b\\\n        + 1\n"
)
KEPT = ("\x0c    except (KeyError) :", "class A(B, metaclass=M, *d):", "'ü\u2028é\x85' ;", "# a\x0ccomment  \t\n", " ,*, c : int=")  # fmt: skip


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_odd_but_valid_text_outside_an_edit_stays_byte_for_byte(ends) -> None:
    source = ODD.replace("\n", ends)
    ast.parse(source)
    bugs = make_bugs(source)
    assert len({bug.operator for bug in bugs}) > 5
    edited = [bug.source for bug in bugs] + [one.source for one in worsened_versions(source)]
    edited.append(with_docstring(without_docstring(source), "Say so."))
    for text in edited:
        ast.parse(text)
        assert all(kept.replace("\n", ends) in text for kept in KEPT), text
        assert text != source
    for bug in bugs:
        places = [i for i in range(len(bug.source) + 1) if bug.source.startswith(bug.replacement, i)]
        assert source in {
            bug.source[:i] + bug.original + bug.source[i + len(bug.replacement) :] for i in places
        }
