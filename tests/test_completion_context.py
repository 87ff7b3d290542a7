"""Code retrieved for a completion: from the training side, never a twin, in the family's form, within its room."""

from __future__ import annotations

import dataclasses

import pytest
import tiny_models
import torch
from test_completion_items import file_of

from helpers.code.functions import functions_of_file
from helpers.data.completion_items import completion_items
from helpers.eval.completion_choice import SHARES, choose_context, targets_nats
from helpers.eval.completion_context import (
    FILE,
    LEAST_ROOM,
    REPOSITORY,
    ContextError,
    PromptForm,
    TrainingCode,
    _best_stretch,
    check_context,
    code_index,
    heads_for,
    query_of,
    ranked_units,
    training_files,
    training_functions,
)
from helpers.models.tokens import continuation, last_ids, mark_ids
from helpers.records import Document

GRIND = '''\
def grind(beans, amount, speed):
    """Grind."""
    hopper = open_hopper(beans)
    for bean in hopper.take(amount):
        crush(bean, speed=speed, teeth=hopper.teeth)
    total = hopper.weigh() * speed + amount
    return total, hopper.close()
'''
ROAST = """\
def roast(beans, heat):
    drum = warm_drum(heat)

    def turn(bean):
        return drum.turn(bean, heat, heat + 1, [drum.size, drum.speed, drum.heat])

    return [turn(bean) for bean in beans]
"""
HELD = """\
import os
X = 1
Y = 2


def pour(cup, amount):
    hopper = open_hopper(cup)
    for drop in hopper.take(amount):
        cup.fill(drop)
    return hopper.close()
"""
TURN = """\


def spin(pea):
    return drum.turn(pea, heat, heat + 1, [drum.size, drum.speed, drum.heat])
"""


def code_of(*files, held=()):
    functions = [function for file in (*files, *held) for function in functions_of_file(file, "m")]
    paths = [{file.path for file in some} for some in (files, held)]
    return training_functions(functions, *paths, 0.85), functions


@pytest.fixture(scope="module")
def held():
    return file_of(HELD, "held.py")


@pytest.fixture(scope="module")
def item(held):
    return next(i for i in completion_items([held], [], count=9, seed=0) if i.line == 9 or i.line == 8)


@pytest.fixture(scope="module")
def code(held):
    return code_of(file_of(GRIND, "grind.py"), file_of(ROAST, "roast.py"), held=[held])[0]


def marked():
    return tiny_models.tokenizer(extra=(REPOSITORY, FILE))


def test_units_are_the_training_functions_without_nested_ones_and_docstrings(code):
    assert set(code.units) == {"grind.py::grind", "roast.py::roast"}
    assert '"""' not in code.units["grind.py::grind"].text
    assert "def turn" in code.units["roast.py::roast"].text


def test_twins_never_come_back_even_nested_ones():
    twin = file_of(HELD + TURN + "\n\n" + GRIND.replace("grind", "mill").replace("bean", "leaf"), "held.py")
    code, _ = code_of(file_of(GRIND, "grind.py"), file_of(ROAST, "roast.py"), held=[twin])
    # grind is the same but for names; spin is the same as turn, which lies in roast
    assert code.barred == {"held.py": {"grind.py::grind", "roast.py::roast"}}
    item = completion_items([twin], [], count=3, seed=0)[0]
    assert ranked_units(code, item, {"grind.py::grind": 3.0, "roast.py::roast": 1.0}) == []
    files = training_files([file_of(GRIND, "grind.py"), file_of(ROAST, "roast.py")], code)
    assert files.barred == {"held.py": {"grind.py", "roast.py"}}


def test_the_check_raises_for_the_file_its_twins_and_what_is_no_training_code(item):
    own = Document("held.py::pour", "def pour(): pass", "held.py")
    twin = Document("a.py::a", "def a(): pass", "a.py")
    code = TrainingCode({own.id: own, twin.id: twin}, {"held.py": {twin.id}})
    check_context(code, item, [])
    for unit, why in ((own.id, "file that is completed"), (twin.id, "twin"), ("b.py::b", "training side")):
        with pytest.raises(ContextError, match=why):
            check_context(code, item, [unit])
    assert ranked_units(code, item, {own.id: 2.0, twin.id: 1.0, "b.py::b": 1.0}) == []


def test_bm25_finds_the_function_like_the_lines_before_the_place(code, item, held):
    query = query_of(item, held.text)
    assert query.text.endswith(held.text[: item.start].splitlines(keepends=True)[-1])
    run = code_index(code).run([query])
    assert ranked_units(code, item, run[item.id])[0] == "grind.py::grind"


@pytest.mark.parametrize("heads", ["marks", "comments", "none"])
@pytest.mark.parametrize("room", [90, 140, 300])
def test_a_prompt_has_its_room_its_form_and_ends_with_the_left_context(code, item, held, heads, room):
    tokenizer = marked()
    form = PromptForm(tokenizer, "cafe", heads, 0.5)
    ids, used = form.prompt(code, item, held.text, ["grind.py::grind", "roast.py::roast"], room)
    left = held.text[: item.start].rstrip("\n")  # the tokenizer would join the line's end with what comes
    plain = last_ids(tokenizer, left, room)
    assert len(ids) <= room
    text = continuation(tokenizer, [], ids, marks=True)
    own = continuation(tokenizer, [], plain)
    assert left.endswith(own)
    assert text.endswith(left[-20:])
    if not used:
        assert ids == plain
        return
    assert used[-1] == "grind.py::grind"  # the best is next to the file
    marks = [token for token in ids if token in mark_ids(tokenizer)]
    if heads == "marks":
        assert text.startswith(f"{REPOSITORY}cafe\n{FILE}")
        assert f"{FILE}held.py\n" in text
        assert len(marks) == 2 + len(used)
    else:
        assert not marks
        assert ("# held.py\n" in text) == (heads == "comments")


