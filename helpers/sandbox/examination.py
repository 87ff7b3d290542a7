"""Run a program's test cases one by one under chosen conditions: which pass, and what each costs.

`run_programs` stops at the first failure and says nothing about the rest. Here all cases of a program
run one after another in one process, in an order set by the conditions, each with a different memory
layout than the one before. The program may report its own cost: it is the trusted reference, not a
model's answer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from helpers.machine.progress import progress
from helpers.sandbox.api import STEPS_REACHED, TIME_REACHED
from helpers.sandbox.run_conditions import BASE, RunConditions
from helpers.sandbox.step_counter import STEPS_SPENT
from helpers.sandbox.workers import Key, borrowed, key_for

ROUNDS = 2  # runs of each case in one process: an answer may depend on an earlier call


@dataclass(frozen=True)
class Cases:
    """One program with its cases: statements or test functions, as `run_program` takes them."""

    candidate: str
    setup: str
    cases: tuple[str, ...]
    entry_point: str
    timeout_s: float = 5.0
    memory_mb: int = 1024
    max_steps: int | None = None  # for each case


@dataclass(frozen=True)
class CaseResult:
    """How one case ended over all rounds of one process.

    Numbers are maxima over the rounds; `detail` describes the first failure.
    """

    passed: bool
    detail: str = ""
    steps: int = 0
    loops: float = 0.0  # processor time in loops of `step_counter.Meter`
    threads: int = 0  # threads that it started
    limit: bool = False  # whether it ended its process by reaching the step or time limit
    slept_s: float = 0.0
    trouble: str = ""  # why the sandbox could not run it; the other fields then mean nothing


def examine_cases(
    items: Sequence[Cases],
    conditions: RunConditions = BASE,
    *,
    workers: int,
    preload: Sequence[str] = (),
    python_path: Sequence[str] = (),
    rounds: int = ROUNDS,
    what: str = "examine cases",
) -> list[tuple[CaseResult, ...]]:
    """Run every case of every item, programs in a seeded order; return results in input order."""
    indices = list(range(len(items)))
    if conditions.order:
        random.Random(conditions.order).shuffle(indices)
    texts = [text for item in items for text in (item.candidate, item.setup, *item.cases)]
    key = key_for(texts, preload, python_path, conditions=conditions, whole_batch=True)
    if not items:
        return []
    with ThreadPoolExecutor(max_workers=min(workers, len(items))) as pool:
        found = pool.map(lambda index: _examine(key, items[index], conditions, rounds), indices)
        results = dict(zip(indices, progress(found, what, total=len(items), unit="program"), strict=True))
    return [results[index] for index in range(len(items))]


def _examine(key: Key, item: Cases, conditions: RunConditions, rounds: int) -> tuple[CaseResult, ...]:
    """Run every case `rounds` times; after a case that ends its process, continue in a fresh one."""
    order: list[int] = []
    for turn in range(rounds):
        one = list(range(len(item.cases)))
        if conditions.order:
            random.Random(conditions.order * rounds + turn).shuffle(one)
        order += one
    found: dict[int, CaseResult] = {}
    failures = 0
    while order:
        rows, ending = _run_process(key, item, order, conditions.memory)
        if not rows:
            failures += 1
            if failures < 2:
                continue
            so_far = [found.get(index, CaseResult(True)) for index in range(len(item.cases))]
            return tuple(replace(result, trouble=ending) for result in so_far)
        if rows[0]["index"] < 0:
            return tuple(CaseResult(False, rows[0]["detail"]) for _ in item.cases)
        if rows[-1]["status"] in ("gone", "running"):
            rows[-1] |= {"status": "gone", "detail": rows[-1]["detail"] or ending}
        for row in rows:
            found[row["index"]] = _merge(found.get(row["index"]), row)
        fallen = {row["index"] for row in rows if row["status"] == "gone"}
        order = [index for index in order[len(rows) :] if index not in fallen]
    return tuple(found[index] for index in range(len(item.cases)))


def _run_process(key: Key, item: Cases, order: list[int], memory: int) -> tuple[list[dict], str]:
    """Return a row for each case that one process ran, and how it ended; no rows if it could not start."""
    request = {"cases": list(item.cases), "setup": item.setup, "entry_point": item.entry_point,
               "order": order, "memory": memory}  # fmt: skip
    limits = {"timeout_s": item.timeout_s, "memory_mb": item.memory_mb, "max_steps": item.max_steps}
    with borrowed(key) as workers:
        reply, rows = workers.ask(key, item.candidate, limits, request)
        if "error" in reply or (not rows and not reply["limit"]):
            workers.drop(key)
            return [], reply.get("error") or f"the judge ended with status {reply['judge']}"
    if reply["candidate"] == STEPS_SPENT:
        ending = STEPS_REACHED
    else:
        ending = TIME_REACHED if reply["limit"] == "time" else "its process ended"
    return rows or [{"index": order[0], "status": "gone", "detail": ""}], ending


def _merge(before: CaseResult | None, row: dict) -> CaseResult:
    now = CaseResult(row["status"] == "passed", row["detail"], row.get("steps", 0), row.get("loops", 0.0),
                     row.get("threads", 0), row["detail"] in (STEPS_REACHED, TIME_REACHED),
                     row.get("slept_s", 0.0))  # fmt: skip
    if before is None:
        return now
    return CaseResult(
        before.passed and now.passed, before.detail or now.detail, max(before.steps, now.steps),
        max(before.loops, now.loops), max(before.threads, now.threads), before.limit or now.limit,
        max(before.slept_s, now.slept_s),
    )  # fmt: skip
