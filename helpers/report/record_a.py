"""Track A's section of metrics.json, from one row per held-out file.

Rows (`track_a/files`): path, n_bytes, n_tokens (scored), nll_before, nll_after (nats), and where they
were counted hits_before, hits_after. `record_track_a` sees nothing else, so whoever has the rows
can compute every figure again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.report.entries import (
    PRIMARY_METRIC,
    MetricsError,
    Rows,
    data_section,
    ratio_entry,
    track_section,
)

if TYPE_CHECKING:  # importing it loads torch, which recomputing figures does without
    from helpers.eval.perplexity import PerplexityResult


def track_a_rows(
    paths: Sequence[str],
    before: PerplexityResult,
    after: PerplexityResult,
    *,
    hits_before: Sequence[int] | None = None,
    hits_after: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """One row per file from two results of `evaluate_perplexity` on the same texts.

    Args:
        paths: names of the texts, in the order they were scored.
        hits_before, hits_after: per text, tokens that were the model's first choice.

    Raises:
        MetricsError: if the two results are not about the same texts.
    """
    if not len(paths) == len(before.texts) == len(after.texts):
        raise MetricsError(
            f"{len(paths)} paths, {len(before.texts)} texts before and {len(after.texts)} after do not match"
        )
    rows = []
    for index, (path, b, a) in enumerate(zip(paths, before.texts, after.texts, strict=True)):
        if (b.n_bytes, b.n_tokens) != (a.n_bytes, a.n_tokens):
            raise MetricsError(f"{path}: before and after scored different tokens or bytes")
        row = {"path": path, "n_bytes": b.n_bytes, "n_tokens": b.n_tokens}
        row |= {"nll_before": b.nll_nats, "nll_after": a.nll_nats}
        if hits_before is not None and hits_after is not None:
            row |= {"hits_before": int(hits_before[index]), "hits_after": int(hits_after[index])}
        rows.append(row)
    return rows


def hit_counter(n_texts: int, *others: Callable[..., None]) -> tuple[list[int], Callable[..., None]]:
    """A list to read first-choice hits per text from, and the `observe` that fills it.

    `others` are observers called with the same figures, e.g. a `token_roles.RoleTally`.
    """
    hits = [0] * n_texts

    def observe(text: int, first: int, losses: Any, chosen: Any) -> None:
        hits[text] += int(chosen.sum())
        for other in others:
            other(text, first, losses, chosen)

    return hits, observe


def record_track_a(
    rows: Rows,
    *,
    model: str,
    seed: int,
    samples: int,
    cost: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
    control_rows: Mapping[str, Rows] | None = None,
    controls: Mapping[str, Any] | None = None,
    baselines: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Track A: bits per byte (primary) and perplexity over held-out files, resampling files.

    Args:
        control_rows: name -> rows like `rows`; each becomes `controls[name]`, a metric entry of bits
            per byte. "general_code" (the same models on code of neither corpus) shows forgetting.
        controls: further controls as they are.
        baselines: name -> bits per byte, e.g. `{"unigram": 4.1}`.
    """
    metrics = {"bits_per_byte": _bits_per_byte(rows, seed, samples)}
    metrics["perplexity"] = ratio_entry(
        rows, "nll", "n_tokens", "per token", False, seed, samples, transform=np.exp
    )
    if all("hits_before" in row for row in rows):
        unit = "share of tokens that are the model's first choice"
        metrics["top1_accuracy"] = ratio_entry(rows, "hits", "n_tokens", unit, True, seed, samples)
    measured = {name: _bits_per_byte(some, seed, samples) for name, some in (control_rows or {}).items()}
    beside = {name: {"bits_per_byte": {"value": value}} for name, value in (baselines or {}).items()}
    counts = {
        "test_files": len(rows),
        "test_bytes": sum(row["n_bytes"] for row in rows),
        "test_tokens": sum(row["n_tokens"] for row in rows),
    }
    items = sorted([row["path"], row["n_bytes"], row["n_tokens"]] for row in rows)
    return track_section(
        model,
        PRIMARY_METRIC["track_a"],
        metrics,
        controls=measured | dict(controls or {}),
        baselines=beside,
        cost=cost,
        data=data_section(data, counts, items, samples),
    )


def _bits_per_byte(rows: Rows, seed: int, samples: int) -> dict[str, Any]:
    bits = [
        {**row, "bits_before": row["nll_before"] / math.log(2), "bits_after": row["nll_after"] / math.log(2)}
        for row in rows
    ]
    return ratio_entry(bits, "bits", "n_bytes", "bits per byte of UTF-8", False, seed, samples)
