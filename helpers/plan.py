"""Compute memory and time of a run from the models' shapes, before anything is loaded.

For each stage of a profile, `plan_run` gives what it holds (weights, adapters with gradients and optimizer
state, activations, logits, key-value cache; `helpers.models.footprint`) and roughly how long it takes. Times
are rough: they follow from the sustained speeds `T4_SPEED` and `CPU_SPEED`.

On a CPU, a stage's GiB is the resident memory of the whole process at its peak, as `memory.json` records it
in `peak_gib`: with interpreter, libraries and oneDNN's kernels, and from the second stage on with a share for
what earlier ones left behind and for freed blocks between those in use.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from helpers.machine.memory import Fit
from helpers.machine.usage import GIB
from helpers.models import footprint
from helpers.models.footprint import (
    CPU_SPEED,
    PACKED_FLOPS,
    Machine,
    StagePlan,
    is_packed_form,
    training_parts,
)
from helpers.models.shapes import Shape, ShapeError, model_shape
from helpers.models.target_scores import LOGITS_AT_ONCE
from helpers.settings import Profile, TrackASettings, TrackBSettings

QUERY_TOKENS = 32  # of a docstring query; documents are cut at the profile's limit
FUNCTIONS = 2_200  # of the default corpus
PROCESS_GIB = 0.85  # libraries and the corpus; counted on a CPU, where a process's whole memory is measured
# What oneDNN keeps after products in bfloat16: kernels compiled for each shape, .6 MiB each, of the last
# 1,024 shapes and some for good. Batches of ever new lengths fill it within one stage.
KERNELS_GIB = 0.5
# What earlier stages left and what is kept between blocks in use, per GiB needed: in a run of profile cpu,
# stages took 15 to 82% more than is counted without it, but for the first, which took 8% less.
KEPT_SHARE = 0.35
QUESTION_SHARE = 0.3  # of the room that a question of the rehearsal has: 77 of 260 tokens in that run
TUNED_SHARE = 2 / 3  # of the time: a tuned model's answers end sooner
GENERAL_TOKENS = 1_300  # of a file of general code
MODEL_ARMS = 5  # of a completion: four, and the baseline after the nearest file
CHAT_ARMS = 2  # Track B's tuned model; as many for the untouched one, where it is not Track A's


def plan_run(profile: Profile, machine: Machine, *, micro_batch: int | None = None) -> list[StagePlan]:
    """Return memory and time of every stage of `profile` that computes with a model.

    Args:
        micro_batch: examples at once in both trainings of causal models; by default, each decides itself.

    Raises:
        ShapeError: if the shape of a model is not known.
    """
    stages = [
        *_plan_track_a(profile, machine, micro_batch),
        *_plan_track_b(profile, machine, micro_batch),
        *_plan_track_c(profile, machine),
        *_plan_completion(profile, machine),
    ]
    return [_of_process(stage, stages, machine) for stage in stages] if machine.speed is CPU_SPEED else stages


def _of_process(stage: StagePlan, stages: list[StagePlan], machine: Machine) -> StagePlan:
    """Add what a process that runs all stages on a CPU holds besides; rehearsal, if asked for, is first."""
    process = {"libraries, corpus": PROCESS_GIB}
    if machine.autocast:
        process["compiled kernels"] = KERNELS_GIB
    parts = {**process, **stage.parts}
    first = next((one for one in stages if one.stage == "track_b/rehearsal"), stages[0])
    if stage is not first:
        parts["left by earlier stages, kept by the allocator"] = KEPT_SHARE * sum(parts.values())
    return dataclasses.replace(stage, parts=parts)


def _plan_track_a(profile: Profile, machine: Machine, micro_batch: int | None) -> list[StagePlan]:
    from helpers.eval.file_scores import CHECKED_SHARE
    from helpers.eval.perplexity import TOKENS_PER_BATCH
    from helpers.train.continued_pretraining import VALIDATIONS_PER_EPOCH

    a, shape = profile.track_a, model_shape(profile.track_a.model)
    # Scoring scores only the new tokens of each window, and feeds the others again.
    scored = a.test_tokens + GENERAL_TOKENS * a.general_files
    keeps = footprint.reads_in_bfloat16(shape, machine)
    fed = scored * a.window / a.stride
    checked = a.test_tokens * CHECKED_SHARE if keeps else 0.0  # in both precisions
    logit = 2.0 if keeps else float(machine.weight_bytes)  # bytes of one
    if machine.speed is not CPU_SPEED:
        logit += 8.0  # cast and log-softmax; a CPU computes them a few rows at a time
    score = footprint.reading_parts(shape, machine) | {
        "head in the products' precision": 2.0 * shape.vocabulary * shape.hidden / GIB if keeps else 0.0,
        "activations": 8.0 * TOKENS_PER_BATCH * shape.intermediate * machine.weight_bytes / GIB,
        "keys and values": footprint.cache_bytes(shape, TOKENS_PER_BATCH // a.window, a.window, machine) / GIB
        if keeps
        else 0.0,
        "logits": min(a.window * shape.vocabulary, LOGITS_AT_ONCE) * logit / GIB,
    }
    scoring = 2.0 * shape.parameters * (fed + checked) / footprint.reading_flops(shape, machine)
    scoring += 2.0 * shape.parameters * checked / machine.speed.flops
    tokens = a.train_tokens * (1 + a.rehearsal_share) * a.epochs
    validated = a.validation_tokens * (a.epochs * VALIDATIONS_PER_EPOCH + 1)
    work = _TrainingWork("track_a/train", a, a.window, tokens, validated, embeddings=a.train_embeddings)
    twin = a.as_twin()
    return [
        StagePlan("track_a/before", score, scoring),
        _plan_training(work, shape, machine, micro_batch),
        StagePlan("track_a/after", score, scoring),
        *(
            []
            if twin is None
            else [_plan_twin(dataclasses.replace(profile, track_a=twin), machine, micro_batch)]
        ),
    ]


def _plan_twin(profile: Profile, machine: Machine, micro_batch: int | None) -> StagePlan:
    """Plan the clean twin, whose two scores and training are one stage."""
    steps = _plan_track_a(profile, machine, micro_batch)
    largest = max(steps, key=lambda step: step.peak_gib)
    return StagePlan("track_a/twin", largest.parts, sum(step.seconds for step in steps), largest.note)


def _plan_track_b(profile: Profile, machine: Machine, micro_batch: int | None) -> list[StagePlan]:
    from helpers.data.tasks.rehearsal import questions_asked, room_of

    b, shape = profile.track_b, model_shape(profile.track_b.model)
    length = b.max_prompt_tokens + b.max_new_tokens
    prompts = b.executable_tasks + b.language_tasks
    answers = prompts + b.executable_tasks * b.samples_per_task
    before = _plan_writing(
        "track_b/answers_before", profile, machine, prompts=prompts, answers=answers,
        prompt_tokens=b.max_prompt_tokens, new_tokens=b.max_new_tokens,
    )  # fmt: skip
    asked, room = questions_asked(b), room_of(b)
    rehearsal = _plan_writing(
        "track_b/rehearsal",
        profile,
        machine,
        prompts=asked,
        answers=asked,
        prompt_tokens=round(QUESTION_SHARE * room),
        new_tokens=room,
    )
    trained = (b.train_pairs + b.rehearsed_answers) * b.epochs
    validated = b.validation_pairs * (b.epochs + 1)
    half = length / 2  # a pair is about half as long as it may be
    work = _TrainingWork("track_b/train", b, length, trained * half, validated * half)
    return [
        *([rehearsal] if asked else []),
        before,
        _plan_training(work, shape, machine, micro_batch),
        dataclasses.replace(before, stage="track_b/answers_after", seconds=TUNED_SHARE * before.seconds),
    ]


def _plan_writing(
    stage: str, profile: Profile, machine: Machine, *, prompts: int, answers: int, prompt_tokens: int,
    new_tokens: int,
) -> StagePlan:  # fmt: skip
    """Plan the writing of `answers` texts to `prompts` different prompts by Track B's model."""
    shape = model_shape(profile.track_b.model)
    rows = max(1, min(profile.track_b.generation_batch, answers))
    steps = -(-answers // rows) * new_tokens
    a_step = max(
        footprint.moved_bytes(shape, machine) / machine.speed.bytes_per_s,
        2.0 * shape.parameters * rows / footprint.writing_flops(shape, machine),
    )
    seconds = steps * (a_step + shape.layers * machine.speed.step_s)
    seconds += 2.0 * shape.parameters * prompts * prompt_tokens / footprint.reading_flops(shape, machine)
    parts = footprint.reading_parts(shape, machine) | {
        "cache": footprint.cache_bytes(shape, rows, prompt_tokens + new_tokens, machine) / GIB,
        "prompts read": _reading_bytes(shape, machine, rows, prompt_tokens) / GIB,
        "logits": 16.0 * rows * shape.vocabulary / GIB,
    }
    return StagePlan(stage, parts, seconds, f"batches of {rows}; at most {new_tokens} new tokens each")


def _reading_bytes(shape: Shape, machine: Machine, rows: int, length: int) -> float:
    """Return the bytes of activations while `rows` prompts of `length` tokens are read, some at a time."""
    from helpers.models.text_writer import READ_AT_ONCE

    return 8.0 * min(rows * length, READ_AT_ONCE + length) * shape.intermediate * machine.weight_bytes


@dataclass(frozen=True)
class _TrainingWork:
    """The tokens that one training of a causal model processes, and how they are laid out."""

    stage: str
    settings: TrackASettings | TrackBSettings
    length: int  # of a row, in tokens
    tokens: float  # trained on, over all epochs
    validated: float  # tokens processed for validation
    embeddings: bool = False  # whether rows of the embedding are trained


def _plan_training(work: _TrainingWork, shape: Shape, machine: Machine, micro_batch: int | None) -> StagePlan:
    """Plan the training of adapters.

    Per weight, each pass takes 2 operations, since frozen weights need no gradients of their own. Blocks
    below the lowest adapter take part in the forward pass alone, and in the packed form in the first epoch
    alone (`helpers.models.packed_decoder`).

    Raises:
        ShapeError: if more layers are to get adapters than the model has.
    """
    from helpers.train import continued_pretraining, instruct
    from helpers.train.trainer import batch_shape

    lora, length = work.settings.lora, work.length
    if lora.layers > shape.layers:
        raise ShapeError(
            f"lora.layers is {lora.layers}, but {work.settings.model} has {shape.layers} layers: lower that, "
            "or choose another model"
        )
    training = continued_pretraining if work.stage.startswith("track_a") else instruct
    limit = max(1, training.MICRO_BATCH_TOKENS["cpu" if machine.speed is CPU_SPEED else "cuda"] // length)
    fit = Fit()
    if micro_batch is not None:
        parts = training_parts(
            shape, machine, lora, micro_batch, length, checkpointing=False, embeddings=work.embeddings
        )
        fits = StagePlan(work.stage, parts, 0.0).fits(machine.memory_gib)
        fit = Fit(micro_batch=micro_batch, checkpointing=not fits)
    elif machine.speed is not CPU_SPEED:
        fit = footprint.lowered_fit(fit, shape, machine, lora, limit, length, work.embeddings)
    rows, _ = batch_shape(work.settings.batch_sequences, fit.micro_batch or limit)
    an_epoch = work.tokens / work.settings.epochs
    parts = training_parts(
        shape, machine, lora, rows, length, checkpointing=fit.checkpointing, embeddings=work.embeddings,
        kept_tokens=an_epoch,
    )  # fmt: skip
    packed = not fit.checkpointing and is_packed_form(shape, machine, lora, embeddings=work.embeddings)
    frozen = shape.linear_parameters * (1 - min(lora.layers or shape.layers, shape.layers) / shape.layers)
    learning = shape.parameters - frozen
    forward = an_epoch if packed else work.tokens  # tokens that pass the frozen blocks
    operations = work.tokens * learning * (6.0 if fit.checkpointing else 4.0) + 2.0 * forward * frozen
    flops = PACKED_FLOPS if packed and machine.autocast else machine.speed.flops
    note = f"{rows} x {length} at once" + (", activations recomputed" if fit.checkpointing else "")
    slower = 1.5 if machine.nf4 else 1.0  # weights are unpacked for every product
    validation = 2.0 * work.validated * shape.parameters / footprint.reading_flops(shape, machine)
    seconds = (operations / flops + validation) * slower
    return StagePlan(work.stage, parts, seconds, note)


def _plan_track_c(profile: Profile, machine: Machine) -> list[StagePlan]:
    c, shape = profile.track_c, model_shape(profile.track_c.model)
    on_cpu = machine.speed is CPU_SPEED
    flops = footprint.ENCODER_FLOPS if on_cpu and machine.autocast else machine.speed.flops
    weights = 4.0 * shape.parameters  # float32 on every machine
    encode = {
        "weights": weights / GIB,
        "activations": 4.0 * c.encode_batch * c.max_tokens * shape.intermediate * 4 / GIB,
    }
    encoding = 2.0 * shape.linear_parameters * FUNCTIONS * c.max_tokens / flops
    small = 2 if machine.autocast else 4
    columns = 1 + c.hard_negatives  # documents per query
    tokens = c.batch_pairs * (columns * c.max_tokens + QUERY_TOKENS)
    trained, learning = shape.layers, shape.parameters
    if 0 < c.trained_layers < shape.layers:
        trained = c.trained_layers
        learning = trained * sum(inputs * outputs for inputs, outputs in shape.linears)
    train = {
        "weights, gradients, Adam": (weights + 12.0 * learning) / GIB,
        "activations": tokens * (trained * encoder_bytes(shape, small) + 8 * shape.hidden) / GIB,
    }
    steps = -(-c.train_pairs // c.batch_pairs) * c.epochs * c.seeds
    multiplied = min(learning, shape.linear_parameters)  # embeddings are looked up
    training = (2.0 * shape.linear_parameters + 4.0 * multiplied) * tokens * steps / flops
    return [
        StagePlan("track_c/index_before", encode, encoding, f"for about {FUNCTIONS:,} functions"),
        StagePlan("track_c/train", train, training, f"{c.batch_pairs} queries, {columns} documents each"),
        StagePlan("track_c/index_after", encode, encoding),
    ]


def _plan_completion(profile: Profile, machine: Machine) -> list[StagePlan]:
    """Plan the completions of every arm, and the choice of the retriever; nothing if there are no places."""
    from helpers.eval.completion_arms import NEW_TOKENS, TIMED
    from helpers.eval.completion_choice import SHARES
    from helpers.eval.completion_task import VALIDATION_PLACES

    places, shape = profile.completion.places, model_shape(profile.track_a.model)
    if not places:
        return []
    window, rows = profile.track_a.window, min(profile.track_b.generation_batch, places)
    room = window - min(NEW_TOKENS["block"], window // 2)
    flops = footprint.reading_flops(shape, machine)
    read = 2.0 * shape.parameters * room / flops  # seconds of one prompt
    candidates = 2 * len(SHARES) + 2  # heads and shares, then Track C's two embedders
    chosen = min(places, VALIDATION_PLACES) * candidates * read

    def step(at_once: int) -> float:
        """Return the seconds of one new token in each of the rows."""
        moved = footprint.moved_bytes(shape, machine) / machine.speed.bytes_per_s
        return max(moved, 2.0 * shape.parameters * at_once / flops) + (shape.layers * machine.speed.step_s)

    lines, blocks = (-(-some // rows) for some in (2 * places // 3, places // 3))  # batches
    steps = lines * NEW_TOKENS["next_line"] + blocks * NEW_TOKENS["block"]
    alone = TIMED * (read + sum(NEW_TOKENS.values()) / len(NEW_TOKENS) * step(1))
    an_arm = places * read + steps * step(rows) + alone
    parts = footprint.reading_parts(shape, machine) | {
        "cache": footprint.cache_bytes(shape, rows, window, machine) / GIB,
        "prompts read": _reading_bytes(shape, machine, rows, room) / GIB,
        "logits": 16.0 * rows * shape.vocabulary / GIB,
    }
    models = 1 + (profile.track_b.model != profile.track_a.model)
    arms = MODEL_ARMS + CHAT_ARMS * models * profile.completion.chat
    note = f"{places} places in {arms} arms, batches of {rows}"
    return [StagePlan("track_a/completion", parts, arms * an_arm + chosen, note)]


def encoder_bytes(shape: Shape, small: int) -> float:
    """Return the bytes per token that autograd keeps of a BERT-like block whose weights are all trained.

    These are the inputs of query, key and value (under autocast a cast copy each) and of the first MLP
    layer; attention's four tensors; the activation's input and output; the two LayerNorms' float32 inputs;
    two dropout masks of one byte. Dropout inside attention keeps nothing in fused kernels. `small` is the
    bytes of an activation's element: 2 under autocast, else 4.
    """
    h, i = shape.hidden, shape.intermediate
    casts = 3 if small < 4 else 1
    return small * (casts * h + h + 4 * h + 2 * i) + 2 * (4 * h + 8) + 2 * h + 4 * shape.heads


def plan_rows(stages: list[StagePlan], memory_gib: float) -> list[dict[str, Any]]:
    """Return table rows: stage, GiB at the peak and by part, minutes, whether it fits."""
    return [
        {
            "stage": stage.stage,
            "GiB": round(stage.peak_gib, 2),
            "of which": ", ".join(f"{name} {value:.2f}" for name, value in stage.parts.items()),
            "minutes": round(stage.seconds / 60, 1),
            "fits": "yes" if stage.fits(memory_gib) else "NO",
            "how": stage.note,
        }
        for stage in stages
    ]


def print_plan(profile: Profile, *, here: bool, micro_batch: int | None = None) -> None:
    """Print the plan as a table, for a T4 or for the machine at hand."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from helpers.machine.hardware import detect_runtime

    machine = Machine.of(detect_runtime(nf4=profile.nf4)) if here else Machine.t4(nf4=profile.nf4)
    rows = plan_rows(plan_run(profile, machine, micro_batch=micro_batch), machine.memory_gib)
    title = f"Profile {profile.name} on {machine.memory_gib:.2f} GiB; times at {machine.speed.name}"
    minutes = sum(row["minutes"] for row in rows)
    caption = f"{minutes:.0f} minutes in all; data, running code, set-up and reports take more"
    table = Table(title=Text(title), title_justify="left", caption=Text(caption), caption_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="right" if name in ("GiB", "minutes") else "left")
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row.values()))
    Console(width=150).print(table)
