"""Track B's section: intervals for counts of zero, the checker's own precision, baselines."""

import pytest

from helpers.eval.planted.name_check import CheckedName
from helpers.eval.statistics import wilson_interval
from helpers.records import ResponseScore, Task
from helpers.report.metrics import _again_b, write_items
from helpers.report.record_b import checker_entry, record_track_b
from helpers.report.tables import baseline_table, checker_table, metric_table

N = 8


def tasks():
    return [
        Task(
            f"t{i}", "fix_bug" if i % 2 else "implement", f"f{i}", "m.py", "do", "ref", "f", "", "assert 1", 1
        )
        for i in range(N)
    ]


def scores(passed, samples=3, kind=None, **fields):
    values = {"style": 1.0, "style_findings": (), "invented_names": ()} | fields
    return [
        ResponseScore(
            task.id, kind or task.kind, task.function_id, sample, "x", "passed" if passed(i, sample) else "failed",
            passed(i, sample), **values,
        )
        for i, task in enumerate(tasks())
        for sample in range(samples + 1)
    ]  # fmt: skip


def section(before, after, **options):
    return record_track_b(
        before,
        after,
        tasks(),
        model="m",
        seed=1,
        samples=200,
        cost={"seconds": 1},
        temperature=0.6,
        **options,
    )


def test_zero_hits_still_have_an_upper_bound():
    never = scores(lambda i, sample: False)
    metrics = section(never, never)["metrics"]
    upper = wilson_interval(0, N)[1]
    for name in ("pass@1", "pass@1_sampled", "pass@3", "hallucination_rate"):
        for side in ("before", "after"):
            assert metrics[name][side]["value"] == 0.0
            assert metrics[name][side]["ci95"] == pytest.approx([0.0, upper])
        assert metrics[name]["delta"]["ci95"] == pytest.approx([-upper, upper])
    assert metrics["style"]["after"]["ci95"] == pytest.approx([1 - upper, 1.0])
    half = wilson_interval(0, N // 2)[1]  # of one kind there are half as many functions
    assert metrics["pass@2/fix_bug"]["before"]["ci95"] == pytest.approx([0.0, half])


def test_intervals_of_varying_scores_are_unchanged():
    some = scores(lambda i, sample: i % 4 == 0 and sample != 2)
    entry = section(scores(lambda i, sample: False), some)["metrics"]["pass@2"]
    low, high = entry["after"]["ci95"]
    assert 0.0 <= low < entry["after"]["value"] < high < 1.0
    # unbiased: of 3 samples 2 pass, so that no pair of them fails; a quarter of the tasks
    assert entry["after"]["value"] == pytest.approx(0.25)
    assert "3 samples each at temperature 0.6" in entry["unit"]


def test_greedy_pass_at_1_names_its_discordant_pairs():
    before = scores(lambda i, sample: i == 0)
    after = scores(lambda i, sample: i in (1, 2, 3))
    entry = section(before, after)["metrics"]["pass@1"]
    assert entry["delta"]["test"].startswith("exact McNemar, 3 to 1 discordant")
    assert entry["delta"]["p_value"] == pytest.approx(0.625)  # 2 * (1 + 4) / 16


def test_baselines_are_reported_by_kind_too():
    given = scores(lambda i, sample: i % 2 == 1, samples=0, style=0.5)
    track = section(scores(lambda i, s: False), scores(lambda i, s: True), baselines={"copy_input": given})
    copied = track["baselines"]["copy_input"]
    assert copied["pass@1"]["value"] == 0.5
    assert (copied["pass@1/fix_bug"]["value"], copied["pass@1/implement"]["value"]) == (1.0, 0.0)
    assert copied["pass@1/implement"]["ci95"][1] == pytest.approx(wilson_interval(0, N // 2)[1])
    assert copied["style"] == {"value": 0.5, "n": N}
    table = baseline_table(track, ["style", "no such metric"])
    assert list(table.index) == ["before adaptation", "after adaptation", "copy input"]
    assert table.iloc[2, 1] == "0.500"


def test_the_checkers_own_figures():
    checked = [CheckedName("bodies", f"n{i}", i < 10, i >= 9, "") for i in range(30)]
    entry = checker_entry(checked)
    assert entry["precision"] == {"value": pytest.approx(20 / 21), "n": 21,
                                  "ci95": pytest.approx(list(wilson_interval(20, 21)))}  # fmt: skip
    assert (entry["recall"]["value"], entry["recall"]["n"]) == (1.0, 20)
    assert (entry["real_names"], entry["fake_names"]) == (10, 20)
    assert entry["false_alarms"] == ["bodies: n9"]
    track = section(scores(lambda i, s: False), scores(lambda i, s: True), planted=checked)
    assert track["controls"]["hallucination_checker"] == entry
    assert "0.952 [" in checker_table(track).iloc[0, 0]
    assert checker_table({"controls": {}}).empty


def test_a_saved_run_gives_the_same_section_again(tmp_path):
    checked = [CheckedName("bodies", f"n{i}", i < 10, i >= 9, "x = 1\n") for i in range(30)]
    before, after = scores(lambda i, s: i == 0), scores(lambda i, s: i < 5)
    track = section(before, after, planted=checked, baselines={"copy_input": before})
    rows = {"scores_before": before, "scores_after": after, "tasks": tasks(), "planted_names": checked}
    for name, some in (rows | {"baseline_copy_input": before}).items():
        write_items(tmp_path, f"track_b/{name}", some)
    again = _again_b(
        tmp_path / "track_b", track, {"model": "m", "seed": 1, "samples": 200, "cost": {"seconds": 1}}
    )
    for part in ("metrics", "controls", "baselines", "verdict"):
        assert again[part] == track[part]


def test_generated_tests_have_a_mutation_score():
    weak, strong = (
        scores(lambda i, s: False, samples=0, kind="unit_tests", killed_mutants=share) for share in (0.0, 0.5)
    )
    others = [Task("e", "implement", "g", "m.py", "do", "ref", "f", "", "assert 1", 1)]
    one = [ResponseScore("e", "implement", "g", 0, "x", "failed", False, None, (), ())]
    track = record_track_b(
        [*weak, *one], [*strong, *one], [*tasks_of_tests(), *others], model="m", seed=1, samples=200,
        cost={"seconds": 1},
    )  # fmt: skip
    entry = track["metrics"]["mutation_score/unit_tests"]
    assert (entry["before"]["value"], entry["after"]["value"]) == (0.0, 0.5)
    assert entry["before"]["ci95"][1] > 0.2
    assert "[0.000,\N{NO-BREAK SPACE}0." in metric_table(track).loc["mutation score · unit tests", "Before"]


def tasks_of_tests():
    return [Task(f"t{i}", "unit_tests", f"f{i}", "m.py", "do", "ref", "f", "", "", 1) for i in range(N)]
