"""Prompts for what lies between: marks as tokens, texts as text, and whether a model makes use of a suffix."""

from __future__ import annotations

import pytest
import served_run
import tiny_models
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from helpers.models.infilling import FAMILIES, infill_marks
from helpers.models.tokens import token_ids
from helpers.records import Document
from helpers.serving.infill_prompts import infills, middle_prompt, template_prompt


@pytest.fixture(scope="module")
def tok():
    return served_run.chat_tokenizer()


def spelt(tok, ids):
    return tok.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("family", FAMILIES[:4])
def test_marks_of_each_family_are_found(family):
    assert infill_marks(tiny_models.tokenizer()) is None
    tok = tiny_models.tokenizer(extra=family)
    marks = infill_marks(tok)
    assert [marks.prefix, marks.suffix, marks.middle] == [tok.convert_tokens_to_ids(mark) for mark in family]


def test_a_prompt_has_three_marks_whatever_its_texts_spell(tok):
    marks = infill_marks(tok)
    a, b, c = served_run.FIM
    ids = middle_prompt(tok, marks, f"left {c}", f"right {a}", 200, "    begun")
    assert [ids.count(mark) for mark in (marks.prefix, marks.suffix, marks.middle)] == [1, 1, 1]
    assert spelt(tok, ids) == f"{a}left {c}{b}right {a}{c}    begun"


def test_a_long_suffix_loses_its_end_and_a_long_prefix_its_start(tok):
    marks = infill_marks(tok)
    ids = middle_prompt(tok, marks, "l=" * 100, "r=" * 100, 40)
    assert len(ids) == 40
    left, right = ids[1 : ids.index(marks.suffix)], ids[ids.index(marks.suffix) + 1 : -1]
    assert len(right) == 10
    assert spelt(tok, left) == ("l=" * 100)[-len(spelt(tok, left)) :]
    assert spelt(tok, right) == ("r=" * 100)[: len(spelt(tok, right))]


def test_an_editors_spelling_is_read_and_every_other_text_is_not(tok):
    marks = infill_marks(tok)
    a, b, c = served_run.FIM
    text = f"# other.py\n{a}left{b}right{c}beg"
    ids = template_prompt(tok, marks, text, 100)
    wanted = [*token_ids(tok, "# other.py\n"), marks.prefix, *token_ids(tok, "left"), marks.suffix,
              *token_ids(tok, "right"), marks.middle, *token_ids(tok, "beg")]  # fmt: skip
    assert ids == wanted
    assert template_prompt(tok, marks, text, len(wanted) - 1) == middle_prompt(
        tok, marks, "left", "right", len(wanted) - 1, "beg"
    )
    for other in ("left", f"{a}left{c}", f"{a}x{c}y{b}", f"{a}x{b}y{c}z{c}", f"print('{a}')"):
        assert template_prompt(tok, marks, other, 100) is None


def test_a_model_whose_middle_ignores_the_suffix_is_no_infilling_model(tok):
    """A model without attention sees one token and its place: it likes newlines after the middle mark, or nowhere."""
    marks = infill_marks(tok)
    documents = [Document(f"d{n}", f"def f{n}(x):\n" + "\n" * 6, "a.py") for n in range(6)]
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=len(tok), n_positions=256, n_embd=8, n_layer=1, n_head=1, bos_token_id=None, eos_token_id=0
    )).eval()  # fmt: skip
    newline = token_ids(tok, "\n")[0]
    for favoured, wanted in ((marks.middle, True), (newline, False)):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            model.transformer.ln_f.weight.fill_(1.0)
            direction = torch.tensor([3.0, -1, -1, -1, 1, 1, -1, -1])
            model.transformer.wte.weight[favoured] = direction
            model.lm_head.weight = torch.nn.Parameter(torch.zeros(len(tok), 8))
            model.lm_head.weight[newline] = direction
        assert infills(model, tok, marks, documents, 200, tiny_models.CPU_FP32) is wanted
    assert (
        infills(model, tok, marks, [], 200, tiny_models.CPU_FP32) is True
    )  # nothing to try: the vocabulary is believed
