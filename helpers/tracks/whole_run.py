"""Reports on the whole run: data card, failure cases, and metrics.json from the tracks' sections."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from IPython.display import HTML, Markdown

from helpers.code.functions import functions_left_out
from helpers.code.secrets import count_kinds
from helpers.data.card.data_sets import data_set_facts
from helpers.data.card.facts import (
    bias_rows,
    completion_report,
    corpus_facts,
    data_hashes,
    regenerating_command,
)
from helpers.data.card.page import FACTS, DataCardFacts, missing_card, render_data_card, with_tasks_set_aside
from helpers.data.corpus import corpus_warnings, secret_counts
from helpers.data.general_code import general_code_sources
from helpers.data.leaks import LeakReport
from helpers.data.queries.retrieval_data import RetrievalData
from helpers.data.tasks.instruct_data import InstructData
from helpers.data.tasks.rehearsal import rehearsal_report
from helpers.eval.completion_results import FOLDER, ITEMS
from helpers.eval.failures import select_failures, track_a_failures, track_c_failures
from helpers.eval.failures_b import track_b_failures
from helpers.eval.planted_secrets.secret_check import check_facts, check_secrets
from helpers.eval.statistics import proportion
from helpers.machine.hardware import hardware_facts, package_versions
from helpers.models.gguf.sources import FILE, described_name
from helpers.paths import expanded
from helpers.profiles import PROFILES
from helpers.records import CompletionItem, Corpus, Failure, Function, ResponseScore, SourceFile, Splits, Task
from helpers.report import display as show
from helpers.report import plots, tables
from helpers.report.gallery import Evidence, answer_evidence, gallery, place_evidence, query_evidence
from helpers.report.metrics import MetricsError, assemble, not_run, recompute, run_section, write_items
from helpers.report.record_completion import completion_not_run
from helpers.report.tables_completion import TITLE as COMPLETION_TITLE
from helpers.report.tables_completion import completion_sentences
from helpers.run.folder import code_revision
from helpers.run.workspace import read_json, read_jsonl, write_json
from helpers.settings import MINIMUM_DATA, Profile
from helpers.tracks.completion import PLACES, Completion
from helpers.tracks.guards import track_title
from helpers.tracks.session import Session


def data_card(
    run: Session,
    corpus: Corpus,
    functions: Sequence[Function],
    splits: Splits,
    leaks: LeakReport,
    files: Mapping[str, Sequence[SourceFile]] | None,
    instruct: InstructData | None,
    retrieval: RetrievalData | None,
) -> str:
    """Render the data card as Markdown, from the data that this run really uses.

    The run folder lists all accepted and rejected files and the functions left out, in `corpus/*.jsonl`, and
    keeps the facts that the card is rendered from.

    Args:
        files: "training", "validation", "test" -> the files that Track A drew.
        instruct, retrieval: data of Tracks B and C.

    What a track could not make is None; the card then gives the reason.
    """
    profile = run.profile
    drawn = {
        name: {"files": len(some), "bytes": sum(file.n_bytes for file in some)}
        for name, some in (files or {}).items()
    }
    accepted = [{"path": f.path, "language": f.language, "sha256": f.sha256, "n_bytes": f.n_bytes,
                 "masked": count_kinds(f.masked)} for f in corpus.files]  # fmt: skip
    write_items(run.folder, "corpus/accepted", accepted)
    write_items(run.folder, "corpus/rejected", corpus.rejected)
    write_items(run.folder, "corpus/functions_left_out", functions_left_out(corpus))
    _save_data(run, files, retrieval)
    lacking = {track: {"status": "not_run", "reason": reason} for track, reason in run.not_run.items()}
    facts: DataCardFacts = {
        "profile": profile.name,
        "corpus": corpus_facts(corpus, functions, splits, settings=profile.corpus, leaks=leaks),
        "data_sets": data_set_facts(run.folder),
        "verification": _verification(instruct),
        "biases": bias_rows(functions, _functions_behind(instruct, retrieval)),
        "secret_check": check_facts(check_secrets(seed=run.seed)),
        "language_model": lacking.get("track_a")
        or {
            "drawn": drawn,
            "standard-library tokens mixed in, per training token": profile.track_a.rehearsal_share,
            "general code, for forgetting": general_code_sources(corpus.import_name),
        },
        "instruct": lacking.get("track_b") or instruct.report | rehearsal_report(run.profile.track_b),
        "retrieval": lacking.get("track_c") or retrieval.report,
        "completion": lacking.get("completion") or completion_report(_places(run)),
        "command": regenerating_command(
            profile.name, corpus.spec, run.seed, [*_given(profile), *profile.changed]
        ),
        "hashes": data_hashes(run.folder),
        "limits": _limits(profile),
        "seeds": {"everything drawn at random derives from": run.seed},
        "models": {track_title(t): described_name(getattr(profile, t).model) for t in MINIMUM_DATA},
    }
    write_json(run.folder / FACTS, facts)
    return render_data_card(read_json(run.folder / FACTS))


def _save_data(
    run: Session, files: Mapping[str, Sequence[SourceFile]] | None, retrieval: RetrievalData | None
) -> None:
    """Save the texts of Track A and the queries and documents of Track C; the others saved their own data."""
    for split, some in (files or {}).items():
        name = {"training": "train"}.get(split, split)
        rows = [{"path": f.path, "language": f.language, "sha256": f.sha256, "text": f.text} for f in some]
        write_items(run.folder, f"track_a/data/{name}", rows)
    if retrieval is not None:
        for name in ("train", "validation", "test", "documents"):
            write_items(run.folder, f"track_c/data/{name}", getattr(retrieval, name))


def _places(run: Session) -> list[CompletionItem]:
    return read_jsonl(run.folder / f"{PLACES}.jsonl", CompletionItem)


def _verification(instruct: InstructData | None) -> list[dict[str, Any]]:
    """Return how many of the functions that were run could be verified, by side and in all."""
    if instruct is None:
        return []
    sides = list(dict.fromkeys(row["side"] for row in instruct.ran))
    found = {
        side: [row["outcome"] == "verified" for row in instruct.ran if row["side"] == side] for side in sides
    }
    found["all"] = [passed for outcomes in found.values() for passed in outcomes]
    rows = []
    for side, outcomes in found.items():
        if outcomes:
            rate = proportion(outcomes)
            rows.append({
                "functions run": side, "n": rate.n, "verified": sum(outcomes), "rate": round(rate.value, 4),
                "95% interval": f"{rate.ci95[0]:.4f} to {rate.ci95[1]:.4f}",
            })  # fmt: skip
    return rows


def _functions_behind(instruct: InstructData | None, retrieval: RetrievalData | None) -> dict[str, list[str]]:
    """Return name of a data set -> ids of the functions that its items are about."""
    behind = {}
    if instruct is not None:
        behind["instruction pairs"] = [p.function_id for p in (*instruct.train, *instruct.validation)]
        behind["tasks"] = [task.function_id for task in instruct.tasks]
    if retrieval is not None:
        queries = (*retrieval.train, *retrieval.validation, *retrieval.test)
        behind["queries"] = [next(iter(query.relevant)) for query in queries]
    return behind


def _given(profile: Profile) -> list[str]:
    """Return NAME=VALUE for models, language and benchmarks that differ from the profile's own.

    Of paths, only the last part is given: what lies above is this machine's.
    """
    own = PROFILES.get(profile.name, profile)
    given = []
    for track, name in (("track_a", "model"), ("track_b", "model"), ("track_c", "model"),
                        ("track_b", "language"), ("track_b", "benchmarks")):  # fmt: skip
        value = getattr(getattr(profile, track), name)
        if value != getattr(getattr(own, track), name):
            places = [value] if isinstance(value, str) else value
            shown = [
                f"{FILE}{Path(one).name}" if one.startswith(FILE) else
                Path(one).name if os.path.exists(expanded(one)) else one for one in places
            ]  # fmt: skip
            given.append(f"{track}.{name}={'|'.join(shown)}")
    return [
        one for one in given if not any(c.startswith(f"{one.partition('=')[0]}=") for c in profile.changed)
    ]


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
    else:
        limits.append(
            "Repairs are answered by the whole function. Where one sentence can, it says first what the "
            "marked line must be; only the function is run."
        )
    limits.append(
        "A function to write is asked for by its signature and what its docstring says, and tested by what "
        "its authors wrote. Where such tests are too few, answers recorded from the function are used; these "
        "can ask for what the docstring leaves open. Each task says whose tests it has."
    )
    return limits


def failure_cases(
    run: Session,
    files: Mapping[str, Sequence[SourceFile]] | None,
    instruct: InstructData | None,
    retrieval: RetrievalData | None,
    completion: Completion | None = None,
) -> tuple[Failure, ...]:
    """Draw the profile's number of failure cases over the tracks that ran, and keep all candidates.

    A track whose failures cannot be diagnosed is left out with a warning.

    Args:
        files: as `data_card` takes them.
        completion: its steps, once it has been measured.
    """
    finders = {
        "track_a": lambda: track_a_failures(
            run.items("track_a/files"),
            {file.path: file.text for file in files["test"]},
            [file.text for file in files["training"]],
        ),
        "track_b": lambda: track_b_failures(
            read_jsonl(run.folder / "track_b/scores_after.jsonl", ResponseScore), instruct.tasks
        ),
        "track_c": lambda: track_c_failures(run.items("track_c/queries"), retrieval.documents),
        **({} if completion is None else {"completion": completion.failures}),
    }
    candidates: list[Failure] = []
    for track, find in finders.items():
        if track not in run.not_run:
            candidates += run.guards.part(f"failure cases of {track_title(track)}", find, otherwise=[])
    write_items(run.folder, "failures", candidates)
    return select_failures(candidates, run.profile.failure_cases, run.seed)


def failure_gallery(run: Session, cases: Sequence[Failure]) -> HTML | str:
    """Show the drawn cases under a table of all failures, with what the run's rows say of each item."""
    folder = run.folder
    evidence: dict[tuple[str, str], Evidence] = {}
    if "track_b" in run.guards.recorded:
        scores = read_jsonl(folder / "track_b/scores_after.jsonl", ResponseScore)
        evidence |= answer_evidence(scores, read_jsonl(folder / "track_b/tasks.jsonl", Task))
    if "track_c" in run.guards.recorded:
        evidence |= query_evidence(run.items("track_c/queries"))
    if "completion" in run.guards.recorded:
        evidence |= place_evidence(read_jsonl(folder / FOLDER / ITEMS, CompletionItem))
    return gallery(cases, read_jsonl(folder / "failures.jsonl", Failure), evidence)


