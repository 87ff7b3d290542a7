"""The lab's own problems: the grader's forward passes agree with the scripts, and its counts with hand-made ones."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import nbformat
import numpy as np
import pytest

from helpers.bootstrap import suite_file
from helpers.profiling_lab.example_grades import grade_examples
from helpers.profiling_lab.grade_text import grade_lines
from helpers.profiling_lab.problem import load_problem, problem_names
from helpers.profiling_lab.slow_profile import call_tree, profile_slow_training

ROWS = {"numpy": 200, "torch": 200, "pipeline": 300, "suite": 40}
REFERENCE = {name: next((load_problem(name).folder / "references").glob("*.py")) for name in problem_names()}


@pytest.fixture(scope="module")
def trained() -> dict:
    """Data, result and report of each problem's reference, trained on few rows."""
    found = {}
    for name, path in REFERENCE.items():
        data = load_problem(name).task.draw(3, ROWS[name], 4)
        found[name] = (data, *runpy.run_path(str(path), run_name="reference")["train"](data, 5))
    return found


@pytest.mark.parametrize("name", problem_names())
def test_the_graders_forward_pass_gives_the_figure_that_the_script_reports(name, trained) -> None:
    problem, (data, result, report) = load_problem(name), trained[name]
    assert problem.task.check_shapes(result, data, 5) == ""
    held_out = problem.task.test_examples(result, data, 5)
    assert problem.task.quality(result, held_out) == pytest.approx(report[problem.figure], abs=1e-5)
    assert "seed gives" in problem.task.check_shapes(result, data, 6)
    assert "lacks" in problem.task.check_shapes({}, data, 5)
    wrong = {key: value[:1] for key, value in result.items()}
    assert problem.task.check_shapes(wrong, data, 5)


@pytest.mark.parametrize("name", problem_names())
def test_equal_seeds_draw_equal_examples_and_another_task_other_classes(name) -> None:
    task = load_problem(name).task
    one, same, other, next_task = (
        task.draw(*seeds) for seeds in ((1, 30, 2), (1, 30, 2), (1, 30, 3), (2, 30, 2))
    )
    assert all(np.array_equal(one[key], same[key]) for key in one)
    assert any(one[key].shape != other[key].shape or (one[key] != other[key]).any() for key in one)
    assert any(one[key].shape != next_task[key].shape or (one[key] != next_task[key]).any() for key in one)


def test_weights_of_one_task_are_at_chance_on_another(trained) -> None:
    """So a model that was trained beforehand, or kept from another grading, does not pass."""
    for name, chance in (("numpy", 1 / 6), ("torch", 1 / 2), ("pipeline", 1 / 3)):
        problem, (_, result, _) = load_problem(name), trained[name]
        scores = [problem.task.quality(result, problem.task.draw(task, 500, 1)) for task in range(10, 16)]
        assert abs(np.mean(scores) - chance) < 0.15, (name, scores)


@pytest.mark.parametrize("name", ["numpy", "pipeline", "suite"])
def test_components_of_slow_script_and_reference_do_what_the_grader_expects(name) -> None:
    problem = load_problem(name)
    cases = problem.task.component_cases(problem.task.draw(1, 12, 2))
    assert cases
    for path in (problem.baseline, REFERENCE[name]):
        script = runpy.run_path(str(path), run_name="submission")
        for function, (arguments, expected) in cases.items():
            assert np.allclose(script[function](*arguments), expected, rtol=1e-6, atol=1e-9)


def test_a_replayed_forest_shows_what_was_not_grown(trained) -> None:
    data, result, _ = trained["numpy"]
    check = load_problem("numpy").task.check_work
    assert check(result, data, 5, None) == ""
    nodes = int(result["tree_nodes"][0])
    per_node = ("feature", "threshold", "left", "right", "counts")
    fewer = result | {key: result[key][nodes:] for key in per_node} | {"tree_nodes": result["tree_nodes"][1:]}
    assert check(fewer, data, 5, None) == "the forest has 11 trees, required are 12"
    assert "not that of the training rows" in check(result | {"mean": result["mean"] + 1}, data, 5, None)
    assert "was not grown on its bootstrap sample" in check(
        result | {"threshold": result["threshold"] + 1}, data, 5, None
    )
    stump = result | {"left": np.full_like(result["left"], -1), "right": np.full_like(result["right"], -1)}
    assert check(stump, data, 5, None)
    loop = result | {"left": np.zeros_like(result["left"]), "right": np.zeros_like(result["right"])}
    assert "does not lead every example to a leaf" in check(loop, data, 5, None)


