"""Comparing runs: one row per run and track, and a note where runs are not comparable."""

import copy
import json
from pathlib import Path

import pytest

from helpers.report.compare import CompareError, comparison

ROOT = Path(__file__).parents[1]


@pytest.fixture
def files(tmp_path):
    """The committed metrics and a copy with another value, seed and Track B not run."""
    one = json.loads((ROOT / "metrics.json").read_text())
    other = copy.deepcopy(one)
    other["run"] |= {"run_id": "other", "seed": one["run"]["seed"] + 1}
    other["track_a"]["metrics"]["bits_per_byte"]["after"]["value"] = 0.4567
    other["track_b"] |= {"verdict": "not_run", "reason": "too few functions", "metrics": {}}
    for name, metrics in (("one", one), ("other", other)):
        (tmp_path / f"{name}.json").write_text(json.dumps(metrics))
    return tmp_path


def test_every_run_has_a_row_in_every_track(files):
    page = comparison([f"old={files / 'one.json'}", f"new={files / 'other.json'}"])
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")][2:]
    assert [row[1] for row in rows] == ["old", "new"] * 3
    assert rows[1][4] == "0.457"
    assert "not run: too few functions" in rows[3][-1]


def test_runs_that_are_not_comparable_are_marked(files):
    same = comparison([f"a={files / 'one.json'}", f"b={files / 'one.json'}"])
    assert "Not comparable" not in same
    page = comparison([str(files / "one.json"), str(files / "other.json")])
    assert page.count("Not comparable") == 1
    assert "the seed differs" in page


def test_each_run_names_models_and_changed_settings_but_no_absolute_paths(files):
    other = json.loads((files / "other.json").read_text())
    other["track_a"]["model"] = str(files / "my_model")
    other["track_b"]["model"] = f"gguf:{files / 'mine.gguf'}"
    other["run"]["settings_changed"] = ["track_c.seeds=1"]
    (files / "other.json").write_text(json.dumps(other))
    one, two = comparison([f"a={files / 'one.json'}", f"b={files / 'other.json'}"]).splitlines()[-2:]
    assert "helpers/models/tiny_code_lm" in one
    assert "with" not in one
    assert "models my_model, gguf:mine.gguf, " in two
    assert two.endswith(", with track_c.seeds=1")
    assert str(files) not in two


def test_a_path_may_hold_an_equals_sign(files, monkeypatch):
    folder = files / "lr=1e-4"
    folder.mkdir()
    (files / "one.json").rename(folder / "metrics=final.json")
    (folder / "other.json").write_text((files / "other.json").read_text())
    monkeypatch.chdir(files)
    run_id = json.loads((folder / "metrics=final.json").read_text())["run"]["run_id"]
    for given, name in (
        ("lr=1e-4/metrics=final.json", run_id),  # no name: the run's id
        ("before=lr=1e-4/metrics=final.json", "before"),
        ("lr=1e-4=lr=1e-4/metrics=final.json", "lr=1e-4"),  # a name may hold one as well
    ):
        page = comparison([given, "new=lr=1e-4/other.json"])
        assert f"| {name} |" in page
        assert "| new |" in page
    with pytest.raises(CompareError, match=r"lr=2/metrics\.json"):  # the path as given, not its last part
        comparison(["lr=2/metrics.json"])


def test_files_that_are_no_run_are_refused(files):
    (files / "torn.json").write_text("{")
    (files / "list.json").write_text("[]")
    for name in ("torn.json", "list.json", "missing.json"):
        with pytest.raises(CompareError, match=name):
            comparison([str(files / name)])
    with pytest.raises(CompareError, match="two runs are called x"):
        comparison([f"x={files / 'one.json'}", f"x={files / 'other.json'}"])
