"""Prove that an export computes what the report measured, with an engine that is not this project's.

The same questions go to the measured model, base and adapter apart, and to the engine that has only the
export: the logits at some thousand positions of held-out prompts, the bits per byte of held-out files
(Track A), and greedy answers to held-out tasks, which are run (Track B). The run's own figures on the same
files and tasks stand beside them. Exports that pass every static check and still compute something else do
exist, and only this shows them.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helpers.errors import SuiteError
from helpers.eval.perplexity import scoring_windows
from helpers.eval.response_scoring import RUN_KINDS, score_responses
from helpers.models.causal_lm import chat_ids, chat_prompt
from helpers.models.saved_tokenizer import PROBES
from helpers.models.tokens import continuation, continuing_ids, token_ids
from helpers.records import Task
from helpers.take_home.engine_job import Engine, EngineAnswer, EngineJob, Prompt, Window
from helpers.take_home.measured_model import ExportError, MeasuredModel
from helpers.take_home.transformers_engine import prompt_logits
from helpers.tools.verify_pairs import context_of_run

PROMPTS = 20
KEPT = 64  # positions of a prompt that are compared
SCORED_TOKENS = 6_000  # of held-out files, about
TASKS = 12  # of the run's own
TEXT_CHARACTERS = 4_000  # of each held-out text whose ids are compared
# Nats that the measured model's two likeliest tokens may lie apart for rounding to choose between them: the
# logits of float16 files move by up to .08. Of SmolLM2's positions .3 to .5% are such ties.
TIED = 0.02


@dataclass(frozen=True)
class Bound:
    """How far an export may be from the measured model. Rounding stays far below, mistakes far above."""

    mean_kl: float  # nats per position
    same_argmax: float  # share of positions, ties counted as the same
    bits_per_byte: float  # relative difference


# float16 must be the same model for every purpose. The others lose precision by design: their own figures
# are in export.json, and these bounds only catch what no rounding explains.
BOUNDS = {
    "float32": Bound(1e-4, 0.999, 0.001),
    "f16": Bound(1e-2, 0.995, 0.005),
    "bf16": Bound(1e-2, 0.95, 0.01),
    "q8_0": Bound(5e-2, 0.90, 0.03),
    "q4_k_m": Bound(0.5, 0.70, 0.25),
}


@dataclass(frozen=True)
class Agreement:
    """How the logits of an export agree with those of the measured model."""

    prompts: int
    positions: int
    largest_difference: float  # of two logits
    mean_kl: float  # nats, of the measured model's distribution from the export's
    largest_kl: float
    same_argmax: float  # share of positions
    same_or_tied: float  # also counts tokens that the measured model finds as likely, but for `TIED`


@dataclass(frozen=True)
class Questions:
    """What an export is asked, and the measured model's own answers."""

    job: EngineJob
    logits: np.ndarray
    token_ids: tuple[tuple[int, ...], ...]
    files: tuple[dict[str, Any], ...]  # rows of the run's files.jsonl that the windows belong to
    tasks: tuple[Task, ...]


def ask(measured: MeasuredModel, scratch: Path) -> Questions:
    """Choose the questions with the run's seed, and answer them with the measured model.

    Args:
        scratch: folder for the measured logits.

    Raises:
        ExportError: if the run has no held-out text to ask about.
    """
    texts = measured.facts.held_out
    tasks = [Task(**row) for row in measured.facts.rows("tasks")]
    prompts = _prompts(measured, texts, tasks)
    if not prompts:
        raise ExportError(
            f"{measured.facts.folder} has no held-out text of Track {measured.facts.track.upper()} to "
            "compare on; finish the run with --resume"
        )
    files, windows = _windows(measured)
    run_tasks = _sample(measured, [task for task in tasks if task.kind in RUN_KINDS], TASKS)
    read = [*PROBES, *(text[:TEXT_CHARACTERS] for text in texts[:PROMPTS])]
    read += [chat_prompt(measured.tokenizer, text) for text in ("Sort a list.", "Why?\n\n  x = 1")]
    job = EngineJob(
        prompts=prompts,
        windows=windows,
        generate=[tuple(chat_ids(measured.tokenizer, task.instruction)) for task in run_tasks],
        most=int(measured.facts.settings.get("max_new_tokens", 0)),
        texts=read,
        ends=measured.ends,
    )
    ids = tuple(tuple(measured.tokenizer(text, add_special_tokens=False).input_ids) for text in read)
    logits = prompt_logits(measured.model, tuple(prompts), scratch / "measured.npy")
    return Questions(job, logits, ids, tuple(files), tuple(run_tasks))


