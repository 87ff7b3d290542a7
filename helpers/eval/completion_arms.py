"""Write the completions of every arm at the same places, and measure them.

Four arms: the untouched and the adapted model, each with and without retrieved code. Beside them stand two
baselines without training: the untouched model after the nearest file of the training side, and a lookup of
the line that most often follows the same line there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.code.first_statement import statement_has_ended
from helpers.data.completion_items import KINDS
from helpers.eval.completion_choice import BM25, ContextChoice, choose_context
from helpers.eval.completion_comparison import COPY, NEAREST
from helpers.eval.completion_context import (
    Heads,
    PromptForm,
    TrainingCode,
    code_index,
    heads_for,
    query_of,
    ranked_units,
    training_files,
    written_first,
)
from helpers.eval.completion_scores import cut_completion, equals_target, score_completion
from helpers.eval.ranking import Run
from helpers.lines import lines_of, with_newlines
from helpers.machine.hardware import Runtime
from helpers.machine.usage import free_memory, stopwatch
from helpers.models.causal_lm import generate
from helpers.models.token_borders import HeldText
from helpers.models.tokens import continuing_ids
from helpers.records import CompletionItem, CompletionScore, Query, SourceFile

NEW_TOKENS = {"rest_of_line": 32, "next_line": 32, "block": 96}  # of a completion at most
TIMED = 8  # places that are completed one at a time, for the seconds of one
Model = tuple[PreTrainedModel, PreTrainedTokenizerBase]
Prompts = list[tuple[list[int], tuple[str, ...]]]  # of each item: token ids, and what was retrieved for it
Search = Callable[[Sequence[Query]], Run]  # scores of units for every query


@dataclass(frozen=True)
class CompletionTask:
    """Everything that the arms share."""

    items: Sequence[CompletionItem]
    validation: Sequence[CompletionItem]  # places in validation files, on which the retriever is chosen
    texts: Mapping[str, str]  # path -> text, of the files of both
    training: Sequence[SourceFile]
    code: TrainingCode
    repository: str
    window: int  # tokens of prompt and completion together
    batch_size: int = 32
    searches: Mapping[str, Search] = field(default_factory=dict)  # name -> retriever, beside BM25


@dataclass(frozen=True)
class CompletionResult:
    """The scores of every arm and baseline, in the order of the items, and what they cost."""

    scores: Mapping[str, Sequence[CompletionScore]]
    seconds: Mapping[str, float]  # of one completion at batch size 1, the mean over TIMED places
    context: ContextChoice


def run_arms(
    task: CompletionTask, base: Callable[[], Model], adapted: Callable[[], Model], runtime: Runtime,
    others: Mapping[str, Callable[[], Model]] | None = None,
) -> CompletionResult:  # fmt: skip
    """Complete every item in every arm, greedily; one model is held at a time.

    Args:
        base, adapted: load the model of an arm.
        others: name -> loads a further model, which completes with and without the same retrieved code.

    Raises:
        ContextError: if retrieved code gives an answer away.
    """
    model, tokenizer = base()
    prompts, choice, ranked = _prompts(task, model, tokenizer, runtime)
    written: dict[str, list[tuple[str, bool]]] = {}
    seconds: dict[str, float] = {}
    arms = 5 + 2 * len(others or {})

    def write(arm: str, model: PreTrainedModel, some: Prompts, tokenizer: Any = tokenizer) -> None:
        ids = [tokens for tokens, _ in some]
        what = f"arm {len(written) + 1} of {arms}, {arm}"
        written[arm] = _write(model, tokenizer, task.items, ids, task, runtime, what)
        seconds[arm] = _seconds_of_one(model, tokenizer, ids, task, runtime, f"{what}, one by one")

    write("base", model, prompts["plain"])
    write("base+retrieved", model, prompts["retrieved"])
    write(NEAREST, model, prompts["nearest"])
    del model
    free_memory()
    model, _ = adapted()
    write("adapted", model, prompts["plain"])
    write("adapted+retrieved", model, prompts["retrieved"])
    for name, load in (others or {}).items():
        del model
        free_memory()
        model, own = load()
        form = PromptForm(own, task.repository, _heads_like(own, choice.heads), choice.share)
        plain, retrieved = _written_with(form, task, ranked)
        write(name, model, plain, own)
        write(f"{name}+retrieved", model, retrieved, own)
        prompts[name] = retrieved
    table = _following_lines(task.training)
    written[COPY] = [(_looked_up(table, item, task.texts[item.path]), True) for item in task.items]
    context = {"base+retrieved": "retrieved", "adapted+retrieved": "retrieved", NEAREST: "nearest"}
    context |= {f"{name}+retrieved": name for name in others or {}}
    scores = {
        arm: [
            score_completion(
                item, task.texts[item.path], text, tokenizer, has_ended=has_ended, arm=arm, context=used
            )
            for item, (text, has_ended), (_, used) in zip(
                task.items, texts, prompts.get(context.get(arm, ""), [([], ())] * len(texts)), strict=True
            )
        ]
        for arm, texts in written.items()
    }
    return CompletionResult(scores, seconds, choice)


def exact_share(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    places: Sequence[tuple[CompletionItem, str]],
    runtime: Runtime,
    *,
    window: int,
) -> float:
    """Return the share of places that a model completes exactly without retrieved code.

    Args:
        places: each with its file's text.
        window: tokens of prompt and completion together.
    """
    items, texts = [item for item, _ in places], {item.path: text for item, text in places}
    task = CompletionTask(items, (), texts, (), TrainingCode({}, {}), "", window)
    form = PromptForm(tokenizer, "", "none", 0.0)
    prompts = [form.plain(item, text, window - new_tokens(item.kind, window)) for item, text in places]
    written = _write(model, tokenizer, items, prompts, task, runtime)
    right = [
        equals_target(item, cut_completion(item.kind, text, item.language))
        for item, (text, _) in zip(items, written, strict=True)
    ]
    return sum(right) / len(right)


def new_tokens(kind: str, window: int) -> int:
    """Return how many tokens a completion of a kind may have: at most half the window."""
    return min(NEW_TOKENS[kind], window // 2)


def _prompts(
    task: CompletionTask, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, runtime: Runtime
) -> tuple[dict[str, Prompts], ContextChoice, dict[str, list[str]]]:
    """Return the prompts without retrieval, with the chosen retriever's code, and after the nearest file;
    with them the choice, and what was retrieved for each item, best first.
    """
    queries = [query_of(item, task.texts[item.path]) for item in (*task.items, *task.validation)]
    searches: dict[str, Search] = {BM25: _bm25(task.code), **task.searches}
    runs = {name: search(queries) for name, search in searches.items()}
    choice = choose_context(
        model, tokenizer, task.code, runs, [(item, task.texts[item.path]) for item in task.validation],
        repository=task.repository, room=lambda kind: task.window - new_tokens(kind, task.window),
        runtime=runtime,
    )  # fmt: skip
    form = PromptForm(tokenizer, task.repository, choice.heads, choice.share)
    files = training_files(task.training, task.code)
    nearest = _bm25(files)(queries[: len(task.items)])
    ranked = {item.id: ranked_units(task.code, item, runs[choice.retriever].get(item.id, {}))
              for item in task.items}  # fmt: skip
    plain, retrieved = _written_with(form, task, ranked)
    prompts: dict[str, Prompts] = {"plain": plain, "retrieved": retrieved, "nearest": []}
    for item in task.items:
        first = ranked_units(files, item, nearest.get(item.id, {}))[:1]
        room = task.window - new_tokens(item.kind, task.window)
        prompts["nearest"].append(form.prompt(files, item, task.texts[item.path], first, room))
    return prompts, choice, ranked


def _written_with(
    form: PromptForm, task: CompletionTask, ranked: Mapping[str, Sequence[str]]
) -> tuple[Prompts, Prompts]:
    """Return every item's prompt without and with retrieved code."""
    plain: Prompts = []
    retrieved: Prompts = []
    for item in task.items:
        text, room = task.texts[item.path], task.window - new_tokens(item.kind, task.window)
        plain.append((form.plain(item, text, room), ()))
        retrieved.append(form.prompt(task.code, item, text, ranked[item.id], room))
    return plain, retrieved


