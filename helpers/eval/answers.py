"""Generate a model's answers to Track B's tasks.

Every task is answered once greedily; executable tasks are also sampled. The same call, with the same
prompts, seeds and limits, serves before and after training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.machine.hardware import Runtime
from helpers.models.causal_lm import chat_prompt, generate
from helpers.records import EXECUTABLE, Task
from helpers.settings import TrackBSettings


def answer_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    settings: TrackBSettings,
    runtime: Runtime,
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Answer every task greedily, and sample further answers to the executable ones.

    Only executable kinds are sampled, because pass@k is defined for them alone. The number of samples
    and the temperature come from `settings`.

    Returns:
        Rows `{task_id, sample, response}`; sample 0 is greedy, samples 1..n are drawn.
    """
    options = {
        "max_new_tokens": settings.max_new_tokens,
        "batch_size": settings.generation_batch,
        "seed": seed,
    }
    prompts = [chat_prompt(tokenizer, task.instruction) for task in tasks]
    greedy = generate(model, tokenizer, prompts, runtime, what="greedy answers", **options)
    rows = [
        {"task_id": task.id, "sample": 0, "response": texts[0]}
        for task, texts in zip(tasks, greedy, strict=True)
    ]
    runnable = [index for index, task in enumerate(tasks) if task.kind in EXECUTABLE]
    drawn = generate(
        model,
        tokenizer,
        [prompts[index] for index in runnable],
        runtime,
        n=settings.samples_per_task,
        temperature=settings.temperature,
        what="sampled answers",
        **options,
    )
    for index, texts in zip(runnable, drawn, strict=True):
        rows += [
            {"task_id": tasks[index].id, "sample": number, "response": text}
            for number, text in enumerate(texts, 1)
        ]
    return rows


def by_task(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Group responses by task id, ordered by sample number, as `score_responses` takes them."""
    grouped: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: (row["task_id"], row["sample"])):
        grouped.setdefault(row["task_id"], []).append(row["response"])
    return grouped
