import ast
import dataclasses
import json
import re

import pytest
import torch

from helpers.code.near_duplicates import python_tokens
from helpers.data.general_code import standard_library_files
from helpers.data.tasks import rehearsal
from helpers.data.tasks.phrasings import PHRASINGS, fenced_python
from helpers.data.twins import MIN_TOKENS
from helpers.machine.hardware import Runtime
from helpers.models.causal_lm import load_causal_lm
from helpers.models.tokens import token_ids
from helpers.profiles import SMOKE
from helpers.train.instruct import encode_pair

RUNTIME = Runtime(torch.device("cpu"), torch.float32, None, "sdpa", 4.0, ())
SETTINGS = dataclasses.replace(
    SMOKE.track_b, rehearsed_answers=12, max_prompt_tokens=600, max_new_tokens=400, generation_batch=8
)


@pytest.fixture(scope="module")
def base():
    return load_causal_lm(SETTINGS.model, RUNTIME)


@pytest.fixture
def answers(monkeypatch, base):
    """Answer by a function of (number, function name) instead of the model; remember the prompts."""
    asked = []

    def with_(answer):
        def generate(model, tokenizer, prompts, runtime, **options):
            asked.append([tokenizer.decode(ids) for ids in prompts])
            names = [re.search(r"def (\w+)", text)[1] for text in asked[-1]]
            return [[answer(number, name)] for number, name in enumerate(names)]

        monkeypatch.setattr(rehearsal, "generate", generate)
        return asked

    return with_


def good(number, name):
    return f"Here it is.\n\n{fenced_python(f'def {name}(): return {number}')}"


def test_answers_are_as_many_as_wanted_and_the_same_for_the_same_seed(base, answers):
    asked = answers(good)
    first = rehearsal.write_rehearsal(*base, SETTINGS, RUNTIME, seed=3)
    assert len(first) == 12
    assert len({answer.function for answer in first}) == 12
    assert first == rehearsal.write_rehearsal(*base, SETTINGS, RUNTIME, seed=3)
    assert {a.function for a in first} != {
        a.function for a in rehearsal.write_rehearsal(*base, SETTINGS, RUNTIME, seed=4)
    }
    assert len(asked[0]) == 18  # a half more than wanted


def test_three_of_four_questions_ask_for_code_from_signature_and_docstring(base, answers):
    answers(good)
    found = rehearsal.write_rehearsal(*base, SETTINGS, RUNTIME, seed=3)
    writing = [answer for answer in found if answer.id.startswith("write")]
    assert len(writing) == 9
    for answer in writing:
        code = answer.instruction.partition("```python\n")[2].rpartition("\n```")[0]
        (function,) = ast.parse(f"{code}\n    pass\n").body
        assert function.name == answer.function.rpartition("::")[2]
        assert ast.get_docstring(function)
        assert [type(node) for node in function.body[1:]] == [ast.Pass]


def test_no_question_is_worded_as_pairs_and_tasks_are():
    worded = [template.partition("{")[0].strip() for kind in PHRASINGS.values() for template in kind]
    for question in (*rehearsal.WRITE, *rehearsal.TELL):
        assert not any(words and words in question for words in worded)


def test_what_did_not_end_or_is_not_the_function_is_left_out(base, answers):
    _, tokenizer = base
    long = "x = 1\n" * 400
    assert len(token_ids(tokenizer, long)) >= (SETTINGS.max_prompt_tokens + SETTINGS.max_new_tokens) // 2
    bad = ["", long, fenced_python("def another(): pass"), "I cannot.", "def ("]
    answers(lambda number, name: bad[number % 5] if number % 4 != 3 and number < 8 else good(number, name))
    found = rehearsal.write_rehearsal(*base, SETTINGS, RUNTIME, seed=3)
    assert len(found) == 12
    # The first eight hold six questions for code, all badly answered, and two that take any words.
    assert [answer.id for answer in found[:3]] == ["tell-0003", "tell-0007", "write-0008"]


def test_held_out_code_is_not_asked_for(base, answers):
    answers(good)
    found = rehearsal.write_rehearsal(*base, SETTINGS, RUNTIME, seed=3)
    sources = {
        f"{file.path}::{node.name}": ast.get_source_segment(file.text, node)
        for file in standard_library_files()
        for node in ast.parse(file.text).body
        if isinstance(node, ast.FunctionDef)
    }
    held = next(
        answer.function for answer in found if len(python_tokens(sources[answer.function])) > 2 * MIN_TOKENS
    )
    renamed = sources[held].replace(held.rpartition("::")[2], "another_name")
    again = rehearsal.write_rehearsal(*base, SETTINGS, RUNTIME, seed=3, held_out=[renamed])
    assert held not in {answer.function for answer in again}
    assert len(again) == 12


def test_benchmarks_are_neither_asked_nor_answered(base, answers, tmp_path):
    answers(good)
    found = rehearsal.write_rehearsal(*base, SETTINGS, RUNTIME, seed=3)
    known = next(answer for answer in found if answer.id.startswith("write"))
    words = " ".join(f"word{number}" for number in range(20))
    rows = [{"task_id": "a", "prompt": known.instruction, "test": ""}, {"task_id": "b", "text": words}]
    benchmark = tmp_path / "problems.jsonl"
    benchmark.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = dataclasses.replace(SETTINGS, benchmarks=(str(benchmark),))
    again = rehearsal.write_rehearsal(*base, settings, RUNTIME, seed=3)
    assert known.function not in {answer.function for answer in again}
    answers(lambda number, name: good(number, name) + (words if number == 3 else ""))
    quoted = rehearsal.write_rehearsal(*base, settings, RUNTIME, seed=3)
    assert {answer.id for answer in again} - {answer.id for answer in quoted} == {"tell-0003"}


def test_an_answer_cut_off_in_white_space_has_not_ended(base, answers):
    """Tokenized as a whole, such an answer takes few tokens."""
    answers(lambda number, name: good(number, name) + ("\n" * 400 if number == 0 else "\n"))
    found = rehearsal.write_rehearsal(*base, SETTINGS, RUNTIME, seed=3)
    assert [answer.id for answer in found[:2]] == ["write-0001", "write-0002"]
    assert not found[0].response.endswith("\n")


def test_nothing_is_asked_where_none_are_wanted(base, answers):
    asked = answers(good)
    none = dataclasses.replace(SETTINGS, rehearsed_answers=0)
    assert rehearsal.write_rehearsal(*base, none, RUNTIME, seed=3) == []
    assert asked == []
    assert rehearsal.rehearsal_report(none) == {}


def test_the_model_itself_answers(base):
    few = dataclasses.replace(SETTINGS, rehearsed_answers=4, max_prompt_tokens=200, max_new_tokens=200)
    found = rehearsal.write_rehearsal(*base, few, RUNTIME, seed=3)
    assert 1 <= len(found) <= 4
    for answer in found:
        example = encode_pair(answer, base[1])
        assert 0 < len(example) <= few.max_prompt_tokens + few.max_new_tokens
