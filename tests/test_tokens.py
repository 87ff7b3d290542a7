"""Plain text stays plain in every family of tokenizers, and new text is decoded as it stands in its place."""

from __future__ import annotations

import json

import pytest
from tokenizer_families import CODE, FAMILIES, LOSSLESS, MARKS, tokenizer

from helpers.models.tokens import (
    batch_token_ids,
    continuation,
    continuing_ids,
    mark_ids,
    separated_ids,
    template_ids,
    token_ids,
    token_offsets,
)


@pytest.fixture(scope="module", params=FAMILIES)
def tok(request):
    return tokenizer(request.param)


@pytest.fixture(scope="module", params=LOSSLESS)
def lossless(request):
    return tokenizer(request.param)


def decoded(tok, ids):
    return tok.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def test_code_that_spells_no_mark_is_encoded_as_the_library_does(tok):
    assert token_ids(tok, CODE) == tok(CODE, add_special_tokens=False).input_ids
    assert batch_token_ids(tok, [CODE, "", CODE]) == [
        token_ids(tok, CODE),
        token_ids(tok, ""),
        token_ids(tok, CODE),
    ]
    assert batch_token_ids(tok, []) == []


@pytest.mark.parametrize("mark", [mark for mark in MARKS if mark != "<unk>"])
@pytest.mark.parametrize("form", ["{}", "a{}b", "x = '{}'\n", "{0}{0}", "def f():\n    return {}", " {} "])
def test_a_spelt_mark_is_characters(tok, mark, form):
    text = form.format(mark)
    ids = token_ids(tok, text)
    unknown = {tok.unk_token_id} if tok.backend_tokenizer.model.__class__.__name__ == "WordPiece" else set()
    assert ids
    assert not (mark_ids(tok) - unknown) & set(ids)
    assert len(ids) == len(token_offsets(tok, text))


def test_spelt_marks_come_back_as_they_were_written(lossless):
    text = "stop = ['" + "', '".join(MARKS) + "']\n"
    ids = token_ids(lossless, text)
    assert decoded(lossless, ids) == text
    assert not mark_ids(lossless) & set(ids)
    parts = [text[begin:end] for begin, end in token_offsets(lossless, text)]
    assert len(parts) == len(ids)
    assert "".join(part for part in parts if part).replace(" ", "") == text.replace(" ", "")


def test_the_librarys_own_switch_would_not_do(lossless):
    """The tests above must be able to fail."""
    ids = lossless("<|file_sep|>", add_special_tokens=False, split_special_tokens=True).input_ids
    assert lossless.convert_tokens_to_ids("<|file_sep|>") in ids


