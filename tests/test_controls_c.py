"""Track C's controls: each a stage with rows of its own; what tables, sentences and the figure tell of them."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from tiny_embedder import save_tiny_embedder, small_code_base

from helpers.data import foreign
from helpers.data.foreign import foreign_retrieval
from helpers.data.queries.retrieval_data import build_retrieval_data
from helpers.errors import InsufficientDataError
from helpers.eval.retrieval import (
    index_documents,
    index_facts,
    per_query_rows,
    qrels_of,
    query_groups,
    retrieve,
    score_measures,
)
from helpers.machine.hardware import Runtime
from helpers.models.embedder import load_embedder
from helpers.profiles import EMBEDDED
from helpers.report.metrics import record_track_c, track_c_rows
from helpers.report.plots_c import training_points
from helpers.report.tables import change_text, estimate_text
from helpers.report.tables_c import (
    index_table,
    latency_sentence,
    search_control_sentences,
    search_sentence,
    system_table,
)
from helpers.run.workspace import Workspace, read_json
from helpers.tracks import controls_c
from helpers.tracks.controls_c import foreign_package, measure_controls
from helpers.tracks.guards import Guards
from helpers.train.averaged_embedder import train_averaged

PLAIN = Runtime(torch.device("cpu"), torch.float32, None, "sdpa", 1.0, ())
SIZES = {"batch_size": 32, "max_tokens": 48}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A session in a folder of its own, as far as the controls need one."""
    folder = tmp_path_factory.mktemp("run")
    base = save_tiny_embedder(folder / "base")
    settings = dataclasses.replace(
        EMBEDDED.track_c, model=str(base), train_pairs=24, validation_pairs=4, test_queries=12, max_tokens=48,
        epochs=2, learning_rate=3e-3, batch_pairs=12, encode_batch=32, seeds=2, controls=True,
    )  # fmt: skip
    workspace = Workspace(folder)
    return SimpleNamespace(
        profile=SimpleNamespace(track_c=settings), seed=7, runtime=PLAIN, folder=folder, workspace=workspace,
        guards=Guards(folder), stage=workspace.stage, history=lambda name: read_json(folder / name / "history.json"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured(run):
    settings = run.profile.track_c
    data = build_retrieval_data(*small_code_base(), settings, seed=3)
    untouched = load_embedder(settings.model, PLAIN)
    index = index_documents(untouched, data.documents, PLAIN, **SIZES)
    before = retrieve(untouched, data.test, index, PLAIN, **SIZES)
    trained = run.stage(
        "track_c/train",
        "main",
        lambda out: train_averaged(settings, data, PLAIN, seed=run.seed, out_dir=out, index=index),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls_c, "FOREIGN_QUERIES", 10)
        patch.setattr(foreign, "MAX_FILES", 5)
        controls = measure_controls(run, data, before, index, trained, exclude="networkx")
    return data, before, index, trained, controls


def test_every_control_asked_for_is_kept_with_a_row_per_query(run, measured):
    data, before, _, _, controls = measured
    assert list(controls) == ["seed_7", "seed_8", "shuffled_pairs", "foreign_package"]
    qrels = qrels_of(data.test)
    for name in ("seed_7", "seed_8", "shuffled_pairs"):
        assert [row["id"] for row in controls[name]] == [query.id for query in data.test]
        assert {row["id"]: row["before"] for row in controls[name]} == score_measures(before, qrels)
        assert not (run.folder / f"track_c/control_{name}/embedder").exists()
    assert controls["seed_8"] != controls["seed_7"]
    assert len(controls["foreign_package"]) == 10
    assert foreign_package(run)["foreign_documents"] > 20


def test_a_second_call_finds_them_and_a_profile_without_controls_makes_none(run, measured, monkeypatch):
    data, before, index, trained, controls = measured
    monkeypatch.setattr(controls_c, "train_embedder", None)
    monkeypatch.setattr(controls_c, "foreign_retrieval", None)
    again = measure_controls(run, data, before, index, trained, exclude="networkx")
    assert again == controls
    bare = dataclasses.replace(run.profile.track_c, controls=False)
    without = SimpleNamespace(**{**vars(run), "profile": SimpleNamespace(track_c=bare)})
    assert list(measure_controls(without, data, before, index, trained, exclude="networkx")) == [
        "seed_7", "seed_8",
    ]  # fmt: skip


def test_tables_and_figure_tell_what_was_measured(run, measured):
    data, before, index, trained, controls = measured
    tuned = load_embedder(str(trained / "embedder"), PLAIN)
    after = retrieve(tuned, data.test, index, PLAIN, **SIZES)
    scores = [score_measures(ranked, qrels_of(data.test)) for ranked in (before, after)]
    rows = track_c_rows(
        per_query_rows(data.test, before, after), *scores,
        groups=query_groups(data.test, data.documents),
        baselines={
            "bm25": scores[0], "bm25_and_before_weighted": scores[0], "bm25_and_after_weighted": scores[1],
        },
    )  # fmt: skip
    facts = index_facts(tuned, data.test, index, PLAIN, **SIZES)
    track = record_track_c(
        rows, model="tiny", seed=1, samples=200, cost={"seconds": 1.0, "index": facts},
        data={
            "foreign_package": "rich 1.0", "word_weights": {"before": {"weight": 0.2}, "after": {"weight": 0.05}},
        },
        control_rows=controls,
    )  # fmt: skip
    assert list(system_table(track).index) == [
        "BM25", "untouched embedder", "BM25 + untouched embedder, weighted scores", "tuned embedder",
        "BM25 + tuned embedder, weighted scores (search)",
    ]  # fmt: skip
    entry = track["metrics"]["mrr@10/with BM25 weighed in"]
    said = search_sentence(track)
    assert "is 0.05 for the tuned embedder and 0.2 for the untouched one" in said
    assert said.index(estimate_text(entry["after"])) < said.index(estimate_text(entry["before"]))
    assert said.endswith(f"Tuning changes it by {change_text(entry['delta'])}.")
    assert list(index_table(track).index) == ["flat (used)", "hnsw", "ivf"]
    assert "One search over 80 functions takes" in latency_sentence(track)
    said = search_control_sentences(track)
    assert said.startswith("2 training runs from different seeds reach ")
    assert "After one pass over shuffled pairs, the change is" in said
    assert "10 queries over rich 1.0" in said
    assert "seed 8" in training_points(track).get_label()
    bare = {**track, "controls": {}}
    assert search_control_sentences(bare) == "This profile measures no controls."
    assert "seed 8" not in training_points(bare).get_label()


def test_sentences_turn_with_the_figures():
    def entry(value: float, low: float, high: float) -> dict:
        estimate = {"value": 0.5, "ci95": [0.4, 0.6], "n": 9}
        delta = {"value": value, "ci95": [low, high], "p_value": 0.5, "test": "by hand"}
        return {"before": estimate, "after": estimate, "delta": delta}

    track = {"primary_metric": "mrr@10", "metrics": {}, "data": {}}
    kept = search_control_sentences({**track, "controls": {"foreign_package": entry(0.01, -0.1, 0.1)}})
    assert "not detectably different" in kept
    lost = search_control_sentences({**track, "controls": {"foreign_package": entry(-0.2, -0.3, -0.1)}})
    assert "retrieval is worse after tuning" in lost
    helped = search_control_sentences({**track, "controls": {"shuffled_pairs": entry(0.2, 0.1, 0.3)}})
    assert "it helps, so part of the gain" in helped
    idle = search_control_sentences({**track, "controls": {"shuffled_pairs": entry(-0.1, -0.3, 0.1)}})
    assert idle.endswith("it does not help.")


def test_foreign_queries_come_from_another_package(monkeypatch):
    monkeypatch.setattr(foreign, "MAX_FILES", 5)
    monkeypatch.setattr(foreign, "PACKAGES", ("rich", "jinja2"))
    name, queries, documents = foreign_retrieval(5, 1, exclude="rich")
    assert name.startswith("jinja2 ")
    assert len(queries) == 5
    assert {i for query in queries for i in query.relevant} <= {document.id for document in documents}
    assert foreign_retrieval(5, 1, exclude="rich") == (name, queries, documents)
    monkeypatch.setattr(foreign, "PACKAGES", ("rich",))
    with pytest.raises(InsufficientDataError, match="none of rich is installed"):
        foreign_retrieval(5, 1, exclude="rich")
