"""Run saved pairs and tasks again, to check that they still hold.

Every saved line carries all it needs: the given and the correct code, the prelude, the tests, the held-out
mutants. Nothing else is taken from the run that made them, except where the corpus lies.

    every kind        the answer passes its own task, judged as a model's answer would be
    fix_bug           the given code fails a test; the instruction shows that code with the line marked;
                      what the answer says of that line is so
    improve           the given code passes all tests, and the answer costs less
    implement         bodies without thought fail: empty, an argument, one expected value for everything
    unit_tests        the reference passes them and a held-out mutant is killed (part of the judging)
    docstring         the code is unchanged (part of the judging); the given code had no docstring
    all with tests    the correct code passes all of them
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import helpers
from helpers.code.docstrings import docstring_of
from helpers.data.corpus_spec import resolve_spec
from helpers.data.tasks.bugs import Bug
from helpers.data.tasks.execution import NOTICED, ExecutionContext, context_of, limited, run_in
from helpers.data.tasks.implementations import thoughtless
from helpers.data.tasks.phrasings import FENCE, mark_line
from helpers.data.tasks.repairs import told_and_fixed
from helpers.errors import SuiteError
from helpers.eval.response_scoring import score_responses
from helpers.lines import bare_lines
from helpers.records import InstructPair, Task
from helpers.run.workspace import read_json, read_jsonl
from helpers.sandbox.run_conditions import VARIATIONS


class SavedPairsError(SuiteError, ValueError):
    """A folder that holds no saved pairs; the message says what is missing."""


@dataclass(frozen=True)
class PairCheck:
    """The result of a check: items by file and kind, programs run, and one line per problem."""

    items: dict[str, int]
    programs: int
    problems: tuple[str, ...]


def verify_saved_pairs(folder: Path, context: ExecutionContext, *, workers: int) -> PairCheck:
    """Run everything in `folder` (`train.jsonl`, `validation.jsonl`, `tasks.jsonl`) again.

    Args:
        context: where the corpus lies (`helpers.data.tasks.execution.context_of`).
        workers: sandbox processes; verdicts do not depend on it.

    Raises:
        SavedPairsError: if a file is missing.
    """
    items: list[Task] = []
    counts: Counter[str] = Counter()
    for name in ("train", "validation", "tasks"):
        path = Path(folder) / f"{name}.jsonl"
        if not path.is_file():
            raise SavedPairsError(f"{path} is missing: give the folder that a run saved its pairs to")
        record = Task if name == "tasks" else InstructPair
        for item in read_jsonl(path, record):
            items.append(item if isinstance(item, Task) else as_task(item))
            counts[f"{name}: {item.kind}"] += 1
    answers = {task.id: [task.reference] for task in items}
    scores = score_responses(items, answers, context=context, workers=workers)
    problems = [
        f"{_named(task)}: its answer does not pass: {score.status} {score.detail}"
        for task, score in zip(items, scores, strict=True)
        if not score.passed
    ]
    expected = [(task, *one) for task in items for one in _expectations(task)]
    programs = [limited(t.prelude + code, t.tests, t.entry_point) for t, code, _, _ in expected]
    distinct = list(dict.fromkeys(programs))
    ran = run_in(context, distinct, workers=workers, what="run pairs again")
    outcomes = dict(zip(distinct, ran, strict=True))
    for (task, _, passes, what), program in zip(expected, programs, strict=True):
        outcome = outcomes[program]
        if not (outcome.passed if passes else outcome.status in NOTICED):
            problems.append(f"{_named(task)}: {what}: {outcome.status} {outcome.detail}")
    problems += [f"{_named(task)}: {fault}" for task in items for fault in _faults(task)]
    return PairCheck(dict(sorted(counts.items())), len(distinct) + len(items), tuple(problems))


def run_references(
    tasks: Sequence[Task], context: ExecutionContext, *, times: int, workers: int
) -> list[str]:
    """Run the references of tasks with tests `times` times; return a line for each failure.

    Each round uses other processes, another order and other values of the conditions that must not matter
    (never `python -O`, under which no reference is scored).
    """
    programs = [limited(f"{t.prelude}{t.detail['code']}\n", t.tests, t.entry_point) for t in tasks]
    problems = []
    for number in range(1, times + 1):
        mixture = VARIATIONS[number % len(VARIATIONS)]._replace(optimize=False)
        conditions = mixture._replace(hash_seed=1000 + number, memory=1000 + number)
        order = random.Random(number).sample(range(len(tasks)), len(tasks))
        what = f"run references again, {number} of {times}"
        shuffled = [programs[place] for place in order]
        outcomes = run_in(context, shuffled, workers=workers, what=what, conditions=conditions)
        problems += [
            f"{_named(tasks[place])}: its reference, in run {number} of {times}: {end.status} {end.detail}"
            for place, end in zip(order, outcomes, strict=True)
            if not end.passed
        ]
    return problems


def verify_run(run_folder: Path, *, workers: int, times: int = 0) -> PairCheck | None:
    """Check the saved pairs of a run folder with `verify_saved_pairs`; None if the run made no pairs.

    Tasks that the run itself set aside are already known and are not reported.

    Args:
        times: how often the tasks' references are run in addition (`run_references`).

    Raises:
        CorpusError: if the run's corpus is no longer there.
    """
    data = run_folder / "track_b" / "data"
    if not data.is_dir():
        return None
    context = context_of_run(run_folder)
    checked = verify_saved_pairs(data, context, workers=workers)
    tasks = [task for task in read_jsonl(data / "tasks.jsonl", Task) if task.tests] if times else []
    again = run_references(tasks, context, times=times, workers=workers)
    listed = run_folder / "track_b" / "tasks_set_aside.jsonl"
    known = {row["task_id"] for row in read_jsonl(listed)} if listed.is_file() else set()
    problems = tuple(line for line in (*checked.problems, *again) if line.partition(" ")[0] not in known)
    return replace(checked, programs=checked.programs + times * len(tasks), problems=problems)


def context_of_run(run_folder: Path) -> ExecutionContext:
    """Return where the programs of a run's pairs and tasks find what they import.

    Raises:
        CorpusError: if the run's corpus is no longer there.
        SavedPairsError, DamagedFileError: if the run's records of it are missing or damaged.
    """
    spec = str(_recorded(run_folder / "run.json", "profile", "corpus", "spec"))
    kind, _, place = spec.partition(":")
    if kind in ("path", "zip"):  # relative to the folder that holds the notebook and this package
        spec = f"{kind}:{Path(helpers.__file__).resolve().parent.parent / place}"
    source = resolve_spec(spec)
    report = run_folder / "track_b/data/report.json"
    preloaded, folders = (_recorded(report, name) for name in ("preloaded modules", "import_folders"))
    return context_of(spec, source.import_name, str(source.root), preloaded, folders)


def _recorded(file: Path, *names: str) -> Any:
    """Return what one of a run's JSON files says under these names."""
    try:
        value = read_json(file)
        for name in names:
            value = value[name]
    except (OSError, LookupError, TypeError) as error:  # what is no JSON has its own error
        wrong = f"{file} cannot be read ({type(error).__name__}: {error})"
        raise SavedPairsError(f"{wrong}: copy the run's whole folder, or finish it with --resume") from error
    return value


