"""Token roles: which tokens are code, docstring, comment or own name."""

import math

import pytest
import tiny_models

from helpers.eval.perplexity import evaluate_perplexity
from helpers.eval.token_roles import RoleTally, character_roles, own_names
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
    assert of_role("# one\rx = 1  # two\n", "comment") == ""


def test_tally_adds_up_to_the_whole():
    tok = tiny_models.tokenizer()
    model = tiny_models.model("qwen2", len(tok))
    texts = [SOURCE, "x = 1\n", "", SOURCE[:40]]
    tally = RoleTally(tok, texts, {"add_edge"})
    result = evaluate_perplexity(model, tok, texts, window=32, stride=16, observe=tally)
    scores = tally.scores()
    assert set(scores) == {"code", "docstring", "comment", "own_name"}
    assert sum(s.n_tokens for s in scores.values()) == result.n_tokens
    assert math.fsum(s.nll_nats for s in scores.values()) == pytest.approx(result.nll_nats, rel=1e-6)
    assert sum(s.accuracy * s.n_tokens for s in scores.values()) == pytest.approx(
        result.accuracy * result.n_tokens
    )


def test_own_names_are_the_repositorys_own():
    function = Function(
        "a::Graph.add_edge", "a", "a", "Graph.add_edge", "add_edge", "", "", "", 0,
        ("self", "u", "weight", "list"), 1, 2, True, False, False,
    )  # fmt: skip
    assert own_names([function]) == {"Graph", "add_edge", "weight"}
