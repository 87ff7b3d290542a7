"""The rules of the fixed-budget lab, checked on what really ran. A broken rule stops the run.

Fixed are: seven epochs, seed 1337, a tenth of the titles for validation, the data set and its text,
and the metric. Everything else is free. Each check looks at the thing itself rather than at what a
recipe says of it: the text is loaded again and compared, titles must come back from their tokens,
the tokenizer carries the digest of what it was trained on, targets are counted while training, and
the trained model is probed for looking at tokens that it has yet to predict.

Not covered: knowledge of the validation titles that enters through a person, who reads the loss and
chooses the recipe by it. The challenge has no third part of the data; every figure of it is
validation loss after such a choice. A spread over seeds says how far a figure moves by chance, not
how much of it was chosen.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence

import torch

from helpers.fixed_budget import metric
from helpers.fixed_budget.recipes import Recipe, Scale
from helpers.fixed_budget.titles import (
    SEPARATOR,
    TitleSet,
    TitleSplit,
    load_titles,
    split_titles,
    text_sha256,
)
from helpers.fixed_budget.tokenizer import TitleTokenizer, changed_titles

EPOCHS = 7
SEED = 1337
VALIDATION_FRACTION = 0.10
METRIC_SHA256 = "c9dbf964070a55d86c04b24960ca7b977175910d74b3ad56866369653d742512"
FROZEN = ("evaluate", "frozen_sum", "full_sum", "token_nats")  # functions of the metric
PROBED_ROWS = 4
TOLERANCE = 1e-3  # nats; kernels may sum in another order when a token elsewhere changes


class RuleBroken(ValueError):
    """A run that breaks a rule of the challenge; `rule` names it, the message says how."""

    def __init__(self, rule: str, how: str) -> None:
        super().__init__(f"refused by the rule “{rule}”: {how}")
        self.rule = rule


def check_settings(recipe: Recipe, *, seed: int, spread: bool) -> None:
    """Epochs, seed and validation share are the challenge's.

    Args:
        spread: a run of another seed, which measures chance and is marked so; the data's order and
            split stay those of seed 1337 all the same.
    """
    if recipe.epochs != EPOCHS:
        raise RuleBroken("7 epochs", f"the recipe {recipe.name!r} asks for {recipe.epochs} epochs")
    if seed != SEED and not spread:
        raise RuleBroken(
            "seed 1337", f"the run asks for seed {seed}; other seeds measure the spread only (--spread)"
        )
    if recipe.validation_fraction != VALIDATION_FRACTION:
        share = recipe.validation_fraction
        raise RuleBroken("validation fraction 0.10", f"the recipe {recipe.name!r} asks for {share}")


def check_metric() -> None:
    """The functions that will be called are the frozen ones, by a hash of their source."""
    found = metric_sha256()
    if found != METRIC_SHA256:
        raise RuleBroken(
            "frozen evaluate", f"the metric's source hashes to {found[:12]}, not {METRIC_SHA256[:12]}"
        )


def metric_sha256() -> str:
    """SHA-256 over the source of the metric's functions as they stand in memory."""
    total = hashlib.sha256()
    for name in FROZEN:
        try:
            total.update(inspect.getsource(getattr(metric, name)).encode())
        except (OSError, TypeError):  # replaced by something that has no source
            total.update(b"no source")
    return total.hexdigest()


