"""Instruction pairs (train and validation side) and held-out tasks (test side) of Track B.

Six kinds are made from the corpus' own functions: repair a marked line, improve, document, explain,
test, implement. What claims behaviour has been run (`helpers.data.drafts`); every draft then
passes the same filters, each reject counted by kind and reason with an example. Pairs come from
train and validation functions only, tasks from test functions only; code that stands on both
sides, or in a benchmark that is given, is an error.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from helpers.data.drafts import Draft, executable_drafts, language_drafts, without_fences
from helpers.data.ground_truth import GroundTruth, execution_context, verify_functions
from helpers.data.language import LanguageGenerator, SourceFacts
from helpers.data.pair_filters import Filters, check_contamination
from helpers.data.phrasings import LINE_REPAIR, PHRASINGS
from helpers.data.splits import functions_of
from helpers.eval.name_context import NameContext
from helpers.records import Corpus, Function, InstructPair, InsufficientDataError, Splits, Task, TaskKind
from helpers.settings import TrackBSettings
from helpers.workspace import read_json, read_jsonl, write_json, write_jsonl

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
    benchmark_texts: Sequence[str] = (),
) -> InstructData:
    """Build everything Track B trains on and is tested on; deterministic for a seed and machine.

    Args:
        tokenizer: of the model to be tuned; prompts longer than `settings.max_prompt_tokens` (chat
            template included) or responses longer than `settings.max_new_tokens` are filtered out.
        workers: sandbox processes; the result does not depend on it.
        generator: who writes the language; `SourceFacts` when None.
        names: what exists, collected from the corpus when None; a response that names anything
            else is filtered out.
        benchmark_texts: problems that must not be in the pairs.

    Raises:
        InsufficientDataError: if a side yields nothing.
        InstructDataError: if pairs hold held-out or benchmark code.
    """
    generator = generator or SourceFacts()
    if names is None:
        installed = corpus.spec.startswith("installed:")
        names = NameContext.from_functions(functions, corpus.import_name, corpus.files, installed=installed)
    check = Filters(settings, tokenizer, names)
    wanted = {
        "train": (settings.train_pairs, FUNCTIONS_PER_PAIR),
        "validation": (settings.validation_pairs, FUNCTIONS_PER_PAIR),
        "test": (settings.executable_tasks + settings.language_tasks, FUNCTIONS_PER_TASK),
    }
    chosen: dict[str, list[Draft]] = {}
    report: dict[str, Any] = {"functions": {}, "mutation_score": {}}
    for side, (count, share) in wanted.items():
        mine = [f for f in functions_of(functions, splits, side) if _fits(f, settings, tokenizer)]
        truths, counts = verify_functions(
            mine, corpus, wanted=max(4, round(share * count)), seed=seed, workers=workers
        )
        drafts = executable_drafts(
            truths,
            execution_context(corpus),
            wanted=_wanted_kinds(side, settings),
            repair_form=settings.repair_form,
            seed=seed,
            workers=workers,
        )
        drafts += language_drafts(mine, generator, seed=seed)
        if not settings.fenced_code:
            drafts = [without_fences(draft) for draft in drafts]
        kept = check.keep(drafts)
        chosen[side] = _choose_side(kept, side, settings, seed)
        report["functions"][side] = counts
        report["mutation_score"][side] = _mutation_score(truths)
    if not chosen["train"] or not chosen["test"]:
        raise InsufficientDataError(
            f"{len(chosen['train'])} pairs and {len(chosen['test'])} tasks could be made; Track B needs "
            "a corpus with functions that have docstrings and doctests or callable on simple arguments"
        )
    pairs = {side: tuple(_pair(d, i, side) for i, d in enumerate(chosen[side])) for side in chosen}
    tasks = tuple(_task(draft, index) for index, draft in enumerate(chosen["test"]))
    check_contamination([*pairs["train"], *pairs["validation"]], chosen["test"], benchmark_texts)
    report |= _report(chosen, check, settings, generator, tokenizer)
    return InstructData(pairs["train"], pairs["validation"], tasks, report)


def save_instruct_data(data: InstructData, folder: Path) -> None:
    """Keep pairs and tasks as JSON lines (`train`, `validation`, `tasks`) and the report beside them."""
    for name in ("train", "validation", "tasks"):
        write_jsonl(folder / f"{name}.jsonl", getattr(data, name))
    write_json(folder / "report.json", data.report)


def load_instruct_data(folder: Path) -> InstructData:
    """What `save_instruct_data` kept."""
    return InstructData(
        tuple(read_jsonl(folder / "train.jsonl", InstructPair)),
        tuple(read_jsonl(folder / "validation.jsonl", InstructPair)),
        tuple(read_jsonl(folder / "tasks.jsonl", Task)),
        read_json(folder / "report.json"),
    )


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
    """Seeded order in which files, then functions, then their versions take turns."""
    rng = random.Random(key)
    by_file: dict[str, dict[str, list[Draft]]] = {}
    for draft in sorted(drafts, key=lambda d: (d.function.id, d.given, d.instruction)):
        by_file.setdefault(draft.function.path, {}).setdefault(draft.function.id, []).append(draft)
    ranked = []
    for functions in by_file.values():
        within_file: list[tuple[int, int, float, Draft]] = []
        for place, versions in enumerate(rng.sample(list(functions.values()), len(functions))):
            for turn, draft in enumerate(rng.sample(versions, len(versions))):
                within_file.append((turn, place, rng.random(), draft))
        ranked += within_file
    return [draft for *_, draft in sorted(ranked, key=lambda row: row[:3])]


def _pair(draft: Draft, index: int, side: str) -> InstructPair:
    detail = {k: v for k, v in draft.detail.items() if k in ("operator", "line")}
    return InstructPair(
        f"{side}-{index:04d}", draft.kind, draft.function.id, draft.function.path, draft.instruction,
        draft.response, draft.phrasing, draft.verified, detail,
    )  # fmt: skip


def _task(draft: Draft, index: int) -> Task:
    truth = draft.truth
    return Task(
        f"task-{index:04d}", draft.kind, draft.function.id, draft.function.path, draft.instruction,
        draft.response, draft.function.name, truth.prelude if truth else "", truth.tests if truth else "",
        truth.n_cases if truth else 0,
        {"given": draft.given, "code": truth.code if truth else draft.given,
         "parameters": json.dumps(draft.function.parameters), **draft.detail},
    )  # fmt: skip


def _mutation_score(truths: Sequence[GroundTruth]) -> float:
    run = sum(truth.n_mutants for truth in truths)
    return round(sum(len(truth.mutants) for truth in truths) / run, 4) if run else 0.0


def _tens_of_lines(code: str) -> str:
    return f"{10 * (len(code.splitlines()) // 10):02d}+"


def _report(chosen, check: Filters, settings, generator, tokenizer) -> dict[str, Any]:
    sides: dict[str, Any] = {}
    for side, drafts in chosen.items():
        lengths = sorted(check.tokens(f"{d.instruction}\n{d.response}") for d in drafts)
        sides[side] = {
            "count": len(drafts),
            "functions": len({d.function.id for d in drafts}),
            "files": len({d.function.path for d in drafts}),
            "kinds": dict(sorted(Counter(d.kind for d in drafts).items())),
            "operators": dict(
                sorted(Counter(d.detail["operator"] for d in drafts if "operator" in d.detail).items())
            ),
            "modules": dict(sorted(Counter(d.function.module.rpartition(".")[0] for d in drafts).items())),
            "lines": dict(sorted(Counter(_tens_of_lines(d.given) for d in drafts).items())),
            "tokens": {
                name: lengths[round(q * (len(lengths) - 1))] if lengths else 0
                for name, q in (("min", 0.0), ("median", 0.5), ("p90", 0.9), ("max", 1.0))
            },
        }
    return {
        "sides": sides,
        "filters": {kind: dict(counts) for kind, counts in sorted(check.counts.items())},
        "rejected_examples": dict(sorted(check.examples.items())),
        "phrasings": {
            **{kind: list(texts) for kind, texts in PHRASINGS.items()},
            "fix_bug, by line": list(LINE_REPAIR),
        },
        "language_generator": generator.name,
        "settings": dataclasses.asdict(settings),
    }
