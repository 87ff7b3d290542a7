"""What a draft has to pass before it becomes a pair or a task, and the check for held-out code.

Filters, in order: not a duplicate, parses, is no copy of the prompt, fits the model's lengths,
names nothing that does not exist. Each reject is counted by kind and reason, the first of every
reason kept as an example.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from helpers.data.drafts import Draft
from helpers.data.phrasings import spliced
from helpers.eval.code_extraction import extract_code
from helpers.eval.hallucination import invented_names
from helpers.eval.name_context import NameContext
from helpers.models.causal_lm import chat_prompt
from helpers.records import InstructPair
from helpers.settings import TrackBSettings

NGRAM_WORDS = 30  # consecutive words shared with a benchmark that count as contamination


class InstructDataError(ValueError):
    """Training data that holds held-out or benchmark code; the message names the pairs."""


class Filters:
    """The filters every draft passes, in order; counts what went in and out, by kind."""

    def __init__(
        self, settings: TrackBSettings, tokenizer: PreTrainedTokenizerBase, names: NameContext
    ) -> None:
        self.settings, self.tokenizer, self.names = settings, tokenizer, names
        self.seen: set[str] = set()
        self.counts: dict[str, Counter[str]] = {}
        self.examples: dict[str, str] = {}

    def keep(self, drafts: Sequence[Draft]) -> list[Draft]:
        """The drafts that pass all filters, in the order given."""
        kept = []
        for draft in drafts:
            reason = self._reason(draft)
            counts = self.counts.setdefault(draft.kind, Counter())
            counts["in"] += 1
            counts[reason or "out"] += 1
            if reason:
                self.examples.setdefault(reason, f"{draft.kind} of {draft.function.id}")
            else:
                kept.append(draft)
        return kept

    def _reason(self, draft: Draft) -> str:
        key = _squeezed(draft.kind + draft.given + draft.response)
        if key in self.seen:
            return "duplicate"
        self.seen.add(key)
        if draft.detail.get("form") == "line":
            code = spliced(draft.given, int(draft.detail["line"]), draft.response)
        else:
            code = extract_code(draft.response) if draft.kind != "explain" else None
        if draft.kind != "explain" and not _parses(code):
            return "does not parse"
        if code is not None and _squeezed(code) == _squeezed(draft.given):
            return "copy of the prompt"
        prompt = chat_prompt(self.tokenizer, draft.instruction)
        if self.tokens(prompt) > self.settings.max_prompt_tokens:
            return "prompt too long"
        if self.tokens(draft.response) + 1 > self.settings.max_new_tokens:
            return "response too long"
        known = self.names.about(draft.function.source, draft.truth.tests if draft.truth else "")
        if invented_names(code or draft.response, context=known):
            return "names something that does not exist"
        return ""

    def tokens(self, text: str) -> int:
        """Tokens of `text` for the model to be tuned."""
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)


def check_contamination(
    pairs: Sequence[InstructPair], held_out: Sequence[Draft], benchmark_texts: Sequence[str] = ()
) -> None:
    """Raise if a pair shares its code with a held-out function, or 30 words with a benchmark text.

    Code is compared without whitespace; benchmark texts by runs of `NGRAM_WORDS` words.

    Raises:
        InstructDataError: naming the offending pairs.
    """
    tested = {_squeezed(draft.truth.code if draft.truth else draft.given): draft for draft in held_out}
    tested_ids = {draft.function.id for draft in held_out}
    grams = {gram for text in benchmark_texts for gram in _ngrams(text)}
    offending = []
    for pair in pairs:
        code = _squeezed(extract_code(pair.response) or "")
        shares_code = pair.function_id in tested_ids or code in tested
        if shares_code or (grams and not grams.isdisjoint(_ngrams(f"{pair.instruction}\n{pair.response}"))):
            offending.append(pair.id)
    if offending:
        raise InstructDataError(
            f"{len(offending)} pairs hold held-out or benchmark code, e.g. {offending[:5]}; "
            "split the corpus anew"
        )


def _parses(code: str | None) -> bool:
    try:
        return bool(code and ast.parse(code).body)
    except (SyntaxError, ValueError):
        return False


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _ngrams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return {tuple(words[i : i + NGRAM_WORDS]) for i in range(len(words) - NGRAM_WORDS + 1)}
