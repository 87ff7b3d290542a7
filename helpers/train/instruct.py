"""Track B's training: an adapter learns from instruction pairs, with the loss on the answer alone.

An example is the tokenizer's chat prompt, then the response and the token that ends the turn. Prompt and
padding have the label -100, so that they give no gradient; the end token has its own label, so that the
model learns to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.machine.hardware import Runtime, set_seed
from helpers.machine.memory import Fit
from helpers.models.causal_lm import add_lora, chat_ids, load_causal_lm
from helpers.models.footprint import planned_fit
from helpers.models.reading import Reader, fast_reader
from helpers.models.structure import hidden_states, output_head
from helpers.models.target_scores import TargetHead
from helpers.models.token_loss import IGNORED, summed_token_loss
from helpers.models.tokens import continuation, continuing_ids, turn_end_id
from helpers.records import InstructPair, RehearsedAnswer
from helpers.settings import TrackBSettings
from helpers.train.fallbacks import TrainingError, with_fallbacks
from helpers.train.packing import best_fit
from helpers.train.trainer import Hyperparameters, TrainingData, TrainingHistory, run_training

MICRO_BATCH_TOKENS = {"cpu": 6144, "cuda": 8192}  # fed at once, padding included


@dataclass(frozen=True)
class Example:
    """One pair in tokens. `labels` equal `input_ids` from the response on and are -100 before."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.input_ids)


def train_instruct(
    settings: TrackBSettings,
    pairs: Sequence[InstructPair | RehearsedAnswer],
    validation_pairs: Sequence[InstructPair],
    runtime: Runtime,
    *,
    seed: int,
    out_dir: Path,
) -> TrainingHistory:
    """Train an adapter on `pairs` and keep the weights with the lowest validation loss.

    Validation is the mean loss per response token in nats over `validation_pairs`. If memory or float16's
    range does not suffice, training starts again with less (`helpers.train.fallbacks.with_fallbacks`).
    After a kill, a call with the same arguments resumes from the last checkpoint. The returned history is
    also written to `out_dir/history.json`; `helpers.models.causal_lm.load_adapted` loads the adapter from
    `out_dir/adapter`.

    Raises:
        TrainingError: if either set of pairs is empty, if a pair is longer than the settings allow (the
            data step drops those), or if the loss is not finite.
    """
    return with_fallbacks(
        lambda machine, fit: _train(settings, pairs, validation_pairs, machine, fit, seed, out_dir),
        runtime,
        out_dir,
    )


def encode_pair(pair: InstructPair | RehearsedAnswer, tokenizer: PreTrainedTokenizerBase) -> Example:
    """Return tokens and labels of one pair: the prompt masked, response and end token not.

    What instruction and response spell is text: the prompt's template and the last token alone hold tokens
    that begin or end a turn.
    """
    prompt = chat_ids(tokenizer, pair.instruction)
    answer = [*continuing_ids(tokenizer, pair.response), end_token_id(tokenizer)]
    return Example((*prompt, *answer), (*[IGNORED] * len(prompt), *answer))


