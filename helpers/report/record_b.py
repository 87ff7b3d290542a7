"""Build Track B's section of metrics.json, from the scores of every response.

Rows: `track_b/tasks` (records.Task), `track_b/tasks_set_aside` (records.TaskSetAside),
`track_b/scores_before`, `track_b/scores_after` and `track_b/baseline_<name>` (records.ResponseScore; sample 0
is greedy, 1..n are drawn), `track_b/planted_names` (planted.name_check.CheckedName), and
`track_b/control_general_problems` (id, before, after).

`pass@1` and `pass@1/<kind>` use sample 0, one per task of an executable kind (`records.EXECUTABLE`). The
interval of the difference resamples functions, p is exact McNemar over tasks; the verdict needs both.
`pass@1_sampled`, `pass@2`, ... are unbiased estimates from samples 1..n, resampling functions. `parsable`,
`style` and `hallucination_rate` use greedy responses; the last two only tasks whose responses can be read
both before and after. A (task, sample) with an infrastructure error on either side is left out of both
sides; these are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from helpers.code.style import HALF_SCORE_AT
from helpers.eval.pass_at_k import pass_at_k
from helpers.eval.planted.name_check import CheckedName, precision_and_recall
from helpers.eval.statistics import exact_mcnemar, proportion, wilson_interval
from helpers.records import EXECUTABLE, ResponseScore, Task, TaskSetAside
from helpers.report import entries
from helpers.report.entries import PRIMARY_METRIC, MetricsError, tidy

CHECKER, GENERAL = "hallucination_checker", "general_problems"
SOLVED = "share of tasks solved, greedy decoding"
CHECKED = {"explain": "checks of form and of single statements, not of truth as a whole"}  # kind -> of what
NO_CODE = ("unparsable", "empty")  # statuses of responses that hold nothing to measure

Key = tuple[str, int]  # task id, sample
Scores = dict[Key, ResponseScore]


def record_track_b(
    before: Sequence[ResponseScore],
    after: Sequence[ResponseScore],
    tasks: Sequence[Task],
    *,
    model: str,
    seed: int,
    samples: int,
    cost: Mapping[str, Any],
    ks: Sequence[int] = (1, 2, 3),
    temperature: float | None = None,
    data: Mapping[str, Any] | None = None,
    controls: Mapping[str, Any] | None = None,
    baselines: Mapping[str, Sequence[ResponseScore]] | None = None,
    planted: Sequence[CheckedName] = (),
    general: entries.Rows = (),
    set_aside: Sequence[TaskSetAside] = (),
) -> dict[str, Any]:
    """Compute pass@1 of the greedy responses to the executable tasks (primary), and further metrics.

    One parameter for each kind of row and each fact that the section records.

    Args:
        before, after: scores of the same (task, sample) pairs.
        baselines: name -> scores of trivial answers (copied input, reference), sample 0.
        general: id, and whether the model solved the general problem before and after: shows forgetting.
        planted: the hallucination checker's verdicts on planted names, recorded among the controls.
        set_aside: tasks whose reference did not pass; no figure counts them, before or after.

    Raises:
        MetricsError: if before and after differ in items, or no executable task is left.
    """
    gone = {item.task_id for item in set_aside}
    kept = sorted((task for task in tasks if task.id not in gone), key=lambda task: task.id)
    first, second = _paired_scores(_without(before, gone), _without(after, gone))
    broken = {k for k in first if "infrastructure_error" in (first[k].status, second[k].status)}
    keys = [k for k in sorted(first) if k not in broken]
    executable = {task.id for task in kept if task.kind in EXECUTABLE}
    greedy = [k for k in keys if k[1] == 0]
    tested = [k for k in greedy if k[0] in executable]
    if not tested:
        raise MetricsError("no executable task has a greedy response before and after")
    drawn = [k for k in keys if k[1] > 0 and k[0] in executable]
    metrics = _greedy_entries(first, second, greedy, executable, seed=seed, samples=samples)
    metrics |= _pass_at_ks(first, second, drawn, ks, temperature, seed=seed, samples=samples)
    counts = _counts(first, second, tested, made=len(tasks), aside=len(set_aside), broken=len(broken))
    items = [[task.id, task.instruction, task.tests] for task in kept]
    extra = {"ks": list(ks)} | ({} if temperature is None else {"temperature": temperature})
    beside = {
        name: figures
        for name, scores in sorted((baselines or {}).items())
        if (figures := _baseline_entries(_without(scores, gone), executable))
    }
    return entries.track_section(
        model,
        PRIMARY_METRIC["track_b"],
        metrics,
        controls=dict(controls or {})
        | ({CHECKER: checker_entry(planted)} if planted else {})
        | ({GENERAL: _general_entry(general, seed=seed, samples=samples)} if general else {}),
        baselines=beside,
        cost=cost,
        data=entries.data_section(data, counts, items, samples) | extra,
    )


def _counts(
    first: Scores, second: Scores, tested: list[Key], *, made: int, aside: int, broken: int
) -> dict[str, int]:
    """Count tasks, functions and responses, and the greedy answers to `tested` that changed."""
    changed = exact_mcnemar([first[k].passed for k in tested], [second[k].passed for k in tested])
    return {
        "tasks": len({k[0] for k in first}),
        "tasks_made": made,
        "tasks_set_aside": aside,
        "executable_tasks": len(tested),
        "functions": len({first[k].function_id for k in tested}),
        "responses_each": len(first),
        "infrastructure_errors": broken,
        "greedy_gained": changed.gained,
        "greedy_lost": changed.lost,
    }


def with_bounds(entry: dict[str, Any], functions: Sequence[str]) -> dict[str, Any]:
    """Replace the intervals of an entry between 0 and 1 where resampling gives a single point.

    If every function scores 0 (or 1), so does every resample; the interval then becomes Wilson's, for 0 (or
    all) of that many functions. It holds for means too, since a mean between 0 and 1 is at most the share
    of functions that are not 0. A difference that is 0 in every item gets the same bound on both sides.
    """
    n = len(set(functions))
    for side in (entry["before"], entry["after"]):
        low, high = side["ci95"]
        if low == high and side["value"] in (0.0, 1.0):
            side["ci95"] = list(wilson_interval(n if side["value"] else 0, n))
    if entry["delta"]["ci95"] == [0.0, 0.0]:
        bound = wilson_interval(0, n)[1]
        entry["delta"]["ci95"] = [-bound, bound]
    return tidy(entry)


def _baseline_entries(scores: Sequence[ResponseScore], executable: set[str]) -> dict[str, Any]:
    """Measure trivial answers in the same way as the model's, overall and by kind."""
    greedy = [s for s in scores if s.sample == 0]
    tested = [s for s in greedy if s.task_id in executable]
    shares: dict[str, list[bool]] = {"pass@1": [s.passed for s in tested]}
    for kind in sorted({s.kind for s in greedy}):
        some = [s for s in greedy if s.kind == kind]
        runs = some[0].task_id in executable
        shares[f"{'pass@1' if runs else 'checks'}/{kind}"] = [s.passed for s in some]
    shares["hallucination_rate"] = [bool(s.invented_names) for s in greedy if _readable(s)]
    figures = {name: tidy(proportion(hits)) for name, hits in shares.items() if hits}
    styles = [s.style for s in greedy if s.style is not None]
    return figures | ({"style": {"value": sum(styles) / len(styles), "n": len(styles)}} if styles else {})


