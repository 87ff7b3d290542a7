"""What a run reports as a whole: data card, failure cases, and metrics.json from the tracks' sections.

The sections come from `helpers.report.recording`, the rows that the failure cases are drawn from as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helpers.data.card import render_data_card
from helpers.data.card_facts import corpus_facts
from helpers.data.corpus import corpus_warnings, secret_counts
from helpers.data.general_code import general_code_sources
from helpers.data.instruct import InstructData
from helpers.data.masking import counted
from helpers.data.retrieval_pairs import RetrievalData
from helpers.data.splits import LeakReport
from helpers.eval.failures import select_failures, track_a_failures, track_c_failures
from helpers.eval.failures_b import track_b_failures
from helpers.records import Corpus, Failure, Function, ResponseScore, SourceFile, Splits
from helpers.report.metrics import assemble, not_run, run_section, write_items
from helpers.run_folder import code_revision
from helpers.runtime import hardware_facts, package_versions
from helpers.session import Session
from helpers.settings import MINIMUM_DATA, Profile
from helpers.workspace import read_json, read_jsonl


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
