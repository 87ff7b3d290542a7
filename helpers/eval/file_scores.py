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
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.eval.file_score_rows import BFLOAT16, FLOAT32, FileScore, scored_in_bfloat16
from helpers.eval.perplexity import evaluate_perplexity
from helpers.eval.token_roles import ROLES, token_roles
from helpers.machine.hardware import Runtime
from helpers.models.bfloat16_products import products_pay
from helpers.models.cheaper_forms import merged_adapters, summed_adapters

CHECKED_SHARE = 0.1  # of the held-out files' bytes, scored both ways

log = logging.getLogger(__name__)


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
            most `file_score_rows.BFLOAT16_LIMIT`; in float32 if it differs more, or if None.

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
