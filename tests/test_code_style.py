"""The style score: its formula, and which rules count."""

import pytest

from helpers.code import style
from helpers.code.style import StyleError, style_scores

CLEAN = 'def f(x):\n    """Return x."""\n    return x\n'


def style_score(code):
    return style_scores([code])[0]


def test_formula_by_hand():
    assert style_score(CLEAN).score == 1.0
    bare = style_score("def f(x):\n    return x\n")  # one finding in two lines: 50 per 100
    assert bare.findings == ("D103 1: Missing docstring in public function",)
    assert bare.score == pytest.approx(1 / (1 + 50 / 20))


def test_scoring_many_equals_scoring_each_and_keeps_the_order():
    codes = [
        CLEAN,
        "import os, sys\n",
        "def f(x):\n    return x\n",
        "",
        "def f(",
        CLEAN,
        "if x == None:\n    pass\n",
    ]
    together = style_scores(codes)
    assert together == [style_score(code) for code in codes]
    assert [s.score is None for s in together] == [False, False, False, True, True, False, False]
    assert together[6].findings[0].startswith("E711")


def test_module_rules_noqa_and_line_ends_do_not_matter():
    assert style_score(CLEAN.rstrip("\n")).score == 1.0
    assert style_score("\n\n" + CLEAN + "\n\n\n").score == 1.0
    assert style_score(CLEAN.replace("\n", "\r\n")).score == 1.0
    assert style_score("import os, sys  # noqa\n").findings
    assert style_score("# ruff: noqa\nimport os, sys\n").findings


def test_the_projects_own_configuration_is_ignored(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[tool.ruff.lint]\nignore = ["D103"]\n')
    monkeypatch.chdir(tmp_path)
    assert style_score("def f(x):\n    return x\n").findings


def test_nothing_to_score_and_a_missing_ruff(monkeypatch):
    assert style_scores([]) == []
    monkeypatch.setattr(style.sys, "executable", "/bin/false")
    with pytest.raises(StyleError, match="ruff failed"):
        style_score(CLEAN)
