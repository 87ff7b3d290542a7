"""Measures of completions against values computed by hand, and the comparison of the arms."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import statistics
from dataclasses import replace

import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st
from test_completion_items import PYTHON, file_of

from helpers.code.first_statement import first_statement, open_brackets, statement_has_ended
from helpers.data import completion_items as rules
from helpers.data.completion_items import completion_items
from helpers.eval.completion_comparison import (
    ARMS,
    PRIMARY,
    SHARES,
    answer_in_words,
    arm_to_use,
    arms_verdict,
    chat_in_words,
    chat_pairs,
    compare_arms,
    cost_in_words,
    differences,
)
from helpers.eval.completion_scores import (
    common_beginning,
    cut_completion,
    edit_similarity,
    identifier_f1,
    score_completion,
)
from helpers.eval.statistics import exact_mcnemar, holm, paired_share
from helpers.records import CompletionScore
from helpers.run.workspace import to_plain

TOKENIZER = tiny_models.tokenizer()
OPTIONS = {"samples": 500, "seed": 3}


@pytest.fixture(scope="module")
def items():
    return {item.kind: item for item in completion_items([file_of(PYTHON)], [], count=3, seed=4)}


def score(item, written, *, has_ended=True):
    return score_completion(item, PYTHON, written, TOKENIZER, has_ended=has_ended)


@pytest.mark.parametrize(
    ("one", "other", "distance", "longer"),
    [
        ("", "", 0, 1),
        ("abc", "abc", 0, 3),
        ("", "abcd", 4, 4),
        ("flaw", "lawn", 2, 4),
        ("saturday", "sunday", 3, 8),
    ],
)
def test_edit_similarity_by_hand(one, other, distance, longer):
    assert edit_similarity(one, other) == edit_similarity(other, one) == 1 - distance / longer


@given(st.text("ab(", max_size=9), st.text("ab(", max_size=9), st.text("ab(", max_size=9))
@settings(max_examples=60, deadline=None)
def test_edit_distance_is_a_metric(a, b, c):
    def distance(x, y):
        return round((1 - edit_similarity(x, y)) * max(len(x), len(y)))

    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, c) <= distance(a, b) + distance(b, c)
    assert abs(len(a) - len(b)) <= distance(a, b) <= max(len(a), len(b)) - common_beginning(a, b)


def test_identifiers_by_hand():
    assert identifier_f1("return total", "return total + extra", "python") == 2 * 1 / 3  # of 1 and of 2
    assert identifier_f1("f(a, a)", "f(a, b)", "python") == 4 / 6
    assert identifier_f1("'total'", "total", "python") == 0  # a string holds no identifier
    assert identifier_f1("1 + 2", "3", "python") == 1
    assert identifier_f1("x := func(y)", "x := func(y)", "go") == 1


def test_common_beginning():
    assert [common_beginning(a, "return x") for a in ("return y", "return x", "return x + 1", "", "x")] == [
        7,
        8,
        8,
        0,
        0,
    ]


BLOCKS = [
    ("if a:\n    b\nelse:\n    c\nd\n", "if a:\n    b\nelse:\n    c"),
    ("    if a:\n        b\n\n        c\n\n    d\n", "    if a:\n        b\n\n        c"),
    ("x = f(\n  a,\n)\ny = 1", "x = f(\n  a,\n)"),
    ("@one\n@two\ndef f():\n    pass\n\n\ndef g", "@one\n@two\ndef f():\n    pass"),
    ("\n\nx = 1\ny = 2", "\n\nx = 1"),
    ("x = 1 + \\\n2\ny = 2", "x = 1 + \\\n2"),
    ("try:\n    a\nexcept E:\n    b\nfinally:\n    c\nz", "try:\n    a\nexcept E:\n    b\nfinally:\n    c"),
    ("return [\n1,", "return [\n1,"),
    ("s = '(' \nt = 2", "s = '(' "),
    ("", ""),
]


@pytest.mark.parametrize(("text", "statement"), BLOCKS)
def test_the_first_statement_by_hand(text, statement):
    assert first_statement(text, "python") == statement


@pytest.mark.parametrize(
    ("text", "has_ended"),
    [
        ("", False),
        ("a = 1", False),
        ("a = 1\n", False),
        ("a = 1\nb", False),  # a line that may still become `else`
        ("a = 1\n\n    \n", False),
        ("a = 1\nb\n", True),
        ("a = (\nb\n", False),
        ("if a:\n    b\nelse:\n", False),
        ("if a:\n    b\nelse:\n    c\nd\n", True),
        ("    a\nb\n", True),
        ("@a\ndef b():\n    c\n", False),
    ],
)
def test_when_the_first_statement_has_ended_by_hand(text, has_ended):
    assert statement_has_ended(text, "python") == has_ended


def test_what_follows_an_ended_statement_changes_nothing():
    source = inspect.getsource(statistics)
    starts = [place for place in range(0, len(source), 997) if source[place - 1 : place] != "\r"]
    ended = 0
    for start in starts:
        for length in range(10, 400, 30):
            text = source[start : start + length]
            if statement_has_ended(text, "python"):
                ended += 1
                known = first_statement(text, "python")
                assert first_statement(source[start:], "python") == known
                for more in ("else:\n    pass\n", ")", "    deeper\n", "{\n"):
                    assert first_statement(text + more, "python") == known
    assert ended > 50


def test_the_first_statement_in_a_language_with_braces():
    assert first_statement("  if (a) {\n    b();\n  }\n  else {\n    c();\n  }\n  d();\n}", "javascript") == (
        "  if (a) {\n    b();\n  }\n  else {\n    c();\n  }"
    )
    assert first_statement("\tfor {\n\t\tf()\n\t}\n}\n", "go") == "\tfor {\n\t\tf()\n\t}"


def test_the_first_statement_of_what_follows_a_place_is_its_target():
    """What the file itself says is a perfect completion, so the rule that cuts must find its end."""
    texts = {f"{module.__name__}.py": inspect.getsource(module) for module in (rules, ast, statistics)}
    files = [file_of(text, path) for path, text in texts.items()]
    found = completion_items(files, [], count=60, seed=0)
    assert len({item.kind for item in found}) == 3
    for item in found:
        rest = texts[item.path][item.start :]
        assert cut_completion(item.kind, rest, "python") == item.target


@pytest.mark.parametrize(
    ("language", "statement", "after"),
    [
        ("c", "  while (a)\n  {\n    b();\n  }", "  c();"),  # the brace on a line of its own
        ("c", "\tif (a)\n            b();", "        c();"),  # a tab is eight blanks
        ("c", "    case 1:\n      a();\n      break;", "    case 2:\n      b();"),
        ("cpp", "int f() {\n  return 1;\n}", "}  // namespace a"),
        ("cpp", "template <class A>\nA f() {\n  return 1;\n}", "int g;"),
        ("java", "  @A(\n    b = 1\n  )\n  void f() {\n  }", "  int c;"),
        ("java", "  @A int b =\n      1;", "  int c;"),
        ("typescript", "@A({\n  b: 1,\n})\nclass C {\n}", "const d = 1"),
        ("python", "@a(\n    1,\n)\ndef f():\n    pass", "b = 1"),
        ("javascript", "try {\n  a()\n}\ncatch {\n  b()\n}", "{\n  c()\n}"),
    ],
)
def test_the_first_statement_in_other_layouts(language, statement, after):
    assert first_statement(f"{statement}\n{after}\n", language) == statement


def test_line_ends_are_the_files_own_and_count_for_nothing():
    text = PYTHON.replace("\n", "\r\n")
    for item in completion_items([file_of(text)], [], count=9, seed=4):
        told = item.target.replace("\r\n", "\n")
        for written in (told, item.target, f"{item.target}\r\n"):
            found = score_completion(item, text, written, TOKENIZER, has_ended=True)
            assert (found.exact_match, found.stops, found.edit_similarity) == (True, True, 1)
            assert found.accepted_characters == len(told.strip())
    assert cut_completion("next_line", "a = 1\rb = 2", "python") == "a = 1"


def test_brackets_in_strings_and_comments_count_for_nothing():
    assert open_brackets("f(a, [')', b  # (", "python") == 2
    assert open_brackets("})", "go") == -2


def test_the_target_itself_is_right_by_every_measure(items):
    for item in items.values():
        found = score(item, f"  {item.target}\n" + ("    x = 1\n" if item.kind == "block" else ""))
        assert (found.exact_match, found.parses, found.stops, found.first_token) == (True,) * 4
        assert (found.edit_similarity, found.identifier_f1) == (1, 1)
        assert found.accepted_characters == len(item.target.strip())


def test_what_is_wrong_is_told_apart(items):
    item = items["next_line"]
    target = item.target.strip()
    broken = score(item, item.target + "(")
    assert not broken.exact_match
    assert not broken.parses
    assert not broken.stops  # a bracket more is open than there
    assert broken.accepted_characters == len(target)
    assert broken.edit_similarity == 1 - 1 / (len(target) + 1)
    other = score(item, item.target[: len(item.target) - len(target)] + "pass")
    assert other.parses == (not target.endswith(":"))
    assert other.stops
    assert not score(item, item.target, has_ended=False).stops
    assert score(item, item.target + "\nmore", has_ended=False).stops  # it went on, so it had ended the line
    nothing = score(item, "")
    assert (nothing.accepted_characters, nothing.edit_similarity, nothing.first_token) == (0, 0, False)


def test_first_token_is_that_of_the_tokenizer(items):
    item = replace(items["next_line"], target="return first + second")
    assert score(item, "    return 5").first_token
    assert not score(item, "    raise 5").first_token


def rows(arm, outcomes, *, files=10, group="other"):
    return [
        CompletionScore(
            item_id=str(n), kind=rules.KINDS[n % 3], path=f"f{n % files}.py", arm=arm, text="", context=(), group=group,
            exact_match=right, edit_similarity=float(right), identifier_f1=0.5, parses=True, stops=True,
            first_token=right, accepted_characters=3 * right,
        )
        for n, right in enumerate(outcomes)
    ]  # fmt: skip


def planted(*shares, n=60):
    """Four arms of which the first `share` of the items are right."""
    return {
        arm: rows(arm, [number < share * n for number in range(n)])
        for arm, share in zip(ARMS, shares, strict=True)
    }


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        ((0.2, 0.9, 0.2, 0.9), "base+retrieved"),  # a template repeated with other names
        ((0.2, 0.2, 0.9, 0.9), "adapted"),  # an idiom of every file
        ((0.3, 0.3, 0.3, 0.3), "base"),  # noise
        ((0.3, 0.32, 0.28, 0.33), "base"),
        ((0.1, 0.4, 0.4, 0.8), "adapted+retrieved"),
        ((0.5, 0.1, 0.1, 0.1), "base"),
        ((0.0, 0.05, 0.05, 0.9), "adapted+retrieved"),  # the middle ones do not beat the untouched model
    ],
)
def test_the_arm_to_use_follows_from_planted_scores(shares, wanted):
    assert arm_to_use(differences(planted(*shares), **OPTIONS)) == wanted


def test_the_answer_says_which_by_how_much_and_at_what_cost():
    def answer(*shares):
        return answer_in_words(to_plain(compare_arms(planted(*shares), **OPTIONS)))

    won = answer(0.2, 0.9, 0.2, 0.9)
    assert won.startswith(
        "Use the untouched model with retrieved code: it completes 90.0% of 60 held-out places exactly"
    )
    assert "the untouched model 20.0% (+70.0 points, 95% interval +" in won
    assert won.endswith("Not detectably different from it: the adapted model with retrieved code.")
    level = answer(0.3, 0.3, 0.3, 0.3)
    assert "no other arm is detectably better. Against it: " in level
    assert level.count("0.0 points, 95% interval 0.0 to 0.0, p = 1 after Holm") == 3
    worse = answer(0.5, 0.1, 0.5, 0.5)
    assert worse.endswith(" Detectably worse: the untouched model with retrieved code.")
    said = cost_in_words({"base": 0.25, "adapted+retrieved": 0.5, "base+nearest_file": 9.0}, 275.4)
    assert "the untouched model 0.25 s, the adapted model with retrieved code 0.50 s;" in said
    assert said.endswith("took 275 s.")


def test_chat_tuning_is_compared_with_its_own_untouched_model():
    scores = planted(0.5, 0.5, 0.5, 0.5)
    assert chat_pairs(scores) == []
    scores |= {"chat_tuned": rows("chat_tuned", [False] * 60)}
    assert chat_pairs(scores) == [("base", "chat_tuned")]  # both tracks started from one model
    broken = differences(scores, **OPTIONS, pairs=chat_pairs(scores))
    assert "makes its completions detectably worse: without retrieved code −50.0 points" in chat_in_words(
        broken
    )
    scores |= {"chat": scores["chat_tuned"]}
    assert chat_pairs(scores) == [("chat", "chat_tuned")]
    level = differences(scores, **OPTIONS, pairs=chat_pairs(scores))
    assert "does not change its completions detectably: without" in chat_in_words(level)


def test_what_chat_tuning_does_to_other_measures_is_said_too():
    """A model may complete as much exactly, and yet leave files that no longer parse."""
    before = rows("base", [n % 2 == 0 for n in range(60)])
    scores = {"base": before, "chat_tuned": [dataclasses.replace(row, arm="chat_tuned") for row in before]}
    found = chat_in_words(differences(scores, **OPTIONS, pairs=chat_pairs(scores)))
    assert "other measures" not in found
    scores["base"] = [dataclasses.replace(row, parses=True) for row in before]
    scores["chat_tuned"] = [
        dataclasses.replace(row, parses=number % 4 == 0) for number, row in enumerate(scores["chat_tuned"])
    ]
    found = chat_in_words(differences(scores, **OPTIONS, pairs=chat_pairs(scores)))
    assert "does not change its completions detectably: without retrieved code 0.0 points" in found
    assert found.endswith(
        "Detectable in other measures: the file parses −75.0 points without retrieved code."
    )


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        ((0.2, 0.9, 0.2, 0.9), "improved"),
        ((0.3, 0.32, 0.28, 0.33), "no_detectable_difference"),
        ((0.5, 0.1, 0.5, 0.5), "regressed"),
        ((0.5, 0.1, 0.9, 0.5), "improved"),  # one arm is worse, another one better
    ],
)
def test_the_verdict_is_on_the_arms_as_a_whole(shares, wanted):
    assert arms_verdict(differences(planted(*shares), **OPTIONS)) == wanted


def test_every_difference_is_there_once_and_adjusted_over_six():
    scores = planted(0.2, 0.4, 0.4, 0.6)
    found = compare_arms({**scores, "copy": rows("copy", [False] * 60)}, **OPTIONS)
    mine = [row for row in found["differences"] if row["measure"] == PRIMARY]
    assert [(row["first"], row["second"]) for row in mine] == [
        (a, b) for number, a in enumerate(ARMS) for b in ARMS[number + 1 :]
    ]
    assert [row["value"] for row in mine] == pytest.approx([0.2, 0.2, 0.4, 0, 0.2, 0.2])
    raw = [row["p_value"] for row in mine]
    assert raw[0] == exact_mcnemar([False] * 12, [True] * 12).p_value == 2 * 0.5**12
    # smallest: 24 to 0, times 6; then four of 12 to 0, times 5 (no less than one before); the largest stays 1
    assert [row["p_holm"] for row in mine] == pytest.approx(
        [5 * raw[0], 5 * raw[0], 6 * raw[2], 1, 5 * raw[0], 5 * raw[0]]
    )
    assert found["arms"]["copy"][PRIMARY].value == 0
    assert found["arms"]["base"]["accepted_characters"].value == pytest.approx(0.6)
    assert set(found["by_kind"]) == set(rules.KINDS)
    assert set(found["by_group"]) == {"other"}
    assert found["gains_by_group"]["other"]["adapted"]["value"] == pytest.approx(0.2)


def test_arms_of_different_items_are_refused():
    scores = planted(0.1, 0.1, 0.1, 0.1)
    for wrong in ({}, {"base": []}, {**scores, "adapted": scores["adapted"][1:]}):
        with pytest.raises(ValueError, match="same items"):
            compare_arms(wrong, **OPTIONS)


def test_holm_by_hand():
    assert holm([]) == []
    assert holm([0.04]) == [0.04]
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_share_is_tested_by_mcnemar_with_an_interval_over_files():
    before, after = [False] * 20, [True] * 10 + [False] * 10
    one_file = paired_share(before, after, groups=["a"] * 20, **OPTIONS)
    assert one_file.value == 0.5
    assert one_file.p_value == 2 * 0.5**10
    assert one_file.ci95[0] <= 0 <= one_file.ci95[1]  # one file proves nothing
    assert "10 to 0" in one_file.test
    assert set(SHARES) <= set(CompletionScore.__dataclass_fields__)