def seen_of(inputs: np.ndarray, trained: np.ndarray | None = None) -> dict[str, np.ndarray]:
    flags = np.ones(len(inputs), dtype=bool) if trained is None else trained
    return {"inputs": inputs, "trained": flags, "optimizers": np.array(["Adam"])}


def test_every_row_counts_as_often_as_a_gradient_came_back_through_it(trained) -> None:
    data, result, _ = trained["torch"]
    task = load_problem("torch").task
    rows = data["inputs"][task.split(200, 5)[0]]
    whole = np.tile(rows, (20, 1))
    assert task.check_work(result, data, 5, seen_of(whole)) == ""
    assert "160 of 160" in task.check_work(result, data, 5, seen_of(np.tile(rows, (19, 1))))
    skipped = np.ones(len(whole), dtype=bool)
    skipped[0] = False
    assert "1 of 160" in task.check_work(result, data, 5, seen_of(whole, skipped))
    assert "1 of 3,201" in task.check_work(result, data, 5, seen_of(np.vstack([whole, rows[:1] + 1])))
    other = seen_of(whole) | {"optimizers": np.array(["SGD"])}
    assert "must be torch.optim.Adam" in task.check_work(result, data, 5, other)


def test_rows_of_features_are_matched_within_their_rounding(trained) -> None:
    match = load_problem("pipeline").task.match_rows
    expected = np.random.default_rng(0).normal(size=(50, 12))
    counts, strange = match(expected, np.vstack([expected + 1e-4, expected[:3], expected[:2] + 0.1]))
    assert strange == 2
    assert list(counts[:4]) == [2, 2, 2, 1]
    assert match(expected, np.zeros((4, 3))) == (pytest.approx(np.zeros(50)), 4)


def test_targets_count_whatever_batches_they_came_in(trained) -> None:
    data, result, _ = trained["suite"]
    task = load_problem("suite").task
    texts, (rows, _) = task.tokens_of(data), task.split(40, 5)
    once = np.concatenate([texts[row][:-1] for row in rows])[:, None].astype(float)
    assert task.check_work(result, data, 5, seen_of(np.tile(once, (3, 1)))) == ""
    assert "were not trained on" in task.check_work(result, data, 5, seen_of(np.tile(once, (2, 1))))
    assert "were trained on" in task.check_work(result, data, 5, seen_of(np.tile(once, (4, 1))))


def test_tokens_are_the_longest_pieces_that_fit() -> None:
    pieces = np.array([[97, 0], [98, 0], [97, 98]], dtype=np.uint8)
    data = {"text": np.frombuffer(b"abba", dtype=np.uint8), "starts": np.array([0, 3, 4]), "pieces": pieces}
    assert [list(ids) for ids in load_problem("suite").task.tokens_of(data)] == [[3, 2], [1]]


def test_the_flame_graph_nests_calls_within_their_callers() -> None:
    frames = call_tree(profile_slow_training(load_problem("numpy"), rows=15))
    assert (frames[0].name, frames[0].width) == ("train", 1.0)
    assert {"extract_features", "contrasts", "fit"} <= {frame.name for frame in frames}
    for frame in frames:
        assert 0 <= frame.start <= frame.start + frame.width <= 1 + 1e-6


def test_one_cheat_of_the_cheapest_problem_is_graded_for_real() -> None:
    (found,) = grade_examples("numpy", names=["fewer trees"])
    assert found.as_expected, grade_lines(found.grade)


def test_the_notebook_is_prose_and_short_cells() -> None:
    source = nbformat.read(suite_file("labs/Training_Loop_Profiling.ipynb"), as_version=4)
    nbformat.validate(source)
    code = [cell for cell in source.cells if cell.cell_type == "code"]
    prose = [cell for cell in source.cells if cell.cell_type == "markdown"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    lengths = sorted(len([line for line in cell.source.splitlines() if line.strip()]) for cell in code)
    assert lengths[-1] <= 25
    assert lengths[len(lengths) // 2] <= 10
    assert len(prose) >= 0.75 * len(code)
    for cell in code:
        kinds = {type(node).__name__ for node in ast.walk(ast.parse(cell.source))}
        assert not kinds & {"ClassDef", "FunctionDef", "While", "Try"}
    for cell in source.cells:
        assert not re.search(r"(?<![\w:/.])/(?:home|root|content|tmp|usr|mnt)/", cell.source)
    headings = [line[3:] for cell in prose for line in cell.source.splitlines() if line.startswith("## ")]
    assert headings == [
        "Setup", "Profile first", "One change at a time", "How fast could it get?", "References and cheats",
        "A language model at work",
    ]  # fmt: skip
    assert Path(suite_file("labs/problems/README.md")).is_file()
