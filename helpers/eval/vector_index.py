"""The vector store behind retrieval: build, search, save, load. FAISS, exact search.

Everything else asks only `build_index` and `search`, so another store can take its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from helpers.workspace import read_json, write_json


class RetrievalError(ValueError):
    """A run, an index or a cut-off that cannot be scored or searched."""


@dataclass(frozen=True)
class VectorIndex:
    """A FAISS inner-product index with the document id of each row."""

    ids: tuple[str, ...]
    vectors: faiss.Index

    @property
    def n_bytes(self) -> int:
        """Size of the index as it lies on disk."""
        return int(faiss.serialize_index(self.vectors).nbytes)


def build_index(vectors: np.ndarray, ids: Sequence[str]) -> VectorIndex:
    """Exact inner-product index (FAISS IndexFlatIP) over `vectors` (n, d), float32, L2-normalised.

    Raises:
        RetrievalError: if shapes and ids disagree, ids repeat, or a value is not finite.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(ids) or not len(ids):
        raise RetrievalError(f"vectors of shape {vectors.shape} do not match {len(ids)} document ids")
    if len(set(ids)) != len(ids):
        raise RetrievalError("document ids repeat; each document needs an id of its own")
    if not np.isfinite(vectors).all():
        raise RetrievalError("vectors hold NaN or infinity; the model that made them is broken")
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return VectorIndex(tuple(ids), index)


def search(index: VectorIndex, queries: np.ndarray, k: int) -> list[dict[str, float]]:
    """For each row of `queries` (m, d) its `k` best documents as {document id: inner product}."""
    scores, rows = index.vectors.search(
        np.ascontiguousarray(queries, dtype=np.float32), min(k, len(index.ids))
    )
    return [
        {index.ids[row]: float(score) for score, row in zip(line, hits, strict=True) if row >= 0}
        for line, hits in zip(scores, rows, strict=True)
    ]


def save_index(index: VectorIndex, folder: Path) -> None:
    """Write `index.faiss` and `ids.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "index.faiss.partial"
    faiss.write_index(index.vectors, str(partial))
    partial.replace(folder / "index.faiss")
    write_json(folder / "ids.json", list(index.ids))


def load_index(folder: Path) -> VectorIndex:
    """Read what `save_index` wrote.

    Raises:
        RetrievalError: if a file is missing or the two do not belong together.
    """
    try:
        ids = tuple(read_json(folder / "ids.json"))
        vectors = faiss.read_index(str(folder / "index.faiss"))
    except (OSError, RuntimeError, ValueError) as error:
        raise RetrievalError(f"no readable index in {folder}: {error}; build it again") from error
    if vectors.ntotal != len(ids):
        raise RetrievalError(f"{folder} holds {vectors.ntotal} vectors and {len(ids)} ids; build it again")
    return VectorIndex(ids, vectors)
