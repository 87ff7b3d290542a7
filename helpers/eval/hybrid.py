"""Meaning and words together: the embedder's cosine, and BM25 weighed in as the validation queries say.

Each embedder gets the weight that is best for it, so that the untouched one is not held back by the tuned
one's. `python -m helpers search` ranks by the tuned embedder's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from helpers.data.queries.build import RetrievalData
from helpers.eval.fusion import choose_weight
from helpers.eval.lexical import LexicalIndex, build_lexical_index, load_lexical_index, save_lexical_index
from helpers.eval.retrieval import VectorIndex, qrels_of, retrieve
from helpers.machine.hardware import Runtime
from helpers.run.workspace import read_json, write_json

Side = tuple[SentenceTransformer, VectorIndex]  # an embedder and the documents under it


@dataclass(frozen=True)
class Hybrid:
    """The words of every document, and how much they count beside each embedder."""

    words: LexicalIndex
    chosen: Mapping[str, Mapping[str, Any]]  # "before", "after": as `choose_weight` returns

    def weight(self, side: str) -> float:
        """Of the best word score, in cosines."""
        return float(self.chosen[side]["weight"])


def build_hybrid(
    data: RetrievalData, sides: Mapping[str, Side], runtime: Runtime, out: Path, **encoding: int
) -> None:
    """Index the words and choose each side's weight on the validation queries, over all documents.

    Args:
        sides: "before" and "after".
        out: folder that is filled, for `load_hybrid`.
        encoding: `batch_size` and `max_tokens`, as the documents were encoded with.
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
    """Read what `build_hybrid` wrote."""
    return Hybrid(load_lexical_index(folder / "words"), read_json(folder / "weights.json"))
