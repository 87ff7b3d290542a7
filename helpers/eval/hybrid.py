"""Hybrid search: the embedder's cosine plus a weighted BM25 score.

The validation queries choose the weight for each embedder separately, so the untouched embedder is not
handicapped by the tuned one's weight. `python -m helpers search` uses the tuned embedder and its weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from helpers.data.queries.retrieval_data import RetrievalData
from helpers.eval.fusion import choose_weight
from helpers.eval.lexical import LexicalIndex, build_lexical_index, load_lexical_index, save_lexical_index
from helpers.eval.retrieval import VectorIndex, qrels_of, retrieve
from helpers.machine.hardware import Runtime
from helpers.run.workspace import read_json, write_json

Side = tuple[SentenceTransformer, VectorIndex]  # an embedder and the index of the documents it encoded


@dataclass(frozen=True)
class Hybrid:
    """A lexical index over every document, and the BM25 weight chosen for each embedder."""

    words: LexicalIndex
    chosen: Mapping[str, Mapping[str, Any]]  # "before", "after": as `choose_weight` returns

    def weight(self, side: str) -> float:
        """Return the weight of the normalised BM25 score, on the cosine scale."""
        return float(self.chosen[side]["weight"])


def build_hybrid(
    data: RetrievalData, sides: Mapping[str, Side], runtime: Runtime, out: Path, **encoding: int
) -> None:
    """Build the lexical index and choose each side's weight on the validation queries.

    Args:
        sides: "before" and "after".
        out: folder to fill; `load_hybrid` reads it.
        encoding: `batch_size` and `max_tokens` that the documents were encoded with.
    """
    words = build_lexical_index(data.documents)
    lexical, qrels = words.run(data.validation), qrels_of(data.validation)
    chosen = {
        side: choose_weight(retrieve(model, data.validation, index, runtime, **encoding), lexical, qrels)
        for side, (model, index) in sides.items()
    }
    save_lexical_index(words, out / "words")
    write_json(out / "weights.json", chosen)


def load_hybrid(folder: Path) -> Hybrid:
    """Load what `build_hybrid` wrote."""
    return Hybrid(load_lexical_index(folder / "words"), read_json(folder / "weights.json"))
