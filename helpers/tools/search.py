"""Search a code base with the embedder that a finished run tuned for it, combined with BM25.

Reads four things from the run folder: the embedder (`track_c/train/embedder`), the index of every function
(`track_c/index_after`), the lexical index with the weight that the run chose (`track_c/hybrid`), and the
functions themselves (`track_c/functions`, from `catalogue`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from helpers.errors import SuiteError
from helpers.eval.fusion import add_words
from helpers.eval.hybrid import load_hybrid
from helpers.eval.retrieval import load_index, nearest, ranking
from helpers.lines import bare_lines
from helpers.machine.hardware import Runtime
from helpers.models.embedder import encode, load_embedder
from helpers.records import Function
from helpers.run.folder import newest_run_with
from helpers.run.workspace import read_jsonl

MAX_QUERY_TOKENS = 256
CANDIDATES = 1_000  # nearest functions that the BM25 score may reorder
SNIPPET_LINES = 8
PARTS = {
    "embedder": "track_c/train/embedder",
    "index": "track_c/index_after",
    "words": "track_c/hybrid",
    "functions": "track_c/functions",
}
_SHOWN = ("path", "line", "name", "snippet", "language")


class SearchError(SuiteError, ValueError):
    """A question that cannot be answered: no run, a run without Track C, or an empty question."""


@dataclass(frozen=True)
class Hit:
    """One function that a search found."""

    rank: int
    score: float  # cosine plus the weighted BM25 score (`add_words`)
    path: str  # relative to the root of the code base
    line: int  # 1-based, of the first decorator or the def
    name: str  # e.g. Graph.add_node
    snippet: str  # first lines of the function without its docstring
    language: str  # as `helpers.code.languages` names it


def catalogue(functions: Iterable[Function]) -> list[dict[str, Any]]:
    """Build what a search shows of every function, one plain row each."""
    return [
        {
            "id": function.id,
            "path": function.path,
            "line": function.start_line,
            "name": function.qualname,
            "snippet": _snippet(function.code),
            "language": function.language,
        }
        for function in functions
    ]


def search_code(run_folder: Path, question: str, k: int, runtime: Runtime) -> list[Hit]:
    """Return the `k` functions that best match `question`, by tuned embedder and BM25 together.

    Raises:
        SearchError: if the run lacks what a search needs, the question is empty or k is below 1.
    """
    _require_question(question, k)
    return CodeSearch(run_folder, runtime).find(question, k)


class CodeSearch:
    """The search of one run, loaded once for many questions.

    Raises:
        SearchError: if the run lacks what a search needs.
    """

    def __init__(self, run_folder: Path, runtime: Runtime) -> None:
        if not run_folder.is_dir():
            raise SearchError(
                f"there is no run in {run_folder}: make one with `make run`, or name its folder"
            )
        for what, place in PARTS.items():
            if not (run_folder / place).is_dir():
                raise SearchError(
                    f"{run_folder} holds no {what} of Track C ({place}): either it is not a run folder below "
                    "runs/, or that track did not finish; make a run with `make run`"
                )
        self.runtime = runtime
        self.model = load_embedder(str(run_folder / PARTS["embedder"]), runtime)
        self._index = load_index(run_folder / PARTS["index"])
        rows = read_jsonl(run_folder / PARTS["functions"] / "rows.jsonl")
        self._functions = {row["id"]: row for row in rows}
        self._hybrid = load_hybrid(run_folder / PARTS["words"])

    def scores(self, question: str, least: int = CANDIDATES) -> dict[str, float]:
        """Return the score of each of the functions nearest to a question, at least `least` of them."""
        vector = encode(
            self.model, [question], kind="query", runtime=self.runtime, max_tokens=MAX_QUERY_TOKENS
        )
        near = nearest(self._index, vector, max(least, CANDIDATES))[0]
        words = self._hybrid.words
        lexical = dict(zip(words.ids, words.scores(question).tolist(), strict=True))
        return add_words(near, lexical, self._hybrid.weight("after"))

    def find(self, question: str, k: int) -> list[Hit]:
        """Return the `k` functions that best match `question`; SearchError as in `search_code`."""
        _require_question(question, k)
        scores = self.scores(question, k)
        return [
            Hit(rank, round(scores[found], 4), **{key: self._functions[found][key] for key in _SHOWN})
            for rank, found in enumerate(ranking(scores)[:k], 1)
        ]


def _require_question(question: str, k: int) -> None:
    if not question.strip():
        raise SearchError("the question is empty; describe in words what the code should do")
    if k < 1:
        raise SearchError(f"--k, the number of functions to show, must be at least 1, not {k}")


def newest_run(runs: Path) -> Path:
    """Return the newest run folder below `runs` that can be searched, or raise."""
    found = newest_run_with(runs, tuple(PARTS.values()))
    if found is None:
        raise SearchError(f"no finished run below {runs}/: make one with `make run`, or name one with --run")
    return found


def print_hits(hits: Iterable[Hit], console: Console | None = None) -> None:
    """Print hits to a terminal: rank, score, place and name on one line, the snippet below it."""
    console = console or Console(highlight=False)
    for hit in hits:
        head = Text.assemble(
            (f"{hit.rank:>2}  {hit.score:.3f}  ", "dim"), (f"{hit.path}:{hit.line}", "bold"), f"  {hit.name}"
        )
        console.print(head, soft_wrap=True)
        code = Syntax(hit.snippet, hit.language, theme="ansi_light", background_color="default")
        console.print(code if console.is_terminal else Text(hit.snippet), soft_wrap=not console.is_terminal)
        console.print()


def _snippet(code: str) -> str:
    lines = [line.rstrip() for line in bare_lines(code) if line.strip()]
    more = ["    ..."] if len(lines) > SNIPPET_LINES else []
    return "\n".join(lines[:SNIPPET_LINES] + more)
