"""Report on Track B's pairs and tasks for the data card: counts, distributions, filters, wordings."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from helpers.code.quality import decision_points
from helpers.data.card.facts import quantiles
from helpers.data.tasks.bugs import OPERATORS
from helpers.data.tasks.draft import Draft
from helpers.data.tasks.filters import Filters, in_order
from helpers.data.tasks.ground_truth import GroundTruth
from helpers.data.tasks.phrasings import LINE_REPAIR, PHRASINGS
from helpers.data.tasks.prose import SENTENCES
from helpers.data.tasks.suite_cases import TestSuite
from helpers.data.tasks.worsening import WORSENINGS
from helpers.lines import lines_of
from helpers.settings import TrackBSettings

# Name of a band -> its last value.
LENGTHS = {"1-4": 4, "5-9": 9, "10-14": 14, "15-19": 19, "20-29": 29, "30 and more": sys.maxsize}
CASES, MUTANTS = "cases left out: ", "mutants "  # how counts begin that are not counts of functions
POINTS = {"none": 0, "1-2": 2, "3-5": 5, "6 and more": sys.maxsize}


def instruct_report(
    chosen: Mapping[str, Sequence[Draft]],
    verified: Mapping[str, Sequence[GroundTruth]],
    looked_at: Mapping[str, Mapping[str, int]],
    check: Filters,
    suite: TestSuite,
    settings: TrackBSettings,
    generator: str,
    *,
    wordings: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Return the report as plain data, for `helpers.data.card.page` to show.

    Args:
        chosen: side -> drafts of its pairs or tasks.
        verified, looked_at: side -> verified functions and counts, from `verify_functions`.
        wordings: template -> paraphrases in use.
    """
    return {
        "language_generator": generator,
        "functions": _without(looked_at, CASES, MUTANTS),
        "cases left out": _only(looked_at, CASES),
        "mutants": _only(looked_at, MUTANTS),
        "mutation_score": {side: _mutation_score(truths) for side, truths in verified.items()},
        "cases of verified functions by source": {side: _sources(t) for side, t in verified.items()},
        "the corpus' own tests": dict(suite.counts),
        **_about_items(chosen, check),
        "filters": check.steps(),
        "rejected_examples": in_order(check.examples),
        "drafts by kind": {
            name: {"in": counts["in"], "out": counts["out"]} | dict(counts)
            for name, counts in sorted(check.counts.items())
        },
        "benchmarks kept out": dict(check.benchmarks.sources) or "none was given",
        "phrasings": {kind: list(texts) for kind, texts in PHRASINGS.items()}
        | {"fix_bug, by line": list(LINE_REPAIR)},
        "sentences of an explanation": list(SENTENCES.values()),
        "paraphrases": {head: list(texts) for head, texts in wordings.items()},
        "what a planted bug is": {name: text for name, (text, _) in OPERATORS.items()},
        "what a worse version is": {name: text for name, (text, _) in WORSENINGS.items()},
        "examples": _examples(chosen["train"]),
        "settings": dataclasses.asdict(settings) | {"benchmarks": list(settings.benchmarks)},
    }


def _about_items(chosen: Mapping[str, Sequence[Draft]], check: Filters) -> dict[str, Any]:
    """Count pairs and tasks of each side by what they are made of."""
    return {
        "sides": {
            side: {
                "count": len(drafts),
                "functions": len({d.function.id for d in drafts}),
                "files": len({d.function.path for d in drafts}),
            }
            for side, drafts in chosen.items()
        },
        "tokens per item": {
            side: quantiles(check.tokens(f"{d.instruction}\n{d.response}") for d in drafts)
            for side, drafts in chosen.items()
        },
        "mutation score of an item's tests, percent": {
            side: _percentages(d.truth for d in drafts if d.truth) for side, drafts in chosen.items()
        },
        "kinds": _table(chosen, lambda d: d.kind),
        # Both describe the code shown in the instruction.
        "lines": _table(chosen, lambda d: _band(len(lines_of(d.given)), LENGTHS), LENGTHS),
        "decision_points": _table(chosen, lambda d: _band(decision_points(d.given), POINTS), POINTS),
        "planted bugs": _table(chosen, lambda d: d.kind == "fix_bug" and d.detail["operator"]),
        "worse versions": _table(chosen, lambda d: d.kind == "improve" and d.detail["operator"]),
        "modules": _table(chosen, lambda d: d.function.module.rpartition(".")[0] or d.function.module),
    }


def _only(counts: Mapping[str, Mapping[str, int]], start: str) -> dict[str, dict[str, int]]:
    """Return what the counts whose names begin with `start` say -> side -> count."""
    names = dict.fromkeys(name for found in counts.values() for name in found if name.startswith(start))
    return {
        name.removeprefix(start): {side: found.get(name, 0) for side, found in counts.items()}
        for name in names
    }


def _without(counts: Mapping[str, Mapping[str, int]], *starts: str) -> dict[str, dict[str, int]]:
    return {
        side: {name: count for name, count in found.items() if not name.startswith(starts)}
        for side, found in counts.items()
    }


def _examples(drafts: Sequence[Draft]) -> dict[str, list[dict[str, str]]]:
    """Return the shortest pair of each kind in full."""
    shortest: dict[str, Draft] = {}
    for draft in sorted(drafts, key=lambda d: len(d.instruction) + len(d.response)):
        shortest.setdefault(draft.kind, draft)
    return {
        kind: [{"function": d.function.id, "instruction": d.instruction, "response": d.response,
                "verified": "; ".join(d.verified)}]
        for kind, d in sorted(shortest.items())
    }  # fmt: skip


def _table(
    drafts: Mapping[str, Sequence[Draft]], label: Callable[[Draft], str | bool], order: Iterable[str] = ()
) -> dict[str, dict[str, int]]:
    """Return label -> side -> count; drafts whose label is false are left out."""
    counts = {side: Counter(label(d) for d in some) for side, some in drafts.items()}
    found = {name for counter in counts.values() for name in counter if name}
    labels = [name for name in order if name in found] or sorted(found)
    return {name: {side: counter[name] for side, counter in counts.items()} for name in labels}


def _band(value: int, bands: Mapping[str, int]) -> str:
    return next(name for name, last in bands.items() if value <= last)


def _sources(truths: Iterable[GroundTruth]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for truth in truths:
        total.update(truth.test_set.sources)
        total["functions with cases of the test-suite"] += bool(truth.test_set.suite)
    return dict(total)


def _percentages(truths: Iterable[GroundTruth]) -> dict[str, float]:
    """Return the distribution of mutation scores over functions, in percent; each function counts once."""
    distinct = {truth.function.id: truth for truth in truths}
    return quantiles(100 * truth.mutation_score for truth in distinct.values())


def _mutation_score(truths: Sequence[GroundTruth]) -> float:
    """Return killed / run over all mutants of a side."""
    run = sum(truth.n_mutants for truth in truths)
    return round(sum(truth.n_killed for truth in truths) / run, 4) if run else 0.0
