"""Evaluation of the embedded base model for its card, mainly on packages it was not trained on.

It measures bits per byte beside a compressor and a byte 5-gram model; copying an unseen function, both
given the true tokens before each position and without help; and repairing one planted fault.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.base_model.base_recipes import BaseRecipe
from helpers.base_model.byte_baselines import ngram_bits_per_byte, xz_bits_per_byte
from helpers.base_model.change_pairs import FILE_SEPARATOR, before_after, window_sized_functions
from helpers.data.tasks.bugs import BugError, make_bugs
from helpers.eval.perplexity import evaluate_perplexity
from helpers.eval.statistics import Estimate, proportion
from helpers.machine.hardware import Runtime
from helpers.machine.progress import progress
from helpers.models.generation import generate
from helpers.models.tokens import batch_token_ids, separated_ids, token_ids
from helpers.records import SourceFile

COPY_LINES = (8, 12)  # "a 10-line function"
SAMPLES = (
    "def factorial(n):\n",
    "class Stack:\n    def __init__(self):\n",
    "import os\n\n\ndef read_lines(path):\n",
)


@dataclass(frozen=True)
class EvaluationText:
    """What the base model is measured on."""

    held_out: Sequence[SourceFile]  # from packages that were not trained on
    near: Sequence[SourceFile]  # also held out, from packages that were trained on
    counted: Sequence[str]  # training text that the 5-gram model counts


@dataclass(frozen=True)
class BaseModelReport:
    """Results of one model on held-out files."""

    files: int
    bytes: int
    bits_per_byte: float
    near_files: int  # held-out files of packages that were trained on
    near_bytes: int
    near_bits_per_byte: float
    near_xz_bits_per_byte: float
    xz_bits_per_byte: float
    ngram_bits_per_byte: float
    copy_teacher_forced: Estimate  # share of a copy's tokens that were the first choice
    copy_exact: Estimate  # share of functions copied without a wrong token and without help
    repair_exact: Estimate  # share of faulty functions returned as their author wrote them
    repair_unchanged: Estimate  # share of faulty functions returned with the fault
    samples: tuple[str, ...]


def evaluate_base_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: EvaluationText, runtime: Runtime,
    recipe: BaseRecipe,
) -> BaseModelReport:  # fmt: skip
    """Measure `model` on held-out text, in windows of the recipe's length; half of each is only context.

    The recipe's data seed draws functions and plants faults; functions come from packages not trained on.
    """
    texts, near_texts = [file.text for file in text.held_out], [file.text for file in text.near]
    sizes = {"window": recipe.window, "stride": recipe.window // 2, "runtime": runtime}
    seed = recipe.data_seed
    scored = evaluate_perplexity(model, tokenizer, texts, what="held-out files", **sizes)
    near_scored = evaluate_perplexity(model, tokenizer, near_texts, what="files of known packages", **sizes)
    drawn = draw_functions(text.held_out, recipe.functions, seed)
    forced = copied_tokens(model, tokenizer, progress(drawn, "copy, forced"), runtime)
    copies = _complete(model, tokenizer, [copy_prompt(s) for s in drawn], drawn, runtime, "copy")
    faulty = [(bug, source) for source in drawn if (bug := _one_token_bug(source, seed))]
    fixed = _complete(
        model, tokenizer, [before_after(bug, "") for bug, _ in faulty], drawn, runtime, "repair"
    )
    continued = generate(model, tokenizer, SAMPLES, runtime, max_new_tokens=80, what="samples")
    return BaseModelReport(
        files=len(texts),
        bytes=scored.n_bytes,
        bits_per_byte=scored.bits_per_byte,
        near_files=len(near_texts),
        near_bytes=near_scored.n_bytes,
        near_bits_per_byte=near_scored.bits_per_byte,
        near_xz_bits_per_byte=xz_bits_per_byte(near_texts),
        xz_bits_per_byte=xz_bits_per_byte(texts),
        ngram_bits_per_byte=ngram_bits_per_byte(text.counted, texts),
        copy_teacher_forced=proportion(forced),
        copy_exact=proportion([got == want for got, want in zip(copies, drawn, strict=True)]),
        repair_exact=proportion([got == want for got, (_, want) in zip(fixed, faulty, strict=True)]),
        repair_unchanged=proportion([got == bug for got, (bug, _) in zip(fixed, faulty, strict=True)]),
        samples=tuple(prompt + answer[0] for prompt, answer in zip(SAMPLES, continued, strict=True)),
    )


def draw_functions(files: Sequence[SourceFile], n: int, seed: int) -> list[str]:
    """Draw `n` distinct functions of COPY_LINES lines from all files, with `seed`."""
    low, high = COPY_LINES
    found = {s for file in files for s in window_sized_functions(file.text) if low <= s.count("\n") <= high}
    pool = sorted(found)
    random.Random(f"{seed}:copy").shuffle(pool)
    return pool[:n]


def copy_prompt(source: str) -> str:
    """Return a file that holds the function, followed by the head of a second file."""
    return f"{FILE_SEPARATOR}utils.py\n{source}{FILE_SEPARATOR}core.py\n"


def _one_token_bug(source: str, seed: int) -> str | None:
    try:
        bugs = [bug for bug in make_bugs(source) if "\n" not in bug.original and bug.replacement]
    except BugError:
        return None
    return random.Random(f"{seed}:{source}").choice(bugs).source if bugs else None


def copied_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sources: Iterable[str], runtime: Runtime
) -> list[bool]:
    """Tell for every token of a copy of `sources` whether it was the first choice after the true tokens."""
    right: list[bool] = []
    for source in sources:
        head = separated_ids(tokenizer, copy_prompt(source), FILE_SEPARATOR)
        tail = token_ids(tokenizer, source)
        ids = torch.tensor([head + tail], device=runtime.device)
        with torch.inference_mode():
            chosen = model(input_ids=ids, use_cache=False).logits[0, len(head) - 1 : -1].argmax(-1)
        right += (chosen == ids[0, len(head) :]).tolist()
    return right


def _complete(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str],
    sources: Sequence[str], runtime: Runtime, what: str,
) -> list[str]:  # fmt: skip
    """Complete `prompts` greedily, with room for the longest of `sources` and 16 tokens more."""
    if not prompts:
        return []
    room = 16 + max(len(ids) for ids in batch_token_ids(tokenizer, sources))
    read = [separated_ids(tokenizer, prompt, FILE_SEPARATOR) for prompt in prompts]
    answers = generate(model, tokenizer, read, runtime, max_new_tokens=room, what=what)
    return [answer[0] for answer in answers]
