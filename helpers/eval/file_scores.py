"""Track A's evaluator: score each file of each part, the same way before and after training.

The parts are the held-out files ("test"), a slice of general code ("general_code") and, within the
held-out files, the tokens of each role ("role/docstring", ...; see `token_roles`). All of Track A's figures
in metrics.json are computed from these rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.eval.perplexity import evaluate_perplexity
from helpers.eval.token_roles import ROLES, token_roles
from helpers.models.cheaper_forms import merged_adapters, summed_adapters


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
) -> list[FileScore]:
    """Score the files of several parts in float32; score those of part "test" by token role as well.

    Args:
        parts: part -> (path, text) of its files.
        window, stride: passed to `evaluate_perplexity`.
        own_names: identifiers that count as the repository's own (`token_roles.own_names`).

    Raises:
        PerplexityError: if a part holds nothing to score.
    """
    rows: list[FileScore] = []
    for part, files in parts.items():
        rows += _score_part(model, tokenizer, part, files, own_names, window=window, stride=stride)
    return rows


def _score_part(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    part: str,
    files: Sequence[tuple[str, str]],
    own_names: Collection[str],
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

    cheaper = merged_adapters if model.dtype == torch.float32 else summed_adapters
    with cheaper(model):
        scores = evaluate_perplexity(
            model, tokenizer, texts, observe=observe, what=f"score {part} files", **sizes
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
