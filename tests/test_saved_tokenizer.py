"""The ids are those of the saved tokenizer.json, whatever class the library takes a tokenizer for."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from helpers.models import saved_tokenizer
from helpers.models.causal_lm import ModelError, load_tokenizer
from helpers.models.saved_tokenizer import (
    PROBES,
    SavedTokenizerError,
    load_saved_tokenizer,
    other_ids,
    saved_file,
)
from helpers.models.tokens import token_ids
from helpers.settings import TINY_CODE_LM

DECOMPOSED = "x = 'e\u0301 A\u030a'\n"
LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
SPLITTERS = {
    "plain": LEVEL,
    "every digit": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), LEVEL]),
    "punctuation": pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), LEVEL]),
}


def save(folder: Path, splitter: pre_tokenizers.PreTokenizer, kind: str, normaliser=None) -> Path:
    """Train a byte-level BPE on the probes and save it beside a configuration of family `kind`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = splitter, decoders.ByteLevel()
    if normaliser:
        tokenizer.normalizer = normaliser
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<|endoftext|>", "<|pad|>"], initial_alphabet=LEVEL.alphabet()
    )
    tokenizer.train_from_iterator([*PROBES, "12 123 1234 a1 b22"] * 5, trainer)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    names = {
        "eos_token": "<|endoftext|>",
        "pad_token": "<|pad|>",
        "chat_template": "{{ messages[0].content }}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder


@pytest.mark.parametrize("kind", ["qwen2", "gpt2", "llama"])
@pytest.mark.parametrize("splitter", SPLITTERS)
def test_ids_names_and_template_are_the_saved_ones(tmp_path, kind, splitter) -> None:
    folder = save(tmp_path / "model", SPLITTERS[splitter], kind)
    exact = Tokenizer.from_file(str(folder / "tokenizer.json"))
    loaded = load_saved_tokenizer(str(folder), offline=True)
    for text in (*PROBES, DECOMPOSED):
        assert token_ids(loaded, text) == exact.encode(text, add_special_tokens=False).ids
        assert loaded.decode(token_ids(loaded, text), clean_up_tokenization_spaces=False) == text
    assert (loaded.eos_token, loaded.pad_token_id) == ("<|endoftext|>", 1)
    assert loaded.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"


def test_the_library_alone_gives_other_ids(tmp_path) -> None:
    """If this fails, the library has been mended, and `load_saved_tokenizer` may go."""
    folder = save(tmp_path / "model", SPLITTERS["every digit"], "qwen2")
    assert other_ids(AutoTokenizer.from_pretrained(folder), folder / "tokenizer.json")


def test_a_normalisation_of_the_saved_file_stays(tmp_path) -> None:
    folder = save(tmp_path / "model", SPLITTERS["plain"], "qwen2", normalizers.NFC())
    loaded = load_saved_tokenizer(str(folder), offline=True)
    assert loaded.decode(token_ids(loaded, DECOMPOSED)) == unicodedata.normalize("NFC", DECOMPOSED)


def test_the_embedded_model_gives_every_text_back() -> None:
    tokenizer = load_tokenizer(TINY_CODE_LM)
    for text in (*PROBES, DECOMPOSED):
        assert tokenizer.decode(token_ids(tokenizer, text), clean_up_tokenization_spaces=False) == text


def test_ids_that_cannot_be_had_are_refused(tmp_path, monkeypatch) -> None:
    folder = save(tmp_path / "model", SPLITTERS["every digit"], "qwen2")
    monkeypatch.setattr(saved_tokenizer, "PreTrainedTokenizerFast", AutoTokenizer)
    with pytest.raises(SavedTokenizerError, match=r"other ids than its tokenizer\.json, e\.g\. for"):
        load_saved_tokenizer(str(folder), offline=True)
    with pytest.raises(ModelError, match=r"other ids than its tokenizer\.json"):
        load_tokenizer(str(folder))


def test_a_changed_file_is_read_again_and_a_missing_one_is_no_fault(tmp_path) -> None:
    one = save(tmp_path / "one", SPLITTERS["plain"], "qwen2")
    other = save(tmp_path / "other", SPLITTERS["every digit"], "qwen2")
    loaded = load_saved_tokenizer(str(one), offline=True)
    assert not other_ids(loaded, one / "tokenizer.json")
    (one / "tokenizer.json").write_bytes((other / "tokenizer.json").read_bytes())
    assert other_ids(loaded, one / "tokenizer.json")
    assert saved_file(str(tmp_path)) is None
    assert saved_file("someone/no-such-model") is None
    assert saved_tokenizer.SAVED == "tokenizer.json"
