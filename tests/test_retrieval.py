"""Retrieval measures against hand-computed values and independent definitions; the index; shown examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_embedder import save_tiny_embedder, small_code_base

from helpers.data.queries.documents import document_text, short_form
from helpers.eval.retrieval import (
    RetrievalError,
    file_level,
    first_relevant_ranks,
    index_documents,
    mean_scores,
    per_query_rows,
    qrels_of,
    query_groups,
    ranking,
    retrieve,
    score_measures,
    score_run,
    search_examples,
)
from helpers.machine.hardware import Runtime
from helpers.models.embedder import load_embedder
from helpers.records import Document, Query

PLAIN = Runtime(torch.device("cpu"), torch.float32, None, "sdpa", 1.0, ())


def query(
    name: str, relevant: list[str], kind: str = "how_to", overlap: float = 0.0, text: str = ""
) -> Query:
    return Query(name, text or f"text of {name}", kind, dict.fromkeys(relevant, 1), "a.py", overlap)


# --- measures by hand ----------------------------------------------------------------------------


def test_binary_judgements_by_hand():
    run = {"q": {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}}
    scores = score_run(run, {"q": {"b": 1, "d": 1, "z": 1}}, k=3)["q"]
    assert scores["mrr@3"] == 1 / 2
    assert scores["recall@3"] == pytest.approx(1 / 3)
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert scores["ndcg@3"] == pytest.approx((1 / math.log2(3)) / ideal, abs=1e-12)


def test_graded_gain_is_linear_and_the_ideal_takes_all_judged_documents():
    run = {"q": {"a": 3.0, "b": 2.0}}
    scores = score_run(run, {"q": {"a": 1, "b": 3, "unfound": 2}}, k=10)["q"]
    gained = 1 + 3 / math.log2(3)
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    assert scores["ndcg@10"] == pytest.approx(gained / ideal, abs=1e-12)
    assert scores["recall@10"] == pytest.approx(2 / 3)
    assert scores["mrr@10"] == 1.0


def test_the_ideal_is_cut_at_k():
    scores = score_run({"q": {"a": 1.0}}, {"q": {"a": 1, "b": 1, "c": 1}}, k=1)["q"]
    assert scores == {"mrr@1": 1.0, "ndcg@1": 1.0, "recall@1": pytest.approx(1 / 3)}


def test_ties_break_by_document_id_descending_whatever_the_insertion_order():
    ids = ["d1", "d10", "d2", "e"]
    for order in (ids, ids[::-1]):
        constant = {"q": dict.fromkeys(order, 0.5)}
        assert ranking(constant["q"]) == ["e", "d2", "d10", "d1"]
        assert score_run(constant, {"q": {"d2": 1}}, k=10)["q"]["mrr@10"] == 1 / 2


def test_a_constant_scorer_scores_at_chance_level():
    n, k = 200, 10
    ids = [f"{number:03d}" for number in range(n)]
    run = {i: dict.fromkeys(ids, 1.0) for i in ids}
    means = mean_scores(score_run(run, {i: {i: 1} for i in ids}, k))
    assert means["recall@10"] == pytest.approx(k / n)
    assert means["mrr@10"] == pytest.approx(sum(1 / rank for rank in range(1, k + 1)) / n)


def test_missing_queries_score_zero_and_extra_ones_are_not_scored():
    qrels = {"missing": {"a": 1}, "empty": {"a": 1}, "unjudged": {}}
    scores = score_run({"empty": {}, "extra": {"a": 1.0}, "unjudged": {"a": 1.0}}, qrels)
    assert set(scores) == {"missing", "empty", "unjudged"}
    assert all(value == 0.0 for row in scores.values() for value in row.values())


def test_a_document_named_like_its_query_is_not_dropped():
    assert score_run({"x": {"x": 1.0, "y": 0.5}}, {"x": {"x": 1}})["x"]["mrr@10"] == 1.0


def test_grades_of_zero_and_below_are_not_relevant():
    scores = score_run({"q": {"a": 2.0, "b": 1.5, "c": 1.0}}, {"q": {"a": 0, "b": -1, "c": 1}}, k=3)["q"]
    assert scores["mrr@3"] == pytest.approx(1 / 3)
    assert scores["recall@3"] == 1.0
    assert scores["ndcg@3"] == pytest.approx(0.5)


@pytest.mark.parametrize("k", [0, -1, 2.5, True])
def test_bad_cut_offs_are_refused(k):
    with pytest.raises(RetrievalError, match="at least 1"):
        score_run({}, {"q": {"a": 1}}, k=k)


def test_nan_scores_are_refused():
    with pytest.raises(RetrievalError, match="NaN"):
        score_run({"q": {"a": float("nan"), "b": 1.0}}, {"q": {"a": 1}})


# --- measures against an independent definition ---------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "grades", "expected"),
    [  # graded; ties; a constant scorer; a run shorter than k: ndcg_cut_3, recall_3, recip_rank
        ({"d": 0.9, "c": 0.8, "e": 0.7, "a": 0.6}, {"a": 3, "b": 1, "c": 2, "d": 0},
         (0.26499301486112564, 1 / 3, 0.5)),
        ({"d1": 0.5, "d10": 0.5, "d2": 0.5, "e": 0.9, "f": 0.5}, {"d1": 1, "d2": 2, "d10": 1},
         (0.31939394323979897, 1 / 3, 1 / 3)),
        (dict.fromkeys("uvwxyz", 1.0), {"x": 1}, (0.5, 1.0, 1 / 3)),
        ({"b": -2.0}, {"a": 1, "b": 2, "c": 1}, (0.6387878864795979, 1 / 3, 1.0)),
    ],
)  # fmt: skip
def test_values_that_trec_eval_itself_gives(scores, grades, expected):
    row = score_run({"q": scores}, {"q": grades}, 3)["q"]
    assert (row["ndcg@3"], row["recall@3"], row["mrr@3"]) == pytest.approx(expected, abs=1e-9)


documents_ids = st.sampled_from([f"d{number}" for number in range(12)])
runs = st.dictionaries(documents_ids, st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=12)
judgements = st.dictionaries(documents_ids, st.integers(0, 3), max_size=12)


def brute_force(scores: dict, grades: dict, k: int) -> tuple[float, float, float]:
    """trec_eval's definitions spelled out with a selection sort and explicit loops."""
    left = dict(scores)
    ranked = []
    while left:
        best = None
        for name, score in left.items():
            if best is None or score > left[best] or (score == left[best] and name > best):
                best = name
        ranked.append(best)
        del left[best]
    dcg = reciprocal = 0.0
    found = 0
    for position in range(min(k, len(ranked))):
        grade = grades.get(ranked[position], 0)
        dcg += grade / math.log2(position + 2)
        if grade > 0:
            found += 1
            reciprocal = reciprocal or 1 / (position + 1)
    positive = sorted([g for g in grades.values() if g > 0])[::-1]
    ideal = sum(positive[i] / math.log2(i + 2) for i in range(min(k, len(positive))))
    return reciprocal, dcg / ideal if positive else 0.0, found / len(positive) if positive else 0.0


