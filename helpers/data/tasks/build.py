"""Instruction pairs (train and validation side) and held-out tasks (test side) of Track B.

Six kinds are made from the corpus' own functions: repair a marked line, improve, document, explain,
test, implement. What claims behaviour has been run (`helpers.data.tasks.drafts`); every draft then
passes the same filters, each reject counted by kind and reason with an example. Pairs come from
train and validation functions only, tasks from test functions only; code that stands on both
sides, or in a benchmark that is given, is an error.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from helpers.code.names.context import NameContext
from helpers.data.contamination import Benchmarks, check_held_out
from helpers.data.splits import functions_of
from helpers.data.tasks.build_report import instruct_report
from helpers.data.tasks.drafts import Draft, executable_drafts, pair_of, task_of, without_fences
from helpers.data.tasks.execution import ExecutionContext, import_folders
from helpers.data.tasks.filters import Filters, foreign_licences
from helpers.data.tasks.ground_truth import GroundTruth, execution_context, left_out, verify_functions
from helpers.data.tasks.prose import LanguageGenerator, SourceFacts
from helpers.data.tasks.prose_drafts import (
    in_other_words,
    language_drafts,
    paraphrases,
    reworded,
    undocumented_drafts,
)
from helpers.data.tasks.purity import RULE
from helpers.data.tasks.stability import Doubt, explain_doubts
from helpers.data.tasks.suite_cases import TestSuite
from helpers.errors import InsufficientDataError
from helpers.records import Corpus, Function, InstructPair, Splits, Task, TaskKind
from helpers.run.workspace import read_json, read_jsonl, write_json, write_jsonl
from helpers.settings import TrackBSettings

# Shares of the kinds among pairs, and of the two groups of kinds among tasks.
PAIR_SHARES: dict[TaskKind, float] = {
    "fix_bug": 0.50, "improve": 0.18, "docstring": 0.10, "explain": 0.08, "unit_tests": 0.07,
    "implement": 0.07,
}  # fmt: skip
EXECUTABLE_SHARES: dict[TaskKind, float] = {"fix_bug": 0.8, "implement": 0.2}
LANGUAGE_SHARES: dict[TaskKind, float] = {
    "improve": 0.25, "docstring": 0.25, "explain": 0.25, "unit_tests": 0.25,
}  # fmt: skip
FUNCTIONS_PER_PAIR = 0.24  # verified functions wanted per pair: several repairs come from one
FUNCTIONS_PER_TASK = 0.6


@dataclass(frozen=True)
class InstructData:
    """Pairs, tasks and how they came about (`report` is plain data for the data card)."""

    train: tuple[InstructPair, ...]
    validation: tuple[InstructPair, ...]
    tasks: tuple[Task, ...]
    report: dict[str, Any]
    ran: tuple[dict[str, str], ...] = ()  # every function of the corpus that was run: id, side, outcome


def build_instruct_data(
    functions: Sequence[Function],
    splits: Splits,
    corpus: Corpus,
    settings: TrackBSettings,
    seed: int,
    tokenizer: PreTrainedTokenizerBase,
    workers: int,
    *,
    generator: LanguageGenerator | None = None,
    names: NameContext | None = None,
) -> InstructData:
    """Build everything Track B trains on and is tested on; deterministic for a seed and machine.

    Args:
        tokenizer: of the model to be tuned; prompts longer than `settings.max_prompt_tokens` (chat
            template included) or responses longer than `settings.max_new_tokens` are filtered out.
        workers: sandbox processes; the result does not depend on it.
        generator: who writes the language of the pairs; `SourceFacts` when None. Tasks always have
            the latter's, so that runs compare.
        names: what exists, collected from the corpus when None; a response that names anything
            else is filtered out.

    Raises:
        InsufficientDataError: if a side yields nothing.
        ContaminationError: if pairs hold held-out code, or a benchmark file cannot be read.
        LanguageError, ModelError: if the generator cannot be used.
    """
    others = Counter(file.language for file in corpus.files if file.language != "python")
    functions = [function for function in functions if function.language == "python"]
    if not functions:
        found = ", ".join(f"{count} files of {language}" for language, count in others.most_common())
        raise InsufficientDataError(
            "Track B needs Python functions, since its tests run Python, and there is none"
            + (f" ({found})" if found else "")
        )
    generator = generator or SourceFacts()
    if names is None:
        installed = corpus.spec.startswith("installed:")
        names = NameContext.from_functions(functions, corpus.import_name, corpus.files, installed=installed)
    check = Filters(
        settings,
        tokenizer,
        names,
        foreign_files=foreign_licences(corpus),
        benchmarks=Benchmarks(settings.benchmarks),
    )
    suite = TestSuite(corpus, functions)
    context = execution_context(corpus)
    finish = (lambda draft: draft) if settings.fenced_code else without_fences
    counts_and_shares = {
        "train": (settings.train_pairs, FUNCTIONS_PER_PAIR),
        "validation": (settings.validation_pairs, FUNCTIONS_PER_PAIR),
        "test": (settings.executable_tasks + settings.language_tasks, FUNCTIONS_PER_TASK),
    }
    writes = not isinstance(generator, SourceFacts)
    wordings = paraphrases(generator, check, by_line=settings.repair_form == "line") if writes else {}
    chosen: dict[str, list[Draft]] = {}
    verified: dict[str, list[GroundTruth]] = {}
    looked_at: dict[str, dict[str, int]] = {}
    ran: list[dict[str, str]] = []
    doubts: dict[str, list[Doubt]] = {}
    for side, (count, share) in counts_and_shares.items():
        mine = [f for f in functions_of(functions, splits, side) if _fits(f, settings, tokenizer)]
        wanted = _wanted_kinds(side, settings)
        verified[side], looked_at[side], outcomes = verify_functions(
            mine, corpus, wanted=max(4, round(share * count)), seed=seed, workers=workers, suite=suite,
            doubts=doubts.setdefault(side, []),
        )  # fmt: skip
        ran += [{"function": name, "side": side, "outcome": end} for name, end in outcomes.items()]
        drafts = executable_drafts(
            verified[side],
            context,
            wanted=wanted,
            repair_form=settings.repair_form,
            seed=seed,
            workers=workers,
        )
        drafts = [finish(draft) for draft in (*drafts, *language_drafts(mine, seed=seed))]
        kept = check.keep(drafts, is_task=side == "test")
        ours = writes and side != "test"
        if ours:
            kept += undocumented_drafts(mine, kept, wanted, generator, check, finish=finish, seed=seed)
        chosen[side] = _choose_side(kept, side, settings, seed)
        if ours:
            chosen[side] = reworded(chosen[side], generator, check, finish=finish, seed=seed)
            chosen[side] = [in_other_words(draft, wordings, seed=seed) for draft in chosen[side]]
    _add_reasons(looked_at, doubts, context, workers)
    if not chosen["train"] or not chosen["test"]:
        raise InsufficientDataError(
            f"{len(chosen['train'])} pairs and {len(chosen['test'])} tasks could be made from "
            f"{len(functions)} Python functions; Track B needs some with docstrings, and some with doctests "
            "or tests or callable on simple arguments, in training and in test files"
        )
    pairs = {
        side: tuple(pair_of(draft, f"{side}-{index:04d}") for index, draft in enumerate(chosen[side]))
        for side in ("train", "validation")
    }
    tasks = tuple(task_of(draft, f"task-{index:04d}") for index, draft in enumerate(chosen["test"]))
    check_held_out(
        [(p.id, p.function_id, p.detail["code"]) for p in (*pairs["train"], *pairs["validation"])],
        [(task.function_id, task.detail["code"]) for task in tasks],
    )
    report = instruct_report(
        chosen, verified, looked_at, check, suite, settings, generator.name, wordings=wordings
    )
    report["import_folders"] = list(import_folders(corpus))
    report["preloaded modules"] = list(context.preload)
    report["which functions of the corpus may be run"] = list(RULE)
    report["functions run, all listed in track_b/data/ran.jsonl"] = dict(Counter(row["side"] for row in ran))
    return InstructData(pairs["train"], pairs["validation"], tasks, report, tuple(ran))


def save_instruct_data(data: InstructData, folder: Path) -> None:
    """Keep pairs and tasks as JSON lines (`train`, `validation`, `tasks`, `ran`), the report beside them."""
    for name in ("train", "validation", "tasks", "ran"):
        write_jsonl(folder / f"{name}.jsonl", getattr(data, name))
    write_json(folder / "report.json", data.report)


def load_instruct_data(folder: Path) -> InstructData:
    """What `save_instruct_data` kept."""
    return InstructData(
        tuple(read_jsonl(folder / "train.jsonl", InstructPair)),
        tuple(read_jsonl(folder / "validation.jsonl", InstructPair)),
        tuple(read_jsonl(folder / "tasks.jsonl", Task)),
        read_json(folder / "report.json"),
        tuple(read_jsonl(folder / "ran.jsonl")),
    )


def _add_reasons(
    looked_at: dict[str, dict[str, int]],
    doubts: dict[str, list[Doubt]],
    context: ExecutionContext,
    workers: int,
) -> None:
    """Count why cases of each side were left out; asked for all sides together, which spares processes."""
    sides = [side for side, some in doubts.items() for _ in some]
    found = explain_doubts([doubt for some in doubts.values() for doubt in some], context, workers=workers)
    for side, reasons in zip(sides, found, strict=True):
        for name, count in left_out(reasons).items():
            looked_at[side][name] = looked_at[side].get(name, 0) + count


def _fits(function: Function, settings: TrackBSettings, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the bare code leaves room for the words around it; saves running what is too long."""
    room = min(settings.max_prompt_tokens, settings.max_new_tokens)
    return len(tokenizer(function.code, add_special_tokens=False).input_ids) <= room