def check_text(
    spec: str, titles: TitleSet, split: TitleSplit, scale: Scale, known: dict[str, str] | None = None
) -> None:
    """Both parts hold the very text of the data set, in its order: loaded again and compared.

    Args:
        spec: where the titles come from, as `load_titles` takes it.
        known: digests of data sets that earlier runs of the same comparison have used, by spec.
    """
    if titles.seed != SEED:
        raise RuleBroken("seed 1337", f"the titles were shuffled and split by seed {titles.seed}")
    fresh = load_titles(spec, seed=SEED, limit=scale.titles)
    if titles.sha256 != fresh.sha256:
        raise RuleBroken("the data set", f"the titles are not those of {fresh.spec}, or not in its order")
    if known and known.get(fresh.spec, fresh.sha256) != fresh.sha256:
        raise RuleBroken(
            "the data set", f"{fresh.spec} is not the text that the other runs here were made on"
        )
    wanted = split_titles(fresh, VALIDATION_FRACTION)
    for part in ("train", "validation"):
        given, right = getattr(split, part), getattr(wanted, part)
        if len(given) != len(right):
            raise RuleBroken(
                "validation fraction 0.10", f"the {part} part has {len(given)} titles instead of {len(right)}"
            )
        if text_sha256(given) != text_sha256(right):
            raise RuleBroken("text unchanged", f"the {part} titles differ from those of {fresh.spec}")


def check_tokenizer(tokenizer: TitleTokenizer, split: TitleSplit) -> None:
    """Trained on the training part alone, and every title comes back from its tokens as it was."""
    if tokenizer.trained_on != text_sha256(split.train):
        raise RuleBroken(
            "tokenizer from training text",
            "the tokenizer was not trained on exactly the training titles; has it seen validation text?",
        )
    lost = changed_titles(tokenizer, split.validation)
    if lost:
        raise RuleBroken(
            "text unchanged",
            f"the tokenizer alters {len(lost)} of {len(split.validation)} validation titles, the first: "
            f"{lost[0]!r}; lower-casing and unknown tokens make text cheaper than it is",
        )


def check_passes(targets: int, train_tokens: int) -> None:
    """No more targets were trained on than seven passes over the training tokens hold."""
    if targets > EPOCHS * train_tokens:
        raise RuleBroken(
            "7 epochs",
            f"{targets} targets are {targets / train_tokens:.2f} passes over {train_tokens} tokens",
        )


@torch.inference_mode()
def check_blindness(
    logits: Callable[[torch.Tensor], torch.Tensor], ids: torch.Tensor, *, block: int, separator_id: int
) -> None:
    """The model predicts a token from those before it in its row, and from nothing else.

    The metric's rows follow each other in the text, and inputs are targets moved by one place: a
    model that saw later positions or other rows would read off its answers.
    """
    rows = min(PROBED_ROWS, len(ids) // block)
    length = block if rows else len(ids)
    probed = ids[: max(rows, 1) * length].view(-1, length)
    before = logits(probed).float().log_softmax(-1)
    middle = length // 2
    other = probed.clone()
    # Ordinary tokens, moved up by one: separators stay, so that a title mask stays too.
    later = other[:, middle:]
    other[:, middle:] = torch.where(later == separator_id, later, (later + 1) % before.shape[-1])
    changed = (logits(other).float().log_softmax(-1)[:, :middle] - before[:, :middle]).abs()
    if middle and not bool(changed.max() <= TOLERANCE):
        raise RuleBroken("frozen evaluate", "the model looks at tokens that it has yet to predict")
    alone = logits(probed[:1]).float().log_softmax(-1)
    if not bool((alone - before[:1]).abs().max() <= TOLERANCE):
        raise RuleBroken("frozen evaluate", "the model's predictions depend on other rows of the batch")


def rules(separator: str = SEPARATOR) -> Sequence[tuple[str, str]]:
    """Each rule and how it is enforced, for people to read."""
    return (
        ("7 epochs", "asked for in the recipe, and targets counted while training"),
        ("seed 1337", "of order, split and training; other seeds run only as a marked spread"),
        ("validation fraction 0.10", "the parts are compared with a fresh split of the data set"),
        ("the data set", "loaded again and compared by digest; Hacker News at a pinned revision"),
        ("text unchanged", f"both parts compared by digest; titles come back from their tokens; the "
         f"denominator is the characters of the titles, and {separator} after each, before any tokenizer"),
        ("tokenizer from training text", "carries the digest of its training text"),
        ("frozen evaluate", "hash of its source; the trained model is probed for looking ahead"),
    )  # fmt: skip