@settings(max_examples=200, deadline=None)
@given(runs, judgements, st.integers(1, 14))
def test_agrees_with_brute_force(scores, grades, k):
    row = score_run({"q": scores}, {"q": grades}, k)["q"]
    expected = brute_force(scores, grades, k)
    assert (row[f"mrr@{k}"], row[f"ndcg@{k}"], row[f"recall@{k}"]) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(runs, judgements, st.randoms(use_true_random=False))
def test_insertion_order_and_other_queries_do_not_matter(scores, grades, rng):
    shuffled = list(scores.items())
    rng.shuffle(shuffled)
    alone = score_run({"q": scores}, {"q": grades})["q"]
    together = score_run({"p": {"d1": 1.0}, "q": dict(shuffled)}, {"p": {"d1": 1}, "q": grades})["q"]
    assert alone == together


def test_without_ties_document_names_do_not_matter():
    rng = np.random.default_rng(3)
    scores = {f"d{i}": float(value) for i, value in enumerate(rng.permutation(30))}
    grades = {f"d{i}": int(grade) for i, grade in enumerate(rng.integers(0, 3, 30))}
    rename = {old: f"x{number:02d}" for number, old in enumerate(rng.permutation(list(scores)))}
    renamed = score_run(
        {"q": {rename[d]: s for d, s in scores.items()}}, {"q": {rename[d]: g for d, g in grades.items()}}
    )
    assert renamed == score_run({"q": scores}, {"q": grades})


def test_agrees_with_the_evaluator_of_sentence_transformers(searched):
    from sentence_transformers.evaluation import InformationRetrievalEvaluator

    model, queries, documents = searched
    evaluator = InformationRetrievalEvaluator(
        queries={query.id: query.text for query in queries},
        corpus={document.id: short_form(document.text) for document in documents},
        relevant_docs={query.id: set(query.relevant) for query in queries},
        mrr_at_k=[10], ndcg_at_k=[10], precision_recall_at_k=[1, 5, 10], write_csv=False,
    )  # fmt: skip
    theirs = {name.removeprefix("cosine_"): value for name, value in evaluator(model).items()}
    ours = mean_scores(score_measures(run_of(searched, documents), qrels_of(queries)))
    assert 0 < ours["mrr@10"] < 1
    assert ours == pytest.approx({name: theirs[name] for name in ours}, abs=1e-9)