def prove(
    measured: MeasuredModel,
    questions: Questions,
    engine: Engine,
    kind: str,
    no_ends: Collection[int] = (),
) -> dict[str, Any]:
    """Put the questions to an engine with an export, and compare.

    Args:
        kind: a key of `BOUNDS`.
        no_ends: ids at which the run ends a text and the form cannot say so; `goes_on_after` names those at
            which the engine goes on.

    Returns:
        The engine, the figures and the bound, ready for export.json.

    Raises:
        EngineError: if the engine is missing or fails.
        ExportError: if the export reads other token ids, has another chat template or end, or is not within
            its bound; the message has the figures.
    """
    with tempfile.TemporaryDirectory(prefix="proof-") as scratch:
        answer = engine(questions.job, Path(scratch))
        goes_on_after = _require_same_text(measured, questions, answer, no_ends)
        agreement = compare_logits(questions.logits, answer.logits, len(questions.job.prompts))
    found: dict[str, Any] = {"engine": answer.engine, "logits": asdict(agreement), "says": answer.facts}
    if goes_on_after:
        found["goes_on_after"] = goes_on_after
    if questions.files:
        found["bits_per_byte"] = _bits_per_byte(questions, answer)
    if questions.tasks:
        found["pass@1"] = _pass_rate(measured, questions, answer)
    bound = BOUNDS[kind]
    off = (
        abs(math.log(found["bits_per_byte"]["export"] / found["bits_per_byte"]["run"]))
        if questions.files
        else 0
    )
    within = (
        agreement.mean_kl <= bound.mean_kl
        and agreement.same_or_tied >= bound.same_argmax
        and off <= bound.bits_per_byte
    )
    if not within:
        raise ExportError(
            f"the export as {kind} does not compute what was measured, and is not kept: KL "
            f"{agreement.mean_kl:.2g} nats (bound {bound.mean_kl:g}), same likeliest token at "
            f"{agreement.same_argmax:.2%} of {agreement.positions} positions, {agreement.same_or_tied:.2%} "
            f"with ties (bound {bound.same_argmax:.1%}), bits per byte off by {off:.2%} (bound "
            f"{bound.bits_per_byte:.1%}); computed by {answer.engine}"
        )
    return found | {"bound": asdict(bound), "proven": True}


def compare_logits(measured: np.ndarray, export: np.ndarray, prompts: int) -> Agreement:
    """Return how two arrays of logits (positions, vocabulary) agree; a larger vocabulary may be padded.

    KL is sum p (ln p - ln q), with p measured and q exported, in float64.

    Raises:
        ExportError: if the shapes differ, or a logit is not finite.
    """
    if measured.shape != export.shape:
        raise ExportError(f"the export has logits of the shape {export.shape}, not {measured.shape}")
    largest, kl, same, tied = 0.0, np.zeros(len(measured)), 0, 0
    for place in range(len(measured)):
        one, other = measured[place].astype(np.float64), export[place].astype(np.float64)
        if not np.isfinite(other).all():
            raise ExportError(f"the export's logits are not finite at position {place}; try --type bf16")
        largest = max(largest, float(np.abs(one - other).max()))
        first, second = _log_softmax(one), _log_softmax(other)
        kl[place] = float((np.exp(first) * (first - second)).sum())
        likeliest = other.argmax()
        same += int(one.argmax() == likeliest)
        tied += int(one.max() - one[likeliest] <= TIED)
    shares = same / len(kl), tied / len(kl)
    return Agreement(prompts, len(kl), largest, float(kl.mean()), float(kl.max()), *shares)


def summary(found: dict[str, Any]) -> str:
    """Return a proof as one line for a person."""
    logits = found["logits"]
    parts = [
        f"KL {logits['mean_kl']:.2g} nats (largest {logits['largest_kl']:.2g})",
        f"same likeliest token at {logits['same_argmax']:.2%} of {logits['positions']} positions, "
        f"{logits['same_or_tied']:.2%} with ties",
        f"logits differ by at most {logits['largest_difference']:.2g}",
    ]
    if bits := found.get("bits_per_byte"):
        parts.append(
            f"bits per byte {bits['export']:.4f}, in the run {bits['run']:.4f} ({bits['files']} files)"
        )
    if tasks := found.get("pass@1"):
        parts.append(
            f"pass@1 {tasks['passed']}/{tasks['tasks']}, in the run {tasks['run_passed']}/{tasks['tasks']}"
            if "passed" in tasks
            else f"pass@1 not compared: {tasks['skipped']}"
        )
    if names := found.get("goes_on_after"):
        parts.append(f"goes on after {', '.join(names)}, where the run ends a text")
    return f"{found['engine']}: " + "; ".join(parts)