def as_task(pair: InstructPair) -> Task:
    """Turn a pair into a task whose reference is its response."""
    return Task(
        pair.id, pair.kind, pair.function_id, pair.path, pair.instruction, pair.response, pair.entry_point,
        pair.prelude, pair.tests, pair.n_cases, pair.detail,
    )  # fmt: skip


def _named(task: Task) -> str:
    return f"{task.id} ({task.kind} of {task.function_id})"


def _expectations(task: Task) -> list[tuple[str, bool, str]]:
    """Return (code, whether it must pass the tests, problem if not) for an item with tests."""
    if not task.tests:
        return []
    given, found = task.detail["given"], [(task.detail["code"], True, "the correct code fails its tests")]
    if task.kind == "fix_bug":
        found.append((given, False, "the tests do not detect the bug in the given code"))
    elif task.kind == "improve":
        found.append((given, True, "the given code behaves differently"))
    elif task.kind == "implement":
        parameters = json.loads(task.detail["parameters"])
        for code in thoughtless(given, task.tests, parameters):
            body = bare_lines(code)[-1].strip()
            found.append((code, False, f"the tests do not detect the body `{body}`"))
    return found


def _faults(task: Task) -> Sequence[str]:
    """Return the faults that show without running anything."""
    given = task.detail["given"]
    shown = [given]
    if task.kind == "fix_bug":  # older runs mark the end of the line in either form of repair
        shown = [mark_line(given, int(task.detail["line"]), above=above) for above in (False, True)]
    is_shown = any(code.strip() in task.instruction for code in shown)
    faults = [] if is_shown else ["the instruction does not show the given code"]
    if task.kind == "fix_bug" and FENCE in task.reference:  # an answer by line has none
        told = task.reference.partition(FENCE)[0]
        bug = Bug(task.detail["operator"], given, int(task.detail["line"]), "", "")
        if told and not told_and_fixed(task.detail["code"], bug).startswith(told):
            faults.append("what the answer says of the marked line is not so")
    if task.kind == "docstring" and docstring_of(given):
        faults.append("the given code already has a docstring")
    return faults
