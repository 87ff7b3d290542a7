"""From what a session measured to the tracks' sections of metrics.json, by way of per-item rows.

Each `report_track_*` writes the rows that its figures are computed from beside the stages of the
run (`helpers.report.metrics.recompute` reads them back), computes the track's section from them
and keeps it as `section.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helpers.data.exposure import Exposure
from helpers.data.queries.build import RetrievalData
from helpers.data.tasks.build import InstructData
from helpers.errors import CheckError
from helpers.eval.file_scores import FileScore, paired_rows
from helpers.eval.fusion import fuse_runs, weighted_runs
from helpers.eval.hybrid import Hybrid
from helpers.eval.perplexity import unigram_bits_per_byte
from helpers.eval.planted.check import CheckedName
from helpers.eval.references import tasks_set_aside, tasks_that_hold
from helpers.eval.retrieval import (
    Run,
    file_level,
    per_query_rows,
    qrels_of,
    query_groups,
    score_measures,
)
from helpers.models.footprint import Machine
from helpers.models.shapes import ShapeError
from helpers.plan import plan_run
from helpers.records import ResponseScore, Task
from helpers.report.metrics import record_track_a, record_track_b, record_track_c, track_c_rows, write_items
from helpers.report.tables import set_aside_text
from helpers.run.workspace import digest, read_json, write_json
from helpers.settings import MINIMUM_DATA, SET_ASIDE_LIMIT
from helpers.tracks.controls_a import foreign_facts, foreign_rows, foreign_seconds
from helpers.tracks.controls_c import control_seconds, foreign_package
from helpers.tracks.session import Session

Parts = Mapping[str, Sequence[tuple[str, str]]]  # part -> (path, text) of its files


def report_track_a(
    run: Session,
    before: Sequence[FileScore],
    after: Sequence[FileScore],
    train_texts: Sequence[str],
    parts: Parts,
    tokenizer: Any,
    foreign: Sequence[FileScore] = (),
    known: Exposure | None = None,
) -> dict[str, Any]:
    """Track A's section: held-out files, roles within them, controls, the unigram baseline.

    Files whose two scores do not compare are left out with a warning. Controls and the baseline that
    fail are left out as well.

    Args:
        foreign: held-out files after training on foreign code (`measure_foreign_corpus`).
        known: what the model may have seen; files that it cannot have seen become a control.

    Raises:
        CheckError: if too few held-out files are left.
    """
    settings = run.profile.track_a
    names = sorted({row.part for row in before if row.part.startswith("role/")})
    rows = _comparable_files(run, before, after)
    compared = {row["path"] for row in rows["files"]}
    before, after = ([row for row in side if row.path in compared or row.part == "general_code"]
                     for side in (before, after))  # fmt: skip
    rows |= {f"role_{name.removeprefix('role/')}": paired_rows(before, after, name) for name in names}
    controls: dict[str, list[dict[str, Any]]] = {}
    if parts.get("general_code"):
        general = run.guards.control(
            "track_a", "the control on general code", paired_rows, before, after, "general_code", otherwise=[]
        )
        controls |= {"general_code": general} if general else {}
    foreign = [row for row in foreign if row.path in compared]
    controls |= run.guards.control(
        "track_a", "the control on a foreign corpus", foreign_rows, before, after, foreign, otherwise={}
    )
    unseen = [row for row in rows["files"] if known and row["path"] in known.unseen]
    if len(unseen) >= MINIMUM_DATA["track_a"]["test_files"]:
        controls["changed_after_cut_off"] = unseen
    rows |= {f"control_{name}": some for name, some in controls.items()}
    for name, some in rows.items():
        write_items(run.folder, f"track_a/{name}", some)
    texts = [text for _, text in parts["test"]]
    unigram = run.guards.control(
        "track_a",
        "the unigram baseline",
        unigram_bits_per_byte,
        train_texts,
        texts,
        tokenizer,
        otherwise=None,
    )
    section = record_track_a(
        rows["files"],
        model=settings.model,
        seed=run.seed,
        samples=settings.bootstrap_samples,
        cost=_cost(run, "track_a", ("before", "train", "after"))
        | {"controls_seconds": foreign_seconds(run) if foreign else {}},
        data={
            "counts": {"training_files": len(train_texts)},
            "training_sha256": digest(list(train_texts)),
            **(foreign_facts(run) if foreign else {}),
            **({"exposure": known.status, "exposure_note": known.note} if known else {}),
        },
        role_rows={
            name.removeprefix("role_"): some for name, some in rows.items() if name.startswith("role_")
        },
        control_rows=controls,
        baselines={} if unigram is None else {"unigram": unigram},
    )
    return _kept(run, "track_a", section)


def _comparable_files(
    run: Session, before: Sequence[FileScore], after: Sequence[FileScore]
) -> dict[str, list[dict[str, Any]]]:
    """Rows of the held-out files that compare, as `files`; the others are named in a warning."""
    odd: dict[str, str] = {}
    rows = paired_rows(before, after, "test", odd)
    run.guards.leave_out(
        "held-out files of Track A whose two scores do not compare",
        [f"{p} ({why})" for p, why in odd.items()],
    )
    least = MINIMUM_DATA["track_a"]["test_files"]
    if len(rows) < least:
        raise CheckError(
            f"{len(rows)} held-out files of at least {least} can be compared; left out: {'; '.join(odd)}"
        )
    return {"files": rows}


def hold_tasks(run: Session, tasks: Sequence[Task], references: Sequence[ResponseScore]) -> tuple[Task, ...]:
    """The tasks whose reference passes; the others are set aside for the whole track.

    Raises:
        InsufficientDataError: if too few are left.
    """
    run.guards.set_aside = tasks_set_aside(references)
    kept = tasks_that_hold(tasks, run.guards.set_aside)
    share = len(run.guards.set_aside) / max(len(tasks), 1)
    if share > SET_ASIDE_LIMIT:
        run.guards.warn(f"Track B: {set_aside_text(len(run.guards.set_aside), len(tasks))}")
    return kept


def report_track_b(
    run: Session,
    before: Sequence[ResponseScore],
    after: Sequence[ResponseScore],
    data: InstructData,
    baselines: Mapping[str, Sequence[ResponseScore]],
    planted: Sequence[CheckedName] = (),
) -> dict[str, Any]:
    """Track B's section from the scores of every response.

    Args:
        baselines: name -> scores of trivial answers.
        planted: what the hallucination checker said of planted names.
    """
    settings = run.profile.track_b
    aside = run.guards.set_aside
    rows = {"tasks": data.tasks, "scores_before": before, "scores_after": after, "planted_names": planted}
    rows["tasks_set_aside"] = aside
    rows |= {f"baseline_{name}": scores for name, scores in baselines.items()}
    for name, some in rows.items():
        write_items(run.folder, f"track_b/{name}", some)
    counts = {"training_pairs": len(data.train), "validation_pairs": len(data.validation)}
    stages = (
        "data",
        "references",
        "answers_before",
        "scored_before",
        "train",
        "answers_after",
        "scored_after",
    )
    section = record_track_b(
        before,
        after,
        data.tasks,
        model=settings.model,
        seed=run.seed,
        samples=settings.bootstrap_samples,
        temperature=settings.temperature,
        cost=_cost(run, "track_b", stages),
        data={
            "counts": counts,
            "training_sha256": digest(data.train),
            "repair_form": settings.repair_form,
        },
        baselines=baselines,
        planted=planted,
        set_aside=aside,
    )
    return _kept(run, "track_b", section)


def report_track_c(
    run: Session,
    data: RetrievalData,
    before: Run,
    after: Run,
    hybrid: Hybrid,
    controls: Mapping[str, Sequence[Mapping[str, Any]]],
    index_facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Track C's section: both runs over all functions, BM25 and its fusions beside them.

    Args:
        hybrid: the words of the documents and each embedder's weight for them.
        controls: from `measure_controls`.
        index_facts: from `retrieval.index_facts`.
    """
    settings = run.profile.track_c
    qrels = qrels_of(data.test)
    sides = {"before": before, "after": after}
    bm25 = hybrid.words.run(data.test)
    beside = {"bm25": bm25}
    for side, dense in sides.items():
        beside[f"bm25_and_{side}_fused"] = fuse_runs(bm25, dense)
        beside[f"bm25_and_{side}_weighted"] = weighted_runs(dense, bm25, hybrid.weight(side))
    for_a_file = [query for query in data.test if query.kind == "where_is"]
    rows = track_c_rows(
        per_query_rows(data.test, before, after),
        score_measures(before, qrels),
        score_measures(after, qrels),
        groups=query_groups(data.test, data.documents),
        baselines={name: score_measures(ranked, qrels) for name, ranked in beside.items()},
        by_file={
            side: score_measures(*file_level(ranked, for_a_file, data.documents))
            for side, ranked in sides.items()
        },
    )
    write_items(run.folder, "track_c/queries", rows)
    for name, some in (("pairs_train", data.train), ("pairs_validation", data.validation)):
        write_items(run.folder, f"track_c/{name}", some)
    counts = {
        "training_pairs": len(data.train),
        "validation_queries": len(data.validation),
        "documents": len(data.documents),
    }
    section = record_track_c(
        rows,
        model=settings.model,
        seed=run.seed,
        samples=settings.bootstrap_samples,
        cost=_cost(run, "track_c", ("index_before", "train", "index_after", "hybrid"))
        | {"index": dict(index_facts), "controls_seconds": control_seconds(run, controls)},
        data={
            "counts": counts,
            "training_sha256": digest(data.train),
            "word_weights": hybrid.chosen,
            **foreign_package(run),
        },
        control_rows=controls,
    )
    return _kept(run, "track_c", section)


