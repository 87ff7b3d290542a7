"""Queries over a package that is not the corpus: is retrieval elsewhere kept, or paid for the gain?

The queries are made as the corpus' own test queries are, by `helpers.data.query_drawing`, from an installed
package with many docstrings; nothing of it is trained on.
"""

from __future__ import annotations

import importlib.util
import random

from helpers.data.corpus import load_corpus
from helpers.data.functions import extract_functions
from helpers.data.query_drawing import asking_functions, draw_queries
from helpers.data.retrieval_pairs import document_text
from helpers.records import Document, InsufficientDataError, Query, Splits
from helpers.settings import CorpusSettings

PACKAGES = ("rich", "jinja2", "fsspec")  # dependencies of the requirements; the first that may serve
MAX_FILES = 80


def foreign_retrieval(n: int, seed: int, *, exclude: str) -> tuple[str, list[Query], list[Document]]:
    """`n` queries over every function of a foreign package, fewer where it has fewer.

    Args:
        exclude: import name of the corpus, whose own package does not serve.

    Returns:
        Name and version of the package, the queries, and all its functions as documents.

    Raises:
        InsufficientDataError: if none of PACKAGES is installed.
    """
    name = next((p for p in PACKAGES if p != exclude and importlib.util.find_spec(p)), "")
    if not name:
        raise InsufficientDataError(f"none of {', '.join(PACKAGES)} is installed to ask foreign queries of")
    corpus = load_corpus(f"installed:{name}", CorpusSettings(max_files=MAX_FILES, languages=("python",)))
    functions = extract_functions(corpus)
    documents = [Document(f.id, document_text(f), f.path) for f in functions]
    one_side = Splits({file.path: "test" for file in corpus.files})
    sources, _ = asking_functions(functions, one_side, {d.id: d.text for d in documents})
    queries = draw_queries(sources, n, random.Random(f"{seed}:foreign retrieval"))
    return f"{corpus.name} {corpus.version}", list(queries), documents