def finish_report(
    run: Session, corpus: Corpus, failures: Sequence[Failure], card: str | None
) -> dict[str, Any]:
    """Write metrics.json and the data card into the run folder, and recompute every figure.

    A track whose figures do not follow from its rows ends as `not_run`.

    Args:
        card: from `data_card`; None if it could not be made.
    """
    metrics = suite_metrics(run, corpus, failures)
    run.write_report(metrics, "")
    differing: dict[str, list[str]] = {}
    for line in recompute(run.folder):
        differing.setdefault(line.partition(".")[0].partition(":")[0], []).append(line)
    for track, lines in differing.items():
        run.guards.end_track(
            track,
            f"{len(lines)} of its figures do not follow from its per-item rows, e.g. {lines[0]}. "
            "Its stages are kept; run the same command again without --resume",
        )
    if differing:
        metrics = suite_metrics(run, corpus, failures)
    card = card or missing_card(run.guards.missing.get("data card", "no reason was kept"))
    run.write_report(metrics, with_tasks_set_aside(card, metrics))
    for line in tables.closing_lines(metrics):
        print(f"Warning: {line}")
    return metrics


def show_summary(run: Session, metrics: dict[str, Any]) -> None:
    """Show every track's primary metric before and after, their changes, and what was found, in words."""
    run.guards.show("summary table", lambda: show.table(tables.summary_table(metrics)))
    run.guards.draw(plots.delta_forest, metrics)
    run.guards.show("changes of the primary metrics", lambda: Markdown(tables.verdict_sentences(metrics)))
    said = completion_sentences(metrics["completion"])
    run.guards.show("answer on completion", lambda: Markdown(f"**{COMPLETION_TITLE}** {said}"))