def _choose_side(kept: Sequence[Draft], side: str, settings: TrackBSettings, seed: int) -> list[Draft]:
    """The drafts of one side by kind's share; what a kind cannot fill goes to the others in order."""
    chosen: list[Draft] = []
    for count, shares in _groups(side, settings):
        queues = {
            kind: _taking_turns([d for d in kept if d.kind == kind], f"{seed}:{side}:{kind}")
            for kind in shares
        }
        quotas = _quotas(count, shares)
        taken = {kind: queue[: quotas[kind]] for kind, queue in queues.items()}
        missing = count - sum(map(len, taken.values()))
        for kind, queue in queues.items():
            extra = queue[len(taken[kind]) : len(taken[kind]) + missing]
            taken[kind] = taken[kind] + extra
            missing -= len(extra)
        chosen += [draft for kind in shares for draft in taken[kind]]
    return chosen


def _groups(side: str, settings: TrackBSettings) -> tuple[tuple[int, dict[TaskKind, float]], ...]:
    """Counts and the kinds that share them: pairs as one group, tasks as two."""
    if side == "test":
        return ((settings.executable_tasks, EXECUTABLE_SHARES), (settings.language_tasks, LANGUAGE_SHARES))
    return ((settings.train_pairs if side == "train" else settings.validation_pairs, PAIR_SHARES),)


