"""The notebook's source: prose and short cells, no outputs, nothing that belongs in `helpers/`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = nbformat.read(ROOT / "ML_Assignment_Part2.ipynb", as_version=4)
CODE = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]
PROSE = [cell for cell in NOTEBOOK.cells if cell.cell_type == "markdown"]


def test_committed_without_outputs() -> None:
    nbformat.validate(NOTEBOOK)
    assert all(not cell.outputs and cell.execution_count is None for cell in CODE)
    assert "widgets" not in NOTEBOOK.metadata


def test_sections_stand_in_order() -> None:
    headings = [line[3:] for cell in PROSE for line in cell.source.splitlines() if line.startswith("## ")]
    assert headings == [
        "Setup", "Corpus and data card", "Track A: extended pretraining", "Track B: instruction tuning",
        "Track C: embedding tuning", "Completion: tune, retrieve, or both?", "Error analysis", "Summary",
    ]  # fmt: skip


def test_cells_are_short_and_prose_keeps_pace() -> None:
    lengths = sorted(len([line for line in cell.source.splitlines() if line.strip()]) for cell in CODE)
    assert lengths[-1] <= 25
    assert lengths[len(lengths) // 2] <= 10
    assert len(PROSE) >= 0.75 * len(CODE)


@pytest.mark.parametrize("cell", CODE, ids=lambda cell: cell.id)
def test_mechanisms_live_in_helpers(cell) -> None:
    tree = ast.parse(cell.source)
    kinds = {type(node).__name__ for node in ast.walk(tree)}
    assert not kinds & {"ClassDef", "FunctionDef", "AsyncFunctionDef", "While", "Try"}


@pytest.mark.parametrize("cell", CODE, ids=lambda cell: cell.id)
def test_nothing_made_to_be_shown_is_dropped(cell) -> None:
    """A notebook shows the value of a cell's last statement alone; another one's needs `display`."""
    *others, _ = ast.parse(cell.source).body
    for statement in others:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            called = ast.unparse(statement.value.func)
            assert not called.startswith(("show.", "Markdown")), f"{called}(...) is not shown"


def test_no_absolute_paths_and_no_typed_results() -> None:
    for cell in NOTEBOOK.cells:
        assert not re.search(r"(?<![\w:/.])/(?:home|root|content|tmp|usr|mnt)/", cell.source)
    for cell in PROSE:
        assert not re.search(r"(?:improved|rose|fell|from) (?:by|to|from) \d", cell.source), cell.source


def test_one_cell_takes_the_parameters_that_the_command_line_sets() -> None:
    tagged = [cell for cell in CODE if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    names = {node.id for node in ast.walk(ast.parse(tagged[0].source)) if isinstance(node, ast.Name)}
    assert names == {
        "PROFILE", "CORPUS", "CAUSAL_LM", "CHAT_LM", "EMBEDDER", "SEED", "OUT", "RUN_ID", "PUBLISH",
        "REPOSITORY", "REVISION", "NF4", "LANGUAGE", "BENCHMARKS", "SETTINGS", "DRIVE", "KEEP_ON_DRIVE", "RESUME",
    }  # fmt: skip


def test_decisions_and_plan_are_printed_before_anything_is_trained() -> None:
    whole = "\n".join(cell.source for cell in CODE)
    places = [whole.index(call) for call in ("show.decisions(", "show.memory_plan", "track_a.train()")]
    assert places == sorted(places)
