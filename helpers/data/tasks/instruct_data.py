"""Build Track B's data: instruction pairs (train and validation side) and held-out tasks (test side).

Six kinds are made from the corpus's own functions: repair a marked line, improve, document, explain, test,
implement. Every claim about behaviour was checked by running the code (`helpers.data.tasks.drafts`). All
drafts pass the same filters. Pairs come from train and validation functions only, tasks from test functions
only; code that occurs on both sides is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from helpers.code.names.context import NameContext
from helpers.data.contamination import Benchmarks, check_held_out
from helpers.data.splits import functions_of
from helpers.data.tasks.choosing import choose_drafts, wanted_functions, wanted_kinds
from helpers.data.tasks.draft import Draft, pair_of, task_of, without_fences
from helpers.data.tasks.drafts import executable_drafts
from helpers.data.tasks.execution import ExecutionContext, execution_context, import_folders
from helpers.data.tasks.filters import EXAMPLES, Filters, foreign_licences
from helpers.data.tasks.ground_truth import GroundTruth, left_out, verify_functions
from helpers.data.tasks.instruct_report import instruct_report
from helpers.data.tasks.prose import LanguageGenerator, SourceFacts
from helpers.data.tasks.prose_drafts import (
    documented_drafts,
    in_other_words,
    paraphrases,
    reworded,
    undocumented_drafts,
)
from helpers.data.tasks.purity import REFUSALS, RULE, PurityRule
from helpers.data.tasks.stability import Doubt, explain_doubts
from helpers.data.tasks.suite_cases import TestSuite
from helpers.errors import InsufficientDataError
from helpers.records import Corpus, Function, InstructPair, SplitName, Splits, Task
from helpers.run.workspace import read_json, read_jsonl, write_json, write_jsonl
from helpers.settings import TrackBSettings

TOO_LONG = "longer than prompt or answer may be"
SIDES: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class InstructData:
    """Pairs, tasks and how they came about (`report` is plain data for the data card)."""

    train: tuple[InstructPair, ...]
    validation: tuple[InstructPair, ...]
    tasks: tuple[Task, ...]
    report: dict[str, Any]
    ran: tuple[dict[str, str], ...] = ()  # every function of the corpus that was run: id, side, outcome


@dataclass(frozen=True)
class _Shared:
    """What the steps of one build share."""

    functions: Sequence[Function]  # the Python functions of the corpus
    splits: Splits
    corpus: Corpus
    settings: TrackBSettings
    seed: int
    workers: int
    generator: LanguageGenerator
    check: Filters
    suite: TestSuite
    context: ExecutionContext

    @property
    def has_own_words(self) -> bool:
        """Whether the generator writes anything that the source does not say already."""
        return not isinstance(self.generator, SourceFacts)

    def finish(self, draft: Draft) -> Draft:
        """Return the draft as the model is shown it: with or without Markdown fences."""
        return draft if self.settings.fenced_code else without_fences(draft)


@dataclass(frozen=True)
class _Side:
    """What one side (train, validation or test) yielded."""

    verified: list[GroundTruth]
    counts: dict[str, int]  # functions by outcome, mutants, cases left out; see `verify_functions`
    outcomes: dict[str, str]  # id of every function that was run -> outcome
    doubts: list[Doubt]  # cases left out for a reason that `_add_reasons` finds
    chosen: list[Draft]


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
) -> InstructData:
    """Build everything that Track B trains on and is tested on; equal for equal seed and machine.

    Args:
        tokenizer: of the model to be tuned; counts the lengths that `settings` limits.
        workers: number of sandbox processes; the result does not depend on it.
        generator: writes the prose of the pairs; `SourceFacts` when None. Tasks always use
            `SourceFacts`, so that runs with different generators stay comparable.

    Raises:
        InsufficientDataError: if no pair or no task can be made.
        ContaminationError: if pairs hold held-out code, or a benchmark file cannot be read.
        LanguageError, ModelError: if the generator cannot be used.
    """
    functions = _python_functions(functions, corpus)
    installed = corpus.spec.startswith("installed:")
    names = NameContext.from_functions(functions, corpus.import_name, corpus.files, installed=installed)
    foreign, benchmarks = foreign_licences(corpus), Benchmarks(settings.benchmarks)
    check = Filters(settings, tokenizer, names, foreign_files=foreign, benchmarks=benchmarks)
    shared = _Shared(
        functions, splits, corpus, settings, seed, workers, generator or SourceFacts(), check,
        TestSuite(corpus, functions), execution_context(corpus),
    )  # fmt: skip
    wordings: dict[str, tuple[str, ...]] = {}
    if shared.has_own_words:
        wordings = paraphrases(shared.generator, check, by_line=settings.repair_form == "line")
    sides = {side: _build_side(side, shared, wordings) for side in SIDES}
    _add_reasons(sides, shared)
    _require_data(sides, shared)
    train, validation = (
        tuple(pair_of(draft, f"{side}-{index:04d}") for index, draft in enumerate(sides[side].chosen))
        for side in ("train", "validation")
    )
    tasks = tuple(task_of(draft, f"task-{index:04d}") for index, draft in enumerate(sides["test"].chosen))
    check_held_out(
        [(pair.id, pair.function_id, pair.detail["code"]) for pair in (*train, *validation)],
        [(task.function_id, task.detail["code"]) for task in tasks],
    )
    ran = tuple(
        {"function": name, "side": side, "outcome": outcome}
        for side, found in sides.items()
        for name, outcome in found.outcomes.items()
    )
    return InstructData(train, validation, tasks, _report(sides, shared, wordings, ran), ran)


def held_out_code(data: InstructData) -> list[str]:
    """Return the code of all functions that nothing may be trained on: of the tasks and of validation."""
    return [item.detail["code"] for item in (*data.tasks, *data.validation)]


def save_instruct_data(data: InstructData, folder: Path) -> None:
    """Save `train`, `validation`, `tasks` and `ran` as JSON lines, and the report as JSON."""
    for name in ("train", "validation", "tasks", "ran"):
        write_jsonl(folder / f"{name}.jsonl", getattr(data, name))
    write_json(folder / "report.json", data.report)


def load_instruct_data(folder: Path) -> InstructData:
    """Load what `save_instruct_data` saved."""
    return InstructData(
        tuple(read_jsonl(folder / "train.jsonl", InstructPair)),
        tuple(read_jsonl(folder / "validation.jsonl", InstructPair)),
        tuple(read_jsonl(folder / "tasks.jsonl", Task)),
        read_json(folder / "report.json"),
        tuple(read_jsonl(folder / "ran.jsonl")),
    )


# --- steps, in order -----------------------------------------------------------------------------


def _python_functions(functions: Sequence[Function], corpus: Corpus) -> list[Function]:
    """Return the functions that can be run; raise where there is none."""
    found = [function for function in functions if function.language == "python"]
    if not found:
        others = Counter(file.language for file in corpus.files if file.language != "python")
        listed = ", ".join(f"{count} files of {language}" for language, count in others.most_common())
        why = "Track B needs Python functions, since its tests run Python, and there is none"
        raise InsufficientDataError(f"{why} ({listed})" if listed else why)
    return found


def _build_side(side: SplitName, shared: _Shared, wordings: Mapping[str, tuple[str, ...]]) -> _Side:
    """Verify one side's functions, make drafts of them, filter these and choose among them."""
    settings, seed, check = shared.settings, shared.seed, shared.check
    # Running code that does not fit the model's lengths would be wasted.
    room = min(settings.max_prompt_tokens, settings.max_new_tokens)
    own = functions_of(shared.functions, shared.splits, side)
    candidates = [function for function in own if check.tokens(function.code) <= room]
    too_long = {TOO_LONG: len(own) - len(candidates)} if len(own) > len(candidates) else {}
    wanted = wanted_kinds(side, settings)
    verified, counts, outcomes, doubts = verify_functions(
        candidates, shared.corpus, wanted=wanted_functions(side, settings), seed=seed,
        workers=shared.workers, suite=shared.suite,
    )  # fmt: skip
    executable = executable_drafts(
        verified, shared.context, wanted=wanted, repair_form=settings.repair_form, seed=seed,
        workers=shared.workers,
    )  # fmt: skip
    drafts = [shared.finish(draft) for draft in (*executable, *documented_drafts(candidates, seed=seed))]
    kept = check.keep(drafts, is_task=side == "test")
    if side == "test" or not shared.has_own_words:
        return _Side(verified, too_long | counts, outcomes, doubts, choose_drafts(kept, side, settings, seed))
    generator, finish = shared.generator, shared.finish
    kept += undocumented_drafts(candidates, kept, wanted, generator, check, finish=finish, seed=seed)
    chosen = reworded(choose_drafts(kept, side, settings, seed), generator, check, finish=finish, seed=seed)
    chosen = [in_other_words(draft, wordings, seed=seed) for draft in chosen]
    return _Side(verified, too_long | counts, outcomes, doubts, chosen)