def show_cost(run: Session, metrics: dict[str, Any]) -> None:
    """Show seconds, speed and memory of the three tracks."""
    run.guards.draw(plots.cost_bars, metrics)
    run.guards.show("cost table", lambda: show.table(tables.cost_table(metrics)))


def suite_metrics(run: Session, corpus: Corpus, failures: Sequence[Failure]) -> dict[str, Any]:
    """Assemble and validate metrics.json of this run.

    A track whose section is missing or contradicts itself ends as `not_run`, and failure cases that
    do not follow the schema are left out, each with its reason.

    Raises:
        MetricsError: if the section on the run itself is wrong; nothing can be published then.
    """
    about = run_section(
        profile=run.profile.name,
        run_id=run.folder.name,
        corpus={
            "spec": corpus.spec,
            "name": corpus.name,
            "version": corpus.version,
            "licence": corpus.licence,
            "licence_files": dict(corpus.licence_files),
            "secrets_masked": secret_counts(corpus),
            "files": len(corpus.files),
            "sha256": corpus.sha256,
        },
        commit=code_revision(),
        seed=run.seed,
        hardware=hardware_facts(run.runtime),
        versions=package_versions(),
        started=run.started,
        seconds=run.seconds,
    ) | {"settings_changed": list(run.profile.changed), "warnings": []}
    without: dict[str, Any] = {track: _not_run(run, track, "not looked at") for track in MINIMUM_DATA}
    assemble(run=about, failures=[], **without)  # from here on a contradiction is a track's own
    sections = {track: _section_of(run, track, about, without) for track in MINIMUM_DATA}
    try:
        assemble(run=about, failures=failures, **without)
    except MetricsError as error:
        run.guards.fail_part("failure cases", error)
        failures = ()
    about["warnings"] = [*corpus_warnings(corpus), *run.guards.warnings]
    return assemble(
        run=about, failures=failures, tasks_set_aside=run.guards.set_aside,
        completion=_completion_section(run, about, without), **sections,
    )  # fmt: skip


