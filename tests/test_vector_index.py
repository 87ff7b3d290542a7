"""Every kind of index against plain matrix products; saving and loading; refusal of bad vectors."""

from __future__ import annotations

import json

import faiss
import numpy as np
import pytest

from helpers.eval import qdrant_store
from helpers.eval.vector_index import (
    KINDS,
    RetrievalError,
    build_index,
    compare_kinds,
    load_index,
    nearest,
    save_index,
    vectors_of,
)

NAMES = [f"d{row:03d}" for row in range(400)]


def unit_rows(seed: int, count: int, width: int = 16) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


VECTORS, QUESTIONS = unit_rows(1, 400), unit_rows(2, 20)


@pytest.mark.parametrize("kind", ["flat", "qdrant"])
def test_exact_kinds_equal_brute_force(kind):
    found = nearest(build_index(VECTORS, NAMES, kind), QUESTIONS, 10)
    for line, hits in zip(QUESTIONS @ VECTORS.T, found, strict=True):
        assert list(hits) == [NAMES[row] for row in np.argsort(-line)[:10]]
        assert list(hits.values()) == pytest.approx(np.sort(line)[::-1][:10].tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_approximate_kinds_give_exact_scores_and_miss_little(kind):
    exact = nearest(build_index(VECTORS, NAMES), QUESTIONS, len(NAMES))
    found = nearest(build_index(VECTORS, NAMES, kind), QUESTIONS, 10)
    for every, hits in zip(exact, found, strict=True):
        assert hits == pytest.approx({name: every[name] for name in hits}, abs=1e-5)
    row = {row["kind"]: row for row in compare_kinds(VECTORS, NAMES, QUESTIONS)}[kind]
    assert 0.5 < row["recall"] <= 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_vectors_give_the_same_index(kind):
    threads = faiss.omp_get_max_threads()
    first, second = (nearest(build_index(VECTORS, NAMES, kind), QUESTIONS, 7) for _ in range(2))
    assert first == second
    assert faiss.omp_get_max_threads() == threads


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_index_answers_the_same(tmp_path, kind):
    index = build_index(VECTORS, NAMES, kind)
    save_index(index, tmp_path / "index")
    loaded = load_index(tmp_path / "index")
    assert (loaded.ids, loaded.kind) == (index.ids, kind)
    assert nearest(loaded, QUESTIONS, 5) == nearest(index, QUESTIONS, 5)
    again = load_index(tmp_path / "index")  # nothing was left locked
    assert nearest(again, QUESTIONS[:1], 3) == nearest(index, QUESTIONS[:1], 3)
    save_index(build_index(VECTORS[:9], NAMES[:9], kind), tmp_path / "index")  # replaces, never mixes
    assert len(load_index(tmp_path / "index").ids) == 9


@pytest.mark.parametrize("kind", KINDS)
def test_few_vectors_and_more_wanted_than_there_are(kind):
    (hits,) = nearest(build_index(VECTORS[:3], NAMES[:3], kind), VECTORS[:1], 10)
    assert next(iter(hits)) == NAMES[0]
    assert set(hits) <= set(NAMES[:3])


@pytest.mark.parametrize("kind", KINDS)
def test_the_vectors_can_be_read_back(kind):
    np.testing.assert_allclose(vectors_of(build_index(VECTORS, NAMES, kind)), VECTORS, atol=1e-6)


def test_size_is_that_of_the_file(tmp_path):
    index = build_index(VECTORS, NAMES)
    save_index(index, tmp_path)
    assert index.n_bytes == (tmp_path / "index.faiss").stat().st_size
    assert build_index(VECTORS, NAMES, "qdrant").n_bytes == VECTORS.nbytes


def test_comparison_measures_against_the_exact_index():
    rows = compare_kinds(VECTORS, NAMES, QUESTIONS, k=5)
    assert [row["kind"] for row in rows] == ["flat", "hnsw", "ivf"]
    assert rows[0]["recall"] == 1.0
    assert all(row["query_ms"] > 0 and row["n_bytes"] >= VECTORS.nbytes for row in rows)
    lists = build_index(VECTORS, NAMES, "ivf").vectors
    lists.nprobe = lists.nlist  # looking everywhere is exact
    assert (
        lists.search(QUESTIONS, 5)[1].tolist()
        == build_index(VECTORS, NAMES).vectors.search(QUESTIONS, 5)[1].tolist()
    )


def test_a_server_client_can_take_the_place_of_the_embedded_one(tmp_path):
    from qdrant_client import QdrantClient

    client = QdrantClient(path=str(tmp_path / "elsewhere"))
    store = qdrant_store.QdrantStore(VECTORS, client)
    assert qdrant_store.QdrantStore(client=client).search(QUESTIONS, 4)[1].tolist() == (
        store.search(QUESTIONS, 4)[1].tolist()
    )
    client.close()
    with pytest.raises(ValueError, match="no collection"):
        qdrant_store.QdrantStore()


def test_mismatched_files_are_refused(tmp_path):
    save_index(build_index(VECTORS, NAMES), tmp_path)
    (tmp_path / "ids.json").write_text(json.dumps({"kind": "flat", "ids": ["d000"]}))
    with pytest.raises(RetrievalError, match="400 vectors and 1 ids"):
        load_index(tmp_path)
    (tmp_path / "ids.json").write_text("[1]")
    with pytest.raises(RetrievalError, match="no readable index"):
        load_index(tmp_path)
    for kind in ("flat", "qdrant"):
        (tmp_path / "ids.json").write_text(json.dumps({"kind": kind, "ids": []}))
        (tmp_path / "index.faiss").unlink(missing_ok=True)
        with pytest.raises(RetrievalError, match="no readable index"):
            load_index(tmp_path)


def test_bad_vectors_and_kinds_are_refused():
    good = np.eye(3, dtype=np.float32)
    with pytest.raises(RetrievalError, match="NaN"):
        build_index(good * np.nan, ["a", "b", "c"])
    with pytest.raises(RetrievalError, match="repeat"):
        build_index(good, ["a", "b", "b"])
    with pytest.raises(RetrievalError, match="2 document ids"):
        build_index(good, ["a", "b"])
    with pytest.raises(RetrievalError, match="choose one of flat, hnsw, ivf, qdrant"):
        build_index(good, ["a", "b", "c"], "annoy")
