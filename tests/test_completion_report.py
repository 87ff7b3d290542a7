"""Completion in the run and its reports: the stage, the section, its checks, page, tables, figures, failures."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from test_completion_scores import planted
from test_tracks import Recorder

from helpers.data.card.facts import completion_report
from helpers.eval.completion_arms import CompletionResult, CompletionTask
from helpers.eval.completion_choice import ContextChoice
from helpers.eval.completion_comparison import ARMS, reach_in_words
from helpers.eval.completion_context import TrainingCode
from helpers.eval.completion_results import FOLDER, write_completion
from helpers.eval.completion_task import completion_facts
from helpers.eval.failures_completion import completion_failures
from helpers.models.footprint import CPU_SPEED, Machine
from helpers.plan import plan_run
from helpers.profiles import CPU, PROFILES, T4, RunRequest, resolve_profile
from helpers.records import CompletionItem, CompletionScore, Document
from helpers.report import plots_completion
from helpers.report.essay import completion_essay
from helpers.report.first_screen import completion_line
from helpers.report.gallery import gallery, place_evidence
from helpers.report.metrics import MetricsError, assemble, completion_again, not_run, run_section
from helpers.report.record_completion import completion_not_run, record_completion
from helpers.report.tables_completion import (
    arm_table,
    completion_doubt,
    difference_table,
    method_sentence,
    summary_cells,
)
from helpers.run.expected_seconds import expected_sections
from helpers.run.workspace import read_jsonl, write_jsonl
from helpers.settings import CompletionSettings, SettingsError
from helpers.tracks.completion import Completion

ABOUT = run_section(
    profile="smoke", run_id="smoke-1", corpus={"spec": "path:x", "version": "", "files": 1, "sha256": "0" * 64},
    commit="0", seed=3, hardware={"device": "cpu"}, versions={"python": "3"}, started="2026-01-01T00:00:00+00:00",
    seconds=1.0,
)  # fmt: skip
TRACKS = {name: not_run(name, "no data", "data") for name in ("track_a", "track_b", "track_c")}
CHOICE = ContextChoice("bm25", "comments", 0.5, 4, ({"retriever": "bm25", "nats_per_target": 9.0},))


def item_of(number, kind="next_line", target="total = add(a, b)", **flags):
    flags = {"seen": False, "cross_file": False} | flags
    return CompletionItem(str(number), kind, f"f{number % 10}.py", "python", 5, 4, 9, target, **flags)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder whose completions are planted: retrieval wins. Baselines stand beside the arms."""
    place = tmp_path_factory.mktemp("run")
    scores = planted(0.2, 0.9, 0.2, 0.9)
    scores["copy"] = [replace(score, arm="copy") for score in scores["base"]]
    kinds = {score.item_id: score.kind for score in scores["base"]}
    items = [item_of(n, kinds[str(n)]) for n in range(60)]
    task = CompletionTask(items, (), {}, (), TrainingCode({}, {}), "mine", 96)
    result = CompletionResult(scores, dict.fromkeys(ARMS, 0.25), CHOICE)
    facts = completion_facts(task, result, samples=300, seed=3, training_seconds=90.0)
    write_completion(place / FOLDER, task.items, result.scores, facts)
    return place


@pytest.fixture(scope="module")
def section(folder):
    return record_completion(folder / FOLDER, model="tiny", seed=3, samples=300, cost={"seconds": 7.0})


def test_the_section_follows_from_the_saved_rows(folder, section):
    assert section["arm_to_use"] == "base+retrieved"
    assert section["verdict"] == "improved"
    metrics = assemble(run=ABOUT, failures=[], completion=section, **TRACKS)
    assert completion_again(folder, metrics) == section
    assert metrics["schema_version"] == "1.2"
    rows = read_jsonl(folder / FOLDER / "completions.jsonl", CompletionScore)
    first = next(n for n, row in enumerate(rows) if row.arm == "base" and not row.exact_match)
    rows[first] = replace(rows[first], exact_match=True)
    kept = (folder / FOLDER / "completions.jsonl").read_text(encoding="utf-8")
    write_jsonl(folder / FOLDER / "completions.jsonl", rows)
    again = completion_again(folder, metrics)
    (folder / FOLDER / "completions.jsonl").write_text(kept, encoding="utf-8")
    assert again["arms"]["base"] != section["arms"]["base"]
    assert again["arms"]["adapted"] == section["arms"]["adapted"]


def test_the_page_says_at_how_many_places_code_was_retrieved(section):
    """The planted rows hold no retrieved code at all, so the arms with it say nothing of retrieval."""
    assert section["places"]["with_code"] == {"base+retrieved": 0, "adapted+retrieved": 0}
    assert section["answer"].endswith(" Prompts had room for retrieved code at 0 of 60 places only.")
    assert (reach_in_words(54, 60), reach_in_words(53, 60) != "") == ("", True)
    assert "had room for some at 0 of 60 places" in method_sentence(section)
    near = {**section["places"], "with_code": {"base+nearest_file": 0}}
    said = "Prompts had room for the nearest file at 0 of 60 places only."
    assert said in completion_doubt({**section, "places": near})
    assert "nearest file at" not in completion_doubt(section)


