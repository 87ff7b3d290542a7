"""A generator's words are used only if they pass the filters; otherwise the source's own words stay."""

from __future__ import annotations

import dataclasses
import json

import pytest

from helpers.code.docstrings import docstring_of
from helpers.code.extraction import extract_code
from helpers.code.functions import functions_of_file
from helpers.code.names.context import NameContext
from helpers.data.contamination import Benchmarks
from helpers.data.tasks.filters import Filters, foreign_licences
from helpers.data.tasks.phrasings import PHRASINGS
from helpers.data.tasks.prose import LanguageRequest, SourceFacts
from helpers.data.tasks.prose_drafts import (
    docstring_body,
    documented_drafts,
    draft_of,
    in_other_words,
    paraphrases,
    reworded,
    undocumented_drafts,
)
from helpers.models.causal_lm import load_tokenizer
from helpers.profiles import PROFILES
from helpers.records import Corpus, SourceFile
from helpers.settings import TINY_CODE_LM

MODULE = '''def scaled(values, factor=2):
    """Return each of `values` times a factor.

    Parameters
    ----------
    values : list
        The numbers.
    factor : int
        What they are multiplied by.

    Returns
    -------
    list
        The products.
    """
    # every value once
    out = [value * factor for value in values]
    return out


def bare(items):
    total = 0
    for item in items:
        total += item
    return total
'''
GOOD = {
    "explain": "`scaled` goes through `values`, multiplies each number by `factor` and returns the list of products.",
    "docstring": "Multiply numbers.\n\nParameters\n----------\nvalues : list\n    Numbers to scale.\nfactor : int\n"
    "    The multiplier.\n\nReturns\n-------\nlist\n    Scaled numbers.",
}


class Fixed:
    """Generator with fixed answers by kind and function name."""

    name = "chat:fixed"

    def __init__(self, answers: dict[tuple[str, str], str | None]) -> None:
        self.answers, self.asked = answers, []

    def write(self, requests):
        self.asked += requests
        return [self.answers.get((r.kind, r.function.name if r.function else r.text)) for r in requests]


@pytest.fixture
def functions():
    return functions_of_file(SourceFile("m.py", MODULE, "", len(MODULE)), "m")


@pytest.fixture
def check(functions):
    settings = dataclasses.replace(PROFILES["smoke"].track_b, max_prompt_tokens=600, max_new_tokens=400)
    return Filters(settings, load_tokenizer(TINY_CODE_LM), NameContext.from_functions(functions))


def by_kind(drafts):
    return {draft.kind: draft for draft in drafts}


def same(draft):
    return draft


def test_good_answers_replace_the_words_and_nothing_else(functions, check) -> None:
    plain = check.keep(documented_drafts(functions, seed=1))
    assert {draft.kind for draft in plain} == {"explain", "docstring"}
    generator = Fixed({(kind, "scaled"): text for kind, text in GOOD.items()})
    drafts = reworded(plain, generator, check, finish=same, seed=1)
    for old, new in zip(plain, drafts, strict=True):
        assert new.instruction == old.instruction
        assert new.response != old.response
        assert new.verified[0] == "chat:fixed"
    documented = extract_code(by_kind(drafts)["docstring"].response)
    assert docstring_of(documented).startswith("Multiply numbers.")
    assert "# every value once" in documented  # the comment of the source is still there
    assert check.counts["explain by chat:fixed"] == {"in": 1, "out": 1}


@pytest.mark.parametrize(
    ("kind", "answer", "reason"),
    [
        ("explain", None, "no answer"),
        (
            "explain",
            "It does things with lists and other things of that kind.",
            "fails its own check: not mentioned",
        ),
        ("explain", "Short.", "fails its own check: fewer than 8 words"),
        ("explain", GOOD["explain"] + " It calls `made_up_helper`.", "names something that does not exist"),
        ("explain", GOOD["explain"] + " Copyright (c) Somebody.", "licence text"),
        ("explain", GOOD["explain"] * 60, "response too long"),
        (
            "docstring",
            GOOD["docstring"].replace("Multiply numbers.", "Multiply like `made_up_helper`."),
            "names something that does not exist",
        ),
        ("docstring", "Multiply numbers.", "a parameter is not described"),
        ("docstring", GOOD["docstring"].partition("\n\nReturns")[0], "the return value is not described"),
        ("docstring", GOOD["docstring"].replace("factor :", "ratio :"), "a parameter is not described"),
        ("docstring", "```python\nx = 1\n```", "a parameter is not described"),
    ],
)
def test_a_rejected_answer_is_counted_by_reason_and_the_deterministic_one_stays(
    functions, check, kind, answer, reason
) -> None:
    plain = [draft for draft in check.keep(documented_drafts(functions, seed=1)) if draft.kind == kind]
    drafts = reworded(plain, Fixed({(kind, "scaled"): answer}), check, finish=same, seed=1)
    assert drafts == plain
    assert check.counts[f"{kind} by chat:fixed"] == {"in": 1, reason: 1}
    example = check.examples[reason][0]
    assert example["what"] == f"{kind} of m.py::scaled"
    assert (answer or "").partition("\n")[0][:400] in example["response"]


def test_an_answer_that_repeats_the_deterministic_one_is_a_duplicate(functions, check) -> None:
    plain = [draft for draft in check.keep(documented_drafts(functions, seed=1)) if draft.kind == "explain"]
    drafts = reworded(plain, Fixed({("explain", "scaled"): plain[0].response}), check, finish=same, seed=1)
    assert drafts == plain
    assert check.counts["explain by chat:fixed"]["duplicate"] == 1


