"""Score sample files against problem files of the published benchmarks, by running the tests.

`problem_files` and `sample_files` say which forms are read; `answers` says which program a completion makes.
The reference of every problem that has one is run first: where it does not pass, the tests cannot be run
here, and the problem counts as unscorable instead of failed.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from helpers.eval.pass_at_k import mean_pass_at_k
from helpers.run.workspace import check_writable, write_jsonl
from helpers.sandbox.api import Outcome, Program, run_programs
from helpers.tools.answers import without_reading
from helpers.tools.problem_files import Problem, read_problems
from helpers.tools.sample_files import read_samples
from helpers.tools.score_rows import ScoreError

__all__ = [
    "Problem",
    "ScoreError",
    "read_problems",
    "read_samples",
    "run_samples",
    "score_samples",
    "summarise",
    "summary_text",
]
UNSCORED = ("infrastructure_error", "unscorable")
BROKEN_REFERENCE = "its own reference does not pass here"


def score_samples(
    problems: Path, samples: Path, ks: tuple[int, ...], out: Path, workers: int, timeout_s: float
) -> dict[str, Any]:
    """Run every sample, write one result row per sample to `out`, and return the summary.

    Args:
        problems: JSON lines, a JSON list or object, or Parquet; gzipped or not.
        samples: the same formats; any number of samples per task.
        ks: the k of pass@k; a k above some task's number of samples is reported without a value.
        out: JSONL file, written at once at the end: the sample's fields with `status`, `passed`, `detail`.
            The status `unscorable` says that this problem's tests cannot be run here.

    Returns:
        `tasks`, `scored_tasks`, `samples`, `samples_per_task` (least, most), `pass_at_k` (k -> value,
        ci95 by Wilson over tasks, n_tasks, reason), `statuses` (counts), `tasks_without_samples` (ids,
        not part of the mean), `unscored_samples` (infrastructure errors) and `unscorable` (reason ->
        ids). Neither infrastructure errors nor unscorable samples count in n.

    Raises:
        ScoreError: for unreadable files, bad rows, an `out` that is one of the inputs, and files of which
            no task can be scored.
        WorkspaceError: when `out` cannot be written; nothing is run then.
    """
    if not ks or any(k < 1 for k in ks):
        raise ScoreError(f"k must be one or more numbers, each at least 1, not {ks}")
    for given in (problems, samples):
        if os.path.exists(out) and os.path.exists(given) and out.samefile(given):
            raise ScoreError(f"the results would overwrite {given}: name another file for them")
    if os.path.isdir(out):
        raise ScoreError(f"{out} is a folder: name a file for the results")
    by_id = read_problems(problems)
    rows = read_samples(samples, by_id)
    asked = {task_id: by_id[task_id] for task_id in dict.fromkeys(str(row["task_id"]) for row in rows)}
    check_writable(out)
    results = run_samples(rows, asked, workers, timeout_s)
    if all(result["status"] == "unscorable" for result in results):
        raise ScoreError(f"no task of {problems} can be scored; the first: {results[0]['detail']}")
    write_jsonl(out, results)
    return summarise(results, by_id, ks)


def run_samples(
    rows: list[dict[str, Any]], problems: dict[str, Problem], workers: int, timeout_s: float
) -> list[dict[str, Any]]:
    """Run the references and the samples; return the rows with `status`, `passed` and `detail` added.

    Args:
        rows: each with `task_id` and either `completion` or a whole `solution`.
        problems: those of the rows, by task id.
    """

    def program(problem: Problem, candidate: str) -> Program:
        return Program(candidate, problem.tests, problem.entry_point, timeout_s)

    runnable = {task_id: each for task_id, each in problems.items() if not each.unscorable}
    references = {i: program(p, p.reference) for i, p in runnable.items() if p.reference is not None}
    asked = []
    for row in rows:
        problem = runnable.get(str(row["task_id"]))
        text = row["solution"] if "solution" in row else row["completion"]
        asked.append(program(problem, problem.program(text)) if problem else None)
    outcomes = _outcomes([*references.values(), *filter(None, asked)], workers)
    reasons = {task_id: each.unscorable for task_id, each in problems.items() if each.unscorable}
    for task_id, reference in references.items():
        outcome = outcomes[reference]
        if not outcome.passed and outcome.status != "infrastructure_error":
            reasons[task_id] = f"{BROKEN_REFERENCE}: {outcome.detail}"
    results = []
    for row, each in zip(rows, asked, strict=True):
        if reason := reasons.get(str(row["task_id"])):
            results.append({**row, "status": "unscorable", "passed": False, "detail": reason})
        else:
            outcome = outcomes[each]
            verdict = {"status": outcome.status, "passed": outcome.passed, "detail": outcome.detail}
            results.append({**row, **verdict})
    return results


def _outcomes(programs: list[Program], workers: int) -> dict[Program | None, Outcome]:
    """Run each program once; one that fails while it is loaded is run again without what reads stdin."""
    different = list(dict.fromkeys(programs))
    ran = run_programs(different, workers=workers, what="scoring samples")
    outcomes: dict[Program | None, Outcome] = dict(zip(different, ran, strict=True))
    again = {}
    for each, outcome in zip(different, ran, strict=True):
        if outcome.status == "failed" and outcome.detail.startswith("the program: "):
            shorter = without_reading(each.candidate, each.entry_point)
            if shorter != each.candidate:
                again[each] = replace(each, candidate=shorter)
    if again:
        ran = run_programs(list(again.values()), workers=workers, what="without standard input")
        outcomes |= zip(again, ran, strict=True)
    return outcomes


def summarise(
    results: list[dict[str, Any]], problems: dict[str, Problem], ks: tuple[int, ...]
) -> dict[str, Any]:
    """Compute pass@k over the tasks that have samples; see `score_samples` for the fields."""
    passed: dict[str, list[bool]] = defaultdict(list)  # task -> its scored samples
    for result in results:
        if result["status"] not in UNSCORED:
            passed[str(result["task_id"])].append(result["passed"])
    counts = [(len(samples), sum(samples)) for samples in passed.values()]
    scores = [mean_pass_at_k(counts, k) for k in sorted(set(ks))]
    statuses = Counter(result["status"] for result in results)
    attempted = Counter(str(result["task_id"]) for result in results)
    attempts = attempted.values()
    return {
        "tasks": len(problems),
        "scored_tasks": len(counts),
        "samples": len(results),
        "samples_per_task": [min(attempts), max(attempts)],
        "pass_at_k": {
            str(s.k): {"value": s.value, "ci95": s.ci95, "n_tasks": s.n_tasks, "reason": s.reason}
            for s in scores
        },
        "statuses": dict(sorted(statuses.items())),
        "tasks_without_samples": [task_id for task_id in problems if task_id not in attempted],
        "unscored_samples": statuses["infrastructure_error"],
        "unscorable": _unscorable(results),
    }


def _unscorable(results: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return reason -> ids of the tasks that cannot be scored for it, the most frequent first."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for result in results:
        if result["status"] == "unscorable":
            broken = result["detail"].startswith(BROKEN_REFERENCE)
            reason = BROKEN_REFERENCE if broken else result["detail"]
            found[reason][str(result["task_id"])] = None
    return {reason: list(found[reason]) for reason in sorted(found, key=lambda each: -len(found[each]))}


def summary_text(summary: dict[str, Any]) -> str:
    """Format the summary as lines for a terminal."""
    per_task = summary["samples_per_task"]
    each = f"{per_task[0]}" if per_task[0] == per_task[1] else f"{per_task[0]} to {per_task[1]}"
    lines = [
        f"{summary['tasks']} tasks, {summary['samples']} samples, {each} per task that has any",
        "",
        f"{'':10}{'value':>7}   95% interval (Wilson over {summary['scored_tasks']} tasks)",
    ]
    for k, score in summary["pass_at_k"].items():
        if score["value"] is None:
            lines.append(f"pass@{k:<5}{'-':>7}   {score['reason']}")
        else:
            low, high = score["ci95"]
            lines.append(f"pass@{k:<5}{score['value']:>7.3f}   {low:.3f} to {high:.3f}")
    lines.append("")
    lines.extend(f"{status:22}{count:>7}" for status, count in summary["statuses"].items())
    if missing := summary["tasks_without_samples"]:
        named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        lines += ["", f"{len(missing)} tasks have no sample and are left out of the mean: {named}"]
    if summary["unscored_samples"]:
        text = "samples could not be run; they count neither as passed nor as failed. Score them again"
        lines += ["", f"{summary['unscored_samples']} {text}"]
    for reason, tasks in summary["unscorable"].items():
        named = ", ".join(tasks[:5]) + (", ..." if len(tasks) > 5 else "")
        lines += ["", f"{len(tasks)} tasks cannot be scored and are left out of the mean: {reason} ({named})"]
    return "\n".join(lines)
