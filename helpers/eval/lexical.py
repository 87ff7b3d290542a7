"""Lexical search: BM25 over the functions, in the same short form that the embedder encodes.

The short form was chosen on networkx's training files, which no reported figure uses: BM25 reaches an
MRR@10 of .571 on it and .509 on the whole code (600 queries, 1,792 functions;
`python -m benchmarks.retrieval_choices`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN

from helpers.data.queries.documents import short_form
from helpers.data.queries.letters import NAME, is_unspaced, name_parts, same_form
from helpers.eval.ranking import Run
from helpers.machine.progress import progress
from helpers.records import Document, Query
from helpers.run.workspace import read_json, write_json

STOPWORDS = frozenset(STOPWORDS_EN)


def search_terms(text: str) -> list[str]:
    """Return the lower-case terms of prose or code; an identifier also gives its snake and camel parts.

    Letters of every alphabet count; `helpers.data.queries.letters` says what a word is.

    >>> search_terms("to_undirected(G)")
    ['to_undirected', 'to', 'undirected', 'g']
    """
    tokens: list[str] = []
    for identifier in NAME.findall(same_form(text)):
        parts = name_parts(identifier)
        whole = [] if is_unspaced(identifier) else [identifier.lower()]  # a whole sentence may have no blank
        tokens.extend([*whole, *parts] if len(parts) > 1 else parts or whole)
    return tokens


@dataclass(frozen=True)
class LexicalIndex:
    """BM25 over documents, with bm25s's untuned defaults (Lucene's variant, k1 1.5, b 0.75)."""

    ids: tuple[str, ...]
    model: bm25s.BM25

    def scores(self, question: str) -> np.ndarray:
        """Score every document (n,), in the order of `ids`; all zero if no word is known."""
        words = [token for token in search_terms(question) if token not in STOPWORDS]
        known = [word for word in words if word in self.model.vocab_dict]
        return self.model.get_scores(known) if known else np.zeros(len(self.ids), dtype=np.float32)

    def run(self, queries: Sequence[Query]) -> Run:
        """Score every document for every query."""
        return {
            query.id: dict(zip(self.ids, self.scores(query.text).tolist(), strict=True))
            for query in progress(queries, "BM25", unit="query")
        }


def build_lexical_index(
    documents: Sequence[Document], form: Callable[[str], str] = short_form
) -> LexicalIndex:
    """Index the words of every document, after `form` has reduced its text to what is searched."""
    model = bm25s.BM25()
    terms = [search_terms(form(document.text)) for document in documents]
    if documents and not any(terms):  # bm25s refuses texts without any word; no query holds this one
        terms = [[""] for _ in documents]
    model.index(terms, show_progress=False)
    return LexicalIndex(tuple(document.id for document in documents), model)


def save_lexical_index(index: LexicalIndex, folder: Path) -> None:
    """Write the index into `folder`, creating it if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    index.model.save(str(folder / "bm25"), show_progress=False)
    write_json(folder / "ids.json", list(index.ids))


def load_lexical_index(folder: Path) -> LexicalIndex:
    """Load what `save_lexical_index` wrote."""
    return LexicalIndex(tuple(read_json(folder / "ids.json")), bm25s.BM25.load(str(folder / "bm25")))