def _section_of(
    run: Session, track: str, about: Mapping[str, Any], without: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the section that the track recorded in this run, or one with the reason why there is none."""
    if track not in run.not_run and track not in run.guards.recorded:
        run.guards.end_track(track, "it did not get as far as being recorded; run the cells in order")
    if track not in run.not_run:
        try:
            section = read_json(run.folder / track / "section.json")
            assemble(run=about, failures=[], **{**without, track: section})
            return section
        except (MetricsError, OSError, ValueError) as error:
            run.guards.recorded.discard(track)
            run.guards.fail_track(track, error)
    return _not_run(run, track, run.not_run[track])


def _completion_section(run: Session, about: Mapping[str, Any], without: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section on completion that this run recorded, or one with the reason why there is none."""
    if "completion" not in run.guards.recorded:
        return completion_not_run(run.not_run.get("completion", "its cells were not run"))
    try:
        section = read_json(run.folder / "completion" / "section.json")
        assemble(run=about, failures=[], completion=section, **without)
        return section
    except (MetricsError, OSError, ValueError) as error:
        run.guards.recorded.discard("completion")
        run.guards.fail_track("completion", error)
        return completion_not_run(run.not_run["completion"])


def _not_run(run: Session, track: str, reason: str) -> dict[str, Any]:
    needed = ", ".join(f"{least} {what.replace('_', ' ')}" for what, least in MINIMUM_DATA[track].items())
    return not_run(track, reason, f"at least {needed}", model=getattr(run.profile, track).model)
