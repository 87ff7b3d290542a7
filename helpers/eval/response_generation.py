"""Generate a model's responses to Track B's tasks.

Every task is answered once greedily; executable tasks are also sampled. The call is the same before and
after training: same prompts, seeds and limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.machine.hardware import Runtime
from helpers.models.causal_lm import chat_ids, generate
from helpers.records import EXECUTABLE, Task
from helpers.settings import TrackBSettings


def generate_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    settings: TrackBSettings,
    runtime: Runtime,
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Answer every task greedily, and sample further answers to the executable ones.

    Only executable kinds are sampled, because pass@k is defined for them alone.

    Returns:
        Rows `{task_id, sample, response}`; sample 0 is greedy, samples 1..n are drawn.
    """
    same = {"max_new_tokens": settings.max_new_tokens, "batch_size": settings.generation_batch, "seed": seed}
    prompts = [chat_ids(tokenizer, task.instruction) for task in tasks]
    greedy = generate(model, tokenizer, prompts, runtime, what="greedy answers", **same)
    runnable = [index for index, task in enumerate(tasks) if task.kind in EXECUTABLE]
    some = [prompts[index] for index in runnable]
    sampling = {"n": settings.samples_per_task, "temperature": settings.temperature}
    drawn = generate(model, tokenizer, some, runtime, what="sampled answers", **sampling, **same)
    rows = [(task.id, 0, texts[0]) for task, texts in zip(tasks, greedy, strict=True)]
    for index, texts in zip(runnable, drawn, strict=True):
        rows += [(tasks[index].id, number, text) for number, text in enumerate(texts, 1)]
    return [{"task_id": task, "sample": number, "response": text} for task, number, text in rows]


def by_task(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Group responses by task id, ordered by sample number, as `score_responses` takes them."""
    grouped: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: (row["task_id"], row["sample"])):
        grouped.setdefault(row["task_id"], []).append(row["response"])
    return grouped
