"""From what a session measured to its reports: per-item rows, track sections, card, metrics.json.

Each `report_track_*` writes the rows that its figures are computed from beside the stages of the
run (`helpers.report.metrics.recompute` reads them back), computes the track's section from them
and keeps it as `section.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helpers.data.card import render_data_card
from helpers.data.card_facts import corpus_facts
from helpers.data.corpus import corpus_warnings, secret_counts
from helpers.data.exposure import Exposure
from helpers.data.general_code import general_code_sources
from helpers.data.instruct import InstructData
from helpers.data.masking import counted
from helpers.data.retrieval_pairs import RetrievalData
from helpers.data.splits import LeakReport
from helpers.eval.failures import select_failures, track_a_failures, track_c_failures
from helpers.eval.failures_b import track_b_failures
from helpers.eval.language_model import FileScore, paired_rows
from helpers.eval.perplexity import unigram_bits_per_byte
from helpers.eval.planted_names import CheckedName
from helpers.eval.retrieval import (
    Run,
    bm25_run,
    file_level,
    fuse_runs,
    per_query_rows,
    qrels_of,
    query_groups,
    score_measures,
)
from helpers.models.shapes import ShapeError
from helpers.plan import Machine, plan_run
from helpers.records import Corpus, Failure, Function, ResponseScore, SourceFile, Splits
from helpers.report.controls_a import foreign_facts, foreign_rows, foreign_seconds
from helpers.report.controls_c import control_seconds, foreign_package
from helpers.report.metrics import (
    assemble,
    not_run,
    record_track_a,
    record_track_b,
    record_track_c,
    run_section,
    track_c_rows,
    write_items,
)
from helpers.run_folder import code_revision
from helpers.runtime import hardware_facts, package_versions
from helpers.session import Session
from helpers.settings import MINIMUM_DATA, Profile
from helpers.workspace import digest, read_json, read_jsonl, write_json

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

    Args:
        foreign: held-out files after training on foreign code (`measure_foreign_corpus`).
        known: what the model may have seen; files that it cannot have seen become a control.
    """
    settings = run.profile.track_a
    names = sorted({row.part for row in before if row.part.startswith("role/")})
    rows = {"files": paired_rows(before, after, "test")}
    rows |= {f"role_{name.removeprefix('role/')}": paired_rows(before, after, name) for name in names}
    controls = {"general_code": paired_rows(before, after, "general_code")}
    controls |= foreign_rows(before, after, foreign)
    unseen = [row for row in rows["files"] if known and row["path"] in known.unseen]
    if len(unseen) >= MINIMUM_DATA["track_a"]["test_files"]:
        controls["changed_after_cut_off"] = unseen
    rows |= {f"control_{name}": some for name, some in controls.items()}
    for name, some in rows.items():
        write_items(run.folder, f"track_a/{name}", some)
    unigram = unigram_bits_per_byte(train_texts, [text for _, text in parts["test"]], tokenizer)
    section = record_track_a(
        rows["files"],
        model=settings.model,
        seed=run.seed,
        samples=settings.bootstrap_samples,
        cost=_cost(run, "track_a", ("before", "train", "after")) | {"controls_seconds": foreign_seconds(run)},
        data={
            "counts": {"training_files": len(train_texts)},
            "training_sha256": digest(list(train_texts)),
            **foreign_facts(run),
            **({"exposure": known.status, "exposure_note": known.note} if known else {}),
        },
        role_rows={
            name.removeprefix("role_"): some for name, some in rows.items() if name.startswith("role_")
        },
        control_rows=controls,
        baselines={"unigram": unigram},
    )
    return _kept(run, "track_a", section)


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
    rows = {"tasks": data.tasks, "scores_before": before, "scores_after": after, "planted_names": planted}
    rows |= {f"baseline_{name}": scores for name, scores in baselines.items()}
    for name, some in rows.items():
        write_items(run.folder, f"track_b/{name}", some)
    counts = {"training_pairs": len(data.train), "validation_pairs": len(data.validation)}
    stages = ("data", "answers_before", "scored_before", "train", "answers_after", "scored_after")
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
    )
    return _kept(run, "track_b", section)