def test_the_figure_says_so_if_no_arm_is_ahead(section):
    level = dict.fromkeys(section["arms"], section["arms"]["base"])
    reading = plots_completion.arms_by_kind({**section, "arms": level}).reading
    assert reading.startswith(
        "Over all places, no arm completes a larger share exactly than untouched, 0.200."
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: s.update(arm_to_use="adapted"), "arm_to_use"),
        (lambda s: s.update(verdict="regressed"), "verdict"),
        (lambda s: s["differences"][0].update(value=0.1), "is not"),
        (lambda s: s["differences"][0].update(p_holm=0.0), "contradict"),
        (lambda s: s["arms"].pop("base"), "base"),
        (lambda s: s.pop("seconds_per_completion"), "seconds_per_completion"),
        (lambda s: s.update(note="x"), "note"),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(folder, change, why):
    wrong = record_completion(folder / FOLDER, model="tiny", seed=3, samples=300)
    change(wrong)
    with pytest.raises(MetricsError, match=why):
        assemble(run=ABOUT, failures=[], completion=wrong, **TRACKS)


def test_first_screen_tables_and_figures_show_the_sections_figures(section):
    line = completion_line({"completion": section})
    assert line["verdict"] == "use untouched + retrieved code"
    assert [share for _, share, _ in line["shares"]] == ["0.200", "0.900", "0.200", "0.900"]
    assert [chosen for *_, chosen in line["shares"]] == [False, True, False, False]
    assert "+70.0 points" in line["answer"]
    assert "took 90 s" in line["cost"]
    table = arm_table(section)
    assert list(table.index)[-1] == "most frequent next line"
    assert table["seconds"].tolist() == ["0.25"] * 4 + ["–"]
    assert len(difference_table(section)) == 6
    _, values, changes, n, verdict = summary_cells(section)
    assert (n, verdict) == ("60", line["verdict"])
    assert [text.split()[0] for text in values.split("\n")] == ["0.200", "0.900", "0.200", "0.900"]
    assert changes.split("\n")[1].startswith("+0.700, p ")
    figure = plots_completion.arms_by_kind(section)
    assert "all places: untouched 0.200, retrieved 0.900, adapted 0.200, both 0.900" in figure.get_label()
    gains = plots_completion.gains_by_group(section)
    assert "other: retrieved +0.700, adapted 0.000, both +0.700" in gains.get_label()
    assert "excludes zero for retrieved on other targets, both on other targets" in gains.reading
    essay = completion_essay(section)
    assert section["answer"].split("(")[0].strip() in BeautifulSoup(essay["result"], "html.parser").text
    assert [table["title"] for table in essay["tables"]][1].startswith("Differences")


def test_what_was_not_measured_says_why_everywhere():
    missing = completion_not_run("the setting completion.places is 0")
    assemble(run=ABOUT, failures=[], completion=missing, **TRACKS)
    assert completion_line({"completion": missing})["reason"] == "The setting completion.places is 0."
    assert completion_line({}) == {}  # files of older versions
    assert summary_cells(missing)[-1] == "not run"
    assert "completion.places is 0" in completion_essay(missing)["result"]
    for draw in (plots_completion.arms_by_kind, plots_completion.gains_by_group):
        with pytest.raises(ValueError, match="was not measured"):
            draw(missing)


TEXT = "def f(a, b):\n    total = add(a, b)\n"
UNIT = {"m.py:merge": Document("m.py:merge", "def merge(left):\n    return combine(left)\n", "m.py")}


@pytest.mark.parametrize(
    ("target", "text", "category"),
    [
        ("total = add(a, b)", "", "nothing was written"),
        ("total = add(a, b)", "total = add(a", "right, but breaks off too early"),
        ("total = add(a, b)", "total = add(a, b).x", "right, but does not stop"),
        ("total = add(a, b)", "total = add(b, a)", "has the right names, in another form"),
        ("return f(a, b)", "return f(a)", "did not take a name from the file"),
        ("return combine(a)", "return f(a)", "did not take a name from the retrieved code"),
        ("return unheard(a)", "return f(a)", "needs a name that stood nowhere before"),
        ("[1, 2]", "[2]", "wrong, with no name to tell it by"),
    ],
)
def test_a_failure_is_diagnosed_by_where_its_names_stand(target, text, category):
    place = TEXT.index("    total")
    item = replace(item_of(0, target=target), path="x.py", start=place, end=place + len(target))
    empty = planted(0.0, 0.0, 0.0, 0.0, n=1)
    wrong = replace(empty["adapted"][0], item_id=item.id, text=text, context=("m.py:merge",))
    right = replace(empty["base"][0], item_id=item.id, exact_match=True)
    scores = {"base": [right], "adapted": [wrong]}
    [failure] = completion_failures([item], scores, {"x.py": TEXT}, UNIT, "adapted")
    assert failure.category == category
    assert (failure.expected, failure.got, failure.input) == (target, text, "def f(a, b):\n")
    assert "Exactly right here: base." in failure.diagnosis
    assert "Retrieved: `m.py:merge`." in failure.diagnosis
    assert completion_failures([item], scores, {"x.py": TEXT}, UNIT, "base") == []
    page = gallery([failure], [failure], place_evidence([item])).data
    assert 'id="failure-completion-0"' in page
    assert "Completion · tune, retrieve, or both?" in page


