"""Track C's own tables: all systems side by side, training runs and controls, kinds of index.

As in `helpers.report.tables`, no figure is typed in: all come from metrics.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from helpers.escaping import inline
from helpers.report.record_c import HYBRID
from helpers.report.tables import change_text, estimate_text, metric_name, number

SYSTEMS = {
    "bm25": "BM25",
    "before": "untouched embedder",
    "bm25_and_before_fused": "BM25 + untouched embedder, rank fusion",
    "bm25_and_before_weighted": "BM25 + untouched embedder, weighted scores",
    "after": "tuned embedder",
    "bm25_and_after_fused": "BM25 + tuned embedder, rank fusion",
    "bm25_and_after_weighted": "BM25 + tuned embedder, weighted scores (search)",
}
MEASURES = ("mrr@10", "ndcg@10", "recall@1", "recall@5", "recall@10")
DIFFERENCE = "Tuned − this system, MRR@10 [95% interval]"


def system_table(track: Mapping[str, Any]) -> pd.DataFrame:
    """Show BM25, the embedder before and after, and both combinations with BM25."""
    primary = track["primary_metric"]
    measures = [name for name in MEASURES if name in track["metrics"]]
    rows = []
    for name, title in SYSTEMS.items():
        if name in ("before", "after"):
            values = {m: track["metrics"][m][name] for m in measures}
        elif name in track["baselines"]:
            values = {m: track["baselines"][name][m] for m in measures}
        else:
            continue
        row = {"System": title, f"{metric_name(primary)} [95% interval]": estimate_text(values[primary])}
        row |= {metric_name(m): number(values[m]["value"]) for m in measures if m != primary}
        if name == "before":
            row[DIFFERENCE] = change_text(track["metrics"][primary]["delta"])
        elif name == "after":
            row[DIFFERENCE] = "–"
        else:
            row[DIFFERENCE] = change_text(values[primary]["after_minus_baseline"])
        rows.append(row)
    return pd.DataFrame(rows).set_index("System")


def search_sentence(track: Mapping[str, Any]) -> str:
    """Say what hybrid search finds with either embedder, and with which BM25 weights."""
    entry = track["metrics"].get(f"{track['primary_metric']}/{HYBRID}")
    if entry is None:
        return ""
    weights = track["data"]["word_weights"]
    before, after = (f"{weights[side]['weight']:g}" for side in ("before", "after"))
    return (
        f"Search adds a weighted BM25 score to the cosine. The weight, chosen on the validation queries, is "
        f"{after} for the tuned embedder and {before} for the untouched one. Search reaches "
        f"{metric_name(track['primary_metric'])} {estimate_text(entry['after'])}; with the untouched "
        f"embedder {estimate_text(entry['before'])}. Tuning changes it by {change_text(entry['delta'])}."
    )


def index_table(track: Mapping[str, Any]) -> pd.DataFrame:
    """Show, per kind of index over the tuned vectors, its recall of the exact top ten and its cost."""
    facts = track["cost"]["index"]
    rows = [
        {
            "Index": f"{row['kind']}{' (used)' if row['kind'] == facts['kind'] else ''}",
            "Recall of the exact top 10": number(row["recall"]),
            "Search, ms per query": number(row["query_ms"]),
            "Build, s": number(row["build_seconds"]),
            "Size, MiB": f"{row['n_bytes'] / 2**20:.1f}",
        }
        for row in facts["kinds"]
    ]
    return pd.DataFrame(rows).set_index("Index")


def latency_sentence(track: Mapping[str, Any]) -> str:
    """Say how long one search takes, from query text to ranking."""
    facts = track["cost"]["index"]
    used = next((row for row in facts["kinds"] if row["kind"] == facts["kind"]), facts["kinds"][0])
    return (
        f"One search over {facts['documents']:,} functions takes {facts['encode_query_ms']:.0f} ms to encode "
        f"the query and {number(used['query_ms'])} ms to look it up ({used['kind']} index)."
    )


def search_control_sentences(track: Mapping[str, Any]) -> str:
    """Say what the controls show (spread over seeds, shuffled pairs, foreign retrieval), as Markdown."""
    controls = track["controls"]
    said = []
    seeds = [entry for name, entry in controls.items() if name.startswith("seed_")]
    if seeds:
        values = sorted(entry["after"]["value"] for entry in seeds)
        points = ", ".join(number(value) for value in values)
        mean = number(track["metrics"][track["primary_metric"]]["after"]["value"])
        said.append(
            f"{len(values)} training runs from different seeds reach {points}; the tuned embedder, the mean "
            f"of their weights, reaches {mean}."
        )
    if shuffled := controls.get("shuffled_pairs"):
        helped = shuffled["delta"]["ci95"][0] > 0
        said.append(
            f"After one pass over shuffled pairs, the change is {change_text(shuffled['delta'])}: "
            + ("it helps, so part of the gain is not due to the pairing." if helped else "it does not help.")
        )
    if foreign := controls.get("foreign_package"):
        low, high = foreign["delta"]["ci95"]
        name = inline(track["data"].get("foreign_package", "a foreign package"))
        kept = "worse" if high < 0 else "better" if low > 0 else "not detectably different"
        said.append(
            f"On {foreign['after']['n']} queries over {name}, on which nothing here was trained, "
            f"retrieval is {kept} after tuning: {change_text(foreign['delta'])}."
        )
    return " ".join(said) or "This profile measures no controls."