def test_without_anything_that_fits_the_prompt_is_the_plain_one(code, item, held):
    tokenizer = marked()
    form = PromptForm(tokenizer, "cafe", "comments", 0.5)
    assert form.prompt(code, item, held.text, [], 60) == (
        last_ids(tokenizer, held.text[: item.start].rstrip("\n"), 60),
        (),
    )
    assert form.prompt(code, item, held.text, ["grind.py::grind"], LEAST_ROOM)[1] == ()


def test_a_text_that_spells_a_mark_is_no_mark(item):
    code = TrainingCode({"a.py::a": Document("a.py::a", f"x = '{FILE}'\n" * 9, "a.py")}, {})
    tokenizer = marked()
    ids, used = PromptForm(tokenizer, "cafe", "none", 0.5).prompt(code, item, HELD, ["a.py::a"], 200)
    assert used
    assert mark_ids(tokenizer).isdisjoint(ids)


def test_heads_follow_the_tokenizer():
    assert heads_for(marked()) == ("marks", "comments", "none")
    assert heads_for(tiny_models.tokenizer()) == ("comments", "none")


@pytest.mark.parametrize(
    ("shared", "sizes", "room", "expected"),
    [
        (["a", "", "bc", "c", ""], [2, 2, 2, 2, 2], 4, (1, 3)),  # of equal ones the first that holds b and c
        (["", "", ""], [5, 5, 5], 9, (0, 1)),
        (["a", "b"], [3, 3], 9, (0, 2)),
        (["a", "bc", "d"], [1, 99, 1], 9, (0, 1)),  # a line too long for the room
        (["abc", "d"], [99, 1], 9, (1, 2)),
        (["a"], [9], 8, (0, 0)),
        ([], [], 8, (0, 0)),
    ],
)
def test_the_stretch_that_shares_most_words(shared, sizes, room, expected):
    assert _best_stretch([frozenset(words) for words in shared], sizes, room) == expected


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_nats_of_targets_by_hand(autocast, monkeypatch):
    runtime = dataclasses.replace(tiny_models.CPU_FP32, autocast_dtype=autocast)
    monkeypatch.setattr("helpers.models.bfloat16_products.LEAST_WEIGHTS", 0)
    tokenizer = tiny_models.tokenizer()
    model = tiny_models.model("qwen2", len(tokenizer))
    asked = [([40, 41, 42], [50, 51]), ([60], [61]), ([7] * 30, [8]), ([9, 10], [11]), ([12] * 5, [13, 14]),
             ([], [15, 16]), ([17], [])]  # fmt: skip
    by_hand = []
    for prompt, target in asked:
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *target]])).logits[0].log_softmax(-1)
        whole = [*prompt, *target]
        scored = range(max(1, len(prompt)), len(whole))
        by_hand.append(-sum(float(logits[place - 1, whole[place]]) for place in scored))
    done = []
    found = targets_nats(model, asked, runtime, done.append)
    assert found == pytest.approx(by_hand, rel=0.05 if autocast else 1e-5)
    assert sum(done) == len(asked)


def test_the_choice_is_the_candidate_with_the_fewest_nats(code, item, held, monkeypatch):
    """The judge is planted: it likes the mark of comments and the word that only `roast` holds."""
    tokenizer = marked()

    def judge(model, asked, *options):
        texts = [(continuation(tokenizer, [], prompt, marks=True), len(prompt)) for prompt, _ in asked]
        return [
            9.0 - 2 * ("# held.py" in text) - 3 * ("warm_drum" in text) - (length < 150) / 9
            for text, length in texts
        ]

    monkeypatch.setattr("helpers.eval.completion_choice.targets_nats", judge)
    runs = {
        "bm25": {item.id: {"grind.py::grind": 1.0}},
        "embedder_after": {item.id: {"roast.py::roast": 1.0}},
    }
    options = {"repository": "cafe", "room": lambda kind: 300, "runtime": tiny_models.CPU_FP32}
    found = choose_context(None, tokenizer, code, runs, [(item, held.text)], **options)
    assert (found.retriever, found.heads, found.places) == ("embedder_after", "comments", 1)
    assert len(found.tried) == 3 * len(SHARES) + 1
    nowhere = choose_context(None, tokenizer, code, runs, [], **options)
    assert (nowhere.retriever, nowhere.heads, nowhere.share) == ("bm25", "marks", SHARES[0])


def test_a_form_for_which_no_prompt_has_room_is_no_best_form(code, item, held, monkeypatch):
    """Without code a target costs least here, so only a form that puts none anywhere would be chosen."""
    tokenizer = marked()

    def judge(model, asked, *options):
        texts = [continuation(tokenizer, [], prompt, marks=True) for prompt, _ in asked]
        return [9.0 if "def grind" in text else 1.0 for text in texts]

    monkeypatch.setattr("helpers.eval.completion_choice.targets_nats", judge)
    runs, asked = {"bm25": {item.id: {"grind.py::grind": 1.0}}}, []

    def room(kind):
        asked.append(kind)
        return 120

    found = choose_context(
        None, tokenizer, code, runs, [(item, held.text)], repository="a long name " * 9, room=room,
        runtime=tiny_models.CPU_FP32,
    )  # fmt: skip
    reach = {(row["heads"], row["share"]): row["places_with_code"] for row in found.tried}
    assert set(reach.values()) == {0, 1}
    assert reach[found.heads, found.share] == 1
    assert set(asked) == {item.kind}  # a place's own room, as where arms are compared