def _cost(run: Session, track: str, stages: Sequence[str]) -> dict[str, Any]:
    """Seconds by stage, training speed, and measured memory of one track beside what was planned."""
    seconds = {stage: round(run.workspace.seconds_of(f"{track}/{stage}"), 3) for stage in stages}
    cost: dict[str, Any] = {"seconds": round(sum(seconds.values()), 3), "seconds_by_stage": seconds}
    history = run.history(f"{track}/train")
    for name in ("tokens_per_second", "trainable_parameters", "useful_share", "micro_batch", "accumulation",
                 "gradient_checkpointing", "frozen_weights", "lowered", "adapter_scale"):  # fmt: skip
        if name in history:
            cost[name] = history[name]
    memory = {stage: read_json(run.folder / track / stage / "memory.json") for stage in stages}
    for stage, gib in _planned_gib(run, track).items():
        memory[stage] = {"planned_gib": gib} | memory.get(stage, {})
    peak = max(one["peak_gib"] for one in memory.values() if "peak_gib" in one)
    return cost | {"peak_memory_gib": round(peak, 3), "memory_by_stage": memory}


def _planned_gib(run: Session, track: str) -> dict[str, float]:
    """Stage -> GiB of tensors that the plan gives it; nothing for models of unknown shape."""
    try:
        stages = plan_run(run.profile, Machine.of(run.runtime))
    except ShapeError:
        return {}
    mine = {stage.stage.split("/")[1]: stage for stage in stages if stage.stage.startswith(f"{track}/")}
    return {name: round(stage.peak_gib, 3) for name, stage in mine.items()}


def _kept(run: Session, track: str, section: dict[str, Any]) -> dict[str, Any]:
    write_json(run.folder / track / "section.json", section)
    run.guards.recorded.add(track)
    return section
