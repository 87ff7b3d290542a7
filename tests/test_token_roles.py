"""Token roles: which tokens are code, docstring, comment or own name."""

import math

import pytest
import tiny_models

from helpers.eval.file_scores import score_files
from helpers.eval.token_roles import ROLES, character_roles, own_names
from helpers.records import Function

SOURCE = '''"""Über graphs."""
# größe first
def add_edge(graph, weight=1):  # two ends
    r"""Add an edge.

    It stays.
    """
    text = "not a docstring"
    return add_edge
'''


def of_role(text, role, names=frozenset()):
    return "".join(c for c, r in zip(text, character_roles(text, names), strict=True) if r == role)


def test_roles_by_hand():
    assert of_role(SOURCE, "comment") == "# größe first# two ends"
    assert of_role(SOURCE, "docstring") == '"""Über graphs."""r"""Add an edge.\n\n    It stays.\n    """'
    assert of_role(SOURCE, "own_name", frozenset({"add_edge", "graph"})) == "add_edgegraphadd_edge"
    assert '"not a docstring"' in of_role(SOURCE, "code")


@pytest.mark.parametrize("text", ["def f(:", "x = '''", "", "\x00"])
def test_what_python_cannot_parse_is_code(text):
    assert set(character_roles(text)) <= {"code"}


def test_line_ends_of_every_kind_keep_positions():
    text = "# one\r\nx = 1  # two\r\n"
    assert of_role(text, "comment") == "# one# two"
    text = "x = 1\n\x0c\n# one\u2028still\ny = 2  # two\n"
    assert of_role(text, "comment") == "# one\u2028still# two"
    assert of_role("# one\rx = 1  # two\n", "comment") == "# one# two"


def test_the_roles_of_a_file_add_up_to_the_file():
    tok = tiny_models.tokenizer()
    model = tiny_models.model("qwen2", len(tok))
    texts = [SOURCE, "x = 1\n", "", SOURCE[:40]]
    files = [(f"{number}.py", text) for number, text in enumerate(texts)]
    rows = score_files(model, tok, {"test": files}, window=32, stride=16, own_names={"add_edge"})
    whole, parts = rows[: len(files)], rows[len(files) :]
    assert {row.part for row in parts} == {f"role/{role}" for role in ROLES}
    for row in whole:
        of_file = [part for part in parts if part.path == row.path]
        assert sum(part.n_tokens for part in of_file) == row.n_tokens
        assert sum(part.hits for part in of_file) == row.hits
        assert math.fsum(part.nll_nats for part in of_file) == pytest.approx(row.nll_nats, rel=1e-6)


def test_own_names_are_the_repositorys_own():
    function = Function(
        "a::Graph.add_edge", "a", "a", "Graph.add_edge", "add_edge", "", "", "", 0,
        ("self", "u", "weight", "list"), 1, 2, True, False, False,
    )  # fmt: skip
    assert own_names([function]) == {"Graph", "add_edge", "weight"}
