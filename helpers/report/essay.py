"""The essay on each track: question, method, result and doubt, worded from metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbconvert.filters import markdown2html

from helpers.escaping import inline
from helpers.report.deciding import grouped_rows
from helpers.report.first_screen import FEW_ITEMS, duration_text, shown_model
from helpers.report.tables import (
    TRACK_NAMES,
    checker_table,
    estimate_text,
    instruction_control_sentence,
    markdown,
    metric_name,
    number,
    pretraining_control_sentences,
    verdict_sentence,
)
from helpers.report.tables_c import latency_sentence, search_control_sentences, search_sentence, system_table
from helpers.report.tables_completion import QUESTION as COMPLETION_QUESTION
from helpers.report.tables_completion import (
    arm_table,
    completion_cost,
    completion_doubt,
    completion_sentences,
    difference_table,
    method_sentence,
)

DATA = "corpus-and-data-card"  # anchor of the section on the data
QUESTIONS = {
    "track_a": "Does the model, having read the repository's files, predict unseen files in fewer bits?",
    "track_b": "Does the model, having learned from verified pairs, write code that passes more unit tests?",
    "track_c": "Does search, having learned which question belongs to which function, rank it higher?",
}


def track_essay(metrics: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the essay on track `name`: the texts as HTML, and the rows of its tables as text."""
    track = metrics[name]
    ran = track["verdict"] != "not_run"
    return {
        "kind": track["verdict"].replace("_", "-"),
        "question": QUESTIONS[name],
        "method": markdown2html(method_text(name, track)) if ran else "",
        "result": markdown2html(verdict_sentence(track)),
        "doubt": markdown2html(doubt_text(name, track)) if ran else "",
        "tables": _tables(name, track) if ran else [],
        "rows": grouped_rows(track["metrics"], track["primary_metric"]),
        "controls": [
            row
            for rows in grouped_rows(
                {key: value for key, value in track["controls"].items() if _is_entry(value)}
            ).values()
            for row in rows
        ],
    }


