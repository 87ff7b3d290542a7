"""A task whose own reference fails counts in no figure and is named in every report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from helpers.data.card.page import with_tasks_set_aside
from helpers.errors import InsufficientDataError, SuiteError
from helpers.eval import references
from helpers.records import Corpus, ResponseScore, Task
from helpers.report.display import set_aside as shown
from helpers.report.metrics import (
    MetricsError,
    assemble,
    not_run,
    recompute,
    record_track_b,
    run_section,
    validate,
    write_items,
)
from helpers.report.tables import closing_lines, print_summary, verdict_sentence
from helpers.run.workspace import write_json
from helpers.tools import verify_pairs
from helpers.tracks import whole_run
from helpers.tracks.b import held_tasks
from helpers.tracks.guards import Guards

N = 40
TASKS = [
    Task(f"task-{i:04d}", "fix_bug" if i % 4 else "explain", f"f{i}", "m.py", "do", "ref", "f", "", "assert 1", 1)
    for i in range(N)
]  # fmt: skip
RUN = run_section(
    profile="smoke", run_id="r", corpus={"spec": "path:mine", "version": "", "files": 3, "sha256": "0" * 64},
    commit="abc", seed=1, hardware={"device": "cpu"}, versions={"python": "3.11"},
    started="2026-01-01T00:00:00+00:00", seconds=61.0,
)  # fmt: skip
ABSENT = {track: not_run(track, "not asked for", "data") for track in ("track_a", "track_c")}


def score(task: Task, status: str, sample: int = 0, detail: str = "") -> ResponseScore:
    done = (task.id, task.kind, task.function_id, sample, "x", status, status == "passed")
    return ResponseScore(*done, 1.0, (), (), detail)


def scored(passing, samples: int = 2) -> list[ResponseScore]:
    return [
        score(task, "passed" if passing(i) else "failed", sample)
        for i, task in enumerate(TASKS)
        for sample in range(samples + 1)
    ]


def session(tmp_path: Path) -> SimpleNamespace:
    return SimpleNamespace(guards=Guards(tmp_path), folder=tmp_path)


def references_failing(*numbers: int) -> list[ResponseScore]:
    return [
        score(task, "failed", detail="'assert f(1) == 2': AssertionError")
        if i in numbers
        else score(task, "passed")
        for i, task in enumerate(TASKS)
    ]


def finished(tmp_path: Path, *numbers: int) -> tuple[dict, Guards]:
    """Metrics of a run whose references of these numbers failed, its rows on disk."""
    run = session(tmp_path)
    bad = references_failing(*numbers)
    kept = held_tasks(run, TASKS, bad)
    assert {task.id for task in kept} == {task.id for i, task in enumerate(TASKS) if i not in numbers}
    aside = run.guards.set_aside
    before, after = scored(lambda i: i % 3 == 0), scored(lambda i: i % 3 == 0 or i in numbers)
    rows = {"tasks": TASKS, "tasks_set_aside": aside, "scores_before": before, "scores_after": after,
            "baseline_reference": bad}  # fmt: skip
    for name, some in rows.items():
        write_items(tmp_path, f"track_b/{name}", some)
    track = record_track_b(
        before, after, TASKS, model="m", seed=1, samples=200, cost={"seconds": 1},
        baselines={"reference": bad}, set_aside=aside,
    )  # fmt: skip
    about = RUN | {"warnings": list(run.guards.warnings)}
    metrics = assemble(run=about, track_b=track, failures=[], tasks_set_aside=aside, **ABSENT)
    write_json(tmp_path / "report" / "metrics.json", metrics)
    return metrics, run.guards


# --- scoring -----------------------------------------------------------------------------------


def test_references_with_an_infrastructure_error_are_scored_again_by_every_resume(monkeypatch) -> None:
    calls: list[list[str]] = []

    def fake(tasks, responses, **scoring):
        calls.append([task.id for task in tasks])
        broken = [{"task-0001", "task-0002"}, {"task-0001"}, set()][len(calls) - 1]
        return [score(t, "infrastructure_error" if t.id in broken else "passed") for t in tasks]

    def aside(scores) -> list[tuple[str, str]]:
        return [(item.task_id, item.status) for item in references.tasks_set_aside(scores)]

    monkeypatch.setattr(references, "score_responses", fake)
    kept = references.score_references(TASKS)  # what lies on disk
    now = references.retry_infrastructure_errors(TASKS, kept)
    assert aside(now) == [("task-0001", "infrastructure_error")]
    resumed = references.retry_infrastructure_errors(TASKS, kept)
    assert aside(resumed) == []
    assert calls[1:] == 2 * [["task-0001", "task-0002"]]
    assert references.retry_infrastructure_errors(TASKS, resumed) == resumed
    assert len(calls) == 3  # nothing is run where nothing broke


def test_too_few_tasks_left_end_the_track_with_names(tmp_path: Path) -> None:
    run = session(tmp_path)
    with pytest.raises(
        InsufficientDataError,
        match=r"only 2 executable tasks are left and at least 3 .* 28 of 40 .* task-0001",
    ):
        held_tasks(run, TASKS, references_failing(*[i for i in range(N) if i % 4][:28]))
    assert len(run.guards.set_aside) == 28  # listed in metrics.json all the same


# --- reports -----------------------------------------------------------------------------------


def test_no_figure_counts_what_was_set_aside(tmp_path: Path) -> None:
    metrics, guards = finished(tmp_path, 1, 4)  # one that runs, one that does not
    track = metrics["track_b"]
    left = [i for i in range(N) if i % 4 and i != 1]
    for side in ("before", "after"):
        entry = track["metrics"]["pass@1"][side]
        assert entry["n"] == len(left)
        assert entry["value"] == pytest.approx(sum(i % 3 == 0 for i in left) / len(left))
    assert track["metrics"]["pass@2"]["after"]["n"] == len(left)
    assert track["metrics"]["checks/explain"]["after"]["n"] == 9
    assert track["baselines"]["reference"]["pass@1"] | {"ci95": 0} == {
        "value": 1.0,
        "n": len(left),
        "ci95": 0,
    }
    counts = track["data"]["counts"]
    assert (counts["tasks_made"], counts["tasks"], counts["tasks_set_aside"]) == (40, 38, 2)
    assert not guards.warnings  # 5% is no more than the limit
    assert verdict_sentence(track).startswith("Pass@1")
    assert closing_lines(metrics)[-1] == (
        "Track B: 2 of 40 tasks were set aside: their references fail here (task-0001 failed; task-0004 failed)"
    )


def test_they_are_listed_and_the_recomputation_agrees(tmp_path: Path) -> None:
    metrics, guards = finished(tmp_path, 1, 4)
    validate(metrics)
    assert metrics["schema_version"] == "1.2"
    assert metrics["tasks_set_aside"][0] == {
        "task_id": "task-0001", "kind": "fix_bug", "function": "f1", "status": "failed",
        "detail": "'assert f(1) == 2': AssertionError",
    }  # fmt: skip
    assert recompute(tmp_path) == []
    card = with_tasks_set_aside("---\na: b\n---\n\n# Card\n", metrics)
    assert card.startswith("---\na: b\n---\n\n# Card\n\n## Tasks set aside\n")
    assert "task-0001" in card
    assert "AssertionError" in card
    table = shown(guards.set_aside, N).data
    assert "task-0004" in table
    assert "f(1) == 2" in table
    assert "no task is set aside" in shown([], N)
    write_items(tmp_path, "track_b/tasks_set_aside", guards.set_aside[:1])
    assert any("tasks_set_aside" in line for line in recompute(tmp_path))


def test_above_the_limit_the_track_says_first_that_its_tests_do_not_hold(tmp_path: Path) -> None:
    metrics, _ = finished(tmp_path, 1, 4, 5)
    said = (
        "he tests do not hold on this machine: the references of 3 of 40 tasks (8%) fail their own tests here"
    )
    assert verdict_sentence(metrics["track_b"]).startswith(f"T{said}")
    assert [said in warning for warning in metrics["run"]["warnings"]] == [True]
    console = Console(record=True, width=400)
    print_summary(metrics, console)
    lines = console.export_text().splitlines()
    (place,) = [i for i, line in enumerate(lines) if said in line]
    assert lines[place].startswith("Warning: Track B: ")
    assert place > max(i for i, line in enumerate(lines) if "tuning" in line and "Warning" not in line)


def test_the_list_is_always_there_and_old_files_can_be_read(tmp_path: Path) -> None:
    metrics, _ = finished(tmp_path)
    assert metrics["tasks_set_aside"] == []
    said = with_tasks_set_aside("card", metrics)
    assert f"None: the references of all {N} tasks passed again when they were scored." in said
    lacking = {name: value for name, value in metrics.items() if name != "tasks_set_aside"}
    with pytest.raises(MetricsError, match="tasks_set_aside"):
        validate(lacking)
    validate(lacking | {"schema_version": "1.0"})


def test_verifying_the_pairs_again_reports_what_is_news(tmp_path: Path, monkeypatch) -> None:
    write_json(tmp_path / "run.json", {"profile": {"corpus": {"spec": "installed:networkx"}}})
    write_json(tmp_path / "track_b/data/report.json", {"import_folders": [], "preloaded modules": []})
    write_items(tmp_path, "track_b/tasks_set_aside", references.tasks_set_aside(references_failing(1)))
    lines = ("task-0001 (fix_bug of f1): its answer does not pass", "task-0002 (fix_bug of f2): the same")
    found = verify_pairs.PairCheck({}, 2, lines)
    monkeypatch.setattr(verify_pairs, "verify_saved_pairs", lambda *arguments, **options: found)
    assert verify_pairs.verify_run(tmp_path, workers=1).problems == lines[1:]


@pytest.mark.parametrize("name", ["run.json", "track_b/data/report.json"])
@pytest.mark.parametrize("content", [None, "", '{"profile": {', "[]", "{}", '{"profile": 3}'])
def test_verifying_a_run_whose_records_are_torn_names_them(
    tmp_path: Path, name: str, content: str | None
) -> None:
    write_json(tmp_path / "run.json", {"profile": {"corpus": {"spec": "installed:networkx"}}})
    write_json(tmp_path / "track_b/data/report.json", {"import_folders": [], "preloaded modules": []})
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_text(content)
    with pytest.raises(SuiteError, match=name):
        verify_pairs.verify_run(tmp_path, workers=1)


# --- the report as a whole -----------------------------------------------------------------------


@pytest.fixture
def whole(tmp_path: Path, monkeypatch):
    """A session with Track B recorded, as far as `suite_metrics` needs one."""
    metrics, guards = finished(tmp_path, 1)
    write_json(tmp_path / "track_b" / "section.json", metrics["track_b"])
    guards.recorded.add("track_b")
    guards.not_run |= {"track_a": "ended", "track_c": "ended"}
    monkeypatch.setattr(whole_run, "hardware_facts", lambda runtime: {"device": "cpu"})
    model = SimpleNamespace(model="m")
    profile = SimpleNamespace(name="smoke", changed=(), track_a=model, track_b=model, track_c=model)
    run = SimpleNamespace(
        guards=guards, folder=tmp_path, profile=profile, seed=1, runtime=None, seconds=1.0,
        started="2026-01-01T00:00:00", not_run=guards.not_run,
    )  # fmt: skip
    return run, Corpus("path:mine", "mine", "", "mit", "", "", (), (), "0" * 64)


def test_a_section_that_contradicts_itself_ends_its_track_alone(whole) -> None:
    run, corpus = whole
    assert whole_run.suite_metrics(run, corpus, [])["track_b"]["verdict"] != "not_run"
    file = run.folder / "track_b" / "section.json"
    file.write_text(file.read_text().replace('"no_detectable_difference"', '"improved"'))
    metrics = whole_run.suite_metrics(run, corpus, [])
    assert metrics["track_b"]["verdict"] == "not_run"
    assert "MetricsError: track_b: verdict 'improved', but the figures say" in metrics["track_b"]["reason"]
    assert len(metrics["tasks_set_aside"]) == 1


def test_a_track_that_recorded_nothing_and_a_wrong_failure_case_are_said(whole) -> None:
    run, corpus = whole
    run.guards.recorded.clear()
    metrics = whole_run.suite_metrics(run, corpus, [{"track": "track_x"}])
    assert "did not get as far as being recorded" in metrics["track_b"]["reason"]
    assert metrics["failures"] == []
    assert metrics["run"]["warnings"][-1].startswith(
        "the report lacks its failure cases, which failed: MetricsError"
    )


def test_figures_that_do_not_follow_from_their_rows_end_their_track(whole, monkeypatch) -> None:
    run, corpus = whole
    reports: list[tuple[dict, str]] = []
    run.write_report = lambda metrics, card: reports.append((metrics, card))
    monkeypatch.setattr(whole_run, "recompute", lambda folder: ["track_b.metrics.pass@1: 1 in the file, 2"])
    metrics = whole_run.finish_report(run, corpus, [], None)
    assert "1 of its figures do not follow from its per-item rows" in metrics["track_b"]["reason"]
    assert reports[-1][0] is metrics
    assert "# Data card missing" in reports[-1][1]
    assert "## Tasks set aside" in reports[-1][1]


def test_what_is_wrong_with_the_run_itself_is_no_track_s_fault(whole) -> None:
    run, corpus = whole
    with pytest.raises(MetricsError, match="sha256"):
        whole_run.suite_metrics(run, dataclasses.replace(corpus, sha256="no"), [])
