"""The kept runs with pretrained models are whole, and the page shows exactly their figures."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from helpers.report.metrics import validate

ROOT = Path(__file__).resolve().parents[1]
RUNS = sorted((ROOT / "exports" / "real").glob("*.json"))


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("real_tables", ROOT / "scripts" / "real_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_the_tables_of_the_kept_runs(script):
    page = (ROOT / "docs" / "real-models.md").read_text()
    if not RUNS:
        assert script.BEGIN not in page
        return
    assert f"{script.BEGIN}\n\n{script.tables()}\n\n{script.END}" in page, (
        "python scripts/real_tables.py --write"
    )


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.stem)
def test_a_kept_run_is_valid_and_names_no_place_of_a_machine(file):
    metrics = json.loads(file.read_text())
    validate(metrics)
    del metrics["failures"]  # they quote the corpus, which may name such places
    assert not re.search(r"/(home|root|tmp|work|Users)/", json.dumps(metrics))


def test_rows_say_what_the_file_says(script, tmp_path):
    metrics = json.loads((ROOT / "metrics.json").read_text())
    (tmp_path / "some.json").write_text(json.dumps(metrics))
    text = script.tables(tmp_path)
    entry = metrics["track_b"]["metrics"]["pass@1"]
    row = next(line for line in text.splitlines() if line.startswith("| pass@1 |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert int(cells[1]) == entry["after"]["n"]
    assert float(cells[2]) == pytest.approx(entry["before"]["value"], abs=5e-4)
    assert float(cells[3]) == pytest.approx(entry["after"]["value"], abs=5e-4)
    assert metrics["completion"]["answer"] in text
    assert all(f"\n| {arm} |" in text for arm in metrics["completion"]["arms"])


def test_without_runs_the_page_stays_as_it_is(script, tmp_path):
    with pytest.raises(SystemExit, match=r"no metrics\.json"):
        script.tables(tmp_path)
