"""Mining, the pairs that the trainer sees, training that learns, resuming, and what is kept."""

from __future__ import annotations

import dataclasses
import itertools
import json

import hypothesis
import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from tiny_embedder import save_static_embedder, save_tiny_embedder, small_code_base

from helpers.data.queries.documents import short_form
from helpers.data.queries.retrieval_data import build_retrieval_data, shuffled_pairs
from helpers.errors import CheckError
from helpers.eval.retrieval import build_index, index_documents, mean_scores, qrels_of, retrieve, score_run
from helpers.machine.hardware import Runtime
from helpers.models.embedder import EmbedderError, encode, load_embedder
from helpers.profiles import EMBEDDED
from helpers.train import contrastive, hard_negatives
from helpers.train.averaged_embedder import train_averaged
from helpers.train.contrastive import ContrastiveError, pairs_dataset, train_embedder
from helpers.train.contrastive_batches import CompatibleBatches, CountingTrainer
from helpers.train.fallbacks import NonFiniteLossError
from helpers.train.hard_negatives import mine_hard_negatives

PLAIN = Runtime(torch.device("cpu"), torch.float32, None, "sdpa", 1.0, ())
SIZES = {"batch_size": 32, "max_tokens": 48}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = save_tiny_embedder(
        tmp_path_factory.mktemp("base") / "tiny", {"query": "query: ", "document": "passage: "}
    )
    return dataclasses.replace(
        EMBEDDED.track_c, model=str(folder), train_pairs=48, validation_pairs=8, test_queries=24, max_tokens=48,
        epochs=6, learning_rate=3e-3, batch_pairs=16, scale=20.0, hard_negatives=1, encode_batch=32,
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(settings):
    return build_retrieval_data(*small_code_base(), settings, seed=3)


@pytest.fixture(scope="module")
def trained(settings, data, tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("trained")
    return train_embedder(settings, data, PLAIN, seed=5, out_dir=out_dir), out_dir


def mrr(model, data, queries) -> float:
    index = index_documents(model, data.documents, PLAIN, **SIZES)
    run = retrieve(model, queries, index, PLAIN, **SIZES)
    return mean_scores(score_run(run, qrels_of(queries)))["mrr@10"]


def test_training_teaches_the_pairs_and_what_is_saved_is_what_was_measured(settings, data, trained):
    history, out_dir = trained
    losses = [row["loss"] for row in history["loss"]]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    before = mrr(load_embedder(settings.model, PLAIN), data, data.train)
    after = mrr(load_embedder(str(out_dir / "embedder"), PLAIN), data, data.train)
    assert after > before + 0.1
    assert history["validation_before"] is not None
    best = max(history["validation"], key=lambda row: row["mrr@10"])
    assert history["best_epoch"] == best["epoch"]
    assert [row["epoch"] for row in history["validation"]] == pytest.approx([2.0, 4.0, 6.0])
    reloaded = load_embedder(str(out_dir / "embedder"), PLAIN)
    again = contrastive.ValidationMRR(data, settings, PLAIN, 5)(reloaded)
    assert again["validation_mrr@10"] == pytest.approx(best["mrr@10"], abs=1e-6)


def test_what_steps_and_validation_freed_is_given_back_around_each_validation(settings, data, monkeypatch):
    events = []
    monkeypatch.setattr(contrastive, "return_freed_memory", lambda: events.append("given back"))
    monkeypatch.setattr(contrastive.ValidationMRR, "value", lambda self, model: events.append("validated"))
    assert contrastive.ValidationMRR(data, settings, PLAIN, 5)(None) == {}
    assert events == ["given back", "validated", "given back"]


def test_a_static_embedder_is_trained_and_read_back(settings, data, tmp_path):
    words = {word for document in data.documents for word in short_form(document.text).split()}
    words |= {word for query in (*data.train, *data.validation) for word in query.text.split()}
    at = save_static_embedder(tmp_path / "static", words)
    static = dataclasses.replace(settings, model=str(at), learning_rate=3e-2, trained_layers=3, seeds=2)
    history = train_averaged(static, data, PLAIN, seed=5, out_dir=tmp_path / "out")
    losses = [row["loss"] for row in history["loss"]]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    before, after = load_embedder(str(at), PLAIN), load_embedder(str(tmp_path / "out/embedder"), PLAIN)
    assert mrr(after, data, data.train) > mrr(before, data, data.train) + 0.1
    measured = contrastive.ValidationMRR(data, static, PLAIN, 5).value(after)
    assert history["validation_averaged"] == pytest.approx(measured, abs=1e-6)
    assert after.tokenizer.truncation["max_length"] == static.max_tokens  # read by whoever loads it


def test_only_the_upper_layers_learn_if_the_others_are_frozen(settings, data, tmp_path):
    upper = dataclasses.replace(settings, trained_layers=1, epochs=1)
    train_embedder(upper, data, PLAIN, seed=5, out_dir=tmp_path)
    before = load_embedder(settings.model, PLAIN)[0].auto_model.state_dict()
    after = load_embedder(str(tmp_path / "embedder"), PLAIN)[0].auto_model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("encoder.layer.1.")}


@pytest.mark.parametrize("trained", [0, 2, 5])
def test_the_whole_model_learns_if_no_layer_is_left_to_freeze(settings, trained):
    model = load_embedder(settings.model, PLAIN)
    contrastive.freeze_lower_layers(model, trained)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_frozen_layers_give_the_same_values_at_every_step(settings):
    model = load_embedder(settings.model, PLAIN)
    contrastive.freeze_lower_layers(model, 1)
    encoder = model[0].auto_model.train()
    tokens = model.tokenizer(["count the apples"], return_tensors="pt")
    first, second = (encoder(**tokens, output_hidden_states=True).hidden_states for _ in range(2))
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[2], second[2])


