"""Score sample files against problem files, in the formats of HumanEval and MBPP.

HumanEval: problems `task_id, prompt, entry_point, test` and samples `task_id, completion`. The program is
prompt + completion, or the completion alone if it is a whole answer (fenced, or defining the function
itself). The tests get the prompt's helper functions from the prompt, not from the sample. MBPP: problems
`task_id, text, code, test_list, test_setup_code`, or in the sanitized form `task_id, prompt, code,
test_list, test_imports`; the completion is the program. As in published scores, `challenge_test_list` is
not used.
"""

from __future__ import annotations

import ast
import gzip
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.code.extraction import defines, extract_code, parse
from helpers.errors import SuiteError
from helpers.eval.pass_at_k import mean_pass_at_k
from helpers.lines import bare_lines, lines_of
from helpers.run.workspace import write_jsonl
from helpers.sandbox.api import Program, run_programs


class ScoreError(SuiteError, ValueError):
    """A problem or sample file that cannot be used; the message names the file and line."""


@dataclass(frozen=True)
class Problem:
    """One problem of either format: the text before a completion, and the tests."""

    task_id: str
    prompt: str  # "" for MBPP
    entry_point: str
    tests: str


def score_samples(
    problems: Path, samples: Path, ks: tuple[int, ...], out: Path, workers: int, timeout_s: float
) -> dict[str, Any]:
    """Run every sample, write one result row per sample to `out`, and return the summary.

    Args:
        problems: `.jsonl`, `.jsonl.gz`, or a JSON list (the format of MBPP's sanitized file).
        samples: the same formats; any number of samples per task.
        ks: the k of pass@k; a k above some task's number of samples is reported without a value.
        out: JSONL file, written at once at the end: the sample's fields with `status`, `passed`, `detail`.

    Returns:
        `tasks`, `scored_tasks`, `samples`, `samples_per_task` (least, most), `pass_at_k` (k -> value,
        ci95 by Wilson over tasks, n_tasks, reason), `statuses` (counts), `tasks_without_samples` (ids,
        not part of the mean) and `unscored_samples` (infrastructure errors, not counted in n).

    Raises:
        ScoreError: for unreadable files and bad rows.
        WorkspaceError: when `out` cannot be written.
    """
    if not ks or any(k < 1 for k in ks):
        raise ScoreError(f"k must be one or more numbers, each at least 1, not {ks}")
    by_id = read_problems(problems)
    rows = read_samples(samples, by_id)
    programs = []
    for row in rows:
        problem = by_id[str(row["task_id"])]
        candidate = program_for(problem, row["completion"])
        programs.append(Program(candidate, problem.tests, problem.entry_point, timeout_s))
    different = list(dict.fromkeys(programs))  # models repeat themselves; run each program once
    ran = run_programs(different, workers=workers, what="scoring samples")
    outcomes = dict(zip(different, ran, strict=True))
    results = [
        {**row, "status": outcome.status, "passed": outcome.passed, "detail": outcome.detail}
        for row, outcome in zip(rows, map(outcomes.__getitem__, programs), strict=True)
    ]
    write_jsonl(out, results)
    return summarise(results, by_id, ks)


def summarise(
    results: list[dict[str, Any]], problems: dict[str, Problem], ks: tuple[int, ...]
) -> dict[str, Any]:
    """Compute pass@k over the tasks that have samples; see `score_samples` for the fields."""
    passed: dict[str, list[bool]] = defaultdict(list)  # task -> its scored samples
    for result in results:
        if result["status"] != "infrastructure_error":
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
    }


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
    return "\n".join(lines)


def program_for(problem: Problem, completion: str) -> str:
    """Return the program to run: the problem's prompt with the completion in place."""
    if not completion.strip():
        return problem.prompt + "\n    raise NotImplementedError\n" if problem.prompt else ""
    plain = problem.prompt + completion
    if "```" not in completion and "~~~" not in completion and parse(plain) is not None:
        return plain
    code = extract_code(completion, entry_point=problem.entry_point)
    if code is None:
        return plain  # does not parse, so it fails with the parser's message
    if not problem.prompt or defines(code, problem.entry_point):
        return _preamble(problem.prompt, problem.entry_point) + code
    indented = problem.prompt + "".join(f"    {line}\n" for line in bare_lines(code))
    return indented if parse(indented) is not None else plain


def _preamble(prompt: str, entry_point: str) -> str:
    """Return the prompt up to the function under test: its imports and helper functions."""
    tree = parse(prompt)
    for node in tree.body if tree else ():
        if isinstance(node, ast.FunctionDef) and node.name == entry_point:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            return "".join(lines_of(prompt)[: first - 1])
    return ""


