"""The lab's notebook: prose and short cells in its source, and one whole run at smoke scale."""

import ast
import re
from pathlib import Path
from pydoc_data.topics import topics

import nbformat
import pytest

from helpers.fixed_budget.commands import LAB_NOTEBOOK, run_lab
from helpers.fixed_budget.experiment import open_experiment
from helpers.fixed_budget.recipes import RecipeError

SOURCE = nbformat.read(LAB_NOTEBOOK, as_version=4)
CODE = [cell for cell in SOURCE.cells if cell.cell_type == "code"]
PROSE = [cell for cell in SOURCE.cells if cell.cell_type == "markdown"]


def test_committed_without_outputs_and_in_order() -> None:
    nbformat.validate(SOURCE)
    assert all(not cell.outputs and cell.execution_count is None for cell in CODE)
    headings = [line[3:] for cell in PROSE for line in cell.source.splitlines() if line.startswith("## ")]
    assert headings == [
        "Setup", "The rules", "The data", "The frozen metric and its flaw", "Tokenizers",
        "Baseline", "Improved recipe", "Ladder", "Report",
    ]  # fmt: skip


def test_cells_are_short_and_mechanisms_live_in_helpers() -> None:
    lengths = sorted(len([line for line in cell.source.splitlines() if line.strip()]) for cell in CODE)
    assert lengths[-1] <= 25
    assert lengths[len(lengths) // 2] <= 10
    assert len(PROSE) >= 0.75 * len(CODE)
    for cell in CODE:
        kinds = {type(node).__name__ for node in ast.walk(ast.parse(cell.source))}
        assert not kinds & {"ClassDef", "FunctionDef", "AsyncFunctionDef", "While", "Try"}
    for cell in SOURCE.cells:
        assert not re.search(r"(?<![\w:/.])/(?:home|root|content|tmp|usr|mnt)/", cell.source)


@pytest.mark.parametrize(("scale", "seeds"), [("huge", "1337"), ("smoke", "1338"), ("smoke", "a,b")])
def test_choices_that_cannot_be_honoured_are_refused(tmp_path, scale, seeds) -> None:
    with pytest.raises(RecipeError):
        open_experiment(f"file:{titles(tmp_path)}", scale, seeds=seeds, out=tmp_path)


def titles(folder: Path) -> Path:
    """Write lines of prose that ship with Python, about as long as headlines, to a file."""
    lines = map(str.strip, (topics["specialnames"] + topics["compound"]).splitlines())
    path = folder / "titles.txt"
    path.write_text("\n".join(line for line in lines if 40 <= len(line) <= 120), encoding="utf-8")
    return path


@pytest.mark.notebook
def test_the_notebook_runs_whole_and_is_published(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run_lab(
        data=f"file:{titles(tmp_path)}", scale="smoke", seeds="1337", ladder=False, out=tmp_path, resume=False
    )
    names = {path.name for path in (tmp_path / "exports").iterdir()}
    assert names == {
        "Fixed_Budget_Pretraining.smoke.html", "fixed_budget_report.smoke.html", "fixed_budget_report.smoke.pdf",
        "fixed_budget_report.smoke.json",
    }  # fmt: skip
    page = (tmp_path / "exports" / "Fixed_Budget_Pretraining.smoke.html").read_text()
    assert "<code>smoke</code> scale" in page
    assert "refused by the rule “7 epochs”" in page