def test_a_model_without_one_list_of_its_layers_is_refused(settings, monkeypatch):
    model = load_embedder(settings.model, PLAIN)
    monkeypatch.setattr(model[0].auto_model.config, "num_hidden_layers", 4)
    with pytest.raises(ContrastiveError, match=r"set track_c\.trained_layers=0"):
        contrastive.freeze_lower_layers(model, 1)


def test_training_prints_nothing(settings, data, tmp_path, capfd):
    short = dataclasses.replace(settings, epochs=1, hard_negatives=0)
    train_embedder(short, data, PLAIN, seed=5, out_dir=tmp_path)
    said = capfd.readouterr()
    assert said.out == ""
    assert "widget examples" not in said.err  # for a model card, which is not written


def test_only_whole_results_stay_behind(trained):
    history, out_dir = trained
    assert {path.name for path in out_dir.iterdir()} == {"embedder", "history.json"}
    assert json.loads((out_dir / "history.json").read_text()) == history


def test_prompts_and_limit_are_saved_with_the_model(trained):
    model = load_embedder(str(trained[1] / "embedder"), PLAIN)
    assert model.prompts == {"query": "query: ", "document": "passage: "}
    assert model.max_seq_length == 48


def test_the_trainer_gets_the_models_own_prompts(settings, data, tmp_path):
    model = load_embedder(settings.model, PLAIN)
    dataset = pairs_dataset(data, [["pkg/apples.py::count_apples"]] * len(data.train), settings)
    arguments = contrastive._arguments(settings, model, dataset, PLAIN, 1, tmp_path, True)
    assert arguments.prompts == {"anchor": "query: ", "positive": "passage: ", "negative_1": "passage: "}