def _heads_like(tokenizer: PreTrainedTokenizerBase, heads: Heads) -> Heads:
    """Return the heads that were chosen, or comments where another tokenizer lacks the marks."""
    return heads if heads in heads_for(tokenizer) else "comments"


def _bm25(code: TrainingCode) -> Search:
    return code_index(code).run if code.units else lambda queries: {}


def _write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[CompletionItem],
    prompts: Sequence[list[int]],
    task: CompletionTask,
    runtime: Runtime,
    what: str = "completions",
    batch_size: int | None = None,
) -> list[tuple[str, bool]]:
    """Return what the model writes at each item, and whether it stopped before its tokens were spent."""
    found: list[tuple[str, bool]] = [("", True)] * len(items)
    first = [written_first(tokenizer, item, task.texts[item.path]) for item in items]
    held = {one: HeldText(tokenizer, one) for one in set(first)}
    for is_block in (False, True):
        chosen = [n for n, item in enumerate(items) if (item.kind == "block") == is_block]
        if not chosen:
            continue
        most = new_tokens(KINDS[-1] if is_block else KINDS[0], task.window)
        texts = generate(
            model, tokenizer, [prompts[n] for n in chosen], runtime, max_new_tokens=most,
            batch_size=batch_size or task.batch_size, stop=() if is_block else ("\n",), what=what,
            begins=[first[n] for n in chosen],
            suffices=partial(_has_block, [items[n] for n in chosen]) if is_block else None,
        )  # fmt: skip
        for number, (text,) in zip(chosen, texts, strict=True):
            new = continuing_ids(tokenizer, first[number] + text)
            found[number] = (text, len(new) - held[first[number]].count_before(new) < most)
    return found


