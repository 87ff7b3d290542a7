"""Put retrieved code into the prompt of `python -m helpers complete`, as the run's comparison chose.

The comparison (`track_a/completion/completion.json`) names the arm to use, the retriever and the form of the
prompt. What is retrieved are the functions that `python -m helpers search` finds: Track C's documents, by its
index or by BM25 over their code. Nothing is evaluated here, so held-out files are searched too; only the
file that is completed is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from helpers.errors import SuiteError
from helpers.eval.completion_choice import BM25
from helpers.eval.completion_context import PromptForm, TrainingCode, code_index, query_of, ranked_units
from helpers.eval.completion_results import FACTS, FOLDER
from helpers.eval.completion_task import embedder_searches
from helpers.machine.hardware import Runtime
from helpers.records import CompletionItem, Document
from helpers.run.folder import recorded_profile
from helpers.run.workspace import read_json, read_jsonl

DOCUMENTS = "track_c/data/documents.jsonl"
UNNAMED = "untitled.py"  # the file of a prompt that was given as text


class RetrievalError(SuiteError, ValueError):
    """A run that cannot put retrieved code into a prompt; the message says what is missing and what to do."""


@dataclass(frozen=True)
class ChosenContext:
    """What a run's comparison decided: the arm to use, and how code is retrieved and written."""

    arm: str
    answer: str
    retriever: str
    form: dict[str, Any]  # repository, heads and share of `PromptForm`


def chosen_context(run_folder: Path) -> ChosenContext:
    """Read what the comparison of a run decided.

    Raises:
        RetrievalError: if the run holds no comparison.
    """
    try:
        facts = read_json(run_folder / FOLDER / FACTS)
        context = facts["context"]
        form = {"repository": facts["repository"], "heads": context["heads"], "share": context["share"]}
        return ChosenContext(facts["arm_to_use"], facts["answer"], context["retriever"], form)
    except (OSError, KeyError, ValueError) as error:
        raise RetrievalError(
            f"{run_folder} holds no comparison of completions ({FOLDER}), or an older one: make one "
            f"with `python -m helpers completion --run {run_folder}`"
        ) from error


def retrieving_prompt(
    run_folder: Path, chosen: ChosenContext, tokenizer: PreTrainedTokenizerBase, text: str, file: Path | None,
    *, room: int, runtime: Runtime,
) -> tuple[list[int], tuple[str, ...]]:  # fmt: skip
    """Return the tokens of `text` with retrieved code before it, and the ids of the functions in it.

    Args:
        text: the code to continue.
        file: that it stands in; functions of this file are not retrieved.
        room: tokens of the prompt.

    Raises:
        RetrievalError: if the run lacks Track C's documents or index.
    """
    code = retrievable_code(run_folder)
    path = _indexed_path(file, {unit.path for unit in code.units.values()})
    item = CompletionItem("prompt", "next_line", path, "", 1, len(text), len(text), "", False, False)
    query = query_of(item, text)
    if chosen.retriever == BM25:
        found = code_index(code).run([query])
    else:
        searches = embedder_searches(run_folder, recorded_profile(run_folder), runtime)
        if chosen.retriever not in searches:
            raise RetrievalError(
                f"{run_folder} no longer holds the index that its comparison chose ({chosen.retriever})"
            )
        found = searches[chosen.retriever]([query])
    form = PromptForm(tokenizer, **chosen.form)
    return form.prompt(code, item, text, ranked_units(code, item, found[item.id]), room)


def retrievable_code(run_folder: Path) -> TrainingCode:
    """Return every function that the run's index holds, as code; RetrievalError if there is none."""
    if not (run_folder / DOCUMENTS).is_file():
        raise RetrievalError(f"{run_folder} holds no documents of Track C ({DOCUMENTS}) to retrieve from")
    units = {}
    for row in read_jsonl(run_folder / DOCUMENTS, Document):
        code = row.text.partition("\n")[2]  # its first line holds name and place in words
        units[row.id] = Document(row.id, code, row.path)
    if not units:
        raise RetrievalError(f"{run_folder} holds no function to retrieve: {DOCUMENTS} is empty")
    return TrainingCode(units, {})


def _indexed_path(file: Path | None, known: set[str]) -> str:
    """Return the path under which the run knows a file: the longest one that its own path ends with."""
    if file is None:
        return UNNAMED
    place = f"/{file.resolve().as_posix().lstrip('/')}"
    fitting = [path for path in known if place.endswith(f"/{path}")]
    return max(fitting, key=len, default=file.name)