def test_the_same_seed_gives_the_same_model(settings, data, trained, tmp_path):
    train_embedder(settings, data, PLAIN, seed=5, out_dir=tmp_path)
    texts = [document.text for document in data.documents[:10]]
    first, second = (
        encode(load_embedder(str(folder / "embedder"), PLAIN), texts, kind="document", runtime=PLAIN)
        for folder in (trained[1], tmp_path)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("torn", ["", "optimizer.pt"])
def test_an_interrupted_run_resumes_from_its_newest_whole_checkpoint(
    settings, data, trained, tmp_path, monkeypatch, torn
):
    save = contrastive._LoopCallback.on_step_end

    def die(self, args, state, control, **kwargs):
        save(self, args, state, control, **kwargs)
        if state.global_step == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(contrastive._LoopCallback, "on_step_end", die)
    with pytest.raises(KeyboardInterrupt):
        train_embedder(settings, data, PLAIN, seed=5, out_dir=tmp_path)
    assert not (tmp_path / "embedder").exists()
    monkeypatch.setattr(contrastive._LoopCallback, "on_step_end", save)
    (checkpoint,) = (tmp_path / "checkpoints").glob("checkpoint-*")
    if torn:  # what a kill, or a full disk, leaves
        (checkpoint / torn).write_bytes((checkpoint / torn).read_bytes()[:100])
    history = train_embedder(settings, data, PLAIN, seed=5, out_dir=tmp_path)
    assert history["steps"] == trained[0]["steps"]
    assert history["loss"] == trained[0]["loss"]
    assert history["validation"] == trained[0]["validation"]


def test_hard_negatives_are_wrong_answers_from_training_files(settings, data):
    model = load_embedder(settings.model, PLAIN)
    wanted = dataclasses.replace(settings, hard_negatives=3)
    negatives, counts = mine_hard_negatives(model, data, wanted, PLAIN)
    assert sum(map(len, negatives)) == counts["mined"] == 3 * wanted.epochs * len(data.train)
    for query, ids in zip(data.train, negatives, strict=True):
        assert set(ids) <= set(data.train_documents)
        assert not set(ids) & set(query.relevant)


def test_likely_right_candidates_are_skipped(settings, data):
    allowed = ["t.py::right", "u.py::right", "t.py::twin", "t.py::close", "t.py::wrong"]
    tokens = {name: frozenset(name) for name in allowed}
    tokens["t.py::twin"] = tokens["t.py::right"]
    scores = {
        "t.py::right": 0.8,
        "u.py::right": 0.5,
        "t.py::twin": 0.5,
        "t.py::close": 0.79,
        "t.py::wrong": 0.5,
    }
    reasons = {
        name: hard_negatives._likely_right(name, "t.py::right", scores, tokens) for name in allowed[1:]
    }
    assert reasons == {
        "u.py::right": "same_name",
        "t.py::twin": "near_equal_code",
        "t.py::close": "scored_like_the_positive",
        "t.py::wrong": "",
    }


def test_an_index_of_all_documents_mines_only_from_training_files(settings, data):
    model = load_embedder(settings.model, PLAIN)
    everything = index_documents(model, data.documents, PLAIN, **SIZES)
    from_all, _ = mine_hard_negatives(model, data, settings, PLAIN, everything)
    from_train, _ = mine_hard_negatives(model, data, settings, PLAIN)
    assert from_all == from_train
    assert build_index(np.eye(2, dtype=np.float32), ["a", "b"]).ids == ("a", "b")


def test_pairs_join_each_query_with_its_own_function(settings, data):
    once = dataclasses.replace(settings, epochs=1, hard_negatives=0)
    nothing = [[] for _ in data.train]
    dataset = pairs_dataset(data, nothing, once)
    text_of = {document.id: short_form(document.text) for document in data.documents}
    assert dataset.column_names == ["anchor", "positive"]
    for row, query in zip(dataset, data.train, strict=True):
        assert row["anchor"] == query.text
        assert row["positive"] == text_of[next(iter(query.relevant))]
    shuffled = pairs_dataset(shuffled_pairs(data, 1), nothing, once)
    assert not any(a == b for a, b in zip(shuffled["positive"], dataset["positive"], strict=True))


def test_each_pass_takes_other_wordings_and_other_negatives(settings, data):
    passes = dataclasses.replace(settings, epochs=5, hard_negatives=1)
    ids = [document.id for document in data.documents[:3]]
    dataset = pairs_dataset(data, [ids] * len(data.train), passes)
    text_of = {document.id: short_form(document.text) for document in data.documents}
    each = len(data.train)
    assert len(dataset) == 5 * each
    for place, query in enumerate(data.train):
        rows = [dataset[number * each + place] for number in range(5)]
        wordings = (query.text, *data.rewordings[query.id])
        assert len(set(wordings)) == len(wordings) >= 2
        assert [row["anchor"] for row in rows] == [wordings[n % len(wordings)] for n in range(5)]
        assert {row["positive"] for row in rows} == {text_of[next(iter(query.relevant))]}
        assert [row["negative_1"] for row in rows] == [text_of[ids[n % 3]] for n in range(5)]


TEXTS = st.sampled_from("abcdefgh")
ROWS = st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=40)


def batches_of(rows, size: int, *, drop_last: bool = False, epoch: int = 0) -> CompatibleBatches:
    columns = dict(zip(("anchor", "positive", "negative_1"), map(list, zip(*rows, strict=True)), strict=True))
    batches = CompatibleBatches(Dataset.from_dict(columns), size, drop_last, seed=7)
    batches.set_epoch(epoch)
    return batches


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@given(ROWS, st.integers(1, 9))
def test_batches_hold_every_row_once_and_no_contradiction(rows, size):
    batches = batches_of(rows, size)
    made = list(batches)
    assert len(made) == len(batches)
    assert sorted(number for batch in made for number in batch) == list(range(len(rows)))
    assert batches.rows() == len(rows)
    for batch in made:
        assert 1 <= len(batch) <= size
        for one, other in itertools.permutations(batch, 2):
            (query, answer, _), (asked, right, wrong) = rows[one], rows[other]
            assert query != asked
            assert answer not in (right, wrong)
    full = batches_of(rows, size, drop_last=True)
    assert list(full) == [batch for batch in made if len(batch) == size]


