"""Build Track A's section of metrics.json, from one row per held-out file.

Rows (from `file_score_rows.paired_rows`, kept as `track_a/files`, `track_a/role_<role>` and
`track_a/control_<name>`) hold path, n_bytes, n_tokens (scored), nll_before and nll_after (nats) and, if
counted, hits_before and hits_after (tokens that the model ranked first). Rows of files scored in two
precisions (`file_score_rows.precision_rows`) are kept as `track_a/precision`. `record_track_a` reads nothing
else, so anyone who has the rows can recompute every figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from helpers.eval.file_score_rows import BFLOAT16_LIMIT, bfloat16_difference
from helpers.report.entries import PRIMARY_METRIC, Rows, data_section, ratio_entry, track_section


def record_track_a(
    rows: Rows,
    *,
    model: str,
    seed: int,
    samples: int,
    cost: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
    role_rows: Mapping[str, Rows] | None = None,
    control_rows: Mapping[str, Rows] | None = None,
    precision_rows: Rows = (),
    controls: Mapping[str, Any] | None = None,
    baselines: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Compute bits per byte (primary) and perplexity over held-out files, resampling files.

    One parameter for each kind of row and each fact that the section records.

    Args:
        rows: rows of the held-out files.
        role_rows: token role ("docstring", "comment", ...) -> rows that count only its tokens; each
            becomes the metric `perplexity/<role>`.
        control_rows: name -> rows like `rows`; each becomes `controls[name]`, a metric entry of bits
            per byte. "general_code" (code outside the corpus, same models) shows forgetting.
        precision_rows: rows of files scored in float32 and with bfloat16 products, each with its `model`
            ("untouched", "tuned"); they become `controls["bfloat16_products"]`.
        controls: further controls, recorded as they are.
        baselines: name -> bits per byte, e.g. `{"unigram": 4.1}`.
    """
    options = {"seed": seed, "samples": samples}
    metrics = {"bits_per_byte": _bits_per_byte(rows, **options), "perplexity": _perplexity(rows, **options)}
    if all("hits_before" in row for row in rows):
        unit = "share of tokens that are the model's first choice"
        metrics["top1_accuracy"] = ratio_entry(rows, "hits", "n_tokens", unit, True, **options)
    for role, some in sorted((role_rows or {}).items()):
        metrics[f"perplexity/{role}"] = _perplexity(some, **options)
    measured = {name: _bits_per_byte(some, **options) for name, some in (control_rows or {}).items()}
    if precision_rows:
        measured["bfloat16_products"] = _precision(precision_rows)
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


def _bits_per_byte(rows: Rows, **options: int) -> dict[str, Any]:
    bits = [
        {**row, **{f"bits_{side}": row[f"nll_{side}"] / math.log(2) for side in ("before", "after")}}
        for row in rows
    ]
    return ratio_entry(bits, "bits", "n_bytes", "bits per byte of UTF-8", False, **options)


def _precision(rows: Rows) -> dict[str, Any]:
    """Say what bfloat16 products change in bits per byte, by model, and whether the files were so scored."""
    sides = {row["model"]: [other for other in rows if other["model"] == row["model"]] for row in rows}
    changes = {side: bfloat16_difference(some) for side, some in sides.items()}
    return {
        "files": len(next(iter(sides.values()))),
        "difference_bits_per_byte": changes,
        "limit": BFLOAT16_LIMIT,
        "used": all(abs(change) <= BFLOAT16_LIMIT for change in changes.values()),
    }


def _perplexity(rows: Rows, **options: int) -> dict[str, Any]:
    return ratio_entry(rows, "nll", "n_tokens", "per token", False, transform=np.exp, **options)
