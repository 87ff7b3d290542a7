"""Rows of Track A's scores: one of each file in each part, and both sides of a comparison joined.

All of Track A's figures in metrics.json are computed from these rows; no model is needed to read them.
`file_scores` measures them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

BFLOAT16_LIMIT = 0.002  # bits per byte by which a score with bfloat16 products may differ
FLOAT32, BFLOAT16 = "check/float32", "check/bfloat16"  # parts of the sample's rows


@dataclass(frozen=True)
class FileScore:
    """Summed negative log-likelihood (nats) of one file, or of the tokens of one role in it."""

    part: str
    path: str
    n_bytes: int  # UTF-8, of the whole file
    n_tokens: int  # scored tokens: all but the first of the file
    nll_nats: float
    hits: int  # tokens that the model ranked first


def precision_rows(scores: Sequence[FileScore]) -> list[dict[str, Any]]:
    """Return a row for each file that was scored both ways, with `nll_float32` and `nll_bfloat16` (nats)."""
    exact, rounded = ([replace(row, part="check") for row in scores if row.part == name]
                      for name in (FLOAT32, BFLOAT16))  # fmt: skip
    if not exact:
        return []
    return [
        {name: row[name] for name in ("path", "n_bytes", "n_tokens")}
        | {"nll_float32": row["nll_before"], "nll_bfloat16": row["nll_after"]}
        for row in paired_rows(exact, rounded, "check")
    ]


def bfloat16_difference(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return by how much bfloat16 products change bits per byte over `precision_rows`."""
    nats = math.fsum(row["nll_bfloat16"] - row["nll_float32"] for row in rows)
    return nats / math.log(2) / sum(row["n_bytes"] for row in rows)


def scored_in_bfloat16(scores: Sequence[FileScore]) -> bool:
    """Return whether the files of these scores were scored with bfloat16 products."""
    checked = precision_rows(scores)
    return bool(checked) and abs(bfloat16_difference(checked)) <= BFLOAT16_LIMIT


def paired_rows(
    before: Sequence[FileScore], after: Sequence[FileScore], part: str, odd: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """Join the scores of one part before and after training into the rows `record_track_a` takes.

    Args:
        odd: receives path -> reason for each file left out because its two scores cannot be compared;
            with None, such a file raises.

    Raises:
        ValueError: if the two sides scored different tokens or files and `odd` is None, or if no file
            can be compared.
    """
    first, second = ({row.path: row for row in rows if row.part == part} for rows in (before, after))
    wrong: dict[str, str] = {}
    everything = sorted(first.keys() | second.keys())
    for path in everything:
        if path not in first or path not in second:
            wrong[path] = f"scored only {'before' if path in first else 'after'}"
            continue
        b, a = first[path], second[path]
        if (b.n_bytes, b.n_tokens) != (a.n_bytes, a.n_tokens):
            wrong[path] = f"{b.n_bytes} bytes and {b.n_tokens} tokens before, "
            wrong[path] += f"{a.n_bytes} and {a.n_tokens} after"
    if wrong and (odd is None or len(wrong) == len(everything)):
        path, why = next(iter(wrong.items()))
        raise ValueError(
            f"{part}: before and after scored different files, tokens or bytes; {len(wrong)} of "
            f"{len(everything)} files, e.g. {path}: {why}. Use the same tokenizer for both"
        )
    if odd is not None:
        odd.update(wrong)
    rows = []
    for path in (path for path in first if path not in wrong):
        b, a = first[path], second[path]
        row = {"path": path, "n_bytes": b.n_bytes, "n_tokens": b.n_tokens, "nll_before": b.nll_nats}
        rows.append(row | {"nll_after": a.nll_nats, "hits_before": b.hits, "hits_after": a.hits})
    return rows