def test_another_epoch_takes_another_order_and_the_same_one_the_same():
    rows = [(f"q{n}", f"p{n}", "n") for n in range(20)]
    first, again, other = (list(batches_of(rows, 8, epoch=epoch)) for epoch in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("shared", ["query", "negative", "answer"])
def test_all_rows_are_trained_on_whatever_they_share(settings, data, tmp_path, monkeypatch, shared):
    """A library's sampler took 35 of 40 rows where ten shared a query, and 5 where all shared a negative."""
    rows = [
        ("same query" if shared == "query" and n < 10 else f"query {n}",
         "def same(): pass" if shared == "answer" and n < 10 else f"def answer_{n}(): pass",
         "def wrong(): pass" if shared == "negative" else f"def wrong_{n}(): pass")
        for n in range(40)
    ]  # fmt: skip
    columns = dict(zip(("anchor", "positive", "negative_1"), map(list, zip(*rows, strict=True)), strict=True))
    monkeypatch.setattr(contrastive, "pairs_dataset", lambda *_: Dataset.from_dict(columns))
    seen = []
    collect = CountingTrainer.collect_features

    def noted(self, inputs):
        seen.append(len(inputs["anchor_input_ids"]))
        return collect(self, inputs)

    monkeypatch.setattr(CountingTrainer, "collect_features", noted)
    short = dataclasses.replace(settings, epochs=1, batch_pairs=8)
    train_embedder(short, data, PLAIN, seed=5, out_dir=tmp_path)
    assert sum(seen) == 2 * 40  # the trainer's count and the library's loss look once each
    assert max(seen) == 8


def test_a_training_that_takes_fewer_rows_is_refused(settings, data, tmp_path, monkeypatch):
    monkeypatch.setattr(CompatibleBatches, "__len__", lambda self: 2)
    with pytest.raises(CheckError, match=r"48 rows once each; 48 were put into batches and 32 of 48 reached"):
        train_embedder(dataclasses.replace(settings, epochs=1), data, PLAIN, seed=5, out_dir=tmp_path)
    assert not (tmp_path / "embedder").exists()


def test_rows_keep_texts_that_look_like_dates_and_numbers(settings, data):
    """A data set read from JSON would turn such texts into timestamps and floats."""
    texts = ["2024-01-01T00:00:00Z", "2024-01-01", str(2**63), "1e5", "nan", "true", ""]
    worded = [dataclasses.replace(query, text=text) for query, text in zip(data.train, texts, strict=False)]
    few = dataclasses.replace(data, train=tuple(worded), rewordings={})
    once = dataclasses.replace(settings, epochs=1, hard_negatives=0)
    assert pairs_dataset(few, [[]] * len(worded), once)["anchor"][:] == texts


def test_without_validation_the_last_epoch_is_kept(settings, data, tmp_path):
    short = dataclasses.replace(settings, epochs=1, hard_negatives=0)
    history = train_embedder(short, dataclasses.replace(data, validation=()), PLAIN, seed=5, out_dir=tmp_path)
    assert history["best_epoch"] is None
    assert history["validation_before"] is None
    assert (tmp_path / "embedder").is_dir()


def test_a_broken_loss_stops_the_training(settings, data, tmp_path):
    wild = dataclasses.replace(settings, learning_rate=1e30, epochs=2, hard_negatives=0)
    with pytest.raises((NonFiniteLossError, EmbedderError)):
        train_embedder(wild, data, PLAIN, seed=5, out_dir=tmp_path)
    assert not (tmp_path / "embedder").exists()


def test_nan_in_float16_trains_once_more_in_float32(settings, data, tmp_path, monkeypatch):
    seen = []

    def overflows(settings, data, runtime, seed, out_dir, index):
        seen.append(runtime.autocast_dtype)
        if runtime.autocast_dtype is not None:
            raise NonFiniteLossError("nan")
        return {"loss": []}

    monkeypatch.setattr(contrastive, "_train", overflows)
    half = dataclasses.replace(PLAIN, autocast_dtype=torch.float16)
    assert train_embedder(settings, data, half, seed=5, out_dir=tmp_path) == {"loss": []}
    assert seen == [torch.float16, None]


def test_one_pair_is_too_few(settings, data, tmp_path):
    with pytest.raises(ContrastiveError, match="at least 2 pairs"):
        train_embedder(
            settings, dataclasses.replace(data, train=data.train[:1]), PLAIN, seed=1, out_dir=tmp_path
        )
