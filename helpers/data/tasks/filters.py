"""Filter drafts before they become pairs or tasks.

A draft must, in this order: be no duplicate, come from a file under the corpus's licence, parse, be no copy
of the prompt, bring no licence text, fit the model's lengths, name nothing that does not exist, and occur
in no benchmark that is kept out. Explanations and docstrings must also pass the checks for held-out answers;
all other responses have been run (`helpers.data.tasks.drafts`). Rejects are counted by kind and reason, and
the first ones of each reason are kept as examples.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from helpers.code.names.context import NameContext
from helpers.code.python_text import parse
from helpers.code.secrets import mask_secrets
from helpers.data.contamination import NGRAM_WORDS, Benchmarks
from helpers.data.tasks.checks import answer_code, invented_in_answer, verdict_without_running
from helpers.data.tasks.draft import Draft, task_of
from helpers.models.causal_lm import chat_ids
from helpers.models.tokens import token_ids
from helpers.records import Corpus
from helpers.settings import TrackBSettings

LANGUAGE = ("explain", "docstring")
ORDER = (  # reasons in the order in which they are tried; a reason may go on after these words
    "no answer", "duplicate", "file under another licence", "does not parse", "copy of the prompt",
    "licence text", "prompt too long", "response too long", "names something that does not exist",
    "code of a benchmark", f"{NGRAM_WORDS} words in a row of a benchmark", "fails its own check",
)  # fmt: skip
PARAPHRASE = "paraphrase"  # how counts of paraphrased instructions are named, which are no drafts
EXAMPLES = 2  # kept for each reason
EXAMPLE_CHARS = 400
HEAD_CHARS = 2_000  # start of a file, where its own licence would be named
LICENCE_TEXT = re.compile(r"copyright|©|SPDX-|all rights reserved|licen[cs]ed under", re.IGNORECASE)
SPDX_LINE = re.compile(r"SPDX-License-Identifier:\s*([\w.+-]+)")
COPYLEFT = re.compile(r"GNU\s+(?:Affero\s+|Lesser\s+)?General\s+Public\s+License", re.IGNORECASE)


class Filters:
    """All filters, in order; counts what came in and went out, by kind and author."""

    def __init__(
        self,
        settings: TrackBSettings,
        tokenizer: PreTrainedTokenizerBase,
        names: NameContext,
        *,
        foreign_files: frozenset[str] = frozenset(),
        benchmarks: Benchmarks | None = None,
    ) -> None:
        """Set up the filters; `foreign_files` are under another licence (see `foreign_licences`)."""
        self.settings, self.tokenizer, self.names = settings, tokenizer, names
        self.foreign_files, self.benchmarks = foreign_files, benchmarks or Benchmarks()
        self.seen: set[str] = set()
        self.counts: dict[str, Counter[str]] = {}
        self.examples: dict[str, list[dict[str, str]]] = {}

    def keep(self, drafts: Sequence[Draft], *, author: str = "", is_task: bool = False) -> list[Draft]:
        """Return the drafts that pass all filters, in the order given.

        Args:
            author: writer of their prose, if not the deterministic back end.
            is_task: for held-out tasks, which may share code with a benchmark.
        """
        reasons = [self._reason(draft, is_task) for draft in drafts]
        language = [i for i, draft in enumerate(drafts) if draft.kind in LANGUAGE and not reasons[i]]
        for i, failed in zip(language, _own_checks([drafts[i] for i in language]), strict=True):
            reasons[i] = failed and f"fails its own check: {failed}"
        kept = []
        for draft, reason in zip(drafts, reasons, strict=True):
            name = f"{draft.kind} by {author}" if author else draft.kind
            if reason:
                self.reject(name, reason, f"{draft.kind} of {draft.function.id}", draft.response)
            else:
                self.accept(name)
                kept.append(draft)
        return kept

    def accept(self, name: str) -> None:
        """Count one more draft that passed under `name`."""
        self.counts.setdefault(name, Counter()).update(("in", "out"))

    def reject(self, name: str, reason: str, what: str, text: str) -> None:
        """Count one more draft that failed under `name`; keep the first ones of a reason as examples."""
        self.counts.setdefault(name, Counter()).update(("in", reason))
        shown = self.examples.setdefault(reason, [])
        if len(shown) < EXAMPLES:
            shown.append({"what": what, "response": text[:EXAMPLE_CHARS]})

    def _reason(self, draft: Draft, is_task: bool) -> str:
        key = _squeezed(draft.kind + draft.given + draft.response)
        if key in self.seen:
            return "duplicate"
        self.seen.add(key)
        if draft.function.path in self.foreign_files:
            return "file under another licence"
        task = task_of(draft, "")
        code = answer_code(task, draft.response)
        tree = parse(code or "")
        if draft.kind != "explain" and not (tree and tree.body):
            return "does not parse"
        if code is not None and _squeezed(code) == _squeezed(draft.given):
            return "copy of the prompt"
        if code is None and _squeezed(draft.response) in _squeezed(draft.instruction):
            return "copy of the prompt"
        if LICENCE_TEXT.search(draft.response) and not LICENCE_TEXT.search(draft.function.source):
            return "licence text"
        if len(chat_ids(self.tokenizer, draft.instruction)) > self.settings.max_prompt_tokens:
            return "prompt too long"
        if self.tokens(draft.response) + 1 > self.settings.max_new_tokens:
            return "response too long"
        if invented_in_answer(task, draft.response, code, self.names):
            return "names something that does not exist"
        if is_task:
            return ""
        return self.benchmarks.reason(f"{draft.instruction}\n{draft.response}", code or draft.given)

    def steps(self) -> dict[str, dict[str, int]]:
        """Return what came into each filter and what went out, in order, over all drafts."""
        drafts = [counts for name, counts in self.counts.items() if not name.startswith(PARAPHRASE)]
        total: Counter[str] = sum(drafts, Counter())
        left = total.pop("in", 0)
        total.pop("out", 0)
        steps = {}
        for name in sorted({*ORDER, *total}, key=_place):
            steps[name] = {"in": left, "out": left - total[name]}
            left -= total[name]
        return steps

    def tokens(self, text: str) -> int:
        """Return the number of tokens of `text` for the model to be tuned."""
        return len(token_ids(self.tokenizer, text))


def in_order(examples: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Return what is kept by reason, in the order in which the reasons are tried."""
    return {reason: list(examples[reason]) for reason in sorted(examples, key=_place)}


def _place(reason: str) -> tuple[int, str]:
    return next((i for i, name in enumerate(ORDER) if reason.startswith(name)), len(ORDER)), reason


def foreign_licences(corpus: Corpus) -> frozenset[str]:
    """Return the files whose head names a licence other than the corpus', if that one is known."""
    own = corpus.licence.upper()
    if own == "UNKNOWN":
        return frozenset()
    found = set()
    for file in corpus.files:
        head = file.text[:HEAD_CHARS]
        named = [name.upper() for name in SPDX_LINE.findall(head)]
        named += ["GPL"] if COPYLEFT.search(head) else []
        if any(name not in own for name in named):
            found.add(file.path)
    return frozenset(found)


def _own_checks(drafts: Sequence[Draft]) -> list[str]:
    """Return which rule for held-out answers each explanation or docstring breaks; "" if none."""
    tasks = [task_of(draft, str(number)) for number, draft in enumerate(drafts)]
    lacks = []
    for task in tasks:
        code = answer_code(task, task.reference)
        status, detail = verdict_without_running(task, task.reference, code, ()) or ("passed", "")
        lacks.append("" if status == "passed" else mask_secrets(detail).text.partition(":")[0] or status)
    return lacks


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)