def read_problems(path: Path) -> dict[str, Problem]:
    """Read problems of either format, in file order, keyed by task id."""
    found: dict[str, Problem] = {}
    for where, row in read_rows(path):
        if "test_list" in row:
            problem = _mbpp(where, row)
        elif "test" in row:
            problem = _human_eval(where, row)
        else:
            raise ScoreError(f"{where}: the row has neither HumanEval's field 'test' nor MBPP's 'test_list'")
        if problem.task_id in found:
            raise ScoreError(f"{where}: task_id {problem.task_id!r} occurs twice")
        found[problem.task_id] = problem
    if not found:
        raise ScoreError(f"{path} holds no problem")
    return found


def read_samples(path: Path, problems: dict[str, Problem]) -> list[dict[str, Any]]:
    """Read the rows of a sample file; each must name a known task and hold a completion."""
    rows = []
    for where, row in read_rows(path):
        _text(where, row, "completion")
        if str(row.get("task_id")) not in problems:
            raise ScoreError(f"{where}: task_id {row.get('task_id')!r} is not among the problems")
        rows.append(row)
    if not rows:
        raise ScoreError(f"{path} holds no sample")
    return rows


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("file, line N", object) for each row of a JSONL file or JSON list, gzipped or not."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        text = data.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ScoreError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    for where, row in _list_rows(path, text) or _line_rows(path, text):
        if not isinstance(row, dict):
            raise ScoreError(f"{where}: expected a JSON object, found {type(row).__name__}")
        yield where, row


def _list_rows(path: Path, text: str) -> list[tuple[str, Any]]:
    """Return the rows of a file that is one JSON list; none for other files."""
    try:
        rows = json.loads(text) if text.lstrip().startswith("[") else []
    except ValueError:
        return []
    return [(f"{path}, row {number}", row) for number, row in enumerate(rows, start=1)]


def _line_rows(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                yield where, json.loads(line)
            except ValueError as error:
                raise ScoreError(f"{where}: not JSON ({error})") from error


def _human_eval(where: str, row: dict[str, Any]) -> Problem:
    prompt, entry_point, test = (_text(where, row, name) for name in ("prompt", "entry_point", "test"))
    if not entry_point.isidentifier():
        raise ScoreError(f"{where}: entry_point {entry_point!r} is not a name")
    trusted = f"{prompt}\n" if parse(prompt) is not None else ""
    return Problem(str(_task_id(where, row)), prompt, entry_point, _parsed(where, trusted + test))


def _mbpp(where: str, row: dict[str, Any]) -> Problem:
    imports, asserts = row.get("test_imports") or [], row["test_list"]
    if not isinstance(imports, list) or not isinstance(asserts, list) or not asserts:
        raise ScoreError(f"{where}: 'test_list' must be a non-empty list, and 'test_imports' a list if given")
    tests = [*imports, row.get("test_setup_code") or "", *asserts]
    if not all(isinstance(test, str) for test in tests):
        raise ScoreError(f"{where}: 'test_list' must be a non-empty list of assert statements")
    text = _parsed(where, "\n".join(tests).replace("\r\n", "\n") + "\n")
    return Problem(str(_task_id(where, row)), "", _mbpp_entry_point(where, row, text), text)


def _mbpp_entry_point(where: str, row: dict[str, Any], tests: str) -> str:
    """Return the function that the tests call and the reference program defines."""
    reference = parse(_text(where, row, "code").replace("\r\n", "\n"))
    if reference is None:
        raise ScoreError(f"{where}: the reference program in 'code' does not parse")
    nodes = ast.walk(ast.parse(tests))
    calls = [n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    for kind in (ast.FunctionDef, ast.ClassDef):
        for node in reference.body:
            if isinstance(node, kind) and node.name in calls:
                return node.name
    raise ScoreError(f"{where}: the tests call no function that the program in 'code' defines")


def _parsed(where: str, tests: str) -> str:
    if parse(tests) is None:
        raise ScoreError(f"{where}: the tests do not parse")
    return tests


def _text(where: str, row: dict[str, Any], name: str) -> str:
    if not isinstance(row.get(name), str):
        raise ScoreError(f"{where}: field {name!r} must be a string")
    return row[name]


def _task_id(where: str, row: dict[str, Any]) -> str | int:
    if not isinstance(row.get("task_id"), str | int):
        raise ScoreError(f"{where}: field 'task_id' must be a string or a number")
    return row["task_id"]
