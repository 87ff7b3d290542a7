"""The vector store behind retrieval: build an index, search it, save and load it.

Callers use only `build_index` and `search`, so another store can replace FAISS. One setting chooses the
kind: "flat" is exact and the default; "hnsw" and "ivf" are approximate FAISS indexes for larger corpora;
"qdrant" is a second store (`helpers.eval.qdrant_store`) whose server form holds more than fits in memory.
`compare_kinds` measures the recall that the approximate kinds lose.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np

from helpers.errors import SuiteError
from helpers.eval.qdrant_store import QdrantStore
from helpers.run.workspace import read_json, write_json
from helpers.settings import INDEXES

KINDS = INDEXES
HNSW_LINKS, HNSW_BUILD, HNSW_SEARCH = 32, 200, 64  # Malkov & Yashunin 2018: M, efConstruction, ef
IVF_POINTS_PER_LIST = 39  # with fewer, k-means warns that its centroids are unreliable
IVF_PROBED = 0.25  # share of the lists that a query searches


class RetrievalError(SuiteError, ValueError):
    """A run, index or cut-off that cannot be scored or searched."""


class Store(Protocol):
    """What a vector store must offer; a FAISS index satisfies it unchanged."""

    ntotal: int  # vectors held

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return each query's `k` best vectors: inner products (m, k) and row numbers (m, k), -1 for none."""


@dataclass(frozen=True)
class VectorIndex:
    """A vector store with the document id of each row."""

    ids: tuple[str, ...]
    vectors: Store
    kind: str = "flat"

    @property
    def n_bytes(self) -> int:
        """Size of the vectors in bytes, as written to disk (FAISS) or held (Qdrant)."""
        if isinstance(self.vectors, QdrantStore):
            return self.vectors.n_bytes
        return int(faiss.serialize_index(self.vectors).nbytes)


def build_index(vectors: np.ndarray, ids: Sequence[str], kind: str = "flat") -> VectorIndex:
    """Build an inner-product index over `vectors` (n, d), float32, L2-normalised.

    The same vectors give the same index: graph and lists are built on one thread from a fixed seed.

    Raises:
        RetrievalError: if shapes and ids disagree, ids repeat, a value is not finite, or the kind is
            unknown.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(ids) or not len(ids):
        raise RetrievalError(f"vectors of shape {vectors.shape} do not match {len(ids)} document ids")
    if len(set(ids)) != len(ids):
        raise RetrievalError("document ids repeat; every document needs a unique id")
    if not np.isfinite(vectors).all():
        raise RetrievalError("vectors hold NaN or infinity; the model that made them is broken")
    if kind not in KINDS:
        raise RetrievalError(f"unknown kind of index {kind!r}; choose one of {', '.join(KINDS)}")
    return VectorIndex(tuple(ids), _store(vectors, kind), kind)


def nearest(index: VectorIndex, queries: np.ndarray, k: int) -> list[dict[str, float]]:
    """Return the `k` best documents for each row of `queries` (m, d), as {document id: inner product}.

    An approximate index may return fewer than `k`.
    """
    asked = np.ascontiguousarray(queries, dtype=np.float32)
    scores, rows = index.vectors.search(asked, min(k, len(index.ids)))
    return [
        {index.ids[row]: float(score) for score, row in zip(line, hits, strict=True) if row >= 0}
        for line, hits in zip(scores, rows, strict=True)
    ]


def save_index(index: VectorIndex, folder: Path) -> None:
    """Write `ids.json` and `index.faiss` (or the folder `qdrant`) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(index.vectors, QdrantStore):
        index.vectors.save(folder / "qdrant")
    else:
        partial = folder / "index.faiss.partial"
        faiss.write_index(index.vectors, str(partial))
        partial.replace(folder / "index.faiss")
    write_json(folder / "ids.json", {"kind": index.kind, "ids": list(index.ids)})


def load_index(folder: Path) -> VectorIndex:
    """Load what `save_index` wrote.

    Raises:
        RetrievalError: if a file is missing or the two files do not belong together.
    """
    try:
        kept = read_json(folder / "ids.json")
        ids, kind = tuple(kept["ids"]), kept["kind"]
        if kind == "qdrant":
            store: Store = QdrantStore.load(folder / "qdrant")
        else:
            store = faiss.read_index(str(folder / "index.faiss"))
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise RetrievalError(f"no readable index in {folder}: {error}; build it again") from error
    if store.ntotal != len(ids):
        raise RetrievalError(f"{folder} holds {store.ntotal} vectors and {len(ids)} ids; build it again")
    return VectorIndex(ids, store, kind)


def vectors_of(index: VectorIndex) -> np.ndarray:
    """Return the vectors (n, d) that the index holds, in the order of its ids."""
    if isinstance(index.vectors, QdrantStore):
        return index.vectors.all_vectors()
    if isinstance(index.vectors, faiss.IndexIVF):
        index.vectors.make_direct_map()
    return index.vectors.reconstruct_n(0, len(index.ids))  # type: ignore[union-attr]


def compare_kinds(
    vectors: np.ndarray, ids: Sequence[str], queries: np.ndarray, *, k: int = 10
) -> list[dict[str, Any]]:
    """Measure what each kind of FAISS index costs and misses on these vectors (n, d) and queries (m, d).

    Returns:
        Per kind: `recall` (mean share of the exact `k` best that it finds), `build_seconds`, `query_ms`
        (one query at a time) and `n_bytes`.
    """
    exact = nearest(build_index(vectors, ids), queries, k)
    rows = []
    for kind in ("flat", "hnsw", "ivf"):
        start = time.perf_counter()
        index = build_index(vectors, ids, kind)
        built = time.perf_counter()
        found = [nearest(index, query[None], k)[0] for query in queries]
        asked = time.perf_counter()
        shared = [len(a.keys() & b.keys()) / len(a) for a, b in zip(exact, found, strict=True)]
        row = {"kind": kind, "recall": float(np.mean(shared)), "build_seconds": built - start}
        rows.append(row | {"query_ms": 1000 * (asked - built) / len(queries), "n_bytes": index.n_bytes})
    return rows


def _store(vectors: np.ndarray, kind: str) -> Store:
    count, width = vectors.shape
    if kind == "qdrant":
        return QdrantStore(vectors)
    if kind == "flat":
        index = faiss.IndexFlatIP(width)
        index.add(vectors)
        return index
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # several threads would link the graph in a different order each time
    try:
        if kind == "hnsw":
            index = faiss.IndexHNSWFlat(width, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction, index.hnsw.efSearch = HNSW_BUILD, HNSW_SEARCH
        else:
            lists = max(1, min(int(4 * count**0.5), count // IVF_POINTS_PER_LIST))
            coarse = faiss.IndexFlatIP(width)
            index = faiss.IndexIVFFlat(coarse, width, lists, faiss.METRIC_INNER_PRODUCT)
            index.own_fields = True
            coarse.this.disown()  # the index frees it
            index.nprobe = max(1, round(IVF_PROBED * lists))
            index.train(vectors)
        index.add(vectors)
    finally:
        faiss.omp_set_num_threads(threads)
    return index