def checker_entry(planted: Sequence[CheckedName]) -> dict[str, Any]:
    """Record precision and recall of the hallucination checker, and the planted names it got wrong."""
    precision, recall = precision_and_recall(planted)
    families = sorted({item.family for item in planted})
    wrong = [item for item in planted if item.flagged == item.real]
    return {
        "precision": tidy(precision),
        "recall": tidy(recall),
        "real_names": sum(item.real for item in planted),
        "fake_names": sum(not item.real for item in planted),
        "families": {f: sum(item.family == f for item in planted) for f in families},
        "false_alarms": [f"{item.family}: {item.name}" for item in wrong if item.real],
        "missed": [f"{item.family}: {item.name}" for item in wrong if not item.real],
    }


def _general_entry(rows: entries.Rows, **options: int) -> dict[str, Any]:
    """Build the entry of the share of general problems solved; each problem is a group of its own."""
    before, after = ([bool(row[side]) for row in rows] for side in ("before", "after"))
    ids = [row["id"] for row in rows]
    return with_bounds(entries.share_entry(before, after, SOLVED, higher=True, groups=ids, **options), ids)


def _without(scores: Sequence[ResponseScore], gone: set[str]) -> list[ResponseScore]:
    return [score for score in scores if score.task_id not in gone]


def _paired_scores(before: Sequence[ResponseScore], after: Sequence[ResponseScore]) -> tuple[Scores, Scores]:
    first, second = ({(s.task_id, s.sample): s for s in scores} for scores in (before, after))
    if first.keys() != second.keys():
        odd = sorted(first.keys() ^ second.keys())
        raise MetricsError(f"{len(odd)} responses exist only before or only after, e.g. {odd[0]}")
    return first, second


