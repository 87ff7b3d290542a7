"""Track A's evaluator: score each file of each part, the same way before and after training.

The parts are the held-out files ("test"), a slice of general code ("general_code") and, within the
held-out files, the tokens of each role ("role/docstring", ...; see `token_roles`). Every figure that
metrics.json reports for Track A is computed from these rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.eval.perplexity import evaluate_perplexity
from helpers.eval.token_roles import RoleTally
from helpers.models.cheaper_forms import summed_adapters


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
        texts = [text for _, text in files]
        hits = [0] * len(texts)
        tallies = [RoleTally(tokenizer, [text], own_names) for text in texts] if part == "test" else []

        def observe(
            text: int, first: int, losses: torch.Tensor, right: torch.Tensor, hits=hits, tallies=tallies
        ) -> None:
            hits[text] += int(right.sum())
            if tallies:
                tallies[text](0, first, losses, right)

        with summed_adapters(model):
            result = evaluate_perplexity(
                model, tokenizer, texts,
                window=window, stride=stride, observe=observe, what=f"score {part} files",
            )  # fmt: skip
        for (path, _), score, right in zip(files, result.texts, hits, strict=True):
            rows.append(FileScore(part, path, score.n_bytes, score.n_tokens, score.nll_nats, right))
        for (path, _), score, tally in zip(files, result.texts, tallies, strict=False):
            for role, of_role in tally.scores().items():
                right = round(of_role.accuracy * of_role.n_tokens)
                row = FileScore(
                    f"role/{role}", path, score.n_bytes, of_role.n_tokens, of_role.nll_nats, right
                )
                rows.append(row)
    return rows


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
        counts = [(row.n_bytes, row.n_tokens) for row in (first[path], second[path])]
        if counts[0] != counts[1]:
            wrong[path] = "{} bytes and {} tokens before, ".format(*counts[0])
            wrong[path] += "{} and {} after".format(*counts[1])
    if wrong and (odd is None or len(wrong) == len(everything)):
        path, why = next(iter(wrong.items()))
        raise ValueError(
            f"{part}: before and after scored different files, tokens or bytes; {len(wrong)} of "
            f"{len(everything)} files, e.g. {path}: {why}. Use the same tokenizer for both"
        )
    if odd is not None:
        odd.update(wrong)
    rows = []
    for path, b in first.items():
        if path in wrong:
            continue
        a = second[path]
        row = {"path": path, "n_bytes": b.n_bytes, "n_tokens": b.n_tokens}
        row |= {"nll_before": b.nll_nats, "nll_after": a.nll_nats}
        rows.append(row | {"hits_before": b.hits, "hits_after": a.hits})
    return rows
