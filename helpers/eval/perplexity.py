"""Perplexity and bits per byte of a causal language model.

For texts of tokens t_1 .. t_n, NLL = -sum over texts and i >= 2 of ln p(t_i | t_1 .. t_(i-1)). Perplexity is
exp(NLL / number of scored tokens); bits per byte is NLL / ln 2 / number of UTF-8 bytes. Both divide sums
over all texts: neither batches nor texts are averaged. Bits per byte can be compared between models with
different tokenizers; perplexities cannot.

The first token of a text has no context and is not scored, but its bytes stay in the denominator, equally
for every model that shares a tokenizer. A text without a second token adds its bytes but no tokens, and is
counted in `n_unscored_texts`. Text that spells a special token is read as ordinary characters.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.errors import SuiteError
from helpers.machine.hardware import Runtime
from helpers.machine.memory import in_batches
from helpers.machine.progress import bar
from helpers.models.reading import Reader, fast_reader
from helpers.models.structure import hidden_states, output_head
from helpers.models.target_scores import TargetHead
from helpers.models.tokens import token_ids

TOKENS_PER_BATCH = 4096  # limits memory; does not affect the result


class PerplexityError(SuiteError, ValueError):
    """A window, stride or set of texts for which no perplexity can be computed."""


@dataclass(frozen=True)
class TextScore:
    """The score of one text: NLL in nats, number of scored tokens, UTF-8 bytes."""

    nll_nats: float
    n_tokens: int
    n_bytes: int


@dataclass(frozen=True)
class PerplexityResult:
    """Sums over all texts, the rates derived from them, and the per-text scores for resampling."""

    nll_nats: float
    n_tokens: int  # scored tokens
    n_bytes: int
    perplexity: float
    bits_per_byte: float
    accuracy: float  # share of scored tokens that the model ranked first
    n_unscored_texts: int
    texts: tuple[TextScore, ...] = field(repr=False, default=())  # in the order given


# Called for every run of scored tokens: (text index, index of the first target token,
# NLL in nats of each target, whether the model ranked each target first).
Observer = Callable[[int, int, torch.Tensor, torch.Tensor], None]


@torch.no_grad()  # not inference_mode: FSDP weights gathered under it cannot be trained afterwards
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

    Each window after the first starts `stride` tokens further and scores only the tokens that no earlier
    window did, so these see at least `window - stride` tokens of context. A text of up to `window` + 1
    tokens takes one pass. Windows are padded on the right, where a causal
    model cannot see. Scripts outside this package rely on the nine parameters, so they stay separate.

    Args:
        model: any transformers causal LM, with or without adapters; log-softmax in float32.
        window: tokens fed at once, at most the model's context.
        stride: tokens between windows, 1 <= stride <= window; smaller is more exact and slower.
        batch_size: windows per forward pass, by default about 4,096 tokens' worth; fewer if they do not
            fit in memory.
        runtime: runs the forward pass under its autocast, or with bfloat16 products where these pay
            (`helpers.models.reading`); either rounds the logits, too (`helpers.models.target_scores`).
            Without it the weights' own dtype is used.
            `helpers.eval.file_scores` decides which for reported figures.
        observe: called with the per-token scores, to split them by token kind.

    Raises:
        PerplexityError: for an impossible window or stride, or when no text has two tokens.
    """
    if not 1 <= stride <= window:
        raise PerplexityError(f"stride {stride} must lie between 1 and the window {window}")
    ids = [token_ids(tokenizer, text) for text in texts]
    windows = scoring_windows([len(tokens) for tokens in ids], window, stride)
    nll = [0.0] * len(texts)
    correct = 0
    was_training = model.training
    model.eval()
    size = batch_size or max(1, TOKENS_PER_BATCH // window)
    head = output_head(model)
    compute = partial(_score_batch, model, TargetHead(head), ids, tokenizer.pad_token_id or 0, runtime)
    with contextlib.ExitStack() as form:
        read = form.enter_context(fast_reader(model, runtime, size, window))
        if read is not None:
            compute = partial(_score_without_padding, read, TargetHead.in_bfloat16(head), ids)
        shown = form.enter_context(bar(what, total=sum(w.last - w.score_from for w in windows), unit="tok"))
        for batch, scored in in_batches(windows, size, compute, what=what):
            for w, (losses, hits) in zip(batch, scored, strict=True):
                nll[w.text] += losses.double().sum().item()
                correct += int(hits.sum())
                if observe is not None:
                    observe(w.text, w.score_from + 1, losses, hits)
                shown.update(w.last - w.score_from)
    model.train(was_training)
    scores = tuple(
        TextScore(nats, max(len(tokens) - 1, 0), _n_bytes(text))
        for nats, tokens, text in zip(nll, ids, texts, strict=True)
    )
    return _summarise(scores, correct)


def unigram_bits_per_byte(
    train_texts: Sequence[str], texts: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> float:
    """Return the bits per byte on `texts` of the unigram baseline, the token frequencies of `train_texts`.

    p(t) = (count(t) + 1) / (total + V), add-one smoothing over the V tokens of the vocabulary. The same
    tokens are scored as in `evaluate_perplexity`: all but the first of each text.

    Raises:
        PerplexityError: if no text has two tokens.
    """
    counts = Counter(token for text in train_texts for token in token_ids(tokenizer, text))
    total = counts.total() + len(tokenizer)
    nats = [-math.log((counts[t] + 1) / total) for text in texts for t in token_ids(tokenizer, text)[1:]]
    if not nats:
        raise PerplexityError(f"none of {len(texts)} texts has two tokens: there is nothing to score")
    return math.fsum(nats) / math.log(2) / sum(map(_n_bytes, texts))


@dataclass(frozen=True)
class ScoringWindow:
    """One forward pass: tokens first .. last-1 of a text are fed, score_from+1 .. last are scored."""

    text: int
    first: int
    last: int
    score_from: int


def scoring_windows(n_tokens: Sequence[int], window: int, stride: int) -> list[ScoringWindow]:
    """Cut texts of `n_tokens` tokens into windows, longest first, so that a batch needs little padding."""
    windows = []
    for text, n in enumerate(n_tokens):
        scored = first = 0  # `scored` is the index of the last token scored so far
        while scored < n - 1:
            last = min(first + window, n - 1)
            windows.append(ScoringWindow(text, first, last, scored))
            scored = last
            first += stride
    if not windows:
        raise PerplexityError(f"none of {len(n_tokens)} texts has two tokens: there is nothing to score")
    return sorted(windows, key=lambda w: (w.last - w.first, w.text, w.first), reverse=True)


def _n_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _score_batch(
    model: PreTrainedModel,
    head: TargetHead,
    ids: Sequence[list[int]],
    pad: int,
    runtime: Runtime | None,
    batch: Sequence[ScoringWindow],
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Run one forward pass over `batch`, padded on the right; return losses and hits of each window."""
    fed = [ids[w.text][w.first : w.last] for w in batch]
    width = max(map(len, fed))
    inputs = torch.tensor([tokens + [pad] * (width - len(tokens)) for tokens in fed])
    with runtime.autocast() if runtime else torch.autocast(model.device.type, enabled=False):
        hidden = hidden_states(model, inputs.to(model.device))
        return [
            _score(head, ids, w, hidden[row, w.score_from - w.first : w.last - w.first])
            for row, w in enumerate(batch)
        ]


def _score_without_padding(
    read: Reader, head: TargetHead, ids: Sequence[list[int]], batch: Sequence[ScoringWindow]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Run one forward pass over `batch` without padding; return losses and hits of each window."""
    hidden = read([ids[w.text][w.first : w.last] for w in batch])
    return [_score(head, ids, w, own[w.score_from - w.first :]) for own, w in zip(hidden, batch, strict=True)]


def _score(
    head: TargetHead, ids: Sequence[list[int]], window: ScoringWindow, hidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return losses and hits of a window's targets from the states before them, on the CPU."""
    targets = ids[window.text][window.score_from + 1 : window.last + 1]
    losses, hits = head.score(hidden, torch.tensor(targets, device=hidden.device))
    return losses.cpu(), hits.cpu()


def _summarise(scores: tuple[TextScore, ...], correct: int) -> PerplexityResult:
    nll = math.fsum(score.nll_nats for score in scores)
    n_tokens = sum(score.n_tokens for score in scores)
    n_bytes = sum(score.n_bytes for score in scores)
    if not math.isfinite(nll):
        raise PerplexityError("the model's log-likelihood is not finite; try another precision")
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