def end_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the token that ends an answer in the chat template, else of the end of text."""
    found = turn_end_id(tokenizer)
    return tokenizer.eos_token_id if found is None else found


def show_supervised(example: Example, tokenizer: PreTrainedTokenizerBase) -> str:
    """Decode the labels that are not -100, special tokens included: the text that the loss sees.

    Read it before hours of training: it shows whether the end token is masked or the prompt is not.
    """
    kept = [label for label in example.labels if label != IGNORED]
    masked = [i for i, label in zip(example.input_ids, example.labels, strict=True) if label == IGNORED]
    return continuation(tokenizer, masked, kept, marks=True)


def collator(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[Example]], dict[str, torch.Tensor]]:
    """Return a function that packs examples into rows as long as the longest of them.

    Attention cannot cross from one example to another (`helpers.train.packing`). What is left of a row is
    padding, whose labels are masked by position, not by token id, so that an end token which also pads keeps
    its label.
    """
    pad = tokenizer.pad_token_id

    def collate(examples: list[Example]) -> dict[str, torch.Tensor]:
        rows = best_fit(examples, max(map(len, examples)))
        shape = (len(rows), max(map(len, examples)))
        ids, labels = torch.full(shape, pad), torch.full(shape, IGNORED)
        positions = torch.zeros(shape, dtype=torch.long)
        for row, packed in enumerate(rows):
            at = 0
            for example in packed:
                part = slice(at, at + len(example))
                ids[row, part] = torch.tensor(example.input_ids)
                labels[row, part] = torch.tensor(example.labels)
                positions[row, part] = torch.arange(len(example))
                at = part.stop
            positions[row, at:] = torch.arange(shape[1] - at)
        return {"input_ids": ids, "labels": labels, "position_ids": positions}

    return collate


@torch.no_grad()  # as in `evaluate_perplexity`
def response_loss(
    model: PreTrainedModel | PeftModel,
    examples: Sequence[Example],
    collate: Callable[[list[Example]], dict[str, torch.Tensor]],
    runtime: Runtime,
    batch: int,
) -> float:
    """Return the mean loss in nats per response token over all examples; tokens weigh alike.

    `batch` examples are computed at once, with bfloat16 products where these pay (`helpers.models.reading`).
    """
    total, count = 0.0, 0
    head = output_head(model)
    compute = partial(_packed_losses, model, head, collate, runtime)
    by_length = sorted(examples, key=lambda example: (len(example), example.input_ids))
    with fast_reader(model, runtime, batch, max(map(len, examples), default=0)) as read:
        if read is not None:
            compute = partial(_losses_without_padding, read, TargetHead.in_bfloat16(head))
        for start in range(0, len(by_length), batch):
            for loss, tokens in compute(by_length[start : start + batch]):
                total, count = total + loss, count + tokens
    return total / max(count, 1)


def _losses_without_padding(
    read: Reader, head: TargetHead, examples: Sequence[Example]
) -> list[tuple[float, int]]:
    """Return summed loss in nats and number of targets of each example."""
    found = []
    for hidden, example in zip(read([one.input_ids for one in examples]), examples, strict=True):
        targets = torch.tensor(example.labels[1:], dtype=torch.long, device=hidden.device)
        chosen = targets != IGNORED
        losses, _ = head.score(hidden[:-1][chosen], targets[chosen])
        found.append((float(losses.sum()), len(losses)))
    return found


def _packed_losses(
    model: PreTrainedModel | PeftModel,
    head: torch.nn.Module,
    collate: Callable[[list[Example]], dict[str, torch.Tensor]],
    runtime: Runtime,
    examples: list[Example],
) -> list[tuple[float, int]]:
    """Return summed loss in nats and number of targets of all examples, packed into rows."""
    inputs = {name: tensor.to(runtime.device) for name, tensor in collate(examples).items()}
    with runtime.autocast():
        hidden = hidden_states(model, inputs["input_ids"], position_ids=inputs["position_ids"])
        loss, count = summed_token_loss(head, hidden, inputs["labels"])
    return [(float(loss), count)]


def _train(
    settings: TrackBSettings, pairs: Sequence[InstructPair | RehearsedAnswer],
    validation_pairs: Sequence[InstructPair],
    runtime: Runtime, fit: Fit, seed: int, out_dir: Path,
) -> TrainingHistory:  # fmt: skip
    if not pairs or not validation_pairs:
        raise TrainingError(
            f"there are {len(pairs)} training and {len(validation_pairs)} validation pairs; both are needed: "
            "use a corpus with more functions that have docstrings or doctests"
        )
    set_seed(seed)
    base, tokenizer = load_causal_lm(settings.model, runtime, seed=seed)
    examples = [encode_pair(pair, tokenizer) for pair in pairs]
    held_out = [encode_pair(pair, tokenizer) for pair in validation_pairs]
    limit = settings.max_prompt_tokens + settings.max_new_tokens
    longest = max(map(len, [*examples, *held_out]))
    if longest > limit:
        raise TrainingError(f"a pair has {longest} tokens, but {limit} are allowed; build the data again")
    micro_batch = max(1, MICRO_BATCH_TOKENS[runtime.device.type] // longest)
    fit = planned_fit(fit, base.config, runtime, settings.lora, micro_batch, longest)
    collate = collator(tokenizer)
    return run_training(
        add_lora(base, settings.lora, seed=seed),
        tokenizer,
        TrainingData(
            examples,
            collate,
            validate=lambda model: response_loss(model, held_out, collate, runtime, 2 * micro_batch),
        ),
        Hyperparameters(
            epochs=settings.epochs, learning_rate=settings.learning_rate,
            batch_sequences=settings.batch_sequences, micro_batch=micro_batch,
            warmup_fraction=settings.warmup_fraction, seed=seed,
        ),
        runtime,
        out_dir,
        fit=fit,
        what="train on pairs",
    )  # fmt: skip