def _wanted_kinds(side: str, settings: TrackBSettings) -> dict[TaskKind, int]:
    groups = _groups(side, settings)
    return {kind: n for count, shares in groups for kind, n in _quotas(count, shares).items()}


def _quotas(count: int, shares: dict[TaskKind, float]) -> dict[TaskKind, int]:
    """Whole numbers that add up to `count`, largest remainders first."""
    exact = {kind: count * share for kind, share in shares.items()}
    quotas = {kind: int(value) for kind, value in exact.items()}
    order = sorted(exact, key=lambda kind: (quotas[kind] - exact[kind], kind))
    for kind in order[: count - sum(quotas.values())]:
        quotas[kind] += 1
    return quotas


def _taking_turns(drafts: Sequence[Draft], key: str) -> list[Draft]:
    """Seeded order in which files, then functions, then their versions take turns.

    Each draft's lot is its own: one more or less, since a reference came near its time limit, leaves the
    others where they were.
    """

    def lot(*of: str) -> float:
        return random.Random(":".join((key, *of))).random()

    by_file: dict[str, dict[str, list[Draft]]] = {}
    for draft in drafts:
        by_file.setdefault(draft.function.path, {}).setdefault(draft.function.id, []).append(draft)
    ranked = []
    for functions in by_file.values():
        for place, function in enumerate(sorted(functions, key=lot)):
            versions = [(lot(function, d.given, d.instruction), d) for d in functions[function]]
            versions.sort(key=lambda version: version[0])
            ranked += [(turn, place, own, draft) for turn, (own, draft) in enumerate(versions)]
    return [draft for *_, draft in sorted(ranked, key=lambda row: row[:3])]
