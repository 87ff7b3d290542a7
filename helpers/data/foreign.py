"""Take code from packages other than the corpus, for controls.

Track C searches one such package that it never trained on, with queries made like the corpus's own test
queries (`helpers.data.queries.questions`): does the gain cost retrieval on other code? Track A trains on
one: does any Python code help as much as the repository's own?
"""

from __future__ import annotations

import importlib.util
import random

from transformers import PreTrainedTokenizerBase

from helpers.code.functions import extract_functions
from helpers.data.corpus import load_corpus
from helpers.data.draw import draw_files
from helpers.data.queries.documents import document_text
from helpers.data.queries.questions import asking_functions, draw_queries
from helpers.errors import InsufficientDataError
from helpers.records import Document, Query, Splits
from helpers.settings import CorpusSettings

PACKAGES = ("rich", "jinja2", "fsspec")  # dependencies of the requirements; the first one installed is used
MAX_FILES = 80
# Large and permissively licensed. The embedded model never saw the first one (see its card).
LARGE_PACKAGES = ("matplotlib", "sympy", "scipy")


def foreign_retrieval(n: int, seed: int, *, exclude: str) -> tuple[str, list[Query], list[Document]]:
    """Return a foreign package's name and version, up to `n` queries, and all its functions as documents.

    Args:
        exclude: import name of the corpus, whose package is not used.

    Raises:
        InsufficientDataError: if none of PACKAGES is installed.
    """
    settings = CorpusSettings(max_files=MAX_FILES, languages=("python",))
    corpus = load_corpus(f"installed:{_first_installed(PACKAGES, exclude)}", settings)
    functions = extract_functions(corpus)
    documents = [Document(f.id, document_text(f), f.path) for f in functions]
    one_side = Splits({file.path: "test" for file in corpus.files})
    sources, _ = asking_functions(functions, one_side, {d.id: d.text for d in documents})
    queries = draw_queries(sources, n, random.Random(f"{seed}:foreign retrieval"))
    return f"{corpus.name} {corpus.version}", list(queries), documents


def foreign_texts(
    tokenizer: PreTrainedTokenizerBase, token_budget: int, seed: int, *, exclude: str
) -> tuple[str, list[str]]:
    """Return a foreign package's name and version, and files of it of about `token_budget` tokens.

    Files are accepted by the rules that hold for the corpus.

    Args:
        exclude: import name of the corpus; its package is left out, and so are files that contain the name.

    Raises:
        InsufficientDataError: if none of LARGE_PACKAGES is installed.
    """
    settings = CorpusSettings(languages=("python",))
    corpus = load_corpus(f"installed:{_first_installed(LARGE_PACKAGES, exclude)}", settings)
    files = [file for file in corpus.files if not exclude or exclude not in file.text]
    drawn = draw_files(files, tokenizer, token_budget, seed)
    return f"{corpus.name} {corpus.version}", [file.text for file in drawn]


def _first_installed(packages: tuple[str, ...], exclude: str) -> str:
    name = next((p for p in packages if p != exclude and importlib.util.find_spec(p)), "")
    if not name:
        raise InsufficientDataError(f"none of {', '.join(packages)} is installed to serve as foreign code")
    return name
