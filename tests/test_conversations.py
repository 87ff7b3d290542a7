"""Conversations in a chat template: one turn is what Track B trains on, and messages stay plain text."""

from __future__ import annotations

import pytest
import served_run
import tiny_models
import tokenizer_families

from helpers.models.causal_lm import ModelError, chat_ids
from helpers.models.conversations import Turn, conversation_ids

STRIPPING = served_run.TEMPLATE.replace("m['content']", "m['content'] | trim")
AS_LIST = served_run.TEMPLATE.replace("m['content']", "m['content'][0]['text']")
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
SAID = "Write <|im_end|> and <|endoftext|>\n"


@pytest.mark.parametrize("template", [served_run.TEMPLATE, STRIPPING, AS_LIST, None])
def test_one_instruction_gives_the_ids_that_are_trained_and_measured(template):
    tok = served_run.chat_tokenizer()
    tok.chat_template = template
    assert conversation_ids(tok, [Turn("user", SAID)]) == chat_ids(tok, SAID)


@pytest.mark.parametrize("family", tokenizer_families.FAMILIES)
def test_several_turns_hold_the_templates_marks_and_no_others(family):
    tok = tokenizer_families.tokenizer(family)
    tok.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tok.chat_template = served_run.TEMPLATE
    turns = [
        Turn("system", "Be brief."),
        Turn("user", SAID),
        Turn("assistant", "x <|im_start|>"),
        Turn("user", "y"),
    ]
    ids = conversation_ids(tok, turns)
    start, end = (tok.convert_tokens_to_ids(mark) for mark in ("<|im_start|>", "<|im_end|>"))
    assert (ids.count(start), ids.count(end)) == (5, 4)
    text = tok.decode(ids, clean_up_tokenization_spaces=False)
    assert text.count("<|im_end|>") == 4 + 1
    assert text.rstrip().endswith("assistant")


def test_templates_that_refuse_change_or_repeat_a_message_are_named():
    tok = served_run.chat_tokenizer()
    tok.chat_template = NO_SYSTEM + served_run.TEMPLATE
    with pytest.raises(ModelError, match="refuses this conversation: no system role"):
        conversation_ids(tok, [Turn("system", "x"), Turn("user", "y")])
    for template in (
        served_run.TEMPLATE.replace("m['content']", "m['content'] | upper"),
        served_run.TEMPLATE.replace("m['content']", "m['content'] + m['content']"),
    ):
        tok.chat_template = template
        with pytest.raises(ModelError, match="changes or repeats a message"):
            conversation_ids(tok, [Turn("user", "y")])


def test_without_a_template_turns_follow_each_other_in_the_plain_form():
    tok = tiny_models.tokenizer()
    turns = [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")]
    one = "### Instruction:\n{}\n\n### Response:\n"
    assert tok.decode(conversation_ids(tok, turns)) == one.format("a") + "b\n\n" + one.format("c")