def test_the_card_counts_the_places():
    items = [item_of(0, seen=True), item_of(1, "block", cross_file=True), item_of(2)]
    report = completion_report(items)
    assert (report["places"], report["files"], report["languages"]) == (3, 3, {"python": 3})
    assert report["by kind"]["next line"]["seen in training files"] == 1
    assert report["by kind"]["block"]["cross-file"] == 1
    assert completion_report([])["by kind"] == {}


def test_plan_and_expected_seconds_count_the_stage_within_its_budget():
    """Five minutes on a T4 by the plan, ten on two cores."""
    [planned] = [stage for stage in plan_run(T4, Machine.t4()) if stage.stage == "track_a/completion"]
    assert planned.seconds <= 300
    assert planned.fits(Machine.t4().memory_gib)
    here = Machine(8.0, 4, True, False, CPU_SPEED)
    [on_cpu] = [stage for stage in plan_run(CPU, here) if stage.stage == "track_a/completion"]
    assert on_cpu.seconds <= 600
    without = replace(CPU, completion=CompletionSettings(places=0))
    assert not [stage for stage in plan_run(without, here) if stage.stage == "track_a/completion"]
    for profile, expected in ((CPU, 1), (without, 0)):
        sections = {section.heading.partition(":")[0]: section for section in expected_sections(profile)}
        assert len(sections["Completion"].stages) == expected
        assert sections["Completion"].seconds <= 600


def test_the_number_of_places_is_a_setting():
    changed = resolve_profile(RunRequest("cpu", changed_settings=("completion.places=50",)))
    assert changed.completion.places == 50
    assert [PROFILES[name].completion.places for name in ("t4", "cpu")] == [400, 200]
    with pytest.raises(SettingsError, match="at least 6"):
        resolve_profile(RunRequest("cpu", changed_settings=("completion.places=5",)))


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """Function of a profile and what became of Tracks A and C: the steps of the notebook, and the stage's key."""
    monkeypatch.setattr("helpers.tracks.completion.display", lambda *shown: None)
    monkeypatch.setattr("helpers.tracks.completion.completion_task", lambda *a, count: task_of(count))
    found = dict.fromkeys(("embedder_before", "embedder_after"), len)
    monkeypatch.setattr("helpers.tracks.completion.embedder_searches", lambda *a: found)
    monkeypatch.setattr("helpers.tracks.completion.read_completion", lambda f: ([item_of(0)], {}, {}))

    def task_of(count):
        return CompletionTask(
            [item_of(n) for n in range(count)], (), {}, (), TrainingCode({}, {}), "mine", 96
        )

    def called(profile=CPU, missing=()):
        run = Recorder(tmp_path, profile)
        run.not_run = run.guards.not_run
        run.digests |= {f"track_{x}/train": "trained" for x in "ac"}
        for name in missing:
            run.guards.end_track(name, "no data")
        completion = Completion(run, SimpleNamespace(), (), None)
        completion.build({"training": ()})
        completion.measure()
        return run

    return called


def test_the_stage_depends_on_places_and_both_trainings(steps):
    first = steps().digests["track_a/completion"]
    assert steps().digests["track_a/completion"] == first
    fewer = replace(CPU, completion=CompletionSettings(places=20))
    assert steps(fewer).digests["track_a/completion"] != first
    assert steps(missing=["track_c"]).digests["track_a/completion"] != first  # BM25 alone
    other = replace(CPU, track_b=replace(CPU.track_b, epochs=9))
    assert steps(other).digests["track_a/completion"] == first


def test_without_track_a_or_places_it_says_why(steps):
    run = steps(missing=["track_a"])
    assert "track_a/completion" not in run.digests
    assert "that track was not run: no data" in run.guards.not_run["completion"]
    run = steps(replace(CPU, completion=CompletionSettings(places=0)))
    assert run.guards.not_run == {"completion": "the setting completion.places is 0"}