def _add_reasons(sides: Mapping[str, _Side], shared: _Shared) -> None:
    """Count why cases were left out, for all sides in one call: each call starts its own processes."""
    asked = [(side, doubt) for side in sides.values() for doubt in side.doubts]
    found = explain_doubts([doubt for _, doubt in asked], shared.context, workers=shared.workers)
    for (side, _), reasons in zip(asked, found, strict=True):
        for name, count in left_out(reasons).items():
            side.counts[name] = side.counts.get(name, 0) + count


def _require_data(sides: Mapping[str, _Side], shared: _Shared) -> None:
    pairs, tasks = len(sides["train"].chosen), len(sides["test"].chosen)
    if not pairs or not tasks:
        raise InsufficientDataError(
            f"{pairs} pairs and {tasks} tasks could be made from {len(shared.functions)} Python functions; "
            "Track B needs functions with docstrings, and functions that have doctests or tests or can be "
            "called on simple arguments, both in training files and in test files"
        )


def _report(
    sides: Mapping[str, _Side],
    shared: _Shared,
    wordings: Mapping[str, tuple[str, ...]],
    ran: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    report = instruct_report(
        {side: found.chosen for side, found in sides.items()},
        {side: found.verified for side, found in sides.items()},
        {side: found.counts for side, found in sides.items()},
        shared.check, shared.suite, shared.settings, shared.generator.name, wordings=wordings,
    )  # fmt: skip
    report["functions not verified, two for each reason"] = _unverified_examples(sides, shared)
    report["import_folders"] = list(import_folders(shared.corpus))
    report["preloaded modules"] = list(shared.context.preload)
    report["which functions of the corpus may be run"] = list(RULE)
    report["functions run, all listed in track_b/data/ran.jsonl"] = dict(Counter(row["side"] for row in ran))
    return report


def _unverified_examples(sides: Mapping[str, _Side], shared: _Shared) -> dict[str, list[str]]:
    """Return reason -> the first functions that were not run, or not verified, for it."""
    found: dict[str, list[str]] = {}
    for side in sides.values():
        for function, outcome in side.outcomes.items():
            found.setdefault(outcome, []).append(function)
    found.pop("verified", None)
    rule = PurityRule(shared.corpus, shared.functions)
    wanted = {reason for side in sides.values() for reason in side.counts if reason in REFUSALS}
    for function in shared.functions:
        if not wanted:
            break
        if (reason := rule.reason(function)) in wanted:
            found.setdefault(reason, []).append(function.id)
            if len(found[reason]) == EXAMPLES:
                wanted.discard(reason)
    return {reason: some[:EXAMPLES] for reason, some in found.items()}
