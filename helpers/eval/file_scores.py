"""Track A's evaluator: score each file of each part, the same way before and after training.

The parts are the held-out files ("test"), a slice of general code ("general_code") and, within the
held-out files, the tokens of each role ("role/docstring", ...; see `token_roles`). All of Track A's figures
in metrics.json are computed from these rows.

On a CPU that multiplies bfloat16, large models are scored with such products, in a third of the time, if a
sample of the held-out files shows that bits per byte hardly change. The sample is scored both ways
("check/float32", "check/bfloat16"), so every report can show the difference.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.eval.perplexity import evaluate_perplexity
from helpers.eval.token_roles import ROLES, token_roles
from helpers.machine.hardware import Runtime
from helpers.models.bfloat16_products import products_pay
from helpers.models.cheaper_forms import merged_adapters, summed_adapters

BFLOAT16_LIMIT = 0.002  # bits per byte by which a score with bfloat16 products may differ
CHECKED_SHARE = 0.1  # of the held-out files' bytes, scored both ways
FLOAT32, BFLOAT16 = "check/float32", "check/bfloat16"  # parts of the sample's rows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileScore:
    """Summed negative log-likelihood (nats) of one file, or of the tokens of one role in it."""

    part: str
    path: str
    n_bytes: int  # UTF-8, of the whole file
    n_tokens: int  # scored tokens: all but the first of the file
    nll_nats: float
    hits: int  # tokens that the model ranked first


def score_files(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    parts: Mapping[str, Sequence[tuple[str, str]]],
    *,
    window: int,
    stride: int,
    own_names: Collection[str] = (),
    runtime: Runtime | None = None,
) -> list[FileScore]:
    """Score the files of several parts; score those of part "test" by token role as well.

    Args:
        parts: part -> (path, text) of its files.
        window, stride: passed to `evaluate_perplexity`.
        own_names: identifiers that count as the repository's own (`token_roles.own_names`).
        runtime: score with bfloat16 products where these pay on it and a sample of part "test" differs by at
            most `BFLOAT16_LIMIT`; in float32 if it differs more, or if None.

    Returns:
        Rows of each part; where bfloat16 was tried, also those of the sample in both precisions, from which
        `scored_in_bfloat16` tells what the others were scored in.

    Raises:
        PerplexityError: if a part holds nothing to score.
    """
    sizes = {"window": window, "stride": stride}
    rows: list[FileScore] = []
    mixed = None
    if runtime is not None and products_pay(model, runtime) and parts.get("test"):
        sample = checked_files(parts["test"])
        for part, precision in ((FLOAT32, None), (BFLOAT16, runtime)):
            rows += _score_part(model, tokenizer, part, sample, (), precision, **sizes)
        mixed = runtime if scored_in_bfloat16(rows) else None
        if mixed is None:
            log.warning("bfloat16 products change scores too much; scoring in float32, which takes longer")
    for part, files in parts.items():
        rows += _score_part(model, tokenizer, part, files, own_names, mixed, **sizes)
    return rows


def checked_files(files: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the sample to score both ways: files in an order drawn from their paths, up to `CHECKED_SHARE`.

    A file that would raise the bytes above that share is skipped. If every file would, the smallest is taken.
    """
    drawn = sorted(files, key=lambda file: hashlib.sha256(file[0].encode()).digest())
    room = CHECKED_SHARE * sum(len(text.encode()) for _, text in files)
    sample = []
    for path, text in drawn:
        if len(text.encode()) <= room:
            sample.append((path, text))
            room -= len(text.encode())
    return sample or [min(files, key=lambda file: (len(file[1]), file[0]))]


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


def _score_part(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    part: str,
    files: Sequence[tuple[str, str]],
    own_names: Collection[str],
    runtime: Runtime | None,
    **sizes: int,
) -> list[FileScore]:
    texts = [text for _, text in files]
    roles = [token_roles(tokenizer, text, own_names) for text in texts] if part == "test" else []
    tokens, hits = Counter[tuple[int, str]](), Counter[tuple[int, str]]()  # by text and part
    nats: dict[tuple[int, str], float] = defaultdict(float)

    def observe(text: int, first: int, losses: torch.Tensor, right: torch.Tensor) -> None:
        hits[text, part] += int(right.sum())
        of_text = roles[text][first : first + len(losses)] if roles else []
        for role, loss, hit in zip(of_text, losses.tolist(), right.tolist(), strict=bool(roles)):
            tokens[text, f"role/{role}"] += 1
            nats[text, f"role/{role}"] += loss
            hits[text, f"role/{role}"] += hit

    cheaper: Callable[[Any], contextlib.AbstractContextManager[Any]] = summed_adapters
    if runtime is not None and products_pay(model, runtime):
        cheaper = contextlib.nullcontext  # `evaluate_perplexity` has a form of its own
    elif model.dtype == torch.float32:
        cheaper = merged_adapters
    with cheaper(model):
        scores = evaluate_perplexity(
            model, tokenizer, texts, runtime=runtime, observe=observe, what=f"score {part} files", **sizes
        ).texts
    rows: list[FileScore] = []
    by_role: list[FileScore] = []
    for text, ((path, _), score) in enumerate(zip(files, scores, strict=True)):
        rows.append(FileScore(part, path, score.n_bytes, score.n_tokens, score.nll_nats, hits[text, part]))
        for name in (f"role/{role}" for role in ROLES):
            if n := tokens[text, name]:
                row = FileScore(name, path, score.n_bytes, n, nats[text, name], hits[text, name])
                by_role.append(row)
    return rows + by_role


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