def _prompts(measured: MeasuredModel, texts: Sequence[str], tasks: Sequence[Task]) -> list[Prompt]:
    """Choose prompts as the track uses its model: within files, or chats with an answer's first words."""
    tokenizer = measured.tokenizer
    found = []
    if measured.facts.track == "b":
        for task in _sample(measured, tasks, PROMPTS):
            answer = continuing_ids(tokenizer, task.reference)[: KEPT // 2]
            ids = (*chat_ids(tokenizer, task.instruction), *answer)
            found.append(Prompt(ids, min(KEPT, len(ids))))
        return found
    rng = random.Random(f"{measured.facts.seed}:export prompts")
    known = [ids for ids in (token_ids(tokenizer, text) for text in texts) if len(ids) > 1]
    for number in range(PROMPTS if known else 0):
        ids = known[number % len(known)]
        begin = rng.randrange(max(1, len(ids) - KEPT))
        piece = tuple(ids[begin : begin + KEPT])
        found.append(Prompt(piece, len(piece)))
    return found


def _windows(measured: MeasuredModel) -> tuple[list[dict[str, Any]], list[Window]]:
    """Choose held-out files, and cut them as the run's evaluation did; none for Track B."""
    texts = {row["path"]: str(row["text"]) for row in measured.facts.rows("data/test")}
    rows = [
        row for row in measured.facts.rows("files") if row["path"] in texts and row["nll_after"] is not None
    ]
    chosen: list[dict[str, Any]] = []
    total = 0
    for row in sorted(
        _sample(measured, rows, len(rows)), key=lambda row: row["n_tokens"] > SCORED_TOKENS / 2
    ):
        if not chosen or total + row["n_tokens"] <= SCORED_TOKENS:
            chosen.append(row)
            total += row["n_tokens"]
    ids = [token_ids(measured.tokenizer, texts[row["path"]]) for row in chosen]
    settings = measured.facts.settings
    cut = scoring_windows([*map(len, ids)], settings["window"], settings["stride"]) if chosen else []
    return chosen, [Window(tuple(ids[w.text][w.first : w.last + 1]), w.last - w.score_from) for w in cut]


def _sample(measured: MeasuredModel, items: Sequence[Any], most: int) -> list[Any]:
    rng = random.Random(f"{measured.facts.seed}:export sample")
    return rng.sample(list(items), min(most, len(items)))


def _require_same_text(
    measured: MeasuredModel, questions: Questions, answer: EngineAnswer, no_ends: Collection[int]
) -> list[str]:
    """Refuse an export that reads, asks or ends otherwise than the measured model.

    Returns:
        Those of `no_ends` at which the engine goes on, in writing.
    """
    template = measured.tokenizer.chat_template
    if (answer.chat_template or None) != (template or None):
        raise ExportError("the export's chat template is not the measured model's, byte for byte")
    for text, wanted, got in zip(questions.job.texts, questions.token_ids, answer.token_ids, strict=True):
        if wanted != got:
            raise ExportError(
                f"{answer.engine} reads other token ids than the measured model in {text[:60]!r}"
            )
    missing = [end for end, there in zip(questions.job.ends, answer.ends, strict=True) if not there]
    names = measured.tokenizer.convert_ids_to_tokens(missing)
    if wrong := [name for end, name in zip(missing, names, strict=True) if end not in no_ends]:
        raise ExportError(f"{answer.engine} would not end a text at {', '.join(wrong)}")
    return list(names)


def _bits_per_byte(questions: Questions, answer: EngineAnswer) -> dict[str, Any]:
    size = sum(row["n_bytes"] for row in questions.files)
    return {
        "export": math.fsum(answer.nll_nats) / math.log(2) / size,
        "run": math.fsum(row["nll_after"] for row in questions.files) / math.log(2) / size,
        "files": len(questions.files),
        "bytes": size,
    }


def _pass_rate(measured: MeasuredModel, questions: Questions, answer: EngineAnswer) -> dict[str, Any]:
    """Run the engine's greedy answers, and count them beside the run's own."""
    asked = questions.job.generate
    texts = {
        task.id: [continuation(measured.tokenizer, ids, new)]
        for task, ids, new in zip(questions.tasks, asked, answer.written, strict=True)
    }
    own = {row["task_id"]: row for row in measured.facts.rows("scores_after") if row["sample"] == 0}
    try:
        context = context_of_run(measured.facts.folder)
    except (SuiteError, OSError) as error:
        return {"skipped": f"the run's corpus is not on this machine ({error})"}
    tasks = [task for task in questions.tasks if task.id in own]
    scores = score_responses(tasks, texts, context=context, workers=1)
    return {
        "tasks": len(tasks),
        "passed": sum(score.passed for score in scores),
        "run_passed": sum(bool(own[task.id]["passed"]) for task in tasks),
        "same_answers": sum(texts[task.id][0] == own[task.id]["response"] for task in tasks),
    }


def _log_softmax(row: np.ndarray) -> np.ndarray:
    shifted = row - row.max()
    return shifted - np.log(np.exp(shifted).sum())
