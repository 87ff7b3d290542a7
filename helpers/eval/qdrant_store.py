"""Vectors in Qdrant, as the second store behind `helpers.eval.vector_index`.

Here it runs embedded, in memory or in a folder, and searches exactly. A server holds what memory
does not: give `QdrantStore` a client made with its address, nothing else changes.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

COLLECTION = "functions"
BATCH = 256


class QdrantStore:
    """One collection of vectors compared by inner product; a vector's id is its row."""

    def __init__(self, vectors: np.ndarray | None = None, client: QdrantClient | None = None) -> None:
        """Hold `vectors` (n, d), float32, in `client`; without vectors take what the client holds.

        Raises:
            RuntimeError: if qdrant-client is not installed.
            ValueError: if there are no vectors and the client holds none.
        """
        self.client = client or _client(":memory:")
        if vectors is not None:
            self._fill(vectors)
        if not self.client.collection_exists(COLLECTION):
            raise ValueError(f"the Qdrant store has no collection {COLLECTION!r}")
        self.ntotal = self.client.count(COLLECTION).count

    @classmethod
    def load(cls, folder: Path) -> QdrantStore:
        """Read what `save` wrote into memory; the folder is free again afterwards."""
        with contextlib.closing(_client(_existing(folder))) as kept:
            return cls(cls(client=kept).all_vectors())

    @property
    def n_bytes(self) -> int:
        """Bytes of the vectors alone."""
        return self.ntotal * self.client.get_collection(COLLECTION).config.params.vectors.size * 4

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Inner products (m, k) and rows (m, k) of the `k` best vectors per query, -1 for none."""
        from qdrant_client.models import QueryRequest

        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        for start in range(0, len(queries), BATCH):
            asked = [QueryRequest(query=query.tolist(), limit=k) for query in queries[start : start + BATCH]]
            for place, answer in enumerate(self.client.query_batch_points(COLLECTION, asked), start):
                for column, point in enumerate(answer.points):
                    scores[place, column], rows[place, column] = point.score, point.id
        return scores, rows

    def save(self, folder: Path) -> None:
        """Write the collection into `folder`, replacing what is there."""
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.closing(_client(folder)) as kept:
            QdrantStore(self.all_vectors(), kept)

    def all_vectors(self) -> np.ndarray:
        """Every vector (n, d), in the order of the rows."""
        found: dict[int, list[float]] = {}
        offset = None
        while True:
            points, offset = self.client.scroll(COLLECTION, limit=BATCH, offset=offset, with_vectors=True)
            found |= {point.id: point.vector for point in points}
            if offset is None:
                return np.array([found[row] for row in range(len(found))], dtype=np.float32)

    def _fill(self, vectors: np.ndarray) -> None:
        from qdrant_client.models import Distance, VectorParams

        shape = VectorParams(size=vectors.shape[1], distance=Distance.DOT)
        self.client.create_collection(COLLECTION, vectors_config=shape)
        self.client.upload_collection(
            COLLECTION, vectors=vectors, ids=range(len(vectors)), batch_size=BATCH, wait=True
        )


def _client(place: Path | str) -> QdrantClient:
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise RuntimeError("the index kind 'qdrant' needs `pip install qdrant-client`") from error
    return QdrantClient(place) if place == ":memory:" else QdrantClient(path=str(place))


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    return folder
