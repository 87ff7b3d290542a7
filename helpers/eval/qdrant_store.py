"""A vector store in Qdrant, the alternative to FAISS behind `helpers.eval.vector_index`.

By default Qdrant runs embedded, in memory or in a folder, and searches exactly. To hold more vectors than
fit in memory, pass `QdrantStore` a client that is connected to a server.
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
    """One collection of vectors, compared by inner product; a vector's id is its row number."""

    def __init__(self, vectors: np.ndarray | None = None, client: QdrantClient | None = None) -> None:
        """Store `vectors` (n, d), float32, in `client`; without vectors, use those the client holds.

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
        """Load into memory what `save` wrote; the folder is unlocked afterwards."""
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        with contextlib.closing(_client(folder)) as kept:
            return cls(cls(client=kept).all_vectors())

    @property
    def n_bytes(self) -> int:
        """Size of the vectors alone, in bytes."""
        return self.ntotal * self.client.get_collection(COLLECTION).config.params.vectors.size * 4

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return each query's `k` best vectors: inner products (m, k) and row numbers (m, k), -1 for none."""
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
        """Write the collection into `folder`, replacing its content."""
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.closing(_client(folder)) as kept:
            QdrantStore(self.all_vectors(), kept)

    def all_vectors(self) -> np.ndarray:
        """Return every vector (n, d), in row order."""
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
        rows = range(len(vectors))
        self.client.upload_collection(COLLECTION, vectors, ids=rows, batch_size=BATCH, wait=True)


def _client(place: Path | str) -> QdrantClient:
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise RuntimeError("the index kind 'qdrant' needs `pip install qdrant-client`") from error
    return QdrantClient(place) if place == ":memory:" else QdrantClient(path=str(place))
