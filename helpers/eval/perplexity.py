"""Perplexity and bits per byte of a causal language model, counted by token and by hand.

With the tokens t_1 .. t_n of each text, NLL = -sum over texts and i >= 2 of ln p(t_i | before it).
Perplexity is exp(NLL / number of scored tokens), bits per byte NLL / ln 2 / number of UTF-8 bytes.
Sums run over all texts before anything is divided: neither batches nor texts are averaged.
Perplexities of models with different tokenizers do not compare; bits per byte do.

What is not counted: the first token of a text has nothing before it and is not scored, while its
bytes stay in the denominator, the same for every model that shares a tokenizer. Texts without a
second token (empty ones among them) add their bytes and no tokens, and are counted in
`n_unscored_texts`. Special-token spellings inside a text are read as ordinary characters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.errors import SuiteError
from helpers.machine.hardware import Runtime
from helpers.machine.memory import in_batches
from helpers.machine.progress import bar
from helpers.models.structure import hidden_states, output_head
from helpers.models.tokens import token_ids

TOKENS_PER_BATCH = 4096  # bounds memory; the result does not depend on it


class PerplexityError(SuiteError, ValueError):
    """Window, stride or texts from which no perplexity can be computed."""


@dataclass(frozen=True)
class TextScore:
    """One text: summed negative log-likelihood in nats, tokens scored, UTF-8 bytes."""

    nll_nats: float
    n_tokens: int
    n_bytes: int


@dataclass(frozen=True)
class PerplexityResult:
    """Sums over all texts, the two rates derived from them, and the parts for resampling."""

    nll_nats: float
    n_tokens: int  # scored ones
    n_bytes: int
    perplexity: float
    bits_per_byte: float
    accuracy: float  # share of scored tokens that were the model's first choice
    n_unscored_texts: int
    texts: tuple[TextScore, ...] = field(repr=False, default=())  # in the order given


# Called for every scored stretch of a text: (text index, index of its first target token,
# NLL in nats per target, whether each target was the first choice).
Observer = Callable[[int, int, torch.Tensor, torch.Tensor], None]


@torch.no_grad()  # not inference_mode: weights sharded by FSDP that meet in it cannot be trained after
def evaluate_perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    window: int,
    stride: int,
    batch_size: int | None = None,
    runtime: Runtime | None = None,
    observe: Observer | None = None,
    what: str = "perplexity",
) -> PerplexityResult:
    """Score every token after the first of each text exactly once, in a sliding window.

    A window feeds `window` tokens. The first one scores all it predicts; each later one starts
    `stride` tokens further and scores only what no earlier window did, so that its targets see
    at least `window - stride` tokens before them. A text of up to `window` + 1 tokens is one full
    pass. Windows are padded on the right, where a causal model cannot see.

    Args:
        model: any transformers causal LM, with or without adapters; log-softmax in float32.
        window: tokens fed at once, at most the model's context.
        stride: tokens between windows, 1 <= stride <= window; smaller is more exact and dearer.
        batch_size: windows per forward pass, by default about 4,096 tokens' worth; fewer where they
            do not fit in memory.
        runtime: runs the forward pass under its autocast; without it in the weights' own dtype,
            which is what reported figures use.
        observe: called with per-token figures, for splits by token kind.

    Raises:
        PerplexityError: for an impossible window or stride, or when no text has two tokens.
    """
    if not 1 <= stride <= window:
        raise PerplexityError(f"stride {stride} must lie between 1 and the window {window}")
    ids = [token_ids(tokenizer, text) for text in texts]
    windows = [w for index, tokens in enumerate(ids) for w in _windows(index, len(tokens), window, stride)]
    if not windows:
        raise PerplexityError(f"none of {len(texts)} texts has two tokens: there is nothing to score")
    windows.sort(key=lambda w: (w.last - w.first, w.text, w.first), reverse=True)
    nll = [0.0] * len(texts)
    correct = 0
    was_training = model.training
    model.eval()
    head = output_head(model)
    size = batch_size or max(1, TOKENS_PER_BATCH // window)

    def compute(batch: Sequence[_Window]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        inputs = _pad_right([ids[w.text][w.first : w.last] for w in batch], tokenizer.pad_token_id or 0)
        with runtime.autocast() if runtime else torch.autocast(model.device.type, enabled=False):
            hidden = hidden_states(model, inputs.to(model.device))
            return [
                _score(head, hidden[row, w.score_from - w.first : w.last - w.first],
                       ids[w.text][w.score_from + 1 : w.last + 1])
                for row, w in enumerate(batch)
            ]  # fmt: skip

    with bar(what, total=sum(w.last - w.score_from for w in windows), unit="tok") as shown:
        for batch, scored in in_batches(windows, size, compute, what=what):
            for w, (losses, hits) in zip(batch, scored, strict=True):
                nll[w.text] += losses.double().sum().item()
                correct += int(hits.sum())
                if observe is not None:
                    observe(w.text, w.score_from + 1, losses, hits)
                shown.update(w.last - w.score_from)
    model.train(was_training)
    scores = tuple(
        TextScore(nll[i], max(len(ids[i]) - 1, 0), len(text.encode("utf-8", "surrogatepass")))
        for i, text in enumerate(texts)
    )
    return _summarise(scores, correct)


def unigram_bits_per_byte(
    train_texts: Sequence[str], texts: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> float:
    """Bits per byte on `texts` of the trivial baseline: token frequencies of `train_texts`.

    p(t) = (count(t) + 1) / (total + V), add-one smoothing over the V tokens of the vocabulary.
    The same tokens are scored as in `evaluate_perplexity`: all but the first of each text.

    Raises:
        PerplexityError: if no text has two tokens.
    """
    counts = Counter(token for text in train_texts for token in token_ids(tokenizer, text))
    total = counts.total() + len(tokenizer)
    nats = [-math.log((counts[t] + 1) / total) for text in texts for t in token_ids(tokenizer, text)[1:]]
    if not nats:
        raise PerplexityError(f"none of {len(texts)} texts has two tokens: there is nothing to score")
    return math.fsum(nats) / math.log(2) / sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


@dataclass(frozen=True)
class _Window:
    """Tokens first .. last-1 of a text are fed; targets score_from+1 .. last are scored."""

    text: int
    first: int
    last: int
    score_from: int


def _windows(text: int, n_tokens: int, window: int, stride: int) -> list[_Window]:
    windows = []
    scored = first = 0  # token number `scored` is the last one that needs no scoring any more
    while scored < n_tokens - 1:
        last = min(first + window, n_tokens - 1)
        windows.append(_Window(text, first, last, scored))
        scored = last
        first += stride
    return windows


def _pad_right(rows: list[list[int]], pad: int) -> torch.Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([row + [pad] * (width - len(row)) for row in rows])


def _score(
    head: torch.nn.Module, hidden: torch.Tensor, targets: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """NLL in nats (float32) and first-choice hits of `targets`, both of shape (targets,), on the host."""
    logits = head(hidden).float()
    wanted = torch.tensor(targets, device=logits.device)
    losses = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
    return losses.cpu(), (logits.argmax(-1) == wanted).cpu()


def _summarise(scores: tuple[TextScore, ...], correct: int) -> PerplexityResult:
    nll = math.fsum(score.nll_nats for score in scores)
    n_tokens = sum(score.n_tokens for score in scores)
    n_bytes = sum(score.n_bytes for score in scores)
    if not math.isfinite(nll):
        raise PerplexityError("the model's log-likelihood is not a finite number; try another precision")
    return PerplexityResult(
        nll_nats=nll,
        n_tokens=n_tokens,
        n_bytes=n_bytes,
        perplexity=math.exp(min(nll / n_tokens, 700.0)),  # beyond 700 a float overflows
        bits_per_byte=nll / math.log(2) / n_bytes,
        accuracy=correct / n_tokens,
        n_unscored_texts=sum(score.n_tokens == 0 for score in scores),
        texts=scores,
    )
