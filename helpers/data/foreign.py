"""Take code from packages other than the corpus, for controls.

Track C asks queries over one such package: is retrieval elsewhere kept, or paid for the gain? Its queries
are made like the corpus' own test queries (`helpers.data.queries.questions`), and nothing of the package
is trained on. Track A trains on one: does any Python code help as much as the repository's own?
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
    """Return up to `n` queries over every function of a foreign package.

    Args:
        exclude: import name of the corpus, which may not serve itself.

    Returns:
        Name and version of the package, the queries, and all its functions as documents.

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
    """Return whole files of a foreign package, of at most about `token_budget` tokens together.

    The corpus' own rules accept and reject its files; files that contain `exclude` are left out.

    Args:
        exclude: import name of the corpus, which may not serve itself.

    Returns:
        Name and version of the package, and the texts.

    Raises:
        InsufficientDataError: if none of LARGE_PACKAGES is installed.
    """
    name = _first_installed(LARGE_PACKAGES, exclude)
    corpus = load_corpus(f"installed:{name}", CorpusSettings(languages=("python",)))
    files = [file for file in corpus.files if not exclude or exclude not in file.text]
    drawn = draw_files(files, tokenizer, token_budget, seed)
    return f"{corpus.name} {corpus.version}", [file.text for file in drawn]


def _first_installed(packages: tuple[str, ...], exclude: str) -> str:
    name = next((p for p in packages if p != exclude and importlib.util.find_spec(p)), "")
    if not name:
        raise InsufficientDataError(f"none of {', '.join(packages)} is installed to serve as foreign code")
    return name
