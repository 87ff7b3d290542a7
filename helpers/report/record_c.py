"""Build Track C's section of metrics.json, from one row per held-out query.

Rows (`track_c/queries`) are those of `retrieval.per_query_rows` plus id, groups, before and after (measure ->
value), baselines (name -> measure -> value) and, for queries that ask for a file, by_file (before, after).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helpers.eval.statistics import bootstrap_mean, paired_bootstrap
from helpers.report import entries
from helpers.report.entries import PRIMARY_METRIC, MetricsError, Rows, tidy

FILES = "where_is, by file"  # queries that ask for a file; a file ranks as its best function
HYBRID = "with BM25 weighed in"  # hybrid search; each embedder has its own weight


def track_c_rows(
    rows: Rows,
    before: Mapping[str, Mapping[str, float]],
    after: Mapping[str, Mapping[str, float]],
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    by_file: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
) -> list[dict[str, Any]]:
    """Add the measures of `retrieval.score_run` to the rows of `retrieval.per_query_rows`.

    Args:
        before, after: query id -> measures, from `score_run`.
        groups: group name -> query ids, from `retrieval.query_groups`.
        baselines: name -> query id -> measures ("bm25", "bm25_and_before_fused", ...).
        by_file: "before", "after" -> query id -> measures of the ranking of files, for queries that ask
            for a file.
    """
    done = []
    for row in rows:
        query = row["query_id"]
        named = sorted(name for name, members in (groups or {}).items() if query in set(members))
        beside = {name: dict(scores[query]) for name, scores in sorted((baselines or {}).items())}
        measures = {"before": dict(before[query]), "after": dict(after[query]), "baselines": beside}
        if by_file and query in by_file["before"]:
            measures["by_file"] = {side: dict(scores[query]) for side, scores in by_file.items()}
        done.append({"id": query, **row, "groups": named, **measures})
    return done


def record_track_c(
    rows: Rows,
    *,
    model: str,
    seed: int,
    samples: int,
    cost: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
    control_rows: Mapping[str, Rows] | None = None,
    controls: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Compute MRR@10 (primary), nDCG@10 and Recall@1, 5, 10 over queries; MRR@10 by group and by file.

    If both embedders were also measured in hybrid search with BM25, that is a further metric: how much
    tuning helps a search that also uses BM25. Each baseline also carries the paired difference between
    the tuned model and itself (`after_minus_baseline`, positive if tuning wins).

    Args:
        rows: from `track_c_rows`.
        control_rows: name -> rows of a control (another seed, shuffled pairs, foreign package); each
            becomes an entry of MRR@10.

    Raises:
        MetricsError: without queries.
    """
    if not rows:
        raise MetricsError("no queries to compute retrieval figures from")
    primary = PRIMARY_METRIC["track_c"]
    options = {"seed": seed, "samples": samples}
    measures = [primary, *sorted(name for name in rows[0]["before"] if name != primary)]
    metrics = {name: _query_entry(rows, name, **options) for name in measures}
    for group in sorted({group for row in rows for group in row["groups"]}):
        some = [row for row in rows if group in row["groups"]]
        metrics[f"{primary}/{group.removeprefix('kind: ')}"] = _query_entry(some, primary, **options)
    if files := [{"id": row["id"], **row["by_file"]} for row in rows if "by_file" in row]:
        metrics[f"{primary}/{FILES}"] = _query_entry(files, primary, **options)
    if {"bm25_and_before_weighted", "bm25_and_after_weighted"} <= rows[0]["baselines"].keys():
        both = [
            {"id": row["id"]}
            | {side: row["baselines"][f"bm25_and_{side}_weighted"] for side in ("before", "after")}
            for row in rows
        ]
        metrics[f"{primary}/{HYBRID}"] = _query_entry(both, primary, **options)
    measured = {name: _query_entry(some, primary, **options) for name, some in (control_rows or {}).items()}
    items = sorted([row["id"], row["kind"], row.get("text", "")] for row in rows)
    return entries.track_section(
        model,
        primary,
        metrics,
        controls=measured | dict(controls or {}),
        baselines=_baseline_entries(rows, measures, **options),
        cost=cost,
        data=entries.data_section(data, {"test_queries": len(rows)}, items, samples),
    )


def _query_entry(rows: Rows, measure: str, **options: int) -> dict[str, Any]:
    before, after = ([row[side][measure] for row in rows] for side in ("before", "after"))
    ids = [row["id"] for row in rows]
    return entries.mean_entry(before, after, "mean over queries", groups=ids, **options)


def _baseline_entries(rows: Rows, measures: Sequence[str], **options: Any) -> dict[str, Any]:
    """Build baseline name -> measure -> estimate, with the paired difference to the tuned model."""
    options["groups"] = [row["id"] for row in rows]
    found: dict[str, Any] = {name: {} for name in sorted(rows[0]["baselines"])}
    for name, figures in found.items():
        for measure in measures:
            values = [row["baselines"][name][measure] for row in rows]
            tuned = [row["after"][measure] for row in rows]
            difference = tidy(paired_bootstrap(values, tuned, **options))
            figures[measure] = tidy(bootstrap_mean(values, **options)) | {"after_minus_baseline": difference}
    return found