def report_track_c(
    run: Session,
    data: RetrievalData,
    before: Run,
    after: Run,
    controls: Mapping[str, Sequence[Mapping[str, Any]]],
    index_facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Track C's section: both runs over all functions, BM25 and its fusions beside them.

    Args:
        controls: from `measure_controls`.
        index_facts: from `retrieval.index_facts`.
    """
    settings = run.profile.track_c
    qrels = qrels_of(data.test)
    bm25 = bm25_run(data.test, data.documents)
    beside = {
        "bm25": bm25,
        "bm25_and_before_fused": fuse_runs(bm25, before),
        "bm25_and_after_fused": fuse_runs(bm25, after),
    }
    for_a_file = [query for query in data.test if query.kind == "where_is"]
    sides = {"before": before, "after": after}
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
        cost=_cost(run, "track_c", ("index_before", "train", "index_after"))
        | {"index": dict(index_facts), "controls_seconds": control_seconds(run, controls)},
        data={"counts": counts, "training_sha256": digest(data.train), **foreign_package(run)},
        control_rows=controls,
    )
    return _kept(run, "track_c", section)


def data_card(
    run: Session,
    corpus: Corpus,
    functions: Sequence[Function],
    splits: Splits,
    leaks: LeakReport,
    files: Mapping[str, Sequence[SourceFile]],
    instruct: InstructData | None,
    retrieval: RetrievalData | None,
) -> str:
    """The data card as Markdown, from the data that this run really uses.

    The accepted and rejected files are listed whole in the run folder, `corpus/*.jsonl`.

    Args:
        files: "training", "validation", "test" -> the files that Track A drew.
        instruct, retrieval: data of Tracks B and C, None where the corpus lacks it.
    """
    profile = run.profile
    drawn = {
        name: {"files": len(some), "bytes": sum(file.n_bytes for file in some)}
        for name, some in files.items()
    }
    accepted = [{"path": f.path, "language": f.language, "sha256": f.sha256, "n_bytes": f.n_bytes,
                 "masked": counted(f.masked)} for f in corpus.files]  # fmt: skip
    write_items(run.folder, "corpus/accepted", accepted)
    write_items(run.folder, "corpus/rejected", corpus.rejected)
    lacking = {track: {"status": "not_run", "reason": reason} for track, reason in run.not_run.items()}
    facts = {
        "profile": profile.name,
        "corpus": corpus_facts(corpus, functions, splits, settings=profile.corpus, leaks=leaks),
        "language_model": lacking.get("track_a")
        or {
            "drawn": drawn,
            "standard-library tokens mixed in, per training token": profile.track_a.rehearsal_share,
            "general code, for forgetting": general_code_sources(corpus.import_name),
        },
        "instruct": lacking.get("track_b") or instruct.report,
        "retrieval": lacking.get("track_c") or retrieval.report,
        "limits": _limits(profile),
        "seeds": {"everything drawn at random derives from": run.seed},
        "models": {
            "Track A": profile.track_a.model,
            "Track B": profile.track_b.model,
            "Track C": profile.track_c.model,
        },
    }
    return render_data_card(facts)


def _limits(profile: Profile) -> list[str]:
    """Known limits that follow from the profile's choices."""
    limits = [
        "Bug repairs mark the faulty line: finding the fault is not part of the task, repairing it is.",
        "Bugs are planted, one each, by named operators; real bugs are less regular.",
        "Retrieval queries are worded from docstrings, not asked by people.",
    ]
    if profile.track_b.repair_form == "line":
        limits.append(
            "Repairs are answered by the corrected line alone, which takes the marked one's place before "
            "the tests run. That is easier than writing the whole function: these pass rates do not compare "
            "with a profile that asks for it."
        )
    return limits


def failure_cases(
    run: Session,
    files: Mapping[str, Sequence[SourceFile]],
    instruct: InstructData | None,
    retrieval: RetrievalData | None,
) -> tuple[Failure, ...]:
    """Draw the profile's number of failure cases over the tracks that ran, and keep all candidates.

    Args:
        files: as `data_card` takes them.
    """
    candidates: list[Failure] = []
    if "track_a" not in run.not_run:
        texts = {file.path: file.text for file in files["test"]}
        trained_on = [file.text for file in files["training"]]
        candidates += track_a_failures(run.items("track_a/files"), texts, trained_on)
    if "track_b" not in run.not_run:
        scores = read_jsonl(run.folder / "track_b/scores_after.jsonl", ResponseScore)
        candidates += track_b_failures(scores, instruct.tasks)
    if "track_c" not in run.not_run:
        candidates += track_c_failures(run.items("track_c/queries"), retrieval.documents)
    write_items(run.folder, "failures", candidates)
    return select_failures(candidates, run.profile.failure_cases, run.seed)


def suite_metrics(run: Session, corpus: Corpus, failures: Sequence[Failure]) -> dict[str, Any]:
    """metrics.json of this run, validated.

    Raises:
        MetricsError: naming the place that is wrong.
    """
    sections = {}
    for track, needs in MINIMUM_DATA.items():
        if reason := run.not_run.get(track):
            needed = ", ".join(f"{least} {what.replace('_', ' ')}" for what, least in needs.items())
            sections[track] = not_run(
                track, reason, f"at least {needed}", model=getattr(run.profile, track).model
            )
        else:
            sections[track] = read_json(run.folder / track / "section.json")
    corpus_section = {
        "spec": corpus.spec,
        "name": corpus.name,
        "version": corpus.version,
        "licence": corpus.licence,
        "licence_files": dict(corpus.licence_files),
        "secrets_masked": secret_counts(corpus),
        "files": len(corpus.files),
        "sha256": corpus.sha256,
    }
    return assemble(
        run=run_section(
            profile=run.profile.name,
            run_id=run.folder.name,
            corpus=corpus_section,
            commit=code_revision(),
            seed=run.seed,
            hardware=hardware_facts(run.runtime),
            versions=package_versions(),
            started=run.started,
            seconds=run.seconds,
        )
        | {"settings_changed": list(run.profile.changed), "warnings": corpus_warnings(corpus)},
        failures=failures,
        **sections,
    )


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
    return section