def test_order_of_the_corpus_and_size_of_batches_do_not_matter(searched):
    model, queries, documents = searched
    expected = score_measures(run_of(searched, documents), qrels_of(queries))
    assert score_measures(run_of(searched, documents[::-1], batch_size=3), qrels_of(queries)) == expected
    one_by_one = [run_of((model, [query], documents), documents) for query in queries]
    together = {name: hits for run in one_by_one for name, hits in run.items()}
    assert score_measures(together, qrels_of(queries)) == expected


def run_of(searched, documents, batch_size: int = 64) -> dict:
    model, queries, _ = searched
    sizes = {"batch_size": batch_size, "max_tokens": 48}
    return retrieve(model, queries, index_documents(model, documents, PLAIN, **sizes), PLAIN, **sizes)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A tiny embedder, 80 documents and a question for every second of them."""
    model = load_embedder(str(save_tiny_embedder(tmp_path_factory.mktemp("embedder") / "tiny")), PLAIN)
    functions, _ = small_code_base()
    documents = [Document(f.id, document_text(f), f.path) for f in functions]
    return model, [query(f.id, [f.id], text=f.docstring) for f in functions[::2]], documents


# --- ranks, files, BM25, fusion -------------------------------------------------------------------


def test_first_relevant_ranks_and_rows():
    queries = [query("q1", ["b"]), query("q2", ["z"])]
    before = {"q1": {"a": 0.9, "b": 0.5}, "q2": {"a": 1.0}}
    after = {"q1": {"a": 0.1, "b": 0.5}, "q2": {"a": 1.0, "z": 0.1}}
    assert first_relevant_ranks(before, qrels_of(queries)) == {"q1": 2, "q2": None}
    rows = per_query_rows(queries, before, after)
    assert [(row["rank_before"], row["rank_after"]) for row in rows] == [(2, 1), (None, 2)]
    assert rows[0]["top3_after"] == ["b", "a"]


def test_examples_show_losses_as_well_as_gains():
    queries = [query(f"q{number}", ["r"]) for number in range(9)]
    up, down = {"r": 1.0, "a": 0.5}, {"r": 0.1, "a": 0.5}
    before = {q.id: (down if place < 6 else up) for place, q in enumerate(queries)}
    after = {q.id: (up if place < 6 else down) for place, q in enumerate(queries)}
    rows = per_query_rows(queries, before, after)
    shown = search_examples(rows, n=6, seed=1)
    assert [row["why"] for row in shown].count("gained") == 2
    assert [row["why"] for row in shown].count("lost") == 2
    assert len({row["query_id"] for row in shown}) == 6
    assert shown == search_examples(rows[::-1], n=6, seed=1)


def test_a_file_scores_as_its_best_function():
    documents = [
        Document("a.py::f", "", "a.py"),
        Document("a.py::g", "", "a.py"),
        Document("b.py::h", "", "b.py"),
    ]
    queries = [query("q", ["a.py::f"], kind="where_is")]
    run, qrels = file_level({"q": {"a.py::f": 0.1, "a.py::g": 0.9, "b.py::h": 0.5}}, queries, documents)
    assert run == {"q": {"a.py": 0.9, "b.py": 0.5}}
    assert score_run(run, qrels)["q"]["mrr@10"] == 1.0


def test_groups_by_kind_and_overlap():
    queries = [
        query("a", [], overlap=0.0),
        query("b", [], overlap=0.5),
        query("c", [], "where_is", overlap=1.0),
    ]
    assert query_groups(queries) == {
        "kind: how_to": ["a", "b"],
        "kind: where_is": ["c"],
        "overlap: most": ["b"],
        "overlap: name only": ["c"],
        "overlap: none": ["a"],
    }


def test_groups_by_the_words_that_the_code_repeats():
    documents = [Document("d", "def shortest_path(G): return paths", "a.py")]
    texts = {"few": "cheapest route through mazes", "half": "path of lengths", "most": "the shortest paths"}
    queries = [query(name, ["d"], text=text) for name, text in texts.items()]
    groups = query_groups(queries, documents)
    assert {name: groups[f"words in the code: {name}"] for name in texts} == {name: [name] for name in texts}


def test_recall_at_one_and_five_is_reported_too():
    run = {"q": {f"d{rank}": -float(rank) for rank in range(1, 13)}}
    row = score_measures(run, {"q": {"d1": 1, "d3": 1, "d7": 1, "d11": 1}})["q"]
    assert set(row) == {"mrr@10", "ndcg@10", "recall@10", "recall@1", "recall@5"}
    assert [row[f"recall@{k}"] for k in (1, 5, 10)] == [1 / 4, 2 / 4, 3 / 4]
    assert row["mrr@10"] == 1.0