def _greedy_entries(
    first: Scores, second: Scores, greedy: list[Key], executable: set[str], **options: int
) -> dict[str, Any]:
    """Compute everything measured on sample 0: shares with McNemar, style and killed mutants as means."""
    found: dict[str, Any] = {}

    def add(
        name: str,
        over: list[Key],
        measure: Callable[[ResponseScore], Any],
        unit: str,
        build: Callable[..., dict[str, Any]] = partial(entries.share_entry, higher=True),
    ) -> None:
        if over:
            before, after = ([measure(scores[k]) for k in over] for scores in (first, second))
            functions = [first[k].function_id for k in over]
            found[name] = with_bounds(build(before, after, unit=unit, groups=functions, **options), functions)

    passed, killed, style = attrgetter("passed"), attrgetter("killed_mutants"), attrgetter("style")
    tested = [k for k in greedy if k[0] in executable]
    others = [k for k in greedy if k[0] not in executable]
    for name, some in _overall_and_by_kind("pass@1", first, tested):
        add(name, some, passed, SOLVED)
    for kind, some in _by_kind(first, others):
        what = CHECKED.get(kind, "the checks of this kind")
        add(f"checks/{kind}", some, passed, f"share of responses that pass {what}, greedy")
    add("parsable", tested, _readable, "share of responses holding code that parses, greedy")
    killing = [k for k in others if None not in (killed(first[k]), killed(second[k]))]
    unit = "share of held mutants that the generated tests kill, 0 where they fail on the reference, greedy"
    add("mutation_score/unit_tests", killing, killed, unit, entries.mean_entry)
    both = [k for k in greedy if _readable(first[k]) and _readable(second[k])]
    styled = [k for k in both if None not in (style(first[k]), style(second[k]))]
    unit = f"1 / (1 + ruff's D, E, W findings per 100 lines / {HALF_SCORE_AT:g}), mean over responses "
    unit += "readable before and after, greedy"
    for name, some in _overall_and_by_kind("style", first, styled):
        add(name, some, style, unit, entries.mean_entry)
    unit = "share of responses naming what does not exist, readable before and after, greedy"
    lower_is_better = partial(entries.share_entry, higher=False)
    for name, some in _overall_and_by_kind("hallucination_rate", first, both):
        add(name, some, lambda score: bool(score.invented_names), unit, lower_is_better)
    return found


def _readable(score: ResponseScore) -> bool:
    return score.status not in NO_CODE


def _by_kind(scores: Scores, keys: list[Key]) -> list[tuple[str, list[Key]]]:
    kinds = sorted({scores[k].kind for k in keys})
    return [(kind, [k for k in keys if scores[k].kind == kind]) for kind in kinds]


def _overall_and_by_kind(name: str, scores: Scores, keys: list[Key]) -> list[tuple[str, list[Key]]]:
    """Return `name` with all keys, then `name/<kind>` with those of each kind; nothing for no keys."""
    return [(name, keys)] * bool(keys) + [(f"{name}/{kind}", some) for kind, some in _by_kind(scores, keys)]


def _pass_at_ks(
    first: Scores,
    second: Scores,
    drawn: list[Key],
    ks: Sequence[int],
    temperature: float | None,
    **options: int,
) -> dict[str, Any]:
    """Build the entries of pass@k from the sampled responses, overall and by kind.

    Tasks with fewer than k samples are left out.
    """
    found = {}
    for suffix, some in _overall_and_by_kind("", first, drawn):
        by_task: dict[str, list[Key]] = {}
        for key in some:
            by_task.setdefault(key[0], []).append(key)
        for k in ks:
            enough = [keys for keys in by_task.values() if len(keys) >= k]
            if not enough:
                continue
            before, after = (
                [pass_at_k(len(keys), sum(s[key].passed for key in keys), k) for keys in enough]
                for s in (first, second)
            )
            functions = [first[keys[0]].function_id for keys in enough]
            unit = f"expected share of tasks solved by one of {k}, {max(map(len, enough))} samples each"
            unit += f" at temperature {temperature:g}" if temperature is not None else ""
            entry = entries.mean_entry(before, after, unit, groups=functions, **options)
            name = "pass@1_sampled" if k == 1 else f"pass@{k}"
            found[name + suffix] = with_bounds(entry, functions)
    return found