def test_functions_without_docstrings_are_asked_about_only_as_far_as_pairs_lack(functions, check) -> None:
    plain = check.keep(documented_drafts(functions, seed=1))
    answer = "`bare` adds up all `items`, beginning at zero, and returns the total."
    generator = Fixed({("explain", "bare"): answer})
    wanted = {"explain": 2, "docstring": 1}
    extra = undocumented_drafts(functions, plain, wanted, generator, check, finish=same, seed=1)
    assert [(r.kind, r.function.name) for r in generator.asked] == [("explain", "bare")]
    assert [(d.kind, d.function.name, d.response) for d in extra] == [("explain", "bare", answer)]


@pytest.mark.parametrize(
    "answer",
    [
        GOOD["docstring"],
        f'"""{GOOD["docstring"]}\n"""',
        f'```python\n"""{GOOD["docstring"]}"""\n```',
        'Sure:\n```python\ndef scaled(values, factor=2):\n    """'
        + GOOD["docstring"].replace("\n", "\n    ")
        + '\n    """\n    return 1\n```',
    ],
)
def test_a_docstring_is_found_however_it_is_wrapped(functions, answer) -> None:
    assert docstring_body(answer).split() == GOOD["docstring"].split()
    draft = draft_of(LanguageRequest("docstring", functions[0]), answer, "x", seed=1)
    assert "return out" in draft.response  # the code is the source's, not the answer's


def test_paraphrases_keep_their_placeholder_and_reach_the_instruction(functions, check) -> None:
    head = PHRASINGS["explain"][1].partition("\n\n")[0]
    lines = f"1. Say what `{{name}}` is for.\n2. {head}\n- What does it do?\nSay, what is `{{name}}` for!\n"
    generator = Fixed({("paraphrase", head): lines + "Say what `{name}` is for"})
    found = paraphrases(generator, check, by_line=False)
    assert found == {head: ("Say what `{name}` is for.", "Say, what is `{name}` for!")}
    counts = check.counts["paraphrase by chat:fixed"]
    assert counts["placeholder lost or made up"] == 1
    assert counts["copy of a template or of another wording"] == 2
    assert paraphrases(SourceFacts(), check, by_line=True) == {}
    plain = documented_drafts(functions, seed=1)[0]
    draft = dataclasses.replace(
        plain, phrasing=1, instruction=PHRASINGS["explain"][1].format(code="CODE", name="scaled")
    )
    worded = {in_other_words(draft, found, seed=seed).instruction for seed in range(30)}
    assert worded == {
        f"{text}\n\nCODE"
        for text in ("What does `scaled` do?", "Say what `scaled` is for.", "Say, what is `scaled` for!")
    }


def test_pairs_from_a_benchmark_are_left_out_and_tasks_are_not(functions, check, tmp_path) -> None:
    row = {"task_id": 1, "code": functions[0].code.replace("values", "xs"), "text": "", "test_list": []}
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(row))
    given = Filters(
        check.settings, check.tokenizer, check.names, benchmarks=Benchmarks([tmp_path / "mbpp.jsonl"])
    )
    drafts = documented_drafts(functions, seed=1)
    assert given.keep(drafts) == []
    assert given.counts["docstring"]["code of a benchmark"] == 1
    given.seen.clear()
    assert given.keep(drafts, is_task=True) == drafts


def test_files_under_another_licence_are_told_apart() -> None:
    heads = {
        "own.py": "# SPDX-License-Identifier: MIT\n",
        "other.py": "# SPDX-License-Identifier: GPL-3.0-only\n",
        "copyleft.py": '"""Free under the GNU Lesser General Public License."""\n',
        "silent.py": "x = 1\n",
    }
    files = tuple(SourceFile(path, text, "", len(text)) for path, text in heads.items())
    corpus = Corpus("path:.", "c", "", "MIT", ".", "", files, (), "")
    assert foreign_licences(corpus) == {"other.py", "copyleft.py"}
    assert foreign_licences(dataclasses.replace(corpus, licence="unknown")) == frozenset()


def explanation_of(source: str) -> str | None:
    (function,) = functions_of_file(SourceFile("m.py", source, "", len(source)), "m")
    return SourceFacts().write([LanguageRequest("explain", function)])[0]


def test_constants_keep_their_capital() -> None:
    text = explanation_of(
        'def odd(n):\n    """Tell whether `n` is odd.\n\n    Returns\n    -------\n    bool\n'
        '        True if it is.\n    """\n    return bool(remainder(n))\n'
    )
    assert text == "`odd`: Tell whether `n` is odd.\nIt takes `n`.\nIt returns True if it is."


@pytest.mark.parametrize(
    ("summary", "body", "last"),
    [
        ("Empty it.", "x.clear()", "It returns nothing."),
        ("Empty it.", "if x:\n        return\n    return None", "It returns nothing."),
        ("Empty it.", "return x.clear()", "It takes `x`."),
        ("Empty it.", "yield x", "It takes `x`."),
        ("Empty it.", "raise NotImplementedError", "It can raise `NotImplementedError`."),  # subclasses do it
        ("Returns what is left.", "x.clear()", "It takes `x`."),  # whoever wrote that means something
    ],
)
def test_that_nothing_is_returned_is_said_where_the_code_shows_it(summary, body, last) -> None:
    text = explanation_of(f'def drop(x):\n    """{summary}"""\n    {body}\n')
    assert text is not None
    assert text.splitlines()[-1] == last