def track_essays(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return section anchor ("track-a", ...) -> essay: on the data, and `track_essay` of each track."""
    tracks = {name.replace("_", "-"): track_essay(metrics, name) for name in TRACK_NAMES}
    empty = dict.fromkeys(("question", "method", "doubt", "kind"), "")
    lists: dict[str, Any] = {"tables": [], "rows": {"decides": []}, "controls": []}
    found = {DATA: {**empty, **lists, "result": markdown2html(data_text(metrics))}, **tracks}
    if section := metrics.get("completion"):
        found["completion"] = {**empty, **lists, **completion_essay(section)}
    return found


def completion_essay(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the essay on completion: the texts as HTML, and its tables."""
    said = {"kind": section["verdict"].replace("_", "-"), "question": COMPLETION_QUESTION}
    if section["verdict"] == "not_run":
        return said | {"result": markdown2html(completion_sentences(section))}
    tables = [
        {"title": "Every measure of every arm and baseline", "html": _html(arm_table(section))},
        {"title": "Differences of exact match among the arms", "html": _html(difference_table(section))},
    ]
    return said | {
        "result": markdown2html(inline(section["answer"])),
        "method": markdown2html(f"{method_sentence(section)} {inline(completion_cost(section))}"),
        "doubt": markdown2html(completion_doubt(section)),
        "tables": tables,
    }


def data_text(metrics: Mapping[str, Any]) -> str:
    """Say what the corpus is and what was made of it (Markdown)."""
    run = metrics["run"]
    corpus = run["corpus"]
    said = [
        f"{corpus['files']:,} files of {inline(corpus['spec'])}"
        + (f" {inline(corpus['version'])}" if corpus["version"] else "")
        + (f", licence {inline(corpus['licence'])}" if "licence" in corpus else "")
        + "."
    ]
    for name in TRACK_NAMES:
        counts = metrics[name]["data"].get("counts", {})
        made = [
            f"{counts[key]:,} {key.replace('_', ' ')}"
            for key in ("training_files", "test_files", "training_pairs", "tasks", "test_queries")
            if key in counts
        ]
        said.append(f"Track {name[-1].upper()}: {', '.join(made) or 'no data'}.")
    return "\n\n".join([said[0], " ".join(said[1:])])


def method_text(name: str, track: Mapping[str, Any]) -> str:
    """Say what was trained on what, and how it was measured (Markdown); absent counts are left out."""
    counts, cost, data = track["data"]["counts"], track["cost"], track["data"]
    delta = track["metrics"][track["primary_metric"]]["delta"]
    weights = f" of {cost['trainable_parameters']:,} weights" if "trainable_parameters" in cost else ""
    model = inline(shown_model(track))
    if name == "track_a":
        tokens = f" ({data['own_tokens']:,} tokens)" if "own_tokens" in data else ""
        learned = (
            f"An adapter{weights} on {model} read {_count(counts, 'training_files')} training files{tokens}."
        )
        measured = (
            f"Before and after, the same evaluator scored {_count(counts, 'test_files')} held-out files "
            f"({_count(counts, 'test_bytes')} bytes), every token once."
        )
    elif name == "track_b":
        learned = (
            f"An adapter{weights} on {model} learned from {_count(counts, 'training_pairs')} pairs of an "
            "instruction and an answer; whatever they claim about behaviour was verified by running it."
        )
        if counts.get("rehearsed_answers"):
            learned += (
                f" {_count(counts, 'rehearsed_answers')} answers about general code, which the model wrote "
                "itself before, were mixed in so that it forgets less."
            )
        measured = (
            f"Before and after, the model answered {_count(counts, 'tasks')} held-out tasks; of "
            f"{_count(counts, 'executable_tasks')}, unit tests run in a sandbox decide."
        )
    else:
        learned = (
            f"The embedder {model} learned from {_count(counts, 'training_pairs')} pairs of a query and its "
            "function."
        )
        measured = (
            f"Before and after, {_count(counts, 'test_queries')} held-out queries were ranked against all "
            f"{_count(counts, 'documents')} functions of the corpus."
        )
    time = f" The track took {duration_text(cost['seconds'])}." if "seconds" in cost else ""
    return f"{learned} {measured} The change was tested by {inline(delta['test'])}.{time}"


def doubt_text(name: str, track: Mapping[str, Any]) -> str:
    """Say what speaks against reading much into the result: controls, baselines, small counts (Markdown)."""
    said = []
    if name == "track_a":
        said.append(pretraining_control_sentences(track))
    elif name == "track_b":
        said += [_baseline_sentence(track), _kinds_sentence(track)]
        if "general_problems" in track["controls"]:
            said.append(instruction_control_sentence(track))
    else:
        said.append(search_control_sentences(track))
        said.append(search_sentence(track))
        if "index" in track["cost"]:
            said.append(latency_sentence(track))
    entries = track["metrics"]
    few = sum(entry["after"]["n"] < FEW_ITEMS for entry in entries.values())
    if few:
        rest, show = ("rests", "it shows") if few == 1 else ("rest", "they show")
        said.append(
            f"{few} of {len(entries)} metrics {rest} on fewer than {FEW_ITEMS} items: too few to tell, "
            f"whatever {show}."
        )
    return "\n\n".join(filter(None, said))


def _baseline_sentence(track: Mapping[str, Any]) -> str:
    primary = track["primary_metric"]
    values = {name: base[primary] for name, base in track["baselines"].items() if primary in base}
    listed = ", ".join(f"{name.replace('_', ' ')} {estimate_text(value)}" for name, value in values.items())
    return f"For comparison, the same scorer gives {metric_name(primary)}: {listed}." if listed else ""


def _kinds_sentence(track: Mapping[str, Any]) -> str:
    """Say how each kind of task fares, so that a gain of one kind alone is seen."""
    primary = f"{track['primary_metric']}/"
    kinds = [
        f"{name.removeprefix(primary).replace('_', ' ')} {number(entry['before']['value'])} → "
        f"{number(entry['after']['value'])} (n = {entry['after']['n']})"
        for name, entry in track["metrics"].items()
        if name.startswith(primary)
    ]
    return f"By kind of task: {', '.join(kinds)}." if kinds else ""


def _tables(name: str, track: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return further tables as title and HTML; none that would be empty."""
    if name == "track_c":
        return [{"title": "All systems on the same queries", "html": _html(system_table(track))}]
    if name == "track_b" and track["controls"].get("hallucination_checker"):
        return [
            {"title": "How often the hallucination checker is right", "html": _html(checker_table(track))}
        ]
    return []


def _html(frame: Any) -> str:
    return markdown2html(markdown(frame))


def _count(counts: Mapping[str, int], name: str) -> str:
    return f"{counts[name]:,}" if name in counts else "the"


def _is_entry(value: Any) -> bool:
    return isinstance(value, Mapping) and "delta" in value and "after" in value
