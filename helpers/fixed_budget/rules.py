"""The rules of the fixed-budget lab, checked on what really ran. A broken rule stops the run.

Seven epochs, seed 1337, a tenth of the titles for validation, the data set with its text, and the
metric are fixed; everything else is free. The checks don't trust a recipe's own claims: the text is
loaded again and compared, decoded tokens must equal the titles, the tokenizer carries the digest of
the text it was trained on, targets are counted during training, and the trained model is probed for
looking at tokens that it has yet to predict.

Not covered: a person who reads the validation loss and picks the recipe by it. The challenge has no
test set, so every figure is a validation loss after such a choice. The spread over seeds shows how
much a figure varies by chance, not how much of it is due to the choice.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence

import torch

from helpers.errors import SuiteError
from helpers.fixed_budget import frozen_metric
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
FROZEN = ("evaluate", "frozen_sum", "full_sum", "token_nats")  # the metric's functions
PROBED_ROWS = 4
TOLERANCE = 1e-3  # nats; a changed token elsewhere can change the order in which kernels sum


class RuleBroken(SuiteError, ValueError):
    """A run breaks a rule of the challenge; `rule` names the rule, the message says how."""

    def __init__(self, rule: str, how: str) -> None:
        super().__init__(f"refused by the rule “{rule}”: {how}")
        self.rule, self.how = rule, how

    def __reduce__(self) -> tuple[type[RuleBroken], tuple[str, str]]:
        """Pickle by both arguments, so that a worker process can report the rule."""
        return type(self), (self.rule, self.how)


def check_settings(recipe: Recipe, *, seed: int, spread: bool) -> None:
    """Refuse epochs, a seed or a validation share other than the challenge's, by raising RuleBroken.

    `spread` allows another `seed` of weights and training, to measure chance; such a run is marked. Seed 1337
    still decides the order and the split of the titles.
    """
    if recipe.epochs != EPOCHS:
        raise RuleBroken("7 epochs", f"recipe {recipe.name!r} asks for {recipe.epochs} epochs")
    if seed != SEED and not spread:
        raise RuleBroken("seed 1337", f"the run asks for seed {seed}; other seeds are only for --spread")
    if recipe.validation_fraction != VALIDATION_FRACTION:
        share = recipe.validation_fraction
        raise RuleBroken("validation fraction 0.10", f"recipe {recipe.name!r} asks for {share}")


def check_metric() -> None:
    """Refuse metric functions, as loaded in this process, whose source differs from the frozen one."""
    total = hashlib.sha256()
    for name in FROZEN:
        try:
            total.update(inspect.getsource(getattr(frozen_metric, name)).encode())
        except (OSError, TypeError):  # replaced by something that has no source
            total.update(b"no source")
    found = total.hexdigest()
    if found != METRIC_SHA256:
        raise RuleBroken(
            "frozen evaluate", f"the metric's source hashes to {found[:12]}, not {METRIC_SHA256[:12]}"
        )


def check_text(
    spec: str, titles: TitleSet, split: TitleSplit, scale: Scale, known: dict[str, str] | None = None
) -> None:
    """Load the data set again and refuse titles that differ from it in text, order or split.

    Args:
        titles: what the run loaded from `spec`.
        split: the parts that the run trains on and scores.
        scale: says how many titles the run may take.
        known: spec -> digest of the data that earlier runs of the same comparison used.
    """
    if titles.seed != SEED:
        raise RuleBroken("seed 1337", f"the titles were shuffled with seed {titles.seed}")
    fresh = load_titles(spec, seed=SEED, limit=scale.titles)
    if titles.sha256 != fresh.sha256:
        raise RuleBroken("the data set", f"the titles differ from those of {fresh.spec}, or in their order")
    if known and known.get(fresh.spec, fresh.sha256) != fresh.sha256:
        raise RuleBroken("the data set", f"the other runs here used a different text of {fresh.spec}")
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
    """Refuse a tokenizer that saw more than the training part, or that alters a validation title."""
    if tokenizer.trained_on != text_sha256(split.train):
        raise RuleBroken(
            "tokenizer from training text",
            "the tokenizer was trained on other text than the training titles; did it see validation text?",
        )
    lost = changed_titles(tokenizer, split.validation)
    if lost:
        raise RuleBroken(
            "text unchanged",
            f"the tokenizer alters {len(lost)} of {len(split.validation)} validation titles, for example "
            f"{lost[0]!r}; lower-casing and unknown tokens make a text easier to predict than it is",
        )


def check_passes(targets: int, train_tokens: int) -> None:
    """Refuse a training that saw more targets than seven passes over the training tokens."""
    if targets > EPOCHS * train_tokens:
        raise RuleBroken(
            "7 epochs",
            f"{targets} targets are {targets / train_tokens:.2f} passes over {train_tokens} tokens",
        )


@torch.inference_mode()
def check_blindness(
    logits: Callable[[torch.Tensor], torch.Tensor], ids: torch.Tensor, *, block: int, separator_id: int
) -> None:
    """Refuse a model that predicts a token from anything but the tokens before it in the same row.

    The metric's rows are consecutive pieces of the text, and inputs are the targets shifted by one
    position: a model that looked at later positions or other rows could read off the answers.

    Args:
        logits: the trained model, in evaluation mode.
        ids: the validation text, (tokens,).
        block: length of a row.
        separator_id: stays in place while other tokens are changed, since a title mask depends on it.
    """
    rows = min(PROBED_ROWS, len(ids) // block)
    length = block if rows else len(ids)
    probed = ids[: max(rows, 1) * length].view(-1, length)
    before = logits(probed).float().log_softmax(-1)
    middle = length // 2
    other = probed.clone()
    later = other[:, middle:]  # each ordinary token is replaced by the next id
    other[:, middle:] = torch.where(later == separator_id, later, (later + 1) % before.shape[-1])
    changed = (logits(other).float().log_softmax(-1)[:, :middle] - before[:, :middle]).abs()
    if middle and not bool(changed.max() <= TOLERANCE):
        raise RuleBroken("frozen evaluate", "the model looks at tokens that it has yet to predict")
    alone = logits(probed[:1]).float().log_softmax(-1)
    if not bool((alone - before[:1]).abs().max() <= TOLERANCE):
        raise RuleBroken("frozen evaluate", "the model's predictions depend on other rows of the batch")


def challenge_rule_rows() -> Sequence[tuple[str, str]]:
    """Return each rule and how it is enforced, for people to read."""
    return (
        ("7 epochs", "the recipe is checked, and targets are counted during training"),
        ("seed 1337", "for order, split and training; other seeds run only as a marked spread"),
        ("validation fraction 0.10", "both parts are compared with a fresh split of the data set"),
        ("the data set", "loaded again and compared by digest; Hacker News at a pinned revision"),
        ("text unchanged", f"both parts are compared by digest; decoded tokens must equal the titles; the "
         f"denominator counts the titles' characters and {SEPARATOR} after each, before any tokenizer"),
        ("tokenizer from training text", "the tokenizer carries the digest of its training text"),
        ("frozen evaluate", "its source is hashed; the trained model is probed for looking ahead"),
    )  # fmt: skip