def _has_block(items: Sequence[CompletionItem], number: int, text: str) -> bool:
    """Return whether the rest of a text is not needed: a block's first statement alone is measured."""
    at_line_end = text.rstrip(" \t").endswith(("\n", "\r"))  # only whole lines can tell
    return at_line_end and statement_has_ended(with_newlines(text), items[number].language)


def _seconds_of_one(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    task: CompletionTask,
    runtime: Runtime,
    what: str,
) -> float:
    """Return the seconds of one completion when nothing else is in the batch, over places spread evenly."""
    step = max(1, len(task.items) // TIMED)
    some = range(0, len(task.items), step)[:TIMED]
    items, ids = [task.items[n] for n in some], [prompts[n] for n in some]
    _write(model, tokenizer, items[:1], ids[:1], task, runtime, what, 1)  # what only the first call costs
    with stopwatch() as took:
        _write(model, tokenizer, items, ids, task, runtime, what, 1)
    return took["seconds"] / len(some)


def _following_lines(training: Sequence[SourceFile]) -> dict[str, Counter[str]]:
    """Return stripped line -> what stands after it in the training files, up to the longest block."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for file in training:
        lines = [line for line in lines_of(file.text) if line.strip()]
        for number, line in enumerate(lines):
            table[line.strip()]["".join(lines[number + 1 : number + 9])] += 1
    return table


def _looked_up(table: Mapping[str, Counter[str]], item: CompletionItem, text: str) -> str:
    """Return what most often follows the line before a place; of a line begun, its most frequent rest."""
    left = [line for line in lines_of(text[: item.start]) if line.strip()]
    last = left[-1].strip() if left else ""
    found: Counter[str] = Counter()
    if item.kind == "rest_of_line":
        for line, following in table.items():
            if line.startswith(last) and len(line) > len(last):
                found[line[len(last) :]] += following.total()
    else:
        for after, times in table.get(last, Counter()).items():
            found[cut_completion(item.kind, after, item.language)] += times
    return max(found, key=lambda text: (found[text], text), default="")