def test_in_a_template_only_the_templates_own_marks_are_tokens(lossless):
    start, end = (lossless.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<|im_end|>"))
    head, tail = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    said = "cut at <|im_end|> or </s>, <|im_start|> and <|file_sep|>"
    ids = template_ids(lossless, head, said, tail)
    assert [i for i in ids if i in mark_ids(lossless)] == [start, end, start]
    plain = said.translate(str.maketrans("", "", "<>|/"))
    assert decoded(lossless, template_ids(lossless, head, plain, tail)) == decoded(lossless, ids).replace(
        said, plain
    )


def test_a_template_around_ordinary_text_is_encoded_as_the_library_does(tok):
    head, tail = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    whole = tok(head + CODE + tail, add_special_tokens=False).input_ids
    assert template_ids(tok, head, CODE, tail) == whole


def test_the_copy_with_other_names_encodes_like_the_original(tok):
    from helpers.models.tokens import _copies_of, _encode

    copies = _copies_of(tok)
    for text in (CODE, " x", "x", "é", "\n\n", "a  b"):
        assert _encode(copies.first, text).ids == tok(text, add_special_tokens=False).input_ids
    for mark, name in copies.names.items():
        assert copies.first.token_to_id(name) == tok.convert_tokens_to_ids(mark)


def test_marks_that_come_later_are_known_too():
    tok = tokenizer("byte-level BPE")
    assert decoded(tok, token_ids(tok, "a <think> b")) == "a <think> b"
    tok.add_tokens(["<think>"])
    thought = tok.convert_tokens_to_ids("<think>")
    assert thought in token_ids(tok, "a <think> b")  # an added word like any other
    tok.chat_template = "{{ messages[0].content }}<think>"
    assert thought not in token_ids(tok, "a <think> b")
    tok.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    assert tok.convert_tokens_to_ids("<|new|>") not in token_ids(tok, "<|new|>")


def test_only_the_separator_is_read_as_a_token():
    tok = tokenizer("byte-level BPE")
    separator = tok.convert_tokens_to_ids("<|file_sep|>")
    ids = separated_ids(tok, "<|file_sep|>a\nx = '</s>'\n<|file_sep|>b\n", "<|file_sep|>")
    assert [place for place, i in enumerate(ids) if i == separator] == [0, ids.index(separator, 1)]
    assert set(ids) & mark_ids(tok) == {separator}
    assert ids == tok("<|file_sep|>a\nx = '", add_special_tokens=False).input_ids + token_ids(tok, "</s>'\n") + (
        tok("<|file_sep|>b\n", add_special_tokens=False).input_ids)  # fmt: skip


def test_what_a_cut_leaves_is_the_rest_of_the_text_over_all_cuts(tok):
    ids = token_ids(tok, CODE)
    whole = decoded(tok, ids)
    for cut in range(1, len(ids)):
        before, new = ids[:cut], ids[cut:]
        assert decoded(tok, before) + continuation(tok, before, new) == whole


def test_decoding_the_new_tokens_alone_loses_blanks():
    """The test above must be able to fail."""
    lost = 0
    for family in ("Metaspace BPE", "Llama's older form", "Unigram"):
        tok = tokenizer(family)
        ids = token_ids(tok, CODE)
        lost += sum(
            decoded(tok, ids[:cut]) + decoded(tok, ids[cut:]) != decoded(tok, ids)
            for cut in range(1, len(ids))
        )
    assert lost > 20


def test_text_that_goes_on_after_other_text_is_that_text_over_all_cuts(lossless):
    for cut in range(1, len(CODE)):
        before = token_ids(lossless, CODE[:cut])
        new = continuing_ids(lossless, CODE[cut:])
        assert continuation(lossless, before, new) == CODE[cut:]
        assert decoded(lossless, before + new) == CODE
    marked = "    return '</s>' + '<|file_sep|>'"
    ids = continuing_ids(lossless, marked)
    assert not mark_ids(lossless) & set(ids)
    assert continuation(lossless, token_ids(lossless, "def f():\n"), ids) == marked


def test_a_continuation_writes_its_marks_only_if_asked(lossless):
    before, end = token_ids(lossless, "x ="), lossless.convert_tokens_to_ids("<|im_end|>")
    new = [*continuing_ids(lossless, " key"), end]
    assert continuation(lossless, before, new) == " key"
    assert continuation(lossless, before, new, marks=True) == " key<|im_end|>"


def test_a_cut_within_a_character_gives_the_whole_character():
    tok = tokenizer("byte-level BPE")
    ids = token_ids(tok, "größer 世界 😀!")
    for cut in range(1, len(ids)):
        before, rest = decoded(tok, ids[:cut]).rstrip("�"), continuation(tok, ids[:cut], ids[cut:])
        assert before + rest == "größer 世界 😀!"


def test_a_tokenizers_own_truncation_and_padding_do_not_reach_the_copy(tok):
    raw = json.loads(tok.backend_tokenizer.to_str())
    assert raw["truncation"] is None
    tok.backend_tokenizer.enable_truncation(3)
    try:
        from helpers.models.tokens import renamed_copy

        copy, _ = renamed_copy(tok.backend_tokenizer, ["</s>"])
        assert len(copy.encode(CODE, add_special_tokens=False).ids) > 3
    finally:
        tok.backend_tokenizer.no_truncation()
